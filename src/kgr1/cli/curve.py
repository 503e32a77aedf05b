"""``kgr1 curve``: training curves of several runs in one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kgr1.cli.console import one_line, out


def curve(
    logs: Annotated[
        list[str],
        typer.Argument(
            metavar="[LABEL=]LOG...", help="Logs of training runs (log.jsonl) or the folders that hold them."
        ),
    ],
    target: Annotated[Path, typer.Option("--out", "-o", metavar="PNG", help="The picture.")],
    metric: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A logged value to draw; repeat it for several.")
    ] = None,
    window: Annotated[int, typer.Option(min=1, help="Steps that the moving average covers.")] = 10,
) -> None:
    """Draw training curves, one panel a metric, one colour a run."""
    from kgr1.evaluation.curve import DEFAULT_METRICS, plot_curves

    drawn = plot_curves([labelled(log) for log in logs], target, metrics=metric or DEFAULT_METRICS, window=window)
    out.print(f"Drew {one_line(str(drawn))}.")


def labelled(spec: str) -> tuple[str, Path]:
    """``LABEL=LOG`` as its parts; without a label, the name of the run's folder. A folder stands for its log."""
    label, equals, place = spec.partition("=")
    if not equals or Path(spec).exists():
        label, place = "", spec
    path = Path(place).expanduser()
    if path.is_dir():
        path = path / "log.jsonl"
    return label or path.resolve().parent.name or path.stem, path
