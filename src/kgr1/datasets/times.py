"""Times in made questions: a filter that fits the dates of some facts, and how a question says it.

Filters are those that queries take (:mod:`kgr1.graph.temporal`): at a time, between two, before one, after one.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from kgr1.graph.temporal import Span, format_span, parse_filter

FORMS = ("at", "between", "before", "after")
"""Of filters: a date, two dates, or a word and a date."""

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_WORDS: Mapping[str, tuple[str, ...]] = {
    "at": ("in {x}",),
    "on": ("on {x}",),
    "between": ("between {x} and {y}", "from {x} to {y}"),
    "before": ("before {x}",),
    "after": ("after {x}",),
}


def draw_filter(spans: Sequence[Span], form: str, rng: random.Random) -> str | None:
    """A filter of one of the :data:`FORMS`, made of the dates of some facts; None if the drawn ones do not give it.

    A date of a fact is taken as it stands or cut to its month or year, so no filter is finer than the facts are. Dates
    before the year 1 are not used: people write them in too many ways.
    """
    first = _draw_date(spans, rng)
    if first is None or form == "at":
        return first
    if form != "between":
        return f"{form} {first}"
    second = _draw_date(spans, rng)
    if second is None or first.count("-") != second.count("-") or first == second:
        return None
    return "/".join(sorted((first, second)))


def _draw_date(spans: Sequence[Span], rng: random.Random) -> str | None:
    if not spans:
        return None
    edges = [edge for edge in format_span(*rng.choice(spans)).split("/") if edge and not edge.startswith(("-", "0000"))]
    if not edges:
        return None
    parts = rng.choice(edges).split("-")
    return "-".join(parts[: rng.randint(1, len(parts))])


def in_words(time: str, rng: random.Random) -> str:
    """What a question says for a filter of :func:`draw_filter`.

    >>> in_words("before 2014-02", random.Random(0)), in_words("2014-02-16", random.Random(0))
    ('before February 2014', 'on 16 February 2014')
    """
    assert parse_filter(time) is not None, time
    word, _, date = time.rpartition(" ")
    first, _, second = date.partition("/")
    form = word or ("between" if second else "on" if first.count("-") == 2 else "at")
    template = rng.choice(_WORDS[form])
    return template.format(x=_date_in_words(first), y=_date_in_words(second) if second else "")


def _date_in_words(date: str) -> str:
    year, *rest = date.split("-")
    parts = [str(int(year))]
    if rest:
        parts.append(_MONTHS[int(rest[0]) - 1])
    if len(rest) > 1:
        parts.append(str(int(rest[1])))
    return " ".join(reversed(parts))
