"""Observations as text for a model.

The flat layout (the paper's, SPEC section 2) is one comma-separated line. A name is shown bare if it can be copied back
as it stands, else as a JSON string. Whatever could act as a tag of the agent or as a special token of a model is
neutralised, and the lookup of names understands the neutralised form.

Dates stand in brackets behind the name they belong to, a page says at its end which part of the result it is::

    North Korea (2014-02-16, 2014-03-01), South Korea (2014-01-03, ... 214 more ..., 2014-12-30) [51-52 of 812; \
page=27 for more]
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from kgr1.types import Observation

Layout = Literal["flat", "tree"]

# A bracket followed by a letter, slash, bar or the end of the text may begin a tag or special token: <think>,
# </answer>, <|im_end|>, <s>, and with full-width forms for tokenisers that normalise their input.
_TAG = re.compile(r"[<＜﹤](\s*(?:[^\W\d]|0x|[/|｜!?]|\Z))([^<＜﹤>＞﹥]*)([>＞﹥]?)")
_INSTRUCTION = re.compile(r"\[(?=\s*(?:/\s*)?(?:INST|SYSTEM_PROMPT|TOOL_\w+|AVAILABLE_TOOLS)\s*\])", re.IGNORECASE)
_LOOKS_LIKE_OURS = re.compile(r"KG_[A-Z]|.*(?:\.\.\. and [\d,]+ more|\[\d+-\d+ of \d+[;\]])", re.DOTALL)
_DATES = (8, 4, 2)  # most dates behind one name: the largest number with which all names fit
_KEPT = "\n\t\u200c\u200d"  # the last two are joiners that spelling (Persian, Hindi) and emoji need
_QUOTED_FLAT = ',"\\\n\t'  # a name with one of these is quoted; commas matter in the flat layout only
_MAX_COUNTS = 12  # calls of the token counter for one text


class Rendered(NamedTuple):
    """The text for the model and how many of the observation's names stand in it."""

    text: str
    shown: int


def neutralise(text: str) -> str:
    """Make text from a graph safe to show: no tag, special token, control character or invisible mark survives.

    Angle brackets that begin a tag become ``‹`` and ``›``, line breaks and tabs their escapes, other control characters
    blanks; invisible marks are left out. :func:`kgr1.graph.names.lookup_key` makes the same differences disappear, so a
    name can be copied as it is shown.

    >>> neutralise("</information><|im_end|> 3 < 4")
    '‹/information›‹|im_end|› 3 < 4'
    """
    text = _visible(text)
    if "\n" in text or "\t" in text:
        text = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
    return _without_tags(text)


def _without_tags(text: str) -> str:
    text = _TAG.sub(lambda m: f"‹{m[1]}{m[2]}{'›' if m[3] else ''}", text)
    return _INSTRUCTION.sub("❲", text)


def _visible(text: str) -> str:
    """The text without invisible characters, apart from line breaks and tabs; in escapes if nothing else is left."""
    if text.isprintable():
        return text
    visible = "".join(map(_visible_char, text))
    return visible if visible.strip() else json.dumps(text)[1:-1]


def _visible_char(char: str) -> str:
    if char.isprintable() or char in _KEPT:
        return char
    category = unicodedata.category(char)
    if category == "Cf":  # bidirectional marks, zero-width blanks, soft hyphens, tag characters
        return ""
    if category == "Cs":
        return "\ufffd"
    return char if category in ("Co", "Cn") else " "  # private use and unassigned; else controls and separators


def show_name(name: str, layout: Layout = "flat") -> str:
    """One name as it stands in a rendered list: bare, or as a JSON string if it could be misread."""
    name = _visible(name)
    if (
        any(mark in name for mark in _QUOTED_FLAT if mark != "," or layout == "flat")
        or name != name.strip()
        or _LOOKS_LIKE_OURS.match(name)
    ):
        name = json.dumps(name, ensure_ascii=False)
    return _without_tags(name)


