"""What a ranker of relations expects of the next query, to be weighed with what the policy makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from kgr1.types import FOUND, DirectedRelation, Question, Turn


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


@runtime_checkable
class Ranked(Protocol):
    """A policy that can have a ranker beside it."""

    ranker: Ranker | None


@dataclass(frozen=True)
class Prior:
    """The opinion of a ranker on one question, and how much it counts.

    ``weight`` is for choices about which the ranker knows everything. Elsewhere it counts as much less as it knows
    less, but for a share of ``floor``.
    """

    ranker: Ranker
    weight: float
    question: Question
    floor: float = 0.0

    def of(self, queries: Sequence[tuple[str, DirectedRelation] | None], turns: Sequence[Turn]) -> list[float | None]:
        """A weighed logit for each (entity, hop) that a query goes; None for queries of another kind."""
        before = walked(turns)
        # One for the whole choice: scores of two groups are comparable only as they are.
        familiarity = self.ranker.familiarity([query[1] for query in queries if query is not None])
        weight = self.weight * max(familiarity, self.floor)
        result: list[float | None] = [None] * len(queries)
        for here in (False, True):
            places = [place for place, query in enumerate(queries) if query is not None and (query[0] == FOUND) is here]
            hops = [query[1] for place in places if (query := queries[place]) is not None]
            if not hops:
                continue
            scores = self.ranker.scores(self.question.text, self.question.topics, before if here else (), hops)
            for place, score in zip(places, scores, strict=True):
                result[place] = weight * float(score)
        return result


def walked(turns: Sequence[Turn]) -> list[str]:
    """The relations that led from the last topic to what is found now."""
    result: list[str] = []
    for turn in turns:
        query = turn.query
        if query is None or not query.operation.returns_entities or not turn.shown_entities:
            continue
        if query.entity != FOUND:
            result = []
        result.append(query.relation or "")
    return result
