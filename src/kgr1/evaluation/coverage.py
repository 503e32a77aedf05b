"""Precision against coverage: what an agent gains in right answers by answering fewer questions.

A question is one point of decision: its samples are one N-run search (:func:`kgr1.agent.claim.weigh`). At a threshold t
the names with a confidence of at least t are given out. Then, over all Q questions::

    coverage  = (questions with a name given out) / Q
    precision = mean precision of the names given out, over the covered questions
    f1        = sum of the F1 of the covered questions / Q, so that silence costs recall

Names without a confidence are given out at threshold 0 only. Questions that were not answered, or whose episodes
failed, are never covered and stay in Q.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from kgr1.agent.claim import Claim
from kgr1.evaluation.bootstrap import RESAMPLES, Metric, estimate
from kgr1.rewards.answer import AnswerScore, score_answers
from kgr1.types import GoldAnswer, Record


@dataclass(frozen=True, slots=True)
class Item:
    """What was claimed about one question, and what is right."""

    claims: tuple[Claim, ...]
    gold: tuple[GoldAnswer, ...]

    @property
    def supported(self) -> Item:
        """The same with the claims that have evidence only."""
        return Item(tuple(claim for claim in self.claims if claim.evidence), self.gold)

    def score(self, threshold: float) -> AnswerScore:
        """The score of what is given out at a threshold."""
        kept = [claim for claim in self.claims if sure(claim) >= threshold]
        return score_answers([claim.name for claim in kept], self.gold, [claim.id for claim in kept])


class Point(Record):
    """One threshold; ``questions`` of all are covered."""

    threshold: float
    questions: int
    coverage: float
    precision: float
    f1: float


class Operating(Record):
    """A point with the intervals of its precision and F1."""

    point: Point
    precision: Metric
    f1: Metric


def sure(claim: Claim) -> float:
    """The confidence that thresholds are compared with."""
    return claim.confidence or 0.0


def precision_coverage(items: Sequence[Item]) -> list[Point]:
    """One point for every distinct confidence, from the highest threshold to the lowest; empty without claims.

    Coverage never falls along the list. Each claim changes one question once, so the cost is that of sorting.
    """
    order = sorted(
        ((sure(claim), place) for place, item in enumerate(items) for claim in item.claims),
        key=lambda entry: (-entry[0], entry[1]),
    )
    scores: dict[int, AnswerScore] = {}
    precision = f1 = 0.0
    points = []
    for number, (threshold, place) in enumerate(order):
        old, new = scores.get(place, AnswerScore()), items[place].score(threshold)
        scores[place] = new
        precision += new.precision - old.precision
        f1 += new.f1 - old.f1
        if number + 1 < len(order) and order[number + 1][0] == threshold:
            continue
        points.append(
            Point(
                threshold=threshold,
                questions=len(scores),
                coverage=len(scores) / len(items),
                # Rounding of the running sums must not leave [0, 1].
                precision=min(1.0, max(0.0, precision / len(scores))),
                f1=min(1.0, max(0.0, f1 / len(items))),
            )
        )
    return points


def mean_precision(points: Sequence[Point]) -> float:
    """Precision on average over all coverages up to the largest: each newly covered question weighs the same.

    Above the precision of the last point, the confidence puts right answers first; 0 without points.
    """
    total = before = 0.0
    for point in points:
        total += (point.questions - before) * point.precision
        before = point.questions
    return total / before if before else 0.0


def spread(points: Sequence[Point], steps: int = 10) -> list[Point]:
    """At most ``steps`` points at about even distances of coverage, the last one among them; least coverage first.

    >>> line = [Point(threshold=1 - n / 100, questions=n, coverage=n / 100, precision=1, f1=0) for n in range(1, 81)]
    >>> [round(point.coverage, 2) for point in spread(line, 4)]
    [0.2, 0.4, 0.6, 0.8]
    """
    if not points:
        return []
    most = points[-1].questions
    chosen: dict[int, Point] = {}
    for step in range(1, steps + 1):
        found = next(point for point in points if point.questions * steps >= most * step)
        chosen.setdefault(found.questions, found)
    chosen[most] = points[-1]
    return [chosen[questions] for questions in sorted(chosen)]


def operate(
    items: Sequence[Item], points: Iterable[Point], *, seed: int = 0, resamples: int = RESAMPLES
) -> list[Operating]:
    """The points with 95% bootstrap intervals over questions, the thresholds taken as given."""
    wanted = list(points)
    columns, ones = {}, np.ones(len(items))
    for number, point in enumerate(wanted):
        scores = [item.score(point.threshold) for item in items]
        covered = np.array([float(score.predicted > 0) for score in scores])
        columns[f"precision {number}"] = (np.array([score.precision for score in scores]), covered)
        columns[f"f1 {number}"] = (np.array([score.f1 for score in scores]), ones)
    found = estimate(columns, seed=seed, resamples=resamples) if wanted else {}
    return [
        Operating(point=point, precision=found[f"precision {number}"], f1=found[f"f1 {number}"])
        for number, point in enumerate(wanted)
    ]
