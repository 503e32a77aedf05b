"""Forward passes over a kept cache, with attention as plain matrix products on a CPU.

The fused kernel of torch 2.13 for CPUs reads keys once for every head and has no code of its own for single queries;
one decoding step of 32 episodes with 600 tokens each takes ten times as long as two matrix products and a softmax
(bfloat16, Zen 5). With grouped heads the queries that share keys are one product, so nothing is repeated.

The function is offered to transformers by its interface for attention functions, and used inside
:func:`masked_forward` only, so the model keeps its own attention for everything else.

Shapes: n rows, Tq queries, T keys, H heads, K key-value heads, E head dimension.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface

from kgr1.models.kv_cache import ADDING, attention_mask


def product_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of ``query`` (n, H, Tq, E) over ``key`` and ``value`` (n, K, T, E); returns (n, Tq, H, E) and None.

    ``attention_mask`` (n, 1, Tq, T) is added to the scores; n may be 1 for all rows.
    """
    rows, heads, length, size = query.shape
    groups, width = key.shape[1], key.shape[2]
    share = heads // groups
    query = (query * (size**-0.5 if scaling is None else scaling)).reshape(rows * groups, share * length, size)
    key = key.reshape(rows * groups, width, size)
    scores = torch.bmm(query, key.transpose(1, 2)).view(rows, groups, share, length, width)
    weights = torch.softmax(scores.add_(attention_mask[:, :, None]), dim=-1)
    found = torch.bmm(
        weights.view(rows * groups, share * length, width), value.reshape(rows * groups, width, value.shape[-1])
    )
    return found.view(rows, heads, length, -1).transpose(1, 2).contiguous(), None


AttentionInterface.register(ADDING, product_attention)


def masked_forward(model: Any, visible: torch.Tensor, positions: torch.Tensor | None = None, **inputs: Any) -> Any:
    """The output of ``model`` for ``inputs``, each token seeing what ``visible`` (n, 1, Tq, T) says.

    ``positions`` are those of :func:`kgr1.models.kv_cache.attention_mask`, which raises the errors. No gradient.
    """
    with torch.no_grad(), _products(model):
        return model(attention_mask=attention_mask(model, visible, positions), **inputs)


@contextmanager
def _products(model: Any) -> Iterator[None]:
    """Use :func:`product_attention` where it is the faster one and computes the same."""
    usual = getattr(model.config.get_text_config(), "_attn_implementation", None)
    device = next(model.parameters()).device
    if usual != "sdpa" or device.type != "cpu" or not getattr(model, "_supports_attention_backend", False):
        yield
        return
    with attention_called(model, ADDING):
        yield


@contextmanager
def attention_called(model: Any, name: str) -> Iterator[None]:
    """Let the model use the attention function that transformers knows by ``name``."""
    text = model.config.get_text_config()
    usual = text._attn_implementation
    text._attn_implementation = name
    try:
        yield
    finally:
        text._attn_implementation = usual
