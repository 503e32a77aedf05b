"""The parts of a question that may be the name of an entity, and the spellings to look them up by.

A question is cut into words and punctuation marks, and every run of up to :data:`MAX_PIECES` of them that begins and
ends sensibly is a :class:`Span`. What a span is worth is not decided here: :mod:`kgr1.agent.link` asks the graph.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

MAX_PIECES = 40
"""Words and marks in one name, as titles of treaties and papers have them."""

MAX_QUESTION_PIECES = 200
"""Words and marks of a question that are looked at, so that a pasted book costs no more than a long question."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTION_WORDS = _words(
    "a an the of in on at by for from to with as and or but not no is are was were be been being am do does did has "
    "have had will would can could should may might must shall who whom whose what which when where why how that "
    "this these those there here it its he she they them his her hers their theirs him i you your we our us me my s "
    "t so if than then after before during until since between about into over under out up down off more most many "
    "much some any all both each every other one first last also please"
)
"""English words that are no name when they stand alone."""

COMMON_WORDS = _words(
    "name names named list tell give show find year years date dates day days month time times today now period "
    "start end began begin ended born birth die died dies death live lived lives work worked works play played "
    "plays player speak speaks spoken spoke language languages make made makes write wrote written writes direct "
    "directed director film films movie movies book books song songs album albums music artist actor actors actress "
    "star starred stars country countries city cities state states nation place places location area people person "
    "persons man woman men women male female gender sex family father mother parent parents son daughter child "
    "children brother sister wife husband spouse married marry couple friend team teams game games sport sports "
    "position type types kind kinds genre part member leader president governor king queen company organization "
    "school college university study studied win won wins award awards receive received title called known famous "
    "popular used use uses found founded founder release released produce produced profession job character "
    "characters religion currency capital war battle event number date series show shows station"
)
"""English words of many questions that are seldom what a question is about. They count against a name only where
neither letter case nor longer names speak for it; other languages do without."""

MONTHS = _words(
    "january february march april may june july august september october november december jan feb mar apr jun jul "
    "aug sep sept oct nov dec"
)

_PIECE = re.compile(r"['’`]s\b|[^\W_]+(?:['’`_]+[^\W_]+)*['’`]?(?!\w)|\w+|[^\w\s]")
_NO_BLANK_BEFORE = re.compile(r"\s+(?=[.,;:!?)\]}’']|-\s)")
_NO_BLANK_AFTER = re.compile(r"(?<=[(\[{])\s+|(?<=\s-)\s+|(?<=\w-)\s+(?=\w)")
_POSSESSIVE = re.compile(r"(?:\s*['’`]s|(?<=s)\s*['’`])$", re.IGNORECASE)
_OPENING = frozenset("([{\"“‘'«#$¡¿.@&*+-")
_CLOSING = frozenset(")]}\"”’'»!?.%+*°$")
_QUOTES = frozenset("\"“”„«»'‘’`")
_SPECIAL = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "ß": "ss", "æ": "ae", "œ": "oe", "ı": "i", "þ": "th", "ð": "d"})
_NUMBER = re.compile(r"\d+(?:st|nd|rd|th|s)?", re.IGNORECASE)
_BRACKETED = re.compile(r"\s*[(\[][^()\[\]]*[)\]]$")


class Piece(NamedTuple):
    """A word or punctuation mark and where it stands: ``text[start:end]``."""

    text: str
    start: int
    end: int
    is_word: bool


class Form(NamedTuple):
    """One spelling to look a span up by, and how far it is from what was written (0 is as written)."""

    text: str
    distance: int


class Span(NamedTuple):
    """Pieces ``first .. last`` of a question, both included."""

    first: int
    last: int
    text: str
    start: int
    end: int


def pieces_of(text: str) -> list[Piece]:
    """Words and marks of a question, at most :data:`MAX_QUESTION_PIECES` of them.

    >>> [piece.text for piece in pieces_of("What's Ohio's capital?")]
    ["What's", "Ohio's", 'capital', '?']
    """
    found = []
    for match in _PIECE.finditer(text):
        word = match[0]
        is_word = any(map(str.isalnum, word)) and word.casefold() not in ("'s", "’s", "`s")
        found.append(Piece(word, match.start(), match.end(), is_word))
        if len(found) == MAX_QUESTION_PIECES:
            break
    return found


