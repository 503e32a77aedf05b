"""Drawing a token from a distribution, reproducibly: each episode has a random generator of its own.

Shapes: n rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from kgr1.config import SamplingSettings


def draw(
    logits: torch.Tensor, sampling: Sequence[SamplingSettings], random: Sequence[np.random.Generator]
) -> tuple[list[int], list[float]]:
    """Draw one token per row of ``logits`` (n, V); returns ids and log-probabilities under the tempered distribution.

    Greedy rows (temperature 0) take the most probable token and report its log-probability at temperature 1. With
    ``top_p`` < 1 the log-probability is that of the truncated, renormalised distribution.
    """
    temperatures = torch.tensor([s.temperature or 1.0 for s in sampling], dtype=logits.dtype, device=logits.device)
    logprobs = torch.log_softmax(logits / temperatures[:, None], dim=-1)
    for index, settings in enumerate(sampling):
        if settings.temperature and settings.top_p < 1.0:
            logprobs[index] = _nucleus(logprobs[index], settings.top_p)
    ids = logprobs.argmax(dim=-1)
    sampled = [index for index, settings in enumerate(sampling) if settings.temperature]
    if sampled:
        cumulative = logprobs[sampled].double().exp().cumsum(dim=-1)
        uniform = torch.tensor([random[index].random() for index in sampled], dtype=torch.float64, device=logits.device)
        # The last cumulative value is 1 up to rounding; scaling by it keeps every draw inside the support.
        position = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True)[:, 0]
        ids[sampled] = position.clamp(max=logits.shape[-1] - 1)
    chosen = logprobs.gather(1, ids[:, None])[:, 0]
    return ids.tolist(), chosen.tolist()


def _nucleus(logprobs: torch.Tensor, top_p: float) -> torch.Tensor:
    ordered, order = logprobs.sort(descending=True)
    mass = ordered.exp().cumsum(dim=-1)
    dropped = order[1:][mass[:-1] >= top_p]
    kept = logprobs.clone()
    kept[dropped] = -torch.inf
    return torch.log_softmax(kept, dim=-1)
