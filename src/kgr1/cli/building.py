"""``kgr1 graph build``, ``extract`` and ``contract``: from files, or a large graph and questions, to a graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kgr1.cli.bars import BuildBar, CountBar
from kgr1.cli.console import duration, facts, note, one_line, out, size
from kgr1.cli.options import QuestionsSpec, Split
from kgr1.cli.outputs import refuse_input, refuse_source

if TYPE_CHECKING:
    from kgr1.graph.batches import Batch
    from kgr1.graph.build import BuildReport
    from kgr1.graph.contract import ContractReport
    from kgr1.graph.readers import ReadOptions

# Written out, because the help is shown without loading what knows them; a test compares.
FORMATS = ("tsv", "csv", "jsonl", "parquet", "nt", "nq", "ttl", "trig", "rdf")
PROFILES = ("auto", "plain", "wikidata", "freebase")
LITERALS = ("keep", "labels", "drop")

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...",
        help="Files, folders or quoted patterns: TSV, CSV, JSON lines, Parquet, N-Triples, N-Quads, Turtle, TriG or "
        "RDF/XML, also compressed (gz, zst, bz2, xz); '-' is standard input.",
    ),
]
FormatOption = Annotated[
    str | None,
    typer.Option("--format", metavar="FORMAT", help=f"If names of files do not tell: {', '.join(FORMATS)}."),
]
Times = Annotated[
    bool | None,
    typer.Option(
        "--times/--no-times",
        help="Columns 4 and 5 of tables are dates (one: of the fact; two: its start and end). By default they are if "
        "the header says so or they look like dates.",
    ),
]
Graphs = Annotated[
    bool, typer.Option("--graphs", help="Named graphs of N-Quads and TriG become question graphs of the same name.")
]
ProfileOption = Annotated[
    str,
    typer.Option(
        "--profile",
        metavar="DUMP",
        help="What RDF comes from: wikidata and freebase leave out what is no fact about a thing; plain; auto tells.",
    ),
]
Languages = Annotated[
    str | None,
    typer.Option(
        metavar="TAG,...",
        help="Languages of labels in order of preference, * for all others; unlisted ones are left out. By default "
        "'en,*', for dumps 'en' and 'mul'.",
    ),
]
LiteralsOption = Annotated[
    str,
    typer.Option(
        "--literals",
        metavar="HOW",
        help="Text and numbers of RDF: keep them as entities, use them for labels only, or drop all.",
    ),
]
Keep = Annotated[
    list[str] | None,
    typer.Option("--keep", metavar="PATTERN", help="Keep only relations that match, e.g. 'people.*'; repeatable."),
]
Drop = Annotated[
    list[str] | None, typer.Option("--drop", metavar="PATTERN", help="Leave out relations that match; repeatable.")
]
SkipBadLines = Annotated[
    bool,
    typer.Option("--skip-bad-lines", help="Leave out malformed lines and say how many, instead of stopping at one."),
]
Base = Annotated[
    str | None, typer.Option("--base", metavar="IRI", help="What relative IRIs of Turtle and RDF/XML are relative to.")
]


def build(
    sources: Sources,
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of the new graph.")],
    names: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with two columns: identifier and name to show for it.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What the graph is called; the name of OUT by default.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a graph that is already at OUT.")] = False,
    format_: FormatOption = None,
    times: Times = None,
    graphs: Graphs = False,
    profile: ProfileOption = "auto",
    languages: Languages = None,
    literals: LiteralsOption = "keep",
    keep: Keep = None,
    drop: Drop = None,
    skip_bad_lines: SkipBadLines = False,
    base: Base = None,
) -> None:
    """Build a graph from files with one triple (head, relation, tail) a row, from RDF or from question graphs."""
    from kgr1.graph.build import build_graph

    options = read_options(
        format=_one_of("--format", format_, FORMATS),
        times=times,
        graphs=graphs,
        profile=_one_of("--profile", profile, PROFILES),
        languages=None if languages is None else tuple(filter(None, map(str.strip, languages.lower().split(",")))),
        literals=_one_of("--literals", literals, LITERALS),
        keep=tuple(keep or ()),
        drop=tuple(drop or ()),
        skip_bad_lines=skip_bad_lines,
        base=base,
    )
    refuse_input(target, names, option="OUT")
    refuse_source(target, sources, options, store=True, option="OUT")
    with BuildBar() as bar:
        report = build_graph(
            sources, target, names=names, name=name, options=options, on_progress=bar.report, force=force
        )
    show_report(report, target, with_names=names is not None)


def extract(
    graph: Annotated[
        str, typer.Argument(metavar="GRAPH", help="A built graph, a triple file, a server's URL or sparql+URL.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of the new graph.")],
    questions: QuestionsSpec,
    hops: Annotated[int, typer.Option(min=1, help="How many facts an entity may be away from a topic.")] = 2,
    max_triples: Annotated[int, typer.Option(min=1, help="Most triples of one question.")] = 10_000,
    hub_limit: Annotated[
        int, typer.Option(min=1, help="An entity with more facts than this is reached, but not expanded.")
    ] = 1_000,
    split: Split = None,
    plain: Annotated[bool, typer.Option("--plain", help="One graph of all facts instead of question graphs.")] = False,
    include_answers: Annotated[
        bool,
        typer.Option(
            "--include-answers",
            help="Also start from the gold answers. This LEAKS them into the graph: only to compare with work that "
            "does so, never for a score of your own.",
        ),
    ] = False,
    write_questions: Annotated[
        Path | None,
        typer.Option(
            "--write-questions",
            metavar="FILE",
            help="Write the questions with the ids of their graphs; with --plain there are none.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a graph that is already at OUT.")] = False,
) -> None:
    """Cut a question graph for each question out of a large graph: what lies around its topics."""
    from kgr1.cli.sources import EVERY_SPLIT, load_question_set, open_graph
    from kgr1.datasets import plain as plain_questions
    from kgr1.graph.build import build_from_batches
    from kgr1.graph.extract import ExtractOptions, extract_question_graphs

    refuse_input(target, graph, questions, option="OUT")
    if write_questions is not None:
        refuse_input(write_questions, questions, graph, option="--write-questions")
    asked = load_question_set(questions, split=split or EVERY_SPLIT)
    options = ExtractOptions(hops=hops, max_triples=max_triples, hub_limit=hub_limit, include_answers=include_answers)
    if include_answers:
        note("The gold answers are starting points: scores on this graph are not comparable with honest ones.")
    made: set[str] = set()
    with CountBar("Extracting", "questions") as bar, open_graph(graph) as opened:
        batches = _noting_graphs(extract_question_graphs(opened, asked, options, plain=plain), made)
        report = build_from_batches(batches, target, on_progress=lambda done: bar.update(done.rows), force=force)
    if write_questions is not None:
        ids = (question.id if question.id in made else None for question in asked)
        plain_questions.write_questions(
            write_questions,
            [question.model_copy(update={"graph_id": own}) for question, own in zip(asked, ids, strict=True)],
        )
        if not plain and len(made) < len(asked):
            missing = len(asked) - len(made)
            note(f"{missing:,} of {len(asked):,} questions have no topic in the graph: they get no graph_id.")
    show_report(report, target, with_names=False)


def _noting_graphs(batches: Iterable[Batch], made: set[str]) -> Iterator[Batch]:
    """The same batches; ``made`` takes the names of their question graphs."""
    for batch in batches:
        if batch.facts is not None and "graph" in batch.facts.columns:
            made.update(batch.facts["graph"].unique())
        yield batch


def contract(
    sources: Sources,
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="The new triple file: .tsv or .txt; .gz or .zst may follow.")
    ],
    names: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A file with two columns, identifier and name: what has a name there stays."),
    ] = None,
    drop_ends: Annotated[
        bool, typer.Option("--drop-ends", help="Leave out nodes without a name that have one neighbour: dead ends.")
    ] = False,
    unify: Annotated[
        bool,
        typer.Option("--unify", help="Make one of relations that say the same, with the facts of all, per direction."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is already at OUT.")] = False,
    format_: FormatOption = None,
    skip_bad_lines: SkipBadLines = False,
) -> None:
    """Write a graph as TSV without its nodes without a name: two facts through one become a fact."""
    from kgr1.graph.contract import contract_files

    options = read_options(format=_one_of("--format", format_, FORMATS), skip_bad_lines=skip_bad_lines)
    refuse_input(target, names, option="OUT")
    refuse_source(target, sources, options, option="OUT")
    with BuildBar() as bar:
        report = contract_files(
            sources,
            target,
            names=names,
            options=options,
            drop_ends=drop_ends,
            unify_relations=unify,
            on_progress=bar.report,
            force=force,
        )
    _show_contraction(report, target)


def _show_contraction(report: ContractReport, target: Path) -> None:
    rows = [
        ("facts read", f"{report.facts_read:,}"),
        ("repeated facts left out", f"{report.repeated:,}"),
        *([("facts whose dates were left out", f"{report.undated:,}")] if report.undated else []),
        ("nodes contracted", f"{report.contracted:,}"),
        *([("dead ends left out", f"{report.ends_dropped:,}")] if report.ends_dropped else []),
        ("nodes without a name left", f"{report.nameless_left:,}"),
        ("facts written", f"{report.facts_written:,}"),
        ("facts made through nodes", f"{report.composite:,}"),
        *([("groups of relations unified", f"{report.unified:,}")] if report.unified is not None else []),
        ("relations", f"{report.relations:,}"),
        *((f"left out: {one_line(reason)}", f"{count:,}") for reason, count in sorted(report.dropped.items())),
        ("size", size(report.bytes)),
        ("time", duration(report.seconds)),
    ]
    out.print(facts(rows, title=f"Wrote {one_line(str(target))}"))


def read_options(**values: Any) -> ReadOptions:
    """The options of the readers; what is None stays as it is by default."""
    from kgr1.graph.readers import ReadOptions

    return ReadOptions(**{key: value for key, value in values.items() if value is not None})


def _one_of(option: str, value: str | None, known: Sequence[str]) -> str | None:
    if value is not None and value not in known:
        raise typer.BadParameter(f"'{one_line(value)}' is none of {', '.join(known)}.", param_hint=option)
    return value


def show_report(report: BuildReport, target: Path, *, with_names: bool) -> None:
    """Print what a build read, left out and wrote."""
    rows = [
        ("triples", f"{report.triples:,}"),
        ("repeated triples left out", f"{report.duplicates:,}"),
        ("entities", f"{report.entities:,}"),
        ("relations", f"{report.relations:,}"),
        ("triples at one entity", f"{report.mean_degree:,.1f} on average, at most {report.max_degree:,}"),
        *((f"at most, {share} of the entities", f"{most:,}") for share, most in report.degree_quantiles.items()),
        ("names of several entities", f"{report.ambiguous_names:,}"),
    ]
    if report.dated:
        rows.append(("with dates", f"{report.dated:,}"))
    if report.question_graphs:
        rows.append(("question graphs", f"{report.question_graphs:,}"))
    if report.aliases:
        rows.append(("aliases", f"{report.aliases:,}"))
    if with_names:
        rows += [
            ("second names for one identifier, now aliases", f"{report.repeated_names:,}"),
            ("names of identifiers that are not in the graph", f"{report.unused_names:,}"),
        ]
    rows += [(f"left out: {one_line(reason)}", f"{count:,}") for reason, count in sorted(report.dropped.items())]
    read = report.triples + report.duplicates
    rows += [
        ("size", size(report.bytes)),
        ("time", f"{duration(report.seconds)} ({read / max(report.seconds, 1e-6):,.0f} triples/s)"),
        *([("most memory", size(report.peak_memory))] if report.peak_memory else []),
    ]
    out.print(facts(rows, title=f"Built {one_line(str(target))}"))
