"""The console script ``kgr1``."""

from __future__ import annotations

import sys
from typing import Annotated

try:
    import typer

    import kgr1
    from kgr1.cli import (
        ask,
        coldstart,
        compare,
        curve,
        data,
        demo,
        diff,
        evaluate,
        graph,
        grounding,
        judge,
        mcp,
        ranker,
        report,
        rescore,
        serve,
        train,
        verifier,
    )
    from kgr1.cli.console import escape_what_cannot_be_shown, out
    from kgr1.cli.failures import KGR1Group, told
except KeyboardInterrupt:  # Ctrl-C while all this is loaded, before anything else could answer it
    print("\nInterrupted; nothing was changed.", file=sys.stderr)
    sys.exit(130)


class Commands(KGR1Group):
    """All commands."""

    order = (
        *("demo", "ask", "graph", "data", "serve", "mcp"),
        *("coldstart", "ranker", "verifier", "train", "curve"),
        *("evaluate", "compare", "diff", "rescore", "grounding", "judge", "report"),
    )


app = typer.Typer(
    cls=Commands,
    help="A small language model that answers multi-hop questions from any knowledge graph.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(graph.app)
app.add_typer(data.app)
app.command()(serve.serve)
app.command()(mcp.mcp)
app.command()(demo.demo)
app.command()(ask.ask)
app.command()(coldstart.coldstart)
app.command()(ranker.ranker)
app.command()(verifier.verifier)
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command()(compare.compare)
app.command()(diff.diff)
app.command()(rescore.rescore)
app.command()(grounding.grounding)
app.command()(judge.judge)
app.command()(report.report)
app.command()(curve.curve)


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"kgr1 {kgr1.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """A small language model that answers multi-hop questions from any knowledge graph."""


def main() -> None:
    """Run the command line and exit with its code."""
    escape_what_cannot_be_shown()
    try:
        with told():
            app()
    except typer.Exit as exit_:
        sys.exit(exit_.exit_code)


if __name__ == "__main__":
    main()
