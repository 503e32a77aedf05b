"""What a turn may say when only what was shown can be written and ``*`` stands for what was found.

The counterpart of :class:`kgr1.agent.grammar.TurnGrammar` for :mod:`kgr1.agent.found`. A turn is a thought of the
model's own and then

- a query for the relations of a topic, or of what was found, that were not listed yet;
- a query along a relation that was listed, from a topic or from what was found, that was not asked before (where
  results have pages, or facts dates, a query may come again: it can ask for another part); or
- the answer ``["*"]``, which lists what was found.

The last turn is an answer. Where a policy knows few sentences (:mod:`kgr1.agent.thoughts`), its thought is one of
them, weighed as a whole. Which query comes is weighed by the whole query (:meth:`SetGrammar.choices`), so that a
relation is not lost because its direction was chosen before it. A thought ends in time for its action, also that of a
model which was never taught to be brief. Where a page or a time may follow, it is written token
by token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kgr1.agent.found import changes, find, told
from kgr1.agent.grammar import ACTION_TOKENS, THINK, THINK_END, THOUGHT_CHARACTERS, call_end, literal, reserve, thinking
from kgr1.agent.prior import Prior, Step
from kgr1.config import AgentSettings
from kgr1.graph.render import neutralise
from kgr1.types import FOUND, STEP, DirectedRelation, Operation, Query, Turn

CHARACTERS = 3
"""Of one token of a thought, or more."""

_QUERY = "<kg-query>"
_QUERY_END = "</kg-query>"
_EVERYTHING = f'<answer>["{FOUND}"]</answer>'
_NO_ANSWER = "<answer>[]</answer>"


class SetGrammar:
    """What the next turn of an episode may be; satisfies :class:`kgr1.models.guide.Grammar`."""

    def __init__(
        self,
        topics: Sequence[str],
        turns: Sequence[Turn],
        agent: AgentSettings,
        prior: Prior | None = None,
        thoughts: Mapping[str, float] | None = None,
        expected: Sequence[float | None] | None = None,
    ) -> None:
        """``thoughts`` are all that can be said before the action; without any the model says what it likes.

        ``expected`` is what is expected of each of :attr:`steps`, where that is more than the prior makes of it.
        """
        self._prior, self._turns, self._thoughts, self._expected = prior, turns, thoughts or {}, expected
        self._last = len(turns) + 1 >= agent.max_turns
        self._found = find(topics, turns).names
        self._more = call_end(agent)
        self._reserve = reserve(agent)
        self._thought = min(THOUGHT_CHARACTERS, CHARACTERS * max(agent.max_new_tokens - ACTION_TOKENS, 8))
        entities = dict.fromkeys([*map(neutralise, topics), *([FOUND] if self._found else [])])
        listed, asked = _listed(turns)
        known = told(turns)
        self._steps: dict[str, Step] = {}
        if not self._last:
            self._steps = {_listing(entity): (entity, None) for entity in entities if entity not in listed}
            self._steps |= {
                query.to_text(): (entity, (way, relation))
                for entity in entities
                for way, relation in listed.get(entity, ())
                if entity != FOUND or relation not in known
                if (query := Query(operation=STEP[way], entity=entity, relation=relation)) not in asked or self._more
            }

    @property
    def queries(self) -> tuple[str, ...]:
        """All queries that can be written, as texts, without a page or a time."""
        return tuple(self._steps)

    @property
    def steps(self) -> list[Step]:
        """What each of the queries is about."""
        return list(self._steps.values())

    def lark(self) -> str:
        """The grammar of the whole turn."""
        # Said outright, so that no token across the end of the tag begins another thought than those to be chosen from.
        thought = " | ".join(map(literal, self._thoughts)) or f"/[^<]{{0,{self._thought}}}/"
        return f"start: {literal(THINK)} thought {literal(THINK_END + chr(10))} {self._action()}thought: {thought}\n"

    def _action(self) -> str:
        """The action behind a thought, to the end of the rule."""
        actions = []
        if self.queries:
            calls = " | ".join(literal(query.removesuffix(")")) for query in self.queries)
            actions.append(f"{literal(_QUERY)} ({calls}){self._more} {literal(')' + _QUERY_END)}")
        if self._found or not actions:
            actions.append(literal(_EVERYTHING if self._found else _NO_ANSWER))
        return f"({' | '.join(actions)})\n"

    def after(self, text: str, room: int) -> str | None:
        """The grammar of the rest where a free thought has to end, so that there is room for its action; else None."""
        if room > self._reserve or self._thoughts or not thinking(text):
            return None
        return f"start: {literal(text)} {literal(THINK_END + chr(10))} {self._action()}"

    def choices(self, text: str) -> list[str]:
        """All thoughts at the beginning, all queries where a turn comes to its query, each to its end; else none."""
        if text == THINK:
            return [f"{thought}{THINK_END}" for thought in self._thoughts]
        return [f"{query}{_QUERY_END}" for query in self.queries] if self._comes_to_query(text) else []

    def expected(self, text: str) -> list[float | None]:
        """What the prior makes of each of the queries, empty without one, and what is added to each of the thoughts."""
        if text == THINK:
            return list(self._thoughts.values())
        if not self._comes_to_query(text):
            return []
        if self._expected is not None:
            return list(self._expected)
        return [] if self._prior is None else self._prior.of(self.steps, self._turns)

    def _comes_to_query(self, text: str) -> bool:
        return text.endswith(_QUERY) and not self._more


def _listed(turns: Sequence[Turn]) -> tuple[dict[str, list[DirectedRelation]], set[Query]]:
    """The relations shown of each entity, with their direction, and the queries along them that were asked.

    Those of ``*`` hold until it stands for something else.
    """
    listed: dict[str, list[DirectedRelation]] = {}
    asked: set[Query] = set()
    for turn in turns:
        if turn.query is None:
            continue
        entity = neutralise(turn.query.entity)
        if turn.query.operation.returns_entities:
            asked.add(Query(operation=turn.query.operation, entity=entity, relation=_relation(turn.query)))
        else:
            listed[entity] = []
            shown = [] if turn.observation is None else [(turn.observation, turn.shown)]
            for found, count in (*shown, *((beside, len(beside.names)) for beside in turn.expanded)):
                if found.ok:
                    way = found.query.operation.outgoing
                    listed[entity] += [(way, neutralise(name)) for name in found.names[:count]]
        if changes(turn):
            listed.pop(FOUND, None)
            asked = {query for query in asked if query.entity != FOUND}
    return listed, asked


def _relation(query: Query) -> str | None:
    return None if query.relation is None else neutralise(query.relation)


def _listing(entity: str) -> str:
    return Query(operation=Operation.GET_TAIL_RELATIONS, entity=entity).to_text()
