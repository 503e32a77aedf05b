"""The output layer and its softmax, a few places at a time.

The logits of some hundred places are more memory than any cache holds (V x 4 bytes each), and a softmax with its
gradient goes through them many times. Here a chunk of them is computed, reduced to what is asked for, and forgotten;
the way back computes it again, which is one matrix product.

Shapes: u places, D hidden size, V vocabulary, n tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable

CHUNK = 64
"""Places at a time on a processor: 12 MB of logits with a vocabulary of 49,152."""

DEVICE_CHUNK = 1024
"""Places at a time elsewhere, where reading the output layer again for every chunk costs more than memory."""


def takes_chunks(head: Any) -> bool:
    """True if :func:`chosen_logps` computes what the output layer computes: a frozen linear map without a bias.

    An adapter is another type of module, and what moves weights between devices is a hook or another ``forward``.
    """
    return (
        type(head) is torch.nn.Linear
        and head.bias is None
        and not head.weight.requires_grad
        and not (head._forward_pre_hooks or head._forward_hooks or "forward" in vars(head))
    )


def chosen_logps(
    head: torch.nn.Linear,
    hidden: torch.Tensor,
    which: torch.Tensor,
    targets: torch.Tensor,
    *,
    temperature: float = 1.0,
    entropies: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability (n,) of each of ``targets`` at the places ``which`` (n,) of ``hidden`` (u, D), and entropies.

    The latter are (u,) without a gradient, and zeros unless asked for; both are float32. The matrix product is in the
    number type of autocast where that is on, else in that of ``hidden``, and everything else in float32 at least.
    """
    kind = hidden.device.type
    if torch.is_autocast_enabled(kind) and hidden.dtype != torch.float64:  # which autocast leaves alone
        hidden = hidden.to(torch.get_autocast_dtype(kind))
    weight = head.weight.to(hidden.dtype)
    with torch.autocast(kind, enabled=False):
        apply: Any = _ChosenLogps.apply
        values, entropy = apply(hidden, weight, which, targets, temperature, entropies)
    return values.float(), entropy.float()


class _ChosenLogps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        which: torch.Tensor,
        targets: torch.Tensor,
        temperature: float,
        entropies: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        normalisers = hidden.new_zeros(len(hidden), dtype=_wide(hidden))
        entropy = torch.zeros_like(normalisers)
        values = normalisers.new_zeros(len(targets))
        for start, stop in _chunks(hidden):
            logits = _logits(hidden[start:stop], weight, temperature)
            normalisers[start:stop] = torch.logsumexp(logits, dim=-1)
            here = (which >= start) & (which < stop)
            places = which[here]
            values[here] = logits[places - start, targets[here]] - normalisers[places]
            if entropies:
                logits -= normalisers[start:stop, None]
                entropy[start:stop] = -(logits.exp() * logits).sum(dim=-1)
        ctx.save_for_backward(hidden, weight, which, targets, normalisers)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropy)
        return values, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, weight, which, targets, normalisers = ctx.saved_tensors
        result = torch.empty_like(hidden)
        grad = grad.to(normalisers.dtype) / ctx.temperature
        share = torch.zeros_like(normalisers).index_add_(0, which, grad)
        for start, stop in _chunks(hidden):
            slopes = _logits(hidden[start:stop], weight, ctx.temperature)
            slopes -= normalisers[start:stop, None]
            slopes.exp_().mul_(-share[start:stop, None])
            here = (which >= start) & (which < stop)
            slopes.index_put_((which[here] - start, targets[here]), grad[here], accumulate=True)
            result[start:stop] = slopes.to(weight.dtype) @ weight
        return result, None, None, None, None, None


def _logits(hidden: torch.Tensor, weight: torch.Tensor, temperature: float) -> torch.Tensor:
    logits = (hidden @ weight.T).to(_wide(hidden))
    return logits if temperature == 1.0 else logits / temperature


def _wide(hidden: torch.Tensor) -> torch.dtype:
    return torch.promote_types(hidden.dtype, torch.float32)


def _chunks(hidden: torch.Tensor) -> Iterator[tuple[int, int]]:
    size = CHUNK if hidden.device.type == "cpu" else DEVICE_CHUNK
    for start in range(0, len(hidden), size):
        yield start, min(start + size, len(hidden))
