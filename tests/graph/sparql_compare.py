"""Random operations on a graph, and what a store answers to them: the measure for other backends."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from kgr1.graph.store import GraphStore
from kgr1.types import ErrorCode, Observation, Operation, Query

Row = tuple[str, str, str]


def read_rows(path: Path) -> list[Row]:
    """The triples of a gzipped TSV file."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = [tuple(line.rstrip("\n").split("\t")) for line in file]
    return [row for row in rows if len(row) == 3]


def read_names(path: Path) -> dict[str, str]:
    """Identifier -> name of a gzipped TSV file."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return dict(line.rstrip("\n").split("\t", 1) for line in file)


def random_queries(rows: Sequence[Row], store: GraphStore, count: int, seed: int = 0) -> Iterator[Query]:
    """Operations of all kinds: right ones, ones without a result, inexact spellings, unknown names, pages."""
    draw = random.Random(seed)
    relations = sorted({row[1] for row in rows})
    operations = list(Operation)
    for _ in range(count):
        head, relation, tail = draw.choice(rows)
        operation = draw.choice(operations)
        entity = head if operation.outgoing else tail
        if draw.random() < 0.2:
            entity = tail if operation.outgoing else head
        if draw.random() < 0.1:
            relation = draw.choice(relations)
        entity = _shown(store, entity, draw) if draw.random() < 0.5 else entity
        entity = _respelled(entity, draw)
        relation = _respelled(relation, draw)
        page = {"offset": draw.randrange(12), "limit": draw.randrange(1, 20)} if draw.random() < 0.2 else {}
        yield Query(operation=operation, entity=entity, relation=relation if operation.takes_relation else None, **page)


def expected(store: GraphStore, query: Query) -> Observation:
    """What a store answers, its page cut here."""
    whole = store.execute([query.model_copy(update={"offset": 0, "limit": None})])[0]
    answered = whole.query.model_copy(update={"offset": query.offset, "limit": query.limit})
    if whole.error is not None:
        return whole.model_copy(update={"query": query})
    if query.offset >= whole.total:
        return Observation(query=query, error=ErrorCode.NO_RESULTS, message="There")
    end = None if query.limit is None else query.offset + query.limit
    part = slice(query.offset, end)
    return whole.model_copy(update={"query": answered, "names": whole.names[part], "ids": whole.ids[part]})


def difference(found: Observation, wanted: Observation) -> str:
    """What differs: nothing, the message alone, or the name of the first field that does."""
    for field in ("error", "total", "names", "ids", "query"):
        if getattr(found, field) != getattr(wanted, field):
            return field
    if wanted.message == "There":
        return "" if found.message.startswith("There") else "message"
    return "" if found.message == wanted.message else "message"


def _shown(store: GraphStore, identifier: str, draw: random.Random) -> str:
    """A display name or a label of an entity."""
    symbols = store.entities.find(identifier)
    return store.entities.name(symbols[0]) if draw.random() < 0.5 else store.entities.label(symbols[0])


def _respelled(name: str, draw: random.Random) -> str:
    chance = draw.random()
    if chance < 0.8:
        return name
    if chance < 0.9:
        return draw.choice([name.lower(), name.upper(), name.replace(" ", "_"), f"  {name} ", f'"{name}"'])
    place = draw.randrange(len(name))
    return name[:place] + draw.choice("xqé") + name[place + 1 :]
