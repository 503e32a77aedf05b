"""From what a user names (files, folders, globs, standard input) to files with a format."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kgr1.errors import GraphError
from kgr1.graph.readers.options import Format, ReadOptions
from kgr1.graph.readers.streams import COMPRESSIONS, STDIN

SUFFIXES: dict[str, Format] = {
    ".tsv": "tsv",
    ".txt": "tsv",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".nt": "nt",
    ".nq": "nq",
    ".ttl": "ttl",
    ".trig": "trig",
    ".rdf": "rdf",
    ".owl": "rdf",
}
"""Format by the ending of a name; one of a compression may follow it."""

NUMBERED = "_simple.json"
"""End of the names of files with numbered question graphs; other files of their folder only explain the numbers."""


@dataclass(frozen=True)
class Source:
    """One file (or standard input) and what it is written in."""

    path: Path
    format: Format


def format_of(path: Path) -> Format | None:
    """The format that a file's name says, or None."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return SUFFIXES.get(next((suffix for suffix in reversed(suffixes) if suffix not in COMPRESSIONS), ""))


def find_sources(names: Sequence[Path | str], options: ReadOptions) -> list[Source]:
    """The files that the names stand for, those of a folder or glob in order of their paths.

    Raises :class:`GraphError` if there is none, or the format of one cannot be told.
    """
    return [source for name in names for source in _sources(Path(name).expanduser(), options)]


def _sources(path: Path, options: ReadOptions) -> Iterator[Source]:
    if path == STDIN:
        if options.format is None:
            raise GraphError("Standard input has no name that tells its format; say which it is with --format.")
        yield Source(path, options.format)
    elif path.is_dir():
        yield from _folder(path, options)
    elif not path.exists() and glob.has_magic(str(path)):
        found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
        if not found:
            raise GraphError(f"No file matches {path}.", path=str(path))
        for name in _without_companions(found):
            yield from _sources(name, options)
    else:
        found_format = options.format or format_of(path)
        if found_format is None:
            raise GraphError(
                f"Cannot tell the format of {path}; name it {', '.join(SUFFIXES)} ({', '.join(COMPRESSIONS)} may "
                "follow), or say which it is with --format.",
                path=str(path),
            )
        yield Source(path, found_format)


def _folder(folder: Path, options: ReadOptions) -> Iterator[Source]:
    """Files of a folder and its subfolders whose names tell a format; hidden ones are passed over."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    visible = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    found = [(path, format_of(path)) for path in _without_companions(visible)]
    known = [Source(path, kind) for path, kind in found if kind and options.format in (None, kind)]
    if not known:
        wanted = f"{options.format} file" if options.format else f"file with one of the endings {', '.join(SUFFIXES)}"
        raise GraphError(f"There is no {wanted} in the folder {folder}.", path=str(folder))
    yield from known


def _without_companions(paths: Sequence[Path]) -> list[Path]:
    """The paths without what only explains numbered graphs, in the folders that hold some."""
    numbered = {path.parent for path in paths if _is_numbered(path)}
    return [path for path in paths if path.parent not in numbered or _is_numbered(path)]


def _is_numbered(path: Path) -> bool:
    name = path.with_suffix("").name if path.suffix.lower() in COMPRESSIONS else path.name
    return name.endswith(NUMBERED)
