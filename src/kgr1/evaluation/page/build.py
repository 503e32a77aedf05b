"""Fill the template of the report.

Everything that comes from graphs, questions and models is escaped by the template engine or, for the example browser,
travels as JSON that the page's one script turns into text nodes. The page's own policy lets no other script run and
nothing be loaded.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

import kgr1
from kgr1.evaluation.bootstrap import RESAMPLES
from kgr1.evaluation.breakdowns import (
    call_parts,
    cause_parts,
    hop_rows,
    latency_rows,
    overview,
    part_rows,
    token_parts,
    turn_rows,
)
from kgr1.evaluation.costs import spread, throughput
from kgr1.evaluation.metrics import METRIC_VERSION, runs_per_question, union_name
from kgr1.evaluation.page import charts
from kgr1.evaluation.page.text import json_for_html, visible
from kgr1.evaluation.report import difference, interval, label, ordered, shown
from kgr1.evaluation.results import EFFICIENCY, pair, seconds
from kgr1.evaluation.runs import Run

HEADLINE = ("f1", "hit1", "hit_any", "em", "retrieval", "answered", "valid_queries", "generated_tokens")
BESIDE_TOKENS = ("f1", "hit1", "written_tokens", "generated_tokens")
"""What stands under the picture of accuracy against tokens."""

_PAIRED = ("f1", "hit1", "em", "retrieval", "generated_tokens")


def build_page(title: str, runs: Sequence[Run], notes: Sequence[str] = ()) -> str:
    """The whole page for runs of one or several systems on one or several data sets.

    Without matplotlib the page says where the pictures would be. Equal runs give equal pages.
    """
    datasets = list(dict.fromkeys(run.dataset for run in runs))
    pictures: list[str] = []
    sections = [_section(name, [run for run in runs if run.dataset == name], pictures) for name in datasets]
    script, style = _asset("page.js"), _asset("page.css")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["visible"] = visible
    return environment.from_string(_asset("page.html")).render(
        title=title or "Evaluation",
        overview=_table(*overview(runs)[1:]) if len(datasets) > 1 else _table([], []),
        sections=sections,
        notes=notes,
        pictures=charts.available(),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=Markup(style),
        data=Markup(json_for_html(_examples(runs))),
        examples=any(run.examples for run in runs),
        version=kgr1.__version__,
        metric_version=METRIC_VERSION,
        resamples=RESAMPLES,
    )


def _asset(name: str) -> str:
    return (files("kgr1.evaluation.page") / name).read_text("utf-8")


def _examples(runs: Iterable[Run]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for run in runs:
        for place in sorted(run.examples):
            for example in run.examples[place]:
                found.append({"system": run.system, "dataset": run.dataset, "place": place, **example})
    found.sort(key=lambda example: (example["dataset"], example["place"]))
    return [_all_visible(example) for example in found]


def _all_visible(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {key: _all_visible(inner) for key, inner in value.items()}
    return [_all_visible(inner) for inner in value] if isinstance(value, list | tuple) else value


def _section(dataset: str, runs: Sequence[Run], pictures: list[str]) -> dict[str, Any]:
    """Everything that is shown of one data set."""
    return {
        "dataset": dataset or "all questions",
        "headline": _headline(runs),
        "all_metrics": _all_metrics(runs),
        "figures": [figure for figure in _figures(runs, pictures) if figure["table"]["rows"]],
        "pairs": _pairs(runs),
        "efficiency": _efficiency(runs),
        "latency": _table(["system", "p50 s", "p95 s", "episodes"], latency_rows(runs)),
    }


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, Any]:
    return {"header": list(header), "rows": [list(row) for row in rows]}


def _cell(run: Run, name: str) -> str:
    metric = run.summary.metrics.get(name) or run.more_metrics.get(name)
    return "–" if metric is None else f"{shown(name, metric.value)} {interval(name, metric)}"


def _headline(runs: Sequence[Run]) -> dict[str, Any]:
    """One row a system; for several samples, a second row with the union of the runs."""
    rows = []
    for run in runs:
        count = f"{run.summary.overall.questions}"
        rows.append([run.system, count, *(_cell(run, name) for name in HEADLINE)])
        if "union_f1" in run.summary.metrics:
            samples = runs_per_question(run.summary.overall.questions, run.summary.overall.episodes)
            union = [_cell(run, f"union_{name}") for name in HEADLINE]
            rows.append([f"{run.system}: union of {samples} runs", count, *union])
    return _table(["system", "questions", *(label(name) for name in HEADLINE)], rows)


def _all_metrics(runs: Sequence[Run]) -> dict[str, Any]:
    names = ordered({name: m for run in runs for name, m in (*run.summary.metrics.items(), *run.more_metrics.items())})
    rows = [[label(name), *(_cell(run, name) for run in runs)] for name in names]
    return _table(["metric", *(run.system for run in runs)], rows)


def _pairs(runs: Sequence[Run]) -> dict[str, Any]:
    """Every pair of systems, question by question."""
    rows = []
    for number, first in enumerate(runs):
        for second in runs[number + 1 :]:
            found = pair(first, second)
            if found is None:
                continue
            cells = [difference(name, found.difference.get(name), missing="–") for name in _PAIRED]
            rows.append([f"{second.system} − {first.system}", str(found.questions), *cells])
    return _table(["difference", "questions", *(label(name) for name in _PAIRED)], rows)


Draw = Callable[[list[str]], None]


def _figures(runs: Sequence[Run], pictures: list[str]) -> Iterable[dict[str, Any]]:
    """Pictures, each with the numbers behind it; in the order of the page."""
    names = [charts.name_of(run) for run in runs]

    def figure(title: str, caption: str, draw: Draw, table: dict[str, Any]) -> dict[str, Any]:
        if table["rows"] and charts.available():
            draw(pictures)
            return {"title": title, "caption": caption, "svg": Markup(pictures[-1]), "table": table}
        return {"title": title, "caption": caption, "svg": "", "table": table}

    def bars(parts: Mapping[str, Sequence[float]], unit: str) -> Draw:
        return partial(charts.stacked, names, parts, unit)

    yield figure(
        "Accuracy against tokens written",
        "Up and to the left is better. Tokens that a guided turn left no choice about are among those written. With "
        "several runs of a question: the union of their answers, the sum of their tokens.",
        partial(charts.accuracy_by_tokens, runs),
        _table(
            ["system", "F1", "Hit@1", "tokens written", "generated tokens"],
            [[run.system, *(_best(run, name) for name in BESIDE_TOKENS)] for run in runs],
        ),
    )
    yield figure(
        "Accuracy by hops",
        "F1 with 95% intervals.",
        partial(charts.accuracy_by_hops, runs),
        _table(["system", "hops", "questions", "F1"], hop_rows(runs)),
    )
    yield figure(
        "Seconds of an episode",
        "With several episodes at once this includes waiting for the others; only a run with one at a time gives the "
        "latency of a single question.",
        partial(charts.latency, runs),
        _speed(runs),
    )
    yield figure(
        "Seconds by turn",
        "Means over the episodes that reached the turn.",
        partial(charts.turn_times, runs),
        _table(["system", "turn", "episodes", "model s", "graph s"], turn_rows(runs)),
    )
    unit = "tokens" if all(run.in_tokens for run in runs) else "characters"
    comparable = unit == "tokens" or not any(run.in_tokens for run in runs)
    note = "" if comparable else " Some of these systems count in tokens and some in characters; do not compare them."
    kinds, calls, causes = token_parts(runs), call_parts(runs), cause_parts(runs)
    yield figure(
        f"{unit.capitalize()} by kind",
        f"Mean {unit} of an episode. A turn is sampled as one piece; thought and query share it by characters.{note}",
        bars(kinds, f"{unit} of an episode"),
        _shares(runs, kinds, "{:.1f}"),
    )
    yield figure("Graph calls by outcome", "Calls of an episode.", bars(calls, "calls"), _shares(runs, calls, "{:.3f}"))
    yield figure(
        "What became of the episodes",
        "The first cause that fits, in the order of the legend; the metrics page of the documentation defines them.",
        bars(causes, "% of the episodes"),
        _shares(runs, causes, "{:.1f} %"),
    )


def _best(run: Run, name: str) -> str:
    return _cell(run, union_name(run.summary.metrics, name))


def _efficiency(runs: Sequence[Run]) -> dict[str, Any]:
    """Calls and tokens of an episode, then its seconds and the rates."""
    rows = []
    for run in runs:
        counts = [shown(name, run.summary.metrics[name].value) for name in EFFICIENCY if name in run.summary.metrics]
        rows += [[name, *counts, *speed] for name, *speed in _speed([run])["rows"]]
    return _table(["system", *map(label, EFFICIENCY), *_SPEED], rows)


_SPEED = ("p50 s", "p95 s", "episodes at once", "episodes/s", "generated tokens/s")


def _speed(runs: Sequence[Run]) -> dict[str, Any]:
    """One row a concurrency, so that a rate never mixes two of them."""
    rows = []
    for run in runs:
        found = spread(run.seconds)
        if found is None:
            continue
        rates = [
            [str(rate.concurrency), seconds(rate.episodes_per_s), seconds(rate.tokens_per_s)]
            for rate in throughput(run.sessions)
        ]
        rows += [[run.system, seconds(found.p50), seconds(found.p95), *rate] for rate in rates or [["–", "–", "–"]]]
    return _table(["system", *_SPEED], rows)


def _shares(runs: Sequence[Run], parts: Mapping[str, Sequence[float]], text: str) -> dict[str, Any]:
    names, rows = part_rows(runs, parts, text)
    return _table(["system", *names], rows)
