"""What the judge says in numbers, how far it agrees with the exact comparison, and the file that keeps both.

The file lies beside the episodes and may be older than these, or come from the folder of another system. So it holds a
digest of what was judged, and :func:`find_judgement` takes it for the verdicts on just those answers or for none.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kgr1.evaluation.bootstrap import RESAMPLES, Column, Metric, estimate
from kgr1.evaluation.judge import Judged
from kgr1.evaluation.metrics import Key
from kgr1.types import Record

JUDGE_FILE = "judge.json"
"""Where the judge's summary lies beside the episodes."""

JUDGE_METRICS = ("judge_recall", "judge_any", "judge_all")
"""What the judge measures: share of the gold entities named, some, all."""


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
    ``matters`` is :func:`digest` of what was judged, empty in files of earlier versions.
    """

    model: str
    prompt_version: int
    matters: str = ""
    seed: int = 0  # of the intervals
    questions: int
    episodes: int
    unread: int  # episodes
    metrics: dict[str, Metric]
    entities: Agreement
    some_entity: Agreement


@dataclass(frozen=True)
class Judgement:
    """What the file of the judge says of some episodes: a summary, or else why it says nothing of them.

    Both are empty where nobody judged.
    """

    summary: JudgeSummary | None = None
    problem: str = ""


def find_judgement(journal: Path, matters: Iterable[str]) -> Judgement:
    """The judge's summary beside a file of episodes, if it judged these very answers.

    ``matters`` are :func:`kgr1.evaluation.judge.matter_of` each episode; they are asked for only if there is a file.
    """
    path = journal.with_name(JUDGE_FILE)
    again = "Run 'kgr1 judge' on this run; verdicts that stand in its judge.jsonl are not asked for again."
    try:
        found = JudgeSummary.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Judgement()
    except OSError as error:
        return Judgement(problem=f"The judge's numbers are left out: cannot read {path}: {error.strerror}.")
    except ValueError:
        return Judgement(problem=f"The judge's numbers are left out: {path} is damaged. {again}")
    if not found.matters:
        return Judgement(
            problem=f"The judge's numbers are left out: {path} does not say which answers it judged, as it was written "
            f"by an earlier version. {again}"
        )
    if found.matters != digest(matters):
        return Judgement(
            problem=f"The judge's numbers are left out: {path} judged other answers than those in {journal.name}, of "
            f"another system or of an earlier evaluation. {again}"
        )
    return Judgement(found)


def digest(matters: Iterable[str]) -> str:
    """One hash of many, whatever their order."""
    return hashlib.blake2b("\n".join(sorted(matters)).encode(), digest_size=16).hexdigest()


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
        matters=digest(one.matter for one in judged),
        seed=seed,
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

    return {name: column(name.removeprefix("judge_")) for name in JUDGE_METRICS}


def _value(name: str, bits: tuple[int, ...] | None) -> float:
    if not bits:
        return 0.0
    return {"recall": sum(bits) / len(bits), "any": float(any(bits)), "all": float(all(bits))}[name]
