"""Log-probabilities of completions that begin alike: each distinct token is computed once.

The episodes of a GRPO group have the same prompt, and often the same first turns. Laying them out as a tree
(:mod:`kgr1.models.tree`) instead of as padded rows, and applying the output layer to the agent's tokens only, saves
half of an update and more.

Shapes: B episodes, P padded prompt tokens, C padded completion tokens, V vocabulary, N places of the tree, n scored
tokens, u distinct places that predict them.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from peft.helpers import disable_input_dtype_casting

from kgr1.grpo.head import chosen_logps, takes_chunks
from kgr1.grpo.tree_attention import forward_tree
from kgr1.models.tree import build_tree


def shared_prefix_logps(
    model: Any,
    input_ids: torch.Tensor,
    padding_mask: torch.Tensor,
    completion_length: int,
    *,
    temperature: float = 1.0,
    scored: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability and entropy of each completion token, (B, C) both; 0 where not scored.

    ``input_ids`` and ``padding_mask`` (B, P + C) are prompts padded on the left and completions padded on the right;
    ``scored`` (B, C) picks the completion tokens of interest (default: all that are not padding). Entropies carry no
    gradient. ``model`` is a causal language model or a ``PeftModel`` that :func:`kgr1.grpo.tree_attention.takes_trees`.
    """
    tokens = scored_tokens(model, input_ids, padding_mask, completion_length, scored)
    values, entropies = tokens.logps(temperature, entropies=True)
    empty = input_ids.new_zeros((len(input_ids), completion_length), dtype=torch.float32)
    at = (tokens.row, tokens.column)
    return empty.index_put(at, values), empty.index_put(at, entropies[tokens.which])


@dataclass(frozen=True)
class ScoredTokens:
    """The scored tokens ``targets`` (n,) of ``row`` and ``column`` (n,) of the completions.

    Token i is predicted at place ``which[i]`` of ``hidden`` (u, D), to which ``head`` is to be applied.
    """

    head: Any
    hidden: torch.Tensor
    which: torch.Tensor
    targets: torch.Tensor
    row: torch.Tensor
    column: torch.Tensor

    def logps(self, temperature: float = 1.0, *, entropies: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probability (n,) of each token; entropy (u,) of each place, without a gradient, zeros unless wanted."""
        if takes_chunks(self.head):
            return chosen_logps(
                self.head, self.hidden, self.which, self.targets, temperature=temperature, entropies=entropies
            )
        distribution = torch.log_softmax(self.head(self.hidden).float() / temperature, dim=-1)  # (u, V)
        values = distribution[self.which, self.targets]
        with torch.no_grad():
            entropy = (
                -(distribution.exp() * distribution).sum(dim=-1) if entropies else torch.zeros_like(distribution[:, 0])
            )
        return values, entropy


def scored_tokens(
    model: Any,
    input_ids: torch.Tensor,
    padding_mask: torch.Tensor,
    completion_length: int,
    scored: torch.Tensor | None = None,
) -> ScoredTokens:
    """Where the scored tokens are predicted, each place once; arguments as for :func:`shared_prefix_logps`."""
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    prompt_length = input_ids.shape[1] - completion_length
    mask = padding_mask.bool()
    scored = mask[:, prompt_length:] if scored is None else scored.bool() & mask[:, prompt_length:]
    # The last token of a sequence predicts nothing.
    rows = [ids[real][:-1].tolist() for ids, real in zip(input_ids, mask, strict=True)]
    tree = build_tree(rows)
    with _no_detour(model):
        hidden = forward_tree(inner, tree)  # (N, D)
    row, column = scored.nonzero(as_tuple=True)
    prompts = mask[:, :prompt_length].sum(dim=1).tolist()
    before = [tree.places[r][prompts[r] - 1 + c] for r, c in zip(row.tolist(), column.tolist(), strict=True)]
    places, which = torch.unique(torch.tensor(before, dtype=torch.long, device=hidden.device), return_inverse=True)
    return ScoredTokens(
        head=inner.get_output_embeddings(),
        hidden=hidden[places],
        which=which,
        targets=input_ids[:, prompt_length:][row, column],
        row=row,
        column=column,
    )


def _no_detour(model: Any) -> AbstractContextManager[Any]:
    """Keeps adapters from converting their input to float32, which autocast would convert back before it is used.

    That is a seventh of the time of a step in bfloat16, and changes no bit of the result.
    """
    on = hasattr(model, "peft_config") and torch.is_autocast_enabled(next(model.parameters()).device.type)
    return disable_input_dtype_casting(model) if on else nullcontext()
