"""Build a graph store from files of triples."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import polars as pl
from pydantic import Field

from kgr1.errors import GraphError
from kgr1.graph.batches import Batch
from kgr1.graph.encode import TripleEncoder
from kgr1.graph.files import check_target, write_store
from kgr1.graph.readers import ReadOptions, SourceFiles
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
    if not sources:
        raise GraphError("Name at least one file of triples to build a graph from.")
    check_target(Path(out).absolute(), force=force)
    files = SourceFiles(sources, options, None if names is None else Path(names))
    return build_from_batches(files, out, name=name, on_progress=on_progress, force=force)


def build_from_batches(
    batches: Iterable[Batch],
    out: Path,
    *,
    name: str | None = None,
    on_progress: Callable[[int], None] | None = None,
    force: bool = False,
) -> BuildReport:
    """Build the store ``out`` from batches; see :func:`build_graph`."""
    started = time.perf_counter()
    out = Path(out).absolute()
    check_target(out, force=force)
    encoder = TripleEncoder()
    labels: dict[str, str] = {}
    aliases: dict[str, dict[str, None]] = {}
    dropped: Counter[str] = Counter()
    repeated = 0
    for batch in batches:
        _add(encoder, batch)
        if batch.labels is not None:
            repeated += _add_labels(labels, aliases, batch.labels)
        dropped.update(batch.dropped)
        if on_progress is not None and batch.rows:
            on_progress(batch.rows)
    if not encoder.rows:
        raise GraphError("There is no triple to build a graph from.")
    unused = [identifier for identifier in labels if identifier not in encoder]
    for identifier in unused:
        del labels[identifier]
    others = {
        identifier: [name for name in more if name != labels.get(identifier)]
        for identifier, more in aliases.items()
        if identifier in encoder
    }
    encoded = encoder.finish(labels, others)
    header = make_header(encoded, name or out.name, checksums=True)
    write_store(header, encoded.arrays, out, force=force)
    return BuildReport(
        triples=encoded.triples,
        duplicates=encoded.duplicates,
        entities=encoded.entities,
        relations=encoded.relations,
        ambiguous_names=encoded.ambiguous_names,
        repeated_names=repeated,
        unused_names=len(unused),
        seconds=time.perf_counter() - started,
        bytes=header.bytes,
        max_degree=encoded.max_degree,
        dropped=dict(dropped),
    )


def _add(encoder: TripleEncoder, batch: Batch) -> None:
    if batch.facts is None:
        return
    parts = batch.facts.partition_by("graph", as_dict=True) if "graph" in batch.facts.columns else {("",): batch.facts}
    for (graph,), facts in parts.items():
        spans = facts.select("start", "end").rows() if "start" in facts.columns else None
        encoder.add(facts.select("head", "relation", "tail").rows(), spans=spans, graph=graph or None)


def _add_labels(labels: dict[str, str], aliases: dict[str, dict[str, None]], found: pl.DataFrame) -> int:
    """Take labels; returns how many of them were second ones. They are aliases then."""
    repeated = 0
    for identifier, label, alias in found.iter_rows():
        if not label or not label.strip():
            continue
        first = label if alias else labels.setdefault(identifier, label)
        repeated += first != label
        if alias or first != label:
            aliases.setdefault(identifier, {})[label] = None
    return repeated
