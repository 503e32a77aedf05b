"""Build a graph store from files of triples, out of core.

One pass over the sources turns names into numbers and keeps both in files; then the names get their final numbers, the
facts are sorted both ways, and the store is put in its place as a whole. See :mod:`kgr1.graph.building`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

from kgr1.errors import GraphError
from kgr1.graph.batches import Batch
from kgr1.graph.building.builder import Builder, NoTriplesError
from kgr1.graph.building.prefetch import prefetch
from kgr1.graph.building.workspace import friendly_errors, workspace
from kgr1.graph.files import check_target, put_store
from kgr1.graph.readers import ReadOptions, SourceFiles
from kgr1.types import Record

MEMORY_BYTES = 4 << 30
"""What a build may use by default, roughly; what needs more is sorted in files."""


class BuildProgress(Record):
    """How far a build is. ``stage`` is "reading", "names", "facts" or "saving"."""

    stage: str
    rows: int  # of the sources, read so far
    bytes_read: int | None = None  # of the sources as they are, compressed or not; None if nobody knows
    bytes_total: int | None = None


class BuildReport(Record):
    """What a build read and wrote."""

    triples: int  # distinct facts: a triple with two dates counts twice
    duplicates: int  # rows that repeated a fact
    entities: int
    relations: int
    dated: int  # facts with a date
    question_graphs: int
    ambiguous_names: int  # labels that stand for more than one entity
    repeated_names: int  # rows with another label for what has one; they become aliases
    unused_names: int  # rows with a label for what is not in the graph
    aliases: int  # further names by which entities and relations are found
    dropped: dict[str, int]  # rows left out, by reason
    max_degree: int  # most facts at one entity
    mean_degree: float
    degree_quantiles: dict[str, int]  # "90 %": that share of the entities has at most so many facts
    seconds: float
    bytes: int
    peak_memory: int  # bytes that the process has used at most since it began; 0 where nobody counts


OnProgress = Callable[[BuildProgress], None]


def build_graph(
    sources: Sequence[Path | str],
    out: Path,
    *,
    names: Path | None = None,
    name: str | None = None,
    options: ReadOptions | None = None,
    memory_bytes: int = MEMORY_BYTES,
    on_progress: OnProgress | None = None,
    force: bool = False,
) -> BuildReport:
    """Build the store ``out`` from files in any of the formats of :mod:`kgr1.graph.readers`, whole or not at all.

    ``sources`` are files, folders, globs or ``-`` for standard input. ``names`` maps identifiers to labels, two columns
    of TSV or CSV. See :func:`build_from_batches` for the rest.

    Raises :class:`GraphFormatError` for a malformed line and :class:`GraphError` for anything else that stops it.
    """
    if not sources:
        raise GraphError("Name at least one file of triples to build a graph from.")
    out = Path(out).absolute()
    check_target(out, force=force)
    files = SourceFiles(sources, options, None if names is None else Path(names))

    def tell(progress: BuildProgress) -> None:
        if on_progress is not None:
            counts = {"bytes_read": files.bytes_read, "bytes_total": files.bytes_total}
            on_progress(progress.model_copy(update=counts))

    try:
        return build_from_batches(files, out, name=name, memory_bytes=memory_bytes, on_progress=tell, force=force)
    except NoTriplesError as error:
        raise GraphError(f"There is no triple in {', '.join(map(str, sources))}.") from error


def build_from_batches(
    batches: Iterable[Batch],
    out: Path,
    *,
    name: str | None = None,
    memory_bytes: int = MEMORY_BYTES,
    on_progress: OnProgress | None = None,
    force: bool = False,
) -> BuildReport:
    """Build the store ``out`` from what a reader gives, whole or not at all.

    ``name`` is the graph's own name (that of ``out`` if None). About ``memory_bytes`` of memory are used besides what
    Python, a few batches and 40 bytes an entity need; the rest lies in a hidden directory beside ``out`` until the end.
    An existing store is replaced in one step with ``force`` and refused without. The batches are read in a thread of
    their own.

    Raises :class:`GraphError` if there is no triple, another process is building ``out``, the disk is full; whatever
    reading the batches raises goes through.
    """
    started = time.perf_counter()
    out = Path(out).absolute()
    check_target(out, force=force)
    tell = on_progress or (lambda progress: None)
    with workspace(out) as place, closing(Builder(place, memory_bytes)) as builder:
        with prefetch(batches) as ready:
            for batch in ready:
                with friendly_errors(out):
                    builder.add(batch)
                tell(BuildProgress(stage="reading", rows=builder.source_rows))
        with friendly_errors(out):
            tell(BuildProgress(stage="names", rows=builder.source_rows))
            builder.number_names()
            tell(BuildProgress(stage="facts", rows=builder.source_rows))
            built = builder.sort_facts()
            tell(BuildProgress(stage="saving", rows=builder.source_rows))
            header = builder.header(name or out.name)
            put_store(header, place.store, out, force=force)
    return BuildReport(
        **built,
        seconds=time.perf_counter() - started,
        bytes=header.bytes,
        peak_memory=_peak_memory(),
    )


def _peak_memory() -> int:
    try:  # what the system says of a process counts what its parent used before
        status = Path("/proc/self/status").read_text("ascii", "replace")
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0
