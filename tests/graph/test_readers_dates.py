"""Dates of tables and JSON against the calendar of the standard library."""

from __future__ import annotations

import calendar
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kgr1.graph.readers import dates
from kgr1.graph.temporal import OPEN_END, OPEN_START

EPOCH = date(1970, 1, 1).toordinal()


@settings(deadline=None)
@given(st.dates())
def test_periods(day: date) -> None:
    number = day.toordinal() - EPOCH
    year, month = f"{day.year:04}", f"{day.month:02}"
    last = calendar.monthrange(day.year, day.month)[1]
    assert dates.span(day.isoformat()) == (number, number)
    assert dates.span(f"{year}-{month}") == (number - day.day + 1, number - day.day + last)
    assert dates.span(year) == (date(day.year, 1, 1).toordinal() - EPOCH, date(day.year, 12, 31).toordinal() - EPOCH)
    assert dates.span(f"{day.isoformat()}/") == (number, OPEN_END)
    assert dates.span(f"/{day.isoformat()}") == (OPEN_START, number)


@pytest.mark.parametrize("text", ["x", "2014-1-1", "2014-02-30", "1.5", "2014/x", "1234567", "２０１４"])
def test_what_is_no_date(text: str) -> None:
    assert dates.span(text) is None
    assert dates.problem(text, None, None) == f"{text!r} is no date; {dates.FORMS}"


@pytest.mark.parametrize(
    ("texts", "looks"),
    [
        (["2014", "2014-05", "2014-05-17", ""], True),
        (["632", "1990", "1991"], True),
        (["1", "2", "3"], False),
        (["2014", "soon"], False),
        (["2014", "2015", "44 BC"], True),  # its row is refused, not the column
        (["2014", "x", "y"], False),
        (["", ""], False),
        (["1990/1994", "1990/"], True),
    ],
)
def test_columns_that_look_like_dates(texts: list[str], looks: bool) -> None:
    assert dates.looks_dated(texts) is looks
