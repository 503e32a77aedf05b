"""Dates of tables and JSON: text to days since 1970-01-01.

A fact has one date (``2014``, ``2014-05``, ``2014-05-17``, a span ``1990/1994``, open ``1990/`` or ``/1994``) or a
start and an end, either of which may be empty (open). The time of day in ``2014-05-17T08:30:00Z`` is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

import polars as pl

from kgr1.graph.readers.place import Place
from kgr1.graph.temporal import OPEN_END, OPEN_START, UNDATED, Span, parse_date

FORMS = "write 2014, 2014-05, 2014-05-17, 1990/1994, 1990/ or /1994, and -43 for 44 BC"
REVERSED = "dates that end before they start (the facts are kept without them)"

_LOOKS = re.compile(r"-?\d{4}(?:-\d\d(?:-\d\d(?:T.*)?)?)?(?:/(?:-?\d{4}(?:-\d\d(?:-\d\d)?)?)?)?", re.ASCII)


def looks_dated(texts: Iterable[str]) -> bool:
    """True if most of the texts that are not empty are dates, and more than a short number.

    The others may be anything: a reader that takes the column for dates names the row of one that is none.
    """
    filled = [text for text in texts if text.strip()]
    return 2 * sum(1 for text in filled if _LOOKS.fullmatch(text.strip())) > len(filled)


@lru_cache(maxsize=1 << 16)
def span(text: str) -> Span | None:
    """Span of the one date of a fact; None if the text is none. It may end before it starts.

    >>> span("1970-01-02/1970-01-04"), span("") == UNDATED
    ((1, 3), True)
    """
    first, slash, last = text.partition("/")
    return joined(first, last if slash else first)


@lru_cache(maxsize=1 << 16)
def joined(first: str, last: str) -> Span | None:
    """Span from the first day of one date to the last day of another; an empty one is open, two are no dates."""
    if not first.strip() and not last.strip():
        return UNDATED
    begin = parse_date(first) if first.strip() else (OPEN_START, OPEN_START)
    end = parse_date(last) if last.strip() else (OPEN_END, OPEN_END)
    return (begin[0], end[1]) if begin and end else None


def problem(time: str | None, first: str | None, last: str | None) -> str | None:
    """What is wrong with the dates of a row, or None."""
    if time is not None and span(time) is None:
        return f"{time[:40]!r} is no date; {FORMS}"
    wrong = next((text for text in (first, last) if text and text.strip() and parse_date(text) is None), None)
    return None if wrong is None else f"{wrong[:40]!r} is no date; write 2014, 2014-05 or 2014-05-17, and -43 for 44 BC"


def with_spans(frame: pl.DataFrame, place: Place) -> pl.DataFrame | None:
    """The frame with Int32 ``start`` and ``end`` in place of text columns ``time`` or ``start`` and ``end``.

    None if a text is no date. Every distinct text is read once. A fact that ends before it starts loses both dates,
    which is counted.
    """
    if "time" in frame.columns:
        keys = ["time"]
    elif "start" in frame.columns or "end" in frame.columns:
        frame = frame.with_columns(pl.lit("").alias(key) for key in ("start", "end") if key not in frame.columns)
        keys = ["start", "end"]
    else:
        return frame
    frame = frame.with_columns(pl.col(key).fill_null("") for key in keys)
    distinct = frame.select(keys).unique()
    found = [span(row[0]) if len(keys) == 1 else joined(*row) for row in distinct.iter_rows()]
    spans = [pair for pair in found if pair is not None]
    if len(spans) < len(found):
        return None
    wrong = [start > end and (start, end) != UNDATED for start, end in spans]
    kept = [UNDATED if bad else pair for pair, bad in zip(spans, wrong, strict=True)]
    days = distinct.with_columns(
        pl.Series("_start", [start for start, _ in kept], pl.Int32),
        pl.Series("_end", [end for _, end in kept], pl.Int32),
        pl.Series("_wrong", wrong, pl.Boolean),
    )
    frame = frame.join(days, on=keys, how="left", maintain_order="left").drop(keys)
    place.drop(REVERSED, int(frame["_wrong"].sum()))
    return frame.drop("_wrong").rename({"_start": "start", "_end": "end"})
