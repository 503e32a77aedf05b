"""From triples of strings to the sorted arrays of a store.

:class:`TripleEncoder` takes rows as they come, replaces names by provisional numbers and, at the end, renumbers them in
the order of their display names, drops repeated triples and sorts the rest both ways. Names stay in memory until then,
triples cost 12 bytes each.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from kgr1.errors import GraphError
from kgr1.graph.names import hash_name, lookup_key
from kgr1.graph.vocabulary import GRAM_MULTIPLIER, Arrays, DisplayKind, gram_shift

Numbers = npt.NDArray[np.int64]
Row = tuple[str, str, str]

_INDEXED = 128  # characters of a name that the trigram index covers
_CHUNK_BYTES = 8 << 20  # of names in one step of the trigram index
_PASS_GRAMS = 64 << 20  # trigrams sorted at a time


@dataclass(frozen=True)
class EncodedGraph:
    """Arrays of a store by file stem (``entity_ids...``, ``tail_...``, ``head_...``) and the counts of its header."""

    arrays: Arrays
    triples: int
    duplicates: int
    entities: int
    relations: int
    ambiguous_names: int
    max_degree: int


class TripleEncoder:
    """Collects triples; :meth:`finish` gives the arrays."""

    def __init__(self) -> None:
        self._entities: defaultdict[str, int] = defaultdict()
        self._entities.default_factory = self._entities.__len__
        self._relations: defaultdict[str, int] = defaultdict()
        self._relations.default_factory = self._relations.__len__
        self._parts: list[npt.NDArray[np.int32]] = []
        self.rows = 0

    def add(self, rows: Sequence[Row]) -> None:
        """Take a batch of rows whose names are valid (see :func:`check_name`)."""
        if not rows:
            return
        heads, relations, tails = zip(*rows, strict=True)
        part = np.empty((3, len(rows)), dtype=np.int32)
        part[0] = np.fromiter(map(self._entities.__getitem__, heads), np.int32, len(rows))
        part[1] = np.fromiter(map(self._relations.__getitem__, relations), np.int32, len(rows))
        part[2] = np.fromiter(map(self._entities.__getitem__, tails), np.int32, len(rows))
        self._parts.append(part)
        self.rows += len(rows)

    def __contains__(self, name: object) -> bool:
        """True if the name stands for an entity or a relation of the rows so far."""
        return name in self._entities or name in self._relations

    def finish(self, labels: Mapping[str, str] | None = None) -> EncodedGraph:
        """Number, sort and index everything. The encoder is empty afterwards.

        Raises :class:`GraphError` if there is no triple.
        """
        if not self.rows:
            raise GraphError("There is no triple to build a graph from; give at least one (head, relation, tail).")
        labels = labels or {}
        entity_arrays, entity_ranks, ambiguous = encode_names(list(self._entities), labels)
        relation_arrays, relation_ranks, _ = encode_names(list(self._relations), labels)
        entities, relations = len(self._entities), len(self._relations)
        self._entities.clear()
        self._relations.clear()
        provisional = np.concatenate(self._parts, axis=1)
        self._parts.clear()
        heads = entity_ranks[provisional[0]]
        edges = relation_ranks[provisional[1]]
        tails = entity_ranks[provisional[2]]
        del provisional
        heads, edges, tails = _sort_unique(heads, edges, tails, entities, relations)
        outgoing = np.bincount(heads, minlength=entities)
        incoming = np.bincount(tails, minlength=entities)
        arrays: Arrays = {f"entity_{key}": array for key, array in entity_arrays.items()}
        arrays |= {f"relation_{key}": array for key, array in relation_arrays.items()}
        arrays |= _adjacency("tail", outgoing, edges, tails)
        tails, edges, heads = _sort_unique(tails, edges, heads, entities, relations)
        arrays |= _adjacency("head", incoming, edges, heads)
        return EncodedGraph(
            arrays=arrays,
            triples=len(heads),
            duplicates=self.rows - len(heads),
            entities=entities,
            relations=relations,
            ambiguous_names=ambiguous,
            max_degree=int((outgoing + incoming).max()),
        )


def check_name(name: object) -> str | None:
    """What is wrong with a name of an entity or relation, or None."""
    if not isinstance(name, str):
        return f"a name must be a string, not {type(name).__name__}"
    if not name.strip():
        return "a name is empty"
    if not name.isascii():
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            return "a name holds a lone surrogate, which is not valid Unicode"
    return None


def _sort_unique(
    first: Numbers, second: Numbers, third: Numbers, entities: int, relations: int
) -> tuple[Numbers, Numbers, Numbers]:
    """The distinct rows (first, second, third) in lexicographic order; ``second`` numbers relations."""
    entity_bits, relation_bits = entities.bit_length(), relations.bit_length()
    if 2 * entity_bits + relation_bits <= 63:
        # One 64-bit number a triple sorts several times faster than three columns.
        packed = _distinct((((first << relation_bits) | second) << entity_bits) | third)
        third = packed & ((1 << entity_bits) - 1)
        packed >>= entity_bits
        return packed >> relation_bits, packed & ((1 << relation_bits) - 1), third
    order = np.lexsort((third, second, first))
    first, second, third = first[order], second[order], third[order]
    fresh = np.ones(len(first), dtype=bool)
    fresh[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1]) | (third[1:] != third[:-1])
    return first[fresh], second[fresh], third[fresh]


def _distinct(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The distinct values in ascending order; sorts in place. Numpy's ``unique`` hashes, far slower here."""
    values.sort()
    fresh = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=fresh[1:])
    return values[fresh]


