"""Forward passes that read what the episodes of the engine have not read, each as few times as it takes.

A pass takes some time however little it reads, as much as :data:`PASS_TOKENS` tokens more would take in another one. So
an episode that reads an observation does so in the pass in which the others read their last token, and none of them is
filled up to its length (:class:`kgr1.models.attention.Packing`). Where a model or device has no attention for that,
single tokens share a pass, and all that is longer takes one of its own.

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


class Passes:
    """Forward passes of one model over the rows of one cache."""

    def __init__(self, model: Any, rows: int) -> None:
        self._model = model
        self._packs = packs(model)
        self.device = next(model.parameters()).device
        self.cache = RowCache(model.config, rows, next(model.parameters()).dtype, self.device)

    def shared(self, rows: Sequence[Row]) -> Iterator[list[Row]]:
        """``rows``, which come in the order of their places, in parts for :meth:`advance`."""
        unread = [len(row.ids) - row.cached for row in rows]
        part: list[Row] = []
        size = 0
        for row, length in zip(rows, unread, strict=True):
            if not self._packs and length > 1:
                yield [row]
                continue
            if part and size + length > MOST_TOKENS and self._packs:
                yield part
                part, size = [], 0
            part.append(row)
            size += length
        if part:
            yield part

    def advance(self, rows: Sequence[Row], among: Sequence[Row]) -> torch.Tensor:
        """Read what each of ``rows``, one of the parts, has not read; returns the logits (n, V) after the last tokens.

        ``among`` are all rows that are live, each in its place.
        """
        if len(rows) == 1:
            return self.read(rows[0], len(rows[0].ids))[None]
        return self._packed(rows) if self._packs else self._batched(rows, among)

    def read(self, row: Row, stop: int) -> torch.Tensor:
        """Read the tokens of a row before ``stop``, one at least; returns the logits (V,) after the last."""
        start = row.cached
        self.cache.reserve(stop)
        positions = torch.arange(start, stop, device=self.device)
        mask = positions[:, None] >= torch.arange(stop, device=self.device)[None, :]
        output = masked_forward(
            self._model,
            mask[None, None],
            input_ids=torch.tensor([row.ids[start:stop]], device=self.device),
            position_ids=positions[None],
            past_key_values=self.cache.view(row.index, 1, positions[:1], stop),
            use_cache=True,
            logits_to_keep=1,
        )
        row.cached = stop
        logits: torch.Tensor = output.logits[0, -1].float()
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
        """The last token of each row.

        The pass covers the rows up to the last of them. One in between that is not among them computes a token that
        nobody reads: what its cache holds already, or will be overwritten with.
        """
        covered = among[: rows[-1].index + 1]
        last = [row.cached if row in rows else max(row.cached - 1, 0) for row in covered]
        starts = torch.tensor(last, device=self.device)
        width = max(last) + 1
        self.cache.reserve(width)
        output = masked_forward(
            self._model,
            (torch.arange(width, device=self.device)[None, :] <= starts[:, None])[:, None, None],
            input_ids=torch.tensor([[row.ids[at]] for row, at in zip(covered, last, strict=True)], device=self.device),
            position_ids=starts[:, None],
            past_key_values=self.cache.view(0, len(covered), starts, width),
            use_cache=True,
            logits_to_keep=1,
        )
        for row in rows:
            row.cached = len(row.ids)
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits[[row.index for row in rows]] if len(rows) < len(covered) else logits
