"""A graph small enough to check by eye."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from pathlib import Path

from kgr1.graph.api import GraphInfo
from kgr1.types import ErrorCode, Observation, Query


class DictGraph:
    """The retrieval operations over a set of triples, written as plainly as possible."""

    def __init__(self, triples: Iterable[tuple[str, str, str]]) -> None:
        self.triples = sorted(set(triples))
        self.entities = {node for head, _, tail in self.triples for node in (head, tail)}
        self.links: dict[tuple[bool, str], dict[str, set[str]]] = {}
        for head, relation, tail in self.triples:
            self.links.setdefault((True, head), {}).setdefault(relation, set()).add(tail)
            self.links.setdefault((False, tail), {}).setdefault(relation, set()).add(head)

    def execute(self, queries: Sequence[Query]) -> list[Observation]:
        return [self._one(query) for query in queries]

    def _one(self, query: Query) -> Observation:
        if query.entity not in self.entities:
            return Observation(query=query, error=ErrorCode.ENTITY_NOT_FOUND)
        found = self.links.get((query.operation.outgoing, query.entity), {})
        names = sorted(found.get(query.relation or "", ()) if query.operation.takes_relation else found)
        if not names:
            return Observation(query=query, error=ErrorCode.NO_RESULTS)
        return Observation(query=query, names=tuple(names), ids=tuple(names), total=len(names))

    def info(self) -> GraphInfo:
        relations = {relation for _, relation, _ in self.triples}
        return GraphInfo(name="dict", triples=len(self.triples), entities=len(self.entities), relations=len(relations))

    def close(self) -> None:
        pass


def load_triples(path: Path) -> list[tuple[str, str, str]]:
    """Triples of a packed ``head TAB relation TAB tail`` file."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        rows = [line.rstrip("\n").split("\t") for line in stream]
    return [(head, relation, tail) for head, relation, tail in rows]


FAMILY = [
    ("Ada", "spouse", "William"),
    ("Ada", "parent", "George"),
    ("Ada", "parent", "Anne"),
    ("William", "nationality", "England"),
    ("George", "nationality", "England"),
    ("Anne", "nationality", "Scotland"),
    ("Ada", "wrote", "Notes"),
    ("Luigi", "wrote", "Sketch"),
    ("Notes", "about", "Engine"),
    ("Sketch", "about", "Engine"),
    ("Charles", "built", "Engine"),
    ("George", "wrote", "Childe Harold"),
]
