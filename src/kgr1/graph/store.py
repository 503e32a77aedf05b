"""The graph store: an immutable columnar index over triples, on disk or in memory.

A store on disk is a directory (:mod:`kgr1.graph.files`) whose arrays are memory-mapped: opening it takes the same few
milliseconds whatever its size, a graph larger than memory works, and worker processes share its pages. Pickling such a
store passes its path on; a store in memory is pickled with its arrays.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np

from kgr1.errors import GraphError, GraphServerError
from kgr1.graph.adjacency import Adjacency
from kgr1.graph.api import GraphInfo, NameMatch
from kgr1.graph.encode import EncodedGraph, TripleEncoder, check_name
from kgr1.graph.files import FORMAT, VERSION, Header, describe, read_store, write_store
from kgr1.graph.operations import Retrieval
from kgr1.graph.question_graphs import QuestionGraphs
from kgr1.graph.temporal import UNDATED, Span
from kgr1.graph.vocabulary import Arrays, Vocabulary
from kgr1.types import Observation, Query, Triple

_BATCH = 50_000


class GraphStore:
    """A knowledge graph with one-hop retrieval; satisfies :class:`kgr1.graph.api.KnowledgeGraph`.

    ``max_results`` bounds the names of one observation (its ``total`` still counts all); None gives all of them.
    Safe to share between threads.
    """

    def __init__(
        self, header: Header, arrays: Arrays, *, path: Path | None = None, max_results: int | None = None
    ) -> None:
        self._header = header
        self._arrays = arrays
        self.path = path
        self.max_results = max_results
        try:
            self.entities = Vocabulary(_part(arrays, "entity_"))
            self.relations = Vocabulary(_part(arrays, "relation_"))
            self.outgoing = Adjacency(_part(arrays, "tail_"))
            self.incoming = Adjacency(_part(arrays, "head_"))
            graphs = _part(arrays, "graph_")
            self.question_graphs = QuestionGraphs(graphs, self.outgoing, self.incoming) if graphs else None
        except KeyError as error:
            raise GraphError(f"The graph {header.name!r} lacks the array {error}; build it again.") from error
        self._retrieval: Retrieval | None = Retrieval(
            self.entities, self.relations, self.outgoing, self.incoming, self.question_graphs, max_results
        )

    @classmethod
    def open(cls, path: Path | str, *, verify: bool = False, max_results: int | None = None) -> Self:
        """Open the store in the directory ``path``.

        Raises :class:`GraphError` naming the file if one is missing, truncated, of another version, or (with
        ``verify``, which reads everything) damaged.
        """
        path = Path(path).absolute()
        header, arrays = read_store(path, verify=verify)
        return cls(header, arrays, path=path, max_results=max_results)

    @classmethod
    def from_triples(
        cls,
        triples: Iterable[tuple[str, str, str]],
        name: str = "graph",
        labels: Mapping[str, str] | None = None,
        *,
        aliases: Mapping[str, Sequence[str]] | None = None,
        spans: Iterable[Span] | None = None,
        max_results: int | None = None,
    ) -> Self:
        """Build a store in memory. ``labels`` maps identifiers of entities and relations to what is shown for them,
        ``aliases`` to further names by which they are found.

        ``spans`` runs parallel to ``triples`` and holds the dates of each (:mod:`kgr1.graph.temporal`).
        Raises :class:`GraphError` for no triples, or a name that is empty or not valid Unicode.
        """
        encoder = TripleEncoder()
        _add(encoder, triples, spans=spans)
        return cls._encoded(encoder, name, labels, aliases, max_results)

    @classmethod
    def from_question_graphs(
        cls,
        graphs: Mapping[str, Iterable[tuple[str, str, str]]],
        name: str = "graph",
        labels: Mapping[str, str] | None = None,
        *,
        max_results: int | None = None,
    ) -> Self:
        """Build a store in memory from a graph a question, by its id. The whole store is their union.

        Raises :class:`GraphError` as :meth:`from_triples` does, and for an id that is empty or not valid Unicode.
        """
        encoder = TripleEncoder()
        for graph_id, triples in graphs.items():
            problem = check_name(graph_id)
            if problem:
                raise GraphError(f"The id of a question graph, {graph_id!r:.100}: {problem}.")
            _add(encoder, triples, graph=graph_id)
        return cls._encoded(encoder, name, labels, None, max_results)

    @classmethod
    def _encoded(
        cls,
        encoder: TripleEncoder,
        name: str,
        labels: Mapping[str, str] | None,
        aliases: Mapping[str, Sequence[str]] | None,
        max_results: int | None,
    ) -> Self:
        _check_labels((labels or {}).items())
        _check_labels((key, alias) for key, row in (aliases or {}).items() for alias in row)
        encoded = encoder.finish(labels, aliases)
        return cls(make_header(encoded, name, checksums=False), encoded.arrays, max_results=max_results)

    def save(self, out: Path, *, force: bool = False) -> None:
        """Write the store to the directory ``out``, whole or not at all; see :func:`kgr1.graph.files.write_store`."""
        self._alive()
        entries = {key: describe(array) for key, array in self._arrays.items()}
        write_store(self._header.model_copy(update={"arrays": entries}), self._arrays, out, force=force)

    def execute(self, queries: Sequence[Query]) -> list[Observation]:
        """Answer every query; same length and order as ``queries``.

        Raises :class:`GraphServerError` if the store was closed.
        """
        answer = self._alive().answer
        try:
            return [answer(query) for query in queries]
        except (IndexError, ValueError, OverflowError) as error:  # numbers that point outside the arrays
            raise GraphServerError(
                f"The files of the graph {self._header.name!r} are damaged ({error}); build it again."
            ) from error

    def info(self) -> GraphInfo:
        """Counts of the graph."""
        header = self._header
        return GraphInfo(
            name=header.name,
            triples=header.triples,
            entities=header.entities,
            relations=header.relations,
            dated=header.dated,
            question_graphs=header.question_graphs,
            ambiguous_names=header.ambiguous_names,
            bytes=header.bytes if self.path is not None else 0,
        )

    def search(self, text: str, count: int = 10) -> list[tuple[str, str]]:
        """Up to ``count`` entities as (display name, identifier); see :class:`kgr1.graph.api.NameSearch`."""
        found = dict.fromkeys((*self.find_names(text), *self.closest_names(text, count)))
        return [(match.name, match.id) for match in islice(found, count)]

    def find_names(self, text: str) -> tuple[NameMatch, ...]:
        """See :class:`kgr1.graph.api.NameIndex`."""
        self._alive()
        found = [
            NameMatch(self.entities.name(e), self.entities.id(e), self.outgoing.degree(e) + self.incoming.degree(e))
            for e in self.entities.find(text)
        ]
        return tuple(sorted(found, key=lambda match: (-match.degree, match.name)))

    def closest_names(self, text: str, count: int = 3) -> tuple[NameMatch, ...]:
        """See :class:`kgr1.graph.api.NameIndex`."""
        self._alive()
        bearers = [self.find_names(self.entities.label(e)) for e in self._named(self.entities.closest(text, count))]
        return tuple(dict.fromkeys(match for matches in bearers for match in matches))

    def _named(self, names: Iterable[str]) -> Iterator[int]:
        """The entities that have exactly these display names."""
        for name in names:
            yield from self.entities.find(name)

    @property
    def content_hash(self) -> str:
        """A hash of all that the store holds, from the checksums of its header; empty for one built in memory."""
        arrays = self._header.arrays
        if not any(entry.sha256 for entry in arrays.values()):
            return ""
        held = sorted((key, entry.dtype, entry.sha256) for key, entry in arrays.items())
        return hashlib.sha256(json.dumps(held).encode()).hexdigest()

    @property
    def max_degree(self) -> int:
        """Most triples at one entity, as subject or object."""
        return self._header.max_degree

    def triples(self) -> Iterator[Triple]:
        """All triples by display names, sorted."""
        self._alive()
        for entity in range(len(self.entities)):
            head = self.entities.name(entity)
            for relation in self.outgoing.relations(entity):
                name = self.relations.name(relation)
                for tail in self.outgoing.neighbours(entity, relation):
                    yield Triple(head, name, self.entities.name(tail))

    def dated_triples(self) -> Iterator[tuple[Triple, Span]]:
        """All facts with their dates, sorted: one with several dates once for each, one without any as ``UNDATED``."""
        self._alive()
        if not self.outgoing.dated:
            yield from ((triple, UNDATED) for triple in self.triples())
            return
        for entity in range(len(self.entities)):
            head = self.entities.name(entity)
            for relation in self.outgoing.relations(entity):
                name = self.relations.name(relation)
                facts = self.outgoing.facts(self.outgoing.positions(entity, relation))
                for tail, start, end in zip(*(column.tolist() for column in facts), strict=True):
                    yield Triple(head, name, self.entities.name(tail)), (start, end)

    def close(self) -> None:
        """Release the files. Calling it twice is fine; other stores on the same directory stay open."""
        self._retrieval = None
        self._arrays = {}
        for part in ("entities", "relations", "outgoing", "incoming", "question_graphs"):
            self.__dict__.pop(part, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        header = self._header
        return f"<GraphStore {header.name!r}: {header.triples:,} triples, {header.entities:,} entities>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.path is not None:
            return (_reopen, (type(self), self.path, self.max_results))
        self._alive()
        arrays = {key: np.asarray(array) for key, array in self._arrays.items()}
        return (_rebuild, (type(self), self._header, arrays, self.max_results))

    def _alive(self) -> Retrieval:
        if self._retrieval is None:
            raise GraphServerError(f"The graph {self._header.name!r} was closed; open it again to query it.")
        return self._retrieval


def make_header(encoded: EncodedGraph, name: str, *, checksums: bool) -> Header:
    """The header for freshly encoded arrays."""
    return Header(
        format=FORMAT,
        version=VERSION,
        name=name,
        triples=encoded.triples,
        entities=encoded.entities,
        relations=encoded.relations,
        dated=encoded.dated,
        question_graphs=encoded.question_graphs,
        ambiguous_names=encoded.ambiguous_names,
        max_degree=encoded.max_degree,
        arrays={key: describe(array, checksums) for key, array in encoded.arrays.items()},
    )


def _add(
    encoder: TripleEncoder,
    triples: Iterable[tuple[str, str, str]],
    *,
    spans: Iterable[Span] | None = None,
    graph: str | None = None,
) -> None:
    rows = iter(triples)
    dates = iter(spans) if spans is not None else None
    while batch := list(islice(rows, _BATCH)):
        _check_rows(batch, encoder.rows)
        encoder.add(batch, spans=None if dates is None else list(islice(dates, len(batch))), graph=graph)


def _reopen(cls: type[GraphStore], path: Path, max_results: int | None) -> GraphStore:
    return cls.open(path, max_results=max_results)


def _rebuild(cls: type[GraphStore], header: Header, arrays: Arrays, max_results: int | None) -> GraphStore:
    return cls(header, arrays, max_results=max_results)


def _part(arrays: Arrays, prefix: str) -> Arrays:
    return {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}


def _check_rows(rows: Sequence[tuple[str, str, str]], before: int) -> None:
    for number, row in enumerate(rows, before + 1):
        if len(row) != 3:
            raise GraphError(f"Triple {number} has {len(row)} parts instead of head, relation and tail.")
        for name in row:
            problem = check_name(name)
            if problem:
                raise GraphError(f"Triple {number}: {problem}.")


def _check_labels(labels: Iterable[tuple[str, str]]) -> None:
    for name, label in labels:
        problem = check_name(label) if label else None
        if problem:
            raise GraphError(f"The label of {name!r}: {problem}.")
