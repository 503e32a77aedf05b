"""The tables by which names are found, made for many names at a time: lookup keys, hashes, trigrams.

Everything here gives what :mod:`kgr1.graph.names` gives for one name.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from kgr1.graph.building.workspace import append
from kgr1.graph.names import KEY_LIMIT, lookup_key
from kgr1.graph.vocabulary import GRAM_MULTIPLIER, gram_shift

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]
Packed = npt.NDArray[np.uint64]

INDEXED = 128
"""Characters of a name that the trigram index covers."""

BUCKET_LIMIT = 60_000
"""Postings of one trigram bucket. A lookup reads no more of them (see :meth:`Vocabulary.closest`), and in a large
vocabulary the trigrams that everything shares would be most of the index."""

_CHUNK_BYTES = 4 << 20  # of names in one step of the trigram index
_SHORT = 64  # bytes of names that are hashed many at a time
_STEP = 1 << 16  # names hashed at a time, so that they stay in the cache of the processor


def _crc_table() -> npt.NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0xEDB88320), table >> 1).astype(np.uint32)
    return table


_CRC = _crc_table()


def text_bytes(texts: pl.Series) -> tuple[Bytes, Numbers]:
    """UTF-8 of the texts, one after the other, and (n + 1,) where each starts."""
    offsets = np.zeros(len(texts) + 1, dtype="<i8")
    np.cumsum(texts.str.len_bytes().to_numpy(), out=offsets[1:])
    joined = texts.str.join("").item() if len(texts) else ""
    return np.frombuffer(joined.encode("utf-8"), dtype="<u1"), offsets


def hash_texts(blob: Bytes, offsets: Numbers) -> npt.NDArray[np.uint32]:
    """:func:`kgr1.graph.names.hash_name` of many names, given as :func:`text_bytes` gives them."""
    hashes = np.empty(len(offsets) - 1, dtype=np.uint32)
    for low in range(0, len(hashes), _STEP):
        high = min(low + _STEP, len(hashes))
        hashes[low:high] = _hash_step(blob, offsets[low : high + 1])
    return hashes


def _hash_step(blob: Bytes, offsets: Numbers) -> npt.NDArray[np.uint32]:
    starts, sizes = offsets[:-1], np.diff(offsets)
    long = np.flatnonzero(sizes > _SHORT)
    sizes = np.where(sizes > _SHORT, 0, sizes).astype(np.uint8)
    order = np.argsort(sizes, kind="stable")[::-1]
    starts, sizes = starts[order], sizes[order]
    # How many names have more than k bytes; they come first.
    going = len(sizes) - np.cumsum(np.bincount(sizes, minlength=_SHORT + 1))
    crc = np.full(len(sizes), 0xFFFFFFFF, dtype=np.uint32)
    for k in range(int(sizes[0]) if len(sizes) else 0):
        count = int(going[k])
        part = crc[:count]
        index = (part ^ blob[starts[:count] + k]) & np.uint32(0xFF)
        part >>= np.uint32(8)
        part ^= _CRC[index]
    hashes = np.empty_like(crc)
    hashes[order] = ~crc
    for i in long.tolist():
        hashes[i] = zlib.crc32(blob[offsets[i] : offsets[i + 1]].tobytes())
    return hashes


def lookup_keys(texts: pl.Series) -> pl.Series:
    """:func:`kgr1.graph.names.lookup_key` of many texts."""
    keys = texts.str.to_lowercase().str.replace_all("_", " ", literal=True).str.strip_chars(" ")
    if keys.str.contains("  ", literal=True).any():
        keys = keys.str.replace_all(" {2,}", " ")
    odd = texts.str.contains(r"[^\x20-\x7e]") | (texts.str.len_bytes() > KEY_LIMIT) | (keys.str.len_bytes() == 0)
    if odd.any():
        places = odd.arg_true()
        keys = keys.scatter(places, [lookup_key(text) for text in texts.gather(places).to_list()])
    return keys


def gram_texts(keys: pl.Series) -> pl.Series:
    """What the trigrams of some lookup keys are taken from."""
    return pl.select(pl.concat_str(pl.lit(" "), keys.str.slice(0, INDEXED), pl.lit(" "))).to_series()


def pack_owners(hashes: npt.NDArray[np.uint32], owners: npt.NDArray[Any]) -> Packed:
    """One number for each (hash, owner), in their order."""
    return (hashes.astype(np.uint64) << np.uint64(32)) | owners.astype(np.uint64)


def distinct(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The distinct values in ascending order; sorts in place. Numpy's ``unique`` hashes, far slower here."""
    values.sort()
    fresh = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=fresh[1:])
    return values[fresh]


