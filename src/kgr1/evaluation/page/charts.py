"""Pictures of the report as SVG, drawn by matplotlib; text stays text, and equal numbers give equal bytes."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from kgr1.errors import MissingExtraError
from kgr1.evaluation.bootstrap import Metric
from kgr1.evaluation.breakdowns import of_union, union_metric
from kgr1.evaluation.costs import spread
from kgr1.evaluation.page.text import visible
from kgr1.evaluation.runs import Run

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")
"""Told apart by people who see colours differently (Okabe and Ito)."""

MARKERS = "osD^vP*X"
_GREY = "#5b6470"
_MAX_NAME = 40
_WIDTH = 6.4  # inches


def available() -> bool:
    """True if pictures can be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


@contextmanager
def _axes(height: float, labels: Sequence[str], into: list[str]) -> Iterator[Any]:
    """Axes of a new figure, ``height`` inches high without its legend of ``labels``.

    What was drawn is added to ``into`` as the text of an ``<svg>`` element.
    """
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("Pictures need matplotlib; run: pip install 'kgr1[train]'.") from error
    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": f"kgr1-{len(into)}",  # ids differ between the pictures of a page and not between calls
        "font.family": ["sans-serif"],
        "font.size": 9.5,
        "text.parse_math": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#9aa3ad",
        "axes.labelcolor": _GREY,
        "axes.axisbelow": True,
        "xtick.color": _GREY,
        "ytick.color": _GREY,
        "grid.color": "#e3e7eb",
        "legend.frameon": False,
    }
    with mpl.rc_context(style), warnings.catch_warnings():
        # The browser's fonts draw the text; those that matplotlib measures it with need not have every script.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        lines = -(-len(labels) // _columns(labels))
        figure = Figure(figsize=(_WIDTH, height + 0.19 * lines), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure.add_subplot()
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # Ids such as "figure_1" would be the same in every picture of the page; those that are referred to carry the salt.
    into.append(re.sub(r' id="[\w.]+_\d+"', "", svg))


def _columns(labels: Sequence[str]) -> int:
    """Columns of a legend that is as wide as the picture."""
    return max(1, min(4, len(labels), 96 // (8 + max(map(len, labels), default=0))))


def _legend(axes: Any) -> None:
    """Above the axes, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    axes.figure.legend(handles, labels, loc="outside upper left", ncols=_columns(labels), fontsize=8.5)


def name_of(run: Run) -> str:
    """The system's name as it fits beside an axis; a leading underscore would hide it from the legend."""
    name = " ".join(visible(run.system).split())
    name = name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…"
    return f" {name}" if name.startswith("_") else name


def _errors(metric: Metric, scale: float) -> list[list[float]]:
    return [[scale * (metric.value - metric.low)], [scale * (metric.high - metric.value)]]


def accuracy_by_tokens(runs: Sequence[Run], into: list[str]) -> None:
    """F1 against all tokens that were written, both with their intervals."""
    with _axes(3.4, [name_of(run) for run in runs], into) as axes:
        for number, run in enumerate(runs):
            f1, tokens = union_metric(run, "f1"), union_metric(run, "written_tokens")
            if f1 is None or tokens is None:
                continue
            axes.errorbar(
                [tokens.value],
                [100 * f1.value],
                xerr=_errors(tokens, 1),
                yerr=_errors(f1, 100),
                fmt=MARKERS[number % len(MARKERS)],
                color=COLOURS[number % len(COLOURS)],
                markersize=7,
                capsize=2,
                label=name_of(run),
            )
        axes.set_xlabel("tokens written for a question, generated and forced")
        axes.set_ylabel("F1, %")
        axes.set_ylim(-3, 103)
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
        axes.grid()
        _legend(axes)


def accuracy_by_hops(runs: Sequence[Run], into: list[str]) -> None:
    """F1 by the number of hops, one group of bars for each."""
    hops = sorted({hop for run in runs for hop in run.summary.by_hops}, key=lambda hop: (not hop.isdecimal(), hop))
    width = 0.8 / len(runs)
    with _axes(3.0, [name_of(run) for run in runs], into) as axes:
        for number, run in enumerate(runs):
            found = [(place, of_union(run.summary.by_hops[hop].metrics, "f1")) for place, hop in enumerate(hops)
                     if hop in run.summary.by_hops]  # fmt: skip
            bars = [(place, metric) for place, metric in found if metric is not None]
            axes.bar(
                [place + (number - (len(runs) - 1) / 2) * width for place, _ in bars],
                [100 * metric.value for _, metric in bars],
                width * 0.92,
                yerr=np.hstack([_errors(metric, 100) for _, metric in bars]) if bars else None,
                color=COLOURS[number % len(COLOURS)],
                ecolor=_GREY,
                capsize=2,
                label=name_of(run),
            )
        axes.set_xticks(range(len(hops)), [f"{hop} hop{'s' if hop != '1' else ''}" for hop in hops])
        axes.set_ylabel("F1, %")
        axes.set_ylim(0, 105)
        axes.grid(axis="y")
        _legend(axes)


def latency(runs: Sequence[Run], into: list[str]) -> None:
    """Histogram of the seconds of an episode, with the median (dashed) and the 95th percentile (dotted)."""
    every = np.array([second for run in runs for second in run.seconds])
    wide = len(every) > 0 and every.min() > 0 and every.max() / every.min() > 30
    edges = np.geomspace(every.min(), every.max(), 41) if wide else np.linspace(0, max(every.max(), 1e-9), 41)
    with _axes(3.0, [name_of(run) for run in runs], into) as axes:
        for number, run in enumerate(runs):
            colour = COLOURS[number % len(COLOURS)]
            axes.hist(run.seconds, bins=edges, histtype="stepfilled", color=colour, alpha=0.25)
            axes.hist(run.seconds, bins=edges, histtype="step", color=colour, label=name_of(run))
            found = spread(run.seconds)
            if found is not None:
                axes.axvline(found.p50, color=colour, linestyle="--", linewidth=1)
                axes.axvline(found.p95, color=colour, linestyle=":", linewidth=1.4)
        if wide:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.xaxis.set_minor_formatter("")
        axes.set_xlabel("seconds of an episode; dashed: p50, dotted: p95")
        axes.set_ylabel("episodes")
        axes.grid(axis="y")
        _legend(axes)


def turn_times(runs: Sequence[Run], into: list[str]) -> None:
    """Mean seconds of the model (line) and of the graph (dotted) in each turn."""
    labels = [f"{name_of(run)}: {part}" for run in runs for part in ("model", "graph")]
    with _axes(3.0, labels, into) as axes:
        for number, run in enumerate(runs):
            colour = COLOURS[number % len(COLOURS)]
            turns = np.arange(1, len(run.turn_times) + 1)
            model = [times.generate_s / times.turns for times in run.turn_times]
            graph = [times.graph_s / times.turns for times in run.turn_times]
            axes.plot(turns, model, marker="o", markersize=4, color=colour, label=labels[2 * number])
            axes.plot(turns, graph, marker=".", linestyle=":", color=colour, label=labels[2 * number + 1])
        axes.set_xticks(np.arange(1, 1 + max((len(run.turn_times) for run in runs), default=1)))
        axes.set_xlabel("turn")
        axes.set_ylabel("seconds")
        axes.set_ylim(bottom=0)
        axes.grid(axis="y")
        _legend(axes)


def stacked(names: Sequence[str], parts: Mapping[str, Sequence[float]], unit: str, into: list[str]) -> None:
    """Horizontal bars, one a system, made of parts; ``parts[label][i]`` belongs to ``names[i]``."""
    shown = {label: values for label, values in parts.items() if any(values)}
    palette = [*COLOURS, "#a6cee3", "#b2df8a", "#fb9a99", "#fdbf6f", "#cab2d6"]
    with _axes(0.75 + 0.34 * len(names), list(shown), into) as axes:
        left = np.zeros(len(names))
        for number, (label, values) in enumerate(shown.items()):
            axes.barh(range(len(names)), values, 0.62, left=left, color=palette[number % len(palette)], label=label)
            left += np.array(values)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlabel(unit)
        axes.grid(axis="x")
        if shown:
            _legend(axes)
