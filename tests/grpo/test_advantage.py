"""Turn-wise advantages against hand-worked groups, a loop that follows the formulas, and their invariants."""

from __future__ import annotations

import doctest
import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kgr1.grpo import advantage
from kgr1.grpo.advantage import Baseline, Credit, compute_advantages, spread_to_tokens

Batch = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]
KINDS: list[Credit] = ["turn", "split", "trajectory"]
BASELINES: list[Baseline] = ["turn", "episode"]
VARIANTS = [(kind, baseline) for kind in KINDS for baseline in BASELINES]


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Ragged batches with masked rubbish, episodes without turns, and groups of any size."""
    seed = draw(st.integers(0, 2**32 - 1))
    episodes, turns, groups = draw(st.integers(1, 12)), draw(st.integers(1, 5)), draw(st.integers(1, 4))
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, turns + 1, episodes)
    mask = np.arange(turns)[None, :] < lengths[:, None]
    rewards = np.where(mask, rng.choice([0.0, 0.5, 1.0], (episodes, turns)), np.nan)
    outcome = rng.choice([0.0, 1 / 3, 1.0, 2.0], episodes)
    return rewards, outcome, mask, rng.integers(-1, groups, episodes) * 7


def naive(
    kind: str, baseline: str, batch: Batch, lam: float, eps: float
) -> tuple[NDArray[np.float64], dict[int, bool]]:
    """SPEC section 5 as loops over episodes and turns."""
    rewards, outcome, mask, group = batch
    result = np.zeros(mask.shape)
    flat: dict[int, bool] = {}

    def standard(values: list[float], weights: list[float]) -> list[float]:
        if max(values) - min(values) <= 1e-12 * max(abs(v) for v in values):
            return [0.0] * len(values)
        total = math.fsum(weights)
        mean = math.fsum(w * v for w, v in zip(weights, values, strict=True)) / total
        var = math.fsum(w * (v - mean) ** 2 for w, v in zip(weights, values, strict=True)) / total
        return [(v - mean) / (math.sqrt(var) + eps) for v in values]

    for name in set(group.tolist()):
        members = [n for n in range(len(group)) if group[n] == name and mask[n].any()]
        places = [(n, t) for n in members for t in range(mask.shape[1]) if mask[n, t]]
        flat[name] = True
        if places:
            share = [1.0 if baseline == "turn" else 1.0 / mask[n].sum() for n, _ in places]
            even = [1.0] * len(members)
            if kind == "turn":
                found = standard([rewards[n, t] + lam * outcome[n] for n, t in places], share)
            elif kind == "split":
                parts = standard([rewards[n, t] for n, t in places], share)
                ends = dict(zip(members, standard([outcome[n] for n in members], even), strict=True))
                found = [0.5 * part + lam * ends[n] for part, (n, _) in zip(parts, places, strict=True)]
                # The two parts may cancel each other; that is no lack of differences.
                flat[name] = not any(parts) and (lam == 0 or not any(ends.values()))
            else:
                totals = [statistics.fmean(rewards[n, mask[n]]) + lam * outcome[n] for n in members]
                ends = dict(zip(members, standard(totals, even), strict=True))
                found = [ends[n] for n, _ in places]
            for place, value in zip(places, found, strict=True):
                result[place] = value
            if kind != "split":
                flat[name] = not any(found)
    return result, flat


@pytest.mark.parametrize(("kind", "baseline"), VARIANTS)
@given(batch=batches(), lam=st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=80, deadline=None)
def test_agrees_with_the_loop(kind: Credit, baseline: Baseline, batch: Batch, lam: float) -> None:
    got = compute_advantages(kind, *batch, lam=lam, baseline=baseline)
    values, flat = naive(kind, baseline, batch, lam, advantage.EPS)
    np.testing.assert_allclose(got.values, values, rtol=1e-9, atol=1e-12)
    assert (got.values[~batch[2]] == 0).all()
    assert got.groups.tolist() == sorted(flat)
    assert got.degenerate.tolist() == [flat[name] for name in sorted(flat)]


def test_turn_by_hand() -> None:
    # Returns: episode 0 has 1 + 2 = 3 and 0 + 2 = 2, episode 1 has 1 + 0 = 1; mean 2, variance 2/3.
    result = compute_advantages("turn", [[1, 0], [1, 99]], [2, 0], [[True, True], [True, False]], [5, 5], eps=0)
    np.testing.assert_allclose(result.values, [[math.sqrt(1.5), 0], [-math.sqrt(1.5), 0]], atol=1e-15)
    # Every episode weighs 1: mean (2.5 + 1) / 2 = 1.75, variance ((1.25^2 + 0.25^2) / 2 + 0.75^2) / 2 = 0.6875.
    even = compute_advantages(
        "turn", [[1, 0], [1, 99]], [2, 0], [[True, True], [True, False]], [5, 5], baseline="episode", eps=0
    )
    np.testing.assert_allclose(even.values, np.array([[1.25, 0.25], [-0.75, 0]]) / math.sqrt(0.6875))


def test_split_by_hand() -> None:
    # Turn rewards 1, 0, 1, 0: normalised +-1. Outcomes 2, 0: normalised +-1.
    result = compute_advantages("split", [[1, 0], [1, 0]], [2, 0], np.ones((2, 2)), [0, 0], eps=0)
    np.testing.assert_allclose(result.values, [[1.5, 0.5], [-0.5, -1.5]])


def test_trajectory_by_hand() -> None:
    # Mean turn rewards 0.5, 1, 0 and outcomes 1, 0, 0: returns 1.5, 1, 0; mean 5/6, variance 7/18.
    mask = [[True, True], [True, False], [True, True]]
    result = compute_advantages("trajectory", [[1, 0], [1, 7], [0, 0]], [1, 0, 0], mask, [0, 0, 0], eps=0)
    expected = (np.array([1.5, 1.0, 0.0]) - 5 / 6) / math.sqrt(7 / 18)
    np.testing.assert_allclose(result.values, expected[:, None] * np.array(mask))


def test_groups_do_not_see_each_other() -> None:
    rewards, outcome = np.array([[1.0], [0.0], [1.0], [0.0]]), np.array([1.0, 0.0, 50.0, 60.0])
    both = compute_advantages("turn", rewards, outcome, np.ones((4, 1)), [3, 3, 9, 9])
    first = compute_advantages("turn", rewards[:2], outcome[:2], np.ones((2, 1)), [0, 0])
    np.testing.assert_array_equal(both.values[:2], first.values)
    assert both.values[2, 0] < 0 < both.values[3, 0]


@pytest.mark.parametrize(("kind", "baseline"), VARIANTS)
@given(batch=batches())
@settings(max_examples=60, deadline=None)
def test_weighted_mean_is_zero(kind: Credit, baseline: Baseline, batch: Batch) -> None:
    values = compute_advantages(kind, *batch, baseline=baseline).values
    _, _, mask, group = batch
    per_turn = kind == "turn" and baseline == "turn"
    for name in set(group.tolist()):
        members = mask & (group == name)[:, None]
        weights = members / np.maximum(members.sum(axis=1, keepdims=True), 1)
        if kind == "split" and baseline == "turn":
            continue  # the two parts have different weights, so no one weighting of the sum is centred
        total = (values * (members if per_turn else weights)).sum()
        assert total == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("kind", "baseline"), VARIANTS)
@given(batch=batches(), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_order_of_episodes_and_names_of_groups_do_not_matter(
    kind: Credit, baseline: Baseline, batch: Batch, seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(len(batch[1]))
    plain = compute_advantages(kind, *batch, baseline=baseline)
    mixed = compute_advantages(kind, *(part[order] for part in batch), baseline=baseline)
    np.testing.assert_allclose(mixed.values, plain.values[order], rtol=1e-9, atol=1e-12)
    renamed = compute_advantages(kind, *batch[:3], -batch[3], baseline=baseline)
    np.testing.assert_allclose(renamed.values, plain.values, rtol=1e-9, atol=1e-12)
    assert renamed.degenerate.tolist() == plain.degenerate.tolist()[::-1]


@pytest.mark.parametrize(("kind", "baseline"), VARIANTS)
@given(batch=batches(), scale=st.sampled_from([1e-3, 0.5, 7.0, 1e6]), shift=st.sampled_from([0.0, -3.0, 40.0]))
@settings(max_examples=40, deadline=None)
def test_scale_and_shift_of_rewards_do_not_matter(
    kind: Credit, baseline: Baseline, batch: Batch, scale: float, shift: float
) -> None:
    rewards, outcome, mask, group = batch
    # Without an eps, what rounding makes of equal returns (2 = 40.002 - 38 or so) would be scaled up to one.
    plain = compute_advantages(kind, *batch, baseline=baseline, eps=1e-3)
    moved = compute_advantages(
        kind, scale * rewards + shift, scale * outcome - shift, mask, group, baseline=baseline, eps=1e-3 * scale
    )
    np.testing.assert_allclose(moved.values, plain.values, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("kind", "baseline"), VARIANTS)
def test_equal_returns_give_exactly_zero(kind: Credit, baseline: Baseline) -> None:
    # 0.1 + 0.2 and 0.3 differ in the last bit; dividing by eps would turn that into an advantage.
    rewards = np.array([[0.1, 0.1, 0.1], [0.1, 0.1, 0.0]])
    mask = np.array([[True, True, True], [True, True, False]])
    result = compute_advantages(kind, rewards, [0.2, 0.2], mask, [0, 0], baseline=baseline, eps=0.0)
    assert (result.values == 0).all()
    assert result.degenerate.tolist() == [True]
    tie = compute_advantages(kind, [[0.1], [0.3], [0.5], [1.0]], [0.2, 0.0, 2.0, 0.0], np.ones((4, 1)), [0, 0, 1, 1])
    assert tie.degenerate.tolist() == [kind != "split", False]
    assert tie.degenerate_share == (0.5 if kind != "split" else 0.0)
    if kind != "split":
        assert (tie.values[:2] == 0).all()


@pytest.mark.parametrize(("kind", "baseline"), VARIANTS)
def test_an_episode_without_turns_stays_out_of_the_baseline(kind: Credit, baseline: Baseline) -> None:
    rewards, mask = np.array([[1.0, 0.5], [0.0, 0.0]]), np.ones((2, 2), dtype=bool)
    plain = compute_advantages(kind, rewards, [2.0, 0.0], mask, [0, 0], baseline=baseline)
    padded = compute_advantages(
        kind, [*rewards, [9, 9]], [2.0, 0.0, -5.0], [*mask, [False, False]], [0, 0, 0], baseline=baseline
    )
    np.testing.assert_array_equal(padded.values[:2], plain.values)
    assert (padded.values[2] == 0).all()
    nobody = compute_advantages(kind, rewards, [math.nan, 1.0], ~mask, [0, 0], baseline=baseline)
    assert (nobody.values == 0).all()
    assert nobody.degenerate.all()


def test_an_empty_batch() -> None:
    result = compute_advantages("turn", np.zeros((0, 3)), [], np.zeros((0, 3)), [])
    assert result.values.shape == (0, 3)
    assert result.degenerate_share == 0.0


def test_bad_input_is_refused() -> None:
    good = ([[1.0, 0.0]], [1.0], [[True, True]], [0])
    with pytest.raises(ValueError, match="Unknown credit 'token'"):
        compute_advantages("token", *good)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="baseline 'batch'"):
        compute_advantages("turn", *good, baseline="batch")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\(1, 2\), \(1, 2\), \(2,\) and \(1,\)"):
        compute_advantages("turn", good[0], [1.0, 2.0], good[2], good[3])
    with pytest.raises(ValueError, match="not a finite number"):
        compute_advantages("turn", [[1.0, math.nan]], *good[1:])
    with pytest.raises(ValueError, match="not a finite number"):
        compute_advantages("turn", good[0], [math.inf], *good[2:])


def test_spread_to_tokens() -> None:
    turns = [[-1, 0, 0, -1, 1, 1], [-1, -1, 0, 0, 0, -1]]
    spread = spread_to_tokens([[1.5, -2.0], [0.25, 0.0]], turns)
    assert spread.tolist() == [[0, 1.5, 1.5, 0, -2.0, -2.0], [0, 0, 0.25, 0.25, 0.25, 0]]
    assert spread_to_tokens(np.zeros((2, 0)), [[-1], [-1]]).tolist() == [[0.0], [0.0]]
    for bad in ([[2]], [[-2]]):
        with pytest.raises(ValueError, match="between -1 and 1"):
            spread_to_tokens([[1.5, -2.0]], bad)
    with pytest.raises(ValueError, match=r"\(1, 2\) and \(2, 1\)"):
        spread_to_tokens([[1.5, -2.0]], [[0], [0]])


def test_examples_in_docstrings() -> None:
    found = doctest.testmod(advantage)
    assert found.attempted > 0
    assert found.failed == 0
