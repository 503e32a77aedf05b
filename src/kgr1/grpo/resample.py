"""Another question in place of one whose episodes all got the same return (dynamic sampling).

Such a group has no gradient: its question is too easy or too hard for the policy. Replacing it costs rollouts and saves
the update on it, so every update sees as many groups that teach something as it can.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from kgr1.types import Episode

_STRIDE = 7_919  # keeps the draws of neighbouring steps and attempts apart


def resample(
    ids: Sequence[str],
    group_size: int,
    pool: Sequence[str],
    sample: Callable[[Sequence[str], int], list[Episode]],
    dull: Callable[[Sequence[Episode]], bool],
    *,
    attempts: int,
    seed: int,
) -> tuple[list[Episode], int]:
    """Episodes of the questions ``ids`` (B of them, each question ``group_size`` times in a row), and the replacements.

    ``sample(ids, attempt)`` plays one episode an entry. In each of ``attempts`` rounds the groups that are ``dull`` get
    another question of ``pool``, one that is not in the batch. A replacement that is dull as well is replaced in the
    next round, and stays after the last one. The same arguments draw the same replacements.
    """
    chosen = list(ids)
    episodes = sample(chosen, 0)
    replaced = 0
    for attempt in range(1, attempts + 1):
        groups = [g for g in range(0, len(chosen), group_size) if dull(episodes[g : g + group_size])]
        others = sorted(set(pool) - set(chosen))
        drawn = random.Random(seed * _STRIDE + attempt).sample(others, min(len(groups), len(others)))
        if not drawn:
            break
        fresh = sample([name for name in drawn for _ in range(group_size)], attempt)
        for number, (start, name) in enumerate(zip(groups, drawn, strict=False)):
            chosen[start : start + group_size] = [name] * group_size
            episodes[start : start + group_size] = fresh[number * group_size : (number + 1) * group_size]
        replaced += len(drawn)
    return episodes, replaced
