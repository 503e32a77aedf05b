"""Turn-wise advantages (SPEC section 5): which turn of which episode was better than its group.

Shapes: B episodes, S turns (the longest episode's), T tokens, K groups. Pure numpy.

Three variants by name, with r the turn reward, R the outcome, ``lam`` the weight of the outcome:

- ``turn`` (default): G = r + lam R, one baseline over all turns of the group, population standard deviation;
- ``split``: what the released code does, A = 0.5 A_turn + lam A_outcome, the two normalised apart;
- ``trajectory``: G = mean r + lam R, one advantage an episode, the ablation without turn-wise credit.

With one baseline over all turns a long episode weighs more in it than a short one. ``baseline="episode"`` gives every
turn of an episode with S_n turns the weight 1/S_n instead, so that every episode weighs the same.

Departures from the paper: an episode without a single turn (the policy failed at once) has no action to judge and
stays out of every baseline; a group whose returns are all equal gets advantages of exactly 0, where dividing by eps
would blow rounding errors up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Credit = Literal["turn", "split", "trajectory"]
Baseline = Literal["turn", "episode"]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

EPS = 1e-6
SPLIT_TURN_WEIGHT = 0.5
_TIE = 1e-12  # relative spread up to which returns count as equal; a few hundred roundings of float64


@dataclass(frozen=True)
class Advantages:
    """Advantages of one batch, and which groups had nothing to learn from.

    ``values`` (B, S) is 0 where masked. ``groups`` (K,) are the distinct group numbers in ascending order;
    ``degenerate`` (K,) is True where every advantage of the group is 0 because its returns are all equal.
    """

    values: Floats
    groups: Ints
    degenerate: Bools

    @property
    def degenerate_share(self) -> float:
        """Share of the groups that give no gradient; watch it in training."""
        return float(self.degenerate.mean()) if len(self.degenerate) else 0.0


def compute_advantages(
    kind: Credit,
    turn_rewards: ArrayLike,
    outcome: ArrayLike,
    turn_mask: ArrayLike,
    group: ArrayLike,
    *,
    lam: float = 1.0,
    baseline: Baseline = "turn",
    eps: float = EPS,
) -> Advantages:
    """Advantages of every turn (SPEC section 5).

    ``turn_rewards`` (B, S) and ``turn_mask`` (B, S), True where the episode has the turn; ``outcome`` (B,) and
    ``group`` (B,), the question an episode belongs to. Masked rewards are not read and may be anything. ``baseline``
    weighs the turns in the mean and deviation of ``turn`` and of the turn part of ``split``.
    Raises :class:`ValueError` for an unknown name, shapes that do not fit or a live value that is not finite.

    >>> result = compute_advantages("turn", [[1.0, 0.0]], [1.0], [[True, True]], [0], eps=0.0)
    >>> result.values.tolist(), result.degenerate.tolist()
    ([[1.0, -1.0]], [False])
    """
    if kind not in get_args(Credit) or baseline not in get_args(Baseline):
        raise ValueError(f"Unknown credit '{kind}' or baseline '{baseline}'; choose from {Credit} and {Baseline}.")
    rewards, returns, mask, groups, number = _checked(turn_rewards, outcome, turn_mask, group)
    lengths = mask.sum(axis=1)  # (B,) S_n
    live = lengths > 0  # (B,)
    shares = np.divide(1.0, lengths, out=np.zeros(len(lengths)), where=live)
    weights = np.where(mask, shares[:, None] if baseline == "episode" else 1.0, 0.0)  # (B, S)
    by_turn = np.broadcast_to(number[:, None], mask.shape)
    episode_weights = live.astype(np.float64)
    if kind == "turn":
        values, tied = _normalise(rewards + lam * returns[:, None], weights, by_turn, len(groups), eps)
    elif kind == "split":
        turn_part, turn_tied = _normalise(rewards, weights, by_turn, len(groups), eps)
        outcome_part, outcome_tied = _normalise(returns, episode_weights, number, len(groups), eps)
        values = SPLIT_TURN_WEIGHT * turn_part + lam * outcome_part[:, None]
        tied = turn_tied & (outcome_tied if lam else True)
    else:
        means = rewards.sum(axis=1) * shares
        per_episode, tied = _normalise(means + lam * returns, episode_weights, number, len(groups), eps)
        values = np.broadcast_to(per_episode[:, None], mask.shape)
    return Advantages(values=np.where(mask, values, 0.0), groups=groups, degenerate=tied)


def _normalise(values: Floats, weights: Floats, number: Ints, count: int, eps: float) -> tuple[Floats, Bools]:
    """(x - mean) / (std + eps) inside each of ``count`` groups, weighted, population deviation.

    ``values``, ``weights`` (0 leaves a value out) and ``number`` (the group of a value) have one shape, which the
    first result has too; the second, (count,), is True where the values of a group are all equal and their results 0.
    """
    flat, weight, index = values.ravel(), weights.ravel(), number.ravel()
    used = weight > 0
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(low, index[used], flat[used])
    np.maximum.at(high, index[used], flat[used])
    empty = ~np.isfinite(low)
    low[empty] = high[empty] = 0.0
    tied = high - low <= _TIE * np.maximum(np.abs(low), np.abs(high))
    total = np.bincount(index, weight, count)
    total[total == 0] = 1.0
    mean = np.bincount(index, weight * flat, count) / total
    centred = flat - mean[index]
    deviation = np.sqrt(np.bincount(index, weight * centred**2, count) / total)
    scale = np.where(tied, 1.0, deviation + eps)
    result = np.where(used & ~tied[index], centred / scale[index], 0.0)
    return result.reshape(values.shape), tied


def _checked(
    turn_rewards: ArrayLike, outcome: ArrayLike, turn_mask: ArrayLike, group: ArrayLike
) -> tuple[Floats, Floats, Bools, Ints, Ints]:
    """The inputs as arrays, masked values set to 0, plus the distinct groups (K,) and each episode's place there."""
    mask = np.asarray(turn_mask, dtype=np.bool_)
    rewards = np.asarray(turn_rewards, dtype=np.float64)
    returns = np.asarray(outcome, dtype=np.float64)
    labels = np.asarray(group)
    if mask.ndim != 2 or rewards.shape != mask.shape or not returns.shape == labels.shape == mask.shape[:1]:
        raise ValueError(
            "Expected turn_rewards and turn_mask (B, S), outcome and group (B,); got "
            f"{rewards.shape}, {mask.shape}, {returns.shape} and {labels.shape}."
        )
    rewards = np.where(mask, rewards, 0.0)
    returns = np.where(mask.any(axis=1), returns, 0.0)
    if not (np.isfinite(rewards).all() and np.isfinite(returns).all()):
        raise ValueError("A turn reward or outcome is not a finite number; check the reward weights.")
    groups, number = np.unique(labels.astype(np.int64), return_inverse=True)
    return rewards, returns, mask, groups, number.astype(np.int64)


