"""Contract nodes without a name: two facts through such a node become one fact with a composite relation.

A mediator node stands for a fact with more than two parts: ``A -film.actor.film-> m.x -film.performance.character->
B``. :func:`contract` takes such nodes out of a graph and joins their neighbours, here to ``A
-film.actor.film/character-> B``, and :func:`contract_files` does so from files to one TSV file. All facts are in memory
at once, so a graph must fit there: some hundred bytes a fact, and as much for each fact that is made.
"""

from __future__ import annotations

import gzip
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import polars as pl
import zstandard

from kgr1.errors import GraphError
from kgr1.graph.build import BuildProgress
from kgr1.graph.building.workspace import friendly_errors
from kgr1.graph.names import is_identifier
from kgr1.graph.readers import ReadOptions, SourceFiles
from kgr1.graph.readers.discover import format_of
from kgr1.graph.readers.tables import FACT
from kgr1.graph.redundant import unify
from kgr1.graph.temporal import UNDATED
from kgr1.types import Record

MOST_NEIGHBOURS = 64
"""A node with more neighbours than this stays: what it stands for is no single fact."""

INVERSE = "_of"
"""What follows a relation that is walked against its arrow."""

ACROSS = "/"
"""Between the two parts of a composite relation."""

_COMPRESSED = (".gz", ".zst")
_GZIP_LEVEL, _ZSTD_LEVEL = 6, 9
_WRITE_ROWS = 1 << 20
_UNWRITABLE = r"[\t\n\r]"  # nothing is quoted in TSV


@dataclass(frozen=True)
class Contraction:
    """What :func:`contract` gives: the facts, distinct and sorted, and how many nodes were contracted and left."""

    facts: pl.DataFrame  # String columns head, relation, tail
    facts_read: int  # distinct
    contracted: int  # nodes
    dropped: int  # nodes without a name that led nowhere
    nameless_left: int  # nodes without a name that are still there
    composite: int  # facts that were made


class ContractReport(Record):
    """What :func:`contract_files` read and wrote."""

    facts_read: int  # distinct
    repeated: int  # rows that repeated a fact
    undated: int  # rows whose dates were left out
    contracted: int  # nodes
    ends_dropped: int  # nodes without a name that led nowhere
    nameless_left: int  # nodes without a name that are still there
    composite: int  # facts that were made
    unified: int | None  # groups of relations that said the same; None if nobody looked for them
    facts_written: int
    relations: int  # of the facts written
    dropped: dict[str, int]  # rows left out by the readers, by reason
    bytes: int
    seconds: float


def contract(
    facts: pl.DataFrame,
    names: pl.DataFrame | None = None,
    *,
    most_neighbours: int = MOST_NEIGHBOURS,
    drop_ends: bool = False,
) -> Contraction:
    """Contract the nodes without a name of ``facts``, a frame with the String columns head, relation and tail.

    A node is nameless if :func:`kgr1.graph.names.is_identifier` is true of its name: what ``names`` (columns ``id`` and
    ``label``) says, otherwise what it is called in the facts. It is contracted if it has two to ``most_neighbours``
    distinct neighbours besides itself and each of them has a name. Its facts go; all others stay.

    For neighbours a and b of a contracted node m, a is entered by the relations r of facts (a, r, m), or, if there is
    none, by ``r_of`` of facts (m, r, a); b is left by the relations of facts (m, r, b), or, if there is none, by
    ``r_of`` of facts (b, r, m). The fact (a, enter/leave, b) is made if there is a fact (a, r, m), or none from a or b
    to m. So every two neighbours are joined, at least one way. Of ``leave`` only what follows its last dot is written,
    unless two of them would be alike behind the same ``enter`` somewhere in the graph.

    With ``drop_ends`` the facts of nameless nodes that have one neighbour go, too: they lead to nothing with a name.

    >>> rows = [("Ann", "film.actor.film", "m.0x"), ("m.0x", "film.performance.part", "Eve")]
    >>> contract(pl.DataFrame(rows, schema=["head", "relation", "tail"], orient="row")).facts.rows()
    [('Ann', 'film.actor.film/part', 'Eve')]
    """
    facts = facts.select(FACT).unique()
    nameless = _nameless(facts, names)
    ends = pl.concat([_ends(facts, nameless, "tail", "head"), _ends(facts, nameless, "head", "tail")])
    mediators = (
        ends.with_columns(pl.col("other").is_in(nameless.implode()).alias("beside"))
        .group_by("node")
        .agg(pl.col("other").n_unique().alias("neighbours"), pl.col("beside").any())
    )
    dropped = mediators.filter(pl.col("neighbours") == 1) if drop_ends else mediators.clear()
    mediators = mediators.filter(pl.col("neighbours").is_between(2, most_neighbours), ~pl.col("beside"))
    made = _composites(ends.join(mediators, on="node", how="semi"))
    gone = pl.concat([mediators, dropped])
    kept = facts.join(gone, left_on="head", right_on="node", how="anti")
    kept = kept.join(gone, left_on="tail", right_on="node", how="anti")
    result = pl.concat([kept, made]).unique().sort(FACT)
    left = pl.concat([result["head"], result["tail"]]).unique()
    return Contraction(
        facts=result,
        facts_read=facts.height,
        contracted=mediators.height,
        dropped=dropped.height,
        nameless_left=int(left.is_in(nameless.implode()).sum()),
        composite=made.height,
    )


