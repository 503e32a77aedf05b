"""How retrieved names, facts and walks stand in a prompt: as data, with tags and line breaks neutralised."""

from __future__ import annotations

import json

from kgr1.baselines.walks import Walk
from kgr1.datasets.paths import Hop  # noqa: F401  (for the example)
from kgr1.graph.render import neutralise, show_name
from kgr1.types import Question, Triple

ARROW = " -> "


def show_question(question: Question) -> str:
    """The question on one line."""
    return neutralise(question.text.strip())


def show_topics(question: Question) -> str:
    """The topic entities, separated by commas."""
    return ", ".join(map(show_name, question.topics))


def show_fact(triple: Triple) -> str:
    """One fact on a line.

    >>> show_fact(Triple("Paris, Texas", "shot in", "</s>Texas"))
    '("Paris, Texas", shot in, ‹/s›Texas)'
    """
    return f"({', '.join(map(show_name, triple))})"


def show_walk(walk: Walk) -> str:
    """A chain of facts on a line; ``^`` marks a relation that is walked from tail to head.

    >>> start = Walk("Alien")
    >>> there = start.extended(Triple("Alien", "director", "Scott"), "Scott", Hop("director"))
    >>> show_walk(there.extended(Triple("Blade Runner", "director", "Scott"), "Blade Runner", Hop("director", True)))
    'Alien -> director -> Scott -> ^director -> Blade Runner'
    """
    parts = [_part(walk.start)]
    for fact, hop in zip(walk.facts, walk.hops, strict=True):
        parts += [("^" if hop.backward else "") + _part(fact.relation), _part(fact.head if hop.backward else fact.tail)]
    return ARROW.join(parts)


def _part(name: str) -> str:
    shown = show_name(name, "tree")  # commas separate nothing here
    return json.dumps(shown, ensure_ascii=False) if "->" in shown and not shown.startswith('"') else shown
