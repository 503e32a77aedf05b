"""The rows of the sources as numbers, in files until all names are known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kgr1.graph.building.workspace import Workspace, append
from kgr1.graph.temporal import UNDATED

Column = npt.NDArray[Any]

NO_GRAPH = -1
COLUMNS = ("head", "relation", "tail")
DEFAULTS = {"start": UNDATED[0], "end": UNDATED[1], "graph": NO_GRAPH}
"""Columns that begin with the first batch that has them, and what all rows before it hold."""


@dataclass
class Rows:
    """Columns of 32-bit numbers, each in a file; ``runs`` says how many rows each run of the dictionaries has."""

    place: Workspace

    def __post_init__(self) -> None:
        self.count = 0
        self.runs = [0]
        self._files: dict[str, Path] = {}

    def has(self, column: str) -> bool:
        """True if some batch had the column."""
        return column in self._files

    def add(self, columns: dict[str, Column]) -> None:
        """Take the columns of a batch, (n,) each."""
        size = len(columns["head"])
        for name in (*COLUMNS, *DEFAULTS):
            if name in columns:
                self._append(name, np.ascontiguousarray(columns[name]).view(np.int32))
            elif name in self._files:
                self._append(name, np.full(size, DEFAULTS[name], dtype=np.int32))
        self.count += size
        self.runs[-1] += size

    def _append(self, name: str, values: Column) -> None:
        if name not in self._files:
            self._files[name] = self.place.new_file(f"rows-{name}")
            if name in DEFAULTS:
                self._fill(self._files[name], DEFAULTS[name])
        append(self._files[name], values)

    def _fill(self, path: Path, value: int) -> None:
        step = 1 << 20
        for low in range(0, self.count, step):
            append(path, np.full(min(step, self.count - low), value, dtype=np.int32))

    def next_run(self) -> None:
        """The dictionaries begin again to number from 0."""
        self.runs.append(0)

    def read(self, step: int) -> Iterator[tuple[int, dict[str, Column]]]:
        """Columns of at most ``step`` rows of one run at a time, with the number of the run."""
        maps = {name: np.memmap(path, np.int32, "r") for name, path in self._files.items()}
        start = 0
        for run, size in enumerate(self.runs):
            for low in range(start, start + size, step):
                high = min(low + step, start + size)
                yield run, {name: values[low:high] for name, values in maps.items()}
            start += size
