"""Question graphs of numbers (``*_simple.json``), with ``entities.txt`` and ``relations.txt`` beside them.

Line ``n`` (from 0) of those files is what number ``n`` stands for. Names of identifiers are a matter of ``--names``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from kgr1.errors import GraphError
from kgr1.graph.readers.discover import format_of
from kgr1.graph.readers.place import Place
from kgr1.graph.readers.streams import not_utf8, open_stream

COMPANIONS = ("entities.txt", "relations.txt")
NAMELESS = "triples of a question graph without a name in them"


class Numbered:
    """What the numbers of a folder stand for.

    Raises :class:`GraphError` if the two files are not there.
    """

    def __init__(self, path: Path, place: Place) -> None:
        self.place = place
        self.entities, self.relations = (_symbols(path.parent / name, path) for name in COMPANIONS)

    def facts(self, row: dict[str, Any], line: int) -> pl.DataFrame | None:
        """The facts of a question: columns head, relation, tail, graph. None if there is none."""
        try:
            numbers = np.array(row["subgraph"]["tuples"], dtype=np.int64).reshape(-1, 3)
            graph = str(row["id"])
        except (KeyError, TypeError, ValueError, OverflowError):
            self.place.bad(line, "'id' and a 'subgraph' with 'tuples' of three numbers are needed", "no numbered graph")
            return None
        if not len(numbers) or not graph.strip():
            return None
        for column, names in ((0, self.entities), (1, self.relations), (2, self.entities)):
            highest = int(numbers[:, column].max())
            if highest >= len(names) or int(numbers[:, column].min()) < 0:
                kind = "relations.txt" if column == 1 else "entities.txt"
                self.place.bad(
                    line, f"number {highest} is beyond the {len(names):,} lines of {kind}", "unknown numbers"
                )
                return None
        frame = pl.DataFrame(
            {
                "head": self.entities.gather(numbers[:, 0]),
                "relation": self.relations.gather(numbers[:, 1]),
                "tail": self.entities.gather(numbers[:, 2]),
                "graph": pl.Series([graph], dtype=pl.String).new_from_index(0, len(numbers)),
            }
        )
        named = frame.filter(pl.all_horizontal(pl.col("head", "relation", "tail").str.strip_chars() != ""))
        self.place.drop(NAMELESS, frame.height - named.height)
        return named


def companions(path: Path) -> list[Path]:
    """The files that are read besides ``path`` if it holds numbers."""
    if format_of(path) != "jsonl":
        return []
    found = [_symbol_file(path.parent / name) for name in COMPANIONS]
    return [file for file in found if file is not None]


def _symbol_file(path: Path) -> Path | None:
    candidates = [path, path.with_name(path.name + ".gz")]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _symbols(path: Path, asked_by: Path) -> pl.Series:
    found = _symbol_file(path)
    if found is None:
        raise GraphError(
            f"{asked_by} holds numbers; {path.name}, which says what they stand for, is not in its folder.",
            path=str(path),
        )
    place = Place(str(found))
    with open_stream(found, place) as stream:
        data = stream.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place.fail(1 + data.count(b"\n", 0, error.start), not_utf8(data[error.start]), error)
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    return pl.Series(lines, dtype=pl.String)
