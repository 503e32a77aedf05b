"""Whether an output names one of the inputs, which it would replace, or would be read as one the next time."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kgr1.cli.console import one_line

if TYPE_CHECKING:
    from kgr1.graph.readers import ReadOptions


def refuse_input(target: Path, *inputs: Path | str | None, option: str) -> None:
    """Raise :class:`typer.BadParameter` if ``target`` is one of the ``inputs``, or a file that is read with it.

    So is a built graph in whose folder one of them lies: it would be replaced as a whole. Inputs are what a user may
    name as a graph, as questions or as a file; what is no file or folder is passed over.
    """
    for given in inputs:
        for file in [] if given is None else _files(Path(given).expanduser()):
            _refuse_loss(target, file, option)


def refuse_source(
    target: Path, sources: Sequence[Path | str], options: ReadOptions, *, store: bool = False, option: str
) -> None:
    """Raise :class:`typer.BadParameter` if ``target`` is read as one of the ``sources``, or would be the next time.

    Sources are files, folders, globs or standard input, as for :func:`kgr1.graph.build.build_graph`; ``target`` is a
    file, or a built graph if ``store``. Raises :class:`kgr1.errors.GraphError` for a source that is not there.
    """
    from kgr1.graph.files import HEADER
    from kgr1.graph.readers.discover import find_sources
    from kgr1.graph.readers.numbered import companions

    for found in find_sources(sources, options):
        for file in (found.path, *companions(found.path)):
            _refuse_loss(target, file, option)
    written = target.expanduser().resolve()
    for source in sources:
        # Of the files of a built graph, only the header is called like a file of triples.
        if _finds(Path(source).expanduser(), written / HEADER if store else written, options):
            raise typer.BadParameter(
                f"{one_line(str(target))} would be read as one of the sources {one_line(str(source))} the next time; "
                "choose a place outside of them.",
                param_hint=option,
            )


def _refuse_loss(target: Path, file: Path, option: str) -> None:
    if _same(target, file):
        what = f"{one_line(str(target))} is"
    elif _is_inside(file, target):
        what = f"{one_line(str(file))} lies in {one_line(str(target))}, is"
    else:
        return
    raise typer.BadParameter(f"{what} read by this command and would be lost; choose another name.", param_hint=option)


def _files(place: Path) -> list[Path]:
    """The file or folder itself, and the files that are read where it is one of questions or a built graph."""
    from kgr1.datasets.plain import FILE_NAMES
    from kgr1.graph.files import HEADER
    from kgr1.graph.readers.numbered import companions

    try:
        if not place.is_dir():
            return [place, *companions(place)]
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


def _is_inside(file: Path, target: Path) -> bool:
    """Whether a file lies in the folder of a built graph."""
    from kgr1.graph.files import HEADER

    target = target.expanduser()
    try:
        return (target / HEADER).is_file() and file.exists() and target.resolve() in file.resolve().parents
    except OSError:
        return False


def _finds(source: Path, written: Path, options: ReadOptions) -> bool:
    """Whether a folder or a glob finds the file ``written``, an absolute path, once it is there."""
    if source.is_dir():
        folder = source.resolve()
        return folder in written.parents and _reads(written.relative_to(folder).parts, options)
    if source.exists() or not glob.has_magic(str(source)):
        return False
    plain = next(number for number, part in enumerate(source.parts) if glob.has_magic(part))
    folder, pattern = Path(*source.parts[:plain]).resolve(), source.parts[plain:]
    if folder not in written.parents:
        return False
    parts = written.relative_to(folder).parts
    # A pattern may also find a folder on the way to the file, which is then searched.
    found = (number for number in range(1, len(parts)) if _matches(parts[:number], pattern))
    return _matches(parts, pattern) or any(_reads(parts[number:], options) for number in found)


def _reads(parts: Sequence[str], options: ReadOptions) -> bool:
    """Whether a file of a folder, at these parts of a path, is read."""
    from kgr1.graph.readers.discover import format_of

    kind = format_of(Path(*parts))
    return kind is not None and options.format in (None, kind) and not any(part.startswith(".") for part in parts)


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a glob finds a path, both in parts; ``**`` stands for any number of folders."""
    if not pattern or not parts:
        return not parts and all(part == "**" for part in pattern)
    visible = pattern[0].startswith(".") or not parts[0].startswith(".")
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (visible and _matches(parts[1:], pattern))
    return visible and fnmatch(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])
