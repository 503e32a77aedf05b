"""The tree of token sequences, and attention on it against separate sequences."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

from kgr1.errors import ModelError  # noqa: E402
from kgr1.grpo.tree import build_tree  # noqa: E402
from kgr1.grpo.tree_attention import forward_tree, takes_trees, tree_attention  # noqa: E402

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=8)


@given(SEQUENCES)
def test_every_sequence_can_be_read_off_the_tree_and_nothing_is_there_twice(sequences: list[list[int]]) -> None:
    tree = build_tree(sequences)
    assert [[tree.ids[place] for place in places] for places in tree.places] == sequences
    assert all([tree.positions[p] for p in places] == list(range(len(places))) for places in tree.places)
    assert len(tree.ids) == len({tuple(s[:n]) for s in sequences for n in range(1, len(s) + 1)})


@given(SEQUENCES)
def test_the_way_down_to_a_token_is_what_stands_before_it(sequences: list[list[int]]) -> None:
    tree = build_tree(sequences)
    assert [place for node in tree.nodes for place in range(node.start, node.stop)] == list(range(len(tree.ids)))
    for places in tree.places:
        last = next(node for node in tree.nodes if node.start <= places[-1] < node.stop)
        way = [p for index in last.above for p in range(tree.nodes[index].start, tree.nodes[index].stop)]
        assert (*way, *range(last.start, places[-1] + 1)) == places


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


def test_a_model_that_ignores_the_tree_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = grouped_model(2, torch.float32)
    states = torch.zeros(1, 2, 3, 8)
    with pytest.raises(ModelError, match="hand on"):
        tree_attention(model, states, states, states, None)
    monkeypatch.setattr(model.config, "num_hidden_layers", 4)  # as if one layer used attention of its own
    with pytest.raises(ModelError, match="do not use the attention"):
        forward_tree(model, build_tree([[1, 2], [1, 3]]))
