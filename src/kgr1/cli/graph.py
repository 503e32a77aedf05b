"""``kgr1 graph``: build graphs, look at them, ask them by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from kgr1.cli.bars import busy
from kgr1.cli.building import build, contract, extract
from kgr1.cli.console import emit, facts, note, one_line, out, size
from kgr1.cli.failures import SourcesThenOut
from kgr1.errors import GraphError

app = typer.Typer(name="graph", help="Build graphs, look at them, ask them by hand.", no_args_is_help=True)

PLACE = "A built graph, a triple file, the URL of a graph server, sparql+URL of a SPARQL endpoint, or 'countries'."


app.command(cls=SourcesThenOut)(build)
app.command()(extract)
app.command(cls=SourcesThenOut)(contract)


@app.command()
def info(
    graph: Annotated[str, typer.Argument(metavar="GRAPH", help=PLACE)],
    verify: Annotated[bool, typer.Option("--verify", help="Read every file and compare it with its checksum.")] = False,
) -> None:
    """Show what is in a graph."""
    from kgr1.cli.sources import is_url, open_graph

    if verify and is_url(graph):
        raise typer.BadParameter("only files can be verified, not a server.", param_hint="--verify")
    with busy("Reading"), open_graph(graph, verify=verify) as opened:
        counts = opened.info()
        degree = getattr(opened, "max_degree", None)
    rows = [
        ("name", counts.name),
        ("triples", f"{counts.triples:,}"),
        ("entities", f"{counts.entities:,}"),
        ("relations", f"{counts.relations:,}"),
        ("names of several entities", f"{counts.ambiguous_names:,}"),
    ]
    if counts.dated:
        rows.append(("triples with dates", f"{counts.dated:,}"))
    if counts.question_graphs:
        rows.append(("question graphs", f"{counts.question_graphs:,}"))
    if degree is not None:
        rows.append(("most triples at one entity", f"{degree:,}"))
    if counts.bytes:
        rows.append(("size", size(counts.bytes)))
    if verify:
        rows.append(("checksums", "all files are as they were written"))
    out.print(facts(rows))


@app.command()
def query(
    graph: Annotated[str, typer.Argument(metavar="GRAPH", help=PLACE)],
    operation: Annotated[
        str,
        typer.Argument(
            metavar="OPERATION",
            help="get_tail_relations or get_head_relations (of ENTITY as subject or as object), get_tail_entities or "
            "get_head_entities (with RELATION).",
        ),
    ],
    entity: Annotated[str, typer.Argument(metavar="ENTITY", help="The name of an entity.")],
    relation: Annotated[str | None, typer.Argument(metavar="RELATION", help="The name of a relation.")] = None,
    ids: Annotated[
        bool, typer.Option("--ids", help="Print the identifier after each name, with a tab between.")
    ] = False,
    time: Annotated[
        str | None, typer.Option(help='Keep facts of a time: "2014", "2014-05", "2012/2014", "before 2014", ...')
    ] = None,
    graph_id: Annotated[
        str | None, typer.Option(metavar="ID", help="Ask the graph of one question instead of the whole graph.")
    ] = None,
    offset: Annotated[int, typer.Option(min=0, help="Results to pass over.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Results to show; all by default.")] = None,
) -> None:
    """Ask a graph one question, as the agent would; prints one name a line, with its dates after a tab."""
    from kgr1.cli.sources import open_graph
    from kgr1.types import OPERATION_ALIASES, Operation, Query

    known = {member.value: member for member in Operation} | OPERATION_ALIASES
    if operation not in known:
        names = ", ".join(member.value for member in Operation)
        raise typer.BadParameter(f"'{one_line(operation)}' is none of {names}.", param_hint="OPERATION")
    with open_graph(graph) as opened:
        asked = Query(
            operation=known[operation],
            entity=entity,
            relation=relation,
            time=time,
            graph_id=graph_id,
            offset=offset,
            limit=limit,
        )
        (found,) = opened.execute([asked])
    if found.error is not None:
        raise GraphError(f"{found.error.value}: {found.message}")
    dates = found.times or ((),) * len(found.names)
    for name, identifier, spans in zip(found.names, found.ids, dates, strict=True):
        emit("\t".join([one_line(name), *([one_line(identifier)] if ids else []), *filter(None, [", ".join(spans)])]))
    left = found.total - offset - len(found.names)
    if left > 0:
        note(f"... and {left:,} more")
