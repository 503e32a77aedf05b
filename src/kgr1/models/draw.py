"""Drawing a token from a distribution, reproducibly: each episode has a random generator of its own.

Shapes: n rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from kgr1.config import SamplingSettings

BLOCK = 512
"""Tokens whose probabilities are added up before one among them is looked for."""


def draw(
    logits: torch.Tensor, sampling: Sequence[SamplingSettings], random: Sequence[np.random.Generator]
) -> tuple[list[int], list[float]]:
    """Draw one token per row of ``logits`` (n, V); returns ids and log-probabilities under the tempered distribution.

    Greedy rows (temperature 0) take the most probable token and report its log-probability at temperature 1. With
    ``top_p`` < 1 the log-probability is that of the truncated, renormalised distribution.
    """
    logits = _tempered(logits, sampling)
    highest = logits.amax(dim=-1)
    weights = (logits - highest[:, None]).exp_()
    masses = _masses(weights)
    sampled = [index for index, settings in enumerate(sampling) if settings.temperature]
    greedy = [index for index, settings in enumerate(sampling) if not settings.temperature]
    ids = torch.empty(len(sampling), dtype=torch.long, device=logits.device)
    if greedy:
        ids[greedy] = logits[greedy].argmax(dim=-1) if sampled else logits.argmax(dim=-1)
    if sampled:
        uniform = torch.tensor([random[index].random() for index in sampled], dtype=torch.float64, device=logits.device)
        ids[sampled] = _inverse(weights, masses[sampled], uniform, torch.tensor(sampled, device=logits.device))
    chosen: torch.Tensor = (logits.gather(1, ids[:, None])[:, 0] - highest).double() - masses.sum(dim=-1).log()
    return ids.tolist(), chosen.clamp_(max=0.0).tolist()


def _tempered(logits: torch.Tensor, sampling: Sequence[SamplingSettings]) -> torch.Tensor:
    """``logits`` (n, V) over the temperatures, without what is outside of a nucleus."""
    temperatures = [settings.temperature or 1.0 for settings in sampling]
    if set(temperatures) != {1.0}:
        logits = logits / torch.tensor(temperatures, dtype=logits.dtype, device=logits.device)[:, None]
    cut = [index for index, settings in enumerate(sampling) if settings.temperature and settings.top_p < 1.0]
    if cut:
        logits = logits.clone()
    for index in cut:
        logits[index] = _nucleus(torch.log_softmax(logits[index], dim=-1), sampling[index].top_p)
    return logits


def _masses(weights: torch.Tensor) -> torch.Tensor:
    """Sums (n, ceil(V / BLOCK)) of neighbouring ``weights`` (n, V), added up in the precision of these."""
    whole = weights.shape[1] // BLOCK * BLOCK
    parts = [weights[:, :whole].reshape(len(weights), -1, BLOCK).sum(dim=-1)]
    if whole < weights.shape[1]:
        parts.append(weights[:, whole:].sum(dim=-1, keepdim=True))
    return torch.cat(parts, dim=-1).double()


def _inverse(weights: torch.Tensor, masses: torch.Tensor, uniform: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """For some ``rows`` (k,) the token where the share ``uniform`` (k,) of the ``weights`` (n, V) lies; never one of 0.

    Only the block in which it lies is gone through token by token: ``masses`` (k, m) are the sums of the blocks.
    """
    block, rest = _search(masses, uniform * masses.sum(dim=-1))
    places = block[:, None] * BLOCK + torch.arange(BLOCK, device=weights.device)
    inside = weights[rows[:, None], places.clamp(max=weights.shape[1] - 1)].double()
    found, _ = _search(inside.masked_fill_(places >= weights.shape[1], 0.0), rest)
    return (block * BLOCK + found).clamp_(max=weights.shape[1] - 1)  # rows that are not numbers are told later


def _search(parts: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """In which of some parts (n, m) of a sum ``target`` (n,) lies, and how far behind the beginning of that part."""
    ends = parts.cumsum(dim=-1)
    # Rounding could put it behind the last part, or behind the last one that is not 0.
    target = torch.minimum(target, torch.nextafter(ends[:, -1], torch.zeros_like(target)))
    place = torch.searchsorted(ends, target[:, None], right=True).clamp_(max=parts.shape[-1] - 1)
    before = ends.gather(1, place) - parts.gather(1, place)
    return place[:, 0], target - before[:, 0]


def _nucleus(logprobs: torch.Tensor, top_p: float) -> torch.Tensor:
    """``logprobs`` (V,) of the fewest tokens that have ``top_p`` together, and no probability for the others."""
    ordered, order = logprobs.sort(descending=True)
    mass = ordered.exp().cumsum(dim=-1)
    dropped = order[1:][mass[:-1] >= top_p]
    kept = logprobs.clone()
    kept[dropped] = -torch.inf
    return torch.log_softmax(kept, dim=-1)
