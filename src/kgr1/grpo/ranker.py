"""Training a ranker of relations (:mod:`kgr1.models.ranker`) on the choices of an expert."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from kgr1.config import RankerSettings
from kgr1.datasets.hops import Choice
from kgr1.errors import SettingsError
from kgr1.grpo.checkpoint import write_file
from kgr1.grpo.fit import fit
from kgr1.models.pretrained import RANKER_FILE
from kgr1.models.ranker import Ranker
from kgr1.types import DirectedRelation

MOST = 120
"""Relations of one choice that are compared in training; of more, some are drawn."""


def untrained_ranker(
    model: Any,
    tokenizer: Any,
    choices: Sequence[Choice],
    *,
    seed: int,
    on_read: Callable[[int, int], None] = lambda done, total: None,
) -> Ranker:
    """A ranker whose weights are still random, for what was chosen; the model reads all questions and relations once.

    ``on_read`` is told how many of how many texts have been read. Raises :class:`SettingsError` if there is no choice.
    """
    if not choices:
        raise SettingsError(
            "There is nothing to learn: every hop of these questions has one relation to follow; take other questions, "
            "or raise coldstart.trajectories."
        )
    torch.manual_seed(seed)
    ranker = Ranker.new(model, tokenizer, {choice.relations[choice.chosen][1] for choice in choices})
    ranker.standardise(
        ((choice.question.text, choice.question.topics) for choice in choices),
        (name for choice in choices for _, name in choice.relations),
        on_read,
    )
    return ranker


def train_ranker(
    ranker: Ranker,
    choices: Sequence[Choice],
    settings: RankerSettings,
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> None:
    """Teach a ranker to find what was chosen: cross entropy of its scores, AdamW, a rate that falls to zero.

    ``on_step`` is told the step, the number of steps and the loss.
    """
    torch.manual_seed(settings.seed)
    rng = random.Random(settings.seed)
    network = ranker.network

    def loss(batch: Sequence[Choice]) -> torch.Tensor:
        scores = network(ranker.lay_out([_laid_out(choice) for choice in batch]))
        return functional.cross_entropy(scores, torch.tensor([choice.chosen for choice in batch]))

    fit(network, [_few(choice, rng) for choice in choices], loss, settings, rng, on_step)


def save_ranker(ranker: Ranker, folder: Path) -> Path:
    """Write the ranker into the folder of a policy, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / RANKER_FILE, ranker.to_bytes())
    return folder / RANKER_FILE


def right_share(ranker: Ranker, choices: Sequence[Choice], most: int = 1) -> float:
    """The share of choices of which the right relation is among the ``most`` best."""
    right = 0
    for choice in choices:
        scores = ranker.scores(*_laid_out(choice))
        right += sum(not score < scores[choice.chosen] for score in scores) <= most  # the right one is not below itself
    return right / max(len(choices), 1)


def _laid_out(choice: Choice) -> tuple[str, Sequence[str], Sequence[str], Sequence[DirectedRelation]]:
    return choice.question.text, choice.question.topics, choice.before, choice.relations


def _few(choice: Choice, rng: random.Random) -> Choice:
    """The choice among :data:`MOST` relations at most."""
    if len(choice.relations) <= MOST:
        return choice
    others = [place for place in range(len(choice.relations)) if place != choice.chosen]
    places = [choice.chosen, *sorted(rng.sample(others, MOST - 1))]
    return choice._replace(relations=tuple(choice.relations[place] for place in places), chosen=0)
