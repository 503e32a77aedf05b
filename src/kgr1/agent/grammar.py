"""What a turn may say when only what was shown can be written: a grammar for constrained decoding.

A small model fails on spelling: it shortens a relation, joins two names to one, or asks the same query until its turns
are used up. With ``agent.guided`` a turn is a thought of the model's own and then

- a query about a topic or a shown entity, along a relation that was listed, that was not asked before (where results
  have pages, or facts dates, a query may come again: it can ask for another part); or
- an answer that lists shown entities, each of them once. A node without a name is no answer, unless the topics of the
  question have none either, or nothing else was shown up to the last turn. A topic that was asked about is none where
  the last result has other names: who asks for "other films of the director of Alien" does not mean Alien.

The last turn is an answer. Which relation a query follows is weighed by whole names (:meth:`TurnGrammar.choices`):
token by token, many names that begin alike would win over the one that fits. The choice is the model's; nothing here
knows what is right. The grammar is written in the form of Lark that llguidance reads, which computes from it which
tokens may come next.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from kgr1.agent.found import asked_about
from kgr1.agent.observe import is_nameless
from kgr1.config import AgentSettings
from kgr1.graph.names import is_identifier
from kgr1.graph.render import neutralise
from kgr1.types import Operation, Query, Turn, quote

THOUGHT_CHARACTERS = 400
"""Longest thought; longer ones are loops."""

ACTION_TOKENS = 48
"""Room that a thought leaves for the choices of the action behind it."""

NAME_TOKENS = 32
"""Room that another name of an answer must have; longer names are rare."""

_CONTROL = re.compile("[\x7f-\x9f\u2028\u2029]")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
THINK = "<think>"
THINK_END = "</think>"
_QUERY = "<kg-query>"
_ANSWER = "<answer>["
_END = "]</answer>"
_DATE = r"[0-9]{4}(-[0-9][0-9](-[0-9][0-9])?)?"
_TIME = rf"((before |after )?{_DATE}|{_DATE}\/{_DATE})"
_PAGE = r"[1-9][0-9]{0,3}"
_STEPS = (Operation.GET_TAIL_ENTITIES, Operation.GET_HEAD_ENTITIES)


class TurnGrammar:
    """What the next turn of an episode may be."""

    def __init__(self, topics: Sequence[str], turns: Sequence[Turn], agent: AgentSettings) -> None:
        shown = (zip(turn.shown_entities, turn.shown_entity_ids, strict=True) for turn in turns)
        seen = {neutralise(name): is_nameless(name, identifier) for pair in shown for name, identifier in pair}
        self._entities = list(dict.fromkeys((*map(neutralise, topics), *seen)))
        self._last = len(turns) + 1 >= agent.max_turns
        named = [name for name, nameless in seen.items() if not nameless]
        unnamed = any(map(is_identifier, topics)) or (self._last and not named)
        self._answers = _without_asked(list(seen) if unnamed else named, topics, turns)
        self._more = call_end(agent)
        self._reserve = reserve(agent)
        self._asked = set() if self._more else {_key(turn.query) for turn in turns if turn.query is not None}
        self._listed: dict[bool, dict[str, list[str]]] = {True: {}, False: {}}
        for turn in turns:
            found = turn.observation
            if found is not None and found.ok and not found.query.operation.returns_entities:
                lists = self._listed[found.query.operation.outgoing].setdefault(neutralise(found.query.entity), [])
                lists.extend(neutralise(name) for name in found.names[: turn.shown])

    def lark(self) -> str:
        """The grammar of the whole turn."""
        thought = f"THOUGHT: /[^<]{{0,{THOUGHT_CHARACTERS}}}/\n"
        return f"start: {literal(THINK)} THOUGHT {literal(THINK_END + chr(10))} {self._action()}{thought}"

    def _action(self) -> str:
        """The action behind a thought, and the rules that it is made of."""
        queries = [] if self._last else [*self._listings(), *self._steps()]
        actions = [f"{literal(_QUERY)} ({' | '.join(queries)}) {literal(')</kg-query>')}"] if queries else []
        if self._answers or not queries:
            actions.append(f"{literal(_ANSWER)} answer")
        return f"({' | '.join(actions)})\nanswer: {self._list(self._answers, first=True)}\n"

    def after(self, text: str, room: int) -> str | None:
        """The grammar of the same turn once it has begun with ``text``, where that allows less; else None.

        It does once a name of the answer is complete, which cannot be listed again. With a ``room`` of few tokens the
        thought or the list ends there: what is cut off would be no action.
        """
        if room <= self._reserve and thinking(text):
            return f"start: {literal(text)} {literal(THINK_END + chr(10))} {self._action()}"
        start = text.find(_ANSWER)
        if start < 0:
            return None
        listed = list(_STRING.finditer(text, start + len(_ANSWER)))
        end = listed[-1].end() if listed else start + len(_ANSWER)
        names = {found[0] for found in listed}
        left = [name for name in self._answers if _json(name) not in names]
        if room >= NAME_TOKENS:
            return f"start: {literal(text[:end])} ({self._list(left, first=not listed)})\n" if listed else None
        # A name that has begun is written to its end; a comma is one token with the quotation mark before it.
        begun = left and (not listed or len(text) > end)
        last = f"{literal(', ' if listed else '')} {_items(left)}" if begun else ""
        return f"start: {literal(text[:end])} {last} {literal(_END)}\n"

    def choices(self, text: str) -> list[str]:
        """What can come next where the turn so far, ``text``, comes to the relation of a query: all names to its end.

        Empty anywhere else, and where a query may go on behind its relation.
        """
        if self._last or self._more or not text.endswith('"'):
            return []
        for operation in _STEPS:
            for entity in self._entities:
                if text.endswith(f'{_QUERY}{operation.value}({quote(entity)}, "'):
                    return [f"{quote(name)[1:]})" for name in self._relations(operation, entity)]
        return []

    def expected(self, text: str) -> list[float | None]:
        """Nothing but what the model thinks."""
        return []

    def _list(self, names: Sequence[str], *, first: bool) -> str:
        """The rest of a list of names, with its end."""
        if not names:
            return literal(_END)
        # No more items than there are names: behind the last one a comma would have to be followed by something.
        most = len(names) - first
        more = f"({literal(', ')} {_items(names)}){{0,{most}}} " if most else ""
        return f"{_items(names) if first else ''} {more}{literal(_END)}"

    def _listings(self) -> Iterable[str]:
        """Queries for the relations of an entity."""
        for operation in (Operation.GET_TAIL_RELATIONS, Operation.GET_HEAD_RELATIONS):
            names = [name for name in self._entities if (operation, name, None) not in self._asked]
            if names:
                yield f"{literal(operation.value + '(')} {_arguments(names)}{self._more}"

    def _steps(self) -> Iterable[str]:
        """Queries along a relation: of those listed for the entity, or for any other one if it has no list."""
        for operation in _STEPS:
            groups: dict[tuple[str, ...], list[str]] = {}
            for entity in self._entities:
                groups.setdefault(tuple(self._relations(operation, entity)), []).append(entity)
            for relations, entities in groups.items():
                if relations:
                    call = f"{literal(operation.value + '(')} {_arguments(entities)} {literal(', ')}"
                    yield f"{call} {_arguments(relations)}{self._more}"

    def _relations(self, operation: Operation, entity: str) -> list[str]:
        """Those that a query about an entity can follow."""
        lists = self._listed[operation.outgoing]
        listed = lists[entity] if entity in lists else [name for found in lists.values() for name in found]
        return [name for name in dict.fromkeys(listed) if (operation, entity, name) not in self._asked]


def _without_asked(names: list[str], topics: Sequence[str], turns: Sequence[Turn]) -> list[str]:
    """``names`` without the topics that queries were about, unless the last result is made of these alone."""
    about = asked_about(turns) & set(map(neutralise, topics))
    results = [turn.shown_entities for turn in turns if turn.shown_entities]
    if not results or about.issuperset(map(neutralise, results[-1])):
        return names
    return [name for name in names if name not in about]


def reserve(agent: AgentSettings) -> int:
    """With how many tokens left a thought has to end; no thought takes more than half of a short turn."""
    return min(ACTION_TOKENS, agent.max_new_tokens // 2)


def thinking(text: str) -> bool:
    """True within the thought of a turn, before its closing tag has begun."""
    return text.startswith(THINK) and "<" not in text[len(THINK) :]


def call_end(agent: AgentSettings) -> str:
    """What may stand at the end of a call, before its bracket: a time, a page; empty for neither."""
    time = f" ({literal(', ' + chr(34))} /{_TIME}/ {literal(chr(34))})?" if agent.time_filter else ""
    page = f" ({literal(', page=')} /{_PAGE}/)?" if agent.page_size else ""
    return time + page


def _key(query: Query) -> tuple[Operation, str, str | None]:
    relation = None if query.relation is None else neutralise(query.relation)
    return query.operation, neutralise(query.entity), relation


def _arguments(names: Iterable[str]) -> str:
    """One of some names as the argument of a query."""
    return _one_of(map(quote, names))


def _items(names: Iterable[str]) -> str:
    """One of some names as an item of an answer."""
    return _one_of(map(_json, names))


def _one_of(texts: Iterable[str]) -> str:
    return f"({' | '.join(map(literal, texts))})"


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def literal(text: str) -> str:
    """A text as it stands in a grammar: as in JSON, with the control characters that JSON leaves as they are."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", _json(text))
