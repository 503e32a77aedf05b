"""Forward passes over a kept cache, with attention as plain matrix products on a CPU.

The fused kernel of torch 2.13 for CPUs reads keys once for every head and has no code of its own for single queries;
one decoding step of 32 episodes with 600 tokens each takes ten times as long as two matrix products and a softmax
(bfloat16, Zen 5). With grouped heads the queries that share keys are one product, so nothing is repeated.

The function is offered to transformers by its interface for attention functions, and used inside
:func:`masked_forward` only, so the model keeps its own attention for everything else.

Tokens of several rows can go through one pass as one sequence, :class:`Packing`: all layers but attention take a token
as it comes, and attention is computed for each row with as many queries as it has, so that no row is filled up to the
length of another one.

Shapes: n rows, Tq queries, T keys, H heads, K key-value heads, E head dimension.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from transformers import AttentionInterface

from kgr1.models.kv_cache import ADDING, attention_mask


@dataclass(frozen=True)
class Span:
    """Tokens of a packed sequence from ``start`` up to ``stop``, those of ``row``, which has ``width`` with them."""

    row: int
    start: int
    stop: int
    width: int


class Packing:
    """Which tokens of one sequence (T in all) are for which row of a cache, and how far each row reads.

    ``rows``, different ones in rising order, had ``cached`` tokens before and have ``stops`` with the new ones, one of
    them at least.
    """

    def __init__(self, rows: Sequence[int], cached: Sequence[int], stops: Sequence[int]) -> None:
        lengths = [stop - start for start, stop in zip(cached, stops, strict=True)]
        ends = list(accumulate(lengths))
        spans = [
            Span(row, end - length, end, stop)
            for row, length, end, stop in zip(rows, lengths, ends, stops, strict=True)
        ]
        single = [span for span in spans if span.stop - span.start == 1]
        self.owners = torch.tensor(rows).repeat_interleave(torch.tensor(lengths))  # (T,) rows
        self.last = torch.tensor(ends) - 1  # (len(rows),) places of the last tokens
        self.width = max(stops)
        self.longer = [span for span in spans if span not in single]
        self.singles = torch.tensor([span.start for span in single], dtype=torch.long)  # places of tokens on their own
        self.block = slice(single[0].row, single[-1].row + 1) if single else slice(0)  # the rows of these, and between
        self.within = torch.tensor([span.row - self.block.start for span in single] if single else [], dtype=torch.long)

    @property
    def whole(self) -> bool:
        """Whether no other row lies between those with a single token."""
        return self.block.stop - (self.block.start or 0) == len(self.singles)


# Not an argument of the model: not every architecture hands arguments that it does not know on to its attention.
_PACKING: ContextVar[Packing | None] = ContextVar("packing", default=None)


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

    ``attention_mask`` (n, 1, Tq, T) is added to the scores; n may be 1 for all rows. In a pass with a :class:`Packing`
    the query has one row, whose tokens look at different rows of the keys.
    """
    packing = _PACKING.get()
    if packing is None:
        return _attend(query, key, value, attention_mask, scaling), None
    found = query.new_empty(1, query.shape[2], query.shape[1], value.shape[-1])
    for span in packing.longer:
        tokens, seen = slice(span.start, span.stop), (slice(span.row, span.row + 1), slice(None), slice(span.width))
        mask = attention_mask[:, :, tokens, : span.width]
        found[:, tokens] = _attend(query[:, :, tokens], key[seen], value[seen], mask, scaling)
    if len(packing.singles):
        found[0, packing.singles] = _attend_singles(query, key, value, attention_mask, scaling, packing)
    return found, None


def _attend_singles(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None,
    packing: Packing,
) -> torch.Tensor:
    """What rows with a single token find, (S, H, E), in one product that copies no keys.

    Rows in between look for nothing, at what lies in their caches, and what they find is left out.
    """
    asked, mask = query[0].transpose(0, 1)[packing.singles], attention_mask[0, 0, packing.singles]
    if packing.whole:
        return _attend(asked[:, :, None], key[packing.block], value[packing.block], mask[:, None, None], scaling)[:, 0]
    rows = key[packing.block].shape[0]
    asked = asked.new_zeros(rows, *asked.shape[1:]).index_copy_(0, packing.within, asked)
    mask = mask.new_zeros(rows, mask.shape[-1]).index_copy_(0, packing.within, mask)
    found = _attend(asked[:, :, None], key[packing.block], value[packing.block], mask[:, None, None], scaling)
    return found[packing.within, 0]


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor, scaling: float | None
) -> torch.Tensor:
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
    return found.view(rows, heads, length, -1).transpose(1, 2).contiguous()


AttentionInterface.register(ADDING, product_attention)


def masked_forward(
    model: Any,
    visible: torch.Tensor,
    positions: torch.Tensor | None = None,
    packing: Packing | None = None,
    **inputs: Any,
) -> Any:
    """The output of ``model`` for ``inputs``, each token seeing what ``visible`` (n, 1, Tq, T) says.

    ``positions`` are those of :func:`kgr1.models.kv_cache.attention_mask`, which raises the errors. A ``packing`` is
    for models that :func:`packs` is true of. No gradient.
    """
    token = _PACKING.set(packing)
    try:
        with torch.no_grad(), _products(model):
            return model(attention_mask=attention_mask(model, visible, positions), **inputs)
    finally:
        _PACKING.reset(token)


def packs(model: Any) -> bool:
    """Whether :func:`masked_forward` uses the attention of this module for the model."""
    usual = getattr(model.config.get_text_config(), "_attn_implementation", None)
    device = next(model.parameters()).device
    return usual == "sdpa" and device.type == "cpu" and bool(getattr(model, "_supports_attention_backend", False))


@contextmanager
def _products(model: Any) -> Iterator[None]:
    """Use :func:`product_attention` where it is the faster one and computes the same."""
    if not packs(model):
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
