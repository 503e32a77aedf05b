"""All that was found, as one thing that a query or an answer can name (``agent.sets``).

The four operations of the paper take one entity. Where a hop ends at twenty films, the next one costs twenty queries,
and the turns are used up. With ``agent.sets`` the name :data:`FOUND` (``*``) stands for all results that were found and
shown: a query about it is asked of each of them and answered with what they give together, and an answer that lists it
gives all of them. The operations stay what they are, and every member is asked with a query of its own, so completeness
and transfer hold as before.

What was found is read off the turns, and changes with every result that is shown:

- after a query with results these are its results, all pages that were read of it, without the topics that results were
  asked of (who asks for "other films of the director of Alien" does not mean Alien), unless nothing else is left;
- after queries from several topics, what all of them have in common, if there is any.

A departure from the paper, and off by default.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from kgr1.graph.render import neutralise
from kgr1.graph.temporal import UNDATED, Span, parse_span
from kgr1.types import FOUND, ErrorCode, Observation, Operation, Query, Turn, first_page

MAX_MEMBERS = 100
"""Members that a query is asked of; the rest of a larger set is left out."""


class Found(NamedTuple):
    """The members of the set, by display name and identifier, and whether they are what several topics share."""

    names: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    common: bool = False


def find(topics: Sequence[str], turns: Iterable[Turn]) -> Found:
    """What ``*`` stands for after ``turns``."""
    known = {neutralise(topic) for topic in topics}
    asked: set[str] = set()
    branches: dict[str, dict[str, str]] = {}
    root = ""
    last: Query | None = None
    linked = False
    for turn in turns:
        query, found = turn.query, turn.observation
        if query is None or found is None or not changes(turn):
            continue
        if last is not None and query.continues(last):
            branches[root] |= _shown(turn)
        else:
            about = {neutralise(query.entity), (entity := neutralise(found.query.entity))}
            if known & about and not (FOUND in about and branches):
                root = entity
                asked |= about
            elif query.entity == FOUND and _common(branches):
                branches = {}  # the way goes on from what they share
            branches.pop(root, None)
            branches[root] = _shown(turn)  # the last one is the one at hand
        last, linked = query, bool(turn.linked)
    common = _common(branches)
    members = common or (branches[root] if branches else {})
    others = {name: key for name, key in members.items() if neutralise(name) not in asked}
    chosen = others or members
    return Found(tuple(chosen), tuple(chosen.values()), bool(common) or linked)


def told(turns: Sequence[Turn]) -> set[str]:
    """The relations by which what is found after ``turns`` was singled out; to follow them from there tells nothing."""
    last = last_found(turns)
    return set() if last is None else {neutralise(fact.query.relation or "") for fact in last.linked}


def done(topics: Collection[str], turns: Iterable[Turn]) -> set[str]:
    """Those of ``topics`` that something was asked about, or said of beside something else."""
    names: set[str] = set()
    for turn in turns:
        if turn.query is not None and turn.query.operation.returns_entities and turn.shown_entities:
            names |= {neutralise(about) for about in (turn.query.entity, *(fact.query.entity for fact in turn.linked))}
    return {topic for topic in topics if neutralise(topic) in names}


def asked_about(turns: Iterable[Turn]) -> set[str]:
    """The neutralised names of what was asked about."""
    return {neutralise(turn.query.entity) for turn in turns if turn.query is not None}


def shown_in(turns: Iterable[Turn]) -> set[str]:
    """The neutralised names of what was found and shown."""
    return {neutralise(name) for turn in turns for name in turn.shown_entities}


def find_for(query: Query, topics: Sequence[str], turns: Sequence[Turn]) -> Found:
    """What ``*`` stands for in a query after ``turns``: of another page of a result, what it stood for there."""
    return find(topics, turns[: first_page(query, turns)])


def changes(turn: Turn) -> bool:
    """True if a turn showed entities, so that ``*`` stands for something else after it."""
    return bool(turn.shown_entities)


def last_found(turns: Sequence[Turn]) -> Turn | None:
    """The last turn that showed entities; None before there is one."""
    return next((turn for turn in reversed(turns) if changes(turn)), None)


def _shown(turn: Turn) -> dict[str, str]:
    """Name and identifier of each result that was shown, or of those that are linked with another topic."""
    if turn.observation is None:
        return {}
    pairs = list(zip(turn.observation.names, turn.observation.ids, strict=True))
    if turn.linked:
        linked = {name for fact in turn.linked for name in fact.names}
        return {name: key for name, key in pairs if name in linked}
    beside = {name for part in turn.parts for name in part.names}
    return {name: key for place, (name, key) in enumerate(pairs) if place < turn.shown or name in beside}


def _common(branches: dict[str, dict[str, str]]) -> dict[str, str]:
    """What the results of several branches share; empty for one branch."""
    if len(branches) < 2:
        return {}
    first, *others = branches.values()
    return {name: key for name, key in first.items() if all(name in other for other in others)}


def members_of(query: Query, found: Found) -> list[Query]:
    """The query about ``*`` as one about each member."""
    whole = {"offset": 0, "limit": None}
    return [query.model_copy(update={"entity": name, **whole}) for name in found.names[:MAX_MEMBERS]]


def together(query: Query, parts: Sequence[Observation]) -> Observation:
    """What the answers of all members give together, sorted by name; the page of it that ``query`` asks for.

    Where no member has results, the error is that of the members if they agree. ``parts`` is not empty.
    """
    ids: dict[str, str] = {}
    times: dict[str, set[str]] = {}
    full = [part for part in parts if part.ok]
    for part in full:
        ids.update(zip(part.names, part.ids, strict=True))
        for name, dates in zip(part.names, part.times, strict=False):
            times.setdefault(name, set()).update(dates)
    if not full:
        return _nothing(query, parts)
    ordered = sorted(ids)
    names = ordered[query.offset :][: query.limit]
    if not names:
        return past_the_end(query, len(ordered))
    return Observation(
        query=query.model_copy(update={"relation": full[0].query.relation}),
        names=tuple(names),
        ids=tuple(ids[name] for name in names),
        times=tuple(tuple(sorted(times.get(name, ()), key=_span)) for name in names) if times else (),
        total=max(len(ordered), *(part.total for part in full)),  # a server may have cut the answer of a member
    )


def _span(date: str) -> Span:
    return parse_span(date) or UNDATED


def past_the_end(query: Query, total: int) -> Observation:
    """The answer to a query for a page behind the last one."""
    last = -(-total // (query.limit or total))
    message = f"There are only {total} results; the last page is page={last}."
    return Observation(query=query, error=ErrorCode.NO_RESULTS, message=message)


def _nothing(query: Query, parts: Sequence[Observation]) -> Observation:
    codes = {part.error for part in parts if part.error is not None}
    code = codes.pop() if len(codes) == 1 else ErrorCode.NO_RESULTS
    if len(parts) == 1 or code is not ErrorCode.NO_RESULTS:  # what is wrong then is the same for all members
        return parts[0].model_copy(update={"query": query})
    return Observation(query=query, error=code, message=f"None of the {len(parts)} entities found has results here.")


def not_yet(query: Query) -> Observation:
    """The answer to a query about ``*`` while that stands for nothing."""
    message = f'Nothing was found yet that "{FOUND}" could stand for; ask about a topic first.'
    return Observation(query=query, error=ErrorCode.ENTITY_NOT_FOUND, message=message)


def other_way(query: Query) -> Query:
    """The listing of the opposite direction."""
    other = Operation.GET_HEAD_RELATIONS if query.operation.outgoing else Operation.GET_TAIL_RELATIONS
    return query.model_copy(update={"operation": other})
