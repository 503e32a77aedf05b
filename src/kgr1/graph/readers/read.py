"""The one entry to all formats."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import polars as pl

from kgr1.errors import GraphError
from kgr1.graph.batches import Batch
from kgr1.graph.readers.discover import Source, find_sources, format_of
from kgr1.graph.readers.json_lines import read_json_lines
from kgr1.graph.readers.options import ReadOptions
from kgr1.graph.readers.parquet import read_parquet
from kgr1.graph.readers.place import Place
from kgr1.graph.readers.rdf import read_terms
from kgr1.graph.readers.streams import STDIN, Progress, open_stream
from kgr1.graph.readers.tables import read_table
from kgr1.graph.readers.terms import TermMapper, local_name

UNWANTED = "relations that are not wanted"


def read_batches(sources: Sequence[Path | str], options: ReadOptions | None = None) -> SourceFiles:
    """Facts and labels of files, folders, globs or standard input (``-``), in the order given.

    Raises :class:`GraphFormatError` for a malformed or damaged file (path, 1-based line and reason) and
    :class:`GraphError` for one that cannot be read or whose format cannot be told.
    """
    return SourceFiles(sources, options)


class SourceFiles:
    """Iterates over the batches of sources: first the names of a names file, if there is one, then all files.

    ``bytes_total`` is the size of the files as they are, compressed or not, and None where standard input is one of
    them. Raises :class:`GraphError` if a source is not there, or its format cannot be told.
    """

    def __init__(
        self, sources: Sequence[Path | str], options: ReadOptions | None = None, names: Path | None = None
    ) -> None:
        self._options = options or ReadOptions()
        self._names = names
        self.files = find_sources(sources, self._options)
        self._progress = Progress()
        paths = [source.path for source in self.files] + ([names] if names else [])
        self.bytes_total = None if STDIN in paths else sum(path.stat().st_size for path in paths if path.is_file())

    @property
    def bytes_read(self) -> int:
        """Bytes of the files read so far; may be asked from another thread."""
        return self._progress.bytes_read

    def __iter__(self) -> Iterator[Batch]:
        mapper = TermMapper(self._options)
        wanted = _Wanted(self._options)
        rows = 0
        if self._names is not None:
            for labels in read_names(self._names, self._progress):
                yield Batch(facts=None, labels=labels, rows=rows)
        for number, source in enumerate(self.files, 1):
            for batch in _read(source, number, self._options, mapper, self._progress):
                rows += batch.rows
                yield wanted(replace(batch, rows=rows))
        last = mapper.finish(Place("-"))
        if last.labels is not None:
            yield replace(last, rows=rows)


def _read(source: Source, number: int, options: ReadOptions, mapper: TermMapper, progress: Progress) -> Iterator[Batch]:
    path = source.path
    place = Place("standard input" if path == STDIN else str(path), number, skip=options.skip_bad_lines)
    if source.format == "parquet":
        yield from read_parquet(path, place, options)
        progress.add_file(path)
        return
    with open_stream(path, place, progress) as stream:
        if source.format in ("tsv", "csv"):
            yield from read_table(stream, place, options, kind=source.format)
        elif source.format == "jsonl":
            yield from read_json_lines(stream, place, options, path)
        else:
            yield from mapper.batches(read_terms(stream, place, options, source.format), place)


def read_names(path: Path, progress: Progress | None = None) -> Iterator[pl.DataFrame]:
    """Labels (id, label, alias) of a names file: two columns as TSV or CSV, or one JSON object ``{id: name}``.

    Raises what :func:`read_batches` raises.
    """
    place = Place(str(path))
    kind = format_of(path)
    if kind not in ("tsv", "csv", "jsonl"):
        raise GraphError(f"Cannot read names from {path}; name the file .tsv, .txt, .csv or .json.", path=str(path))
    with open_stream(path, place, progress) as stream:
        if kind == "jsonl":
            yield _name_object(stream.read(), place)
            return
        for batch in read_table(stream, place, ReadOptions(), kind=kind, names=True):
            if batch.labels is not None:
                yield batch.labels


def _name_object(data: bytes, place: Place) -> pl.DataFrame:
    try:
        names = json.loads(data.decode("utf-8-sig"))
        if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            place.fail_file("one JSON object of identifiers and names is expected")
        frame = pl.DataFrame({"id": list(names), "label": list(names.values())}, schema_overrides={"label": pl.String})
    except (ValueError, RecursionError) as error:
        place.fail_file(f"not JSON in UTF-8 ({error})", cause=error)
    return frame.with_columns(pl.lit(False).alias("alias"))


class _Wanted:
    """Keeps the facts of wanted relations; every relation is looked at once."""

    def __init__(self, options: ReadOptions) -> None:
        self._keep, self._drop = options.keep, options.drop
        self._verdicts: dict[str, bool] = {}

    def __call__(self, batch: Batch) -> Batch:
        if batch.facts is None or not (self._keep or self._drop):
            return batch
        relations = batch.facts["relation"].unique()
        wanted = [relation for relation in relations if self._is_wanted(relation)]
        if len(wanted) == len(relations):
            return batch
        facts = batch.facts.filter(pl.col("relation").is_in(wanted))
        dropped = {**batch.dropped, UNWANTED: batch.facts.height - facts.height}
        return replace(batch, facts=facts if facts.height else None, dropped=dropped)

    def _is_wanted(self, relation: str) -> bool:
        if relation not in self._verdicts:
            names = (relation, local_name(relation))
            kept = not self._keep or any(fnmatchcase(name, p) for p in self._keep for name in names)
            self._verdicts[relation] = kept and not any(fnmatchcase(n, p) for p in self._drop for n in names)
        return self._verdicts[relation]