def spans_of(text: str, pieces: Sequence[Piece]) -> Iterator[Span]:
    """Every run of pieces that may be a name, short ones first at each place."""
    for first, opening in enumerate(pieces):
        if not opening.is_word and opening.text not in _OPENING:
            continue
        words = 0
        for last in range(first, min(first + MAX_PIECES, len(pieces))):
            closing = pieces[last]
            words += closing.is_word
            if words and (closing.is_word or closing.text in _CLOSING or _POSSESSIVE.fullmatch(closing.text)):
                yield Span(first, last, text[opening.start : closing.end], opening.start, closing.end)


def forms_of(text: str) -> list[Form]:
    """Spellings of a span from the likeliest to the least likely, without duplicates.

    >>> [form.text for form in forms_of("beatles's")]
    ["beatles's", 'beatles', 'beatle', 'The beatles']
    """
    text = " ".join(text.split())
    glued = _NO_BLANK_AFTER.sub("", _NO_BLANK_BEFORE.sub("", text))
    bare = _strip_quotes(glued)
    plain = without_possessive(bare)
    forms = [Form(text, 0), Form(glued, 0), Form(bare, 0), Form(plain, 0)]
    lower = plain.casefold()
    if len(lower) > 4 and lower.endswith("ies"):
        forms.append(Form(f"{plain[:-3]}y", 2))
    elif len(lower) > 4 and lower.endswith(("ches", "shes", "xes", "sses", "oes")):
        forms.append(Form(plain[:-2], 2))
    elif len(lower) > 3 and lower.endswith("s") and not lower.endswith("ss"):
        forms.append(Form(plain[:-1], 2))
    if lower.startswith("the "):
        forms.append(Form(plain[4:], 1))
    elif lower.split(" ")[0] not in FUNCTION_WORDS:
        forms.append(Form(f"The {plain}", 1))
    unique: dict[str, Form] = {}
    for form in forms:
        if any(map(str.isalnum, form.text)):
            unique.setdefault(form.text, form)
    return list(unique.values())


def without_possessive(text: str) -> str:
    """The text without quotation marks around it and without the genitive at its end.

    >>> without_possessive("Ohio's"), without_possessive("the states'")
    ('Ohio', 'the states')
    """
    bare = _strip_quotes(text)
    return _POSSESSIVE.sub("", bare).strip() or bare


def _strip_quotes(text: str) -> str:
    while len(text) > 2 and text[0] in _QUOTES and text[-1] in _QUOTES:
        text = text[1:-1].strip()
    return text


def fold(text: str) -> str:
    """Words of a name without case, accents and punctuation, for comparison only.

    >>> fold("Władysław Sikorski, Jr.")
    'wladyslaw sikorski jr'
    """
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text[:256]).casefold())
    letters = "".join(c for c in decomposed if not unicodedata.combining(c)).translate(_SPECIAL)
    return " ".join(re.findall(r"[^\W_]+", re.sub(r"['’`]", "", letters)))


def without_bracket(name: str) -> str:
    """A name without the remark in brackets at its end that tells it from its namesakes.

    >>> without_bracket("Peter Pan (1953 film)")
    'Peter Pan'
    """
    return _BRACKETED.sub("", name) or name


def is_function_word(word: str) -> bool:
    """True for a word that is no name when it stands alone."""
    return word.casefold().strip("'’`") in FUNCTION_WORDS


def is_common_word(word: str) -> bool:
    """True for a word that many questions have, function words included."""
    word = word.casefold().strip("'’`")
    return word in COMMON_WORDS or word in FUNCTION_WORDS


def is_date_part(word: str) -> bool:
    """True for a number or a month.

    >>> [word for word in ("April", "12th", "1990s", "Aprilia") if is_date_part(word)]
    ['April', '12th', '1990s']
    """
    return word.casefold() in MONTHS or bool(_NUMBER.fullmatch(word))


def is_quoted(text: str, span: Span) -> bool:
    """True if quotation marks stand directly around the span, or are its ends."""
    before, after = text[: span.start].rstrip()[-1:], text[span.end :].lstrip()[:1]
    inner = span.text[0] in _QUOTES and span.text[-1] in _QUOTES and len(span.text) > 2
    return inner or (before in _QUOTES and after in _QUOTES and bool(before) and bool(after))
