"""What a language model makes of a short text: the mean of its hidden states halfway through its layers.

An input embedding knows a word by itself. Halfway through the layers a word has met those around it, and what comes
later is about the next token more than about the text.

Shapes: n texts, T tokens, E width of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from kgr1.models.layers import hidden_states, layers_of
from kgr1.models.tokens import encode_text

MOST_TEXTS = 1 << 16
"""Vectors of texts that are kept, 150 MB with 576 numbers each."""

BATCH = 32
"""Texts of one forward pass."""


class Context:
    """Vectors of texts, each computed once as long as no more than :data:`MOST_TEXTS` are kept.

    They are those of the weights at that time: whoever trains the model needs another one afterwards.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._layer = layers_of(model) // 2 + 1
        self._known: dict[str, torch.Tensor] = {}

    def vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """(n, E), on the CPU, in 32 bits. A text without tokens is no text; the callers have a word for nothing."""
        unknown = sorted({text for text in texts if text not in self._known}, key=len)
        if len(self._known) + len(unknown) > MOST_TEXTS:
            self._known.clear()
            unknown = sorted(set(texts), key=len)
        for start in range(0, len(unknown), BATCH):
            part = unknown[start : start + BATCH]
            self._known |= dict(zip(part, self._read(part), strict=True))
        width = self._model.get_input_embeddings().weight.shape[1]
        return torch.stack([self._known[text] for text in texts]) if texts else torch.empty(0, width)

    def _read(self, texts: Sequence[str]) -> torch.Tensor:
        device = self._model.get_input_embeddings().weight.device
        rows = [encode_text(self._tokenizer, text) or [0] for text in texts]
        longest = max(map(len, rows))
        there = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
        (states,) = hidden_states(
            self._model,
            [self._layer],
            visible=torch.ones(longest, longest, dtype=torch.bool, device=device).tril()[None, None],
            positions=torch.arange(longest, device=device),
            ids=torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device),
        )
        states = states.float() * there[..., None]
        mean: torch.Tensor = states.sum(1) / there.sum(1, keepdim=True)
        return mean.cpu()
