"""Log-probabilities of completions that share prompts: each distinct prompt is computed once.

The episodes of a GRPO group have the same prompt. Computing it once per group instead of once per episode, dropping the
padding, and applying the output layer to the agent's tokens only saves a third to a half of an update.

Shapes: B episodes, P padded prompt tokens, C padded completion tokens, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache

from kgr1.models.kv_cache import attention_mask


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
    gradient. ``model`` is a causal language model or a ``PeftModel``.
    """
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    prompt_length = input_ids.shape[1] - completion_length
    mask = padding_mask[:, prompt_length:].bool()
    scored = mask if scored is None else scored.bool() & mask
    logps = input_ids.new_zeros((input_ids.shape[0], completion_length), dtype=torch.float32)
    entropies = torch.zeros_like(logps)
    for rows in _equal_prompts(input_ids[:, :prompt_length], padding_mask[:, :prompt_length]):
        length = int(mask[rows].sum(dim=1).max())
        real = padding_mask[rows[0], :prompt_length].bool()
        prompt = input_ids[rows[0], :prompt_length][real][None]
        completion = input_ids[rows, prompt_length : prompt_length + length]
        hidden = _hidden(inner, prompt, completion)  # (n, length, D), hidden[:, i] predicts completion[:, i]
        chosen = scored[rows, :length]
        logits = inner.get_output_embeddings()(hidden[chosen]).float() / temperature
        distribution = torch.log_softmax(logits, dim=-1)
        values = distribution.gather(1, completion[chosen][:, None])[:, 0]
        with torch.no_grad():
            entropy = -(distribution.exp() * distribution).sum(dim=-1)
        row, column = chosen.nonzero(as_tuple=True)
        index = (torch.tensor(rows, device=row.device)[row], column)
        logps = logps.index_put(index, values)
        entropies = entropies.index_put(index, entropy)
    return logps, entropies


def _hidden(inner: Any, prompt: torch.Tensor, completion: torch.Tensor) -> torch.Tensor:
    """Final hidden states (n, C, D) that predict ``completion`` (n, C) after ``prompt`` (1, P).

    Completions are padded on the right and attention is causal, so padding needs no mask.
    """
    count, length = completion.shape
    cache = DynamicCache()  # told of a sliding window, it would forget what the first completion tokens look at
    first: torch.Tensor = inner.base_model(input_ids=prompt, past_key_values=cache, use_cache=True).last_hidden_state[
        :, -1:
    ]
    first = first.expand(count, -1, -1)
    if length == 1:
        return first
    cache.batch_repeat_interleave(count)
    offset = prompt.shape[1]
    positions = torch.arange(offset, offset + length - 1, device=prompt.device)
    visible = torch.arange(offset + length - 1, device=prompt.device)[None, :] <= positions[:, None]
    rest = inner.base_model(
        input_ids=completion[:, :-1],
        attention_mask=attention_mask(inner, visible[None, None].expand(count, 1, -1, -1)),
        position_ids=positions[None].expand(count, -1),
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    return torch.cat([first, rest], dim=1)


def _equal_prompts(prompts: torch.Tensor, masks: torch.Tensor) -> list[list[int]]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, (ids, mask) in enumerate(zip(prompts.tolist(), masks.tolist(), strict=True)):
        groups.setdefault(tuple(i for i, keep in zip(ids, mask, strict=True) if keep), []).append(row)
    return list(groups.values())
