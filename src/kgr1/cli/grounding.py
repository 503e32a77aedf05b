"""``kgr1 grounding``: what stands behind the answers of an evaluation, and what abstaining would gain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kgr1.cli.console import note, one_line
from kgr1.cli.options import RunFolder
from kgr1.cli.outputs import refuse_input


def grounding(
    run: RunFolder,
    target: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="PNG", help="Draw precision against coverage into this file.")
    ] = None,
    tokens: Annotated[
        Literal["episode", "answer"],
        typer.Option(help="Whose log-probabilities are the confidence: those of all turns, or of the answer's alone."),
    ] = "episode",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap intervals.")] = 0,
) -> None:
    """Say how many answers of an evaluation stand on facts that were shown, and what abstaining would gain.

    Also checks for ways to look good without answering. Changes no file of the run.
    """
    from kgr1.cli.console import emit, safe_json
    from kgr1.cli.diff import episodes_of
    from kgr1.cli.evaluate import print_table
    from kgr1.evaluation.curve import check_picture, plot_shares
    from kgr1.evaluation.grounding import grounding_table, measure

    if target is not None:
        check_picture(target)  # before the work
        refuse_input(target, run, option="--out")
    found = measure(episodes_of(run), tokens=tokens, seed=seed)
    if as_json:
        emit(safe_json(found.model_dump(mode="json")))
    else:
        print_table(grounding_table(found))
    if target is not None:
        curves = [("every answer", found.everything), ("supported names only", found.supported)]
        lines = [(label, [p.coverage for p in points], [p.precision for p in points]) for label, points in curves]
        plot_shares(lines, target, x="coverage", y="precision", title=one_line(run.resolve().name))
        note(f"Drew {one_line(str(target))}.")
