"""Rows of published files: JSON, JSON lines and Parquet give objects, everything else gives lines of text.

Compression is told by the first bytes of a file. What is damaged or of another shape is one sentence with the place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import polars as pl

from kgr1.errors import DatasetError, GraphError
from kgr1.graph.readers.discover import format_of
from kgr1.graph.readers.place import Place
from kgr1.graph.readers.streams import open_stream

_LISTS = ("questions", "Questions")  # under which a document keeps its rows
_SLICE = 100  # rows of Parquet at a time: some carry a graph of thousands of triples


class Row:
    """One object of a source, read with checks.

    ``place`` is where it stands, as messages say it: ``data/test.json, row 3``.
    """

    def __init__(self, fields: Mapping[str, Any], place: str, number: int) -> None:
        self.fields = fields
        self.place = place
        self.number = number

    def __contains__(self, key: str) -> bool:
        return self.fields.get(key) is not None

    def bad(self, reason: str) -> NoReturn:
        """Raise :class:`DatasetError` for this row."""
        raise DatasetError(f"{self.place}: {reason}.", place=self.place, reason=reason)

    def text(self, key: str) -> str:
        """A text with something in it; whole numbers count as text."""
        value = self.fields.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            self.bad(f"'{key}' must be text" if key in self.fields else f"'{key}' is missing")
        if not value.strip():
            self.bad(f"'{key}' is empty")
        return self.checked(value, key)

    def optional(self, key: str) -> str:
        """A text, or an empty one where there is none."""
        value = self.fields.get(key)
        return self.text(key) if value is not None and value != "" else ""

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, possibly empty; blank ones are passed over."""
        value = self.fields.get(key)
        if not isinstance(value, list) or not all(isinstance(item, str | int | float) for item in value):
            self.bad(f"'{key}' must be a list of texts" if key in self.fields else f"'{key}' is missing")
        return tuple(self.checked(text, key) for text in map(_written, value) if text.strip())

    def row(self, key: str) -> Row:
        """An object inside the object."""
        value = self.fields.get(key)
        if not isinstance(value, dict):
            self.bad(f"'{key}' must be an object" if key in self.fields else f"'{key}' is missing")
        return Row(value, self.place, self.number)

    def rows(self, key: str) -> list[Row]:
        """A list of objects inside the object."""
        value = self.fields.get(key)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.bad(f"'{key}' must be a list of objects" if key in self.fields else f"'{key}' is missing")
        return [Row(item, self.place, self.number) for item in value]

    def names(self, key: str) -> dict[str, str]:
        """An object of identifiers and names."""
        found = self.row(key).fields
        if not all(isinstance(name, str) for name in found.values()):
            self.bad(f"'{key}' must be an object of identifiers and names")
        return {self.checked(each, key): self.checked(name, key) for each, name in found.items()}

    def checked(self, text: str, key: str) -> str:
        """The text, if it can be written down again."""
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            self.bad(f"an escape in '{key}' stands for half a character (a lone surrogate)")
        return text


def _written(value: str | int | float) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def is_text_file(path: Path) -> bool:
    """True for a file of lines, false for one of objects."""
    return format_of(path) not in ("jsonl", "parquet")


def read_rows(path: Path) -> Iterator[Row]:
    """The objects of a JSON, JSON lines or Parquet file.

    A JSON document is a list of objects, or an object that holds one under ``questions``. Raises
    :class:`DatasetError` for a file that is missing, damaged, or not of this kind.
    """
    if format_of(path) == "parquet":
        yield from _parquet(path)
        return
    with _stream(path) as lines:
        first = next(lines, b"")
        rest = iter(lines)
        value = _json_line(first)
        if isinstance(value, dict) and not _inner(value):
            yield Row(value, f"{path}, line 1", 1)
            for number, raw in enumerate(rest, 2):
                if raw.strip():
                    yield _object(path, f"line {number}", number, raw)
            return
        document = b"".join([first, *rest])
    try:
        value = json.loads(document.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _damage(path, "not UTF-8", error) from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise _damage(path, f"not JSON, or cut off ({error})", error) from error
    rows = _inner(value) if isinstance(value, dict) else value
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _damage(path, "a list of objects is expected")
    yield from (Row(row, f"{path}, row {number}", number) for number, row in enumerate(rows, 1))


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers from 1; blank ones are passed over.

    Raises :class:`DatasetError` for a file that is missing or damaged.
    """
    with _stream(path) as lines:
        for number, raw in enumerate(lines, 1):
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise _damage(path, "not UTF-8", error, f", line {number}") from error
            if text.strip():
                yield number, text


def _inner(value: dict[str, Any]) -> list[Any] | None:
    return next((value[key] for key in _LISTS if isinstance(value.get(key), list)), None)


def _json_line(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None


def _object(path: Path, place: str, number: int, raw: bytes) -> Row:
    try:
        value = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _damage(path, "not UTF-8", error, f", {place}") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise _damage(path, f"not JSON, or cut off ({error})", error, f", {place}") from error
    if not isinstance(value, dict):
        raise _damage(path, "an object is expected", None, f", {place}")
    return Row(value, f"{path}, {place}", number)


@contextmanager
def _stream(path: Path) -> Iterator[Iterator[bytes]]:
    """The lines of a file; damage that shows while they are read is a :class:`DatasetError`."""
    place = Place(str(path))

    def counted(stream: BinaryIO) -> Iterator[bytes]:
        for line in stream:
            place.line += 1
            yield line

    try:
        with open_stream(path, place) as stream:
            yield counted(stream)
    except GraphError as error:
        raise DatasetError(error.message, **{"path": str(path), **error.details}) from error


def _damage(path: Path, reason: str, cause: BaseException | None = None, place: str = "") -> DatasetError:
    error = DatasetError(f"{path}{place}: {reason}.", path=str(path), reason=reason)
    error.__cause__ = cause
    return error


def _parquet(path: Path) -> Iterator[Row]:
    done = 0
    try:
        frame = pl.scan_parquet(path, glob=False)
        count = int(frame.select(pl.len()).collect().item())
        for start in range(0, count, _SLICE):
            for fields in frame.slice(start, _SLICE).collect().iter_rows(named=True):
                done += 1
                yield Row(fields, f"{path}, row {done}", done)
    except OSError as error:
        raise DatasetError(f"Cannot read {path}: {error.strerror or error}.", path=str(path)) from error
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise _damage(path, f"not a whole Parquet file, or damaged after row {done} ({reason})", error) from error
