"""Progress on stderr: a bar on a terminal, now and then a line in a log file."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn
from rich.progress import TimeRemainingColumn as _TimeRemainingColumn
from rich.text import Text

from kgr1.cli.console import duration, err, one_line

if TYPE_CHECKING:
    from kgr1.graph.build import BuildProgress

LINE_EVERY_S = 30.0
"""Without a terminal, one line at most this often."""


class _Bar:
    """What is shown from the beginning to the end of a ``with`` block."""

    _progress: Progress

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


class StepBar(_Bar):
    """Progress of a known number of steps with a few numbers beside it.

    ::

        with StepBar("Training", "step") as bar:
            bar.update(3, 40, {"f1": "0.41"})
    """

    def __init__(self, title: str, unit: str) -> None:
        self._title, self._unit = title, unit
        columns: list[ProgressColumn] = [
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}", markup=False),
            _TimeRemainingColumn(elapsed_when_finished=True),
        ]
        self._progress = Progress(
            *columns,
            console=err,
            transient=True,
            disable=not err.is_terminal,
            speed_estimate_period=3600,  # a training step can take minutes
        )
        self._task = self._progress.add_task(title, total=None, numbers="")
        self._started = self._told = time.monotonic()
        self._first: int | None = None
        self.done = 0
        self.total = 0

    def update(self, done: int, total: int, numbers: Mapping[str, str]) -> None:
        """Tell how far it is; ``numbers`` are shown as they are."""
        finished = done == total != self.done
        self.done, self.total = done, total
        if self._first is None:
            self._first = done
        shown = "  ".join(f"{name} {one_line(value)}" for name, value in numbers.items())
        self._progress.update(self._task, completed=done, total=total, numbers=shown)
        now = time.monotonic()
        if self._progress.disable and (now - self._told >= LINE_EVERY_S or finished):
            self._told = now
            err.print(f"{self._title}: {self._unit} {done}/{total}  {shown}  {self._left(now)}".rstrip())

    def _left(self, now: float) -> str:
        steps = self.done - (self._first or 0)
        if steps <= 0 or self.done == self.total:
            return ""
        return f"{duration((now - self._started) / steps * (self.total - self.done))} left"

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return time.monotonic() - self._started


class CountBar(_Bar):
    """Progress of something whose end is not known: how many, and how many a second."""

    def __init__(self, title: str, unit: str) -> None:
        columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False)]
        self._progress = Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
        self._title, self._unit = title, unit
        self._task = self._progress.add_task(title, total=None)
        self._started = self._told = time.monotonic()

    def update(self, count: int) -> None:
        """Tell how many there are so far."""
        now = time.monotonic()
        rate = count / max(now - self._started, 1e-6)
        text = f"{self._title}: {count:,} {self._unit}, {rate:,.0f}/s"
        self._progress.update(self._task, description=text)
        if self._progress.disable and now - self._told >= LINE_EVERY_S:
            self._told = now
            err.print(text)


class BuildBar(CountBar):
    """Progress of building a graph: rows, rate, and how long reading will take if the size of the sources is known."""

    def __init__(self) -> None:
        super().__init__("Reading", "rows")

    def report(self, progress: BuildProgress) -> None:
        """Tell how far the build is."""
        now = time.monotonic()
        text = _STAGES.get(progress.stage) or self._reading(progress, now - self._started)
        self._progress.update(self._task, description=text)
        if self._progress.disable and now - self._told >= LINE_EVERY_S:
            self._told = now
            err.print(text)

    def _reading(self, progress: BuildProgress, seconds: float) -> str:
        text = f"{self._title}: {progress.rows:,} {self._unit}, {progress.rows / max(seconds, 1e-6):,.0f}/s"
        if not progress.bytes_read or not progress.bytes_total:
            return text
        share = min(1.0, progress.bytes_read / progress.bytes_total)
        return f"{text}, {share:.0%}, {duration(seconds * (1 - share) / share)} left"


_STAGES = {
    "names": "Sorting the names",
    "facts": "Sorting the facts",
    "contracting": "Contracting",
    "unifying": "Unifying relations",
    "saving": "Saving",
}


@contextmanager
def busy(text: str, console: Console = err) -> Iterator[None]:
    """A spinner while something without steps takes place; only ``console`` may be printed to meanwhile."""
    if not console.is_terminal:
        yield
        return
    with console.status(Text(one_line(text))):
        yield
