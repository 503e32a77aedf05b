"""The names of a graph as memory-mapped arrays: by number, by text, by likeness.

A vocabulary numbers its symbols (entities or relations) 0 .. n-1 in the order of their display names, so a sorted list
of numbers is a sorted list of names. Its arrays:

====================  =======  ==============================================================================
``id_bytes``          uint8    identifiers as the source spells them, UTF-8, one after the other
``id_offsets``        int64    (n + 1,) where each starts
``label_bytes``       uint8    labels; absent (as the two below) if no symbol has a label besides its identifier
``label_offsets``     int64    (n + 1,)
``display_kinds``     uint8    (n,) a :class:`DisplayKind` each
``hashes``            uint32   sorted hashes of the lookup keys of every identifier, label and alias
``hash_owners``       int32    the symbol behind each hash
``gram_offsets``      int64    (2^b + 1,) where the postings of each trigram bucket start
``gram_symbols``      int32    symbols whose label has a trigram of the bucket, ascending within it
``alias_bytes``       uint8    further labels; absent (as the two below) if no symbol has any
``alias_offsets``     int64    (a + 1,)
``alias_owners``      int32    (a,) the symbol of each alias, ascending
====================  =======  ==============================================================================
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from kgr1.graph.names import Closeness, hash_name, lookup_key, readings

Array = npt.NDArray[np.generic]
Arrays = dict[str, Array]

ARRAY_TYPES = {
    "id_bytes": "<u1",
    "id_offsets": "<i8",
    "label_bytes": "<u1",
    "label_offsets": "<i8",
    "display_kinds": "<u1",
    "hashes": "<u4",
    "hash_owners": "<i4",
    "gram_offsets": "<i8",
    "gram_symbols": "<i4",
    "alias_bytes": "<u1",
    "alias_offsets": "<i8",
    "alias_owners": "<i4",
}
OPTIONAL_ARRAYS = frozenset(
    {"label_bytes", "label_offsets", "display_kinds", "alias_bytes", "alias_offsets", "alias_owners"}
)

_CACHED = 200_000  # names and lookups kept decoded; about 40 MB when full
_POSTINGS = 60_000  # trigram postings read for one list of closest names
_POSTINGS_AMONG = 1_000_000  # the same where few symbols count, so that most of what is read is passed over
_CANDIDATES = 64  # names compared in full for it
_ALIASES = 8  # of one symbol that closeness looks at
GRAM_MULTIPLIER = 0x9E3779B1


class DisplayKind(IntEnum):
    """How a symbol is shown so that the name leads back to it alone."""

    LABEL = 0
    LABEL_AND_ID = 1  # "label [id]": the label is shared, or is the identifier of another symbol
    ID = 2  # no label, or even "label [id]" could be misread


class Vocabulary:
    """Numbered names with lookup. Immutable; safe to share between threads."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._id_offsets = arrays["id_offsets"].data
        self._id_bytes = arrays["id_bytes"].data
        self.labelled = "label_bytes" in arrays
        if self.labelled:
            self._label_offsets = arrays["label_offsets"].data
            self._label_bytes = arrays["label_bytes"].data
            self._kinds = arrays["display_kinds"].data
        self._has_aliases = "alias_bytes" in arrays
        if self._has_aliases:
            self._alias_offsets = arrays["alias_offsets"].data
            self._alias_bytes = arrays["alias_bytes"].data
            self._alias_owners = arrays["alias_owners"].data
        self._hashes = arrays["hashes"].data
        self._owners = arrays["hash_owners"].data
        self._gram_offsets = arrays["gram_offsets"]
        self._gram_symbols = arrays["gram_symbols"]
        self._gram_shift = gram_shift(len(self._gram_offsets) - 1)
        self._names: dict[int, str] = {}
        self._ids: dict[int, str] = {}
        self._found: dict[str, tuple[int, ...]] = {}

    def __len__(self) -> int:
        return len(self._id_offsets) - 1

    def id(self, symbol: int) -> str:
        """The identifier of a symbol as the source spells it."""
        start, end = self._id_offsets[symbol], self._id_offsets[symbol + 1]
        return str(self._id_bytes[start:end], "utf-8")

    def label(self, symbol: int) -> str:
        """The label of a symbol, or its identifier if it has none."""
        if not self.labelled:
            return self.id(symbol)
        start, end = self._label_offsets[symbol], self._label_offsets[symbol + 1]
        return str(self._label_bytes[start:end], "utf-8")

    def aliases(self, symbol: int) -> tuple[str, ...]:
        """Further labels of a symbol, by which it is found but not shown."""
        if not self._has_aliases:
            return ()
        offsets = self._alias_offsets
        start = bisect_left(self._alias_owners, symbol)
        end = bisect_left(self._alias_owners, symbol + 1, start)
        return tuple([str(self._alias_bytes[offsets[i] : offsets[i + 1]], "utf-8") for i in range(start, end)])

    def name(self, symbol: int) -> str:
        """The display name: unique in the vocabulary, and :meth:`find` leads from it back to this symbol alone."""
        name = self._names.get(symbol)
        if name is None:
            kind = self._kinds[symbol] if self.labelled else DisplayKind.ID
            if kind == DisplayKind.LABEL:
                name = self.label(symbol)
            elif kind == DisplayKind.LABEL_AND_ID:
                name = f"{self.label(symbol)} [{self.id(symbol)}]"
            else:
                name = self.id(symbol)
            if len(self._names) >= _CACHED:
                self._names.clear()
            self._names[symbol] = name
        return name

    def names(self, symbols: Sequence[int]) -> tuple[str, ...]:
        """Display names of several symbols."""
        cached = self._names
        try:
            return tuple([cached[symbol] for symbol in symbols])
        except KeyError:
            return tuple([self.name(symbol) for symbol in symbols])

    def ids(self, symbols: Sequence[int]) -> tuple[str, ...]:
        """Identifiers of several symbols."""
        cached = self._ids
        try:
            return tuple([cached[symbol] for symbol in symbols])
        except KeyError:
            pass
        found = [self.id(symbol) for symbol in symbols]
        if len(cached) >= _CACHED:
            cached.clear()
        cached.update(zip(symbols, found, strict=True))
        return tuple(found)

    def find(self, text: str) -> tuple[int, ...]:
        """The symbols that a text names, ascending: by identifier, else label, ``label [id]``, alias, lookup key.

        An alias that reads like the ``label [id]`` of another symbol does not take it over. A text that names nothing
        is read once more without the quotes and escapes that a model may have copied.
        """
        found = self._found.get(text)
        if found is None:
            found = self._find(text)
            if found and len(text) < 1000:
                if len(self._found) >= _CACHED:
                    self._found.clear()
                self._found[text] = found
        return found

    def find_among(self, text: str, member: Callable[[int], bool]) -> tuple[int, ...]:
        """As :meth:`find` in a vocabulary that holds only the symbols for which ``member`` is true."""
        found = self.find(text)
        # If a way of reading finds members here, no earlier way found any symbol at all.
        kept = tuple([symbol for symbol in found if member(symbol)])
        return kept if kept or not found else self._find(text, member)

    def _find(self, text: str, member: Callable[[int], bool] | None = None) -> tuple[int, ...]:
        ways = (
            self._with_id, self._with_label, self._with_label_and_id,
            self._with_alias, self._with_such_label_and_id, self._with_key,
        )  # fmt: skip
        for reading in (text, *readings(text)):
            key = lookup_key(reading)
            alike = self._candidates(key)
            for way in ways:
                found = way(reading, key, alike)
                if member is not None:
                    found = [symbol for symbol in found if member(symbol)]
                if found:
                    return tuple(found)
        return ()

    def _candidates(self, key: str) -> list[int]:
        """Symbols of which some name may have this lookup key."""
        hashed = hash_name(key)
        position = bisect_left(self._hashes, hashed)
        found = []
        while position < len(self._hashes) and self._hashes[position] == hashed:
            found.append(self._owners[position])
            position += 1
        return found

    # Ways to find a text: its lookup key and the candidates for that are given.

    def _with_id(self, text: str, key: str, alike: Sequence[int]) -> list[int]:
        return [symbol for symbol in alike if self.id(symbol) == text]

    def _with_label(self, text: str, key: str, alike: Sequence[int]) -> list[int]:
        return [symbol for symbol in alike if self.label(symbol) == text] if self.labelled else []

    def _with_alias(self, text: str, key: str, alike: Sequence[int]) -> list[int]:
        return [symbol for symbol in alike if text in self.aliases(symbol)] if self._has_aliases else []

    # By identifiers alone: another symbol may bear this label as its identifier, or this identifier as its label.

    def _with_label_and_id(self, text: str, key: str, alike: Sequence[int]) -> list[int]:
        label, identifier = self._label_and_id(text)
        if not identifier:
            return []
        alike = self._candidates(lookup_key(identifier))
        return [symbol for symbol in alike if self.id(symbol) == identifier and self.label(symbol) == label]

    def _with_such_label_and_id(self, text: str, key: str, alike: Sequence[int]) -> list[int]:
        label, identifier = map(lookup_key, self._label_and_id(text))
        if not identifier:
            return []
        alike = self._candidates(identifier)
        return [s for s in alike if lookup_key(self.id(s)) == identifier and lookup_key(self.label(s)) == label]

    def _label_and_id(self, text: str) -> tuple[str, str]:
        """The parts of ``label [id]``; both empty if the text is none, or no symbol is shown so."""
        label, bracket, identifier = text.rpartition(" [")
        return (label, identifier[:-1]) if self.labelled and bracket and text.endswith("]") else ("", "")

    def _with_key(self, text: str, key: str, alike: Sequence[int]) -> list[int]:
        return [
            symbol
            for symbol in alike
            if lookup_key(self.id(symbol)) == key
            or (self.labelled and lookup_key(self.label(symbol)) == key)
            or any(lookup_key(alias) == key for alias in self.aliases(symbol))
        ]

    def closest(self, text: str, count: int = 3, *, among: npt.NDArray[np.int64] | None = None) -> list[str]:
        """Up to ``count`` display names like the text, best first; empty if nothing is like it.

        Reads a bounded number of postings, the rarest trigrams first, whatever the size of the vocabulary. With
        ``among``, symbols in ascending order, no other symbol counts.
        """
        closeness = Closeness(text)
        if not closeness.grams:
            return []
        buckets = {gram_bucket(gram, self._gram_shift) for gram in closeness.grams}
        spans = [(int(self._gram_offsets[b]), int(self._gram_offsets[b + 1])) for b in buckets]
        spans.sort(key=lambda span: (span[1] - span[0], span))
        read, postings = 0, []
        most = _POSTINGS if among is None else _POSTINGS_AMONG
        for start, end in spans:
            end = min(end, start + most - read)
            part = np.asarray(self._gram_symbols[start:end])
            postings.append(part if among is None else _members(part, among))
            read += end - start
            if read >= most:
                break
        symbols, shared = np.unique(np.concatenate(postings), return_counts=True)
        if len(symbols) > _CANDIDATES:
            # Longer names share trigrams by chance: weigh by length, as Dice's coefficient does.
            sizes = np.maximum(self._sizes(symbols), 1)
            scores = shared / (len(buckets) + sizes) + 0.5 * shared / np.minimum(len(buckets), sizes)
            # Ties at the border fall by number, so that the outcome is the same everywhere.
            border = np.partition(scores, -_CANDIDATES)[-_CANDIDATES]
            symbols = symbols[np.concatenate([np.flatnonzero(scores > border), np.flatnonzero(scores == border)])]
            symbols = symbols[:_CANDIDATES]
        by_label: dict[str, int] = {}
        for symbol in symbols.tolist():
            for label in (self.label(symbol), *self.aliases(symbol)[:_ALIASES]):
                by_label.setdefault(label, symbol)
        best = closeness.best(by_label, count if not self._has_aliases else count * _ALIASES)
        return list(dict.fromkeys(self.name(by_label[label]) for label in best))[:count]

    def _sizes(self, symbols: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
        """Bytes of the labels of several symbols."""
        offsets = np.asarray(self._label_offsets if self.labelled else self._id_offsets)
        return np.asarray(offsets[symbols + 1] - offsets[symbols], dtype=np.int64)


def _members(symbols: Array, among: npt.NDArray[np.int64]) -> Array:
    """Those of ``symbols`` that stand in ``among``, which is ascending."""
    if not len(among):
        return symbols[:0]
    places = np.minimum(np.searchsorted(among, symbols), len(among) - 1)
    here: Array = symbols[among[places] == symbols]
    return here


def gram_shift(buckets: int) -> int:
    """How far to shift a 32-bit hash so that it numbers one of ``buckets`` (a power of two)."""
    return 33 - buckets.bit_length()


def gram_bucket(gram: bytes, shift: int) -> int:
    """The posting list of a byte trigram: multiplicative hashing of its 24 bits."""
    code = (gram[0] << 16) | (gram[1] << 8) | gram[2]
    return ((code * GRAM_MULTIPLIER) & 0xFFFFFFFF) >> shift
