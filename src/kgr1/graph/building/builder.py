"""The steps of a build in their order; :mod:`kgr1.graph.build` drives them."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import polars as pl

from kgr1.errors import GraphError
from kgr1.graph.batches import Batch
from kgr1.graph.building.dictionary import Dictionary, read_frame
from kgr1.graph.building.edges import Direction, EdgeSorter, Numbering, degree_counts
from kgr1.graph.building.labels import LabelCounts, LabelFile, attach_labels
from kgr1.graph.building.naming import Symbols, Vocabulary, merge_runs, write_vocabulary
from kgr1.graph.building.rows import NO_GRAPH, Column, Rows
from kgr1.graph.building.workspace import StoreArrays, Workspace, new_numbers
from kgr1.graph.files import FORMAT, VERSION, ArrayEntry, Header
from kgr1.graph.name_index import distinct, hash_texts, pack_owners, text_bytes
from kgr1.graph.temporal import UNDATED

_BATCH_ROWS = 500_000  # small batches are gathered to so many rows
_MOST_PARTS = 256
_NAME_BYTES = 250  # memory for a name while it is numbered, besides six times its text; measured


class NoTriplesError(GraphError):
    """The sources hold no triple."""


class Builder:
    """One build. Call :meth:`add` for each batch, then the other methods in their order."""

    def __init__(self, place: Workspace, memory_bytes: int) -> None:
        self._place = place
        self._memory = memory_bytes
        self._arrays = StoreArrays(place.store)
        self._entities = Dictionary(place, "entity")
        self._relations = Dictionary(place, "relation")
        self._graphs = Dictionary(place, "graph")
        self._rows = Rows(place)
        self._labels = LabelFile(place)
        self._waiting: list[pl.DataFrame] = []
        self._numbering: Numbering | None = None
        self._label_counts = LabelCounts()
        self._dropped: Counter[str] = Counter()
        self._counts: dict[str, Any] = {}
        self.source_rows = 0

    # -- reading

    def add(self, batch: Batch) -> None:
        """Take a batch."""
        self.source_rows = batch.rows
        self._dropped.update(batch.dropped)
        if batch.labels is not None and batch.labels.height:
            self._labels.add(batch.labels)
        if batch.facts is None or not batch.facts.height:
            return
        if self._waiting and self._waiting[0].schema != batch.facts.schema:
            self._encode_waiting()
        self._waiting.append(batch.facts)
        if sum(frame.height for frame in self._waiting) >= _BATCH_ROWS:
            self._encode_waiting()

    def _encode_waiting(self) -> None:
        if not self._waiting:
            return
        facts = pl.concat(self._waiting)
        self._waiting = []
        ends = self._entities.encode(pl.concat([facts["head"], facts["tail"].alias("head")]))
        columns: dict[str, Column] = {
            "head": ends[: facts.height],
            "relation": self._relations.encode(facts["relation"]),
            "tail": ends[facts.height :],
        }
        if "start" in facts.columns:
            start = facts["start"].fill_null(UNDATED[0]).to_numpy()
            end = facts["end"].fill_null(UNDATED[1]).to_numpy()
            if self._rows.has("start") or (start <= end).any():
                columns |= {"start": start, "end": end}
        if "graph" in facts.columns and facts["graph"].null_count() < facts.height:
            graph = np.full(facts.height, NO_GRAPH, dtype=np.int32)
            graph[facts["graph"].is_not_null().to_numpy()] = self._graphs.encode(facts["graph"].drop_nulls())
            columns["graph"] = graph
        self._rows.add(columns)
        if self._entities.bytes + self._relations.bytes > self._memory // 2:
            self._rows.next_run()
            self._entities.next_run()
            self._relations.next_run()

    # -- names

    def number_names(self) -> None:
        """Write both vocabularies and the names of the question graphs.

        Raises :class:`NoTriplesError` if there was no triple.
        """
        self._encode_waiting()
        if not self._rows.count:
            raise NoTriplesError("There is no triple to build a graph from; give at least one (head, relation, tail).")
        parts = self._parts()
        for dictionary in (self._entities, self._relations, self._graphs):
            dictionary.forget()
        sides = (
            merge_runs(self._place, "entity", self._entities, parts),
            merge_runs(self._place, "relation", self._relations, parts),
        )
        (entities, relations), self._label_counts = attach_labels(self._place, self._labels, sides, self._memory)
        found = [
            write_vocabulary(self._place, self._arrays, symbols, named.names, named.aliases, self._memory)
            for symbols, named in zip(sides, (entities, relations), strict=True)
        ]
        graphs, graph_map = self._write_graph_names() if self._rows.has("graph") else (0, None)
        self._numbering = Numbering(
            sides[0].count,
            sides[1].count,
            self._final_maps(sides[0], found[0], self._entities),
            self._final_maps(sides[1], found[1], self._relations),
            graphs,
            graph_map,
        )
        self._counts = {
            "entities": sides[0].count,
            "relations": sides[1].count,
            "question_graphs": graphs,
            "ambiguous_names": found[0].ambiguous,
            "aliases": found[0].aliases + found[1].aliases,
        }

    def _parts(self) -> int:
        """In how many parts the names are numbered."""
        need = names = 0
        for dictionary in (self._entities, self._relations):
            names += sum(run.count for run in dictionary.runs)
            need += 6 * sum(path.stat().st_size for run in dictionary.runs for path in run.files)
        parts = 1
        while parts < min(_MOST_PARTS, names) and need + names * _NAME_BYTES > parts * self._memory:
            parts *= 2
        return parts

    def _final_maps(self, symbols: Symbols, found: Vocabulary, names: Dictionary) -> list[Column]:
        """For each run (also one without names) the final number of each of its names."""
        maps = iter(symbols.maps)
        finals: list[Column] = []
        for run in names.runs:
            own = next(maps) if run.count else np.empty(0, dtype=np.int32)
            if own is None or len(symbols.maps) == 1:
                finals.append(found.ranks)
                continue
            final = new_numbers(self._place.new_file("final"), run.count)
            final[:] = found.ranks[own]
            finals.append(final)
        return finals

    def _write_graph_names(self) -> tuple[int, Column]:
        ids = pl.concat([read_frame(path) for path in self._graphs.runs[0].files])["id"]
        order = ids.arg_sort().to_numpy()
        ranks = np.empty(len(order), dtype=np.int32)
        ranks[order] = np.arange(len(order))
        blob, offsets = text_bytes(ids.gather(order))
        table = distinct(pack_owners(hash_texts(blob, offsets), np.arange(len(order))))
        self._arrays.write("graph_id_bytes", blob)
        self._arrays.write("graph_id_offsets", offsets)
        self._arrays.write("graph_hashes", (table >> np.uint64(32)).astype("<u4"))
        self._arrays.write("graph_hash_owners", table.astype(np.uint32).astype("<i4"))
        return len(order), ranks

    # -- facts

    def sort_facts(self) -> dict[str, Any]:
        """Write the edges; returns the counts of a :class:`kgr1.graph.build.BuildReport`."""
        assert self._numbering is not None
        tail, head = self._sort_both(self._numbering)
        self._counts |= {
            "triples": tail.facts,
            "duplicates": self._rows.count - tail.facts,
            "dated": tail.dated,
            "repeated_names": self._label_counts.repeated,
            "unused_names": self._label_counts.unused,
            "dropped": dict(self._dropped),
            **degree_counts(tail.degrees + head.degrees),
        }
        return self._counts

    def _sort_both(self, numbering: Numbering) -> list[Direction]:
        sorters = [
            EdgeSorter(self._place, self._arrays, side, self._rows, numbering, self._memory // 2)
            for side in ("tail", "head")
        ]
        with ThreadPoolExecutor(len(sorters)) as pool:
            return list(pool.map(EdgeSorter.run, sorters))

    def header(self, name: str) -> Header:
        """The header of the store."""
        entries = {
            key: ArrayEntry(
                dtype=writer.dtype.str,
                length=writer.length,
                bytes=writer.length * writer.dtype.itemsize,
                sha256=writer.sha256,
            )
            for key, writer in self._arrays.writers.items()
        }
        counts = ("triples", "entities", "relations", "dated", "question_graphs", "ambiguous_names", "max_degree")
        return Header(
            format=FORMAT,
            version=VERSION,
            name=name,
            **{key: self._counts[key] for key in counts},
            arrays=entries,
        )

    def close(self) -> None:
        """Close the files of the store."""
        self._arrays.abandon()
