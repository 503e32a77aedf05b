"""Attention of a tree of tokens: every token looks at what stands before it in its own sequence.

The tree (:mod:`kgr1.models.tree`) goes through the model as one sequence without padding. Whatever the model does token
by token needs no care; the attention is done node by node, over the keys of the nodes above and its own. So the cost is
that of the distinct tokens, and the result that of separate sequences up to floating-point rounding.

The function is offered to transformers by its interface for attention functions, and used inside :func:`forward_tree`
only, so the model keeps its own attention for everything else.

Shapes: N places of the tree, D hidden size, H heads, K key-value heads, E head dimension, n tokens of a node, m tokens
above it.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv

from kgr1.errors import ModelError
from kgr1.grpo.tree_products import Block, attend_by_products, tree_blocks
from kgr1.models.attention import attention_called
from kgr1.models.tree import TokenTree

NAME = "kgr1_tree"
"""What transformers calls the function."""

_FULL = "full_attention"


class TreeLayout:
    """What the attention needs to know of a tree, the same for all layers."""

    def __init__(self, tree: TokenTree, device: torch.device) -> None:
        self.tree = tree
        self.sizes = [node.stop - node.start for node in tree.nodes]
        self.calls = 0
        self._device = device

    @cached_property
    def blocks(self) -> list[Block]:
        """What :func:`kgr1.grpo.tree_products.attend_by_products` wants to know."""
        return tree_blocks(self.tree)

    @cached_property
    def masks(self) -> list[torch.Tensor | None]:
        """One for each node, (n, m + n), True where a token may look; None where a plain causal or no mask does it."""
        return [self._mask(index, self._device) for index in range(len(self.sizes))]

    def _mask(self, index: int, device: torch.device) -> torch.Tensor | None:
        own, above = self.sizes[index], sum(self.sizes[node] for node in self.tree.nodes[index].above)
        if not above or own == 1:
            return None
        return torch.ones(own, above + own, dtype=torch.bool, device=device).tril(above)


def tree_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    tree: TreeLayout | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of ``query`` (1, H, N, E) over ``key`` and ``value`` (1, K, N, E); returns (1, N, H, E) and None.

    Raises :class:`ModelError` if the model did not hand on ``tree``.
    """
    if tree is None:
        raise ModelError("The model does not hand on arguments to its attention, so its episodes cannot share tokens.")
    tree.calls += 1
    grouped = query.shape[1] != key.shape[1]
    if grouped and query.device.type != "cpu":  # elsewhere kernels with a mask want as many keys as queries
        groups = query.shape[1] // key.shape[1]
        key, value, grouped = repeat_kv(key, groups), repeat_kv(value, groups), False
    if query.dtype == torch.bfloat16 and query.device.type == "cpu" and not dropout:
        return attend_by_products(query, key, value, tree.blocks, scaling), None
    queries, keys, values = (torch.split(states, tree.sizes, dim=2) for states in (query, key, value))
    outputs = []
    for index, node in enumerate(tree.tree.nodes):
        seen = [*node.above, index]
        mask = tree.masks[index]
        outputs.append(
            torch.nn.functional.scaled_dot_product_attention(
                queries[index],
                torch.cat([keys[i] for i in seen], dim=2),
                torch.cat([values[i] for i in seen], dim=2),
                attn_mask=mask,
                dropout_p=dropout,
                is_causal=not node.above and tree.sizes[index] > 1,
                scale=scaling,
                enable_gqa=grouped,
            )
        )
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, tree_attention)


def takes_trees(model: Any) -> bool:
    """True if :func:`forward_tree` computes what the model (or the base of a ``PeftModel``) computes.

    That needs attention that can be exchanged, layers that do nothing else across tokens and see all of them (no
    sliding window), and ``sdpa``: models with another default need more than keys and values. As the output layer is
    applied to the result, there may be nothing before or behind it, such as a scale or a cap of the logits.
    """
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    text = inner.config.get_text_config()
    kinds = getattr(text, "layer_types", None)
    return (
        bool(getattr(inner, "_supports_attention_backend", False))
        and text._attn_implementation == "sdpa"
        and set(kinds or [_FULL]) == {_FULL}
        and (kinds is not None or getattr(text, "sliding_window", None) is None)
        and _ends_with_its_head(inner)
    )


def _ends_with_its_head(inner: Any) -> bool:
    """True if the logits are what the output layer makes of the final hidden states as they are; found by trying."""
    head = inner.get_output_embeddings()
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        inner.base_model.register_forward_hook(lambda _, args, output: seen.update(hidden=output.last_hidden_state)),
        head.register_forward_hook(lambda _, args, output: seen.update(read=args[0], written=output)),
    ]
    try:
        with torch.no_grad():
            ids = torch.arange(4, device=inner.get_input_embeddings().weight.device)[None]
            logits = inner(input_ids=ids, use_cache=False).logits
    finally:
        for hook in hooks:
            hook.remove()
    return torch.equal(seen["hidden"], seen["read"]) and torch.equal(seen["written"].to(logits.dtype), logits)


def forward_tree(inner: Any, tree: TokenTree) -> torch.Tensor:
    """Final hidden states (N, D) of the tokens of a tree, from a model for which :func:`takes_trees` holds."""
    device = inner.get_input_embeddings().weight.device
    layout = TreeLayout(tree, device)
    text = inner.config.get_text_config()
    with attention_called(inner, NAME):
        output = inner.base_model(
            input_ids=torch.tensor([tree.ids], device=device),
            position_ids=torch.tensor([tree.positions], device=device),
            use_cache=False,
            tree=layout,
        )
    if layout.calls != text.num_hidden_layers:
        raise ModelError("The model has layers that do not use the attention they are given; train another model.")
    hidden: torch.Tensor = output.last_hidden_state[0]
    return hidden
