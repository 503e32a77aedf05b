"""Headline metrics against hand-worked runs, enumeration and scipy's bootstrap."""

from __future__ import annotations

import doctest
import itertools
import time

import numpy as np
import pytest
from eval_episodes import asked, played, question
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.stats import bootstrap as scipy_bootstrap

from kgr1.errors import EvaluationError
from kgr1.evaluation import metrics
from kgr1.evaluation.bootstrap import estimate, estimate_difference
from kgr1.evaluation.compare import compare
from kgr1.evaluation.metrics import METRIC_VERSION, EpisodeRow, Summary, pass_at_k, summarise, union_answers
from kgr1.evaluation.report import is_share
from kgr1.rewards.answer import normalise
from kgr1.types import Episode, ErrorCode, GoldAnswer, StopReason, Turn


def values(summary: Summary) -> dict[str, float]:
    return {name: metric.value for name, metric in summary.metrics.items()}


def test_a_run_worked_by_hand() -> None:
    episodes = [
        played(question(1), ["Paris"], turns=[asked("Paris")], tokens=100),
        played(question(2, ["Paris", "Rome"]), ["Lyon", "paris"], turns=[asked("Lyon"), asked()], tokens=200),
        played(question(3), None, turns=[asked("Paris"), Turn(text="nonsense")], tokens=300),
        played(question(4), ["Paris"], stop=StopReason.POLICY_ERROR, turns=[asked(error=ErrorCode.SERVER_ERROR)]),
    ]
    summary = summarise(episodes)
    assert values(summary) == pytest.approx(
        {
            "f1": (1 + 0.5 + 0 + 0) / 4,
            "hit1": 1 / 4,
            "hit_any": 2 / 4,
            "em": 1 / 4,
            "retrieval": 2 / 4,
            "answered": 2 / 4,
            "valid_queries": 3 / 6,  # pooled over the turns that did not answer
            "generated_tokens": 150,
            "forced_tokens": 0,
            "written_tokens": 150,
            "context_tokens": 450,
            "total_tokens": 1650,
            "graph_calls": 6 / 4,
            "empty_graph_calls": 2 / 4,  # records without outcomes: what the turns show
            "fallback": 0,
            "model_calls": 9 / 4,
            "turns": 9 / 4,
            "seconds": 37.5,
        }
    )
    assert (summary.overall.questions, summary.overall.episodes) == (4, 4)
    assert summary.metric_version == METRIC_VERSION
    assert summary.by_hops == summary.by_kind == summary.by_dataset == {}
    assert Summary.model_validate_json(summary.model_dump_json()) == summary


def test_names_that_need_the_normaliser() -> None:
    episodes = [
        played(question(1, ["Washington, D.C."]), ["washington DC"]),
        played(question(2, ["Beyoncé"]), ["BEYONCE\u0301"]),
        played(question(3, ["東京"]), ["「東京」"]),
        played(question(4, ["The Who"]), ["who"]),
    ]
    assert values(summarise(episodes))["em"] == 1.0


def test_samples_of_a_question_are_averaged_and_united() -> None:
    item = question(1, ["Paris", "Rome"])
    runs = [["Paris"], ["Rome", "Lyon"], ["Lyon"], None]
    found = values(summarise([played(item, run, sample=n, tokens=10) for n, run in enumerate(runs)]))
    assert found["f1"] == pytest.approx((2 / 3 + 1 / 2 + 0 + 0) / 4)
    assert found["hit1"] == 2 / 4
    assert (found["pass@1"], found["pass@2"], found["pass@4"]) == (pytest.approx(0.5), pytest.approx(5 / 6), 1.0)
    assert "pass@3" not in found
    # The union is Lyon (two votes), Paris, Rome.
    assert (found["union_f1"], found["union_hit1"], found["union_hit_any"]) == (pytest.approx(0.8), 0.0, 1.0)
    assert (found["generated_tokens"], found["union_generated_tokens"]) == (10, 40)


