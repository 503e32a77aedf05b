"""How a name that a model wrote finds the name that a graph holds.

Three pieces without any storage: :func:`lookup_key` folds the differences that do not matter (case, compatibility
forms, underscores, runs of blanks, the marks that :func:`kgr1.graph.render.neutralise` puts in place of tag brackets),
:func:`hash_name` is the 32-bit hash under which they stand in the table on disk, and :class:`Closeness` ranks
candidates for the "did you mean" of an error. :mod:`kgr1.graph.vocabulary` holds the tables.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from zlib import crc32

KEY_LIMIT = 4096
"""Names longer than this many characters are found by their exact spelling only: Unicode normalisation takes
quadratic time on hostile input, and a name of this length cannot be shown to a model anyway."""

# Freebase counts in lower case, beginning with a digit, and Wikidata in upper case: "G.NA" and "M._Ward" are singers.
_IDENTIFIER = re.compile(r"/?[mg][./]\d[0-9a-z_]+|_:\S+|Q\d+|(?i:\S*[0-9a-f]{8}-[0-9a-f]{4}-\S+)")
_COMPARED = 128  # characters of a name that closeness looks at
_FOLD = str.maketrans({"‹": "<", "›": ">", "❲": "["})


def lookup_key(text: str) -> str:
    """The form in which names are compared: NFKC, case-folded, ``_`` as a blank, blanks collapsed.

    >>> lookup_key("  New_York   CITY")
    'new york city'
    """
    if len(text) > KEY_LIMIT:
        return text
    if text.isascii() and text.isprintable():
        key = text.lower()
    else:
        key = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(_FOLD)
        if not key.isprintable():
            key = "".join(map(_visible, key))
    # A name of nothing but underscores keeps them, one of nothing visible stays as it is.
    return " ".join(key.replace("_", " ").split()) or " ".join(key.split()) or text


def _visible(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Cf":  # bidirectional marks, zero-width joiners, soft hyphens
        return ""
    return " " if category in ("Cc", "Zl", "Zp") else char


def hash_name(text: str) -> int:
    """32-bit hash of a name (CRC-32 of its UTF-8), the same on every machine and in every process.

    Different names may share it, so whoever looks a hash up compares the names.
    """
    return crc32(text.encode("utf-8", "surrogatepass"))


_DATES = re.compile(r"(?:-?\d[\d/-]*|/\d[\d/-]*|\.\.\. [\d,]+ more \.\.\.)(?:, (?!$)|$)")


def readings(text: str) -> Iterator[str]:
    """What the text can mean besides itself: a model copies quotes, backslash escapes and dates along with a name.

    >>> list(readings('"Paris, Texas" (1984-05-19, ... 3 more ..., 1990)'))
    ['"Paris, Texas"', 'Paris, Texas']
    """
    yield from _unquoted(text)
    name = without_dates(text)
    if name != text:
        yield name
        yield from _unquoted(name)


def without_dates(text: str) -> str:
    """A name without the dates that :func:`kgr1.graph.render.render` shows behind it."""
    name, bracket, dates = text.rstrip().rpartition(" (")
    if not (bracket and name.strip() and dates.endswith(")") and len(dates) < KEY_LIMIT):
        return text
    position = 0
    while position < len(dates) - 1:
        match = _DATES.match(dates, position, len(dates) - 1)
        if match is None:
            return text
        position = match.end()
    return name if position else text


def _unquoted(text: str) -> Iterator[str]:
    if len(text) > 2 and text[0] == '"' == text[-1]:
        text = text[1:-1]
        yield text
    for _ in range(2):  # escapes that were escaped again
        decoded = _unescape(text) if "\\" in text else None
        if decoded is None or decoded == text:
            return
        text = decoded
        yield text


def _unescape(text: str) -> str | None:
    for escaped in (text, re.sub(r'(?<!\\)"', r"\"", text)):
        try:
            return str(json.loads(f'"{escaped}"', strict=False))
        except ValueError:
            continue
    return None


def grams(key: str) -> set[bytes]:
    """Byte trigrams of a key, with a blank at either end so that short names have some too."""
    padded = f" {key} ".encode("utf-8", "surrogatepass")
    return {padded[i : i + 3] for i in range(len(padded) - 2)}


def _holds_word(text: str, part: str) -> bool:
    """True if ``part`` first occurs in ``text`` with no letter or digit on either side."""
    start = text.find(part)
    end = start + len(part)
    return start >= 0 and not text[max(start - 1, 0) : start].isalnum() and not text[end : end + 1].isalnum()


class Closeness:
    """Ranks names by likeness to one query, in time bounded by the number of names given (not by their length)."""

    def __init__(self, text: str) -> None:
        self.key = lookup_key(text[:_COMPARED])
        self.grams = grams(self.key)
        self._matcher = SequenceMatcher(autojunk=False)
        self._matcher.set_seq2(self.key)  # the matcher caches what it knows about its second sequence

    def best(self, names: Iterable[str], count: int, minimum: float = 0.5, refined: int = 12) -> list[str]:
        """At most ``count`` names with a likeness of at least ``minimum``, best first, ties by name.

        Shared trigrams choose ``refined`` names, which the slower ratio of matching blocks then orders.
        """
        if not self.key.strip():
            return []
        rough = sorted((-self._overlap(name), name) for name in names)[:refined]
        fine = sorted((-self._ratio(name), name) for overlap, name in rough if overlap < 0)
        return [name for ratio, name in fine[:count] if -ratio >= minimum]

    def _overlap(self, name: str) -> float:
        other = grams(lookup_key(name[:_COMPARED]))
        shared = len(self.grams & other)
        if not shared:
            return 0.0
        # The smaller set in the denominator lets "place of birth" find "people.person.place_of_birth".
        return shared / (len(self.grams) + len(other)) + 0.5 * shared / min(len(self.grams), len(other))

    def _ratio(self, name: str) -> float:
        other = lookup_key(name[:_COMPARED])
        self._matcher.set_seq1(other)
        ratio = self._matcher.ratio()
        short, long = sorted((self.key, other), key=len)
        share = len(short) / max(len(long), 1)
        # The query as whole words of a longer name is likely that name; the reverse only if not much is left over.
        if (short is self.key or share > 0.5) and _holds_word(long, short):
            ratio = max(ratio, 0.7 + 0.3 * share)
        return ratio


def is_identifier(name: str) -> bool:
    """True for an identifier that says nothing: a node of Freebase or Wikidata, a blank node, a UUID.

    >>> is_identifier("m.04j60kc"), is_identifier("Q142"), is_identifier("G.NA"), is_identifier("1979")
    (True, True, False, False)
    """
    return bool(_IDENTIFIER.fullmatch(name))
