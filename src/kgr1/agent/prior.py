"""What is expected of the next query by others than the policy, to be weighed with what it makes of it itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from kgr1.agent.connection import Connection
from kgr1.agent.found import asked_about, done, find, shown_in
from kgr1.graph.render import neutralise
from kgr1.types import FOUND, DirectedRelation, Outcome, Question, Turn

MOST_ASKED = 50
"""Relations of whose meaning the model is asked: about as many as a list of them shows."""


MOST_VERIFIED = 8
"""Relations, the likeliest first, that are followed for a verifier."""

Step = tuple[str, DirectedRelation | None]
"""The entity that a query is about, and the relation that it follows; None for a listing."""


class Ranker(Protocol):
    """Says how well relations fit a question."""

    def scores(
        self, question: str, topics: Sequence[str], before: Sequence[str], relations: Sequence[DirectedRelation]
    ) -> Sequence[float]:
        """Logits of a choice among ``relations``.

        ``before`` are the relations that led from a topic to where these start; empty at a topic.
        """
        ...

    def familiarity(self, relations: Sequence[DirectedRelation]) -> float:
        """How much it knows about a choice among ``relations``, from 0 to 1."""
        ...


class Meaning(Protocol):
    """Says how well relations fit a question by what their names mean."""

    def scores(
        self, question: str, before: Sequence[DirectedRelation], relations: Sequence[DirectedRelation]
    ) -> Sequence[float]:
        """Logits of a choice among ``relations``; ``before`` as in :class:`Ranker`, with directions."""
        ...

    def onward(self, question: str, before: Sequence[DirectedRelation], relations: Sequence[DirectedRelation]) -> float:
        """The logit of a question asking for more than ``before``, where it could go on by one of ``relations``."""
        ...


class Verdict(NamedTuple):
    """Two logits: of a path being right so far, and of a right path going on."""

    right: float
    onward: float


class Verifier(Protocol):
    """Says whether what paths lead to is what a question asks for."""

    def verdicts(
        self, question: str, branches: Sequence[Sequence[DirectedRelation]], outcomes: Sequence[Outcome]
    ) -> Sequence[Verdict]:
        """One for each of ``outcomes``, of hops at the end of the last of ``branches``, the ways from each topic."""
        ...


@runtime_checkable
class Ranked(Protocol):
    """A policy that can have a ranker beside it, and whose model can be asked for the meaning of relations."""

    ranker: Ranker | None
    meaning: Meaning
    verifier: Verifier | None


@dataclass(frozen=True)
class Prior:
    """The opinions on one question, of a ranker and by the meaning of names, and how much they count.

    ``weight`` is for choices about which the ranker knows everything. Elsewhere it counts as much less as it knows
    less, but for a share of ``floor``. ``meaning_weight`` and ``ahead_weight`` are for those of which it knows nothing;
    where it knows half of a choice or more, policy and ranker do better without (``docs/results.md``).
    """

    ranker: Ranker | None
    weight: float
    question: Question
    floor: float = 0.0
    meaning: Meaning | None = None
    meaning_weight: float = 0.0
    ahead_weight: float = 0.0
    connection: Connection | None = None
    connection_weight: float = 0.0
    verifier: Verifier | None = None
    verifier_weight: float = 0.0
    verifier_onward: float = 0.0

    def of(self, queries: Sequence[Step], turns: Sequence[Turn]) -> list[float | None]:
        """A weighed logit for each (entity, hop) that a query goes; None for queries of another kind.

        Listings, which have no hop, get one where there is nothing else to choose from: that of the likeliest hop.
        """
        if all(hop is None for _, hop in queries):
            return self._first([entity for entity, _ in queries], turns)
        return self._of([None if hop is None else (entity, hop) for entity, hop in queries], turns)

    def _first(self, entities: Sequence[str], turns: Sequence[Turn]) -> list[float | None]:
        """The weighed logit of the likeliest hop of each of the topics to be asked about, if all were looked at."""
        facts = {} if self.connection is None else self.connection.facts
        if not entities or not all(facts.get(entity) for entity in entities):
            return [None] * len(entities)
        hops = [(entity, hop) for entity in entities for hop in facts[entity]]
        best: dict[str, float] = {}
        for (entity, _), score in zip(hops, self._of(hops, turns), strict=True):
            best[entity] = max(best.get(entity, -math.inf), score or 0.0)
        return [best[entity] for entity in entities]

    def _of(self, queries: Sequence[tuple[str, DirectedRelation] | None], turns: Sequence[Turn]) -> list[float | None]:
        before = walked(turns)
        # One for the whole choice: scores of two groups are comparable only as they are.
        hops = [query[1] for query in queries if query is not None]
        familiarity = self._familiarity(hops)
        connected = self._connected(queries, turns)
        result: list[float | None] = [None] * len(queries)
        for here in (False, True):
            places = [place for place, query in enumerate(queries) if query is not None and (query[0] == FOUND) is here]
            hops = [query[1] for place in places if (query := queries[place]) is not None]
            if hops:
                for place, score in zip(places, self._scores(before if here else (), hops, familiarity), strict=True):
                    result[place] = score + connected[place]
        return result

    def _connected(self, queries: Sequence[tuple[str, DirectedRelation] | None], turns: Sequence[Turn]) -> list[float]:
        """What connections with other topics, and times, count for each query."""
        if self.connection is None or not self.connection.facts:
            return [0.0] * len(queries)
        found, behind = find(self.question.topics, turns).names, done(self.connection.facts, turns)
        weight = self.connection.weight
        return [0.0 if query is None else self.connection_weight * weight(*query, found, behind) for query in queries]

    @property
    def verifies(self) -> bool:
        """Whether there is a verifier to be asked."""
        return self.verifier is not None and self.verifier_weight > 0

    def verified(
        self,
        queries: Sequence[Step],
        expected: Sequence[float | None],
        outcomes: Mapping[tuple[str, DirectedRelation], Outcome],
        turns: Sequence[Turn],
    ) -> list[float | None]:
        """``expected`` and what a verifier makes of the ``outcomes`` of some of the queries.

        What it was not asked about is to it as bad as the worst of them.
        """
        ways = branches(turns)
        more: dict[tuple[str, DirectedRelation], float] = {}
        for here in (False, True):
            steps = [step for step in outcomes if (step[0] == FOUND) is here]
            found = self._verdicts(ways if here else [*ways, []], [outcomes[step] for step in steps])
            more |= {step: self.verifier_weight * verdict.right for step, verdict in zip(steps, found, strict=True)}
        rest = min(more.values(), default=0.0)
        return [
            None if score is None else score + (0.0 if hop is None else more.get((entity, hop), rest))
            for (entity, hop), score in zip(queries, expected, strict=True)
        ]

    def goes_on(self, found: Sequence[str], turns: Sequence[Turn]) -> float:
        """A weighed logit of a verifier for going on from what was ``found`` after ``turns``.

        It counts as much as what relations mean does not: where the ranker knows half of the last list or more.
        """
        ways = branches(turns)
        weight = self.verifier_onward * (1.0 - _novelty(self._familiarity(listed(turns))))
        if not ways or not weight:
            return 0.0
        *before, (*way, last) = ways
        *earlier, _ = (turn for turn in turns if turn.shown_entities)
        met = asked_about(turns) | (shown_in(earlier) if way else set())
        outcome = Outcome(last, tuple(sorted(found)), len(found), met.issuperset(map(neutralise, found)))
        return sum(weight * verdict.onward for verdict in self._verdicts([*before, way], [outcome]))

    def _verdicts(self, ways: Sequence[Sequence[DirectedRelation]], outcomes: Sequence[Outcome]) -> Sequence[Verdict]:
        if self.verifier is None or not outcomes:
            return []
        return self.verifier.verdicts(self.question.text, ways, outcomes)

    def looks_ahead(self, turns: Sequence[Turn]) -> bool:
        """Whether :meth:`onward` is worth asking for: the last list of relations had enough that were new.

        What leads on has to be asked of the graph first, which a graph that the ranker knows is spared.
        """
        return self.meaning is not None and self.ahead_weight * _novelty(self._familiarity(listed(turns))) > 0

    def onward(self, hops: Sequence[DirectedRelation], turns: Sequence[Turn]) -> float:
        """A weighed logit for going on from what was found, which has the relations ``hops``.

        The way back is none of them: what led to what was found says little about what it is asked for.
        """
        weight = self.ahead_weight * _novelty(self._familiarity(hops))
        if self.meaning is None or not weight:
            return 0.0
        before = walked(turns)
        ways = [hop for hop in hops if not before or hop != (not before[-1][0], before[-1][1])]
        return weight * self.meaning.onward(self.question.text, before, ways)

    def _familiarity(self, hops: Sequence[DirectedRelation]) -> float:
        return 0.0 if self.ranker is None else self.ranker.familiarity(hops)

    def _scores(
        self, before: Sequence[DirectedRelation], hops: Sequence[DirectedRelation], familiarity: float
    ) -> list[float]:
        scores = [0.0] * len(hops)
        if self.ranker is not None and self.weight:
            weight = self.weight * max(familiarity, self.floor)
            names = [name for _, name in before]
            ranked = self.ranker.scores(self.question.text, self.question.topics, names, hops)
            scores = [weight * float(score) for score in ranked]
        if self.meaning is not None and (weight := self.meaning_weight * _novelty(familiarity)):
            # The ranker's favourites; without one the first of a list, which is in the order of likeness.
            asked = sorted(range(len(hops)), key=scores.__getitem__, reverse=True)[:MOST_ASKED]
            meant = self.meaning.scores(self.question.text, before, [hops[place] for place in asked])
            more = dict(zip(asked, map(float, meant), strict=True))
            rest = min(more.values())
            scores = [score + weight * more.get(place, rest) for place, score in enumerate(scores)]
        return scores


def _novelty(familiarity: float) -> float:
    """What the meaning of names counts: 1 where the ranker knows nothing of a choice, 0 where it knows half or more."""
    return max(0.0, 1.0 - 2.0 * familiarity)


def listed(turns: Sequence[Turn]) -> list[DirectedRelation]:
    """The relations of the last list that was shown."""
    for turn in reversed(turns):
        found = turn.observation
        if found is not None and found.ok and not found.query.operation.returns_entities:
            shown = found.model_copy(update={"names": found.names[: turn.shown]})
            return [(one.query.operation.outgoing, name) for one in (shown, *turn.expanded) for name in one.names]
    return []


def likeliest(queries: Sequence[Step], expected: Sequence[float | None]) -> list[tuple[str, DirectedRelation]]:
    """The queries along a relation that a verifier is to be asked about, those of which most is ``expected``."""
    steps = [
        (score, entity, hop)
        for (entity, hop), score in zip(queries, expected, strict=True)
        if hop is not None and score is not None
    ]
    return [(entity, hop) for _, entity, hop in sorted(steps, key=lambda step: -step[0])[:MOST_VERIFIED]]


def walked(turns: Sequence[Turn]) -> list[DirectedRelation]:
    """The hops that led from the last topic to what is found now."""
    return next(reversed(branches(turns)), [])


def branches(turns: Sequence[Turn]) -> list[list[DirectedRelation]]:
    """The hops that led somewhere, from each topic that was asked about."""
    result: list[list[DirectedRelation]] = []
    for turn in turns:
        query = turn.query
        if query is None or not query.operation.returns_entities or not turn.shown_entities:
            continue
        if query.entity != FOUND or not result:
            result.append([])
        result[-1].append((query.operation.outgoing, query.relation or ""))
    return result