def _adjacency(direction: str, degrees: Numbers, relations: Numbers, neighbours: Numbers) -> Arrays:
    return {
        f"{direction}_offsets": np.concatenate(([0], np.cumsum(degrees))).astype("<i8"),
        f"{direction}_relations": relations.astype("<i4"),
        f"{direction}_neighbours": neighbours.astype("<i4"),
    }


def encode_names(ids: Sequence[str], labels: Mapping[str, str]) -> tuple[Arrays, Numbers, int]:
    """Arrays of a :class:`kgr1.graph.vocabulary.Vocabulary`.

    Returns the arrays, for each of ``ids`` its number in the vocabulary, (n,), and how many labels are shared.
    """
    if len(ids) >= 2**31:
        raise GraphError(f"{len(ids):,} names are more than a store can number (2,147,483,647).")
    own_labels = [labels.get(name) or name for name in ids]
    labelled = any(label != name for label, name in zip(own_labels, ids, strict=True))
    ambiguous = 0
    if labelled:
        kinds, ambiguous = _display_kinds(ids, own_labels)
        shown = [_display(*row) for row in zip(kinds, own_labels, ids, strict=True)]
    else:
        kinds, shown = [], list(ids)
    order = sorted(range(len(ids)), key=shown.__getitem__)
    del shown
    ranks = np.empty(len(ids), dtype=np.int64)
    ranks[order] = np.arange(len(ids))
    ids = [ids[i] for i in order]
    arrays: Arrays = {}
    arrays["id_bytes"], arrays["id_offsets"] = _pack(ids)
    if labelled:
        own_labels = [own_labels[i] for i in order]
        arrays["label_bytes"], arrays["label_offsets"] = _pack(own_labels)
        arrays["display_kinds"] = np.array([kinds[i] for i in order], dtype="<u1")
    else:
        own_labels = ids
    keys = [lookup_key(label) for label in own_labels]
    arrays["hashes"], arrays["hash_owners"] = _hash_table(ids, own_labels, keys)
    arrays["gram_offsets"], arrays["gram_symbols"] = _gram_index(keys)
    return arrays, ranks, ambiguous


def _display_kinds(ids: Sequence[str], labels: Sequence[str]) -> tuple[list[DisplayKind], int]:
    counts = Counter(labels)
    known = set(ids)
    kinds = []
    for name, label in zip(ids, labels, strict=True):
        if label == name or _blank(label):
            kinds.append(DisplayKind.ID)
        elif counts[label] == 1 and label not in known:
            kinds.append(DisplayKind.LABEL)
        elif " [" in name or _blank(name) or (composed := f"{label} [{name}]") in known or composed in counts:
            kinds.append(DisplayKind.ID)
        else:
            kinds.append(DisplayKind.LABEL_AND_ID)
    return kinds, sum(1 for count in counts.values() if count > 1)


