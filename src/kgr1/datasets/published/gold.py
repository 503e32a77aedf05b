"""Gold answers as published files write them: entities, numbers, dates, truth values."""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable

from kgr1.types import GoldAnswer

_DATE = re.compile(r"[+]?(-?\d{4,})(?:-(\d\d)(?:-(\d\d))?)?(?:T00:00:00(?:\.0+)?Z?|Z)?")
_NUMBER = re.compile(r"[+](\d+(?:\.\d+)?)")
_TRUTH = {True: ("true", ("yes",)), False: ("false", ("no",))}


def entity(identifier: str, label: str = "", aliases: Iterable[str] = ()) -> GoldAnswer:
    """A gold entity; without a label it is called by its identifier."""
    label = label.strip() or identifier
    others = dict.fromkeys(alias for alias in aliases if alias.strip() and alias != label)
    return GoldAnswer(label=label, id=identifier, aliases=tuple(others))


def truth(value: bool) -> GoldAnswer:
    """The answer of a yes-or-no question.

    >>> truth(True).label, truth(True).aliases
    ('true', ('yes',))
    """
    label, aliases = _TRUTH[value]
    return GoldAnswer(label=label, aliases=aliases)


def literal(value: str, aliases: Iterable[str] = ()) -> GoldAnswer:
    """A value that is no entity. Dates become ISO dates, with the ways to write them as aliases.

    A first of January is also found by its year alone: files write years so.

    >>> literal("1994-03-01T00:00:00Z").label, literal("1994-03-01").aliases
    ('1994-03-01', ('1 March 1994', 'March 1, 1994'))
    >>> literal("+1977-01-01T00:00:00Z").aliases
    ('1 January 1977', 'January 1, 1977', '1977')
    >>> literal("+100").label, literal("2007-02").aliases
    ('100', ('February 2007',))
    """
    value = value.strip()
    label, other = _date(value) or (value, ())
    if not other and (number := _NUMBER.fullmatch(value)) is not None:
        label, other = number[1], (value,)
    names = dict.fromkeys(alias for alias in (*other, *aliases) if alias.strip() and alias != label)
    return GoldAnswer(label=label, aliases=tuple(names))


def _date(text: str) -> tuple[str, tuple[str, ...]] | None:
    """A date in ISO form and its other forms, or None for anything else."""
    match = _DATE.fullmatch(text)
    if match is None or (match[2] is None and (text[0] == "+" or text != match[1])):
        return None
    year, month, day = match[1], int(match[2] or 0), int(match[3] or 0)
    if month > 12 or day > 31:
        return None
    if not month:
        return year, ()
    name = calendar.month_name[month]
    if not day:
        return f"{year}-{month:02}", (f"{name} {year}",)
    forms = (f"{day} {name} {year}", f"{name} {day}, {year}")
    return f"{year}-{month:02}-{day:02}", (*forms, year) if (month, day) == (1, 1) else forms


def identity(answer: GoldAnswer) -> str:
    """What tells gold answers apart: their identifiers, or their labels where there are none."""
    return answer.label if answer.id is None else answer.id


def unique(answers: Iterable[GoldAnswer]) -> tuple[GoldAnswer, ...]:
    """The answers, each entity once, with all its names."""
    found: dict[str, GoldAnswer] = {}
    for answer in answers:
        key = identity(answer)
        known = found.get(key)
        if known is None:
            found[key] = answer
            continue
        names = dict.fromkeys((*known.aliases, answer.label, *answer.aliases))
        names.pop(known.label, None)
        found[key] = known.model_copy(update={"aliases": tuple(names)})
    return tuple(found.values())
