"""How much of a run stands on facts that were shown."""

from __future__ import annotations

import random

import pytest
from eval_episodes import asked, played, question
from hypothesis import given
from hypothesis import strategies as st

from kgr1.agent.claim import withhold
from kgr1.config import AgentSettings
from kgr1.errors import EvaluationError
from kgr1.evaluation.grounding import grounding_table, measure, support
from kgr1.types import Episode

STRICT = AgentSettings(abstain=True)


def said(number: int, answers: list[str] | None, logprob: float | None = None, sample: int = 0) -> Episode:
    """An episode that was shown Paris and Lyon; all its tokens have this log-probability."""
    episode = played(question(number), answers, turns=[asked("Lyon", "Paris")], sample=sample)
    logprobs = () if logprob is None else (logprob, logprob)
    turns = tuple(turn.model_copy(update={"logprobs": logprobs}) for turn in episode.turns)
    return episode.model_copy(update={"turns": turns})


RUN = [
    said(1, ["Paris"], -0.1),
    said(2, ["Lyon", "Oslo"], -0.2),
    said(3, ["Oslo"], -0.3),
    said(4, None, -0.4),
    said(5, []),
]


def test_support() -> None:
    assert [support(episode)[:2] for episode in RUN] == [(1, 1), (2, 1), (1, 0), (0, 0), (0, 0)]
    assert [support(episode).fully for episode in RUN] == [True, False, False, False, False]
    assert support(withhold(RUN[1], STRICT)) == (1, 1, 1)
    assert support(withhold(RUN[2], STRICT)) == (0, 0, 1)


def test_a_run_by_hand() -> None:
    found = measure(RUN, resamples=100)
    assert {name: metric.value for name, metric in found.metrics.items()} == {
        "answered": 3 / 5,
        "abstained": 0.0,
        "fully_supported": pytest.approx(1 / 3),
        "supported_names": 2 / 4,
    }
    assert [(round(p.coverage, 2), round(p.precision, 3)) for p in found.everything] == [
        (0.2, 1.0),
        (0.4, 0.5),
        (0.6, pytest.approx(1 / 3, abs=1e-3)),
    ]
    assert [(p.questions, p.precision) for p in found.supported] == [(1, 1.0), (2, 0.5)]
    assert found.plain is not None
    assert found.plain.point == found.everything[-1]
    assert found.operating[-1].point == found.supported[-1]
    assert found.signs["without_evidence"].cases == 1
    assert (found.questions, found.episodes, found.runs, found.with_confidence) == (5, 5, 1, True)


def test_what_is_given_out_when_abstaining_is_fully_supported() -> None:
    found = measure([withhold(episode, STRICT) for episode in RUN], resamples=100)
    assert found.metrics["fully_supported"].value == found.metrics["supported_names"].value == 1.0
    assert found.metrics["answered"].value == 2 / 5
    assert found.metrics["abstained"].value == 1 / 5
    assert found.everything == found.supported == measure(RUN, resamples=100).supported
    assert found.signs["without_evidence"].cases == 0


def test_samples_are_one_search() -> None:
    runs = [said(1, ["Paris"]), said(1, ["Paris", "Lyon"], sample=1), said(2, None), said(2, ["Oslo"], sample=1)]
    found = measure(runs, resamples=50)
    assert (found.questions, found.episodes, found.runs) == (2, 4, 2)
    # Paris has both runs behind it; Lyon and Oslo have one each.
    assert [(p.threshold, p.questions, p.precision) for p in found.everything] == [(1.0, 1, 1.0), (0.5, 2, 0.25)]
    assert found.metrics["answered"].value == 3 / 4
    assert "share of up to 2 runs" in grounding_table(found)


def test_whose_tokens_count() -> None:
    episode = said(1, ["Paris"], -1.0)
    last = episode.turns[-1].model_copy(update={"logprobs": (0.0,)})
    episode = episode.model_copy(update={"turns": (*episode.turns[:-1], last)})
    assert measure([episode], tokens="answer", resamples=10).everything[0].threshold == 1.0
    assert measure([episode], resamples=10).everything[0].threshold == pytest.approx(2.718281828 ** (-2 / 3))


def test_the_order_of_the_episodes_does_not_matter() -> None:
    runs = [*RUN, said(1, ["Lyon"], -0.5, sample=1)]
    shuffled = random.Random(3).sample(runs, len(runs))
    assert measure(shuffled, resamples=50) == measure(runs, resamples=50)


def test_the_table() -> None:
    table = grounding_table(measure(RUN, resamples=100))
    assert "| answers fully supported by shown triples | 33.3 % |" in table
    assert "| everything | 0 | 60.0 % | 33.3 % |" in table
    assert "| supported names | 0.9048 | 20.0 % | 100.0 % |" in table
    assert "| supported names | 0 | 40.0 % | 50.0 % |" in table
    assert "| answers without any evidence | 33.3 % |" in table
    assert "if it told nothing: 50.0 %" in table


def test_tables_of_runs_with_little_in_them() -> None:
    plain = grounding_table(measure([said(1, ["Paris"])], resamples=10))
    assert "record no log-probabilities" in plain
    silent = grounding_table(measure([said(1, None)], resamples=10))
    assert "| answers without any evidence | - | - | 0 of 0 | 0 | - |" in silent
    assert "| everything" not in silent
    with pytest.raises(EvaluationError, match="no episodes"):
        measure([])


NAMES = st.none() | st.lists(st.sampled_from(["Paris", "Lyon", "Oslo", "France"]), max_size=3, unique=True)


@given(st.lists(st.tuples(st.integers(1, 3), NAMES, st.none() | st.floats(-3, 0)), min_size=1, max_size=6))
def test_shares_are_shares_and_abstaining_supports_everything(
    made: list[tuple[int, list[str] | None, float | None]],
) -> None:
    runs = [said(number, names, logprob, sample) for sample, (number, names, logprob) in enumerate(made)]
    found = measure(runs, resamples=5)
    assert all(0 <= m.low <= m.value <= m.high <= 1 for m in found.metrics.values())
    strict = measure([withhold(run, STRICT) for run in runs], resamples=5)
    assert strict.metrics["answered"].value <= found.metrics["answered"].value
    if "fully_supported" in strict.metrics:
        assert strict.metrics["fully_supported"].value == pytest.approx(1.0)
    assert strict.signs["without_evidence"].cases == 0
    assert grounding_table(strict).count("\n| ---") == 3
