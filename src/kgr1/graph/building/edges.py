"""Sorting the facts both ways, in parts that fit in memory.

A fact becomes a row of keys, the most significant first: one 64-bit number of (entity, relation, neighbour) where they
fit together, else two; then the span if the graph has dates; then its question graph if it has any. Rows are spread
over files by entity, each file is sorted on its own, and the sorted files follow each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kgr1.graph.building.keys import KeySorter
from kgr1.graph.building.rows import NO_GRAPH, Column, Rows
from kgr1.graph.building.workspace import ArrayWriter, StoreArrays, Workspace, append

Keys = list[npt.NDArray[np.uint64]]

_STEP = 1 << 22  # rows at a time
_BINS = 1 << 16
_MOST_PARTS = 256
_PACKED_BITS = 64  # of one key
_LOW_32 = np.uint64(0xFFFFFFFF)


@dataclass(frozen=True)
class Numbering:
    """The final numbers: for each run of the dictionaries the entity and the relation of each of its names."""

    entities: int
    relations: int
    entity_maps: Sequence[npt.NDArray[np.int32]]
    relation_maps: Sequence[npt.NDArray[np.int32]]
    graphs: int = 0
    graph_map: npt.NDArray[np.int32] | None = None


@dataclass
class Direction:
    """What came of the facts in one direction: distinct ``facts``, ``dated`` ones, and the degrees (entities,)."""

    facts: int
    dated: int
    degrees: npt.NDArray[np.int64]


class EdgeSorter:
    """Sorts the facts by subject (``side`` is "tail", as in the arrays of the store) or by object ("head")."""

    def __init__(
        self, place: Workspace, arrays: StoreArrays, side: str, rows: Rows, numbering: Numbering, memory_bytes: int
    ) -> None:
        self._place = place
        self._arrays = arrays
        self._side = side
        self._rows = rows
        self._numbering = numbering
        self._memory = memory_bytes
        self._entity_bits = numbering.entities.bit_length()
        self._relation_bits = numbering.relations.bit_length()
        self._narrow = 2 * self._entity_bits + self._relation_bits <= _PACKED_BITS
        self._dated = rows.has("start")
        self._columns = (1 if self._narrow else 2) + self._dated + (numbering.graph_map is not None)

    def run(self) -> Direction:
        """Sort and write ``SIDE_offsets``, ``SIDE_relations``, ``SIDE_neighbours`` and what else the graph has."""
        # Sorting one column takes place where it is, several ones need an order and copies.
        width = 8 if self._columns == 1 else 8 * (2 * self._columns + 2)
        parts = min(_MOST_PARTS, -(-self._rows.count * width // max(self._memory, 1)))
        if parts <= 1:
            blocks = iter([self._collect()])
            borders = np.array([0, self._numbering.entities])
        else:
            borders = self._borders(parts)
            blocks = self._spread(borders)
        return self._write(blocks, borders)

    # -- keys

    def _numbered(self) -> Iterator[tuple[Column, Column, Column, dict[str, Column]]]:
        """(first, relation, second) by their final numbers, some millions of rows at a time."""
        numbers = self._numbering
        for run, rows in self._rows.read(_STEP):
            entity_map = numbers.entity_maps[run]
            head, tail = entity_map[rows["head"]], entity_map[rows["tail"]]
            relation = numbers.relation_maps[run][rows["relation"]]
            first, second = (head, tail) if self._side == "tail" else (tail, head)
            yield first, relation, second, rows

    def _keys(self, first: Column, relation: Column, second: Column, rows: dict[str, Column]) -> Keys:
        key = first.astype(np.uint64)
        key <<= np.uint64(self._relation_bits)
        key |= relation.astype(np.uint64)
        if self._narrow:
            key <<= np.uint64(self._entity_bits)
            key |= second.astype(np.uint64)
            keys = [key]
        else:
            keys = [key, second.astype(np.uint64)]
        if self._dated:
            start, end = (rows[name].astype(np.int64) + 2**31 for name in ("start", "end"))
            keys.append((start.astype(np.uint64) << np.uint64(32)) | end.astype(np.uint64))
        if self._numbering.graph_map is not None:
            graph = rows["graph"].astype(np.int64)
            ranked = np.where(graph == NO_GRAPH, 0, self._numbering.graph_map[graph] + 1)
            keys.append(ranked.astype(np.uint64))
        return keys

    def _facts(self, keys: Keys) -> tuple[Column, Column, Column]:
        if self._narrow:
            second = keys[0] & np.uint64((1 << self._entity_bits) - 1)
            pair = keys[0] >> np.uint64(self._entity_bits)
        else:
            pair, second = keys[0], keys[1]
        relation = pair & np.uint64((1 << self._relation_bits) - 1)
        return pair >> np.uint64(self._relation_bits), relation, second

    # -- parts

    def _collect(self) -> Keys:
        """All rows in memory."""
        blocks = [np.empty(self._rows.count, dtype=np.uint64) for _ in range(self._columns)]
        low = 0
        for first, relation, second, rows in self._numbered():
            for block, part in zip(blocks, self._keys(first, relation, second, rows), strict=True):
                block[low : low + len(first)] = part
            low += len(first)
        return blocks

    def _borders(self, parts: int) -> npt.NDArray[np.int64]:
        """Ranges of entities with about as many rows each: part i holds borders[i] .. borders[i + 1] - 1."""
        width = -(-self._numbering.entities // _BINS)
        sizes = np.zeros(_BINS + 1, dtype=np.int64)
        for first, _, _, _ in self._numbered():
            sizes += np.bincount(first // width, minlength=_BINS + 1)
        share = np.cumsum(sizes) * parts // max(self._rows.count, 1)
        cuts = np.flatnonzero(np.diff(share, prepend=0)) + 1
        borders = np.unique(np.concatenate(([0], cuts * width, [self._numbering.entities])))
        return borders[borders <= self._numbering.entities]

    def _spread(self, borders: npt.NDArray[np.int64]) -> Iterator[Keys]:
        files: dict[tuple[int, int], Path] = {}
        for first, relation, second, rows in self._numbered():
            numbers = (np.searchsorted(borders, first, side="right") - 1).astype(np.uint16)
            order = np.argsort(numbers, kind="stable")
            bounds = np.searchsorted(numbers[order], np.arange(len(borders)))
            for column, key in enumerate(self._keys(first, relation, second, rows)):
                key = key[order]
                for part in np.flatnonzero(np.diff(bounds)).tolist():
                    path = files.get((part, column))
                    if path is None:
                        path = files[part, column] = self._place.new_file(f"edges-{self._side}")
                    append(path, key[bounds[part] : bounds[part + 1]])
        for part in range(len(borders) - 1):
            paths = [files.get((part, column)) for column in range(self._columns)]
            yield [np.empty(0, np.uint64) if path is None else np.fromfile(path, np.uint64) for path in paths]
            for path in paths:
                if path is not None:
                    path.unlink()

    # -- sorted

    def _write(self, blocks: Iterator[Keys], borders: npt.NDArray[np.int64]) -> Direction:
        numbers, side = self._numbering, self._side
        out = {
            "relations": self._arrays.open(f"{side}_relations", "<u2" if numbers.relations <= 2**16 else "<i4"),
            "neighbours": self._arrays.open(f"{side}_neighbours", "<i4"),
        }
        members = None
        if numbers.graph_map is not None:
            members = _Members(self._place, self._arrays, side, self._rows.count, numbers.graphs, self._memory)
        degrees = np.zeros(numbers.entities, dtype=np.int64)
        facts = dated = 0
        for part, keys in enumerate(blocks):
            own = np.zeros(int(borders[part + 1] - borders[part]), dtype=np.int64)
            for step in _sorted_steps(keys, self._columns):
                fresh, place = _fresh(step, self._columns - (members is not None))
                if members is not None:
                    members.add(step[-1][1:], facts + place)
                chosen = [key[1:][fresh] for key in step]
                first, relation, second = self._facts(chosen)
                own += np.bincount(first.astype(np.int64) - borders[part], minlength=len(own))
                out["relations"].write(relation.astype(out["relations"].dtype))
                out["neighbours"].write(second.astype(np.int32))
                if self._dated:
                    dated += self._write_spans(chosen[1 if self._narrow else 2], out)
                facts += len(first)
            degrees[borders[part] : borders[part + 1]] = own
        offsets = np.zeros(numbers.entities + 1, dtype="<i8")
        np.cumsum(degrees, out=offsets[1:])
        self._arrays.write(f"{side}_offsets", offsets)
        self._arrays.close(f"{side}_relations", f"{side}_neighbours")
        if self._dated:
            self._arrays.close(f"{side}_starts", f"{side}_ends")
        if members is not None:
            members.write(facts)
        return Direction(facts, dated, degrees)

    def _write_spans(self, spans: npt.NDArray[np.uint64], out: dict[str, ArrayWriter]) -> int:
        if "starts" not in out:
            out |= {key: self._arrays.open(f"{self._side}_{key}", "<i4") for key in ("starts", "ends")}
        starts = (spans >> np.uint64(32)).astype(np.int64) - 2**31
        ends = (spans & _LOW_32).astype(np.int64) - 2**31
        out["starts"].write(starts)
        out["ends"].write(ends)
        return int((starts <= ends).sum())


def _sorted_steps(keys: Keys, columns: int) -> Iterator[Keys]:
    """Sorted rows, some millions at a time, each step led by the last row of the one before (or one that differs)."""
    if columns == 1:
        keys[0].sort()
        order = None
    else:
        order = np.lexsort(keys[::-1])
    for low in range(0, len(keys[0]), _STEP):
        high = min(low + _STEP, len(keys[0]))
        chosen: Any = slice(max(low - 1, 0), high)
        if order is not None:
            chosen = order[chosen]
        step = [key[chosen] for key in keys]
        if low == 0:
            step = [np.concatenate((~key[:1], key)) for key in step]
        yield step


def _fresh(step: Keys, columns: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Which rows differ from the one before in the first ``columns``, and how many did up to each, less 1."""
    fresh = np.zeros(len(step[0]) - 1, dtype=bool)
    for key in step[:columns]:
        fresh |= key[1:] != key[:-1]
    return fresh, np.cumsum(fresh) - 1