def _blank(text: str) -> bool:
    """True if nothing of the text can be seen, so that it could not be told from another such name."""
    return not text.isprintable() and not any(char.isprintable() and not char.isspace() for char in text)


def _display(kind: DisplayKind, label: str, name: str) -> str:
    if kind == DisplayKind.LABEL:
        return label
    return name if kind == DisplayKind.ID else f"{label} [{name}]"


def _pack(texts: Iterable[str]) -> tuple[npt.NDArray[np.uint8], Numbers]:
    encoded = [text.encode("utf-8") for text in texts]
    offsets = np.fromiter(accumulate(map(len, encoded), initial=0), "<i8", len(encoded) + 1)
    return np.frombuffer(b"".join(encoded), dtype="<u1"), offsets


def _hash_table(
    ids: Sequence[str], labels: Sequence[str], keys: Sequence[str]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32]]:
    """Hashes of all spellings of all symbols, sorted, with the symbol of each; (hash, symbol) pairs are distinct."""
    hashes: list[int] = []
    owners: list[int] = []
    for symbol, (name, label, key) in enumerate(zip(ids, labels, keys, strict=True)):
        spellings = {name, label, key} if label is name else {name, label, key, lookup_key(name)}
        hashes.extend(map(hash_name, spellings))
        owners.extend([symbol] * len(spellings))
    hash_array, owner_array = np.array(hashes, dtype="<u8"), np.array(owners, dtype="<i4")
    order = np.lexsort((owner_array, hash_array))
    return hash_array[order], owner_array[order]


def _gram_index(keys: Sequence[str]) -> tuple[Numbers, npt.NDArray[np.int32]]:
    """Posting lists of the byte trigrams of all keys, as :meth:`Vocabulary.closest` reads them."""
    bits = min(20, max(6, len(keys).bit_length() + 2))
    blob, offsets = _pack(f" {key[:_INDEXED]} " for key in keys)
    passes = 1 + len(blob) // _PASS_GRAMS
    buckets_a_pass = -(-(1 << bits) // passes)
    counts, symbols = [], []
    for low in range(0, 1 << bits, buckets_a_pass):
        high = min(low + buckets_a_pass, 1 << bits)
        packed = np.sort(np.concatenate(list(_gram_pairs(blob, offsets, gram_shift(1 << bits), low, high))))
        counts.append(np.bincount((packed >> np.uint64(32)).astype(np.int64) - low, minlength=high - low))
        symbols.append((packed & np.uint64(0xFFFFFFFF)).astype("<i4"))
    bounds = np.concatenate(([0], np.cumsum(np.concatenate(counts)))).astype("<i8")
    return bounds, np.concatenate(symbols)


def _gram_pairs(
    blob: npt.NDArray[np.uint8], offsets: Numbers, shift: int, low: int, high: int
) -> Iterable[npt.NDArray[np.uint64]]:
    """Distinct (bucket << 32 | symbol) of the trigrams in the buckets low .. high - 1, a chunk of names at a time."""
    start = 0
    while start < len(offsets) - 1:
        end = max(start + 1, int(np.searchsorted(offsets, offsets[start] + _CHUNK_BYTES, side="right")) - 1)
        chunk = blob[offsets[start] : offsets[end]].astype(np.uint64)
        owners = np.repeat(np.arange(start, end, dtype=np.uint64), np.diff(offsets[start : end + 1]))
        codes = (chunk[:-2] << np.uint64(16)) | (chunk[1:-1] << np.uint64(8)) | chunk[2:]
        buckets = ((codes * np.uint64(GRAM_MULTIPLIER)) & np.uint64(0xFFFFFFFF)) >> np.uint64(shift)
        wanted = (owners[:-2] == owners[2:]) & (buckets >= low) & (buckets < high)
        yield _distinct((buckets[wanted] << np.uint64(32)) | owners[:-2][wanted])
        start = end
