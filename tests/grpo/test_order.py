"""The order of the training questions."""

from __future__ import annotations

import pytest

pytest.importorskip("trl")

from trl.trainer.utils import RepeatSampler

from kgr1.grpo.order import PassSampler


def draw(number: int, *, seed: int = 0, count: int = 20) -> list[int]:
    """One pass: questions in fours, three episodes each, every batch twice."""
    trl = RepeatSampler(list(range(count)), mini_repeat_count=3, batch_size=4, repeat_count=2, seed=seed)
    sampler = PassSampler(trl, lambda: number)
    drawn = list(sampler)
    assert len(drawn) == len(sampler)
    return drawn


def test_a_pass_shows_every_question_once() -> None:
    drawn = draw(3)
    for start in range(0, len(drawn), 24):
        batch = drawn[start : start + 24]
        assert batch[:12] == batch[12:]
        assert all(batch[i] == batch[i - i % 3] for i in range(12))
    shown = [drawn[start + 3 * i] for start in range(0, len(drawn), 24) for i in range(4)]
    assert sorted(shown) == list(range(20))


def test_passes_and_seeds_differ_and_nothing_else_matters() -> None:
    passes = [tuple(draw(number, seed=seed)) for number in range(4) for seed in range(4)]
    assert len(set(passes)) == 16
    assert tuple(draw(0)) == passes[0]
    trl = RepeatSampler(list(range(20)), mini_repeat_count=3, batch_size=4, repeat_count=2, seed=0)
    assert list(trl) == draw(0)
    number = 0
    sampler = PassSampler(trl, lambda: number)
    first = list(sampler)
    number = 1
    assert list(sampler) == draw(1)
    number = 0
    assert list(sampler) == first
