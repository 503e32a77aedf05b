"""Training of the small networks beside a policy: the ranker and the verifier."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import nn

from kgr1.config import RankerSettings, VerifierSettings

Item = TypeVar("Item")


def fit(
    network: nn.Module,
    items: list[Item],
    loss_of: Callable[[Sequence[Item]], torch.Tensor],
    settings: RankerSettings | VerifierSettings,
    rng: random.Random,
    on_step: Callable[[int, int, float], None],
    *,
    most_norm: float | None = None,
) -> None:
    """Minimise the loss of batches of ``items``, which ``rng`` shuffles before each pass, and leave training mode.

    AdamW, with a rate that falls to zero, and gradients of a norm of ``most_norm`` at most. ``on_step`` is told the
    step, the number of steps and the loss.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    steps = settings.epochs * -(-len(items) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    network.train()
    step = 0
    for _ in range(settings.epochs):
        rng.shuffle(items)
        for start in range(0, len(items), settings.batch_size):
            loss = loss_of(items[start : start + settings.batch_size])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if most_norm is not None:
                nn.utils.clip_grad_norm_(network.parameters(), most_norm)
            optimizer.step()
            schedule.step()
            step += 1
            on_step(step, steps, loss.item())
    network.eval()