class _Members:
    """The edges of each question graph in one direction."""

    def __init__(
        self, place: Workspace, arrays: StoreArrays, side: str, rows: int, graphs: int, memory_bytes: int
    ) -> None:
        self._arrays = arrays
        self._side = side
        self._graphs = graphs
        self._bits = np.uint64(rows.bit_length())
        bits = rows.bit_length() + graphs.bit_length()
        self._sorter = KeySorter(place, f"members-{side}", bits, rows, memory_bytes)

    def add(self, graphs: npt.NDArray[np.uint64], edges: npt.NDArray[np.int64]) -> None:
        """Take the edges of some rows, and the graph of each plus 1 (0 for none)."""
        member = graphs > 0
        self._sorter.add(((graphs[member] - np.uint64(1)) << self._bits) | edges[member].astype(np.uint64))

    def write(self, facts: int) -> None:
        """Write the list, and where each graph begins in it (the same in both directions)."""
        list_writer = self._arrays.open(f"graph_{self._side}_edges", "<i4" if facts < 2**31 else "<i8")
        sizes = np.zeros(self._graphs, dtype=np.int64)
        for packed in self._sorter.sorted():
            sizes += np.bincount((packed >> self._bits).astype(np.int64), minlength=self._graphs)
            list_writer.write((packed & np.uint64((1 << int(self._bits)) - 1)).astype(np.int64))
        self._arrays.close(f"graph_{self._side}_edges")
        if self._side == "tail":
            offsets = np.zeros(self._graphs + 1, dtype="<i8")
            np.cumsum(sizes, out=offsets[1:])
            self._arrays.write("graph_offsets", offsets)


def degree_counts(degrees: npt.NDArray[np.int64]) -> dict[str, Any]:
    """The largest degree, their mean, and quantiles."""
    quantiles = np.quantile(degrees, [0.5, 0.9, 0.99, 0.999], method="inverted_cdf")
    named = dict(zip(("50 %", "90 %", "99 %", "99.9 %"), map(int, quantiles), strict=True))
    return {"max_degree": int(degrees.max()), "mean_degree": float(degrees.mean()), "degree_quantiles": named}
