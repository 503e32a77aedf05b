"""What a question says about times, and which dated results it means by that (``agent.comparisons``).

Facts of a graph may have dates (:mod:`kgr1.graph.temporal`), and results are shown with those of their facts. *In May
2008*, *before 2010*, *before China*, *the first*: such words choose among the results, and *when*, *in which year* asks
for the dates themselves, for which ``*`` then stands in an answer. English words; what they say is not looked up.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import NamedTuple

from kgr1.agent.spans import MONTHS, fold
from kgr1.graph.temporal import OPEN_END, OPEN_START, UNDATED, Span, TimeFilter, parse_date, parse_filter, parse_span
from kgr1.graph.words import question_words, word_stems
from kgr1.types import Observation, Question

_NAMES = "jan feb mar apr may jun jul aug sep oct nov dec"
_MONTH = {name: number for number, name in enumerate(_NAMES.split(), 1)}
_MONTH_NAME = "|".join(sorted(MONTHS, key=len, reverse=True))
_DATES = (
    re.compile(r"(?<![\d-])(?P<y>\d{4})-(?P<m>\d\d?)-(?P<d>\d\d?)(?![\d-])"),
    re.compile(r"(?<![\d-])(?P<m>\d\d?)[-/.](?P<d>\d\d?)[-/.](?P<y>\d{4})(?![\d-])"),
    re.compile(
        rf"\b(?P<d>\d\d?)(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<m>{_MONTH_NAME})\.?,?\s+(?:of\s+)?(?P<y>\d{{4}})\b", re.I
    ),
    re.compile(rf"\b(?P<m>{_MONTH_NAME})\.?\s+(?P<d>\d\d?)(?:st|nd|rd|th)?(?:,\s*|\s+)(?P<y>\d{{4}})\b", re.I),
    re.compile(rf"\b(?P<m>{_MONTH_NAME})\.?,?\s+(?:of\s+)?(?P<y>\d{{4}})\b", re.I),
    re.compile(r"(?<![\d-])(?P<y>\d{4})-(?P<m>\d\d)(?![\d-])"),
    re.compile(r"(?<![\w-])(?P<y>[12]\d{3})(?![\w-])"),
)
_YEARS = re.compile(
    r"\b(?:between|from)\s+(?P<from>[12]\d{3})\s+(?:and|to|until|till)\s+(?P<to>[12]\d{3})\b", re.IGNORECASE
)
_BEFORE = re.compile(r"\b(?P<not>not? )?(?:before|prior to|earlier than)\W+(?:\w+\W+){0,2}$", re.IGNORECASE)
_AFTER = re.compile(r"\b(?P<not>not? )?(?:after|later than)\W+(?:\w+\W+){0,2}$", re.IGNORECASE)
_TIMES = r"point in time|start(?:ing)? (?:time|date)|end(?:ing)? (?:time|date)"
_ASKED = re.compile(
    rf"\b(?:{_TIMES}"
    r"|(?:what|which)\s+(?:\w+\s+)?(?P<unit>year|month|day|date|time)(?!\s+(?:zone|care|old)s?\b)"
    r"|the (?:date|year)(?= \w|\W*$)|and when(?= (?:do|does|did|is|are|was|were|will)\b|\W*$))\b",
    re.IGNORECASE,
)
_OTHERS = r"\b(?:who|whom|whose|what|which|where|why|how)\b"
_TO = r"(?:in|on|at|by|to|of|for|from|with)"
_WHEN = re.compile(rf"(?:(?!{_OTHERS}).)*\bwhen\b(?!.*,\s*(?:{_TO}\s+)?{_OTHERS})", re.IGNORECASE | re.DOTALL)
_ENDS = r"(?P<{}>start|begin|end|finish)(?:ing)?"
_BOTH = re.compile(
    rf"\b{_ENDS.format('one')}(?:\s+(?:time|date))?\s+and\s+(?:the\s+)?{_ENDS.format('other')}\b", re.IGNORECASE
)
_AND_WHEN = re.compile(rf"{_OTHERS}.*\band\s+(?:the\s+)?(?:{_TIMES}|when)\b", re.IGNORECASE | re.DOTALL)
_END = re.compile(
    r"\b(?:end|ends|ended|ending|leave|leaves|leaving|left|until|till|stop\w*|finish\w*|over|die[sd]?|death|divorc\w*"
    r"|retire\w*|cease\w*|no longer|br[eo]a?ke? up)\b",
    re.IGNORECASE,
)
_FIRST = re.compile(r"\b(?:first|earliest)\b", re.IGNORECASE)
_LAST = re.compile(r"\b(?:last|latest|most recent(?:ly)?)\b", re.IGNORECASE)
_NOW = re.compile(r"\b(?:now|today|current(?:ly)?)\b", re.IGNORECASE)
_BEGAN = re.compile(r"\b(?:start\w*|beg[aiu]n\w*|since|became|becoming)\b", re.IGNORECASE)
_UNITS = {"year": 1, "month": 2}  # parts of a date


class Moment(NamedTuple):
    """One fact of a result: its name, when it holds, and how that is written."""

    name: str
    span: Span
    text: str


class Timing(NamedTuple):
    """What a question says about times."""

    asks: bool = False  # for the time itself
    parts: int = 3  # of its date: year, month, day
    end: bool = False  # for the end of it
    order: int = 0  # -1: the first is meant, 1: the last
    limit: TimeFilter | None = None
    edge: int = 0  # within which -1: it began, 1: it ended
    now: bool = False  # what holds still is meant
    both: bool = False  # asks for the start and the end
    named: bool = False  # asks for what the time is of, too


@lru_cache(maxsize=1024)
def read_timing(text: str) -> Timing:
    """What a question says about times.

    >>> read_timing("In which month did Iraq first visit China?")
    Timing(asks=True, parts=2, end=False, order=-1, limit=None, edge=0, now=False, both=False, named=False)
    >>> read_timing("Who visited China on 16 May 2008?").limit == parse_filter("2008-05-16")
    True
    >>> read_timing("Who visited China after May 2008?").limit == parse_filter("after 2008-05")
    True
    >>> read_timing("Who visited China?") == Timing()
    True
    """
    limit = _limit(text)
    # In "Who was in office when Obama was born?" the time is given.
    asked = None if limit else _ASKED.search(text)
    asks = asked is not None or (limit is None and _WHEN.match(text) is not None)
    parts = _UNITS.get((asked["unit"] or "").lower(), 3) if asked else 3
    now = limit is None and _NOW.search(text) is not None
    order = -1 if _FIRST.search(text) else 1 if now or _LAST.search(text) else 0
    ends = _END.search(text) is not None
    edge = 0 if limit is None or limit.inside else 1 if ends else -1 if _BEGAN.search(text) else 0
    edges = _BOTH.search(text) if asks else None
    both = edges is not None and edges["one"].casefold() != edges["other"].casefold()
    named = asks and not both and _AND_WHEN.match(text) is not None
    return Timing(asks, parts, asks and ends, order, limit, edge, now, both, named)


def _limit(text: str) -> TimeFilter | None:
    years = _YEARS.search(text)
    if years is not None and (limit := parse_filter(f"{years['from']}/{years['to']}")):
        return limit
    for form in _DATES:
        found = form.search(text)
        if found is not None and (limit := parse_filter(_worded(_date_of(found), text[: found.start()]))):
            return limit
    return None


def _date_of(found: re.Match[str]) -> str:
    """A date as it is read from a question: 2008, 2008-05 or 2008-05-17."""
    groups = found.groupdict()
    month, day = groups.get("m"), int(groups.get("d") or 0)
    if not month:
        return groups["y"]
    number = int(month) if month.isdigit() else _MONTH[month[:3].lower()]
    if number > 12 >= day:
        number, day = day, number  # 14/12/2008
    return groups["y"] + (f"-{number:02}" if number else "") + (f"-{day:02}" if number and day else "")


def _worded(date: str, before: str) -> str:
    """A filter from a date and what stands before it in the question."""
    if found := _BEFORE.search(before):
        return f"{date}/" if found["not"] else f"before {date}"
    if found := _AFTER.search(before):
        return f"/{date}" if found["not"] else f"after {date}"
    return date


def moments_of(found: Observation, names: Collection[str]) -> list[Moment]:
    """The dated facts of those results that are among ``names``."""
    names = set(names)
    return [
        Moment(name, span, text)
        for name, texts in zip(found.names, found.times, strict=False)
        if name in names
        for text in texts
        if (span := parse_span(text)) is not None
    ]


def meant(question: Question, timing: Timing, moments: Sequence[Moment], others: Collection[str]) -> list[Moment]:
    """Those of ``moments`` that the question means; all of them if it says nothing that tells them apart.

    ``others`` are the topics that they are not results of. Where a time is asked for, results that are topics are
    meant, or those that have most words in common with the question.
    """
    kept = _beside(question, moments)
    if timing.limit is not None:
        kept = [each for each in kept if holds(each, timing.limit, timing.edge)] or [
            each for each in kept if holds(each, timing.limit)
        ]
    if timing.asks:
        kept = [each for each in kept if each.name in others] or _alike(question, kept)
    if timing.now:
        kept = [each for each in kept if each.span[1] == OPEN_END] or kept
    if timing.order and kept:
        kept = [each for each in kept if each.span[0] != OPEN_START] or kept
        edges = [each.span[0] for each in kept]
        edge = min(edges) if timing.order < 0 else max(edges)
        kept = [each for each in kept if each.span[0] == edge]
    return kept or list(moments)


def fits(timing: Timing, found: Observation) -> bool:
    """Whether a result has something at the time that a question names, or a date if the question asks for one.

    Names of events say when they were, too: *2012 World Series*.
    """
    limit = timing.limit
    if limit is None and not timing.asks:
        return True
    moments = moments_of(found, found.names)
    if limit is None:
        return bool(moments) or any(_limit(name) is not None for name in found.names)
    if any(holds(each, limit) for each in moments):
        return True
    named = (each for name in found.names if (each := _limit(name)) is not None)
    return any(each.low <= limit.high and each.high >= limit.low for each in named)


def holds(moment: Moment, limit: TimeFilter, edge: int = 0) -> bool:
    """Whether a fact holds then, or with ``edge`` began (-1) or ended (1) then."""
    start, slash, end = moment.text.partition("/")
    span = moment.span
    if edge:
        span = parse_date(end if edge > 0 and slash else start) or UNDATED
    if limit.inside:
        return limit.low <= span[0] and span[1] <= limit.high
    return span[0] <= limit.high and span[1] >= limit.low


def _beside(question: Question, moments: Sequence[Moment]) -> list[Moment]:
    """Those before or after one that the question names: "before China", "after Boris Johnson"."""
    text = f" {fold(question.text)} "
    for name in sorted({each.name for each in moments}, key=len, reverse=True):
        found = re.search(rf"\b(before|after)\s+(?:the\s+)?{re.escape(fold(name))}(?!\w)", text)
        if found is None:
            continue
        others = [each for each in moments if each.name != name]
        starts = [each.span[0] for each in moments if each.name == name]
        if found[1] == "before":
            return [each for each in others if each.span[0] < max(starts)]
        return [each for each in others if each.span[0] > min(starts)]
    return list(moments)


def _alike(question: Question, moments: Sequence[Moment]) -> list[Moment]:
    """Those whose names have most words in common with the question."""
    words = word_stems(fold(" ".join(question_words(question))))
    shared = {name: len(words & word_stems(fold(name))) for name in {each.name for each in moments}}
    most = max(shared.values(), default=0)
    return [each for each in moments if shared[each.name] == most]


def unlike(timing: Timing, moments: Sequence[Moment]) -> list[Moment]:
    """The first of those that begin, or end, at the same time, as exactly as is asked for; none without a date."""
    kept: dict[tuple[str, ...], Moment] = {}
    for each in moments:
        if when := _when(timing, each):
            kept.setdefault(when, each)
    return list(kept.values())


def dates(timing: Timing, moments: Sequence[Moment]) -> list[str]:
    """When the moments begin, or end, as exactly as is asked for; each date once.

    >>> dates(Timing(asks=True, parts=1), [Moment("A", (0, 0), "1970-01-01/1971"), Moment("B", (0, 0), "1969")])
    ['1970', '1969']
    >>> dates(Timing(asks=True, end=True), [Moment("A", (0, 0), "1970-01-01/1971")])
    ['1971']
    """
    return [*dict.fromkeys(date for each in moments for date in _when(timing, each))]


def answers(timing: Timing, names: Sequence[str], when: Sequence[str]) -> list[str]:
    """What a question asks for of results and their :func:`dates`: the names, the dates if there are any, or both."""
    return [*names, *when] if timing.named or not when else [*when]


def _when(timing: Timing, moment: Moment) -> tuple[str, ...]:
    """When a moment begins, or ends, or both; empty if that has no date."""
    start, slash, end = moment.text.partition("/")
    edges = (start, end) if timing.both else (end if timing.end and slash else start,)
    return tuple("-".join(edge.split("-")[: timing.parts]) for edge in edges if edge and edge[0] != "-")
