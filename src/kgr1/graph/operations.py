"""The four retrieval operations (SPEC section 2) over the arrays of a store.

The meaning of every operation depends on triples only. A name that stands for several entities is answered with the
union of their results; the observation's query then keeps the name as it was asked. With one entity it carries the
display name, so that evidence triples are made of names that exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from kgr1.graph import refusals
from kgr1.graph.adjacency import Adjacency, Edges
from kgr1.graph.question_graphs import QuestionGraphs
from kgr1.graph.refusals import LISTED, SUGGESTED, quoted, refusal
from kgr1.graph.scope import QuestionScope, Scope
from kgr1.graph.temporal import FILTER_FORMS, TimeFilter, format_span, parse_filter
from kgr1.graph.vocabulary import Vocabulary
from kgr1.types import ErrorCode, Observation, Operation, Query

_SCOPES = 4096  # question graphs kept ready
_KEPT_NAMES = 400_000  # names in all kept results, about 50 MB at most
_KEPT_OVERHEAD = 10  # what a result needs besides its names, in names
_TIMES = 1000  # dates of one result; of more, the first ones and the last

_Sequence = TypeVar("_Sequence", list[int], range, Sequence[int])

_TAIL_RELATIONS = Operation.GET_TAIL_RELATIONS
_HEAD_RELATIONS = Operation.GET_HEAD_RELATIONS
_TAIL_ENTITIES = Operation.GET_TAIL_ENTITIES
_HEAD_ENTITIES = Operation.GET_HEAD_ENTITIES


class Retrieval:
    """Answers queries on one graph. Never raises for what a query holds."""

    def __init__(
        self,
        entities: Vocabulary,
        relations: Vocabulary,
        outgoing: Adjacency,
        incoming: Adjacency,
        question_graphs: QuestionGraphs | None = None,
        max_results: int | None = None,
    ) -> None:
        self._entities = entities
        self._relations = relations
        self._whole = Scope(entities, relations, outgoing, incoming)
        self._dated = outgoing.dated
        self._question_graphs = question_graphs
        self._scopes: dict[str, Scope] = {}
        self._max_results = max_results
        self._kept: dict[tuple[object, ...], Observation] = {}
        self._kept_names = 0

    def answer(self, query: Query) -> Observation:
        """Answer one query with a sorted result or an error.

        Recent results are kept: the episodes of a group ask the same things of the same graph.
        """
        key = (
            query.operation, query.entity, query.relation, query.time, query.graph_id, query.offset, query.limit
        )  # fmt: skip
        kept = self._kept.get(key)
        if kept is not None:
            return kept
        observation = self._directly(query) or self._carefully(query)
        size = _KEPT_OVERHEAD + len(observation.names)
        if observation.error is None and size < _KEPT_NAMES // 20:
            self._kept_names += size
            if self._kept_names > _KEPT_NAMES:
                self._kept.clear()
                self._kept_names = size
            self._kept[key] = observation
        return observation

    def _directly(self, query: Query) -> Observation | None:
        """The answer where names mean one entity and one relation and there is a result; None for all else.

        Most queries are of this kind. In a question graph nothing needs to be checked then: what has a result there
        is there, and no earlier reading of the names found anything anywhere.
        """
        if self._dated or query.time is not None:
            return None
        scope = self._whole if query.graph_id is None else self._question_scope(query.graph_id)
        matches = self._entities.find(query.entity)
        if scope is None or len(matches) != 1:
            return None
        operation, relation = query.operation, query.relation
        if relation is None:
            if operation is not _TAIL_RELATIONS and operation is not _HEAD_RELATIONS:
                return None
            edges = scope.outgoing if operation is _TAIL_RELATIONS else scope.incoming
            listed = edges.relations(matches[0])
            return self._relation_result(query, matches, listed) if listed else None
        if operation is not _TAIL_ENTITIES and operation is not _HEAD_ENTITIES:
            return None
        relations = self._relations.find(relation)
        if len(relations) != 1:
            return None
        edges = scope.outgoing if operation is _TAIL_ENTITIES else scope.incoming
        places = edges.positions(matches[0], relations[0])
        if not places:
            return None
        # Only the page is read: a hub may have millions of neighbours.
        return self._entity_result(query, matches, relations, edges.at(self._page(query, places)), len(places))

    def _carefully(self, query: Query) -> Observation:
        operation = query.operation
        if operation is _TAIL_ENTITIES or operation is _HEAD_ENTITIES:
            takes_relation = True
        elif operation is _TAIL_RELATIONS or operation is _HEAD_RELATIONS:
            takes_relation = False
        else:
            return refusals.unknown_operation(query)
        if (query.relation is not None) is not takes_relation or not query.entity.strip():
            return refusals.wrong_arguments(query)
        during: TimeFilter | None = None
        if query.time is not None:
            during = parse_filter(query.time)
            if during is None or not takes_relation or not self._dated:
                return _wrong_time(query, during, self._dated)
        scope = self._whole if query.graph_id is None else self._question_scope(query.graph_id)
        if scope is None:
            return _no_question_graph(query, self._question_graphs)
        matches = scope.find_entity(query.entity)
        if not matches:
            return refusals.no_entity(query, scope.closest_entities(query.entity, SUGGESTED))
        outgoing = operation is _TAIL_ENTITIES or operation is _TAIL_RELATIONS
        edges = scope.outgoing if outgoing else scope.incoming
        if not takes_relation:
            found = edges.relations(matches[0]) if len(matches) == 1 else _union(map(edges.relations, matches))
            if not found:
                return refusals.no_relations(query, self._resolved(query, matches, ()))
            return self._relation_result(query, matches, found)
        assert query.relation is not None
        relations = scope.find_relation(query.relation)
        if not relations:
            return self._no_relation(query, matches, edges, scope)
        if self._dated:
            return self._dated_result(query, matches, relations, edges, scope, during)
        found = _union(edges.at(edges.positions(e, r)) for e in matches for r in relations)
        if not found:
            return self._no_results(query, matches, relations, edges, scope)
        return self._entity_result(query, matches, relations, self._page(query, found), len(found))

    def _question_scope(self, graph_id: str) -> Scope | None:
        scope = self._scopes.get(graph_id)
        if scope is None and self._question_graphs is not None:
            graph = self._question_graphs.find(graph_id)
            if graph is not None:
                scope = QuestionScope(self._entities, self._relations, self._question_graphs.slices(graph))
                if len(self._scopes) >= _SCOPES:
                    self._scopes.clear()
                self._scopes[graph_id] = scope
        return scope

    def _page(self, query: Query, found: _Sequence) -> _Sequence:
        most = query.limit
        if most is None and self._max_results is None and not query.offset:
            return found
        if self._max_results is not None and (most is None or most > self._max_results):
            most = self._max_results
        return found[query.offset : None if most is None else query.offset + most]

    def _entity_result(
        self,
        query: Query,
        matches: Sequence[int],
        relations: Sequence[int],
        page: list[int],
        total: int,
        times: tuple[tuple[str, ...], ...] = (),
    ) -> Observation:
        if not page:
            return refusals.past_the_end(query, total)
        names = self._entities.names(page)
        ids = self._entities.ids(page) if self._entities.labelled else names
        resolved = self._resolved(query, matches, relations)
        return Observation(query=resolved, names=names, ids=ids, times=times, total=total)

    def _dated_result(
        self,
        query: Query,
        matches: Sequence[int],
        relations: Sequence[int],
        edges: Edges,
        scope: Scope,
        during: TimeFilter | None,
    ) -> Observation:
        """Results with their dates: the facts of one entity stand together."""
        parts = [edges.facts(places) for e in matches for r in relations if (places := edges.positions(e, r))]
        if not parts:
            return self._no_results(query, matches, relations, edges, scope)
        facts = np.array(parts[0]) if len(parts) == 1 else np.concatenate(parts, axis=1)
        if during is not None:
            kept = facts[:, during.mask(facts[1], facts[2])]
            if not kept.shape[1]:
                return self._nothing_then(query, matches, relations, facts)
            facts = kept
        if len(parts) > 1:
            facts = facts[:, np.lexsort(facts[::-1])]
        starts = np.flatnonzero(np.diff(facts[0], prepend=-1))
        page = self._page(query, range(len(starts)))
        bounds = [*starts.tolist(), facts.shape[1]]
        times = tuple([_times(facts[1:, bounds[i] : bounds[i + 1]]) for i in page])
        found = facts[0][starts[page.start : page.stop]].tolist()
        return self._entity_result(query, matches, relations, found, len(starts), times)

    def _relation_result(self, query: Query, matches: Sequence[int], found: list[int]) -> Observation:
        page = self._page(query, found)
        if not page:
            return refusals.past_the_end(query, len(found))
        names = self._relations.names(page)
        return Observation(query=self._resolved(query, matches, ()), names=names, ids=names, total=len(found))

    def _resolved(self, query: Query, matches: Sequence[int], relations: Sequence[int]) -> Query:
        entity, relation = query.entity, query.relation
        if len(matches) == 1:
            entity = self._entities.name(matches[0])
        if len(relations) == 1:
            relation = self._relations.name(relations[0])
        if entity == query.entity and relation == query.relation:
            return query
        return query.model_copy(update={"entity": entity, "relation": relation})

    # The errors, worded by kgr1.graph.refusals.

    def _no_relation(self, query: Query, matches: Sequence[int], edges: Edges, scope: Scope) -> Observation:
        return refusals.no_relation(query, self._relations_there(matches, edges), scope.closest_relations)

    def _no_results(
        self, query: Query, matches: Sequence[int], relations: Sequence[int], edges: Edges, scope: Scope
    ) -> Observation:
        resolved = self._resolved(query, matches, relations)
        opposite = scope.incoming if edges is scope.outgoing else scope.outgoing
        if any(opposite.positions(e, r) for e in matches for r in relations):
            return refusals.other_direction(query, resolved)
        return refusals.no_results(query, resolved, self._relations_there(matches, edges))

    def _nothing_then(
        self, query: Query, matches: Sequence[int], relations: Sequence[int], facts: npt.NDArray[np.generic]
    ) -> Observation:
        resolved = self._resolved(query, matches, relations)
        start = f"{quoted(resolved.entity)} has no {quoted(resolved.relation or '')} dated {quoted(query.time or '')}"
        dated = facts[1:, facts[1] <= facts[2]]
        if not dated.shape[1]:
            return refusal(query, ErrorCode.NO_RESULTS, f"{start}; its facts have no dates, so ask without a time.")
        first, last = (format_span(*dated[:, place].tolist()) for place in (dated[0].argmin(), dated[1].argmax()))
        hint = f"its only fact is dated {first}" if dated.shape[1] == 1 else f"its dates go from {first} to {last}"
        return refusal(query, ErrorCode.NO_RESULTS, f"{start}; {hint}.")

    def _relations_there(self, matches: Sequence[int], edges: Edges) -> Sequence[str]:
        return self._relations.names(_union(map(edges.relations, matches))[:LISTED])


def _union(results: Iterable[list[int]]) -> list[int]:
    return sorted(set().union(*results))


def _no_question_graph(query: Query, known: QuestionGraphs | None) -> Observation:
    example = f"; the first of {len(known):,} is {quoted(known.id(0))}" if known else ""
    return refusals.no_question_graph(query, example)


def _wrong_time(query: Query, during: TimeFilter | None, dated: bool) -> Observation:
    if not dated:
        return refusals.no_dates(query)
    if not query.operation.takes_relation:
        message = f"{query.operation} takes no time; give the time when you ask for entities."
    else:
        message = f"{quoted(query.time or '')} is no time; write one of {FILTER_FORMS}."
    return refusal(query, ErrorCode.FORMAT_ERROR, message)


def _times(spans: npt.NDArray[np.generic]) -> tuple[str, ...]:
    """Texts of (2, k) starts and ends, ascending; facts without dates have none."""
    starts, ends = spans.tolist()
    texts = [format_span(start, end) for start, end in zip(starts[:_TIMES], ends[:_TIMES], strict=True)]
    if len(starts) > _TIMES:
        texts[-1] = format_span(starts[-1], ends[-1])
    return tuple(filter(None, texts))
