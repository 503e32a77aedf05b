"""Choosing one of several continuations by the probability of the whole, as a guided turn does with relations.

Greedy decoding takes the most probable first token. Where many names begin alike, as all of ``people.person`` do, their
common beginning can win although another name, as a whole, is the most probable one.

Shapes: n continuations, W tokens of the longest, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from kgr1.models.kv_cache import RowCache, attention_mask

POSITIONS = 512
"""Most predictions of one forward pass: their logits take V x 4 bytes each, some 100 MB together."""


def continuation_scores(
    model: Any, cache: RowCache, row: int, cached: int, unread: Sequence[int], choices: Sequence[Sequence[int]]
) -> torch.Tensor:
    """Log-probability (n,) of each of ``choices``, token ids after ``unread``, after ``cached`` tokens of a row.

    ``unread`` has at least one token. The cache stays as it is.
    """
    at_once = max(1, POSITIONS // max(map(len, choices)))
    parts = (choices[start : start + at_once] for start in range(0, len(choices), at_once))
    return torch.cat([_scores(model, cache, row, cached, unread, part) for part in parts])


def _scores(
    model: Any, cache: RowCache, row: int, cached: int, unread: Sequence[int], choices: Sequence[Sequence[int]]
) -> torch.Tensor:
    device = cache.keys.device
    width = max(map(len, choices))
    # The last token of a continuation predicts nothing that is asked for here.
    ids = torch.tensor([[*unread, *choice[:-1], *(0 for _ in range(width - len(choice)))] for choice in choices])
    length = ids.shape[1]
    positions = torch.arange(cached, cached + length, device=device)
    visible = positions[:, None] >= torch.arange(cached + length, device=device)[None, :]
    output = model(
        input_ids=ids.to(device),
        attention_mask=attention_mask(model, visible.expand(len(choices), 1, -1, -1)),
        position_ids=positions.expand(len(choices), -1),
        past_key_values=cache.branches(row, len(choices), cached),
        use_cache=True,
        logits_to_keep=width,
    )
    logprobs = torch.log_softmax(output.logits.float(), dim=-1)  # (n, W, V)
    padded = torch.tensor([[*choice, *(-1 for _ in range(width - len(choice)))] for choice in choices], device=device)
    chosen = logprobs.gather(2, padded.clamp(min=0)[:, :, None])[:, :, 0]
    return chosen.masked_fill(padded < 0, 0.0).sum(dim=1)


def token_logprobs(scores: torch.Tensor, choices: Sequence[Sequence[int]], chosen: int) -> list[float]:
    """Log-probability of each token of ``choices[chosen]``, given that one of the choices (``scores``, (n,)) is made.

    Their sum is that of the whole choice.
    """
    ids = choices[chosen]
    alive = torch.ones(len(choices), dtype=torch.bool)
    mass = torch.logsumexp(scores, dim=0)
    logprobs = []
    for place, token in enumerate(ids):
        alive &= torch.tensor([len(other) > place and other[place] == token for other in choices])
        left = torch.logsumexp(scores[alive], dim=0)
        logprobs.append(min(float(left - mass), 0.0))
        mass = left
    return logprobs