def test_union_order_and_ids() -> None:
    item = question(1)
    samples = [
        EpisodeRow.of(played(item, ["Rome", "Paris"], ids=[None, None])),
        EpisodeRow.of(played(item, ["the paris", "Oslo", "Paris"], sample=1, ids=["Q90", None, "Q1"])),
        EpisodeRow.of(played(item, ["Bern"], sample=2)),
    ]
    names, ids = union_answers(samples)
    assert names == ("the paris", "Rome", "Bern", "Oslo")
    assert ids == ("Q90", None, None, None)
    gold = GoldAnswer(label="Lutetia", id="Q90")
    known = item.model_copy(update={"answers": (gold,)})
    run = summarise([played(known, ["Paris"]), played(known, ["Paris"], sample=1, ids=["Q90"])])
    assert values(run)["union_em"] == 1.0


@pytest.mark.parametrize("n", range(1, 7))
def test_pass_at_k_equals_enumeration(n: int) -> None:
    for right, k in itertools.product(range(n + 1), range(1, n + 1)):
        draws = list(itertools.combinations([True] * right + [False] * (n - right), k))
        assert pass_at_k(n, right, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_pass_at_k_refuses_nonsense() -> None:
    for bad in ((3, 4, 1), (3, 1, 0), (3, 1, 4), (3, -1, 1)):
        with pytest.raises(ValueError, match="pass@k needs"):
            pass_at_k(*bad)
    assert pass_at_k(10_000, 1, 100) == pytest.approx(0.01)


def test_slices() -> None:
    episodes = [
        played(question(1, hops=2, kind="chain", dataset="b"), ["Paris"]),
        played(question(2, hops=10, kind="chain", dataset="b"), ["Rome"]),
        played(question(3, hops=None, kind="other", dataset="a"), ["Paris"]),
    ]
    summary = summarise(episodes)
    assert list(summary.by_hops) == ["2", "10", "unknown"]
    assert {name: part.metrics["f1"].value for name, part in summary.by_kind.items()} == {"chain": 0.5, "other": 1.0}
    assert {name: part.questions for name, part in summary.by_dataset.items()} == {"a": 1, "b": 2}


def test_the_same_id_in_two_data_sets_is_two_questions() -> None:
    episodes = [played(question(1, dataset=name)) for name in ("a", "b")]
    summary = summarise(episodes)
    assert summary.overall.questions == 2
    assert "union_f1" not in summary.metrics


def test_nothing_to_summarise() -> None:
    summary = summarise([])
    assert (summary.overall.questions, summary.metrics) == (0, {})
    blank = summarise([played(question(1, ()), [])])
    assert values(blank)["f1"] == values(blank)["answered"] == 0.0
    assert "valid_queries" not in blank.metrics  # it never asked, so there is no share to speak of


names = st.sampled_from(["Paris", "paris!", "Rome", "Lyon", "東京", "The Who", "who", ""])
episodes_of_runs = st.lists(
    st.builds(
        lambda number, gold, answers, sample, tokens, shown: played(
            question(number, gold, hops=number % 3),
            answers,
            sample=sample,
            tokens=tokens,
            turns=[asked(*shown)] * (len(shown) % 2),
        ),
        number=st.integers(0, 4),
        gold=st.just(("Paris", "Rome", "東京")),
        answers=st.none() | st.lists(names, max_size=5),
        sample=st.integers(0, 3),
        tokens=st.integers(0, 50),
        shown=st.lists(st.sampled_from(["Paris", "Oslo", "x"]), max_size=3),
    ),
    max_size=12,
)


@given(run=episodes_of_runs, random=st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_bounds_and_order(run: list[Episode], random: object) -> None:
    summary = summarise(run, resamples=50)
    for part in [summary.overall, *summary.by_hops.values()]:
        for name, metric in part.metrics.items():
            assert metric.low <= metric.value <= metric.high
            if is_share(name):
                assert metric.low >= 0
                assert metric.high <= 1
    found = values(summary)
    if run:
        assert found["em"] <= found["f1"] + 1e-12
        assert found["em"] <= found["hit1"] <= found["hit_any"] <= found["answered"]
    if "union_f1" in found:
        assert found["union_hit_any"] >= found["hit_any"]
        assert found["union_retrieval"] >= found["retrieval"]
    mixed = list(run)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert summarise(mixed, resamples=50) == summary


@given(st.lists(st.tuples(st.lists(names, max_size=6), st.lists(names, min_size=1, max_size=6)), max_size=8))
@settings(max_examples=100, deadline=None)
def test_macro_f1_agrees_with_an_assignment_solver(pairs: list[tuple[list[str], list[str]]]) -> None:
    expected = []
    for predicted, gold in pairs:
        left = sorted({normalise(name) for name in predicted} - {""})
        right = sorted({normalise(name) for name in gold} - {""})
        table = np.array([[a == b for b in right] for a in left], dtype=float).reshape(len(left), len(right))
        size = table[linear_sum_assignment(table, maximize=True)].sum()
        expected.append(2 * size / (len(left) + len(right)) if size else 0.0)
    run = [played(question(n, gold), predicted) for n, (predicted, gold) in enumerate(pairs)]
    if run:
        assert values(summarise(run, resamples=10))["f1"] == pytest.approx(np.mean(expected))


def test_intervals_agree_with_scipy() -> None:
    rng = np.random.default_rng(5)
    scores, asked_, valid = rng.beta(2, 1, 150), rng.integers(1, 6, 150), rng.integers(0, 2, 150)
    ones = np.ones(150)
    got = estimate({"mean": (scores, ones), "ratio": (valid * 1.0, asked_ * 1.0)}, seed=1, resamples=8000)
    mean = scipy_bootstrap((scores,), np.mean, n_resamples=8000, method="percentile", rng=2).confidence_interval
    assert (got["mean"].low, got["mean"].high) == pytest.approx((mean.low, mean.high), abs=0.003)
    ratio = scipy_bootstrap(
        (valid, asked_),
        lambda top, bottom, axis: top.sum(axis=axis) / bottom.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=8000,
        method="percentile",
        rng=2,
    ).confidence_interval
    assert (got["ratio"].low, got["ratio"].high) == pytest.approx((ratio.low, ratio.high), abs=0.005)


def test_intervals_are_seeded_and_shrink() -> None:
    rng = np.random.default_rng(0)
    small, large = rng.random(50), rng.random(5000)
    same = [estimate({"x": (small, np.ones(50))}, seed=3) for _ in range(2)]
    assert same[0] == same[1]
    assert estimate({"x": (small, np.ones(50))}, seed=4) != same[0]
    wide = same[0]["x"]
    narrow = estimate({"x": (large, np.ones(5000))})["x"]
    assert narrow.high - narrow.low < (wide.high - wide.low) / 5
    alone = estimate({"x": (np.array([0.25]), np.ones(1))})["x"]
    assert (alone.value, alone.low, alone.high, alone.n) == (0.25, 0.25, 0.25, 1)


def test_intervals_do_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    column = {"x": (np.random.default_rng(0).random(37), np.ones(37))}
    whole = estimate(column, resamples=100)
    monkeypatch.setattr("kgr1.evaluation.bootstrap._CHUNK", 37 * 7)
    assert estimate(column, resamples=100)["x"].low == pytest.approx(whole["x"].low)


def test_a_difference_is_paired() -> None:
    base = np.random.default_rng(0).random(200)
    ones = np.ones(200)
    before, after = {"x": (base, ones), "only": (base, ones)}, {"x": (base + 0.01, ones)}
    difference = estimate_difference(before, after)
    assert list(difference) == ["x"]
    assert difference["x"].low == pytest.approx(0.01)  # every question rose by the same, so there is no doubt
    assert difference["x"].high == pytest.approx(0.01)


def test_compare_two_runs() -> None:
    before = [played(question(n), ["Rome"] if n % 2 else ["Paris"]) for n in range(20)]
    after = [played(question(n), ["Paris"]) for n in range(4, 30)]
    comparison = compare(before, after)
    assert (comparison.questions, comparison.only_before, comparison.only_after) == (16, 4, 10)
    assert (comparison.before["f1"].value, comparison.after["f1"].value) == (0.5, 1.0)
    change = comparison.difference["f1"]
    assert change.value == 0.5
    assert 0 < change.low < 0.5 < change.high < 1
    assert compare(reversed(before), reversed(after)) == comparison
    with pytest.raises(EvaluationError, match="share no question"):
        compare(before[:2], after)


def test_thousands_of_questions_and_a_thousand_answers_stay_fast() -> None:
    many = [f"name {n}" for n in range(1000)]
    run = [played(question(n), ["Paris"], sample=s) for n in range(1500) for s in range(2)]
    run.append(played(question("big", many), many))
    started = time.perf_counter()
    assert values(summarise(run))["f1"] == 1.0
    assert time.perf_counter() - started < 5


def test_examples_in_docstrings() -> None:
    found = doctest.testmod(metrics)
    assert found.attempted > 0
    assert found.failed == 0
