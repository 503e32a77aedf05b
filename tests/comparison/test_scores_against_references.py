"""Scores and intervals against independent implementations on random cases.

The matching is compared with two libraries in ``tests/rewards/test_answer.py``; here it is compared with trying every
assignment.
"""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import f1_score

from kgr1.evaluation.bootstrap import estimate
from kgr1.evaluation.metrics import pass_at_k
from kgr1.rewards.answer import score_answers
from kgr1.types import GoldAnswer

LETTERS = "abcdefgh"
"""One-letter names; "a" is left out by the normaliser only where something else remains."""


def case(rng: random.Random) -> tuple[list[str], list[GoldAnswer]]:
    """Names and gold entities that share aliases, so that the matching has to choose."""
    gold = [
        GoldAnswer(label=f"g{n}", id=f"Q{n}", aliases=tuple(rng.sample(LETTERS, rng.randint(0, 4))))
        for n in range(rng.randint(0, 6))
    ]
    names = [*LETTERS, *(answer.label for answer in gold), "x", "y"]
    return rng.sample(names, rng.randint(0, min(8, len(names)))), gold


def allowed(names: list[str], gold: list[GoldAnswer]) -> np.ndarray:
    """Which name may stand for which gold entity (P, A)."""
    return np.array([[name in (g.label, *g.aliases) for g in gold] for name in names], dtype=float).reshape(
        len(names), len(gold)
    )


def test_matching_by_brute_force() -> None:
    """Small cases where every assignment can be tried."""
    for seed in range(60):
        names, gold = case(random.Random(1000 + seed))
        names, gold = names[:4], gold[:4]
        table = allowed(names, gold)
        wide = np.hstack([table, np.zeros((len(names), len(names)))])  # a name may stand for nothing
        best = max(
            sum(wide[p, g] for p, g in enumerate(choice))
            for choice in itertools.permutations(range(wide.shape[1]), len(names))
        )
        assert score_answers(names, gold).matched == best


def test_pass_at_k_is_the_share_of_all_draws() -> None:
    for samples in range(1, 8):
        for right in range(samples + 1):
            for k in range(1, samples + 1):
                draws = list(itertools.combinations([n < right for n in range(samples)], k))
                assert pass_at_k(samples, right, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_set_f1_is_the_dice_coefficient_of_label_sets() -> None:
    """Without aliases the F1 of a question is that of two sets, which scikit-learn computes from indicators."""
    rng = random.Random(5)
    for _ in range(200):
        said, gold = (rng.sample("bcdefghij", rng.randint(1, 6)) for _ in range(2))
        truth, guess = ([letter in side for letter in "bcdefghij"] for side in (gold, said))
        expected = f1_score(truth, guess)
        assert score_answers(said, [GoldAnswer(label=g) for g in gold]).f1 == pytest.approx(expected)


def test_intervals_agree_with_scipy() -> None:
    values = np.random.default_rng(3).beta(0.5, 0.5, size=150)
    ours = estimate({"f1": (values, np.ones(150))}, resamples=4000)["f1"]
    theirs = bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    spread = theirs.high - theirs.low
    assert ours.value == pytest.approx(values.mean())
    assert math.isclose(ours.low, theirs.low, abs_tol=0.05 * spread)
    assert math.isclose(ours.high, theirs.high, abs_tol=0.05 * spread)
