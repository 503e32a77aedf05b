"""Parquet: the columns of a table, or questions that carry their graph (``id`` and ``graph``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from kgr1.errors import GraphError
from kgr1.graph.batches import Batch
from kgr1.graph.readers import dates
from kgr1.graph.readers.numbered import NAMELESS
from kgr1.graph.readers.options import ReadOptions
from kgr1.graph.readers.place import Place
from kgr1.graph.readers.streams import STDIN
from kgr1.graph.readers.tables import FACT, WORDS

_ROWS = 500_000
_QUESTIONS = 500  # rows with a graph of thousands of triples each


def read_parquet(path: Path, place: Place, options: ReadOptions) -> Iterator[Batch]:
    """Batches of a Parquet file."""
    place.unit = "row"
    if path == STDIN:
        raise GraphError("Parquet is read from its end; give a file instead of standard input.")
    try:
        frame = pl.scan_parquet(path, glob=False)
        schema = frame.collect_schema()
        count = int(frame.select(pl.len()).collect().item())
        graphs = isinstance(schema.get("graph"), pl.List)
        columns = _question_columns(schema, place) if graphs else _columns(schema, place)
        step = _QUESTIONS if graphs else _ROWS
        for start in range(0, count, step):
            part = frame.slice(start, step).select(columns).collect()
            rows = part.height
            facts = _questions(part, place) if graphs else _facts(part, place)
            place.line += rows
            yield place.batch(facts, None, rows)
    except OSError as error:
        raise GraphError(f"Cannot read {path}: {error.strerror or error}.", path=str(path)) from error
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        place.fail_file(f"not a whole Parquet file, or damaged after row {place.line} ({reason})", cause=error)


def _columns(schema: pl.Schema, place: Place) -> list[pl.Expr]:
    """Expressions of text for the columns that are known."""
    found: dict[str, pl.Expr] = {}
    for name, kind in schema.items():
        column = WORDS.get(name.lower())
        if column is None:
            continue
        if column in found:
            place.fail_file(f"two columns hold the {column}: {', '.join(schema)}")
        if isinstance(kind, pl.List | pl.Struct | pl.Array | pl.Binary) or kind == pl.Object:
            place.fail_file(f"the column {name!r} holds {kind}, not text")
        temporal = pl.col(name).cast(pl.Date) if isinstance(kind, pl.Datetime) else pl.col(name)
        found[column] = temporal.cast(pl.String).alias(column)
    missing = [column for column in FACT if column not in found]
    if missing:
        place.fail_file(f"no column is called {' or '.join(missing)}; it has {', '.join(schema) or 'none'}")
    if "time" in found and ("start" in found or "end" in found):
        place.fail_file("there are columns for a time and for a start or end; a fact has one or the other")
    return list(found.values())


def _facts(part: pl.DataFrame, place: Place) -> pl.DataFrame:
    for column in FACT:
        bad = part[column].is_null() | (part[column].str.strip_chars() == "")
        if bad.any() and not place.skip:
            place.fail(place.line + int(bad.arg_true()[0]) + 1, f"the {column} is empty")
        place.drop(f"the {column} is empty", int(bad.sum()))
        part = part.filter(~bad)
    dated = dates.with_spans(part, place)
    if dated is not None:
        return dated
    columns = [column for column in ("time", "start", "end") if column in part.columns]
    wrong = []
    for number, row in enumerate(part.select(columns).iter_rows(named=True)):
        reason = dates.problem(row.get("time"), row.get("start"), row.get("end"))
        wrong.append(reason is not None)
        if reason:
            place.bad(place.line + number + 1, reason, "unreadable dates")
    dated = dates.with_spans(part.filter(~pl.Series(wrong)), place)
    assert dated is not None, "every row was checked"
    return dated


def _question_columns(schema: pl.Schema, place: Place) -> list[pl.Expr]:
    if "id" not in schema:
        place.fail_file("the column 'id', which says what the question graphs are called, is missing")
    inner = schema["graph"].inner  # type: ignore[attr-defined]
    if not isinstance(inner, pl.List) or inner.inner != pl.String:
        place.fail_file(f"the column 'graph' holds {schema['graph']}, not lists of [head, relation, tail]")
    return [pl.col("id").cast(pl.String).alias("graph"), pl.col("graph").alias("triples")]


def _questions(part: pl.DataFrame, place: Place) -> pl.DataFrame:
    nameless = part["graph"].is_null() | (part["graph"].str.strip_chars() == "")
    if nameless.any():
        place.fail(place.line + int(nameless.arg_true()[0]) + 1, "'id' is empty")
    flat = part.explode("triples").drop_nulls("triples")
    wrong = flat.filter(pl.col("triples").list.len() != 3)
    if wrong.height:
        row = part["graph"].index_of(wrong["graph"][0])
        place.fail(place.line + (row or 0) + 1, "a list of 'graph' is not [head, relation, tail]")
    facts = flat.select(
        *(pl.col("triples").list.get(number).alias(column) for number, column in enumerate(FACT)), pl.col("graph")
    )
    named = facts.filter(
        pl.all_horizontal(pl.col(FACT).is_not_null()), pl.all_horizontal(pl.col(FACT).str.strip_chars() != "")
    )
    place.drop(NAMELESS, facts.height - named.height)
    return named
