"""Copy the weights of a model in training into the engine that samples from it."""

from __future__ import annotations

from typing import Any

import torch


@torch.no_grad()
def sync_weights(source: Any, target: Any) -> None:
    """Make ``target`` (a plain model) compute what ``source`` computes.

    A ``PeftModel`` is folded on the way: each adapted layer gets W + delta W, computed from the untouched base weights,
    so that nothing accumulates over many calls. Other parameters are copied.
    """
    if not hasattr(source, "peft_config"):
        parameters = dict(source.named_parameters())
        for name, parameter in target.named_parameters():
            parameter.copy_(parameters[name])
        return
    adapted = {
        name: module for name, module in source.get_base_model().named_modules() if hasattr(module, "get_delta_weight")
    }
    for name, module in adapted.items():
        weight = module.get_base_layer().weight
        for adapter in module.active_adapters:
            if adapter in module.lora_A:
                weight = weight + module.get_delta_weight(adapter)
        target.get_submodule(name).weight.copy_(weight)
