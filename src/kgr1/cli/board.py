"""The live table of a comparison on stderr: one row a cell; without a terminal, a line when something happens."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kgr1.cli.bars import LINE_EVERY_S
from kgr1.cli.console import duration, err, one_line

if TYPE_CHECKING:
    from kgr1.evaluation.recipe import Cell


class _Row:
    """What is known of a cell so far."""

    def __init__(self) -> None:
        self.state, self.note = "waiting", ""
        self.done = self.total = self.resumed = 0
        self.scores: list[float] = []
        self.started = 0.0
        self.seconds = 0.0

    @property
    def f1(self) -> str:
        return f"{sum(self.scores) / len(self.scores):.3f}" if self.scores else ""

    @property
    def time(self) -> str:
        if self.state != "running":
            return duration(self.seconds) if self.seconds else ""
        played = self.done - self.resumed
        if played <= 0:
            return ""
        return f"{duration((time.monotonic() - self.started) / played * (self.total - self.done))} left"


_STYLES = {"waiting": "dim", "running": "bold", "finished": "green", "failed": "red"}


class Board:
    """Progress of all cells in a ``with`` block."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._rows = {cell: _Row() for cell in cells}
        self._live = Live(self._table(), console=err, transient=True, refresh_per_second=4, auto_refresh=False)
        self._shown = err.is_terminal
        self._told = time.monotonic()

    def __enter__(self) -> Self:
        if self._shown:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._live.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is drawn meanwhile, so that something else can be."""
        shown, self._shown = self._shown, False
        if shown:
            self._live.stop()
        try:
            yield
        finally:
            if shown:
                self._live.start()
            self._shown = shown

    @property
    def done(self) -> int:
        """Episodes that were played or found."""
        return sum(row.done for row in self._rows.values())

    def start(self, cell: Cell) -> None:
        """A cell begins."""
        row = self._rows[cell]
        row.state, row.started = "running", time.monotonic()
        self._draw()

    def update(self, cell: Cell, done: int, total: int, resumed: int, f1: float) -> None:
        """An episode was finished."""
        row = self._rows[cell]
        row.done, row.total, row.resumed = done, total, resumed
        row.scores.append(f1)
        now = time.monotonic()
        if self._shown:
            if now - self._told >= 0.25:
                self._told = now
                self._draw()
        elif now - self._told >= LINE_EVERY_S:
            self._told = now
            err.print(one_line(f"{cell.name}: episode {done}/{total}  f1 {row.f1}  {row.time}"))

    def end(self, cell: Cell, error: str) -> None:
        """A cell is over, well or not."""
        row = self._rows[cell]
        row.seconds = time.monotonic() - row.started
        row.state, row.note = ("failed", error) if error else ("finished", "")
        if self._shown:
            self._draw()
            return
        err.print(one_line(f"{cell.name}: {row.state}{f': {error}' if error else f' in {duration(row.seconds)}'}"))

    def _draw(self) -> None:
        if self._shown:
            self._live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for name in ("data set", "system", "", "episodes", "F1 so far", "time", ""):
            table.add_column(name, overflow="fold")
        for cell, row in self._rows.items():
            bar = ProgressBar(total=max(row.total, 1), completed=row.done, width=16)
            count = f"{row.done}/{row.total}" if row.total else ""
            table.add_row(
                *(Text(one_line(name)) for name in (cell.dataset, cell.system)),
                bar if row.state == "running" else Text(row.state, style=_STYLES[row.state]),
                count,
                row.f1,
                row.time,
                Text(one_line(row.note[:80]), style="red"),
            )
        return table
