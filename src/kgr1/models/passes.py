"""Forward passes that read what the episodes of the engine have not read, each as few times as it takes.

A pass takes some time however little it reads, as much as :data:`PASS_TOKENS` tokens more would take in another one. So
an episode that reads an observation does so in the pass in which the others read their last token, and none of them is
filled up to its length (:class:`kgr1.models.attention.Packing`). Where a model or device has no attention for that,
rows share a pass as far as filling up costs less than a pass more.

Shapes: n rows, V vocabulary, T tokens of a pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from kgr1.models.attention import Packing, masked_forward, packs
from kgr1.models.kv_cache import RowCache
from kgr1.models.row import Row

PASS_TOKENS = 16
"""A forward pass takes about as long as reading this many tokens more in another one."""

MOST_TOKENS = 512
"""Rows share a pass of up to this many tokens: by then a pass more costs little, and memory grows with it."""


def read(model: Any, cache: RowCache, index: int, ids: Sequence[int], cached: int = 0) -> torch.Tensor:
    """Read ``ids`` of one row of a cache, but for those that are ``cached``; returns the logits (V,) after the last."""
    device, stop = cache.keys.device, len(ids)
    cache.reserve(stop)
    positions = torch.arange(cached, stop, device=device)
    mask = positions[:, None] >= torch.arange(stop, device=device)[None, :]
    output = masked_forward(
        model,
        mask[None, None],
        input_ids=torch.tensor([ids[cached:]], device=device),
        position_ids=positions[None],
        past_key_values=cache.view(index, 1, positions[:1], stop),
        use_cache=True,
        logits_to_keep=1,
    )
    logits: torch.Tensor = output.logits[0, -1].float()
    return logits


class Passes:
    """Forward passes of one model over the rows of one cache."""

    def __init__(self, model: Any, rows: int) -> None:
        self._model = model
        self._packs = packs(model)
        self.device = next(model.parameters()).device
        self.cache = RowCache(model.config, rows, next(model.parameters()).dtype, self.device)

    def shared(self, rows: Sequence[Row]) -> Iterator[list[Row]]:
        """``rows`` in parts for :meth:`advance`, each in the order of their places."""
        if not self._packs:
            together = _alike(rows)
            yield from ([row] for row in rows if row not in together)
            if together:
                yield together
            return
        part: list[Row] = []
        size = 0
        for row in sorted(rows, key=_unread):  # a single token never takes a pass of its own
            if part and size + _unread(row) > MOST_TOKENS:
                yield sorted(part, key=lambda row: row.index)
                part, size = [], 0
            part.append(row)
            size += _unread(row)
        if part:
            yield sorted(part, key=lambda row: row.index)

    def advance(self, rows: Sequence[Row], among: Sequence[Row]) -> torch.Tensor:
        """Read what each of ``rows``, one of the parts, has not read; returns the logits (n, V) after the last tokens.

        ``among`` are all rows that are live, each in its place.
        """
        if len(rows) == 1:
            return self.read(rows[0], len(rows[0].ids))[None]
        if not self._packs:
            return self._batched(rows, among)
        try:
            return self._packed(rows)
        except (RuntimeError, TypeError, ValueError):
            # Some architectures change the mask before their attention gets it. Nothing is lost: what was written into
            # the cache is written again.
            self._packs = False
            return torch.stack([self.read(row, len(row.ids)) for row in rows])

    def read(self, row: Row, stop: int) -> torch.Tensor:
        """Read the tokens of a row before ``stop``, one at least; returns the logits (V,) after the last."""
        logits = read(self._model, self.cache, row.index, row.ids[:stop], row.cached)
        row.cached = stop
        if stop == row.prompt_length:
            row.prompt_logits = logits
        return logits

    def _packed(self, rows: Sequence[Row]) -> torch.Tensor:
        """The tokens of all rows as one sequence."""
        packing = Packing([row.index for row in rows], [row.cached for row in rows], [len(row.ids) for row in rows])
        self.cache.reserve(packing.width)
        positions = torch.cat([torch.arange(row.cached, len(row.ids)) for row in rows])
        output = masked_forward(
            self._model,
            (torch.arange(packing.width)[None, :] <= positions[:, None])[None, None],
            input_ids=torch.tensor([[token for row in rows for token in row.ids[row.cached :]]]),
            position_ids=positions[None],
            past_key_values=self.cache.packed(packing.owners, positions, packing.width),
            use_cache=True,
            logits_to_keep=packing.last,
            packing=packing,
        )
        for row in rows:
            row.cached = len(row.ids)
        logits: torch.Tensor = output.logits[0].float()
        return logits

    def _batched(self, rows: Sequence[Row], among: Sequence[Row]) -> torch.Tensor:
        """As many of the last tokens of each row as the one with most unread tokens has, read or not.

        The pass covers the rows up to the last of them. A row in between that is not among them computes tokens that
        nobody reads: what its cache holds already, or will be overwritten with.
        """
        count = max(map(_unread, rows))
        covered = among[: rows[-1].index + 1]
        ends = [len(row.ids) if row in rows else max(row.cached, count) for row in covered]
        ids = [
            [*row.ids[end - count : end], *(0 for _ in range(end - len(row.ids)))]
            for row, end in zip(covered, ends, strict=True)
        ]
        starts = torch.tensor(ends, device=self.device) - count
        width = max(ends)
        self.cache.reserve(width)
        positions = starts[:, None] + torch.arange(count, device=self.device)[None, :]
        output = masked_forward(
            self._model,
            (torch.arange(width, device=self.device)[None, None, :] <= positions[:, :, None])[:, None],
            input_ids=torch.tensor(ids, device=self.device),
            position_ids=positions,
            past_key_values=self.cache.view(0, len(covered), starts, width),
            use_cache=True,
            logits_to_keep=1,
        )
        for row in rows:
            row.cached = len(row.ids)
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits[[row.index for row in rows]] if len(rows) < len(covered) else logits


def _unread(row: Row) -> int:
    return len(row.ids) - row.cached


def _alike(rows: Sequence[Row]) -> list[Row]:
    """Which rows to read in one pass, each as many tokens as the longest of them has unread; others take one each."""
    shortest = min((len(row.ids) for row in rows), default=0)

    def cost(count: int) -> int:
        alone = [_unread(row) for row in rows if _unread(row) > count]
        return (len(rows) - len(alone)) * count + sum(PASS_TOKENS + length for length in alone)

    count = min((length for length in map(_unread, rows) if length <= shortest), key=cost, default=0)
    return [row for row in rows if _unread(row) <= count]
