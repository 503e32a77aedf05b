"""Rewards of an episode: pure functions, each with its formula and its section of the specification."""

from kgr1.rewards.answer import AnswerScore, normalise, score_answers
from kgr1.rewards.outcome import Outcome, outcome_reward, v_ret
from kgr1.rewards.score import RewardBreakdown, score_episode
from kgr1.rewards.turn import TurnReward, turn_rewards, v_ans, v_fmt, v_kg

__all__ = [
    "AnswerScore",
    "Outcome",
    "RewardBreakdown",
    "TurnReward",
    "normalise",
    "outcome_reward",
    "score_answers",
    "score_episode",
    "turn_rewards",
    "v_ans",
    "v_fmt",
    "v_kg",
    "v_ret",
]
