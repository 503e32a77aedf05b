"""The attention of a tree as matrix products against softmax attention written out, token by token."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from kgr1.grpo import tree_products as module  # noqa: E402
from kgr1.grpo.tree_products import attend_by_products, tree_blocks  # noqa: E402
from kgr1.models.tree import TokenTree, build_tree  # noqa: E402

HEADS = {"three to one": (6, 2), "one for all": (4, 1), "no groups": (3, 3)}


def deep_tree(seed: int = 0) -> TokenTree:
    """Seven sequences: a branch below a branch below a branch, nodes of one token, and two sequences on their own."""
    rng = random.Random(seed)

    def some(count: int) -> list[int]:
        return [rng.randrange(50) for _ in range(count)]

    root, turn, link = some(7), some(4), some(1)
    deep = root + turn + link
    return build_tree(
        [deep + some(5), deep + some(3), root + turn + some(1), root + turn, root + some(6), some(4), some(1)]
    )


def states(tree: TokenTree, heads: int, groups: int, dtype: Any, values: int = 4) -> list[Any]:
    """Query, key and value as a model hands them on: (1, heads, N, size), with the heads of a place together."""
    generator = torch.Generator().manual_seed(heads)
    shapes = ((heads, 4), (groups, 4), (groups, values))
    return [
        torch.randn(1, len(tree.ids), count, size, generator=generator, dtype=torch.float64)
        .to(dtype)
        .transpose(1, 2)
        .requires_grad_()
        for count, size in shapes
    ]


def written_out(tree: TokenTree, query: Any, key: Any, value: Any, scaling: float) -> Any:
    """(1, N, H, F), each place by itself, over the places of its sequence up to it."""
    found: dict[int, Any] = {}
    share = query.shape[1] // key.shape[1]
    for places in tree.places:
        for index, place in enumerate(places):
            seen = list(places[: index + 1])
            rows = []
            for head in range(query.shape[1]):
                scores = key[0, head // share, seen] @ query[0, head, place] * scaling
                rows.append(torch.softmax(scores, dim=0) @ value[0, head // share, seen])
            found[place] = torch.stack(rows)
    return torch.stack([found[place] for place in range(len(tree.ids))])[None]


@pytest.mark.parametrize("block", [1, 3, 256])
@pytest.mark.parametrize("scaling", [None, 0.3])
@pytest.mark.parametrize("heads", HEADS)
def test_values_and_gradients_are_those_of_attention_written_out(
    monkeypatch: pytest.MonkeyPatch, heads: str, scaling: float | None, block: int
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    tree = deep_tree()
    given_states = states(tree, *HEADS[heads], torch.float64)
    got = attend_by_products(*given_states, tree_blocks(tree), scaling)
    wanted = written_out(tree, *given_states, scaling=0.5 if scaling is None else scaling)
    assert torch.allclose(got, wanted, atol=1e-12)
    pull = torch.randn(got.shape, dtype=torch.float64)
    gradients = [torch.autograd.grad((found * pull).sum(), given_states) for found in (got, wanted)]
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_values_may_be_wider_than_keys() -> None:
    tree = deep_tree()
    given_states = states(tree, 6, 2, torch.float64, values=7)
    got = attend_by_products(*given_states, tree_blocks(tree), None)
    assert got.shape == (1, len(tree.ids), 6, 7)
    assert torch.allclose(got, written_out(tree, *given_states, scaling=0.5), atol=1e-12)


def test_the_gradient_is_that_of_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 2)
    tree = build_tree([[1, 2, 3, 4, 5], [1, 2, 3, 6], [1, 7], [8]])
    given_states = states(tree, 3, 1, torch.float64)
    assert torch.autograd.gradcheck(lambda *s: attend_by_products(*s, tree_blocks(tree), None), given_states)


@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16])
def test_autocast_has_no_say(autocast: Any) -> None:
    tree = deep_tree()
    given_states = states(tree, 6, 2, torch.bfloat16)
    wanted = attend_by_products(*given_states, tree_blocks(tree), None)
    with torch.autocast("cpu", dtype=autocast):
        assert torch.equal(attend_by_products(*given_states, tree_blocks(tree), None), wanted)
        query, key, value = given_states
        mixed = attend_by_products(query, key.float(), value.float(), tree_blocks(tree), None)
    assert torch.equal(mixed, wanted)


def test_no_weights_of_the_attention_are_kept() -> None:
    tree = build_tree([[n % 7 for n in range(200)]])
    given_states = states(tree, 6, 2, torch.float32)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        attend_by_products(*given_states, tree_blocks(tree), None)
    assert kept
    assert max(kept) == 6 * 200 * 4  # the queries; the weights would be 6 * 200 * 200


def test_the_gradient_itself_has_none() -> None:
    tree = deep_tree()
    query, key, value = states(tree, 4, 2, torch.float32)
    found = attend_by_products(query, key, value, tree_blocks(tree), None)
    (gradient,) = torch.autograd.grad((found**2).sum(), query, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=8), st.integers(1, 5))
def test_blocks_look_at_what_stands_before_them(sequences: Sequence[Sequence[int]], size: int) -> None:
    tree = build_tree(sequences)
    before = {place: places[: index + 1] for places in tree.places for index, place in enumerate(places)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", size)
        blocks = tree_blocks(tree)
    assert sorted(place for block in blocks for place in range(block.start, block.stop)) == list(range(len(tree.ids)))
    for block in blocks:
        assert 0 < block.stop - block.start <= size
        seen = tuple(place for start, stop in block.spans for place in range(start, stop))
        assert seen == before[block.stop - 1]
        assert set(range(block.start, block.stop)) <= set(before[block.stop - 1])
        assert all(one[1] < other[0] for one, other in zip(block.spans, block.spans[1:], strict=False))
