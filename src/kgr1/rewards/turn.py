"""The turn reward r_t = w_fmt v_fmt + w_kg v_kg + w_ans v_ans, each v in {0, 1} (SPEC section 4).

Departure from the paper: a query that was asked before in the episode earns no v_kg, so that repeating a query that
works is not a way to collect reward.
"""

from __future__ import annotations

from collections.abc import Sequence

from kgr1.config import RewardSettings
from kgr1.types import FOUND, Episode, Query, Record, Turn, first_page


class TurnReward(Record):
    """The three checks of one turn and their weighted sum."""

    fmt: int
    kg: int
    ans: int
    total: float


def v_fmt(turn: Turn) -> int:
    """1 if the turn is exactly one think block followed by exactly one action (SPEC section 4).

    >>> v_fmt(Turn(text="I guess Paris")), v_fmt(Turn(text="...", well_formed=True))
    (0, 0)
    >>> from kgr1.types import Answer
    >>> v_fmt(Turn(text="<think>...</think><answer>...</answer>", well_formed=True, answer=Answer(names=("Paris",))))
    1
    """
    one_action = (turn.query is None) != (turn.answer is None)
    return int(turn.well_formed and one_action)


def v_kg(turn: Turn, earlier: Sequence[Turn] = ()) -> int:
    """1 if the query ran, was valid, returned something and was not asked before (SPEC section 4).

    A query counts as asked before if it equals an earlier one as written or as the graph resolved it, whatever that
    one returned. Another page or another time filter makes another query. The graph of the query is not compared: an
    episode has one.

    >>> from kgr1.types import Observation, Operation
    >>> query = Query(operation=Operation.GET_TAIL_RELATIONS, entity="Paris")
    >>> turn = Turn(text="...", query=query, observation=Observation(query=query, names=("country",), total=1))
    >>> v_kg(turn), v_kg(turn, [turn])
    (1, 0)
    """
    if turn.query is None or turn.observation is None or not turn.observation.ok:
        return 0
    return int(not asked_before(turn, earlier))


def asked_before(turn: Turn, earlier: Sequence[Turn]) -> bool:
    """Whether the query of a turn equals an earlier one, as written or as the graph resolved it; see :func:`v_kg`.

    What ``*`` stands for changes with every result, so a query about it is compared with those behind the last result;
    of another page of that result, with those of its pages.
    """
    if turn.query is not None and turn.query.entity == FOUND:
        earlier = earlier[_settled(turn.query, earlier) :]
    asked = set().union(*(_keys(other) for other in earlier))
    return not asked.isdisjoint(_keys(turn))


def _settled(query: Query, earlier: Sequence[Turn]) -> int:
    """The place from which on ``*`` stands for what it does in ``query``."""
    results = [place for place, other in enumerate(earlier) if other.shown_entities]
    page = first_page(query, earlier)
    return page if page is not None else results[-1] + 1 if results else 0


def _keys(turn: Turn) -> set[tuple[str, str, str | None, str | None, int]]:
    """The query of a turn as asked and as resolved, and of relations the other direction, if it was shown, too."""
    queries: list[Query] = [] if turn.query is None else [turn.query]
    if turn.observation is not None:
        queries.append(turn.observation.query)
    queries += [beside.query for beside in turn.expanded if not beside.query.operation.returns_entities]
    return {(query.operation.value, query.entity, query.relation, query.time, query.offset) for query in queries}


def v_ans(turn: Turn, *, final: bool) -> int:
    """1 if the turn is the final one and a well-formed answer action (SPEC section 4).

    The think block is no part of this check; :func:`v_fmt` looks at it.

    >>> from kgr1.types import Answer
    >>> turn = Turn(text="<answer>...</answer>", answer=Answer(names=("Paris",)))
    >>> v_ans(turn, final=True), v_ans(turn, final=False)
    (1, 0)
    """
    return int(final and turn.answer is not None and turn.query is None)


def turn_rewards(episode: Episode, settings: RewardSettings) -> tuple[TurnReward, ...]:
    """The turn reward of every turn, in order (SPEC section 4)."""
    turns = episode.turns
    rewards = []
    for number, turn in enumerate(turns):
        fmt, kg, ans = v_fmt(turn), v_kg(turn, turns[:number]), v_ans(turn, final=number == len(turns) - 1)
        total = settings.w_fmt * fmt + settings.w_kg * kg + settings.w_ans * ans
        rewards.append(TurnReward(fmt=fmt, kg=kg, ans=ans, total=total))
    return tuple(rewards)
