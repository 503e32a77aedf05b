"""All rewards of one episode in one record."""

from __future__ import annotations

from collections.abc import Mapping

from kgr1.config import RewardSettings
from kgr1.rewards.outcome import Outcome, outcome_reward
from kgr1.rewards.turn import TurnReward, turn_rewards
from kgr1.types import Episode, Record


class RewardBreakdown(Record):
    """Turn rewards (S of them), the outcome, and their totals."""

    turns: tuple[TurnReward, ...]
    outcome: Outcome

    @property
    def turn_values(self) -> tuple[float, ...]:
        """r_1 ... r_S of SPEC section 4."""
        return tuple(turn.total for turn in self.turns)

    @property
    def turn_sum(self) -> float:
        """Sum of the turn rewards."""
        return sum(self.turn_values)

    @property
    def turn_mean(self) -> float:
        """Mean of the turn rewards, 0 for an episode without turns."""
        return self.turn_sum / len(self.turns) if self.turns else 0.0

    @property
    def total(self) -> float:
        """Mean turn reward + R: one number an episode that does not grow with its length."""
        return self.turn_mean + self.outcome.total

    @property
    def parts(self) -> Mapping[str, float]:
        """Every part by the name under which it is logged; turn parts are shares of the episode's turns."""
        count = max(len(self.turns), 1)
        return {
            "reward": self.total,
            "reward/turn": self.turn_mean,
            "reward/outcome": self.outcome.total,
            "reward/fmt": sum(turn.fmt for turn in self.turns) / count,
            "reward/kg": sum(turn.kg for turn in self.turns) / count,
            "reward/ans": float(any(turn.ans for turn in self.turns)),
            "reward/f1": self.outcome.f1,
            "reward/retrieved": float(self.outcome.retrieved),
            "reward/hit1": float(self.outcome.answer.hit1),
        }


def score_episode(episode: Episode, settings: RewardSettings) -> RewardBreakdown:
    """Turn rewards and outcome of an episode (SPEC section 4), whatever ended it."""
    return RewardBreakdown(turns=turn_rewards(episode, settings), outcome=outcome_reward(episode, settings))
