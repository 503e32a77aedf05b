"""JSON lines: facts as objects or lists, and questions that carry their graph.

Objects have ``head, relation, tail`` or ``subject, predicate, object``, optionally ``time`` or ``start`` and ``end``
and ``graph`` (a question graph); lists have three items, or four or five with dates at the end. An object whose
``graph`` is a list of ``[head, relation, tail]`` is a question: its triples become the question graph called by its
``id``. An object with a ``subgraph`` of numbered ``tuples`` is one too (:mod:`kgr1.graph.readers.numbered`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from kgr1.graph.batches import Batch
from kgr1.graph.encode import check_name
from kgr1.graph.readers import dates
from kgr1.graph.readers.numbered import NAMELESS, Numbered
from kgr1.graph.readers.options import ReadOptions
from kgr1.graph.readers.place import Place
from kgr1.graph.readers.streams import decode, line_blocks
from kgr1.graph.readers.tables import FACT, WORDS

COLUMNS = (*FACT, "time", "graph")
_BATCH_FACTS = 500_000

Fact = tuple[str, str, str, str, str]


class _MalformedError(ValueError):
    """The reason why a value is no fact."""


def read_json_lines(stream: BinaryIO, place: Place, options: ReadOptions, path: Path) -> Iterator[Batch]:
    """Batches of a stream of JSON lines; ``path`` is where the companions of numbered graphs lie."""
    reader = _Reader(place, path)
    for block in line_blocks(stream, place):
        yield from reader.block(block)


class _Reader:
    def __init__(self, place: Place, path: Path) -> None:
        self.place = place
        self.path = path
        self.numbered: Numbered | None = None

    def block(self, block: bytes) -> Iterator[Batch]:
        facts: list[Fact] = []
        rows = 0
        for line, value in self._values(block):
            rows += 1
            if isinstance(value, dict) and "subgraph" in value:
                if self.numbered is None:
                    self.numbered = Numbered(self.path, self.place)
                frame = self.numbered.facts(value, line)
                if frame is not None:
                    yield self.place.batch(frame, None, 0)
                continue
            try:
                facts.extend(self._facts(value))
            except _MalformedError as error:
                self.place.bad(line, str(error))
            if len(facts) >= _BATCH_FACTS:
                yield self.place.batch(_frame(facts, self.place), None, rows)
                facts, rows = [], 0
        yield self.place.batch(_frame(facts, self.place), None, rows)

    def _values(self, block: bytes) -> Iterator[tuple[int, Any]]:
        lines = block[:-1].split(b"\n")
        for raw in lines:
            self.place.line += 1
            line = self.place.line
            text = decode(raw.removeprefix(b"\xef\xbb\xbf") if line == 1 else raw, line, self.place)
            if text is None or not text.strip():
                continue
            try:
                yield line, json.loads(text)
            except (ValueError, RecursionError) as error:
                self.place.bad(line, f"not JSON ({error})", "not JSON", cause=error)

    def _facts(self, value: Any) -> Iterable[Fact]:
        if isinstance(value, dict):
            if isinstance(value.get("graph"), list):
                return self._question(value)
            return (_of_object(value),)
        if isinstance(value, list):
            return (_of_list(value),)
        raise _MalformedError(f"an object or a list is expected, not {_kind(value)}")

    def _question(self, row: dict[str, Any]) -> list[Fact]:
        graph = question_id(row)
        facts: list[Fact] = []
        for number, triple in enumerate(row["graph"], 1):
            if not isinstance(triple, list) or len(triple) != 3:
                raise _MalformedError(f"item {number} of 'graph' is not [head, relation, tail]")
            try:
                head, relation, tail = (_text(part, f"item {number} of 'graph'") for part in triple)
            except _BlankError:
                self.place.drop(NAMELESS)
                continue
            facts.append((head, relation, tail, "", graph))
        return facts


def question_id(row: dict[str, Any]) -> str:
    """The name of a question graph: the ``id`` of the question."""
    if "id" not in row:
        raise _MalformedError("'id' is missing; it is what the question graph is called")
    return _text(row["id"], "'id'")


def _frame(facts: list[Fact], place: Place) -> pl.DataFrame | None:
    if not facts:
        return None
    frame = pl.DataFrame(facts, schema=dict.fromkeys(COLUMNS, pl.String), orient="row")
    if not any(fact[3] for fact in facts):
        frame = frame.drop("time")
    if not any(fact[4] for fact in facts):
        return dates.with_spans(frame.drop("graph"), place)
    return dates.with_spans(frame.with_columns(pl.col("graph").replace("", None)), place)


def _of_object(row: dict[str, Any]) -> Fact:
    fields: dict[str, Any] = {}
    for key, value in row.items():
        column = WORDS.get(key) or WORDS.get(key.lower())
        if column and value is not None:
            if column in fields:
                raise _MalformedError(f"the {column} is given twice")
            fields[column] = value
    for column in FACT:
        if column not in fields:
            raise _MalformedError(f"'{column}' is missing")
    head, relation, tail = (_text(fields[column], f"'{column}'") for column in FACT)
    time, start, end = (_date(fields.get(column), f"'{column}'") for column in ("time", "start", "end"))
    graph = _text(fields["graph"], "'graph'") if "graph" in fields else ""
    return head, relation, tail, _span(time, start, end), graph


def _of_list(row: list[Any]) -> Fact:
    if not 3 <= len(row) <= 5:
        raise _MalformedError(f"a list of {len(row)} items instead of 3 ({', '.join(FACT)})")
    head, relation, tail = (_text(part, f"item {number}") for number, part in enumerate(row[:3], 1))
    times = [_date(part, f"item {number}") for number, part in enumerate(row[3:], 4)]
    return head, relation, tail, _span(*times) if len(times) == 1 else _span("", *times), ""


def _span(time: str, start: str = "", end: str = "") -> str:
    """The dates of a fact as one text."""
    reason = dates.problem(time, start, end)
    if reason:
        raise _MalformedError(reason)
    if time and (start or end):
        raise _MalformedError("there are both a time and a start or end")
    return f"{start}/{end}" if start or end else time


def _date(value: Any, what: str) -> str:
    return "" if value is None or value == "" else _text(value, what)


class _BlankError(_MalformedError):
    """A name without anything to see in it."""


def _text(value: Any, what: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _MalformedError(f"{what} must be text, not {_kind(value)}")
    text = value if isinstance(value, str) else json.dumps(value)
    problem = check_name(text)
    if problem == "a name is empty":
        raise _BlankError(f"{what} is empty")
    if problem:
        raise _MalformedError(f"{what}: {problem}")
    return text


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
