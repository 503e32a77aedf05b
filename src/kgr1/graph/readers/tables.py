"""TSV and CSV: one fact a row, or one name.

TSV has fields apart by tabs and nothing quoted; CSV follows RFC 4180. Most blocks of a file are clean and go through
polars as a whole; one that is not is read again row by row, which finds the first malformed line and its reason.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import BinaryIO

import polars as pl

from kgr1.graph.batches import Batch
from kgr1.graph.readers import dates
from kgr1.graph.readers.options import ReadOptions
from kgr1.graph.readers.place import Place
from kgr1.graph.readers.streams import decode, line_blocks

FACT = ("head", "relation", "tail")
NAME = ("id", "label")
WORDS: dict[str, str] = {
    "head": "head",
    "subject": "head",
    "relation": "relation",
    "predicate": "relation",
    "tail": "tail",
    "object": "tail",
    "time": "time",
    "date": "time",
    "timestamp": "time",
    "start": "start",
    "start_date": "start",
    "start_year": "start",
    "end": "end",
    "end_date": "end",
    "end_year": "end",
    "graph": "graph",
    "graph_id": "graph",
}
"""What a column is by the word at its top."""

_NAME_WORDS = ({"id", "entity", "head", "subject"}, {"name", "label"})
_COLUMNS = {2: "identifier, name", 3: "head, relation, tail"}
_BLANK = r"^[\s\x1c-\x1f]*$"
_BOM = b"\xef\xbb\xbf"
_CSV_BATCH = 50_000

Row = tuple[str, ...]


def read_table(
    stream: BinaryIO, place: Place, options: ReadOptions, *, kind: str, names: bool = False
) -> Iterator[Batch]:
    """Batches of a TSV or CSV stream (``kind``): facts, or labels with ``names``."""
    reader = (_Csv if kind == "csv" else _Tsv)(place, options, names)
    for frame, rows in reader.frames(line_blocks(stream, place)):
        if names:
            yield place.batch(None, frame.with_columns(pl.lit(False).alias("alias")), rows)
        else:
            yield place.batch(frame, None, rows)


class _Table:
    """The columns of a table, once they are known, and the checks of a row."""

    separator = "\t"

    def __init__(self, place: Place, options: ReadOptions, names: bool) -> None:
        self.place = place
        self.options = options
        self.required: tuple[str, ...] = NAME if names else FACT
        self.columns: tuple[str, ...] = ()

    def settle(self, rows: Iterable[Row], line: int = 1) -> bool:
        """Decide what the columns are; ``rows`` are the first ones, from ``line`` on. True if the first is a header."""
        rows = iter(rows)
        first = next(rows, ())
        self.columns = self.required
        words = [field.strip().lower() for field in first]
        if self.required is NAME:
            return len(words) == 2 and all(word in known for word, known in zip(words, _NAME_WORDS, strict=True))
        named = [WORDS.get(word) for word in words]
        if set(FACT) <= set(named):
            self._header(words, named, line)
            return True
        if self.options.times is not False:
            self._find_dates(len(first), chain([first], rows))
        return False

    def _find_dates(self, width: int, rows: Iterable[Row]) -> None:
        """Take columns 4 and 5 for dates if the first row, of ``width`` columns, or most rows have them.

        One row that differs must not decide over all others: it is refused by itself, in its own line.
        """
        seen: dict[int, list[Row]] = {4: [], 5: []}
        widths: Counter[int] = Counter()
        for row in rows:
            widths[len(row)] += 1
            if len(row) in seen:
                seen[len(row)].append(row[3:])
        # Whoever insists on dates has them in fewer rows, too.
        usual = [wide for wide, _ in widths.most_common(None if self.options.times else 1)]
        for wide in (width, *usual):
            dated = wide in seen and (
                self.options.times or dates.looks_dated(field for fields in seen[wide] for field in fields)
            )
            if dated:
                self.columns = (*FACT, "time") if wide == 4 else (*FACT, "start", "end")
                return

    def _header(self, words: list[str], named: list[str | None], line: int) -> None:
        for word, column in zip(words, named, strict=True):
            if column is None:
                known = ", ".join(WORDS)
                self.place.fail(line, f"the header has the column {word!r}, which is none of {known}")
            if named.count(column) > 1:
                self.place.fail(line, f"the header names the {column} twice")
        if "time" in named and ("start" in named or "end" in named):
            self.place.fail(line, "the header has both a time and a start or end; a fact has one or the other")
        self.columns = tuple(column for column in named if column)

    @property
    def optional(self) -> tuple[str, ...]:
        """Columns that may be empty, and missing at the end of a row."""
        if self.required is NAME:
            return ("label",)
        return tuple(column for column in self.columns if column not in (*FACT, "graph"))

    def problem(self, row: Row) -> tuple[str, str | None] | None:
        """What is wrong with a row: the reason, and a shorter one to count it under."""
        width = len(self.columns)
        least = width if self.required is NAME else 1 + max(map(self.columns.index, FACT))
        if not least <= len(row) <= width:
            wanted = _COLUMNS.get(width) or ", ".join(self.columns)
            return f"{len(row)} column{'s' * (len(row) != 1)} instead of {width} ({wanted})", None
        for number, (field, column) in enumerate(zip(row, self.columns, strict=False), 1):
            if column not in self.optional and not field.strip():
                return f"column {number} is empty", None
        if self.optional and self.required is FACT:
            values = dict(zip(self.columns, row, strict=False))
            reason = dates.problem(values.get("time"), values.get("start"), values.get("end"))
            if reason:
                return reason, "unreadable dates"
        return None

    def checked(self, rows: Iterable[tuple[int, Row]]) -> list[Row]:
        """The rows that are right, filled up to the number of columns; the others are refused or counted."""
        kept = []
        width = len(self.columns)
        for line, row in rows:
            found = self.problem(row)
            if found:
                self.place.bad(line, *found)
            else:
                kept.append(row if len(row) == width else (*row, *[""] * (width - len(row))))
        return kept

    def frame(self, rows: list[Row]) -> pl.DataFrame:
        """Checked rows as a frame, with days for dates."""
        frame = pl.DataFrame(rows, schema=dict.fromkeys(self.columns, pl.String), orient="row")
        dated = dates.with_spans(frame, self.place) if self.required is FACT else frame
        assert dated is not None, "every row was checked"
        return dated

    def fast(self, block: bytes) -> pl.DataFrame | None:
        """The block through polars, or None where it needs a closer look."""
        if block.startswith(_BOM) or b"\r" in block:
            return None
        schema = dict.fromkeys(self.columns, pl.String)
        try:
            frame = pl.read_csv(block, separator=self.separator, quote_char=None, has_header=False, schema=schema)
        except pl.exceptions.PolarsError:
            return None
        needed = [column for column in self.columns if column not in self.optional]
        blank = pl.any_horizontal(pl.col(needed).is_null() | pl.col(needed).str.contains(_BLANK))
        if frame.select(blank.any()).item():
            return None
        frame = frame.with_columns(pl.col(column).fill_null("") for column in self.optional)
        return dates.with_spans(frame, self.place) if self.required is FACT else frame


class _Tsv(_Table):
    def frames(self, blocks: Iterator[bytes]) -> Iterator[tuple[pl.DataFrame, int]]:
        for block in blocks:
            block = block.replace(b"\r\n", b"\n")
            if not self.columns:
                block, blank = _without_start(block)
                self.place.line += blank
                if not block:
                    continue
                if self.settle(_peek(block, "\t"), self.place.line + 1):
                    block = block[block.index(b"\n") + 1 :]
                    self.place.line += 1
            lines = block.count(b"\n")
            frame = self.fast(block) if block else None
            if frame is None:
                start = self.place.line
                frame = self.frame(self.checked(self._rows(block)))
                self.place.line = start
            self.place.line += lines
            yield frame, frame.height

    def _rows(self, block: bytes) -> Iterator[tuple[int, Row]]:
        for raw in block[:-1].split(b"\n") if block else ():
            self.place.line += 1
            text = decode(raw, self.place.line, self.place)
            if text:
                yield self.place.line, tuple(text.split("\t"))


def _without_start(block: bytes) -> tuple[bytes, int]:
    """The first block without the mark of its encoding and the blank lines at its start, and how many these are."""
    block = block.removeprefix(_BOM)
    rest = block.lstrip(b"\n")
    return rest, len(block) - len(rest)


def _peek(block: bytes, separator: str) -> Iterator[Row]:
    """Rows of the first block as far as they are text, without blank lines."""
    for raw in block[:-1].split(b"\n"):
        if raw:
            yield tuple(raw.decode("utf-8", "replace").split(separator))


class _Csv(_Table):
    separator = ","

    def frames(self, blocks: Iterator[bytes]) -> Iterator[tuple[pl.DataFrame, int]]:
        for block in blocks:
            frame = self._plain(block.replace(b"\r\n", b"\n"))
            if frame is None:
                yield from self._quoted(chain([block], blocks))
                return
            self.place.line += block.count(b"\n")
            yield frame, frame.height

    def _plain(self, block: bytes) -> pl.DataFrame | None:
        """A block without quotes, or None where only the csv module knows how to go on."""
        if b'"' in block:
            return None
        settled = bool(self.columns)
        if not settled:
            block, blank = _without_start(block)
            if not block:
                return None
            if self.settle(_peek(block, ","), blank + 1):
                block = block[block.index(b"\n") + 1 :]
        frame = self.fast(block) if block else self.frame([])
        if frame is None and not settled:
            self.columns = ()
        return frame

    def _quoted(self, blocks: Iterable[bytes]) -> Iterator[tuple[pl.DataFrame, int]]:
        """Row by row to the end of the file."""
        rows = self._csv_rows(blocks)
        while batch := list(islice(rows, _CSV_BATCH)):
            if not self.columns and self.settle((row for _, row in batch), batch[0][0]):
                batch = batch[1:]
            frame = self.frame(self.checked(batch))
            yield frame, frame.height

    def _csv_rows(self, blocks: Iterable[bytes]) -> Iterator[tuple[int, Row]]:
        lines = self._lines(blocks)
        rows = csv.reader(lines, strict=True)
        while True:
            start = self.place.line + 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                self.place.bad(start, f"malformed CSV ({error})", "malformed CSV", cause=error)
                # A quote that is never closed takes all lines with it: each counts.
                self.place.drop("malformed CSV", self.place.line - start)
                rows = csv.reader(lines, strict=True)
                continue
            if row:
                yield start, tuple(row)

    def _lines(self, blocks: Iterable[bytes]) -> Iterator[str]:
        for block in blocks:
            for raw in block[:-1].split(b"\n"):
                self.place.line += 1
                text = decode(raw.removeprefix(_BOM) if self.place.line == 1 else raw, self.place.line, self.place)
                if text is not None:
                    yield text + "\n"
