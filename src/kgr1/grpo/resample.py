"""Another question in place of one whose episodes all got the same return (dynamic sampling).

Such a group has no gradient: its question is too easy or too hard for the policy. Replacing it costs rollouts and saves
the update on it, so every update sees as many groups that teach something as it can.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from kgr1.types import Episode


def _alone(own: list[Any]) -> list[Any]:
    """What all processes have together where there is one."""
    return own


def resample(
    ids: Sequence[str],
    group_size: int,
    pool: Sequence[str],
    sample: Callable[[Sequence[str], int], list[Episode]],
    dull: Callable[[Sequence[Episode]], bool],
    *,
    attempts: int,
    seed: int,
    process: int = 0,
    gather: Callable[[list[Any]], list[Any]] = _alone,
) -> tuple[list[Episode], int]:
    """Episodes of the questions ``ids`` (B of them, each question ``group_size`` times in a row), and the replacements.

    ``sample(ids, attempt)`` plays one episode an entry. In each of ``attempts`` rounds the groups that are ``dull`` get
    another question of ``pool``: one that is not in the batch and that was not drawn before. A replacement that is dull
    as well is replaced in the next round, and stays after the last one. The same arguments draw the same replacements.

    Several processes, of which this one has the number ``process``, call this together, each with its part of the
    batch; ``gather`` puts their lists together in the order of their numbers. They draw what one process with the whole
    batch would draw, so no two of them get the same question. The number of replacements is that of all of them.
    """
    episodes = sample(list(ids), 0)
    if not attempts:
        return episodes, 0
    # One order for all processes and rounds: what was taken from it once is not drawn again.
    order = sorted(set(pool) - set(gather(list(ids))))
    random.Random(seed).shuffle(order)
    taken = 0
    for attempt in range(1, attempts + 1):
        groups = [g for g in range(0, len(ids), group_size) if dull(episodes[g : g + group_size])]
        counts = gather([len(groups)])
        first = taken + sum(counts[:process])
        drawn = order[first : first + len(groups)]
        if drawn:
            fresh = sample([name for name in drawn for _ in range(group_size)], attempt)
            for number, start in enumerate(groups[: len(drawn)]):
                episodes[start : start + group_size] = fresh[number * group_size : (number + 1) * group_size]
        before, taken = taken, min(taken + sum(counts), len(order))
        if taken == before:  # the same in every process, so none of them waits for another
            break
    return episodes, taken
