"""Dates of facts: spans of days, how they are written, and the filters that queries carry.

A span is a pair (start, end) of days since 1970-01-01 in the proleptic Gregorian calendar, both ends included. Years
are astronomical as in ISO 8601: 0 is 1 BC, -43 is 44 BC. An open start is :data:`OPEN_START`, an open end
:data:`OPEN_END`; a fact without dates has :data:`UNDATED`, which is no span (it ends before it starts).

The text of a span is as short as it can be without loss: ``2014`` for a whole year, ``2014-05`` for a month,
``2014-05-17`` for a day, ``1990/1994`` for the years 1990 to 1994, ``1990/`` and ``/1994`` with an open end or start.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

OPEN_START = -(2**31)
OPEN_END = 2**31 - 1
Span = tuple[int, int]
UNDATED: Span = (OPEN_END, OPEN_START)

FILTER_FORMS = '"2014", "2014-05", "2014-05-17", "2012/2014", "before 2014" or "after 2014-05"'

# Wikidata writes an unknown month or day as 00, RDF adds a time of day and a zone; both say no more than the day does.
_DATE = re.compile(r"([+-]?)(\d{1,6})(?:-(\d\d))?(?:-(\d\d))?(?:T[\d:.]+)?(?:Z|[+-]\d\d:\d\d)?", re.ASCII)
_WORDS = re.compile(r"(before|after|during|in|on)\s+(\S+)", re.IGNORECASE)


class TimeFilter(NamedTuple):
    """Keeps the spans that have a day in [low, high] or, with ``inside``, lie in it altogether."""

    low: int
    high: int
    inside: bool = False

    def mask(self, starts: npt.NDArray[np.int32], ends: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """Which of the spans, (n,) each, are kept. Facts without dates never are."""
        kept = (starts >= self.low) & (ends <= self.high) if self.inside else (starts <= self.high) & (ends >= self.low)
        return kept & (starts <= ends)


@lru_cache(maxsize=65_536)
def parse_date(text: str) -> Span | None:
    """The days of a year, month or day; None if the text is no date.

    >>> parse_date("1970-01"), parse_date("1969-12-31T00:00:00Z"), parse_date("1970-13")
    ((0, 30), (-1, -1), None)
    """
    found = _DATE.fullmatch(text.strip())
    if found is None:
        return None
    sign, year, month, day = found.groups()
    parts = [f"{'-' if sign == '-' else ''}{int(year):04}"]
    for part in (month, day):
        if part is None or part == "00":
            break
        parts.append(part)
    unit: Any = ("Y", "M", "D")[len(parts) - 1]
    try:
        first = np.datetime64("-".join(parts), unit)
    except ValueError:  # month 13, 30 February
        return None
    start = first.astype("M8[D]").astype(int)
    end = (first + 1).astype("M8[D]").astype(int) - 1
    return int(start), int(end)


def parse_span(start: str, end: str | None = None) -> Span | None:
    """The span from the first day of ``start`` to the last day of ``end``; None if a text is no date.

    Without ``end`` the text ``start`` may be a date or a span such as ``1990/1994``. Empty texts are open ends, and
    both empty mean no dates.

    >>> parse_span("1970") == parse_span("1970/1970") == parse_span("1970-01-01", "1970-12") == (0, 364)
    True
    """
    if end is None:
        start, slash, end = start.partition("/")
        end = end if slash else start
    first = parse_date(start) if start.strip() else (OPEN_START, OPEN_START)
    last = parse_date(end) if end.strip() else (OPEN_END, OPEN_END)
    if first is None or last is None:
        return None
    span = first[0], last[1]
    if span == (OPEN_START, OPEN_END):
        return UNDATED
    return span if span[0] <= span[1] else None


@lru_cache(maxsize=65_536)
def format_span(start: int, end: int) -> str:
    """The text of a span; empty for a fact without dates.

    >>> format_span(0, 0), format_span(0, 364), format_span(0, 729), format_span(31, OPEN_END)
    ('1970-01-01', '1970', '1970/1971', '1970-02/')
    """
    if start > end:
        return ""
    if start != OPEN_START and end != OPEN_END:
        whole = _whole(start, end)
        if whole:
            return whole
    return f"{_edge(start, first=True)}/{_edge(end, first=False)}"


def _whole(start: int, end: int) -> str:
    """The year, month or day that the span is; empty if it is none."""
    for unit in ("Y", "M", "D"):
        period = np.datetime64(start, "D").astype(f"M8[{unit}]")
        if _bounds(period) == (start, end):
            return _text(period)
    return ""


def _edge(day: int, *, first: bool) -> str:
    if day in (OPEN_START, OPEN_END):
        return ""
    for unit in ("Y", "M"):
        period = np.datetime64(day, "D").astype(f"M8[{unit}]")
        if _bounds(period)[0 if first else 1] == day:
            return _text(period)
    return _text(np.datetime64(day, "D"))


def _text(period: np.datetime64) -> str:
    text = str(period)
    return text if text[0] != "-" else f"-{text[1:].partition('-')[0]:0>4}{text[len(text.split('-')[1]) + 1 :]}"


def _bounds(period: np.datetime64) -> Span:
    return int(period.astype("M8[D]").astype(int)), int((period + 1).astype("M8[D]").astype(int)) - 1


@lru_cache(maxsize=4096)
def parse_filter(text: str) -> TimeFilter | None:
    """Read a filter; None if it has none of the :data:`FILTER_FORMS`.

    A date or span keeps the facts that hold at some time in it. ``before X`` keeps those that were over before X began,
    ``after X`` those that began when X was over. Facts without dates match no filter.

    >>> parse_filter("before 1970")
    TimeFilter(low=-2147483648, high=-1, inside=True)
    """
    text = text.strip()
    words = _WORDS.fullmatch(text)
    word, date = (words[1].lower(), words[2]) if words else ("", text)
    span = parse_span(date)
    if span is None or span == UNDATED:
        return None
    if word == "before":
        return TimeFilter(OPEN_START, span[0] - 1, inside=True) if span[0] != OPEN_START else None
    if word == "after":
        return TimeFilter(span[1] + 1, OPEN_END, inside=True) if span[1] != OPEN_END else None
    return TimeFilter(*span)
