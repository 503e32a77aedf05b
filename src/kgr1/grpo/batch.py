"""From episodes to token sequences: what was prompt, what the agent wrote, and in which turn.

The ids are those of the rollout. Nothing is decoded and encoded again, so training sees the tokens that were sampled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kgr1.types import Episode, Turn


@dataclass(frozen=True)
class EpisodeTokens:
    """One episode as tokens. P prompt tokens, T tokens after the prompt.

    ``turn_of_token`` (T,) is the index of the turn in which the agent chose a token, or -1 for one that it did not: a
    token of an observation, or one that a grammar left no choice about. ``logprobs`` (T,) are those of the sampler, 0
    at tokens that were not chosen.
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    turn_of_token: tuple[int, ...]
    logprobs: tuple[float, ...]

    @property
    def agent_mask(self) -> list[int]:
        """(T,) 1 where the agent chose the token, else 0."""
        return [int(turn >= 0) for turn in self.turn_of_token]


def episode_tokens(episode: Episode, filler: int) -> EpisodeTokens:
    """Lay an episode out as tokens; an episode without a single sampled token becomes one masked ``filler`` token."""
    ids: list[int] = []
    turns: list[int] = []
    logprobs: list[float] = []
    for index, turn in enumerate(episode.turns):
        ids.extend(turn.token_ids)
        turns.extend(_chosen(turn, index))
        logprobs.extend(turn.logprobs or [0.0] * len(turn.token_ids))
        ids.extend(turn.information_ids)
        turns.extend([-1] * len(turn.information_ids))
        logprobs.extend([0.0] * len(turn.information_ids))
    while len(ids) > 1 and turns[-1] < 0:  # nothing is chosen after these, so they cost only time
        del ids[-1], turns[-1], logprobs[-1]
    if not ids:
        ids, turns, logprobs = [filler], [-1], [0.0]
    return EpisodeTokens(episode.prompt_ids or (filler,), tuple(ids), tuple(turns), tuple(logprobs))


def _chosen(turn: Turn, index: int) -> list[int]:
    """``index`` for each token of a turn that could have been another one, else -1.

    In a guided turn the log-probabilities are those of what the grammar allows. Where that is one token alone, or the
    model is sure of one among them, it is exactly 0, and so is its gradient. The free model may see it otherwise, and
    would learn to spell.
    """
    if not turn.forced:
        return [index] * len(turn.token_ids)
    return [index if logprob < 0 else -1 for logprob in turn.logprobs]


def pad_turns(rows: Sequence[Sequence[float]]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Pad one list of turn rewards per episode to (B, S), with the mask of existing turns (B, S)."""
    width = max((len(row) for row in rows), default=0) or 1
    values = np.zeros((len(rows), width))
    mask = np.zeros((len(rows), width), dtype=np.bool_)
    for index, row in enumerate(rows):
        values[index, : len(row)] = row
        mask[index, : len(row)] = True
    return values, mask


def episode_seed(seed: int, step: int, question_id: str, sample: int) -> int:
    """A seed for one episode that depends on nothing else, so that a resumed run samples the same episodes."""
    digest = hashlib.blake2b(f"{seed}:{step}:{question_id}:{sample}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
