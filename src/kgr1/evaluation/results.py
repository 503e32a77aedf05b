"""The tables of a comparison, in Markdown and LaTeX: accuracy with tokens, differences, and efficiency."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kgr1.evaluation.cells import CellResult
from kgr1.evaluation.compare import Comparison, compare_rows
from kgr1.evaluation.metrics import runs_per_question, union_name
from kgr1.evaluation.report import difference, interval, label, markdown_table, shown
from kgr1.evaluation.runs import Run

ACCURACY = ("f1", "hit1", "generated_tokens")
EFFICIENCY = ("model_calls", "graph_calls", "generated_tokens", "forced_tokens", "total_tokens")
PAIRED = ("f1", "hit1", "retrieval", "generated_tokens")

NOTES_HEADING = "Cells without numbers, or with failures"

Table = tuple[str, list[str], list[list[str]]]
"""Title, header and rows. The first two columns are text, the others numbers."""


def tables(results: Sequence[CellResult]) -> list[Table]:
    """The accuracy table (the union of the runs where there are several) and the efficiency table."""
    finished = [result for result in results if result.status == "finished"]
    accuracy = [
        [
            r.dataset,
            r.system,
            *(_accuracy(r, name) for name in ACCURACY),
            str(runs_per_question(r.questions, r.episodes)),
            str(r.questions),
        ]
        for r in finished
    ]
    header = ["data set", "system", *(label(name) for name in ACCURACY), "runs", "questions"]
    efficiency = [
        [r.dataset, r.system, *(_value(r, name) for name in EFFICIENCY), *_latency(r), *_throughput(r)]
        for r in finished
    ]
    columns = ["data set", "system", *(label(name) for name in EFFICIENCY), "p50 s", "p95 s"]
    return [
        ("Accuracy and generated tokens, with 95% bootstrap intervals; several runs as their union", header, accuracy),
        (
            "Efficiency of an episode",
            [*columns, "at once", "episodes/s", "generated tokens/s"],
            efficiency,
        ),
    ]


def difference_table(runs: Sequence[Run]) -> Table:
    """Every system against the first one of its data set: the form in which ablations are reported."""
    rows = []
    for dataset in dict.fromkeys(run.dataset for run in runs):
        first, *others = [run for run in runs if run.dataset == dataset]
        for run in others:
            found = pair(first, run)
            if found is not None:
                rows.append([dataset, f"{run.system} against {first.system}", *_differences(found)])
    header = ["data set", "systems", *(label(name) for name in PAIRED), "questions"]
    return "Differences, paired by question; * where 0 is outside the 95% interval", header, rows


def pair(first: Run, second: Run) -> Comparison | None:
    """second - first over the questions that both have, several runs as their union; None if there are none."""
    if not {row.key for row in first.rows} & {row.key for row in second.rows}:
        return None
    return compare_rows(first.rows, second.rows, unions=True)


def _differences(found: Comparison) -> list[str]:
    return [*(difference(name, found.difference.get(name)) for name in PAIRED), str(found.questions)]


def _with_interval(result: CellResult, name: str) -> str:
    metric = result.metrics.get(name)
    return "-" if metric is None else f"{shown(name, metric.value)} {interval(name, metric)}"


def _accuracy(result: CellResult, name: str) -> str:
    """A metric of the union of the runs; behind generated tokens how many more were forced."""
    text = _with_interval(result, union_name(result.metrics, name))
    forced = result.metrics.get(union_name(result.metrics, "forced_tokens")) if name == "generated_tokens" else None
    return text if forced is None or not forced.value else f"{text} (+{shown('forced_tokens', forced.value)} forced)"


def _value(result: CellResult, name: str) -> str:
    metric = result.metrics.get(name)
    return "-" if metric is None else shown(name, metric.value)


def _latency(result: CellResult) -> list[str]:
    found = result.latency
    return ["-", "-"] if found is None else [seconds(found.p50), seconds(found.p95)]


def seconds(value: float) -> str:
    """Seconds with three significant digits.

    >>> seconds(0.01234), seconds(12.34), seconds(1234.5)
    ('0.0123', '12.3', '1234')
    """
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _throughput(result: CellResult) -> list[str]:
    """At the concurrency that most episodes were played at."""
    if not result.throughput:
        return ["-", "-", "-"]
    most = max(result.throughput, key=lambda one: one.episodes)
    return [str(most.concurrency), seconds(most.episodes_per_s), seconds(most.tokens_per_s)]


def problems(results: Sequence[CellResult]) -> list[str]:
    """A line for every cell that has no numbers, or numbers to be careful with."""
    lines = []
    for r in results:
        if r.status == "failed":
            lines.append(f"{r.dataset}/{r.system} failed: {r.error}")
        elif r.status == "not run":
            lines.append(f"{r.dataset}/{r.system} has not been run.")
        elif r.error:
            lines.append(f"{r.dataset}/{r.system} could not be opened again; its numbers are those it had: {r.error}")
        elif r.failed_episodes:
            lines.append(f"{r.dataset}/{r.system}: {r.failed_episodes} of {r.episodes} episodes failed and count 0.")
    return lines


def markdown(title: str, parts: Sequence[Table], notes: Sequence[str], *, heading: str = NOTES_HEADING) -> str:
    """``table.md``; tables without a row are left out, and so is the ``heading`` if there are no notes."""
    lines = [f"# {title}"] if title else []
    for name, header, rows in parts:
        if rows:
            found = markdown_table(header, rows)
            rule = ["---", "---", *["---:"] * (len(header) - 2)]
            lines += ["", f"## {name}", "", found[0], "| " + " | ".join(rule) + " |", *found[2:]]
    if notes:
        lines += ["", f"## {heading}", "", *(f"- {_one_line(note)}" for note in notes)]
    return "\n".join(lines).strip() + "\n"


def latex(parts: Sequence[Table]) -> str:
    """``table.tex``: the same tables for a paper (booktabs); the text of every cell is escaped."""
    blocks = []
    for name, header, rows in parts:
        if not rows:
            continue
        body = [_line(header, bold=True), r"\midrule", *(_line(row) for row in rows)]
        columns = "ll" + "r" * (len(header) - 2)
        inside = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *body, r"\bottomrule", r"\end{tabular}"]
        caption = rf"\caption{{{escape_latex(name)}.}}"
        blocks.append("\n".join([r"\begin{table}", r"\centering", *inside, caption, r"\end{table}"]))
    return "\n\n".join(["% needs \\usepackage{booktabs}", *blocks]) + "\n"


def _line(cells: Sequence[str], bold: bool = False) -> str:
    dressed: Callable[[str], str] = (lambda cell: rf"\textbf{{{cell}}}") if bold else str
    return " & ".join(dressed(escape_latex(cell)) for cell in cells) + r" \\"


_LATEX = {
    "\\": r"\textbackslash{}",
    **{char: rf"\{char}" for char in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",  # after a line break a bracket would be read as a length
    "]": "{]}",
}


def escape_latex(text: str) -> str:
    r"""Text that LaTeX prints as it is.

    >>> escape_latex("50 % of a_b [1]")
    '50 \\% of a\\_b {[}1{]}'
    """
    return "".join(_LATEX.get(char, char) for char in _one_line(text))


def _one_line(text: str) -> str:
    return " ".join(text.split())
