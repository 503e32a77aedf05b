"""``kgr1 data audit``: what a question set can show on a graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from kgr1.cli.bars import StepBar
from kgr1.cli.console import facts, note, one_line, out, warn
from kgr1.cli.options import GraphSpec, Limit, QuestionsSpec, Split, Subset
from kgr1.cli.outputs import refuse_input

if TYPE_CHECKING:
    from kgr1.datasets.audit.audit import Audit, Missing


def audit(
    questions: QuestionsSpec,
    graph: GraphSpec,
    split: Split = None,
    subset: Subset = None,
    limit: Limit = None,
    seed: Annotated[int, typer.Option(help="Seed of the draw of --limit.")] = 0,
    hops: Annotated[int, typer.Option(min=1, max=10, help="How many facts away answers are looked for.")] = 4,
    hub_limit: Annotated[
        int, typer.Option(min=1, help="An entity with more facts than this is reached, but not expanded.")
    ] = 5_000,
    max_entities: Annotated[int, typer.Option(min=1, help="Most entities expanded for one question.")] = 50_000,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write all of it here.")] = None,
) -> None:
    """Say how many questions a graph can answer at all, and what is wrong with them.

    Distances from topics to gold answers along facts in both directions, answers and topics that the graph lacks, what
    the splits share, names of several entities, and answers that a shorter way leads to.
    """
    from kgr1.cli.sources import EVERY_SPLIT, load_question_set, open_graph
    from kgr1.datasets.audit.audit import audit_questions
    from kgr1.datasets.audit.reach import ReachOptions
    from kgr1.datasets.whole import whole_file

    if json_file is not None:
        refuse_input(json_file, questions, graph, option="--json")
    asked = load_question_set(questions, split=split or EVERY_SPLIT, subset=subset, limit=limit, seed=seed)
    options = ReachOptions(hops=hops, hub_limit=hub_limit, max_entities=max_entities)
    with StepBar("Auditing", "question") as bar, open_graph(graph) as opened:
        result = audit_questions(asked, opened, options, on_question=lambda done: bar.update(done, len(asked), {}))
    if json_file is not None:
        with whole_file(json_file, "the audit") as stream:
            stream.write(result.model_dump_json(indent=2).encode() + b"\n")
    _show(result)


def _show(result: Audit) -> None:
    out.print(_reach(result))
    out.print(_numbers(result))
    if result.shortcuts:
        out.print(_shortcuts(result))
    if result.shortest_labels:
        out.print(Text(_no_shortcuts(result)))
    if result.leaks:
        out.print(_leaks(result))
    _examples("answers not in the graph", result.missing_answers)
    _examples("topics not in the graph", result.missing_topics)
    if result.ambiguous_topics is not None:
        _examples("topics that name several entities (how many)", result.ambiguous_topics)
    if result.at_hubs or result.cut:
        warn(
            f"{result.at_hubs + result.cut:,} searches ended early, so shares may be too low: {result.at_hubs:,} at "
            f"entities of more than {result.options.hub_limit:,} facts (--hub-limit), {result.cut:,} at "
            f"{result.options.max_entities:,} entities (--max-entities)."
        )


def _reach(result: Audit) -> Table:
    table = _table("Questions with some / all gold answers within so many facts of their topics, in percent")
    table.add_column("")
    table.add_column("questions", justify="right")
    for hops in range(1, result.options.hops + 1):
        table.add_column(str(hops), justify="right", no_wrap=True)
    for group in result.reach:
        shares = (f"{_percent(each.some)} / {_percent(each.all)}" for each in group.reach)
        _row(table, group.name, f"{group.questions:,}", *shares)
    return table


def _percent(share: float) -> str:
    """Short enough for a narrow terminal, and 100 only where nothing is missing."""
    return "100" if share == 1 else f"{min(100 * share, 99.9):.1f}"


def _numbers(result: Audit) -> Table:
    def both(found: Missing) -> str:
        return f"{found.questions:,} ({found.names:,} names)"

    ambiguous = "not told by this graph" if result.ambiguous_topics is None else both(result.ambiguous_topics)
    rows = [
        ("questions", f"{result.questions:,}"),
        ("without a topic", f"{result.without_topics:,}"),
        *((f"gold answers: {count}", f"{number:,}") for count, number in result.answer_counts.items() if number),
        ("with an answer not in the graph", both(result.missing_answers)),
        ("with no answer in the graph", f"{result.no_answer_in_graph:,}"),
        ("with a topic not in the graph", both(result.missing_topics)),
        ("with a topic that names several entities", ambiguous),
        ("with a topic among the answers", f"{result.answer_is_topic:,}"),
    ]
    if result.date_answers:
        rows.append(("gold answers that are dates, no entities", f"{result.date_answers:,}"))
    return facts(rows, title=f"\nQuestions on {one_line(result.graph)}")


def _shortcuts(result: Audit) -> Table:
    table = _table("\nShort cuts: questions of several hops with answers one fact away")
    for column in ("hops", "questions", "some answers", "all answers"):
        table.add_column(column, justify="right")
    for each in result.shortcuts:
        shown = (f"{count:,} ({count / each.questions:.1%})" for count in (each.some, each.all))
        _row(table, str(each.hops), f"{each.questions:,}", *shown)
    return table


def _no_shortcuts(result: Audit) -> str:
    """Why there is no share of short cuts: 0 % would be read as good news."""
    return (
        f"\nShort cuts cannot be told for {result.shortest_labels:,} questions of several hops that have no gold path: "
        "none of them has 'hops' greater than the shortest way that was found from its topics to an answer. If 'hops' "
        "was counted as that way, no answer can be nearer. A 'gold_path' for each question would tell."
    )


def _leaks(result: Audit) -> Table:
    table = _table("\nQuestions of a split that share something with an earlier split")
    for column in ("split", "with", "questions", "same text", "same topic", "same topic and answer"):
        table.add_column(column, justify="left" if column in ("split", "with") else "right")
    for leak in result.leaks:
        counts = (leak.questions, leak.same_text, leak.same_topic, leak.same_topic_and_answer)
        _row(table, leak.split, leak.earlier, *(f"{count:,}" for count in counts))
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="dim")


def _row(table: Table, *cells: str) -> None:
    table.add_row(*(Text(one_line(cell)) for cell in cells))


def _examples(what: str, found: Missing) -> None:
    if found.examples:
        shown: Sequence[str] = [one_line(each)[:80] for each in found.examples]
        more = ", ..." if found.names > len(shown) else ""
        note(f"{what}: {', '.join(shown)}{more}")
