"""Attention on a tree of token sequences against separate sequences."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402
from transformers.modeling_outputs import CausalLMOutput  # noqa: E402

from kgr1.errors import ModelError  # noqa: E402
from kgr1.grpo import tree_attention as module  # noqa: E402
from kgr1.grpo.tree_attention import TreeLayout, forward_tree, takes_trees, tree_attention  # noqa: E402
from kgr1.models.tree import build_tree  # noqa: E402


def grouped_model(key_heads: int, dtype: Any) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=key_heads,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config).to(dtype)


def family(seed: int) -> list[list[int]]:
    """Sequences that branch at several depths, one that is the beginning of another, and one that stands alone."""
    rng = random.Random(seed)

    def some(count: int) -> list[int]:
        return [rng.randrange(50) for _ in range(count)]

    root, turn = some(9), some(6)
    return [root + turn + some(5), root + turn + some(1), root + turn, root + some(8), root, some(4), some(1)]


@pytest.mark.parametrize("key_heads", [4, 2, 1])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-6), ("float32", 1e-5)])
def test_states_and_gradients_are_those_of_separate_sequences(key_heads: int, dtype: str, tolerance: float) -> None:
    model = grouped_model(key_heads, getattr(torch, dtype))
    sequences = family(key_heads)
    torch.manual_seed(1)
    weights = [torch.randn(len(s), 32, dtype=getattr(torch, dtype)) for s in sequences]

    def run(states: list[Any]) -> dict[str, Any]:
        model.zero_grad()
        sum((s * w).sum() for s, w in zip(states, weights, strict=True)).backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    wanted = [model.base_model(input_ids=torch.tensor([s])).last_hidden_state[0] for s in sequences]
    expected = run(wanted)
    tree = build_tree(sequences)
    hidden = forward_tree(model, tree)
    assert len(hidden) == 9 + 6 + 5 + 1 + 8 + 4 + 1 < sum(map(len, sequences))
    got = [hidden[list(places)] for places in tree.places]
    for one, other in zip(got, wanted, strict=True):
        assert torch.allclose(one, other, atol=tolerance, rtol=tolerance)
    gradients = run(got)
    assert gradients.keys() == expected.keys()
    scale = max(float(g.abs().max()) for g in expected.values())
    for name, gradient in expected.items():
        assert torch.allclose(gradients[name], gradient, atol=tolerance * scale, rtol=tolerance), name


def random_states(places: int, heads: int, groups: int) -> list[Any]:
    """Query, key and value (1, heads, N, 16) of bfloat16."""
    generator = torch.Generator().manual_seed(groups)
    shapes = [(1, places, count, 16) for count in (heads, groups, groups)]
    return [torch.randn(shape, generator=generator).to(torch.bfloat16).transpose(1, 2) for shape in shapes]


def error(got: Any, wanted: Any) -> float:
    """Relative error of a tensor as a whole."""
    got, wanted = got.detach().double(), wanted.detach().double()
    return float((got - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("scaling", [None, 0.4])
@pytest.mark.parametrize(("heads", "groups"), [(9, 3), (4, 1), (3, 3)])
def test_bfloat16_is_close_to_float32(heads: int, groups: int, scaling: float | None) -> None:
    """A token that is looked at too early or too late is much more than rounding."""
    tree = build_tree(family(1))
    states = random_states(len(tree.ids), heads, groups)
    torch.manual_seed(2)
    pull = torch.randn(1, len(tree.ids), heads, 16)

    def run(dtype: Any) -> list[Any]:
        given = [part.to(dtype).requires_grad_() for part in states]
        layout = TreeLayout(tree, torch.device("cpu"))
        found, _ = tree_attention(torch.nn.Module(), *given, None, scaling=scaling, tree=layout)
        assert found.dtype == dtype
        assert found.is_contiguous()
        return [found, *torch.autograd.grad((found.float() * pull).sum(), given)]

    for got, wanted in zip(run(torch.bfloat16), run(torch.float32), strict=True):
        assert got.shape == wanted.shape
        assert error(got, wanted) < 0.015


@pytest.mark.parametrize("key_heads", [4, 2, 1])
def test_a_model_in_bfloat16_is_close_to_float32(key_heads: int) -> None:
    tree = build_tree(family(key_heads))
    exact, rounded = grouped_model(key_heads, torch.float32), grouped_model(key_heads, torch.bfloat16)
    torch.manual_seed(1)
    pull = torch.randn(len(tree.ids), 32)
    states = {model: forward_tree(model, tree) for model in (exact, rounded)}
    assert error(states[rounded], states[exact]) < 0.02
    for found in states.values():
        (found.float() * pull).sum().backward()
    for (name, weight), other in zip(exact.named_parameters(), rounded.parameters(), strict=True):
        if weight.grad is not None:
            assert error(other.grad, weight.grad) < 0.04, name


def test_matrix_products_are_for_bfloat16_on_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    fused, products = torch.nn.functional.scaled_dot_product_attention, module.attend_by_products

    def told(name: str, function: Any) -> Any:
        return lambda *given, **named: (used.append(name), function(*given, **named))[1]

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", told("fused", fused))
    monkeypatch.setattr(module, "attend_by_products", told("products", products))
    tree = build_tree(family(1))

    def ways(dtype: Any, **options: float) -> set[str]:
        used.clear()
        states = [part.to(dtype) for part in random_states(len(tree.ids), 6, 2)]
        tree_attention(torch.nn.Module(), *states, None, tree=TreeLayout(tree, torch.device("cpu")), **options)
        return set(used)

    assert ways(torch.bfloat16) == {"products"}
    assert ways(torch.bfloat16, dropout=0.5) == {"fused"}
    assert ways(torch.float16) == ways(torch.float32) == ways(torch.float64) == {"fused"}


def test_the_model_keeps_its_attention(tiny_model: Path) -> None:
    from kgr1.models.weights import load_model

    model = load_model(str(tiny_model)).model
    ids = torch.tensor([[5, 6, 7, 8]])
    before = model(input_ids=ids).logits
    forward_tree(model, build_tree([[5, 6, 7], [5, 9]]))
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(model(input_ids=ids).logits, before)
    with pytest.raises(IndexError):
        forward_tree(model, build_tree([[10**6]]))
    assert model.config._attn_implementation == "sdpa"


def test_models_that_cannot_be_shared_are_told_apart() -> None:
    model = grouped_model(2, torch.float32)
    assert takes_trees(model)
    for other in ("linear_attention", "sliding_attention"):
        model.config.layer_types = ["full_attention", other, "full_attention"]
        assert not takes_trees(model)
    model.config.layer_types = ["full_attention"] * 3
    assert takes_trees(model)
    model.set_attn_implementation("eager")
    assert not takes_trees(model)


def test_what_changes_logits_behind_the_output_layer_is_noticed() -> None:
    from transformers import CohereConfig, CohereForCausalLM, GraniteConfig, GraniteForCausalLM

    small = {"vocab_size": 30, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 0, "attn_implementation": "sdpa"}
    for scale in (1.0, 4.0):
        granite = GraniteForCausalLM(GraniteConfig(**small, **heads, logits_scaling=scale))
        cohere = CohereForCausalLM(CohereConfig(**small, **heads, logit_scale=scale))
        assert takes_trees(granite) is takes_trees(cohere) is (scale == 1.0)
        assert not any(part._forward_hooks for part in granite.modules())


def test_what_changes_hidden_states_before_the_output_layer_is_noticed() -> None:
    class Halved(LlamaForCausalLM):
        factor = 0.5

        def forward(self, **inputs: Any) -> Any:
            return CausalLMOutput(logits=self.lm_head(self.model(**inputs).last_hidden_state * self.factor))

    model = Halved(grouped_model(2, torch.float32).config)
    assert not takes_trees(model)
    model.factor = 1.0
    assert takes_trees(model)


def test_a_model_that_ignores_the_tree_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = grouped_model(2, torch.float32)
    states = torch.zeros(1, 2, 3, 8)
    with pytest.raises(ModelError, match="hand on"):
        tree_attention(model, states, states, states, None)
    monkeypatch.setattr(model.config, "num_hidden_layers", 4)  # as if one layer used attention of its own
    with pytest.raises(ModelError, match="do not use the attention"):
        forward_tree(model, build_tree([[1, 2], [1, 3]]))
