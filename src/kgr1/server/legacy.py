"""The wire format of the released KG-R1 server, so that its clients work with any graph here.

``POST /retrieve`` takes a list of objects with ``action_type``, ``dataset_name``, ``sample_id``, ``entity_id`` and
``relation`` and answers with a list of objects shaped like chat completions, whose text a client shows to its model.
The names of the fields and codes are those of the released server; what differs on purpose: results are sorted, names
are neutralised, relations stand on one line, long results are cut with a count, and one bad object does not fail the
whole list. A single object outside of a list is answered with a single one, as the released temporal server does.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from kgr1.graph.render import neutralise, show_name
from kgr1.server.desk import Answer, Desk, Reply, outcomes
from kgr1.server.problems import RequestError
from kgr1.server.wire import Refusal
from kgr1.types import ErrorCode, Operation, Query

BATCHES = 64
"""A list may hold so many batches: clients of the released server send one for all episodes of a training step."""

SHOWN = 1000
"""Names in one text; what is left out is counted."""

BOTH_RELATIONS = "get_relations"
SOME_RELATIONS = "get_conditional_relations"
ACTIONS = (*(operation.value for operation in Operation), BOTH_RELATIONS, SOME_RELATIONS)

_LEAD = {
    Operation.GET_HEAD_RELATIONS.value: 'Head relations for entity "{entity}":\n',
    Operation.GET_TAIL_RELATIONS.value: 'Tail relations for entity "{entity}":\n',
    Operation.GET_HEAD_ENTITIES.value: 'Head entities for relation "{relation}" with tail "{entity}": ',
    Operation.GET_TAIL_ENTITIES.value: 'Tail entities for relation "{relation}" with head "{entity}": ',
    BOTH_RELATIONS: 'Relations for entity "{entity}":\n',
    SOME_RELATIONS: 'Relations for entity "{entity}" with concept "{concept}": ',
}
_TEXTS = ("dataset_name", "sample_id", "entity_id", "relation", "concept", "timestamp")


class _Job(NamedTuple):
    """One object of a request: its action, its graph and the queries that answer it."""

    action: str
    graph: str | None
    queries: tuple[Query | Refusal, ...]
    concept: str = ""


def retrieve(desk: Desk, body: bytes) -> Answer:
    """One body of ``POST /retrieve`` to one reply.

    Raises :class:`RequestError` for a body that is neither a list nor an object, and if a graph does not answer.
    """
    started = time.perf_counter()
    try:
        value = from_json(body)
    except ValueError as error:
        raise RequestError(400, "NOT_JSON", "The request body is not valid JSON (UTF-8); send a list.") from error
    if not isinstance(value, list | dict):
        raise RequestError(422, "BAD_REQUEST", "The request is not a list of objects with 'action_type'.")
    most = BATCHES * desk.limits.max_batch
    if isinstance(value, list) and len(value) > most:
        raise RequestError(413, "BATCH_TOO_LARGE", f"The list has {len(value)} objects, more than {most}; split it.")
    jobs = [_read(desk, item) for item in (value if isinstance(value, list) else [value])]
    replies = _ask(desk, jobs)
    seconds = time.perf_counter() - started
    counted: Counter[tuple[str, str]] = Counter()
    found = []
    for job, replied in zip(jobs, replies, strict=True):
        counted += outcomes(replied)
        found.append(_completion(job, replied, seconds))
    graphs = {job.graph for job in jobs if job.graph}
    return Answer(
        to_json(found if isinstance(value, list) else found[0]), graphs.pop() if len(graphs) == 1 else "", counted
    )


def actions(desk: Desk) -> dict[str, Any]:
    """The reply of ``GET /actions``."""
    return {"actions": list(ACTIONS), "supported_actions": list(ACTIONS), "supported_kgs": list(desk.graphs)}


def _read(desk: Desk, item: object) -> _Job:
    if not isinstance(item, Mapping):
        return _refused("server_error", ErrorCode.FORMAT_ERROR, "A request is an object with 'action_type'.")
    action = item.get("action_type")
    if action not in ACTIONS:
        known = ", ".join(ACTIONS)
        return _refused("server_error", ErrorCode.SERVER_ERROR, f"There is no such action; use one of {known}.")
    # Numbers are taken as text: sample ids are numbers in some question files.
    texts = {key: str(item[key]) if isinstance(item.get(key), int) else item.get(key) for key in _TEXTS}
    wrong = [key for key, text in texts.items() if not isinstance(text, str | None)]
    if wrong:
        return _refused(action, ErrorCode.FORMAT_ERROR, f"The field '{wrong[0]}' is a text.")
    graph = _graph(desk, texts["dataset_name"])
    needed = ["entity_id"]
    needed += ["relation"] if action in (Operation.GET_HEAD_ENTITIES, Operation.GET_TAIL_ENTITIES) else []
    needed += ["concept"] if action == SOME_RELATIONS else []
    missing = [key for key in needed if not texts[key]]
    if missing:
        return _refused(action, ErrorCode.FORMAT_ERROR, f"{action} needs {' and '.join(missing)}.")
    return _Job(action, graph, tuple(_queries(desk, action, graph, texts)), texts["concept"] or "")


def _queries(desk: Desk, action: str, graph: str | None, texts: Mapping[str, str | None]) -> list[Query]:
    operations = {
        BOTH_RELATIONS: (Operation.GET_TAIL_RELATIONS, Operation.GET_HEAD_RELATIONS),
        SOME_RELATIONS: (Operation.GET_TAIL_RELATIONS,),
    }.get(action) or (Operation(action),)
    info = desk.info(graph) if graph is not None else None
    return [
        Query.model_construct(
            operation=operation,
            entity=texts["entity_id"] or "",
            relation=texts["relation"] or None,
            time=(texts["timestamp"] or None) if operation.takes_relation else None,
            graph_id=texts["sample_id"] if info is not None and info.question_graphs else None,
            offset=0,
            limit=None,
        )
        for operation in operations
    ]


def _graph(desk: Desk, name: str | None) -> str | None:
    """The graph of a data set: of that name, in whatever case, or the only one there is."""
    wanted = (name or "").casefold()
    same = [known for known in desk.graphs if known.casefold() == wanted]
    if name in desk.graphs:
        return name
    return same[0] if len(same) == 1 else desk.resolve(None)


def _refused(action: str, error: ErrorCode, message: str) -> _Job:
    return _Job(action, None, (Refusal(error=error, message=message),))


def _ask(desk: Desk, jobs: list[_Job]) -> list[list[Reply]]:
    """The replies to each job; the graphs are asked in batches of the usual size."""
    found: list[list[Reply]] = [[] for _ in jobs]
    for graph in dict.fromkeys(job.graph for job in jobs):
        asked = [(n, query) for n, job in enumerate(jobs) if job.graph == graph for query in job.queries]
        most = desk.limits.max_batch
        for start in range(0, len(asked), most):
            part = asked[start : start + most]
            for (n, _), reply in zip(part, desk.ask(graph, [query for _, query in part]), strict=True):
                found[n].append(reply)
    return found


def _completion(job: _Job, replies: list[Reply], seconds: float) -> dict[str, Any]:
    names, total = _names(job, replies)
    errors = [reply for reply in replies if reply.error is not None]
    if names:
        code, text = "KG_SUCCESS", _lead(job, replies) + ", ".join(names)
        if total > len(names):
            text += f" ... and {total - len(names)} more"
    elif errors:
        # Of the two directions of an entity the one that found it says more.
        told = max(errors, key=lambda reply: reply.error == ErrorCode.NO_RESULTS)
        code, text = str(told.error), neutralise(told.message)
    else:
        code, text = ErrorCode.NO_RESULTS.value, "No relation of this entity has this concept; leave the concept out."
    good = code == "KG_SUCCESS"
    now = time.time()
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex[:24]}",
        "object": "kg_retrieval",
        "created": int(now),
        "model": "kg-retrieval",
        "success": good,
        "action": job.action,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "logprobs": None,
                "finish_reason": "stop" if good else "error",
            }
        ],
        "usage": {},
        "system_fingerprint": "",
        "kg_metadata": {"action_type": job.action, "success": good, "error_type": code, "timestamp": now},
        "query_time": seconds,
    }


def _names(job: _Job, replies: list[Reply]) -> tuple[list[str], int]:
    """What is shown of the results, and how many there are."""
    good = [reply for reply in replies if reply.error is None]
    if len(good) == 1 and job.action != SOME_RELATIONS:
        names, total = good[0].names, max(good[0].total, len(good[0].names))
        shown = [_dated(name, good[0].times[n : n + 1]) for n, name in enumerate(names[:SHOWN])]
        return shown, total
    union = sorted({name for reply in good for name in reply.names})
    if job.action == SOME_RELATIONS:
        concept = job.concept.strip().casefold()
        union = [name for name in union if "." in name and name.split(".")[0].casefold() == concept]
    return [show_name(name) for name in union[:SHOWN]], len(union)


def _dated(name: str, times: tuple[tuple[str, ...], ...]) -> str:
    shown = show_name(name)
    return f"{shown} [{';'.join(times[0])}]" if times and times[0] else shown


def _lead(job: _Job, replies: list[Reply]) -> str:
    query = next(reply.query for reply in replies if reply.error is None)
    assert query is not None
    parts = {"entity": query.entity, "relation": query.relation or "", "concept": job.concept}
    return _LEAD[job.action].format(**{key: neutralise(text) for key, text in parts.items()})
