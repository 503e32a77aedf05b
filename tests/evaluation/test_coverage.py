"""Precision against coverage."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgr1.agent.claim import Claim
from kgr1.evaluation.coverage import Item, Point, mean_precision, operate, precision_coverage, spread
from kgr1.types import GoldAnswer, Triple

FACT = (Triple("France", "capital", "Paris"),)


def item(*claims: tuple[str, float | None], gold: tuple[str, ...] = ("a",)) -> Item:
    """Claims with their confidences; upper-case names have no evidence."""
    made = [Claim(name=n, confidence=c, evidence=() if n.isupper() else FACT) for n, c in claims]
    return Item(tuple(made), tuple(GoldAnswer(label=name) for name in gold))


def test_a_curve_by_hand() -> None:
    items = [item(("a", 0.9)), item(("b", 0.8)), item(("a", 0.5), ("b", 0.2)), item()]
    found = [(p.threshold, p.questions, p.coverage, round(p.precision, 3), p.f1) for p in precision_coverage(items)]
    assert found == [
        (0.9, 1, 0.25, 1.0, 0.25),
        (0.8, 2, 0.5, 0.5, 0.25),
        (0.5, 3, 0.75, 0.667, 0.5),
        (0.2, 3, 0.75, 0.5, pytest.approx((1 + 2 / 3) / 4)),
    ]


def test_ties_move_together() -> None:
    (point,) = precision_coverage([item(("a", 0.5)), item(("b", 0.5))])
    assert (point.questions, point.precision) == (2, 0.5)


def test_without_confidence_there_is_one_point() -> None:
    (point,) = precision_coverage([item(("a", None)), item(("b", None)), item()])
    assert (point.threshold, point.questions, point.precision) == (0.0, 2, 0.5)
    assert precision_coverage([item(), item()]) == precision_coverage([]) == []


def test_supported_names_only() -> None:
    whole = item(("a", 0.9), ("B", 0.95))
    assert [claim.name for claim in whole.supported.claims] == ["a"]
    assert precision_coverage([whole])[-1].precision == 0.5
    assert precision_coverage([whole.supported])[-1].precision == 1.0


def test_mean_precision() -> None:
    good_first = precision_coverage([item(("a", 0.9)), item(("b", 0.1))])
    bad_first = precision_coverage([item(("a", 0.1)), item(("b", 0.9))])
    assert mean_precision(good_first) == pytest.approx((1 + 0.5) / 2)
    assert mean_precision(bad_first) == pytest.approx((0 + 0.5) / 2)
    assert mean_precision([]) == 0.0


def test_points_with_intervals() -> None:
    items = [item(("a", 0.9)), item(("b", 0.8)), item(("a", 0.5)), item()]
    found = operate(items, precision_coverage(items), seed=1, resamples=200)
    for one in found:
        assert one.precision.value == pytest.approx(one.point.precision)
        assert one.f1.value == pytest.approx(one.point.f1)
        assert 0 <= one.precision.low <= one.precision.value <= one.precision.high <= 1
        assert one.precision.n == one.point.questions
    assert operate(items, []) == []


NAMES = st.lists(st.tuples(st.sampled_from("abcAB"), st.sampled_from([None, 0.0, 0.25, 0.5, 1.0])), max_size=3)
ITEMS = st.lists(
    st.builds(lambda claims, gold: item(*claims, gold=tuple(gold)), NAMES, st.sets(st.sampled_from("abc")))
)


@given(ITEMS)
def test_every_point_is_what_its_threshold_gives(items: list[Item]) -> None:
    points = precision_coverage(items)
    assert {p.threshold for p in points} == {claim.confidence or 0.0 for one in items for claim in one.claims}
    for point in points:
        scores = [one.score(point.threshold) for one in items]
        covered = [score for score in scores if score.predicted]
        assert point.questions == len(covered)
        assert point.coverage == len(covered) / len(items)
        assert math.isclose(point.precision, math.fsum(s.precision for s in covered) / len(covered), abs_tol=1e-9)
        assert math.isclose(point.f1, math.fsum(s.f1 for s in scores) / len(items), abs_tol=1e-9)
    assert [p.threshold for p in points] == sorted((p.threshold for p in points), reverse=True)
    assert [p.questions for p in points] == sorted(p.questions for p in points)


@given(ITEMS)
def test_evidence_only_takes_away(items: list[Item]) -> None:
    every, backed = precision_coverage(items), precision_coverage([one.supported for one in items])
    assert len(backed) <= len(every)
    if backed:
        assert backed[-1].questions <= every[-1].questions


@given(ITEMS, st.integers(1, 12))
def test_a_spread_keeps_the_end(items: list[Item], steps: int) -> None:
    points = precision_coverage(items)
    chosen = spread(points, steps)
    assert len(chosen) <= steps
    assert all(point in points for point in chosen)
    assert chosen[-1:] == points[-1:]
    questions = [point.questions for point in chosen]
    assert questions == sorted(set(questions))


@given(ITEMS)
def test_mean_precision_lies_within_the_curve(items: list[Item]) -> None:
    points: list[Point] = precision_coverage(items)
    if points:
        precisions = [point.precision for point in points]
        assert min(precisions) - 1e-9 <= mean_precision(points) <= max(precisions) + 1e-9
