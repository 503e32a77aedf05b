"""Whether an output names one of the inputs, which it would replace."""

from __future__ import annotations

from pathlib import Path

import typer

from kgr1.cli.console import one_line


def refuse_input(target: Path, *inputs: Path | str | None, option: str) -> None:
    """Raise :class:`typer.BadParameter` if ``target`` is one of the ``inputs``, or a file in it that is read.

    Inputs are what a user may name as a graph, as questions or as a file; what is no file or folder is passed over.
    """
    for given in inputs:
        if given is not None and any(_same(target, file) for file in _files(Path(given).expanduser())):
            raise typer.BadParameter(
                f"{one_line(str(target))} is read by this command and would be lost; choose another name.",
                param_hint=option,
            )


def _files(place: Path) -> list[Path]:
    """The file or folder itself, and the files that are read where it is one of questions or a built graph."""
    from kgr1.datasets.plain import FILE_NAMES
    from kgr1.graph.files import HEADER

    try:
        if not place.is_dir():
            return [place]
        if (place / HEADER).is_file():
            return [place, *place.iterdir()]
    except OSError:  # also what no file can be called, such as a long URL
        return []
    return [place, *(place / name for name in FILE_NAMES)]


def _same(one: Path, other: Path) -> bool:
    try:
        return one.expanduser().samefile(other)
    except OSError:  # one of them is not there, so nothing can be lost
        return False
