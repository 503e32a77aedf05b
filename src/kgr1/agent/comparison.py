"""What a question compares: "founded before 1994", "more than 100 beds", "the largest", among what was found.

The operations of the graph compare nothing. So where a question does, the facts of what was found are looked at
(:class:`kgr1.agent.scout.Scout`), and of the relations that lead to numbers or dates the one whose name has most in
common with the words of the question says which of the results are meant (:func:`compare`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kgr1.agent.connection import MOST_LINKED
from kgr1.graph.temporal import parse_date
from kgr1.graph.words import question_words, short_name, word_stems
from kgr1.types import STEP, Observation, Query, Question

DAYS = 365.2425
"""Of a year."""

_LESS = r"before|prior to|earlier than|(?:less|fewer|smaller|lower|shorter) than|below|under"
_MORE = r"after|later than|(?:more|greater|larger|higher|longer|bigger) than|above|over"
_AT_MOST = r"at most|up to|not after|(?:no|not) (?:more|greater|larger|higher|longer|bigger|later) than"
_AT_LEAST = r"at least|since|not before|(?:no|not) (?:less|fewer|smaller|lower|shorter|earlier) than"
_THAN = re.compile(
    rf"\b(?:(?P<most>{_AT_MOST})|(?P<least>{_AT_LEAST})|(?P<less>{_LESS})|(?P<more>{_MORE}))\b(?P<what>.{{1,32}})",
    re.IGNORECASE,
)
_FIRST = re.compile(r"\b(?:first|earliest|oldest|smallest|fewest|lowest|(?<!at )least|shortest)\b", re.IGNORECASE)
_LAST = re.compile(r"\b(?:last|latest|newest|(?<!at )most|largest|biggest|highest|longest|greatest)\b", re.IGNORECASE)
_TIMES = re.compile(
    r"\b(?:before|after|since|prior|earl|later?\b|latest|first|oldest|last\b|newest|recent)", re.IGNORECASE
)
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_WRITTEN = re.compile(r"[+-]?\d[\d,]*(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_YEAR = re.compile(r"(?<!\d)\d{3,4}(?!\d)")


class Comparison(NamedTuple):
    """Which numbers are meant: those under or over ``bound``, or without one the least or the greatest."""

    less: bool
    bound: float | None = None
    of_times: bool = False  # it says so itself, whatever relation is meant
    within: bool = False  # the bound is meant, too

    def chosen(self, numbers: Mapping[str, float]) -> set[str]:
        """The names whose numbers are meant.

        >>> Comparison(less=False, bound=1994, of_times=True).chosen({"a": 1990, "b": 1994.5, "c": 2002})
        {'c'}
        >>> Comparison(less=True).chosen({"a": 1990, "b": 1994.5, "c": 2002})
        {'a'}
        """
        if self.bound is None:
            best = (min if self.less else max)(numbers.values(), default=0.0)
            return {name for name, number in numbers.items() if number == best}
        # All days of the year that a time is compared to are in it.
        above = self.bound + 1 if self.of_times else math.nextafter(self.bound, math.inf)
        edge = above if self.within is self.less else self.bound
        return {name for name, number in numbers.items() if (number < edge) is self.less}


def find_comparison(text: str) -> Comparison | None:
    """What a question compares, None if that is nothing.

    >>> find_comparison("Which club was founded before 1994?")
    Comparison(less=True, bound=1994.0, of_times=True, within=False)
    >>> find_comparison("Which club has at least 20,000 seats?")
    Comparison(less=False, bound=20000.0, of_times=False, within=True)
    >>> find_comparison("Which college has the largest number of students?")
    Comparison(less=False, bound=None, of_times=False, within=False)
    >>> find_comparison("Which college did Brees attend?")
    """
    of_times = _TIMES.search(text) is not None
    for than in _THAN.finditer(text):
        bound = (_YEAR if _TIMES.match(than[0]) else _NUMBER).search(than["what"])
        if bound is not None:
            within = than["most"] is not None or than["least"] is not None
            less = than["most"] is not None or than["less"] is not None
            return Comparison(less, float(bound[0].replace(",", "")), of_times, within)
    first, last = _FIRST.search(text), _LAST.search(text)
    return Comparison(first is not None, None, of_times) if first or last else None


def number_of(name: str) -> float | None:
    """A number, or a date as years; None for other names.

    >>> number_of("31,290"), number_of("1930"), round(number_of("1930-07-01"), 1), number_of("Spain")
    (31290.0, 1930.0, 1930.5, None)
    """
    if _WRITTEN.fullmatch(name):
        return float(name.replace(",", ""))
    days = parse_date(name)
    return None if days is None else 1970 + days[0] / DAYS


def compare(
    question: Question, comparison: Comparison, found: Mapping[str, str], facts: Iterable[Observation]
) -> list[Observation]:
    """The facts by which some of what was ``found``, by name and identifier, are meant, and others are not.

    ``facts`` are theirs. The relation is one that most of them have, and that has a word in common with the question,
    unless a time is compared and there is one relation to times only.
    """
    numbers: dict[str, dict[str, tuple[float, str]]] = {}
    for fact in facts:
        values = [(value, name) for name in fact.names if (value := number_of(name)) is not None]
        if fact.query.operation.outgoing and values:
            number = (min if comparison.less else max)(values)
            numbers.setdefault(fact.query.relation or "", {})[fact.query.entity] = number
    several = {relation: of for relation, of in numbers.items() if 2 * len(of) > len(found)}
    words = word_stems(" ".join(question_words(question)))
    shared = {relation: len(words & word_stems(short_name(relation))) for relation in several}
    best = max(several, key=lambda relation: (shared[relation], len(several[relation])), default=None)
    if best is None or not (shared[best] or (comparison.of_times and len(several) == 1)):
        return []
    chosen = comparison.chosen({name: number for name, (number, _) in several[best].items()})
    if len(chosen) == len(found) or len(chosen) > MOST_LINKED:
        return []
    back = STEP[False]
    return [
        Observation(
            query=Query(operation=back, entity=several[best][name][1], relation=best, graph_id=question.graph_id),
            names=(name,),
            ids=(found[name],),
            total=1,
        )
        for name in found
        if name in chosen
    ]
