"""Numbers for names as they come, with memory for a bounded number of names.

polars keeps the names of a run as categories and numbers a column of names by them in one call. When a run has grown
too large its names lie in files already, so the run is simply closed, and the next one begins to number from 0 again;
:mod:`kgr1.graph.building.naming` finds out which names of different runs are the same.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from kgr1.errors import GraphError
from kgr1.graph.building.workspace import Workspace

BLANKS = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009" + (
    "\u200a\u2028\u2029\u202f\u205f\u3000"
)
"""What :meth:`str.strip` takes away."""

_NO_NAME = pl.Series([""], dtype=pl.String)

_THREADS = 2
_FEW = 50_000  # names that are not worth another thread

_OVERHEAD = 80
"""Bytes that a category takes besides its text, measured."""


@dataclass
class Run:
    """Names 0 .. ``count`` - 1, in files in this order."""

    count: int = 0
    files: list[Path] = field(default_factory=list)


class Dictionary:
    """Numbers the names of entities, relations or question graphs."""

    def __init__(self, place: Workspace, stem: str) -> None:
        self._place = place
        self._stem = stem
        self.runs = [Run()]
        self.forget()

    def encode(self, names: pl.Series) -> npt.NDArray[np.uint32]:
        """Numbers of some names in the current run, (n,).

        Raises :class:`GraphError` for a name that is empty or missing.
        """
        if names.null_count():
            raise GraphError("A name is missing in a row of the source.")
        codes = self._numbers(names)
        if _NO_NAME.cast(self._type).to_physical()[0] != 0:
            raise RuntimeError("polars has forgotten the names of the rows before")
        if len(codes) and codes.min() == 0:
            raise GraphError("A name is empty in a row of the source.")
        codes = codes - np.uint32(1)
        run = self.runs[-1]
        positions = np.flatnonzero(codes >= run.count)
        if len(positions):
            fresh = codes[positions] - np.uint32(run.count)
            first = np.full(int(fresh.max()) + 1, -1, dtype=np.int64)
            first[fresh[::-1]] = positions[::-1]
            if (first < 0).any():
                raise RuntimeError("the categories of polars are not numbered without gaps")
            self._keep(names.gather(first))
        return codes

    def _numbers(self, names: pl.Series) -> npt.NDArray[np.uint32]:
        """Numbers by polars. Several threads may number at once: who comes first gets the next number."""

        def part(names: pl.Series) -> npt.NDArray[np.uint32]:
            return names.cast(self._type).to_physical().to_numpy()

        if len(names) < _FEW:
            return part(names)
        size = -(-len(names) // _THREADS)
        with ThreadPoolExecutor(_THREADS) as pool:
            return np.concatenate(
                list(pool.map(part, (names[start : start + size] for start in range(0, len(names), size))))
            )

    def _keep(self, names: pl.Series) -> None:
        if (names.str.strip_chars(BLANKS).str.len_bytes() == 0).any():
            raise GraphError("A name is empty in a row of the source.")
        path = self._place.new_file(self._stem, ".ipc")
        write_frame(pl.DataFrame({"id": names}), path)
        run = self.runs[-1]
        run.files.append(path)
        run.count += len(names)
        if run.count >= 2**31:
            raise GraphError(f"{run.count:,} names are more than a store can number (2,147,483,647).")
        self.bytes += int(names.str.len_bytes().sum()) + _OVERHEAD * len(names)

    def next_run(self) -> None:
        """Forget the names and begin to number from 0."""
        self.runs.append(Run())
        self.forget()

    def forget(self) -> None:
        """Release the memory; nothing can be numbered in the current run any more."""
        self.bytes = 0
        self._type = pl.Categorical(pl.Categories.random())
        # Categories without a column that uses them are forgotten at once. This column keeps them, and the text in it,
        # which no name can be, has the number 0 as long as they are the same.
        self._alive = _NO_NAME.cast(self._type)


def write_frame(frame: pl.DataFrame, path: Path) -> None:
    """Write a frame to a file of its own."""
    # The oldest layout holds the texts of the frame only; the newest one all that they were cut from.
    frame.write_ipc(path, compat_level=pl.CompatLevel.oldest())


def read_frame(path: Path) -> pl.DataFrame:
    """Read what :func:`write_frame` wrote."""
    return pl.read_ipc(path)
