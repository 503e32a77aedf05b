"""A key-value cache with one row an episode, kept across turns.

Memory is allocated once per row and position; a decode step writes one position per row in place and attends over
views, so nothing is concatenated or copied while episodes grow at different speeds. Episodes that end leave a hole,
which is filled by moving the last row, so that live rows are always the first ones.

Shapes: L layers, R rows, H key-value heads, T positions, D head dimension.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import Cache

GROWTH = 256
"""Positions are allocated in multiples of this."""


class RowCache:
    """Keys and values of all live episodes, (L, R, H, T, D) each."""

    def __init__(self, config: Any, rows: int, dtype: torch.dtype, device: torch.device) -> None:
        text = config.get_text_config()
        self.layers = int(text.num_hidden_layers)
        self._heads = int(getattr(text, "num_key_value_heads", None) or text.num_attention_heads)
        self._dim = int(getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)
        self._dtype, self._device = dtype, device
        self.rows = rows
        self.positions = 0
        self.keys = torch.empty(0)
        self.values = torch.empty(0)
        self.reserve(GROWTH)

    def reserve(self, positions: int) -> None:
        """Make room for at least ``positions`` tokens in every row, keeping what is stored."""
        if positions <= self.positions:
            return
        wanted = -(-positions // GROWTH) * GROWTH
        shape = (self.layers, self.rows, self._heads, wanted, self._dim)
        keys = torch.zeros(shape, dtype=self._dtype, device=self._device)
        values = torch.zeros(shape, dtype=self._dtype, device=self._device)
        if self.positions:
            keys[:, :, :, : self.positions] = self.keys
            values[:, :, :, : self.positions] = self.values
        self.keys, self.values, self.positions = keys, values, wanted

    def copy(self, source: int, target: int, positions: int) -> None:
        """Copy the first ``positions`` tokens of row ``source`` to row ``target``."""
        self.keys[:, target, :, :positions] = self.keys[:, source, :, :positions]
        self.values[:, target, :, :positions] = self.values[:, source, :, :positions]

    def view(self, first: int, count: int, starts: torch.Tensor, width: int) -> RowView:
        """A transformers cache over rows ``first .. first+count`` for tokens starting at ``starts`` (count,)."""
        return RowView(self, first, count, starts, width)


class RowView(Cache):  # type: ignore[misc]
    """What one forward pass sees of a :class:`RowCache`: writes at each row's own position, reads up to ``width``."""

    def __init__(self, store: RowCache, first: int, count: int, starts: torch.Tensor, width: int) -> None:
        super().__init__(layers=[])
        self._store, self._first, self._count, self._width = store, first, count, width
        self._starts = starts
        self._rows = torch.arange(first, first + count, device=starts.device)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store (n, H, Tq, D) new keys and values; returns views (n, H, width, D) of all of them."""
        keys, values = self._store.keys[layer_idx], self._store.values[layer_idx]
        tokens = key_states.shape[2]
        if tokens == 1:
            keys[self._rows, :, self._starts] = key_states[:, :, 0]
            values[self._rows, :, self._starts] = value_states[:, :, 0]
        else:
            for offset, start in enumerate(self._starts.tolist()):
                keys[self._first + offset, :, start : start + tokens] = key_states[offset]
                values[self._first + offset, :, start : start + tokens] = value_states[offset]
        rows = slice(self._first, self._first + self._count)
        return keys[rows, :, : self._width], values[rows, :, : self._width]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions and masks are always passed explicitly, so nobody may rely on this."""
        return int(self._starts.max())
