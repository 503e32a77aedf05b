"""What the systems read from a model's reply: answers, picks with scores, verdicts.

Every prompt asks for JSON, and small models write around it. So the first or last piece of JSON of the right kind is
taken, wherever it stands; lists of answers go through the one parser of the package, :func:`parse_answer`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kgr1.agent.parse import parse_answer
from kgr1.rewards.answer import normalise

_ANSWER = re.compile(r"\banswers?\s*:", re.IGNORECASE)
_LINE = re.compile(r"^\s*[-*]?\s*(\d{1,4})\s*[:=]\s*([01]?\.\d+|[01])\s*$", re.MULTILINE)
_VERDICT = re.compile(r"\b(yes|no)\b", re.IGNORECASE)
_MAX_BRACKETS = 200  # where JSON may begin; each is tried once


def read_answers(text: str, seen: Sequence[str] = (), *, marked: bool = False) -> tuple[tuple[str, ...], bool]:
    """The answers in a reply, and whether they were a JSON list of strings.

    What follows the last "Answer:" counts, or all of the text; in it the last JSON list, or else whatever the tolerant
    parser makes of it. With ``marked`` a text that has neither the mark nor a list has no answer: it is reasoning that
    came to no end.

    >>> read_answers('France is in Europe.\\nAnswer: ["Paris"]')
    (('Paris',), True)
    >>> read_answers("I think that", marked=True)
    ((), False)
    """
    marks = list(_ANSWER.finditer(text))
    tail = text[marks[-1].end() :] if marks else text
    lists = [found for found in _json(tail, "[", list) if all(isinstance(item, str) for item in found)]
    if lists:
        return parse_answer(json.dumps(lists[-1]), seen)
    if (marked and not marks) or not tail.strip():
        return (), False
    return parse_answer(tail.strip(), seen)


def read_picks(text: str, names: Sequence[str], most: int) -> dict[int, float]:
    """Positions of the picked names with scores that sum to 1, best first; empty if nothing can be read.

    ``{"2": 0.6, "1": 0.4}`` picks by number (from 1), ``{"capital": 0.6}`` by name; ``2: 0.6`` on a line of its own
    counts as well. Scores that are not above 0 pick nothing, and only the ``most`` best are kept.

    >>> read_picks('Sure: {"2": 0.9, "city": 0.3, "7": 0.1}', ["capital", "city", "mayor"], most=3)
    {1: 1.0}
    """
    found: dict[int, float] = {}
    forms = {normalise(name): position for position, name in reversed(list(enumerate(names)))}
    for key, score in _pairs(text):
        by_number = int(key) - 1 if re.fullmatch(r"[0-9]{1,4}", key.strip()) else -1
        position = by_number if 0 <= by_number < len(names) else forms.get(normalise(key))
        if position is not None and 0 < score < math.inf:
            found.setdefault(position, score)
    best = sorted(found, key=lambda position: (-found[position], position))[:most]
    total = sum(found[position] for position in best)
    return {position: found[position] / total for position in best}


def read_scores(text: str, count: int) -> list[float]:
    """``count`` scores that sum to 1: those of a JSON list, or all the same if it has another length or no sum.

    >>> read_scores("[3, 1]", 2), read_scores("[0.5]", 2)
    ([0.75, 0.25], [0.5, 0.5])
    """
    for found in _json(text, "[", list):
        scores = [_number(item) for item in found]
        total = sum(scores)
        if len(scores) == count and 0 < total < math.inf and min(scores) >= 0:
            return [score / total for score in scores]
    return [1 / count] * count


def read_verdict(text: str, seen: Sequence[str] = ()) -> tuple[bool, tuple[str, ...], bool]:
    """Whether the first yes or no is a yes, the answers behind it, and whether those were a JSON list.

    Neither of both is a no.
    """
    verdict = _VERDICT.search(text)
    if verdict is None or verdict[1].lower() == "no":
        return False, (), False
    rest = text[verdict.end() :].lstrip(" .,:;-\n")
    return (True, *read_answers(rest, seen)) if rest else (True, (), False)


def read_paths(text: str, most: int, longest: int) -> list[tuple[str, ...]]:
    """Relation paths of a JSON list of lists (or of one such path): distinct, at most ``most`` of ``longest`` steps.

    >>> read_paths('[["mayor", "born in"], ["mayor"], ["mayor"], []]', most=3, longest=3)
    [('mayor', 'born in'), ('mayor',)]
    """
    for found in _json(text, "[", list):
        inner = [found] if found and all(isinstance(step, str) for step in found) else found
        paths = [
            tuple(step.strip() for step in path)
            for path in inner
            if isinstance(path, list) and path and all(isinstance(step, str) and step.strip() for step in path)
        ]
        kept = [path for path in dict.fromkeys(paths) if len(path) <= longest][:most]
        if kept:
            return kept
    return []


def _pairs(text: str) -> list[tuple[str, float]]:
    for found in _json(text, "{", dict):
        pairs = [(str(key), _number(value)) for key, value in found.items()]
        if any(score > 0 for _, score in pairs):
            return pairs
    return [(match[1], float(match[2])) for match in _LINE.finditer(text)]


def _number(value: Any) -> float:
    """A JSON number, also one in quotes; -1 for anything else."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else -1.0
    except (ValueError, OverflowError):
        return -1.0
    return number if math.isfinite(number) else -1.0


def _json(text: str, bracket: str, kind: type) -> Iterator[Any]:
    """Every piece of JSON of one kind, from left to right, none inside another."""
    decode: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().raw_decode
    position = 0
    for _ in range(_MAX_BRACKETS):
        position = text.find(bracket, position)
        if position < 0:
            return
        try:
            value, end = decode(text, position)
        except (ValueError, RecursionError):
            position += 1
            continue
        if isinstance(value, kind):
            yield value
        position = end


def numbered(names: Sequence[str]) -> list[str]:
    """Lines that number candidates from 1."""
    return [f"{number}. {name}" for number, name in enumerate(names, start=1)]


def ordered(scores: Mapping[int, float]) -> list[int]:
    """Positions, the best score first, equal ones in their order."""
    return sorted(scores, key=lambda position: (-scores[position], position))
