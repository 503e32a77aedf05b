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

from kgr1.errors import ModelError

FULL, SLIDING = "full_attention", "sliding_attention"

ADDING = "kgr1_products"
"""Attention of this project's own, :mod:`kgr1.models.attention`."""

GROWTH = 256
"""Positions are allocated in multiples of this."""


def context_limit(config: Any) -> int:
    """How many positions a model with this cache can attend to.

    A window of attention that slides is no limit, see :func:`attention_mask`. Raises :class:`ModelError` for layers
    that keep something else than keys and values (recurrent or convolutional states).
    """
    text = config.get_text_config()
    other = sorted(set(_kinds(text)) - {FULL, SLIDING})
    if other:
        raise ModelError(
            f"The model has layers of a kind ({', '.join(other)}) that the built-in engine cannot sample from; "
            "serve it with an OpenAI-compatible server instead."
        )
    limit = getattr(text, "max_position_embeddings", None)
    return int(limit) if limit else 1 << 30


def attention_mask(
    model: Any, visible: torch.Tensor, positions: torch.Tensor | None = None
) -> torch.Tensor | dict[str, torch.Tensor]:
    """The mask for ``visible`` (n, 1, Tq, T), True where a token may look, as the model expects it.

    A token sees itself and all that stand before it in its sequence. ``positions`` (T,) says at which position of its
    sequence each of the T tokens stands; None stands for one sequence, whose tokens follow each other.

    A model whose layers look through a sliding window gets the window, too: a window of w positions shows a token
    itself and the w - 1 before it. Where only some layers have one, the result is one mask for each kind of layer.
    Only ``sdpa`` reads Booleans; other attention adds the mask to its scores. Raises :class:`ModelError` for kernels
    without masks of this kind.
    """
    text = model.config.get_text_config()
    kind = getattr(text, "_attn_implementation", None) or "sdpa"
    if kind not in ("sdpa", "eager", ADDING):
        raise ModelError(f"The built-in engine cannot mask '{kind}' attention; load the model with sdpa or eager.")
    dtype = next(model.parameters()).dtype

    def laid_out(mask: torch.Tensor) -> torch.Tensor:
        if kind == "sdpa":
            return mask
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)

    window = getattr(text, "sliding_window", None)
    kinds = set(_kinds(text)) or {SLIDING}
    if not window or SLIDING not in kinds or visible.shape[-1] <= window:
        return laid_out(visible)
    if positions is None:
        positions = torch.arange(visible.shape[-1], device=visible.device)
    own = visible.sum(dim=-1, keepdim=True) - 1  # a token sees as many others as stand before it
    near = visible & (positions > own - window)
    return {FULL: laid_out(visible), SLIDING: laid_out(near)} if len(kinds) > 1 else laid_out(near)


def _kinds(text: Any) -> tuple[str, ...]:
    """The kinds of attention of the layers, empty where the configuration does not tell them apart."""
    return tuple(getattr(text, "layer_types", None) or ())


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
        # One after the other, so that not all of both is there twice.
        self.keys = self._grown(self.keys, wanted)
        self.values = self._grown(self.values, wanted)
        self.positions = wanted

    def _grown(self, stored: torch.Tensor, positions: int) -> torch.Tensor:
        shape = (self.layers, self.rows, self._heads, positions, self._dim)
        result = torch.zeros(shape, dtype=self._dtype, device=self._device)
        if self.positions:
            result[:, :, :, : self.positions] = stored
        return result

    def copy(self, source: int, target: int, positions: int, start: int = 0) -> None:
        """Copy the tokens of row ``source`` from ``start`` on and before ``positions`` to row ``target``."""
        part = slice(start, positions)
        self.keys[:, target, :, part] = self.keys[:, source, :, part]
        self.values[:, target, :, part] = self.values[:, source, :, part]

    def view(self, first: int, count: int, starts: torch.Tensor, width: int) -> RowView:
        """A transformers cache over rows ``first .. first+count`` for tokens starting at ``starts`` (count,)."""
        return RowView(self, first, count, starts, width)

    def packed(self, rows: torch.Tensor, positions: torch.Tensor, width: int) -> PackedView:
        """A transformers cache for tokens of several rows in one sequence: which row and position each (T,) is for."""
        return PackedView(self, rows, positions, width)

    def branch(self, row: int, positions: int) -> BranchView:
        """A transformers cache for what could follow the first ``positions`` tokens of a row; nothing is written."""
        return BranchView(self, row, positions)


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


class PackedView(Cache):  # type: ignore[misc]
    """What one forward pass over tokens of several rows sees of a :class:`RowCache`; each has a row and a position."""

    def __init__(self, store: RowCache, rows: torch.Tensor, positions: torch.Tensor, width: int) -> None:
        super().__init__(layers=[])
        self._store, self._rows, self._positions, self._width = store, rows, positions, width

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store (1, H, T, D) new keys and values; returns views (R, H, width, D) of all rows, not of one."""
        keys, values = self._store.keys[layer_idx], self._store.values[layer_idx]
        keys[self._rows, :, self._positions] = key_states[0].transpose(0, 1)
        values[self._rows, :, self._positions] = value_states[0].transpose(0, 1)
        return keys[:, :, : self._width], values[:, :, : self._width]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions and masks are always passed explicitly, so nobody may rely on this."""
        return int(self._positions.max())


class BranchView(Cache):  # type: ignore[misc]
    """What one forward pass that is only a trial sees of a row of a :class:`RowCache`; nothing is written."""

    def __init__(self, store: RowCache, row: int, positions: int) -> None:
        super().__init__(layers=[])
        self._store, self._row, self._positions = store, row, positions

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the stored keys and values with (1, H, Tq, D) new ones behind them, (1, H, positions + Tq, D)."""
        part = layer_idx, slice(self._row, self._row + 1), slice(None), slice(self._positions)
        keys = torch.cat([self._store.keys[part], key_states], dim=2)
        return keys, torch.cat([self._store.values[part], value_states], dim=2)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions and masks are always passed explicitly, so nobody may rely on this."""
        return self._positions
