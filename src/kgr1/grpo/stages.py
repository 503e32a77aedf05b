"""Staged hops: training begins with questions of few hops and moves on to more.

A stage is the highest number of hops that it takes. After the last one that is named comes one of everything, so
questions whose number of hops nobody knows have their turn, too.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from kgr1.datasets.paths import hops_of
from kgr1.errors import SettingsError
from kgr1.types import Question


def count_hops(question: Question) -> int | None:
    """The relations that the way to the answers takes; None if neither the question nor its path says."""
    return question.hops or len(hops_of(question.gold_path)) or None


def pools(hops: Sequence[int | None], stages: Sequence[int], least: int, what: str) -> list[list[int]]:
    """For each stage, and after them for everything, the places of what belongs to it, ascending.

    Raises :class:`SettingsError`, which speaks of ``what``, if a stage has fewer than ``least`` of them.
    """
    found = [[place for place, number in enumerate(hops) if number is not None and number <= most] for most in stages]
    for most, pool in zip(stages, found, strict=True):
        if len(pool) < least:
            raise SettingsError(
                f"The stage of at most {most} hop{'s' * (most > 1)} has {len(pool)} {what} and needs at least {least}; "
                "add some, or leave the stage out.",
                hops=most,
                found=len(pool),
            )
    return [*found, list(range(len(hops)))]


class Schedule:
    """Which questions a round of rollouts asks: a function of the seed and the number of the round alone.

    Each stage but the last lasts ``rounds`` rounds. Inside a stage its questions come in passes, each in an order of
    its own, and what is left over at the end of a pass waits for another one.
    """

    def __init__(self, stages: Sequence[Sequence[int]], rounds: int, size: int, seed: int) -> None:
        self._stages, self._rounds, self._size, self._seed = stages, rounds, size, seed

    def stage(self, number: int) -> int:
        """The stage of a round; both count from 0."""
        return min(number // self._rounds, len(self._stages) - 1)

    def pool(self, number: int) -> Sequence[int]:
        """The places of all questions of the stage of a round."""
        return self._stages[self.stage(number)]

    def batch(self, number: int) -> list[int]:
        """The places of the questions of a round."""
        stage, pool = self.stage(number), self.pool(number)
        turn, place = divmod(number - stage * self._rounds, len(pool) // self._size)
        order = random.Random(f"{self._seed}:{stage}:{turn}").sample(pool, len(pool))
        return order[place * self._size :][: self._size]


def staged(stages: Sequence[Sequence[int]], seed: int, turn: int) -> list[int]:
    """The pass of number ``turn`` over everything: one stage after the other, each of them shuffled."""
    rng = random.Random(f"{seed}:{turn}")
    order: dict[int, None] = {}
    for pool in stages:
        order.update(dict.fromkeys(rng.sample(pool, len(pool))))
    return list(order)
