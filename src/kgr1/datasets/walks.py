"""Walks over a set of triples: the ground truth of questions that the program makes itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import repeat

import numpy as np

from kgr1.datasets.paths import AND, TIME, Hop, Path
from kgr1.graph.temporal import UNDATED, Span, parse_filter

SPLITS = (("train", 60), ("dev", 10), ("test", 30))
"""Split names with their shares in percent."""


class TripleIndex:
    """Triples by node, in both directions, with a fixed order everywhere.

    Needs memory for all triples; it is meant for making questions, not for answering them.
    """

    def __init__(self, triples: Iterable[tuple[str, str, str]], spans: Iterable[Span] | None = None) -> None:
        """``spans`` runs parallel to ``triples`` and holds the dates of each; a fact may come once for each date."""
        links: dict[str, dict[Hop, set[str]]] = {}
        self._dates: dict[tuple[str, Hop], list[tuple[Span, str]]] = {}
        undated = repeat(UNDATED) if spans is None else spans
        for (head, relation, tail), span in zip(triples, undated, strict=spans is not None):
            for node, hop, end in ((head, Hop(relation), tail), (tail, Hop(relation, backward=True), head)):
                links.setdefault(node, {}).setdefault(hop, set()).add(end)
                if span[0] <= span[1]:
                    self._dates.setdefault((node, hop), []).append((span, end))
        for facts in self._dates.values():
            facts.sort()
        self.nodes: list[str] = sorted(links)
        self._links: dict[str, dict[Hop, tuple[str, ...]]] = {
            node: {hop: tuple(sorted(links[node][hop])) for hop in sorted(links[node])} for node in self.nodes
        }

    def hops(self, node: str) -> list[Hop]:
        """The hops that lead anywhere from a node, sorted."""
        return list(self._links.get(node, ()))

    def take(self, node: str, hop: Hop) -> tuple[str, ...]:
        """Where a hop leads from one node, sorted; empty if it leads nowhere."""
        if hop.time is None:
            return self._links.get(node, {}).get(hop, ())
        wanted = parse_filter(hop.time)
        facts = self._dates.get((node, hop._replace(time=None)))
        if wanted is None or facts is None:
            return ()
        spans = np.array([span for span, _ in facts], np.int32)
        kept = wanted.mask(spans[:, 0], spans[:, 1])
        return tuple(sorted({end for (_, end), keep in zip(facts, kept, strict=True) if keep}))

    def spans(self, node: str, hop: Hop) -> list[Span]:
        """The dates of the facts that a hop follows from a node, sorted; without those that have none."""
        return [span for span, _ in self._dates.get((node, hop), ())]

    def follow(self, topic: str, path: Sequence[Hop]) -> list[tuple[str, ...]]:
        """The frontiers along a path: the topic first, then one sorted tuple for each hop."""
        frontiers: list[tuple[str, ...]] = [(topic,)]
        for hop in path:
            frontiers.append(self.follow_all(frontiers[-1], hop))
        return frontiers

    def follow_all(self, nodes: Iterable[str], hop: Hop) -> tuple[str, ...]:
        """Where a hop leads from any of some nodes, sorted."""
        return tuple(sorted({end for node in nodes for end in self.take(node, hop)}))


def expert_turns(frontiers: Sequence[Sequence[str]], *, sets: bool = False) -> int:
    """Turns of :func:`kgr1.datasets.expert.expert_steps` for one branch, without the answer.

    For each hop one listing of relations and one query for each entity of the frontier (an entity that was listed in
    vain is not queried, so further listings cost nothing extra); one for all of them with ``sets``.
    """
    return sum(1 + (1 if sets else len(frontier)) for frontier in frontiers[:-1])


def topic_split(topic: str, seed: int = 0) -> str:
    """Split of a topic: 60 % train, 10 % dev, 30 % test; depends on the name and the seed only."""
    digest = hashlib.sha256(f"{seed}\0{topic}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") % 100
    for name, share in SPLITS:
        if place < share:
            return name
        place -= share
    raise AssertionError("the shares of SPLITS add up to 100")


def encode(branches: Sequence[Path]) -> tuple[str, ...]:
    """The inverse of :func:`kgr1.datasets.paths.parse_path`."""
    parts: list[str] = []
    for number, branch in enumerate(branches):
        parts += [AND] if number else []
        for hop in branch:
            parts += [str(hop)] if hop.time is None else [str(hop), TIME + hop.time]
    return tuple(parts)
