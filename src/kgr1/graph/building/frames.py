"""Tables that are too large for memory, in parts: rows with the same text are in the same part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from kgr1.graph.building.dictionary import read_frame, write_frame
from kgr1.graph.building.workspace import Workspace


class Frames:
    """A table in ``parts`` parts; one part alone stays in memory, several lie in ``files``."""

    def __init__(self, place: Workspace, stem: str, parts: int, schema: dict[str, pl.DataType]) -> None:
        self.parts = parts
        self._place = place
        self._stem = stem
        self._schema = schema
        self._memory: list[pl.DataFrame] = []
        self.files: list[list[Path]] = [[] for _ in range(parts)]

    def add(
        self,
        frame: pl.DataFrame,
        *,
        key: str | None = None,
        numbers: npt.NDArray[np.int64] | None = None,
        part: int = 0,
    ) -> None:
        """Add rows: over the parts by the text in the column ``key``, by a number for each row, or to one ``part``."""
        frame = frame.select(list(self._schema))
        if not frame.height:
            return
        if self.parts == 1:
            self._memory.append(frame)
            return
        if key is not None:
            numbers = (frame[key].hash().to_numpy() % np.uint64(self.parts)).astype(np.int64)
        if numbers is None:
            self._write(frame, part)
            return
        order = np.argsort(numbers, kind="stable")
        bounds = np.searchsorted(numbers[order], np.arange(self.parts + 1))
        frame = frame[order]
        for number in np.flatnonzero(np.diff(bounds)).tolist():
            self._write(frame[int(bounds[number]) : int(bounds[number + 1])], number)

    def _write(self, frame: pl.DataFrame, part: int) -> None:
        path = self._place.new_file(self._stem, ".ipc")
        write_frame(frame, path)
        self.files[part].append(path)

    def read(self, part: int, *, drop: bool = False) -> pl.DataFrame:
        """All rows of a part, in the order in which they came; with ``drop`` they are gone afterwards."""
        frames = self._memory if self.parts == 1 else [read_frame(path) for path in self.files[part]]
        frame = pl.concat(frames) if frames else pl.DataFrame(schema=self._schema)
        if self.parts == 1:
            self._memory = [] if drop else [frame]
        elif drop:
            for path in self.files[part]:
                path.unlink()
            self.files[part] = []
        return frame

    def take(self) -> Iterator[pl.DataFrame]:
        """All parts, each gone afterwards."""
        for part in range(self.parts):
            yield self.read(part, drop=True)