def spread_to_tokens(turn_advantages: ArrayLike, turn_of_token: ArrayLike) -> Floats:
    """Give every token that the agent wrote in turn t the advantage of turn t: (B, S), (B, T) -> (B, T).

    ``turn_of_token`` is the turn's index, or -1 for prompt, observation and padding tokens, which get 0.
    Raises :class:`ValueError` for shapes that do not fit or a turn that does not exist.

    >>> spread_to_tokens([[0.5, -2.0]], [[-1, 0, 0, -1, 1]]).tolist()
    [[0.0, 0.5, 0.5, 0.0, -2.0]]
    """
    values = np.asarray(turn_advantages, dtype=np.float64)
    turns = np.asarray(turn_of_token)
    if values.ndim != 2 or turns.ndim != 2 or len(values) != len(turns):
        raise ValueError(f"Expected (B, S) advantages and (B, T) turns; got {values.shape} and {turns.shape}.")
    if turns.size and not (turns.min() >= -1 and turns.max() < values.shape[1]):
        raise ValueError(f"turn_of_token must lie between -1 and {values.shape[1] - 1}.")
    padded = np.concatenate([values, np.zeros((len(values), 1))], axis=1)  # index -1 reads the 0
    return np.take_along_axis(padded, np.where(turns < 0, values.shape[1], turns).astype(np.int64), axis=1)
