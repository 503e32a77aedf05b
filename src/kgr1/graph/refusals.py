"""Answers to queries without a result: an error code and one sentence that says how to go on.

They are made of names alone, so that a store and an endpoint (:mod:`kgr1.graph.sparql`) say the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence

from kgr1.graph.names import Closeness
from kgr1.types import STEP, ErrorCode, Observation, Operation, Query

SUGGESTED = 3
"""Closest names in an error."""
LISTED = 2000
"""Relations of one entity that are searched for the closest."""

_QUOTED = 100  # characters of a query that an error repeats
_RELATIONS = {True: Operation.GET_TAIL_RELATIONS, False: Operation.GET_HEAD_RELATIONS}
_ROLES = {True: "subject", False: "object"}


def refusal(query: Query, code: ErrorCode, message: str) -> Observation:
    """The answer with an error."""
    return Observation(query=query, error=code, message=message)


def unknown_operation(query: Query) -> Observation:
    """The operation is none of the four."""
    known = ", ".join(Operation)
    asked = quoted(str(query.operation))
    return refusal(query, ErrorCode.SERVER_ERROR, f"There is no operation {asked}; use one of {known}.")


def wrong_arguments(query: Query) -> Observation:
    """An argument is missing or surplus."""
    operation = query.operation
    if not query.entity.strip():
        message = f"{operation} needs the name of an entity as its first argument."
    elif operation.takes_relation:
        message = f"{operation} takes an entity and a relation; {_ask_relations(query)} lists the relations."
    else:
        message = f"{operation} takes an entity alone; leave out {quoted(query.relation or '')}."
    return refusal(query, ErrorCode.FORMAT_ERROR, message)


def no_dates(query: Query) -> Observation:
    """The query has a time, and the graph has none."""
    return refusal(query, ErrorCode.FORMAT_ERROR, "The facts of this graph have no dates; ask without a time.")


def no_question_graph(query: Query, example: str = "") -> Observation:
    """There is no graph of this id; ``example`` may go on with one that there is."""
    start = f"There is no question graph {quoted(query.graph_id or '')}{example}"
    return refusal(query, ErrorCode.SAMPLE_NOT_FOUND, f"{start}; without a graph id the whole graph answers.")


def past_the_end(query: Query, total: int) -> Observation:
    """The page begins behind the last of ``total`` results."""
    count = "is only 1 result" if total == 1 else f"are only {total:,} results"
    return refusal(query, ErrorCode.NO_RESULTS, f"There {count}; ask for an earlier page.")


def no_entity(query: Query, closest: Iterable[str]) -> Observation:
    """Nothing bears the name of the entity; ``closest`` are names like it."""
    near = _short(closest)
    hint = _closest(near) if near else "use a name from the question or an earlier result"
    return refusal(query, ErrorCode.ENTITY_NOT_FOUND, f"No entity is named {quoted(query.entity)}; {hint}.")


def no_relation(query: Query, there: Sequence[str], everywhere: Callable[[str, int], Iterable[str]]) -> Observation:
    """Nothing bears the name of the relation.

    ``there`` are the relations of the entity, ``everywhere`` gives names of all relations that are most like a text.
    """
    relation = query.relation or ""
    closest = _closest_of(relation, there)
    if len(closest) < SUGGESTED:
        others = _short(everywhere(relation, SUGGESTED))
        closest += [name for name in others if name not in closest][: SUGGESTED - len(closest)]
    hint = _closest(closest) if closest else f"{_ask_relations(query)} lists the relations"
    return refusal(query, ErrorCode.RELATION_NOT_FOUND, f"No relation is named {quoted(relation)}; {hint}.")


def no_relations(query: Query, resolved: Query) -> Observation:
    """The entity is at the other end of all its triples; ``resolved`` has its display name."""
    outgoing = query.operation.outgoing
    retry = Query(operation=_RELATIONS[not outgoing], entity=resolved.entity)
    message = f"{quoted(retry.entity)} is never the {_ROLES[outgoing]} of a triple; try {_call(retry)}."
    return refusal(query, ErrorCode.NO_RESULTS, message)


def other_direction(query: Query, resolved: Query) -> Observation:
    """The relation joins the entity to something in the other direction only."""
    operation = STEP[not query.operation.outgoing]
    retry = Query(operation=operation, entity=resolved.entity, relation=resolved.relation)
    return refusal(query, ErrorCode.NO_RESULTS, f"{_is_not(resolved)}; try {_call(retry)}.")


def no_results(query: Query, resolved: Query, there: Sequence[str]) -> Observation:
    """The relation does not join the entity to anything; ``there`` are the relations that it has there."""
    closest = _closest_of(query.relation or "", there)
    closest = [*closest, *(name for name in _short(there[: 2 * SUGGESTED]) if name not in closest)][:SUGGESTED]
    if closest:
        hint = f"it has {_listed(closest)} there"
    else:
        other = Query(operation=_RELATIONS[not query.operation.outgoing], entity=resolved.entity)
        hint = f"try {_call(other)}"
    return refusal(query, ErrorCode.NO_RESULTS, f"{_is_not(resolved)}; {hint}.")


def quoted(text: str) -> str:
    """A part of a query as an error repeats it."""
    return json.dumps(text if len(text) <= _QUOTED else f"{text[:_QUOTED]}...", ensure_ascii=False)


def _is_not(resolved: Query) -> str:
    role = _ROLES[resolved.operation.outgoing]
    return f"{quoted(resolved.entity)} is not the {role} of {quoted(resolved.relation or '')}"


def _ask_relations(query: Query) -> str:
    return _call(Query(operation=_RELATIONS[query.operation.outgoing], entity=query.entity))


def _call(query: Query) -> str:
    text = query.to_text()
    return text if len(text) <= 3 * _QUOTED else f"{query.operation.value} with the same name"


def _closest_of(relation: str, names: Sequence[str]) -> list[str]:
    return _short(Closeness(relation).best(names[:LISTED], SUGGESTED))


def _closest(names: Sequence[str]) -> str:
    verb = "closest is" if len(names) == 1 else "closest are"
    return f"the {verb} {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(json.dumps(name, ensure_ascii=False) for name in names)


def _short(names: Iterable[str]) -> list[str]:
    """Names too long to be copied are of no help in a sentence."""
    return [name for name in names if len(name) <= 3 * _QUOTED]
