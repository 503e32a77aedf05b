"""The four retrieval operations (SPEC section 2) over the arrays of a store.

The meaning of every operation depends on triples only. A name that stands for several entities is answered with the
union of their results; the observation's query then keeps the name as it was asked. With one entity it carries the
display name, so that evidence triples are made of names that exist.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from kgr1.graph.adjacency import Adjacency, Edges
from kgr1.graph.names import Closeness
from kgr1.graph.question_graphs import QuestionGraphs
from kgr1.graph.scope import QuestionScope, Scope
from kgr1.graph.temporal import FILTER_FORMS, TimeFilter, format_span, parse_filter
from kgr1.graph.vocabulary import Vocabulary
from kgr1.types import ErrorCode, Observation, Operation, Query

_QUOTED = 100  # characters of a query that an error repeats
_SUGGESTED = 3  # closest names in an error
_LISTED = 2000  # relations of one entity that are searched for the closest

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
            return _unknown_operation(query)
        if (query.relation is not None) is not takes_relation or not query.entity.strip():
            return _wrong_arguments(query)
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
            return self._no_entity(query, scope)
        outgoing = operation is _TAIL_ENTITIES or operation is _TAIL_RELATIONS
        edges = scope.outgoing if outgoing else scope.incoming
        if not takes_relation:
            found = edges.relations(matches[0]) if len(matches) == 1 else _union(map(edges.relations, matches))
            if not found:
                return self._no_relations(query, matches)
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
            return _past_the_end(query, total)
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
            return _past_the_end(query, len(found))
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

    # The errors. Each says in one sentence how to go on.

    def _no_entity(self, query: Query, scope: Scope) -> Observation:
        closest = _short(scope.closest_entities(query.entity, _SUGGESTED))
        hint = _closest(closest) if closest else "use a name from the question or an earlier result"
        return _error(query, ErrorCode.ENTITY_NOT_FOUND, f"No entity is named {_quoted(query.entity)}; {hint}.")

    def _no_relation(self, query: Query, matches: Sequence[int], edges: Edges, scope: Scope) -> Observation:
        assert query.relation is not None
        closest = self._closest_relations(query.relation, matches, edges)
        if len(closest) < _SUGGESTED:
            everywhere = _short(scope.closest_relations(query.relation, _SUGGESTED))
            closest += [name for name in everywhere if name not in closest][: _SUGGESTED - len(closest)]
        hint = _closest(closest) if closest else f"{_ask_relations(query)} lists the relations"
        return _error(query, ErrorCode.RELATION_NOT_FOUND, f"No relation is named {_quoted(query.relation)}; {hint}.")

    def _no_relations(self, query: Query, matches: Sequence[int]) -> Observation:
        outgoing = query.operation.outgoing
        role, other = ("subject", _HEAD_RELATIONS) if outgoing else ("object", _TAIL_RELATIONS)
        retry = Query(operation=other, entity=self._resolved(query, matches, ()).entity)
        message = f"{_quoted(retry.entity)} is never the {role} of a triple; try {_call(retry)}."
        return _error(query, ErrorCode.NO_RESULTS, message)

    def _no_results(
        self, query: Query, matches: Sequence[int], relations: Sequence[int], edges: Edges, scope: Scope
    ) -> Observation:
        assert query.relation is not None
        outgoing = edges is scope.outgoing
        resolved = self._resolved(query, matches, relations)
        role = "subject" if outgoing else "object"
        start = f"{_quoted(resolved.entity)} is not the {role} of {_quoted(resolved.relation or '')}"
        opposite = scope.incoming if outgoing else scope.outgoing
        if any(opposite.positions(e, r) for e in matches for r in relations):
            retry = Query(
                operation=_HEAD_ENTITIES if outgoing else _TAIL_ENTITIES,
                entity=resolved.entity,
                relation=resolved.relation,
            )
            return _error(query, ErrorCode.NO_RESULTS, f"{start}; try {_call(retry)}.")
        closest = self._closest_relations(query.relation, matches, edges)
        there = self._relations.names(_union(map(edges.relations, matches))[: 2 * _SUGGESTED])
        closest = [*closest, *(name for name in _short(there) if name not in closest)][:_SUGGESTED]
        if closest:
            hint = f"it has {_listed(closest)} there"
        else:
            other = Query(operation=_HEAD_RELATIONS if outgoing else _TAIL_RELATIONS, entity=resolved.entity)
            hint = f"try {_call(other)}"
        return _error(query, ErrorCode.NO_RESULTS, f"{start}; {hint}.")

    def _nothing_then(
        self, query: Query, matches: Sequence[int], relations: Sequence[int], facts: npt.NDArray[np.generic]
    ) -> Observation:
        resolved = self._resolved(query, matches, relations)
        start = (
            f"{_quoted(resolved.entity)} has no {_quoted(resolved.relation or '')} dated {_quoted(query.time or '')}"
        )
        dated = facts[1:, facts[1] <= facts[2]]
        if not dated.shape[1]:
            return _error(query, ErrorCode.NO_RESULTS, f"{start}; its facts have no dates, so ask without a time.")
        first, last = (format_span(*dated[:, place].tolist()) for place in (dated[0].argmin(), dated[1].argmax()))
        hint = f"its only fact is dated {first}" if dated.shape[1] == 1 else f"its dates go from {first} to {last}"
        return _error(query, ErrorCode.NO_RESULTS, f"{start}; {hint}.")

    def _closest_relations(self, relation: str, matches: Sequence[int], edges: Edges) -> list[str]:
        there = _union(map(edges.relations, matches))[:_LISTED]
        return _short(Closeness(relation).best(self._relations.names(there), _SUGGESTED))


def _union(results: Iterable[list[int]]) -> list[int]:
    return sorted(set().union(*results))


def _error(query: Query, code: ErrorCode, message: str) -> Observation:
    return Observation(query=query, error=code, message=message)


def _unknown_operation(query: Query) -> Observation:
    known = ", ".join(Operation)
    asked = _quoted(str(query.operation))
    return _error(query, ErrorCode.SERVER_ERROR, f"There is no operation {asked}; use one of {known}.")


def _wrong_arguments(query: Query) -> Observation:
    operation = query.operation
    if not query.entity.strip():
        message = f"{operation} needs the name of an entity as its first argument."
    elif operation.takes_relation:
        message = f"{operation} takes an entity and a relation; {_ask_relations(query)} lists the relations."
    else:
        message = f"{operation} takes an entity alone; leave out {_quoted(query.relation or '')}."
    return _error(query, ErrorCode.FORMAT_ERROR, message)


def _no_question_graph(query: Query, known: QuestionGraphs | None) -> Observation:
    start = f"There is no question graph {_quoted(query.graph_id or '')}"
    example = f"; the first of {len(known):,} is {_quoted(known.id(0))}" if known else ""
    return _error(query, ErrorCode.SAMPLE_NOT_FOUND, f"{start}{example}; without a graph id the whole graph answers.")


def _wrong_time(query: Query, during: TimeFilter | None, dated: bool) -> Observation:
    if not dated:
        message = "The facts of this graph have no dates; ask without a time."
    elif not query.operation.takes_relation:
        message = f"{query.operation} takes no time; give the time when you ask for entities."
    else:
        message = f"{_quoted(query.time or '')} is no time; write one of {FILTER_FORMS}."
    return _error(query, ErrorCode.FORMAT_ERROR, message)


def _past_the_end(query: Query, total: int) -> Observation:
    count = "is only 1 result" if total == 1 else f"are only {total:,} results"
    return _error(query, ErrorCode.NO_RESULTS, f"There {count}; ask for an earlier page.")


def _times(spans: npt.NDArray[np.generic]) -> tuple[str, ...]:
    """Texts of (2, k) starts and ends, ascending; facts without dates have none."""
    starts, ends = spans.tolist()
    texts = [format_span(start, end) for start, end in zip(starts[:_TIMES], ends[:_TIMES], strict=True)]
    if len(starts) > _TIMES:
        texts[-1] = format_span(starts[-1], ends[-1])
    return tuple(filter(None, texts))


def _ask_relations(query: Query) -> str:
    operation = _TAIL_RELATIONS if query.operation.outgoing else _HEAD_RELATIONS
    return _call(Query(operation=operation, entity=query.entity))


def _call(query: Query) -> str:
    text = query.to_text()
    return text if len(text) <= 3 * _QUOTED else f"{query.operation.value} with the same name"


def _quoted(text: str) -> str:
    return json.dumps(text if len(text) <= _QUOTED else f"{text[:_QUOTED]}...", ensure_ascii=False)


def _closest(names: Sequence[str]) -> str:
    """The end of a not-found sentence; names too long to be copied are of no help there."""
    verb = "closest is" if len(names) == 1 else "closest are"
    return f"the {verb} {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(json.dumps(name, ensure_ascii=False) for name in names)


def _short(names: Iterable[str]) -> list[str]:
    return [name for name in names if len(name) <= 3 * _QUOTED]
