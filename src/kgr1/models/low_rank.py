"""Small additions to the linear layers of a language model that another network owns: LoRA that comes and goes.

With a rank r, a linear layer (E_in to E_out) gives

    y + s B A x

in the place of y, with A (r, E_in), B (E_out, r), at first zero, and a constant s (Hu et al., "LoRA: Low-Rank
Adaptation of Large Language Models", 2022, section 4.1). A policy's own adapter is a part of its model. These additions
are there only within :meth:`LowRank.applied`, so that the same model reads for two purposes, one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from kgr1.errors import ModelError

SCALE = 2.0
"""s; what alpha = 2 r is to LoRA."""

Sizes = Mapping[str, tuple[int, int]]
"""E_in and E_out of linear layers, by the number of the decoder layer and their name in it, as in "3.mlp.up_proj"."""


class LowRank(nn.Module):
    """The matrices A and B for the linear layers of a decoder; see the top of this file."""

    def __init__(self, sizes: Sizes, rank: int) -> None:
        super().__init__()
        self._names = tuple(sizes)
        self.inner = nn.ParameterList(torch.randn(rank, size) / math.sqrt(size) for size, _ in sizes.values())
        self.outer = nn.ParameterList(torch.zeros(size, rank) for _, size in sizes.values())

    @contextmanager
    def applied(self, decoder: Any) -> Iterator[None]:
        """Add them to what the layers of ``decoder`` give."""
        with ExitStack() as stack:
            for name, inner, outer in zip(self._names, self.inner, self.outer, strict=True):
                handle = decoder.layers.get_submodule(name).register_forward_hook(_adding(inner, outer))
                stack.callback(handle.remove)
            yield


def linear_sizes(decoder: Any, layers: Sequence[int]) -> dict[str, tuple[int, int]]:
    """The sizes of the linear layers of some layers of a decoder, counted from 0.

    Raises :class:`ModelError` for a decoder whose layers are not where those of Llama and its kin are.
    """
    if not hasattr(decoder, "layers"):
        raise ModelError(
            f"A {type(decoder).__name__} keeps its layers elsewhere than Llama, Qwen, Gemma or Mistral do."
        )
    found: dict[str, tuple[int, int]] = {}

    def visit(module: Any, name: str) -> None:
        # A layer that has an adapter of its own has its linear layers within, and counts as one.
        if hasattr(module, "in_features"):
            found[name] = int(module.in_features), int(module.out_features)
            return
        for part, child in module.named_children():
            visit(child, f"{name}.{part}")

    for layer in layers:
        visit(decoder.layers[layer], str(layer))
    return found


def _adding(inner: nn.Parameter, outer: nn.Parameter) -> Any:
    def add(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        into = functional.linear(inputs[0], inner.to(output))
        return output + SCALE * functional.linear(into, outer.to(output))

    return add
