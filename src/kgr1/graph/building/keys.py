"""Sorting more 64-bit numbers than fit in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kgr1.graph.building.workspace import Workspace, append

Packed = npt.NDArray[np.uint64]

_STEP = 1 << 22  # numbers given out at a time
_MOST_PARTS = 256


class KeySorter:
    """Takes numbers below 2^``bits`` in any order, gives the distinct ones in ascending order.

    About ``expected`` numbers will come. If they need more than ``memory_bytes``, they are spread over files by their
    highest bits.
    """

    def __init__(self, place: Workspace, stem: str, bits: int, expected: int, memory_bytes: int) -> None:
        parts = 1
        while parts < _MOST_PARTS and expected * 16 > parts * memory_bytes:
            parts *= 2
        self._shift = np.uint64(max(0, bits - (parts.bit_length() - 1)))
        self._parts = parts
        self._place = place
        self._stem = stem
        self._memory: list[Packed] = []
        self._files: dict[int, Path] = {}

    def add(self, values: Packed) -> None:
        """Take some numbers."""
        if self._parts == 1:
            self._memory.append(values)
            return
        numbers = (values >> self._shift).astype(np.uint16)
        order = np.argsort(numbers, kind="stable")
        values = values[order]
        bounds = np.searchsorted(numbers[order], np.arange(self._parts + 1))
        for part in np.flatnonzero(np.diff(bounds)).tolist():
            if part not in self._files:
                self._files[part] = self._place.new_file(self._stem)
            append(self._files[part], values[bounds[part] : bounds[part + 1]])

    def sorted(self) -> Iterator[Packed]:
        """All distinct numbers in ascending order, some millions at a time. Nothing is left afterwards."""
        if self._parts == 1:
            values = np.concatenate(self._memory) if self._memory else np.empty(0, np.uint64)
            self._memory = []
            yield from _distinct_steps(values)
        for part in sorted(self._files):
            path = self._files.pop(part)
            values = np.fromfile(path, dtype=np.uint64)
            path.unlink()
            yield from _distinct_steps(values)


def _distinct_steps(values: Packed) -> Iterator[Packed]:
    values.sort()
    for low in range(0, len(values), _STEP):
        step = values[low : low + _STEP]
        fresh = np.empty(len(step), dtype=bool)
        fresh[0] = low == 0 or values[low - 1] != step[0]
        np.not_equal(step[1:], step[:-1], out=fresh[1:])
        yield step if fresh.all() else step[fresh]
