"""The names of a graph as memory-mapped arrays: by number, by text, by likeness.

A vocabulary numbers its symbols (entities or relations) 0 .. n-1 in the order of their display names, so a sorted list
of numbers is a sorted list of names. Its arrays:

====================  =======  ==============================================================================
``id_bytes``          uint8    identifiers as the source spells them, UTF-8, one after the other
``id_offsets``        int64    (n + 1,) where each starts
``label_bytes``       uint8    labels; absent (as the two below) if no symbol has a label besides its identifier
``label_offsets``     int64    (n + 1,)
``display_kinds``     uint8    (n,) a :class:`DisplayKind` each
``hashes``            uint64   sorted hashes of every identifier, label and lookup key
``hash_owners``       int32    the symbol behind each hash
``gram_offsets``      int64    (2^b + 1,) where the postings of each trigram bucket start
``gram_symbols``      int32    symbols whose label has a trigram of the bucket, ascending within it
====================  =======  ==============================================================================
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
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
    "hashes": "<u8",
    "hash_owners": "<i4",
    "gram_offsets": "<i8",
    "gram_symbols": "<i4",
}
OPTIONAL_ARRAYS = frozenset({"label_bytes", "label_offsets", "display_kinds"})

_CACHED = 200_000  # names and lookups kept decoded; about 40 MB when full
_POSTINGS = 60_000  # trigram postings read for one list of closest names
_CANDIDATES = 64  # names compared in full for it
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
        """The symbols that a text names, ascending: by identifier, else label, ``label [id]``, lookup key.

        A text that names nothing is read once more without the quotes and escapes that a model may have copied.
        """
        found = self._found.get(text)
        if found is None:
            found = self._find(text)
            if not found:
                found = next(filter(None, map(self._find, readings(text))), ())
            if found and len(text) < 1000:
                if len(self._found) >= _CACHED:
                    self._found.clear()
                self._found[text] = found
        return found

    def _find(self, text: str) -> tuple[int, ...]:
        return self._find_exact(text) or self._find_with_id(text) or self._find_key(text)

    def _candidates(self, text: str) -> Iterable[int]:
        hashed = hash_name(text)
        position = bisect_left(self._hashes, hashed)
        while position < len(self._hashes) and self._hashes[position] == hashed:
            yield self._owners[position]
            position += 1

    def _find_exact(self, text: str) -> tuple[int, ...]:
        candidates = tuple(self._candidates(text))
        by_id = tuple([symbol for symbol in candidates if self.id(symbol) == text])
        if by_id or not self.labelled:
            return by_id
        return tuple([symbol for symbol in candidates if self.label(symbol) == text])

    def _find_with_id(self, text: str) -> tuple[int, ...]:
        label, bracket, identifier = text.rpartition(" [")
        if not (self.labelled and bracket and text.endswith("]")):
            return ()
        identifier = identifier[:-1]
        # By identifiers alone: another symbol may bear this label as its identifier, or this identifier as its label.
        exact = [s for s in self._candidates(identifier) if self.id(s) == identifier and self.label(s) == label]
        if exact:
            return tuple(exact)
        key, label_key = lookup_key(identifier), lookup_key(label)
        alike = [s for s in self._candidates(key) if lookup_key(self.id(s)) == key]
        return tuple([s for s in alike if lookup_key(self.label(s)) == label_key])

    def _find_key(self, text: str) -> tuple[int, ...]:
        key = lookup_key(text)
        return tuple(
            [
                symbol
                for symbol in self._candidates(key)
                if lookup_key(self.id(symbol)) == key or (self.labelled and lookup_key(self.label(symbol)) == key)
            ]
        )

    def closest(self, text: str, count: int = 3) -> list[str]:
        """Up to ``count`` display names like the text, best first; empty if nothing is like it.

        Reads a bounded number of postings, the rarest trigrams first, whatever the size of the vocabulary.
        """
        closeness = Closeness(text)
        if not closeness.grams:
            return []
        buckets = {gram_bucket(gram, self._gram_shift) for gram in closeness.grams}
        spans = [(int(self._gram_offsets[b]), int(self._gram_offsets[b + 1])) for b in buckets]
        spans.sort(key=lambda span: (span[1] - span[0], span))
        read, postings = 0, []
        for start, end in spans:
            end = min(end, start + _POSTINGS - read)
            postings.append(np.asarray(self._gram_symbols[start:end]))
            read += end - start
            if read >= _POSTINGS:
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
            by_label.setdefault(self.label(symbol), symbol)
        return [self.name(by_label[label]) for label in closeness.best(by_label, count)]

    def _sizes(self, symbols: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
        """Bytes of the labels of several symbols."""
        offsets = np.asarray(self._label_offsets if self.labelled else self._id_offsets)
        return np.asarray(offsets[symbols + 1] - offsets[symbols], dtype=np.int64)


def gram_shift(buckets: int) -> int:
    """How far to shift a 32-bit hash so that it numbers one of ``buckets`` (a power of two)."""
    return 33 - buckets.bit_length()


def gram_bucket(gram: bytes, shift: int) -> int:
    """The posting list of a byte trigram: multiplicative hashing of its 24 bits."""
    code = (gram[0] << 16) | (gram[1] << 8) | gram[2]
    return ((code * GRAM_MULTIPLIER) & 0xFFFFFFFF) >> shift
