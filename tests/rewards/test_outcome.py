"""Outcome reward and the breakdown of a whole episode."""

from __future__ import annotations

import pytest
from reward_episodes import PARIS, answer_turn, episode, query_turn

from kgr1.config import RewardSettings
from kgr1.rewards.outcome import outcome_reward, v_ret
from kgr1.rewards.score import RewardBreakdown, score_episode
from kgr1.types import ErrorCode, GoldAnswer, Operation, StopReason

DEFAULT = RewardSettings()


def test_right_answer_that_was_seen() -> None:
    outcome = outcome_reward(episode(query_turn(["Lyon", "Paris"]), answer_turn("Paris")), DEFAULT)
    assert (outcome.f1, outcome.retrieved, outcome.total) == (1.0, 1, 2.0)


def test_weights() -> None:
    settings = RewardSettings(w_f1=3, w_ret=5)
    outcome = outcome_reward(episode(query_turn(["Paris"]), answer_turn("Paris", "Lyon")), settings)
    assert outcome.total == pytest.approx(3 * 2 / 3 + 5)


def test_retrieved_means_shown_as_an_entity() -> None:
    assert v_ret(episode(query_turn(["Lyon", "Paris"]))) == 1
    assert v_ret(episode(query_turn(["Lyon", "Paris"], shown=1))) == 0  # cut off before the model saw it
    assert v_ret(episode(query_turn(["Lyon", "Paris"], shown=0))) == 0
    assert v_ret(episode(query_turn(["Paris"], operation=Operation.GET_TAIL_RELATIONS))) == 0
    assert v_ret(episode(query_turn(error=ErrorCode.ENTITY_NOT_FOUND))) == 0
    assert v_ret(episode(query_turn(["Paris, Texas"]))) == 0  # no substrings
    assert v_ret(episode()) == 0  # the question and the prompt say Paris, which is no retrieval


def test_retrieved_by_alias_or_id() -> None:
    assert v_ret(episode(query_turn(["city of light"]))) == 1
    assert v_ret(episode(query_turn(["Lutetia"], ids=["Q90"]))) == 1
    assert v_ret(episode(query_turn(["Lutetia", "Lyon"], ids=["Q1", "Q90"], shown=1))) == 0


@pytest.mark.parametrize("stop", [reason for reason in StopReason if reason is not StopReason.ANSWERED])
def test_failed_episodes_keep_what_they_earned(stop: StopReason) -> None:
    failed = episode(query_turn(["Paris"]), answers=["Paris"], stop=stop)
    breakdown = score_episode(failed, DEFAULT)
    assert (breakdown.outcome.f1, breakdown.outcome.retrieved) == (0.0, 1)
    assert breakdown.turn_values == (1.0,)


def test_ids_of_the_answers_are_used() -> None:
    assert outcome_reward(episode(answer_turn("Lutetia"), ids=["Q90"]), DEFAULT).f1 == 1.0
    assert outcome_reward(episode(answer_turn("Lutetia"), ids=[None]), DEFAULT).f1 == 0.0


def test_breakdown_of_a_mixed_episode() -> None:
    rome = GoldAnswer(label="Rome")
    turns = (query_turn(["Paris"]), query_turn(["Paris"], well_formed=False), answer_turn("Paris"))
    breakdown = score_episode(episode(*turns, gold=(PARIS, rome)), DEFAULT)
    assert breakdown.turn_values == (1.0, 0.0, 1.0)
    assert breakdown.turn_sum == 2.0
    assert breakdown.turn_mean == pytest.approx(2 / 3)
    assert breakdown.outcome.total == pytest.approx(2 / 3 + 1)
    assert breakdown.total == pytest.approx(4 / 3 + 1)
    parts = breakdown.parts
    assert parts["reward/fmt"] == pytest.approx(2 / 3)
    assert parts["reward/kg"] == pytest.approx(1 / 3)
    assert (parts["reward/ans"], parts["reward/hit1"], parts["reward/retrieved"]) == (1.0, 1.0, 1.0)
    assert RewardBreakdown.model_validate_json(breakdown.model_dump_json()) == breakdown


def test_an_episode_without_turns_scores_zero() -> None:
    breakdown = score_episode(episode(stop=StopReason.POLICY_ERROR), DEFAULT)
    assert breakdown.total == 0.0
    assert all(value == 0.0 for value in breakdown.parts.values())
