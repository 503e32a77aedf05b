"""Labels and aliases find the symbols that they name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from kgr1.graph.building.dictionary import BLANKS, read_frame, write_frame
from kgr1.graph.building.frames import Frames
from kgr1.graph.building.naming import ALIASES, NAMES, Symbols
from kgr1.graph.building.workspace import Workspace

_LABELS: dict[str, pl.DataType] = {
    "id": pl.String(),
    "label": pl.String(),
    "alias": pl.Boolean(),
    "row": pl.Int64(),
}


class LabelFile:
    """The labels of a source in the order in which they came."""

    def __init__(self, place: Workspace) -> None:
        self._place = place
        self._files: list[Path] = []
        self.rows = 0

    def add(self, labels: pl.DataFrame) -> None:
        """Take the labels of a batch (see :class:`kgr1.graph.batches.Batch`)."""
        labels = labels.with_columns(pl.int_range(self.rows, self.rows + labels.height).alias("row"))
        path = self._place.new_file("labels", ".ipc")
        write_frame(labels.select(list(_LABELS)), path)
        self._files.append(path)
        self.rows += labels.height

    def spread(self, parts: int) -> list[list[Path]]:
        """The files of each part, spread by identifier."""
        if parts == 1:
            return [self._files]
        spread = Frames(self._place, "labels-of", parts, _LABELS)
        for path in self._files:
            spread.add(read_frame(path), key="id")
            path.unlink()
        return spread.files


@dataclass
class Named:
    """Symbols of one side with what they are called, see :func:`kgr1.graph.building.naming.write_vocabulary`."""

    names: Frames
    aliases: Frames


@dataclass
class LabelCounts:
    """``repeated``: other labels of an identifier that has one; ``unused``: labels of what the graph does not hold."""

    repeated: int = 0
    unused: int = 0


def attach_labels(
    place: Workspace, labels: LabelFile, sides: tuple[Symbols, Symbols], memory_bytes: int
) -> tuple[tuple[Named, Named], LabelCounts]:
    """Give the symbols of both sides their labels: the first that is not an alias, and all others as aliases."""
    parts = sides[0].ids.parts
    named = tuple(
        Named(
            Frames(place, f"{side.side}-names", parts, NAMES),
            Frames(place, f"{side.side}-aliases", parts, ALIASES),
        )
        for side in sides
    )
    counts = LabelCounts()
    for part, files in enumerate(labels.spread(parts)):
        ids = [side.ids.read(part) for side in sides]
        found = _known(files, ids, counts, memory_bytes)
        label = found.filter(~pl.col("alias")).unique("id", keep="first", maintain_order=True).select("id", "label")
        both = found.join(label.rename({"label": "first"}), on="id", how="left", maintain_order="left")
        differs = pl.col("label").ne_missing(pl.col("first"))
        counts.repeated += both.filter(~pl.col("alias") & differs).height
        others = both.filter(differs & (pl.col("label") != pl.col("id"))).select("id", "row", alias="label")
        others = others.unique(["id", "alias"], keep="first", maintain_order=True)
        label = label.filter(pl.col("label") != pl.col("id"))
        for own, side in zip(ids, named, strict=True):
            side.names.add(own.join(label, on="id", how="left"), key="id")
            side.aliases.add(others.join(own, on="id", how="inner"), part=part)
    first, second = named
    return (first, second), counts


def _known(files: list[Path], ids: list[pl.DataFrame], counts: LabelCounts, memory_bytes: int) -> pl.DataFrame:
    """The labels of a part that are not blank and whose identifiers are in the graph, in their order."""
    found = [pl.DataFrame(schema=_LABELS)]
    for frame in _groups(files, memory_bytes // 16):
        known = frame.filter(pl.any_horizontal(*[pl.col("id").is_in(own["id"].implode()) for own in ids]))
        counts.unused += frame.height - known.height
        found.append(known.filter(pl.col("label").str.strip_chars(BLANKS).str.len_bytes() > 0))
    return pl.concat(found).sort("row")


def _groups(files: list[Path], limit: int) -> Iterator[pl.DataFrame]:
    """The rows of some files, those of about ``limit`` bytes at a time."""
    group: list[Path] = []
    for path in files:
        group.append(path)
        if sum(member.stat().st_size for member in group) > limit:
            yield pl.concat([read_frame(member) for member in group])
            group = []
    if group:
        yield pl.concat([read_frame(member) for member in group])
