"""Pictures of curves: training logs, several runs in one picture, and one share against another."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kgr1.errors import EvaluationError, MissingExtraError

DEFAULT_METRICS = ("f1", "reward", "turns", "kl")

Series = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Steps and values, both (steps,), ascending."""


def read_log(path: Path) -> dict[str, Series]:
    """Every numeric column of a log with rows such as ``{"step": 3, "f1": 0.4, "kl": 0.01}``.

    A step that is logged twice (a resumed run) counts with its last row; values that are not finite are left out, and
    so is a last line that is still being written. Raises :class:`EvaluationError` for anything else that is no row.
    """
    try:
        lines = path.read_text("utf-8", errors="replace").split("\n")
    except OSError as error:
        raise EvaluationError(f"Cannot read the training log {path}: {error.strerror}.", path=str(path)) from error
    points: dict[str, dict[int, float]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            step = int(row["step"])
            numbers = {name: float(value) for name, value in row.items() if isinstance(value, int | float)}
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            if number == len(lines):
                break
            raise EvaluationError(
                f"Line {number} of {path} is not a JSON object with an integer 'step'.", path=str(path), line=number
            ) from error
        for name, value in numbers.items():
            if name != "step" and math.isfinite(value):
                points.setdefault(name, {})[step] = value
    return {name: _series(values) for name, values in points.items()}


def _series(points: dict[int, float]) -> Series:
    steps = sorted(points)
    return np.array(steps, dtype=np.int64), np.array([points[step] for step in steps])


def moving_average(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Mean of the last ``window`` values (fewer at the start): (steps,) -> (steps,).

    >>> moving_average(np.array([1.0, 3.0, 5.0]), 2).tolist()
    [1.0, 2.0, 4.0]
    """
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    means: NDArray[np.float64] = (sums[ends] - sums[starts]) / (ends - starts)
    return means


def check_picture(out: Path) -> None:
    """Raise :class:`EvaluationError` unless the name is that of a PNG, so that no other file is replaced by one."""
    if out.suffix.lower() != ".png":
        raise EvaluationError(f"Pictures are PNG files; choose a name that ends in .png, not {out}.", path=str(out))


def plot_curves(
    runs: Sequence[tuple[str, Path]], out: Path, *, metrics: Sequence[str] = DEFAULT_METRICS, window: int = 10
) -> Path:
    """Draw one panel a metric, one colour a (label, log) pair, into the PNG ``out``; returns ``out``.

    The raw values are drawn thin, their moving average over ``window`` logged steps thick. Metrics that no log has get
    no panel. Raises :class:`MissingExtraError` without matplotlib and :class:`EvaluationError` if there is nothing to
    draw or a file cannot be read or written.
    """
    check_picture(out)
    make_figure = _figures()
    if window < 1:
        raise EvaluationError(f"The window of the moving average must be at least 1; got {window}.")
    logs = [(label, read_log(path)) for label, path in runs]
    shown = [name for name in metrics if any(name in log for _, log in logs)]
    if not shown:
        known = sorted({name for _, log in logs for name in log})
        raise EvaluationError(
            f"None of the logs has {', '.join(metrics)}; they have {', '.join(known) if known else 'no numbers'}."
        )
    wide = min(2, len(shown))
    figure = make_figure((6.0 * wide, 3.4 * math.ceil(len(shown) / wide)))
    for place, name in enumerate(shown, start=1):
        axes = figure.add_subplot(math.ceil(len(shown) / wide), wide, place)
        for number, (label, log) in enumerate(logs):
            if name in log:
                steps, values = log[name]
                axes.plot(steps, values, color=f"C{number % 10}", alpha=0.3, linewidth=0.8)
                mean = moving_average(values, window)
                axes.plot(steps, mean, color=f"C{number % 10}", linewidth=1.8, label=_plain(label))
        axes.set_title(_plain(name))
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        axes.legend()
    return _save(figure, out)


Line = tuple[str, Sequence[float], Sequence[float]]
"""A label with the x and the y of its points, both (points,)."""


def plot_shares(lines: Sequence[Line], out: Path, *, x: str, y: str, title: str = "") -> Path:
    """Draw lines of shares in [0, 1], in percent, into the PNG ``out``; returns ``out``. Raises as above."""
    check_picture(out)
    make_figure = _figures()
    if not any(len(points) for _, points, _ in lines):
        raise EvaluationError("There is no point to draw: no question was answered.")
    figure = make_figure((6.0, 4.2))
    axes = figure.add_subplot()
    for number, (label, across, up) in enumerate(lines):
        style = {"color": f"C{number % 10}", "marker": "o", "markersize": 3, "linewidth": 1.5, "label": _plain(label)}
        axes.plot([100 * value for value in across], [100 * value for value in up], **style)
    axes.set(xlabel=f"{_plain(x)} [%]", ylabel=f"{_plain(y)} [%]", xlim=(0, 102), ylim=(0, 102), title=_plain(title))
    axes.grid(alpha=0.3)
    axes.legend()
    return _save(figure, out)


def _figures() -> Callable[[tuple[float, float]], Any]:
    """Makes figures of a size in inches; raises :class:`MissingExtraError` without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("Drawing curves needs matplotlib; run: pip install 'kgr1[train]'.") from error

    def make(size: tuple[float, float]) -> Figure:
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        return figure

    return make


def _save(figure: Any, out: Path) -> Path:
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(temporary, format="png", dpi=120)
        temporary.replace(out)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise EvaluationError(f"Cannot write {out}: {error.strerror}.", path=str(out)) from error
    return out


def _plain(label: str) -> str:
    """A label as it is: a dollar sign would start a formula, a leading underscore would hide it from the legend."""
    text = label.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
