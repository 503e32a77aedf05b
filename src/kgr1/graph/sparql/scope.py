"""One graph of an endpoint, the whole or a question graph: its queries and its names."""

from __future__ import annotations

import contextlib
import threading

from kgr1.graph.api import GraphInfo
from kgr1.graph.sparql.endpoint import Refused
from kgr1.graph.sparql.fetch import Fetcher
from kgr1.graph.sparql.names import LocalNames, Names, fetch_names
from kgr1.graph.sparql.naming import Naming
from kgr1.graph.sparql.queries import Queries
from kgr1.graph.sparql.remote import RemoteNames


class Scope:
    """What can be asked about one graph. Names are fetched, or prepared to be looked up, when they are first needed."""

    def __init__(self, fetcher: Fetcher, graph: str | None) -> None:
        options = fetcher.endpoint.options
        self.fetcher = fetcher
        self.queries = Queries(options, graph)
        self._options = options
        self._entities: Names | None = None
        self._relations: Names | None = None
        self._lock = threading.Lock()

    @property
    def entities(self) -> Names:
        """Lookup of entities. Raises :class:`Refused` if the endpoint does not give the names that it must."""
        self._prepare()
        assert self._entities is not None
        return self._entities

    @property
    def relations(self) -> Names:
        """Lookup of relations; as :attr:`entities`."""
        self._prepare()
        assert self._relations is not None
        return self._relations

    def _prepare(self) -> None:
        with self._lock:
            if self._entities is not None and self._relations is not None:
                return
            naming = Naming(self._options)
            relation_naming = Naming(self._options, relations=True)
            local = self._options.names == "local" or (self._options.names == "auto" and self._is_small())
            entities: Names = RemoteNames(self.fetcher, self.queries, naming, relations=False)
            if local:
                entities = fetch_names(self.fetcher, self.queries, naming, relations=False)
            # There are few relations even in large graphs, so that they are fetched if the endpoint lists them in time.
            relations: Names
            try:
                patience = None if local else self._options.scan_timeout_s
                relations = fetch_names(self.fetcher, self.queries, relation_naming, relations=True, timeout_s=patience)
            except Refused:
                if local:
                    raise
                relations = RemoteNames(self.fetcher, self.queries, relation_naming, relations=True)
            self._entities, self._relations = entities, relations

    def _is_small(self) -> bool:
        most = self._options.local_triples
        try:
            return self.fetcher.number(self.queries.size_up_to(most + 1), self._options.scan_timeout_s) <= most
        except Refused:
            return False

    def info(self, name: str) -> GraphInfo:
        """Counts; those that the endpoint does not give in time are 0."""
        with contextlib.suppress(Refused):
            self._prepare()
        entities, relations = self._entities, self._relations
        shared = entities.ambiguous if isinstance(entities, LocalNames) else self._count("shared_labels")
        return GraphInfo(
            name=name,
            triples=self._count("triples"),
            entities=len(entities) if isinstance(entities, LocalNames) else self._count("entities"),
            relations=len(relations) if isinstance(relations, LocalNames) else self._count("all_relations"),
            ambiguous_names=shared,
        )

    def count_question_graphs(self) -> int:
        """The number of named graphs whose names begin with the prefix of the options; 0 if that takes too long."""
        return self._count("question_graphs") if self._options.graph_prefix else 0

    def _count(self, what: str) -> int:
        try:
            return self.fetcher.count(getattr(self.queries, what)())
        except Refused:
            return 0
