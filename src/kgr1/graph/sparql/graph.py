"""A SPARQL endpoint as a knowledge graph: :class:`SparqlGraph`.

A batch of queries is answered in steps, each a few requests for the whole batch: resolve the names, fetch the
neighbours, name what was found. Results mean what they mean on a store; where an endpoint cannot do what a store does,
only the wording of errors and the reach of inexact spellings differ (docs/sparql.md lists it).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from types import TracebackType
from typing import ClassVar, Self
from urllib.parse import quote as percent_encode

from kgr1.errors import GraphServerError
from kgr1.graph.api import GraphInfo
from kgr1.graph.refusals import no_question_graph
from kgr1.graph.sparql.batch import Batch, too_much
from kgr1.graph.sparql.endpoint import Endpoint, Refused
from kgr1.graph.sparql.fetch import Fetcher
from kgr1.graph.sparql.options import SparqlOptions
from kgr1.graph.sparql.scope import Scope
from kgr1.graph.sparql.terms import is_iri
from kgr1.types import Observation, Query

_OPEN_GRAPHS = 64  # question graphs whose names are kept


class SparqlGraph:
    """A knowledge graph behind a SPARQL 1.1 endpoint; satisfies :class:`kgr1.graph.api.KnowledgeGraph`.

    ``url`` is the endpoint's address, e.g. ``http://localhost:8890/sparql``. Nothing is sent before the first call;
    threads may share a graph, and a pickled graph opens its own connections. A query that the endpoint does not answer
    is answered with KG_SERVER_ERROR; an endpoint that cannot be used at all raises
    :class:`kgr1.errors.GraphServerError`.
    """

    remote: ClassVar[bool] = True  # an answer takes long enough for a thread of its own

    def __init__(self, url: str, options: SparqlOptions | None = None) -> None:
        self.url = url
        self.options = options or SparqlOptions()
        self.endpoint = Endpoint(url, self.options)
        self._fetcher = Fetcher(self.endpoint)
        self._whole = Scope(self._fetcher, self.options.graph)
        self._parts: OrderedDict[str, Scope | None] = OrderedDict()
        self._lock = threading.Lock()

    def execute(self, queries: Sequence[Query]) -> list[Observation]:
        """Answer every query; same length and order as ``queries``.

        Raises :class:`GraphServerError` if the endpoint cannot be used or the graph was closed.
        """
        self.endpoint.require_open()
        answers: list[Observation | None] = [None] * len(queries)
        by_graph: dict[str | None, list[int]] = {}
        for number, query in enumerate(queries):
            by_graph.setdefault(query.graph_id, []).append(number)
        for graph_id, numbers in by_graph.items():
            some = [queries[number] for number in numbers]
            for number, observation in zip(numbers, self._execute(some, graph_id), strict=True):
                answers[number] = observation
        return [observation for observation in answers if observation is not None]

    def _execute(self, queries: Sequence[Query], graph_id: str | None) -> list[Observation]:
        batch = Batch(queries, self.options.max_results)
        try:
            if batch.needs_graph:
                scope = self._whole if graph_id is None else self._part(graph_id)
                if scope is None:
                    batch.refuse_all(no_question_graph)
                else:
                    batch.answer(scope)
                    if batch.all_failed:
                        self._require_alive("it refuses all of them")
        except Refused as error:
            reason = str(error)
            self._require_alive(reason)
            batch.refuse_all(lambda query: too_much(query, reason))
        return batch.observations()

    def _require_alive(self, reason: str) -> None:
        if not self.endpoint.alive():
            raise GraphServerError(
                f"{self.url} answers no query ({reason}); check that it is the address of a SPARQL endpoint.",
                url=self.url,
            )

    def _part(self, graph_id: str) -> Scope | None:
        """The question graph, None if there is none."""
        prefix = self.options.graph_prefix
        if prefix is None:
            return None
        with self._lock:
            if graph_id in self._parts:
                self._parts.move_to_end(graph_id)
                return self._parts[graph_id]
        try:
            address = prefix + percent_encode(graph_id, safe="")
        except UnicodeEncodeError:
            return None
        if len(address) > 2000 or not graph_id or not is_iri(address):
            return None
        scope = Scope(self._fetcher, address)
        if not self.endpoint.ask(f"ASK {{ {scope.queries.facts('?s ?p ?o')} }}"):
            return None
        with self._lock:
            scope = self._parts.setdefault(graph_id, scope) or scope
            while len(self._parts) > _OPEN_GRAPHS:
                self._parts.popitem(last=False)
        return scope

    def info(self) -> GraphInfo:
        """Counts of the graph; 0 for what the endpoint does not count within the time limit."""
        self.check()
        counts = self._whole.info(self.options.graph or self.url)
        return counts.model_copy(update={"question_graphs": self._whole.count_question_graphs()})

    def check(self) -> None:
        """Raises :class:`GraphServerError` if there is no SPARQL endpoint at the address, or the graph was closed."""
        if not self.endpoint.alive():
            raise GraphServerError(f"{self.url} does not answer the query ASK {{}}; check the address.", url=self.url)

    def close(self) -> None:
        """Drop the connections; calling it twice is fine."""
        self.endpoint.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SparqlGraph {self.url}>"

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.url, self.options))
