"""Markdown tables of a summary and of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kgr1.evaluation.bootstrap import Metric
from kgr1.evaluation.compare import Comparison
from kgr1.evaluation.metrics import METRIC_VERSION, SHARES, Slice, Summary
from kgr1.evaluation.variants import VARIANTS

LABELS = {
    "f1": "F1 (macro)",
    "hit1": "Hit@1",
    "hit_any": "Hit@any",
    "em": "exact match",
    "retrieval": "retrieval rate",
    "answered": "answered",
    "fallback": "answered without the graph",
    "valid_queries": "valid queries",
    "turns": "turns",
    "graph_calls": "graph calls",
    "empty_graph_calls": "graph calls without a result",
    "model_calls": "model calls",
    "generated_tokens": "generated tokens",
    "forced_tokens": "forced tokens",
    "written_tokens": "tokens written",
    "context_tokens": "tokens in the final context",
    "total_tokens": "total tokens (prompt + completion, all calls)",
    "seconds": "seconds per episode",
    "union_f1": "F1, union of runs",
    "union_hit1": "Hit@1, union of runs",
    "union_hit_any": "Hit@any, union of runs",
    "union_em": "exact match, union of runs",
    "union_retrieval": "retrieval rate, union of runs",
    "union_generated_tokens": "generated tokens, all runs",
    "rog_hit": "RoG Hit (substring)",
    "rog_accuracy": "RoG accuracy (substring)",
    "rog_f1": "RoG F1 (substring, capped at 1)",
    "tog_em": "ToG EM (substring either way)",
    "hit_f1": "Hit = F1 > 0",
    "token_f1": "token F1",
    "best_parse_f1": "F1, best parse",
    "best_parse_em": "exact match, best parse",
    "substring_retrieval": "substring retrieval",
    "judge_recall": "LLM judge, gold entities named",
    "judge_any": "LLM judge, some gold entity named",
    "judge_all": "LLM judge, all gold entities named",
}
"""What tables call a metric, in the order in which they list them."""

_SLICE_METRICS = ("f1", "hit1", "em", "retrieval", "turns", "generated_tokens")


def is_share(name: str) -> bool:
    """True for metrics between 0 and 1, which tables show in percent."""
    return name.startswith(("pass@", "judge_")) or name in VARIANTS or name.removeprefix("union_") in SHARES


def summary_table(summary: Summary) -> str:
    """Markdown: one row a headline metric with its 95% interval, then one table for each way to slice the questions."""
    lines = _whole(summary.overall, summary.seed, summary.resamples, summary.metric_version)
    sections = {"hops": summary.by_hops, "question kind": summary.by_kind, "data set": summary.by_dataset}
    for title, slices in sections.items():
        if slices:
            lines += ["", *_slice_table(title, slices)]
    return "\n".join(lines) + "\n"


def slice_table(whole: Slice, *, seed: int, resamples: int) -> str:
    """Markdown: one row a metric with its 95% interval."""
    return "\n".join(_whole(whole, seed, resamples, METRIC_VERSION)) + "\n"


def _whole(whole: Slice, seed: int, resamples: int, version: int) -> list[str]:
    return [
        f"{whole.questions} questions, {whole.episodes} episodes; 95% bootstrap intervals over questions "
        f"({resamples} resamples, seed {seed}); metric version {version}.",
        "",
        *markdown_table(
            ("metric", "value", "95% interval"),
            [(label(n), shown(n, m.value), interval(n, m)) for n, m in ordered(whole.metrics).items()],
        ),
    ]


def comparison_table(comparison: Comparison, before: str = "before", after: str = "after") -> str:
    """Markdown: both runs and the difference after - before; a star marks intervals that do not contain 0."""
    rows = []
    for name, change in ordered(comparison.difference).items():
        rows.append(
            (
                label(name),
                shown(name, comparison.before[name].value),
                shown(name, comparison.after[name].value),
                shown(name, change.value, signed=True) + star(change),
                interval(name, change, signed=True),
            )
        )
    left_out = comparison.only_before + comparison.only_after
    note = f" {left_out} questions that only one run has are left out." if left_out else ""
    lines = [
        f"{comparison.questions} questions in both runs; paired 95% bootstrap intervals; * where 0 is outside.{note}",
        "",
        *markdown_table(("metric", before, after, "difference", "95% interval"), rows),
    ]
    return "\n".join(lines) + "\n"


def star(change: Metric) -> str:
    """The mark of a difference whose interval does not contain 0."""
    return " *" if change.low > 0 or change.high < 0 else ""


def difference(name: str, change: Metric | None, *, missing: str = "-") -> str:
    """A difference with its interval and its mark in one cell; ``missing`` where there is none."""
    if change is None:
        return missing
    return f"{shown(name, change.value, signed=True)} {interval(name, change, signed=True)}{star(change)}"


def label(name: str) -> str:
    """What tables call a metric."""
    return LABELS.get(name, name)


def _slice_table(title: str, slices: Mapping[str, Slice]) -> list[str]:
    names = [name for name in _SLICE_METRICS if any(name in part.metrics for part in slices.values())]
    rows = []
    for key, part in slices.items():
        cells = [
            f"{shown(n, part.metrics[n].value)} {interval(n, part.metrics[n])}" if n in part.metrics else "-"
            for n in names
        ]
        rows.append((key, str(part.questions), *cells))
    return markdown_table((title, "questions", *(label(name) for name in names)), rows)


def ordered(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """Metrics in the order of :data:`LABELS`; ``pass@k`` and anything else follows."""
    return {name: metrics[name] for name in [*LABELS, *(n for n in metrics if n not in LABELS)] if name in metrics}


def shown(name: str, value: float, signed: bool = False) -> str:
    """The value of a metric as tables show it."""
    sign = "+" if signed else ""
    if is_share(name):
        return f"{_rounded(100 * value, 1):{sign}.1f} {'points' if signed else '%'}"
    return f"{_rounded(value, 2):{sign}.2f}" if abs(value) < 100 else f"{value:{sign}.0f}"


def _rounded(value: float, digits: int) -> float:
    return round(value, digits) + 0.0  # no "-0.0"


def interval(name: str, metric: Metric, signed: bool = False) -> str:
    """The 95% interval of a metric as tables show it."""
    low, high = (
        shown(name, bound, signed).removesuffix(" %").removesuffix(" points") for bound in (metric.low, metric.high)
    )
    return f"[{low}, {high}]"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return ["| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines]


def _cell(text: str) -> str:
    # Data set and kind names come from files: they must not break out of the cell.
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())
