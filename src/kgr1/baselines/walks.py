"""Walks through a graph: chains of facts from a topic entity, grown one step at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from kgr1.baselines.play import Run
from kgr1.datasets.paths import Hop
from kgr1.types import Observation, Triple


@dataclass(frozen=True)
class Walk:
    """A chain of ``facts`` from ``start`` to ``end``; ``hops`` tells along which relation each was crossed."""

    start: str
    end: str = ""
    facts: tuple[Triple, ...] = ()
    hops: tuple[Hop, ...] = ()

    def __post_init__(self) -> None:
        if not self.facts:
            object.__setattr__(self, "end", self.start)

    def extended(self, fact: Triple, end: str, hop: Hop) -> Walk:
        """The walk with one fact more."""
        return Walk(self.start, end, (*self.facts, fact), (*self.hops, hop))


async def grow(run: Run, walks: Sequence[Walk], hops: Callable[[Walk], Iterable[Hop]], most: int) -> list[Walk]:
    """Every walk with one more fact along any of its ``hops``, in a fixed order and at most ``most`` of them."""
    wanted = [(walk, hop) for walk in walks for hop in hops(walk)]
    asked = dict.fromkeys((walk.end, hop) for walk, hop in wanted)
    queries = [hop.entities(end).model_copy(update={"limit": run.settings.fetched}) for end, hop in asked]
    answers: dict[tuple[str, Hop], Observation] = dict(zip(asked, await run.fetch(queries), strict=True))
    grown: list[Walk] = []
    for walk, hop in wanted:
        answer = answers[walk.end, hop]
        if answer.error is None:
            room = most - len(grown)
            pairs = zip(answer.names[:room], answer.triples(room), strict=True)
            grown += [walk.extended(fact, name, hop) for name, fact in pairs]
    return grown


async def relations_of(run: Run, entities: Iterable[str], *, backward: bool = True) -> dict[str, list[Hop]]:
    """The hops that lead away from each entity, sorted by relation; with ``backward`` from tail to head as well."""
    names = list(dict.fromkeys(entities))
    directions = (False, True) if backward else (False,)
    answers = iter(await run.fetch([Hop("", back).relations(name) for name in names for back in directions]))
    return {
        name: sorted(Hop(relation, back) for back in directions for relation in next(answers).names) for name in names
    }
