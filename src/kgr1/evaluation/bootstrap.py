"""Percentile bootstrap intervals over questions (SPEC section 8: one beside every headline number)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from kgr1.types import Record

LEVEL = 0.95
RESAMPLES = 2000
_CHUNK = 4_000_000  # drawn indices held at once

Floats = NDArray[np.float64]
Column = tuple[Floats, Floats]
"""Numerator and denominator per question (Q,). A plain mean has denominator 1 everywhere."""


class Metric(Record):
    """A number with its 95% bootstrap interval; ``n`` questions stand behind it."""

    value: float
    low: float
    high: float
    n: int


def estimate(columns: Mapping[str, Column], *, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, Metric]:
    """The ratio sum(numerator) / sum(denominator) of every column, with its interval.

    All columns have one length Q and are resampled together. A column whose denominator is 0 throughout (no query was
    ever asked, say) has no value and is left out. The result depends on the order of the questions only through the
    draws, so callers sort them first.
    """
    values, ratios = _values(columns), _resampled(columns, seed, resamples)
    return {
        name: _metric(values[name], ratios[name], int((columns[name][1] > 0).sum()))
        for name in columns
        if np.isfinite(values[name])
    }


def estimate_difference(
    before: Mapping[str, Column], after: Mapping[str, Column], *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Metric]:
    """After - before for every metric that both have, with the paired bootstrap interval.

    Row q of ``before`` and of ``after`` are the same question: both sides see the same draws of questions, so what
    makes a question hard cancels out.
    """
    names = [name for name in before if name in after]
    old, new = {name: before[name] for name in names}, {name: after[name] for name in names}
    old_values, new_values = _values(old), _values(new)
    values = {name: new_values[name] - old_values[name] for name in names}
    # The draws depend on the seed and on Q alone, so these two resample the same questions.
    old_ratios, new_ratios = _resampled(old, seed, resamples), _resampled(new, seed, resamples)
    return {
        name: _metric(values[name], new_ratios[name] - old_ratios[name], len(before[name][0]))
        for name in names
        if np.isfinite(values[name])
    }


def _metric(value: float, ratios: Floats, n: int) -> Metric:
    kept = ratios[np.isfinite(ratios)]
    low, high = np.quantile(kept, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(kept) else (value, value)
    # Rounding must not push a value out of its own interval.
    return Metric(value=value, low=min(value, float(low)), high=max(value, float(high)), n=n)


def _values(columns: Mapping[str, Column]) -> dict[str, float]:
    """The ratio of every column, NaN where the denominator is 0."""
    sums = {name: (float(top.sum()), float(bottom.sum())) for name, (top, bottom) in columns.items()}
    return {name: top / bottom if bottom > 0 else math.nan for name, (top, bottom) in sums.items()}


def _resampled(columns: Mapping[str, Column], seed: int, resamples: int) -> dict[str, Floats]:
    """The ratio of every column in every resample (resamples,), NaN where the denominator is 0."""
    if not columns:
        return {}
    top = np.stack([column[0] for column in columns.values()], axis=1).astype(np.float64)  # (Q, M)
    bottom = np.stack([column[1] for column in columns.values()], axis=1).astype(np.float64)
    count = len(top)
    generator = np.random.default_rng(seed)
    ratios = np.empty((resamples, top.shape[1]))
    step = max(1, _CHUNK // count)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = generator.integers(0, count, size=(rows, count))
        drawn += np.arange(rows)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
        below = times @ bottom
        ratios[start : start + rows] = np.divide(times @ top, below, out=np.full_like(below, np.nan), where=below > 0)
    return {name: ratios[:, place] for place, name in enumerate(columns)}
