"""One list of answers from several: the votes of every name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kgr1.rewards.answer import normalise

Ballot = tuple[Sequence[str], Sequence[str | None]]
"""The answers of one run in its order, and their ids (parallel, or empty)."""


class Candidate(NamedTuple):
    """One name with its votes. ``best`` is its best (place, run), ``first`` its earliest (run, place)."""

    form: str
    name: str
    id: str | None
    votes: int
    best: tuple[int, int]
    first: tuple[int, int]


def count_votes(ballots: Sequence[Ballot]) -> list[Candidate]:
    """Every distinct name with the number of runs that listed it: most votes first, then best place, then run.

    Names are one if their normal forms are; the name, and the id, are those at the best place.

    >>> [(c.name, c.votes) for c in count_votes([(["Rome", "Paris"], []), (["paris"], [])])]
    [('paris', 2), ('Rome', 1)]
    """
    votes: dict[str, int] = {}
    first: dict[str, tuple[int, int]] = {}
    names: dict[str, tuple[int, int, str]] = {}  # best place, run, name
    ids: dict[str, tuple[int, int, str]] = {}  # best place, run, id; some runs may not know one
    for run, (answers, identifiers) in enumerate(ballots):
        seen = set()
        for place, name in enumerate(answers):
            form = normalise(name)
            if not form or form in seen:
                continue
            seen.add(form)
            votes[form] = votes.get(form, 0) + 1
            first.setdefault(form, (run, place))
            names[form] = min(names.get(form, (place, run, name)), (place, run, name))
            identifier = identifiers[place] if identifiers else None
            if identifier is not None:
                ids[form] = min(ids.get(form, (place, run, identifier)), (place, run, identifier))
    order = sorted(names, key=lambda form: (-votes[form], names[form][:2], form))
    return [Candidate(f, names[f][2], ids[f][2] if f in ids else None, votes[f], names[f][:2], first[f]) for f in order]
