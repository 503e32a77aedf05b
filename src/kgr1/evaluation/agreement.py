"""What the judge says in numbers, and how far it agrees with the exact comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kgr1.evaluation.bootstrap import RESAMPLES, Column, Metric, estimate
from kgr1.evaluation.judge import Judged
from kgr1.evaluation.metrics import Key
from kgr1.types import Record

JUDGE_FILE = "judge.json"
"""Where the judge's summary lies beside the episodes."""


class Agreement(Record):
    """Two raters on ``n`` yes-or-no matters. ``kappa`` is None where chance alone would make them agree."""

    n: int
    equal: float | None  # share of equal verdicts; None without any
    kappa: float | None
    judge_only: int  # the judge says yes, the exact comparison no
    exact_only: int


class JudgeSummary(Record):
    """The judge's numbers, and its agreement with the exact comparison by gold entity and by episode.

    ``metrics`` are means over questions, where an unread verdict counts 0; agreement leaves unread verdicts out.
    """

    model: str
    prompt_version: int
    questions: int
    episodes: int
    unread: int  # episodes
    metrics: dict[str, Metric]
    entities: Agreement
    some_entity: Agreement


def agreement(first: Sequence[int], second: Sequence[int]) -> Agreement:
    """Share of equal bits and Cohen's kappa, (p_o - p_e) / (1 - p_e); ``first`` is the judge, ``second`` exact.

    >>> agreement([1, 1, 0, 0], [1, 0, 0, 0]).kappa
    0.5
    """
    n = len(first)
    if n != len(second):
        raise ValueError(f"Two raters need the same matters; got {n} and {len(second)}.")
    if not n:
        return Agreement(n=0, equal=None, kappa=None, judge_only=0, exact_only=0)
    judge_only = sum(a > b for a, b in zip(first, second, strict=True))
    exact_only = sum(a < b for a, b in zip(first, second, strict=True))
    equal = n - judge_only - exact_only
    yes = sum(first) * sum(second) + (n - sum(first)) * (n - sum(second))  # n^2 p_e
    kappa = (equal * n - yes) / (n * n - yes) if yes < n * n else None
    return Agreement(n=n, equal=equal / n, kappa=kappa, judge_only=judge_only, exact_only=exact_only)


def summarise_judge(
    judged: Sequence[Judged], *, model: str, prompt_version: int, seed: int = 0, resamples: int = RESAMPLES
) -> JudgeSummary:
    """Numbers of all episodes; their order does not matter."""
    questions: dict[Key, list[Judged]] = {}
    for one in sorted(judged, key=lambda one: (one.key, one.sample)):
        questions.setdefault(one.key, []).append(one)
    read = [one for one in judged if one.judge is not None]
    bits = [(j, e) for one in read for j, e in zip(one.judge or (), one.exact, strict=True)]
    some = [(int(any(one.judge or ())), int(any(one.exact))) for one in read]
    return JudgeSummary(
        model=model,
        prompt_version=prompt_version,
        questions=len(questions),
        episodes=len(judged),
        unread=len(judged) - len(read),
        metrics=estimate(_columns(list(questions.values())), seed=seed, resamples=resamples),
        entities=agreement([j for j, _ in bits], [e for _, e in bits]),
        some_entity=agreement([j for j, _ in some], [e for _, e in some]),
    )


def _columns(questions: Sequence[Sequence[Judged]]) -> dict[str, Column]:
    if not questions:
        return {}

    def column(value: str) -> Column:
        means = [math.fsum(_value(value, one.judge) for one in samples) / len(samples) for samples in questions]
        return np.array(means), np.ones(len(questions))

    return {f"judge_{name}": column(name) for name in ("recall", "any", "all")}


def _value(name: str, bits: tuple[int, ...] | None) -> float:
    if not bits:
        return 0.0
    return {"recall": sum(bits) / len(bits), "any": float(any(bits)), "all": float(all(bits))}[name]
