"""The output layer in chunks against the output layer and a softmax in one piece."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from kgr1.grpo import head as module  # noqa: E402
from kgr1.grpo.head import chosen_logps, takes_chunks  # noqa: E402
from kgr1.grpo.logps import ScoredTokens  # noqa: E402

PLACES, SIZE, VOCABULARY = 7, 5, 40


class Sample:
    """Tokens to be scored: place 4 has none, place 2 has three, two of them the same token."""

    def __init__(self, dtype: Any = None, scale: float = 1.0) -> None:
        dtype = dtype or torch.float32
        generator = torch.Generator().manual_seed(0)
        self.head = torch.nn.Linear(SIZE, VOCABULARY, bias=False, dtype=dtype).requires_grad_(False)
        self.head.weight.copy_(torch.randn(VOCABULARY, SIZE, generator=generator))
        self.hidden = (torch.randn(PLACES, SIZE, generator=generator) * scale).to(dtype).requires_grad_()
        self.which = torch.tensor([2, 0, 2, 6, 1, 2, 3, 5, 6])
        self.targets = torch.tensor([9, 0, 39, 4, 4, 9, 17, 2, 30])
        self.pull = torch.randn(len(self.which), generator=generator)

    def plain(self, temperature: float) -> tuple[Any, Any]:
        """Values and entropies, all in float64."""
        logits = self.hidden.double() @ self.head.weight.double().T
        distribution = torch.log_softmax(logits / temperature, dim=-1)
        return distribution[self.which, self.targets], -(distribution.exp() * distribution).sum(dim=-1)

    def chunks(self, temperature: float = 1.0, *, entropies: bool = True) -> tuple[Any, Any]:
        return chosen_logps(
            self.head, self.hidden, self.which, self.targets, temperature=temperature, entropies=entropies
        )

    def gradient(self, values: Any) -> Any:
        (gradient,) = torch.autograd.grad((values * self.pull).sum(), self.hidden, retain_graph=True)
        return gradient


def error(got: Any, wanted: Any) -> float:
    got, wanted = got.detach().double(), wanted.detach().double()
    return float((got - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("chunk", [1, 2, 3, PLACES, 64])
def test_values_entropies_and_gradients_are_those_of_a_softmax(
    monkeypatch: pytest.MonkeyPatch, chunk: int, temperature: float
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    sample = Sample()
    values, entropies = sample.chunks(temperature)
    wanted, wanted_entropies = sample.plain(temperature)
    assert values.dtype == entropies.dtype == torch.float32
    assert error(values, wanted) < 1e-6
    assert error(entropies, wanted_entropies) < 1e-6
    assert error(sample.gradient(values), sample.gradient(wanted)) < 1e-6
    assert not sample.gradient(values)[4].any()


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("chunk", [2, 64])
def test_in_float64_the_gradient_is_that_of_differences(
    monkeypatch: pytest.MonkeyPatch, chunk: int, temperature: float
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    sample = Sample(torch.float64)

    def values(hidden: Any) -> Any:
        return module._ChosenLogps.apply(hidden, sample.head.weight, sample.which, sample.targets, temperature, False)[
            0
        ]

    assert torch.autograd.gradcheck(values, sample.hidden)
    wanted, _ = sample.plain(temperature)
    assert error(values(sample.hidden), wanted) < 1e-14
    assert error(sample.gradient(values(sample.hidden)), sample.gradient(wanted)) < 1e-14
    rounded, entropies = sample.chunks(temperature)
    assert rounded.dtype == entropies.dtype == torch.float32
    assert error(sample.gradient(rounded), sample.gradient(wanted)) < 1e-14


@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16_is_close_and_sums_in_float32(monkeypatch: pytest.MonkeyPatch, autocast: bool) -> None:
    monkeypatch.setattr(module, "CHUNK", 3)
    sample = Sample(torch.float32 if autocast else torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        values, entropies = sample.chunks(0.6)
        logits = sample.head(sample.hidden).float()
    assert logits.dtype == values.dtype == torch.float32
    wanted, wanted_entropies = sample.plain(0.6)
    gradient = sample.gradient(values)
    assert gradient.dtype == sample.hidden.dtype
    assert error(values, wanted) < 1e-2
    assert error(entropies, wanted_entropies) < 1e-2
    assert error(gradient, sample.gradient(wanted)) < 2e-2
    # Only the product is rounded: the rest is what float32 makes of the rounded logits.
    distribution = torch.log_softmax(logits / 0.6, dim=-1)
    assert error(values, distribution[sample.which, sample.targets]) < 1e-6
    assert error(values, wanted) > 1e-5


def test_large_logits_do_not_overflow() -> None:
    sample = Sample(scale=1e3)
    values, entropies = sample.chunks()
    wanted, wanted_entropies = sample.plain(1.0)
    assert error(values, wanted) < 1e-5
    assert torch.allclose(entropies.double(), wanted_entropies, atol=1e-3)
    assert error(sample.gradient(values), sample.gradient(wanted)) < 1e-4


def test_entropies_have_no_gradient_and_are_zeros_unless_wanted() -> None:
    sample = Sample()
    values, entropies = sample.chunks(entropies=True)
    assert values.requires_grad
    assert not entropies.requires_grad
    assert entropies.shape == (PLACES,)
    assert entropies.min() > 0.1
    assert not sample.chunks(entropies=False)[1].any()
    with torch.no_grad():
        assert torch.equal(sample.chunks()[0], values)


def test_without_scored_tokens_there_is_nothing_and_no_error() -> None:
    sample = Sample()
    none = torch.zeros(0, dtype=torch.long)
    values, entropies = chosen_logps(sample.head, sample.hidden[:0], none, none, entropies=True)
    assert values.shape == entropies.shape == (0,)
    values.sum().backward()
    assert not sample.hidden.grad.any()


@pytest.mark.parametrize("frozen", [True, False])
def test_both_ways_give_the_same_shapes(frozen: bool) -> None:
    sample = Sample()
    sample.head.requires_grad_(not frozen)
    assert takes_chunks(sample.head) is frozen
    for count in (PLACES, 0):
        which = sample.which if count else sample.which[:0]
        targets = sample.targets[: len(which)]
        tokens = ScoredTokens(sample.head, sample.hidden[:count], which, targets, which, which)
        for wanted in (True, False):
            values, entropies = tokens.logps(0.6, entropies=wanted)
            assert values.shape == which.shape
            assert entropies.shape == (count,)
            assert bool(entropies.any()) is (wanted and count > 0)
            assert not entropies.requires_grad


def test_no_logits_are_kept_for_the_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 2)
    sample = Sample()
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        sample.chunks()
    assert kept
    assert max(kept) == VOCABULARY * SIZE < PLACES * VOCABULARY  # the weights


def test_the_gradient_itself_has_none() -> None:
    sample = Sample()
    values, _ = sample.chunks()
    (gradient,) = torch.autograd.grad((values**2).sum(), sample.hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_only_a_frozen_linear_map_is_taken_apart() -> None:
    assert takes_chunks(Sample().head)
    assert not takes_chunks(torch.nn.Linear(2, 3, bias=False))
    assert not takes_chunks(torch.nn.Linear(2, 3).requires_grad_(False))

    class Scaled(torch.nn.Linear):
        def forward(self, hidden: Any) -> Any:
            return super().forward(hidden) * 2

    assert not takes_chunks(Scaled(2, 3, bias=False).requires_grad_(False))
    hooked, moved = Sample().head, Sample().head
    hooked.register_forward_hook(lambda _, inputs, output: output * 2)
    assert not takes_chunks(hooked)
    moved.forward = lambda hidden: hidden  # as accelerate does where weights are on several devices
    assert not takes_chunks(moved)


def test_an_adapter_on_the_output_layer_is_heard_and_trained() -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    from kgr1.grpo.logps import shared_prefix_logps

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        attn_implementation="sdpa",
    )
    model = get_peft_model(
        LlamaForCausalLM(config), LoraConfig(r=2, target_modules=["lm_head"], init_lora_weights=False)
    )
    ids = torch.tensor([[5, 6, 7, 8]])
    assert not takes_chunks(model.get_base_model().get_output_embeddings())
    values, _ = shared_prefix_logps(model, ids, torch.ones_like(ids), 2)
    logits = model(ids).logits
    wanted = torch.log_softmax(logits, dim=-1)[0, [1, 2], [7, 8]]
    assert torch.allclose(values[0], wanted, atol=1e-5)
    trained = [weight for name, weight in model.named_parameters() if "lora_" in name]
    for got, right in zip(
        torch.autograd.grad(values.sum(), trained), torch.autograd.grad(wanted.sum(), trained), strict=True
    ):
        assert right.any()
        assert torch.allclose(got, right, atol=1e-5)
