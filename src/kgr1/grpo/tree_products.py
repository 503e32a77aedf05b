"""The attention of a tree of tokens as matrix products and a softmax, a block of tokens at a time.

The way back computes the weights of the attention again, so that none of them are kept: those of a long tree would be
gigabytes. On a processor with instructions for bfloat16 this takes half of the time of the fused kernel of torch 2.13
and less, most of it saved on the way back. In float32 it is slower.

Shapes: N places of the tree, H heads, K key-value heads, E head dimension, F that of values, n tokens of a block, m
places that the last of them may look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from kgr1.models.tree import TokenTree

BLOCK = 256
"""Tokens of a block at most: what is after it is not computed for it."""


class Block(NamedTuple):
    """Neighbours in a node, places ``start`` to ``stop`` (exclusive) of the tree.

    ``spans`` are the ranges of places that they may look at, in the order of positions; the last one ends with the
    tokens themselves, which look at those before them only.
    """

    start: int
    stop: int
    spans: tuple[tuple[int, int], ...]


def tree_blocks(tree: TokenTree) -> list[Block]:
    """All places of the tree as blocks."""
    blocks = []
    for node in tree.nodes:
        for start in range(node.start, node.stop, BLOCK):
            stop = min(start + BLOCK, node.stop)
            spans: list[tuple[int, int]] = []
            for first, last in [(tree.nodes[above].start, tree.nodes[above].stop) for above in node.above]:
                _extend(spans, first, last)
            _extend(spans, node.start, stop)
            blocks.append(Block(start, stop, tuple(spans)))
    return blocks


def _extend(spans: list[tuple[int, int]], start: int, stop: int) -> None:
    """Add a range, as a part of the last one if it goes on there: what is one range need not be copied together."""
    if spans and spans[-1][1] == start:
        spans[-1] = (spans[-1][0], stop)
    else:
        spans.append((start, stop))


def attend_by_products(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, blocks: Sequence[Block], scaling: float | None
) -> torch.Tensor:
    """Attention of ``query`` (1, H, N, E) over ``key`` (1, K, N, E) and ``value`` (1, K, N, F), as (1, N, H, F).

    The heads that share keys are one product. ``scaling`` is 1 / sqrt(E) by default. The way back has no derivative.
    """
    heads, places, size = query.shape[1:]
    groups = key.shape[1]
    query = query[0] * (size**-0.5 if scaling is None else scaling)
    # (K, N, H / K, E): the queries of a place that share keys stand together.
    query = query.view(groups, heads // groups, places, size).transpose(1, 2).contiguous()
    with torch.autocast(query.device.type, enabled=False):
        apply: Any = _Products.apply
        found: torch.Tensor = apply(query, key[0].to(query.dtype), value[0].to(query.dtype), blocks)
    # (K, N, H / K, F) to (1, N, H, F); without groups the view would do, but not be contiguous.
    return found.transpose(0, 1).reshape(1, places, heads, -1).contiguous()


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, blocks: Sequence[Block]
    ) -> torch.Tensor:
        found = value.new_empty(*query.shape[:3], value.shape[-1])
        for block in blocks:
            here = _rows(query, block)
            weights = _weights(here, _seen(key, block), block)
            found[:, block.start : block.stop].view(*here.shape[:2], -1).copy_(weights @ _seen(value, block))
        ctx.save_for_backward(query, key, value)
        ctx.blocks = blocks
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        for_query = torch.empty_like(query)
        # Many blocks look at the same places, so their shares are added up with more digits.
        wide = torch.promote_types(query.dtype, torch.float32)
        for_key, for_value = torch.zeros_like(key, dtype=wide), torch.zeros_like(value, dtype=wide)
        grad = grad.contiguous()
        for block in ctx.blocks:
            here, slopes = _rows(query, block), _rows(grad, block)
            keys, values = _seen(key, block), _seen(value, block)
            weights = _weights(here, keys, block)
            _add(for_value, block, weights.transpose(1, 2) @ slopes)
            # dS = W * (dW - rowsum(W * dW)), with dW = dO V^T
            slopes = torch.ops.aten._softmax_backward_data(slopes @ values.transpose(1, 2), weights, -1, weights.dtype)
            _rows(for_query, block).copy_(slopes @ keys)
            _add(for_key, block, slopes.transpose(1, 2) @ here)
        return for_query, for_key.to(key.dtype), for_value.to(value.dtype), None


def _rows(states: torch.Tensor, block: Block) -> torch.Tensor:
    """(K, n x H / K, ...) of contiguous (K, N, H / K, ...), without copying."""
    return states[:, block.start : block.stop].view(len(states), -1, states.shape[-1])


def _seen(states: torch.Tensor, block: Block) -> torch.Tensor:
    """(K, m, ...) of (K, N, ...)."""
    parts = [states[:, start:stop] for start, stop in block.spans]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _add(total: torch.Tensor, block: Block, slopes: torch.Tensor) -> None:
    """Add ``slopes`` (K, m, ...) to where they belong in ``total`` (K, N, ...)."""
    parts = torch.split(slopes, [stop - start for start, stop in block.spans], dim=1)
    for (start, stop), part in zip(block.spans, parts, strict=True):
        total[:, start:stop] += part


def _weights(here: torch.Tensor, keys: torch.Tensor, block: Block) -> torch.Tensor:
    """How much each row looks at each place, (K, n x H / K, m)."""
    scores = here @ keys.transpose(1, 2)
    own = block.stop - block.start
    if own > 1:
        rows = here.shape[1]
        scores[:, :, -own:] += _bias(BLOCK, rows // own, here.dtype, here.device)[:rows, :own]
    return torch.softmax(scores, dim=-1)


@lru_cache(maxsize=8)
def _bias(size: int, share: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(size x share, size), minus infinity for what is after a token and 0 elsewhere; each token ``share`` times."""
    hidden = torch.full((size, size), -torch.inf, dtype=dtype, device=device)
    return hidden.triu(1).repeat_interleave(share, dim=0)