def _nameless(facts: pl.DataFrame, names: pl.DataFrame | None) -> pl.Series:
    """Nodes that nothing but an identifier is known of."""
    nodes = pl.concat([facts["head"], facts["tail"]]).unique()
    shown = pl.DataFrame({"id": nodes, "label": nodes})
    if names is not None:
        known = names.select("id", pl.col("label").alias("known")).unique("id", keep="first", maintain_order=True)
        filled = pl.when(pl.col("known").str.strip_chars() != "").then("known").otherwise("label")
        shown = shown.join(known, on="id", how="left").with_columns(filled.alias("label"))
    mask = [is_identifier(name) for name in shown["label"]]
    return shown["id"].filter(pl.Series(mask, dtype=pl.Boolean))


def _ends(facts: pl.DataFrame, nameless: pl.Series, side: str, other: str) -> pl.DataFrame:
    """The facts of nameless nodes that are at ``side``: node, relation, other, and whether the arrow leads inwards."""
    found = facts.filter(pl.col(side).is_in(nameless.implode()), pl.col("head") != pl.col("tail"))
    return found.select(
        pl.col(side).alias("node"),
        "relation",
        pl.col(other).alias("other"),
        pl.lit(side == "tail").alias("inwards"),
    )


def _composites(ends: pl.DataFrame) -> pl.DataFrame:
    """The facts that take the place of contracted nodes, whose facts are ``ends``."""
    here = ["node", "other"]
    inwards = pl.col("inwards")
    ends = ends.with_columns(inwards.any().over(here).alias("into"), (~inwards).any().over(here).alias("out"))
    against = pl.col("relation") + INVERSE
    enter = ends.filter(inwards == pl.col("into")).select(
        "node",
        pl.col("other").alias("head"),
        pl.when(inwards).then("relation").otherwise(against).alias("enter"),
        pl.col("into").alias("head_into"),
    )
    leave = ends.filter(inwards != pl.col("out")).select(
        "node",
        pl.col("other").alias("tail"),
        pl.when(inwards).then(against).otherwise("relation").alias("leave"),
        pl.col("into").alias("tail_into"),
    )
    walks = enter.join(leave, on="node").filter(
        pl.col("head") != pl.col("tail"), pl.col("head_into") | ~pl.col("tail_into")
    )
    last = pl.col("leave").str.split(".").list.last()
    relations = walks.select("enter", "leave").unique().with_columns(last.alias("short"))
    alike = pl.len().over("enter", "short") > 1
    written = pl.when(alike | (pl.col("short") == "")).then("leave").otherwise("short")
    relations = relations.select("enter", "leave", (pl.col("enter") + ACROSS + written).alias("relation"))
    return walks.join(relations, on=["enter", "leave"]).select(FACT).unique()