class GramIndex:
    """Posting lists of the byte trigrams of names, as :meth:`Vocabulary.closest` reads them.

    ``count`` symbols; their names come in the order of the symbols. ``new_file`` gives places for what does not stay in
    memory; without it everything does.
    """

    def __init__(self, count: int, new_file: Callable[[str], Path] | None = None) -> None:
        buckets = 1 << min(20, max(6, count.bit_length() + 2))
        self._shift = gram_shift(buckets)
        self._counts = np.zeros(buckets, dtype=np.int64)
        self._chunks: list[tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32], Path | npt.NDArray[np.int32]]] = []
        self._new_file = new_file

    def add(self, blob: Bytes, offsets: Numbers, owners: npt.NDArray[Any]) -> None:
        """Take some names (bytes of :func:`gram_texts`) and the symbol of each, ascending and after all before."""
        start, end = 0, len(owners)
        while start < end:
            stop = int(np.searchsorted(offsets, offsets[start] + _CHUNK_BYTES, side="right")) - 1
            stop = min(max(stop, start + 1), end)
            # A symbol with several names must not be in two chunks.
            stop = int(np.searchsorted(owners, owners[stop - 1], side="right"))
            self._add_chunk(
                blob[offsets[start] : offsets[stop]], np.diff(offsets[start : stop + 1]), owners[start:stop]
            )
            start = stop

    def _add_chunk(self, blob: Bytes, sizes: Numbers, owners: npt.NDArray[Any]) -> None:
        chunk = blob.astype(np.uint32)
        names = np.repeat(np.arange(len(sizes), dtype=np.uint32), sizes)
        codes = (chunk[:-2] << np.uint32(16)) | (chunk[1:-1] << np.uint32(8)) | chunk[2:]
        codes *= np.uint32(GRAM_MULTIPLIER)
        codes >>= np.uint32(self._shift)
        whole = names[:-2] == names[2:]
        packed = pack_owners(codes[whole], owners[names[:-2][whole]])
        packed = distinct(packed)
        buckets = (packed >> np.uint64(32)).astype(np.uint32)
        starts = np.flatnonzero(np.concatenate(([True], buckets[1:] != buckets[:-1])))
        sizes = np.diff(starts, append=len(buckets))
        runs = buckets[starts]
        room = np.minimum(sizes, BUCKET_LIMIT - self._counts[runs])
        if (room < sizes).any():
            packed = packed[np.arange(len(packed)) - np.repeat(starts, sizes) < np.repeat(room, sizes)]
        self._counts[runs] += room
        symbols = packed.astype(np.uint32).astype("<i4")
        kept: Path | npt.NDArray[np.int32] = symbols
        if self._new_file is not None:
            kept = self._new_file("grams")
            append(kept, symbols)
        self._chunks.append((runs, room.astype(np.uint32), kept))

    def finish(self, limit: int | None = None) -> tuple[Numbers, Iterator[npt.NDArray[np.int32]]]:
        """(2^b + 1,) where the postings of each bucket start, and the postings, at most about ``limit`` at a time."""
        bounds = np.zeros(len(self._counts) + 1, dtype="<i8")
        np.cumsum(self._counts, out=bounds[1:])
        return bounds, self._postings(bounds, limit or int(bounds[-1]))

    def _postings(self, bounds: Numbers, limit: int) -> Iterator[npt.NDArray[np.int32]]:
        low = 0
        while low < len(bounds) - 1:
            high = max(low + 1, int(np.searchsorted(bounds, bounds[low] + limit, side="right")) - 1)
            yield self._gather(bounds[low : high + 1], low, high)
            low = high

    def _gather(self, bounds: Numbers, low: int, high: int) -> npt.NDArray[np.int32]:
        postings = np.empty(int(bounds[-1] - bounds[0]), dtype="<i4")
        free = bounds[:-1] - bounds[0]
        for runs, sizes, kept in self._chunks:
            first, last = np.searchsorted(runs, [low, high])
            skip, count = int(sizes[:first].sum()), int(sizes[first:last].sum())
            if isinstance(kept, Path):
                symbols = np.fromfile(kept, dtype="<i4", count=count, offset=4 * skip)
            else:
                symbols = kept[skip : skip + count]
            part = sizes[first:last].astype(np.int64)
            places = runs[first:last] - low
            # Symbol i of a run goes to the first free place of its bucket plus i.
            shift = free[places] - (np.cumsum(part) - part)
            postings[np.repeat(shift, part) + np.arange(count)] = symbols
            free[places] += part
        return postings
