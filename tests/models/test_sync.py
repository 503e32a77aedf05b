"""The sampling engine gets exactly what the model in training has become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from kgr1.grpo.policy import lora_config  # noqa: E402
from kgr1.models.sync import sync_weights  # noqa: E402
from kgr1.models.weights import load_model  # noqa: E402

IDS = torch.arange(3, 60)[None]


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def shake(model: Any, seed: int, part: str = "") -> None:
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if part in name and parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.05)


def adapted(folder: Path) -> Any:
    from peft import get_peft_model

    return get_peft_model(load_model(str(folder)).model, lora_config(4))


def test_all_weights(tiny_model: Path) -> None:
    source, target = load_model(str(tiny_model)).model, load_model(str(tiny_model)).model
    shake(source, 1)
    before = {name: value.clone() for name, value in source.state_dict().items()}
    assert not torch.allclose(logits(source), logits(target), atol=1e-3)
    sync_weights(source, target)
    assert torch.equal(logits(source), logits(target))
    assert all(torch.equal(before[name], value) for name, value in source.state_dict().items())
    shake(target, 2)  # a copy, not the same memory
    assert torch.equal(before["model.norm.weight"], source.state_dict()["model.norm.weight"])


def test_an_adapter_is_folded_in(tiny_model: Path) -> None:
    source, target = adapted(tiny_model), load_model(str(tiny_model)).model
    sync_weights(source, target)
    assert torch.equal(logits(target), logits(load_model(str(tiny_model)).model))  # a new adapter changes nothing
    shake(source, 1, "lora_")
    sync_weights(source, target)
    assert torch.allclose(logits(source), logits(target), atol=1e-5)
    assert not torch.allclose(logits(target), logits(load_model(str(tiny_model)).model), atol=1e-3)


def test_many_calls_do_not_drift(tiny_model: Path) -> None:
    source, target = adapted(tiny_model), load_model(str(tiny_model)).model
    first: dict[str, Any] = {}
    for seed in range(20):
        shake(source, seed, "lora_")
        sync_weights(source, target)
        if not first:
            lora = {name: p.detach().clone() for name, p in source.named_parameters() if "lora_" in name}
            first = {name: p.detach().clone() for name, p in target.named_parameters()}
    with torch.no_grad():
        for name, parameter in source.named_parameters():
            if name in lora:
                parameter.copy_(lora[name])
    for _ in range(3):
        sync_weights(source, target)
        assert all(torch.equal(first[name], p) for name, p in target.named_parameters())
    assert all(torch.equal(p, q) for p, q in zip(base(source), base(adapted(tiny_model)), strict=True))


def base(model: Any) -> list[Any]:
    return [parameter for name, parameter in model.named_parameters() if "lora_" not in name]


def test_only_the_active_adapter_counts(tiny_model: Path) -> None:
    source, target = adapted(tiny_model), load_model(str(tiny_model)).model
    source.add_adapter("ref", lora_config(4))
    shake(source, 1, "default")
    wanted = logits(source)
    with torch.no_grad():
        for name, parameter in source.named_parameters():
            if ".ref." in name:
                parameter.normal_()
    sync_weights(source, target)
    assert torch.allclose(logits(target), wanted, atol=1e-5)
