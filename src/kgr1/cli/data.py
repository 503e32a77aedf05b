"""``kgr1 data``: published question sets: what there is, reading them, and what they can show on a graph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from kgr1.cli.audit import audit
from kgr1.cli.bars import CountBar, StepBar, busy
from kgr1.cli.console import clean, facts, note, one_line, out, warn
from kgr1.cli.failures import KGR1Group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kgr1.datasets.published.card import Card, Count
    from kgr1.datasets.published.convert import Converted
    from kgr1.datasets.published.format import Reading
    from kgr1.datasets.published.hub import Fetched

HUB = "hub"
"""The word for the Hugging Face hub as a source; ``hub@REVISION`` takes another revision than the known one."""


class Commands(KGR1Group):
    """The commands on question sets."""

    order = ("list", "info", "convert", "audit")


app = typer.Typer(
    name="data", cls=Commands, help="Published question sets: list, describe, convert, audit.", no_args_is_help=True
)
app.command()(audit)
Name = Annotated[str, typer.Argument(metavar="NAME", help="A question set, as 'kgr1 data list' calls it.")]


@app.command("list")
def list_() -> None:
    """List the published question sets that kgr1 reads."""
    from kgr1.datasets.published.registry import CARDS

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("name", "questions", "splits", "on the hub", "what"):
        table.add_column(column, justify="right" if column == "questions" else "left", overflow="fold")
    for card in CARDS:
        splits = "/".join(card.counts[0].splits)
        shown = (card.name, f"{card.questions:,}", splits, "yes" if card.hub else "no", card.title)
        table.add_row(*map(Text, shown))
    out.print(table)
    note("More: kgr1 data info NAME. Your own questions need no conversion, see docs/your-own-graph.md.")


@app.command()
def info(name: Name) -> None:
    """Show what a question set is: counts, formats, licence, citation, and what to know before using it."""
    from kgr1.datasets.published.registry import card as find_card

    card = find_card(name)
    rows = [("name", card.name), ("title", card.title), ("graph", card.graph), ("licence", card.licence)]
    rows += [("homepage", card.homepage)]
    if card.hub is not None:
        rows.append(("on the hub", f"{card.hub.repository}, commit {card.hub.commit[:7]}: {', '.join(card.hub.files)}"))
    table = facts(rows)
    table.columns[1].justify = "left"
    out.print(f"{card.what}.\n")
    out.print(table)
    out.print(_counts(card.counts))
    _listed("Formats that are read", [f"{each.name}: {each.what}" for each in card.formats])
    _listed("To know", card.notes)
    _listed("To cite", card.citations)


def _counts(counts: Sequence[Count]) -> Table:
    splits = list(dict.fromkeys(split for count in counts for split in count.splits))
    table = Table(title="\nQuestions", title_justify="left", box=None, pad_edge=False, header_style="dim")
    table.add_column("as stated or held by")
    for split in splits:
        table.add_column(split, justify="right")
    for count in counts:
        table.add_row(count.where, *(f"{count.splits[split]:,}" if split in count.splits else "" for split in splits))
    return table


def _listed(title: str, lines: Sequence[str]) -> None:
    if lines:
        out.print(f"\n{title}")
        for line in lines:
            out.print(f"- {clean(line)}")


@app.command()
def convert(
    name: Name,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A file or folder in one of the formats of the set, or 'hub' to download it from the Hugging Face hub "
            "('hub@REVISION' for another revision than the one that kgr1 knows).",
        ),
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The folder for questions.jsonl and the graph.")],
    split: Annotated[str | None, typer.Option(help="Keep only the questions of this split.")] = None,
    names: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Names of identifiers, two columns or one JSON object, for sources that have only identifiers.",
        ),
    ] = None,
    topics_by_id: Annotated[
        bool, typer.Option("--topics-by-id", help="Call topics by their identifiers where the source has both.")
    ] = False,
    graph: Annotated[
        bool, typer.Option("--graph/--no-graph", help="Also write the graph, where the source has one.")
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace questions that are already in OUT.")] = False,
) -> None:
    """Write a published question set in the plain format that all other commands read, and its graph."""
    from kgr1.datasets.published.convert import convert as convert_set
    from kgr1.datasets.published.convert import unexpected_counts
    from kgr1.datasets.published.registry import card as find_card

    card = find_card(name)
    reading = _reading(names, by_id=topics_by_id)
    place, fetched = _place(card, source, split)
    with CountBar("Converting", "questions") as bar:
        converted = convert_set(
            card,
            place,
            target,
            reading,
            split=split,
            with_graph=graph,
            force=force,
            fetched=None if fetched is None else (fetched.repository, fetched.commit),
            on_question=bar.update,
        )
    _show(converted, target, with_names=names is not None)
    if split is None and place.is_dir():  # else a part was asked for
        for told in unexpected_counts(card, converted):
            warn(told)


def _reading(names: Path | None, *, by_id: bool) -> Reading:
    from kgr1.datasets.published.format import Reading
    from kgr1.graph.readers import read_names

    known: dict[str, str] = {}
    if names is not None:
        with busy("Reading names"):
            for frame in read_names(names):
                for identifier, label, alias in frame.select("id", "label", "alias").iter_rows():
                    if not alias:
                        known.setdefault(identifier, label)
    return Reading(topics="id" if by_id else "name", names=known)


def _place(card: Card, source: str, split: str | None) -> tuple[Path, Fetched | None]:
    """The folder or file of a source; from the hub, also what was fetched."""
    from kgr1.datasets.published.hub import fetch, is_known
    from kgr1.models.weights import cache_folder

    word, _, revision = source.partition("@")
    path = Path(source).expanduser()
    if word != HUB or path.exists():
        return path, None
    with StepBar("Fetching", "file") as bar:
        folder, fetched = fetch(
            card,
            cache_folder() / "datasets",
            revision=revision or None,
            split=split,
            on_progress=lambda done, total, file: bar.update(done, total, {"file": file}),
        )
    note(f"{fetched.repository} at commit {fetched.commit[:7]} is in {folder}.")
    if not revision and card.hub is not None and not is_known(card, fetched):
        warn(
            f"The hub did not offer commit {card.hub.commit[:7]} of {fetched.repository}, which kgr1 was checked with. "
            f"These files are of commit {fetched.commit[:7]} and were not checked, so numbers on them may be other "
            f"than published ones. To read the same files again, name them: {HUB}@{fetched.commit}."
        )
    return folder, fetched


def _show(converted: Converted, target: Path, *, with_names: bool) -> None:
    rows = [("questions", f"{converted.questions:,}")]
    rows += [(f"split {name or '(none)'}", f"{count:,}") for name, count in converted.splits.items()]
    if converted.without_topics:
        rows.append(("without a topic", f"{converted.without_topics:,}"))
    if converted.without_answers:
        rows.append(("without an answer", f"{converted.without_answers:,}"))
    if converted.graphs:
        rows.append(("question graphs", f"{converted.graphs:,}"))
    if converted.empty_graphs:
        rows.append(("questions whose graph is empty", f"{converted.empty_graphs:,}"))
    if converted.facts:
        rows.append(("facts", f"{converted.facts:,}"))
    if converted.skipped_lines:
        rows.append(("lines of the graph that are no fact", f"{converted.skipped_lines:,}"))
    rows += [("read as", ", ".join(converted.formats)), ("licence", converted.licence)]
    out.print(facts(rows, title=f"Wrote {one_line(str(target))}"))
    if converted.without_topics == converted.questions:
        warn("No question has a topic; let 'kgr1 evaluate --link' find them in the text.")
    if converted.graph is not None:
        extra = f" --names {target / 'names.tsv'}" if with_names and converted.graphs else ""
        note(f"Its graph: kgr1 graph build {target / converted.graph} {target / 'graph.kg'}{extra}")
