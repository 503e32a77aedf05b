"""Build a graph store from files of triples."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
from pydantic import Field

from kgr1.errors import GraphError
from kgr1.graph.encode import TripleEncoder
from kgr1.graph.files import check_target, write_store
from kgr1.graph.readers import ReadOptions, read_batches, read_names
from kgr1.graph.store import make_header
from kgr1.types import Record


class BuildReport(Record):
    """What a build read and wrote."""

    triples: int
    duplicates: int  # rows that repeated a triple
    entities: int
    relations: int
    ambiguous_names: int  # labels that stand for more than one entity
    repeated_names: int  # rows of the names file whose identifier already had another label; the first one counts
    unused_names: int  # rows of the names file whose identifier is not in the graph
    seconds: float
    bytes: int
    max_degree: int  # most triples at one entity
    dropped: dict[str, int] = Field(default_factory=dict)  # what the readers left out, by reason


def build_graph(
    sources: Sequence[Path | str],
    out: Path,
    *,
    names: Path | None = None,
    name: str | None = None,
    options: ReadOptions | None = None,
    on_progress: Callable[[int], None] | None = None,
    force: bool = False,
) -> BuildReport:
    """Build the store ``out`` from files in any of the formats of :mod:`kgr1.graph.readers`, whole or not at all.

    ``sources`` are files, folders, globs or ``-`` for standard input. ``names`` maps identifiers to labels, two columns
    of TSV or CSV. ``name`` is the graph's own name (that of ``out`` if None). ``on_progress`` is called with the number
    of rows read so far. An existing store is replaced in one step with ``force`` and refused without.

    Raises :class:`GraphFormatError` for a malformed line and :class:`GraphError` for anything else that stops it.
    """
    started = time.perf_counter()
    if not sources:
        raise GraphError("Name at least one file of triples to build a graph from.")
    out = Path(out).absolute()
    check_target(out, force=force)
    encoder = TripleEncoder()
    found: list[pl.DataFrame] = []
    dropped: Counter[str] = Counter()
    for batch in read_batches(sources, options):
        if batch.facts is not None:
            encoder.add(batch.facts.select("head", "relation", "tail").rows())
        if batch.labels is not None:
            found.append(batch.labels.filter(~pl.col("alias")))
        dropped.update(batch.dropped)
        if on_progress is not None:
            on_progress(batch.rows)
    if not encoder.rows:
        raise GraphError(f"There is no triple in {', '.join(map(str, sources))}.")
    labels, repeated, unused = _read_labels(names, encoder)
    for frame in found:
        for identifier, label, _ in frame.iter_rows():
            if identifier in encoder:
                labels.setdefault(identifier, label)
    encoded = encoder.finish(labels)
    header = make_header(encoded, name or out.name, checksums=True)
    write_store(header, encoded.arrays, out, force=force)
    return BuildReport(
        triples=encoded.triples,
        duplicates=encoded.duplicates,
        entities=encoded.entities,
        relations=encoded.relations,
        ambiguous_names=encoded.ambiguous_names,
        repeated_names=repeated,
        unused_names=unused,
        seconds=time.perf_counter() - started,
        bytes=header.bytes,
        max_degree=encoded.max_degree,
        dropped=dict(dropped),
    )


def _read_labels(names: Path | None, known: TripleEncoder) -> tuple[dict[str, str], int, int]:
    """Labels of what the graph holds (a names file often covers far more), repeated rows, unused rows."""
    labels: dict[str, str] = {}
    repeated = unused = 0
    if names is not None:
        for frame in read_names(Path(names)):
            for identifier, label, _ in frame.iter_rows():
                if identifier not in known:
                    unused += 1
                elif label.strip() and labels.setdefault(identifier, label) != label:
                    repeated += 1
    return labels, repeated, unused
