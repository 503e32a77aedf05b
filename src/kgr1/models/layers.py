"""What the lower layers of a language model make of a text, without the work of those above."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from kgr1.models.attention import masked_forward
from kgr1.models.kv_cache import attention_mask


def layers_of(model: Any) -> int:
    """How many layers a model has."""
    return int(model.config.get_text_config().num_hidden_layers)


def hidden_states(
    model: Any,
    layers: Sequence[int],
    visible: torch.Tensor,
    positions: torch.Tensor,
    ids: torch.Tensor,
    *,
    gradient: bool = False,
) -> list[torch.Tensor]:
    """The hidden states (n, T, E) behind some layers, the first of which is 1, of ``ids`` (n, T).

    Each token sees what ``visible`` (n, 1, T, T) says, and stands where ``positions`` (T,) says. With ``gradient`` they
    can be differentiated, which takes longer.
    """
    decoder = model.get_decoder()
    inputs: dict[str, Any] = {
        "input_ids": ids,
        "position_ids": positions[None],
        "use_cache": False,
        "output_hidden_states": True,
    }
    # One more than is asked for: the last one is normalised.
    with _cut_off(decoder, max(layers) + 1):
        if gradient:
            output = decoder(attention_mask=attention_mask(decoder, visible, positions), **inputs)
        else:
            output = masked_forward(decoder, visible, positions, **inputs)
    return [output.hidden_states[layer] for layer in layers]


@contextmanager
def _cut_off(decoder: Any, layers: int) -> Iterator[None]:
    """Let a decoder compute its first ``layers`` only, if it is of those that ask their configuration how many."""
    config = decoder.config.get_text_config()
    usual = config.num_hidden_layers
    config.num_hidden_layers = min(usual, layers)
    try:
        yield
    finally:
        config.num_hidden_layers = usual
