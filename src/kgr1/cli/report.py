"""``kgr1 report``: evaluations as one HTML page, or as tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kgr1.cli.console import note, one_line, warn
from kgr1.cli.outputs import refuse_input

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kgr1.evaluation.runs import Run


def report(
    runs: Annotated[
        list[str], typer.Argument(metavar="[NAME=]RUN...", help="Folders of evaluations; NAME is what the page says.")
    ],
    target: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The page, .html, or tables only: .md or .tex.")
    ],
    title: Annotated[str, typer.Option(help="The heading of the page.")] = "",
    examples: Annotated[int, typer.Option(min=0, help="Questions of each data set that are shown whole.")] = 100,
) -> None:
    """Write one self-contained page: tables, pictures and single episodes of one or several evaluations.

    Runs on the same questions are compared with each other, and runs of one NAME on several data sets are one system.
    A FILE that ends in .md or .tex has the tables alone.
    """
    from kgr1.evaluation.breakdowns import breakdowns
    from kgr1.evaluation.cells import CellResult
    from kgr1.evaluation.files import write_whole
    from kgr1.evaluation.page import build_page
    from kgr1.evaluation.results import difference_table, latex, markdown, tables
    from kgr1.evaluation.runs import Run

    form = target.suffix.lower()
    if form not in (".html", ".htm", ".md", ".tex"):
        raise typer.BadParameter(
            f"the report needs a name that ends in .html, .md or .tex; got {target.name}.", param_hint="--out"
        )
    refuse_input(target, *(named(spec)[1] for spec in runs), option="--out")
    loaded = []
    for spec in runs:
        name, folder = named(spec)
        loaded.append(Run.load(folder, system=name, examples=examples))
        loaded[-1].dataset = ", ".join(sorted({row.key[0] for row in loaded[-1].rows}))
    _tell_apart(loaded)
    systems = [run.system for run in loaded]
    names = [run.system if systems.count(run.system) == 1 else f"{run.dataset}/{run.system}" for run in loaded]
    notes = [f"{name}: {problem}" for name, run in zip(names, loaded, strict=True) for problem in run.problems]
    for told in notes:
        warn(one_line(told))
    target.parent.mkdir(parents=True, exist_ok=True)
    if form in (".html", ".htm"):
        write_whole(target, build_page(title, loaded, notes))
        note(f"The report is {one_line(str(target))}; open it in a browser.")
        return
    parts = [*tables([CellResult.of(run) for run in loaded]), difference_table(loaded), *breakdowns(loaded)]
    write_whole(target, latex(parts) if form == ".tex" else markdown(title, parts, notes, heading="To know"))
    note(f"The tables are in {one_line(str(target))}.")


def _tell_apart(runs: Sequence[Run]) -> None:
    """Number the systems that would have the name of another one on the same data."""
    taken: set[tuple[str, str]] = set()
    for number, run in enumerate(runs, start=1):
        if (run.dataset, run.system) in taken:
            run.system = f"{run.system} ({number})"
        taken.add((run.dataset, run.system))


def named(spec: str) -> tuple[str, Path]:
    """``NAME=RUN`` as its parts; without a name, that of the folder."""
    name, equals, place = spec.partition("=")
    if not equals or Path(spec).exists():
        name, place = "", spec
    path = Path(place).expanduser()
    return name or (path if path.is_dir() else path.parent).resolve().name, path
