"""Everything that the readers give for some sources, in forms that are easy to compare."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import zstandard

from kgr1.graph.readers import ReadOptions, read_batches
from kgr1.graph.temporal import OPEN_END, OPEN_START

COMPRESS = {
    "": bytes,
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}
UNDATED = (OPEN_END, OPEN_START)
FACT = ["head", "relation", "tail"]


@dataclass
class Everything:
    """All batches put together."""

    facts: list[tuple[Any, ...]] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)  # parallel to facts where there are dates
    graphs: list[str | None] = field(default_factory=list)  # parallel to facts where there are question graphs
    labels: dict[str, str] = field(default_factory=dict)
    aliases: set[tuple[str, str]] = field(default_factory=set)
    dropped: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    batches: int = 0


def read(*sources: Path | str, **options: Any) -> Everything:
    """What the readers give; checks the columns and types of every batch on the way."""
    found = Everything()
    for batch in read_batches(sources, ReadOptions(**options)):
        found.batches += 1
        assert batch.rows >= found.rows
        found.rows = batch.rows
        found.dropped.update(batch.dropped)
        assert all(count > 0 for count in batch.dropped.values())
        if batch.facts is not None:
            _take_facts(found, batch.facts)
        if batch.labels is not None:
            assert dict(batch.labels.schema) == {"id": pl.String, "label": pl.String, "alias": pl.Boolean}
            assert not sum(batch.labels.null_count().row(0))
            for identifier, label, alias in batch.labels.iter_rows():
                if alias:
                    found.aliases.add((identifier, label))
                else:
                    found.labels.setdefault(identifier, label)
    return found


def _take_facts(found: Everything, facts: pl.DataFrame) -> None:
    types = {"start": pl.Int32, "end": pl.Int32}
    assert facts.height
    assert facts.columns[:3] == FACT
    assert set(facts.columns[3:]) <= {"start", "end", "graph"}
    assert all(kind == types.get(column, pl.String) for column, kind in facts.schema.items())
    assert not sum(facts.select(*FACT, *(c for c in types if c in facts.columns)).null_count().row(0))
    found.facts += facts.select(FACT).rows()
    if "start" in facts.columns:
        found.spans += facts.select("start", "end").rows()
    if "graph" in facts.columns:
        found.graphs += facts["graph"].to_list()


def lines(rows: Sequence[Sequence[str]], separator: str = "\t") -> bytes:
    """Rows as lines of fields."""
    return "".join(separator.join(row) + "\n" for row in rows).encode()
