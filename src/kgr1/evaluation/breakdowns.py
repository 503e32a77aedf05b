"""What lies behind the headline numbers: systems by data sets, hops, turns, tokens, calls, causes, latency.

The tables of a comparison and the pictures of the report are made of the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from kgr1.evaluation.bootstrap import Metric
from kgr1.evaluation.causes import OUTCOMES, Cause
from kgr1.evaluation.costs import spread
from kgr1.evaluation.metrics import runs_per_question, union_name
from kgr1.evaluation.report import interval, label, shown
from kgr1.evaluation.results import Table, seconds
from kgr1.evaluation.runs import Run
from kgr1.types import ErrorCode

OVERVIEW = ("f1", "hit1", "generated_tokens")
KINDS = {
    "prompt": "system prompt",
    "read": "prompts of its calls",
    "reply": "replies",
    "thought": "thought",
    "action": "query or answer",
    "forced": "forced",
    "observation": "observation",
}

Parts = dict[str, list[float]]
"""Means of an episode by part; ``parts[label][i]`` belongs to run ``i``."""

Rows = list[list[str]]


def breakdowns(runs: Sequence[Run]) -> list[Table]:
    """The tables of runs on any data sets, those without a row included."""
    columns = ["data set", "system"]
    parts = {
        "Tokens of an episode by kind" + _in_characters(runs): (token_parts(runs), "{:.1f}"),
        "Graph calls of an episode by outcome": (call_parts(runs), "{:.3f}"),
        "What became of the episodes": (cause_parts(runs), "{:.1f} %"),
    }
    return [
        overview(runs),
        ("F1 by hops", [*columns, "hops", "questions", "F1"], _by_data_set(runs, hop_rows)),
        (
            "Latency of single questions, played one at a time",
            [*columns, "p50 s", "p95 s", "episodes"],
            _by_data_set(runs, latency_rows),
        ),
        (
            "Mean seconds by turn",
            [*columns, "turn", "episodes", "model s", "graph s"],
            _by_data_set(runs, turn_rows),
        ),
        *((title, *_part_table(runs, found, text)) for title, (found, text) in parts.items()),
    ]


def overview(runs: Sequence[Run]) -> Table:
    """One row a system, with every data set beside the others and the mean over all questions of all of them.

    With several runs of a question it is their union that counts, and the sum of their tokens. A system that has not
    played every data set has no mean.
    """
    datasets = list(dict.fromkeys(run.dataset for run in runs))
    whole = len(datasets) > 1
    names = [name for name in OVERVIEW if name != "generated_tokens"]
    header = ["system", "runs", *(f"{dataset}: {label(name)}" for dataset in datasets for name in OVERVIEW)]
    header += [f"all questions: {label(name)}" for name in names] if whole else []
    rows = []
    for system in dict.fromkeys(run.system for run in runs):
        played = {run.dataset: run for run in runs if run.system == system}
        cells = [_shown(played.get(dataset), name) for dataset in datasets for name in OVERVIEW]
        means = [_mean([played.get(dataset) for dataset in datasets], name) for name in names] if whole else []
        rows.append([system, " / ".join(dict.fromkeys(str(_samples(run)) for run in played.values())), *cells, *means])
    return "Systems by data sets; several runs as their union", header, rows


def _in_characters(runs: Sequence[Run]) -> str:
    """Which systems write text without token ids, so that their characters are counted."""
    names = ", ".join(dict.fromkeys(run.system for run in runs if not run.in_tokens))
    return f", in characters for {names}" if names else ""


def union_metric(run: Run, name: str) -> Metric | None:
    """The metric of the union of the runs where there are several, else that of the run."""
    return of_union(run.summary.metrics, name)


def of_union(metrics: Mapping[str, Metric], name: str) -> Metric | None:
    """That of the union of several runs, if it is there."""
    return metrics.get(union_name(metrics, name))


def _samples(run: Run) -> int:
    overall = run.summary.overall
    return runs_per_question(overall.questions, overall.episodes)


def _shown(run: Run | None, name: str) -> str:
    metric = None if run is None else union_metric(run, name)
    return "-" if metric is None else shown(name, metric.value)


def _mean(runs: Sequence[Run | None], name: str) -> str:
    """Over all questions of all data sets, so that a large set counts more than a small one."""
    total, questions = 0.0, 0
    for run in runs:
        metric = None if run is None else union_metric(run, name)
        if run is None or metric is None:
            return "-"
        total += metric.value * run.summary.overall.questions
        questions += run.summary.overall.questions
    return shown(name, total / questions) if questions else "-"


def _by_data_set(runs: Iterable[Run], rows: Callable[[Sequence[Run]], Rows]) -> Rows:
    return [[run.dataset, *row] for run in runs for row in rows([run])]


def hop_rows(runs: Sequence[Run]) -> Rows:
    """System, hops, number of questions, F1 with its interval; with several runs, of their union."""
    found = []
    for run in runs:
        for hop, part in run.summary.by_hops.items():
            f1 = of_union(part.metrics, "f1")
            if f1 is not None:
                found.append([run.system, hop, str(part.questions), f"{shown('f1', f1.value)} {interval('f1', f1)}"])
    return found


def latency_rows(runs: Sequence[Run]) -> Rows:
    """System, median and 95th percentile of the seconds of an episode, and how many there are.

    Only for runs that are known to have been played one episode at a time: in others seconds include waiting.
    """
    found = []
    for run in runs:
        alone = bool(run.sessions) and all(session.concurrency == 1 for session in run.sessions)
        times = spread(run.seconds) if alone else None
        if times is not None:
            found.append([run.system, seconds(times.p50), seconds(times.p95), str(times.n)])
    return found


def turn_rows(runs: Sequence[Run]) -> Rows:
    """System, turn, episodes that reached it, mean seconds of the model and of the graph."""
    return [
        [run.system, str(n), str(t.turns), seconds(t.generate_s / t.turns), seconds(t.graph_s / t.turns)]
        for run in runs
        for n, t in enumerate(run.turn_times, start=1)
        if t.turns
    ]


def token_parts(runs: Sequence[Run]) -> Parts:
    """Mean tokens (or characters) of an episode by kind."""
    means = [run.mean_kinds.model_dump() for run in runs]
    return {text: [mean[kind] for mean in means] for kind, text in KINDS.items()}


def call_parts(runs: Sequence[Run]) -> Parts:
    """Mean calls of the graph by outcome, turns that were no query among them."""
    outcomes = [*OUTCOMES[:2], *(code.value for code in ErrorCode), *OUTCOMES[2:]]
    return {name: [run.calls[name] / max(len(run.rows), 1) for run in runs] for name in outcomes}


def cause_parts(runs: Sequence[Run]) -> Parts:
    """Percent of the episodes by what became of them."""
    return {c.value: [100 * run.causes[c] / max(len(run.rows), 1) for run in runs] for c in Cause}


def part_rows(runs: Sequence[Run], parts: Mapping[str, Sequence[float]], text: str) -> tuple[list[str], Rows]:
    """The parts that are not 0 throughout, and a row for each run: its system, then their values as ``text``."""
    kept = {name: values for name, values in parts.items() if any(values)}
    rows = [[run.system, *(text.format(values[at]) for values in kept.values())] for at, run in enumerate(runs)]
    return list(kept), rows if kept else []


def _part_table(runs: Sequence[Run], parts: Parts, text: str) -> tuple[list[str], Rows]:
    names, rows = part_rows(runs, parts, text)
    return ["data set", "system", *names], [[run.dataset, *row] for run, row in zip(runs, rows, strict=False)]
