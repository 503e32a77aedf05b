"""Readers for files of triples and names: TSV and CSV, plain or gzipped.

``.tsv`` and ``.txt`` hold one row a line, fields apart by tabs, nothing quoted. ``.csv`` follows RFC 4180. A first row
that names the columns (head or subject, relation or predicate, tail or object) is skipped, as are blank lines. Rows
come in batches; the first malformed one raises :class:`GraphFormatError` with path, 1-based line and reason.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

from kgr1.errors import GraphError, GraphFormatError

_BLOCK_BYTES = 4 << 20
_MAX_LINE_BYTES = 64 << 20
_CSV_BATCH = 50_000
_SUSPICIOUS = ("\r", "\t\t", "\n\t", "\t\n", "\n\n", "\t ")  # signs of an empty field or line
_GZIP_MAGIC = b"\x1f\x8b"
_HEADERS = (
    ({"head", "subject"}, {"relation", "predicate"}, {"tail", "object"}),
    ({"id", "entity", "head", "subject"}, {"name", "label"}),
)
_COLUMNS = {2: "identifier, name", 3: "head, relation, tail"}

Fields = tuple[str, ...]


def read_triples(path: Path) -> Iterator[list[tuple[str, str, str]]]:
    """Batches of (head, relation, tail)."""
    return cast("Iterator[list[tuple[str, str, str]]]", _read(path, 3))


def read_names(path: Path) -> Iterator[list[tuple[str, str]]]:
    """Batches of (identifier, name); the name may be empty."""
    return cast("Iterator[list[tuple[str, str]]]", _read(path, 2))


def _read(path: Path, columns: int) -> Iterator[list[Fields]]:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kind = next((suffix for suffix in reversed(suffixes) if suffix != ".gz"), "")
    if kind not in (".tsv", ".txt", ".csv"):
        raise GraphError(f"Cannot tell the format of {path}; name it .tsv, .txt or .csv, or one of these and .gz.")
    reader = _CsvReader(path, columns) if kind == ".csv" else _TsvReader(path, columns)
    try:
        with path.open("rb") as raw:
            if raw.read(2) == _GZIP_MAGIC:
                raw.seek(0)
                with gzip.open(raw) as unzipped:
                    yield from reader.batches(cast("BinaryIO", unzipped))
            else:
                raw.seek(0)
                yield from reader.batches(raw)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        reader.fail(reader.line, f"the gzip file is truncated or damaged after this line ({error})", cause=error)
    except OSError as error:
        raise GraphError(f"Cannot read {path}: {error.strerror or error}.", path=str(path)) from error


class _Reader:
    """Position in a file and the checks of a row."""

    def __init__(self, path: Path, columns: int) -> None:
        self.path = path
        self.columns = columns
        self.line = 0  # complete lines read

    def fail(self, line: int, reason: str, cause: BaseException | None = None) -> NoReturn:
        message = f"{self.path}, line {line}: {reason}."
        raise GraphFormatError(message, path=str(self.path), line=line, reason=reason) from cause

    def check(self, row: Fields, line: int) -> None:
        """Raise unless the row has the right columns, none of them empty."""
        if len(row) != self.columns:
            reason = f"{len(row)} column{'s' * (len(row) != 1)} instead of {self.columns} ({_COLUMNS[self.columns]})"
            self.fail(line, reason)
        required = row if self.columns == 3 else row[:1]
        for number, field in enumerate(required, 1):
            if not field.strip():
                self.fail(line, f"column {number} is empty")

    def is_header(self, row: Fields) -> bool:
        """True if the row names the columns."""
        wanted = _HEADERS[0] if self.columns == 3 else _HEADERS[1]
        return len(row) == self.columns and all(f.strip().lower() in w for f, w in zip(row, wanted, strict=True))

    def bad_utf8(self, error: UnicodeDecodeError, line: int) -> NoReturn:
        self.fail(line, f"invalid UTF-8 (byte 0x{error.object[error.start]:02x})", cause=error)


class _TsvReader(_Reader):
    def batches(self, stream: BinaryIO) -> Iterator[list[Fields]]:
        rest = b""
        while block := stream.read(_BLOCK_BYTES):
            cut = block.rfind(b"\n") + 1
            if not cut:
                rest += block
                if len(rest) > _MAX_LINE_BYTES:
                    self.fail(self.line + 1, f"the line is longer than {_MAX_LINE_BYTES >> 20} MiB")
                continue
            yield self._rows(rest + block[:cut])
            rest = block[cut:]
        if rest:
            yield self._rows(rest + b"\n")

    def _rows(self, block: bytes) -> list[Fields]:
        """Rows of a block that ends with a newline."""
        try:
            text = block.decode("utf-8")
        except UnicodeDecodeError as error:
            self.bad_utf8(error, self.line + 1 + block.count(b"\n", 0, error.start))
        rows: list[Fields] = [tuple(line.split("\t")) for line in text[:-1].split("\n")]
        # Most blocks are clean, and these searches are far cheaper than a look at every field.
        at_start = self.line == 0
        first = self._careful_rows(rows[:1]) if at_start else []
        rest = rows[at_start:]
        if any(mark in text for mark in _SUSPICIOUS) or set(map(len, rest)) != {self.columns}:
            return first + self._careful_rows(rest)
        self.line += len(rest)
        return first + rest

    def _careful_rows(self, rows: list[Fields]) -> list[Fields]:
        kept = []
        for row in rows:
            self.line += 1
            if self.line == 1:
                row = (row[0].removeprefix("\ufeff"), *row[1:])
            row = (*row[:-1], row[-1].removesuffix("\r"))
            if row == ("",) or (self.line == 1 and self.is_header(row)):
                continue
            self.check(row, self.line)
            kept.append(row)
        return kept


class _CsvReader(_Reader):
    def batches(self, stream: BinaryIO) -> Iterator[list[Fields]]:
        batch: list[Fields] = []
        rows = csv.reader(self._lines(stream), strict=True)
        first = True
        while True:
            start = self.line + 1
            try:
                row = next(rows)
            except StopIteration:
                break
            except csv.Error as error:
                self.fail(start, f"malformed CSV ({error})", cause=error)
            fields = tuple(row)
            if not fields or (first and self.is_header(fields)):
                first = first and not fields
                continue
            first = False
            self.check(fields, start)
            batch.append(fields)
            if len(batch) >= _CSV_BATCH:
                yield batch
                batch = []
        yield batch

    def _lines(self, stream: BinaryIO) -> Iterator[str]:
        for raw in stream:
            self.line += 1
            try:
                text = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                self.bad_utf8(error, self.line)
            yield text.removeprefix("\ufeff") if self.line == 1 else text