def contract_files(
    sources: Sequence[Path | str],
    target: Path,
    *,
    names: Path | None = None,
    options: ReadOptions | None = None,
    drop_ends: bool = False,
    unify_relations: bool = False,
    on_progress: Callable[[BuildProgress], None] | None = None,
    force: bool = False,
) -> ContractReport:
    """Contract the graph of some files and write it to ``target``: a row of head, relation and tail a fact.

    With ``unify_relations`` relations of the result that say the same become one, :func:`kgr1.graph.redundant.unify`.

    ``sources``, ``names`` and ``options`` are those of :func:`kgr1.graph.build.build_graph`. Nodes keep their
    identifiers; ``names`` and labels of the sources only tell which of them have a name. Dates are left out and
    counted. The rows are sorted, without a header, compressed if the name ends in ``.gz`` or ``.zst``; the same graph
    gives the same bytes. The file appears whole or not at all.

    Raises :class:`GraphFormatError` for a malformed line, and :class:`GraphError` if there is no triple, there are
    question graphs, a name cannot be written to TSV, or ``target`` exists (without ``force``), is not called as a TSV
    file or cannot be written.
    """
    started = time.perf_counter()
    target = Path(target).absolute()
    _check_target(target, force=force)
    tell = on_progress or (lambda progress: None)
    files = SourceFiles(sources, options, names)
    read = _read(files, tell)
    if read.facts is None:
        raise GraphError(f"There is no triple in {', '.join(map(str, sources))}.")
    tell(BuildProgress(stage="contracting", rows=read.facts.height))
    result = contract(read.facts, read.labels, drop_ends=drop_ends)
    facts, groups = result.facts, None
    if unify_relations:
        tell(BuildProgress(stage="unifying", rows=facts.height))
        unified = unify(facts)
        facts, groups = unified.facts, len(unified.groups)
    _check_names(facts)
    tell(BuildProgress(stage="saving", rows=read.facts.height))
    _write(facts, target, force=force)
    return ContractReport(
        facts_read=result.facts_read,
        repeated=read.facts.height - result.facts_read,
        undated=read.dated,
        contracted=result.contracted,
        ends_dropped=result.dropped,
        nameless_left=result.nameless_left,
        composite=result.composite,
        unified=groups,
        facts_written=facts.height,
        relations=facts["relation"].n_unique(),
        dropped=read.dropped,
        bytes=target.stat().st_size,
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True)
class _Read:
    facts: pl.DataFrame | None
    labels: pl.DataFrame | None
    dated: int
    dropped: dict[str, int]


def _read(files: SourceFiles, tell: Callable[[BuildProgress], None]) -> _Read:
    facts: list[pl.DataFrame] = []
    labels: list[pl.DataFrame] = []
    dropped: dict[str, int] = {}
    dated = 0
    for batch in files:
        for reason, count in batch.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
        if batch.labels is not None:
            labels.append(batch.labels.filter(~pl.col("alias")).select("id", "label"))
        if batch.facts is not None:
            frame = batch.facts
            if "graph" in frame.columns and frame["graph"].null_count() < frame.height:
                raise GraphError("There are question graphs in the sources, which contracting would mix; name triples.")
            if "start" in frame.columns:
                undated = (pl.col("start") == UNDATED[0]) & (pl.col("end") == UNDATED[1])
                dated += frame.filter(~undated).height
            facts.append(frame.select(FACT))
        tell(
            BuildProgress(stage="reading", rows=batch.rows, bytes_read=files.bytes_read, bytes_total=files.bytes_total)
        )
    return _Read(pl.concat(facts) if facts else None, pl.concat(labels) if labels else None, dated, dropped)


def _check_target(target: Path, *, force: bool) -> None:
    suffix = target.suffix.lower()
    plain = target.with_suffix("") if suffix in _COMPRESSED else target
    if format_of(plain) != "tsv" or plain.suffix.lower() not in (".tsv", ".txt"):
        raise GraphError(
            f"{target} would not be read as TSV; name it .tsv or .txt ({' or '.join(_COMPRESSED)} may follow).",
            path=str(target),
        )
    if target.is_dir():
        raise GraphError(f"{target} is a folder, so it will not be replaced.", path=str(target))
    if os.path.lexists(target) and not force:
        raise GraphError(f"{target} exists; choose another place, or replace it with --force.", path=str(target))


def _check_names(facts: pl.DataFrame) -> None:
    for column in FACT:
        bad = facts.filter(pl.col(column).str.contains(_UNWRITABLE))
        if bad.height:
            name = bad[column][0]
            raise GraphError(
                f"{name[:80]!r} has a tab or a line break, which TSV cannot hold; replace it in the sources.", name=name
            )


def _write(facts: pl.DataFrame, target: Path, *, force: bool) -> None:
    with friendly_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                with _packed(stream, target.suffix.lower()) as packed:
                    for part in facts.iter_slices(_WRITE_ROWS):
                        text = part.write_csv(separator="\t", include_header=False, quote_style="never")
                        packed.write(text.encode("utf-8"))
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(temporary, 0o644)
            _check_target(target, force=force)
            os.replace(temporary, target)
        finally:
            with suppress(OSError):
                Path(temporary).unlink(missing_ok=True)


@contextmanager
def _packed(stream: IO[bytes], suffix: str) -> Iterator[IO[bytes]]:
    if suffix == ".gz":
        # A fixed time and no name keep the bytes stable.
        with gzip.GzipFile("", "wb", _GZIP_LEVEL, stream, mtime=0) as packed:
            yield cast("IO[bytes]", packed)
    elif suffix == ".zst":
        compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True)
        with compressor.stream_writer(stream, closefd=False) as writer:
            yield cast("IO[bytes]", writer)
    else:
        yield stream