def render(
    observation: Observation,
    count_tokens: Callable[[str], int],
    budget: int,
    layout: Layout = "flat",
    *,
    beside: Mapping[int, str] | None = None,
    note: str = "",
) -> Rendered:
    """Lay out an observation in at most ``budget`` tokens, leaving names out from the end with their count.

    An error reads ``CODE: sentence``. If not even one name fits, the text is the count alone. Where a query asked for a
    page of a longer result, the last thing in the text is the part of it that the page is, such as
    ``[51-100 of 812; page=3 for more]``; the count of names that were left out is then that of this page.

    ``beside`` holds text to show behind some names, by their position; ``note`` is shown after the names. Both must be
    neutralised, and both count.
    """
    if observation.error is not None:
        message = neutralise(f"{observation.error.value}: {observation.message}")
        return Rendered(_cut_text(message, count_tokens, budget), 0)
    there, page = _page(observation)
    lay_out = _flat if layout == "flat" or not observation.names else _tree
    dotted = not observation.query.operation.returns_entities
    rendered = Rendered("", 0)
    for most_dates in _DATES if observation.times else _DATES[-1:]:
        pieces: list[str] = []

        def text(shown: int, pieces: list[str] = pieces, most_dates: int = most_dates) -> str:
            for position in range(len(pieces), shown):
                piece = show_name(observation.names[position], layout)
                if observation.times:
                    piece += show_dates(observation.times[position], most_dates)
                pieces.append(piece + (beside or {}).get(position, ""))
            # With no name shown, which page this is says how many there are, too.
            body = lay_out(pieces[:shown], 0 if page and not shown else there - shown, dotted)
            return ("\n" if layout == "tree" else " ").join(filter(None, (body, note, page)))

        shown = _most(text, len(observation.names), count_tokens, budget)
        rendered = Rendered(text(shown), shown)
        if shown == len(observation.names):
            break
    return rendered


def show_dates(dates: Sequence[str], most: int = _DATES[0]) -> str:
    """Dates as they stand behind a name: the first ones and the last one, with the number of those between.

    >>> show_dates(("2014-01-03", "2014-01-09", "2014-02-11", "2014-12-30"), most=3)
    ' (2014-01-03, 2014-01-09, ... 1 more ..., 2014-12-30)'
    >>> show_dates(())
    ''
    """
    if not dates:
        return ""
    shown = [*map(neutralise, _few(dates, most))]
    if len(dates) > most:
        shown.insert(-1, f"... {len(dates) - most} more ...")
    return f" ({', '.join(shown)})"


def dates_behind(name: str, dates: Sequence[str], text: str) -> Sequence[str]:
    """Those of the ``dates`` of a result that stand behind its name in a rendered text: of many only some do.

    >>> dates_behind("Alien", ("1979", "1991", "2003"), "Alien (1979, ... 1 more ..., 2003), Aliens")
    ('1979', '2003')
    >>> dates_behind("Aliens", ("1986",), "Alien (1979, ... 1 more ..., 2003), Aliens")
    ()
    """
    names = {show_name(name), show_name(name, "tree")}
    for most in (len(dates), *_DATES):
        shown = show_dates(dates, most)
        if shown and any(each + shown in text for each in names):
            return _few(dates, most)
    return ()


def _few(dates: Sequence[str], most: int) -> Sequence[str]:
    return dates if len(dates) <= most else (*dates[: most - 1], dates[-1])


def _page(observation: Observation) -> tuple[int, str]:
    """How many results belong to the page (or to all), and the words for which part of the result it is."""
    query, names = observation.query, len(observation.names)
    total = max(observation.total, query.offset + names)
    if query.limit is None or not names:
        return max(total - query.offset, names), ""
    last = min(query.offset + query.limit, total)
    if not query.offset and last == total:
        return total, ""
    more = f"; page={query.offset // query.limit + 2} for more" if last < total else ""
    return last - query.offset, f"[{query.offset + 1}-{last} of {total}{more}]"


def _flat(names: Sequence[str], left_out: int, dotted: bool) -> str:
    rest = f"... and {left_out} more" if left_out else ""
    return " ".join(filter(None, (", ".join(names), rest)))


def _tree(names: Sequence[str], left_out: int, dotted: bool) -> str:
    lines: list[str] = []
    above = ""
    for name in names:
        prefix, dot, last = name.rpartition(".") if dotted and not name.startswith('"') else ("", "", name)
        if dot and prefix and last:
            if prefix != above:
                lines.append(f"{prefix}.")
            lines.append(f"  {last}")
        else:
            lines.append(name)
        above = prefix
    if left_out:
        lines.append(f"... and {left_out} more")
    return "\n".join(lines)


def _most(text: Callable[[int], str], names: int, count_tokens: Callable[[str], int], budget: int) -> int:
    """The largest number of names whose text fits, found with few calls of the (slow) counter.

    Guesses by tokens per name; a bracket [fits, too_many) keeps it exact while calls last and safe after.
    """
    fits, too_many = 0, names + 1
    guess = min(names, max(1, budget))
    for call in range(_MAX_COUNTS):
        if too_many - fits <= 1:
            break
        tokens = count_tokens(text(guess))
        if tokens <= budget:
            fits = guess
        else:
            too_many = guess
        by_ratio, halfway = round(guess * budget / max(tokens, 1)), (fits + too_many) // 2
        guess = by_ratio if call < _MAX_COUNTS // 2 else halfway
        guess = min(max(guess, fits + 1), too_many - 1)
    return fits


def _cut_text(text: str, count_tokens: Callable[[str], int], budget: int) -> str:
    if count_tokens(text) <= budget:
        return text
    length = _most(lambda kept: f"{text[:kept]}...", len(text) - 1, count_tokens, budget)
    return f"{text[:length]}..."
