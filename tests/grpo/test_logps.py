"""Log-probabilities with shared tokens against TRL's own, in values and gradients."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from trainer_parts import make_trainer  # noqa: E402
from trl import GRPOTrainer  # noqa: E402

from kgr1.grpo.logps import shared_prefix_logps  # noqa: E402
from kgr1.grpo.trainer import KGRPOTrainer  # noqa: E402
from kgr1.grpo.tree_attention import takes_trees  # noqa: E402

PAD = 2
LAYOUTS = {
    "one group": ([9, 9, 9, 9], [12, 3, 7, 1]),
    "prompts of one length": ([5, 5, 5, 5], [6, 2, 6, 4]),
    "mixed prompts": ([4, 11, 4, 11], [3, 9, 8, 2]),
    "all different": ([3, 7, 5, 12], [10, 1, 4, 6]),
    "one token each": ([1, 1, 2, 2], [1, 1, 1, 1]),
}
SAME = {"one group": [0, 0, 0, 0], "mixed prompts": [0, 1, 0, 1], "one token each": [0, 0, 1, 1]}


def make_inputs(layout: str) -> tuple[Any, Any, Any]:
    """Ids (B, P + C), mask (B, P + C), prompts padded left and completions right; and the completion mask (B, C)."""
    prompts, completions = LAYOUTS[layout]
    torch.manual_seed(0)
    width, length = max(prompts), max(completions)
    texts = {number: torch.randint(3, 300, (width,)) for number in range(4)}
    ids = torch.full((4, width + length), PAD)
    mask = torch.zeros(4, width + length, dtype=torch.long)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        number = SAME.get(layout, [0, 1, 2, 3])[row]
        ids[row, width - prompt : width] = texts[number][:prompt]
        ids[row, width : width + completion] = torch.randint(3, 300, (completion,))
        mask[row, width - prompt : width + completion] = 1
    return ids, mask, mask[:, width:].bool()


def perturb(model: Any) -> None:
    """Make sure that adapters have something to say."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)


@pytest.fixture(scope="module", params=[False, True], ids=["all weights", "an adapter"])
def trainer(request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> KGRPOTrainer:
    built = make_trainer(tiny_model, tmp_path_factory.mktemp("run"), adapter=request.param, temperature=0.7)
    perturb(built.model)
    return built


def gradients(trainer: KGRPOTrainer, logps: Any, mask: Any) -> dict[str, Any]:
    torch.manual_seed(2)
    trainer.model.zero_grad()
    (logps * torch.randn(logps.shape))[mask].sum().backward()
    return {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}


def reference(trainer: KGRPOTrainer, ids: Any, mask: Any, length: int) -> tuple[Any, Any]:
    logps, entropies, _ = GRPOTrainer._get_per_token_logps_and_entropies(
        trainer, trainer.model, ids, mask, length, compute_entropy=True
    )
    return logps, entropies


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_and_gradients_equal_those_of_trl(trainer: KGRPOTrainer, layout: str) -> None:
    ids, mask, completion = make_inputs(layout)
    wanted, wanted_entropies = reference(trainer, ids, mask, completion.shape[1])
    logps, entropies, _ = trainer._get_per_token_logps_and_entropies(
        trainer.model, ids, mask, completion.shape[1], compute_entropy=True
    )
    assert logps.shape == entropies.shape == completion.shape
    assert torch.allclose(logps[completion], wanted[completion], atol=2e-5)
    assert torch.allclose(entropies[completion], wanted_entropies[completion], atol=2e-5)
    assert not logps[~completion].any()
    assert not entropies.requires_grad
    expected, got = gradients(trainer, wanted, completion), gradients(trainer, logps, completion)
    assert expected.keys() == got.keys()
    assert max(float(g.abs().max()) for g in expected.values()) > 1e-2
    for name, gradient in expected.items():
        assert torch.allclose(got[name], gradient, atol=1e-4, rtol=1e-4), name


@pytest.mark.parametrize("layout", ["one group", "mixed prompts"])
def test_tokens_that_are_not_scored_have_neither_value_nor_gradient(trainer: KGRPOTrainer, layout: str) -> None:
    ids, mask, completion = make_inputs(layout)
    torch.manual_seed(3)
    scored = (torch.rand(completion.shape) < 0.5) & completion
    scored[1] = False
    logps, entropies = shared_prefix_logps(
        trainer.model, ids, mask, completion.shape[1], temperature=0.7, scored=scored | ~completion
    )
    wanted = reference(trainer, ids, mask, completion.shape[1])[0]
    assert torch.allclose(logps[scored], wanted[scored], atol=2e-5)
    assert not logps[~scored].any()
    assert not entropies[~scored].any()
    expected, got = gradients(trainer, wanted, scored), gradients(trainer, logps, scored)
    for name, gradient in expected.items():
        assert torch.allclose(got[name], gradient, atol=1e-4, rtol=1e-4), name
    logps, _ = shared_prefix_logps(trainer.model, ids, mask, completion.shape[1], scored=torch.zeros_like(completion))
    logps.sum().backward()  # nothing to learn from, but no error


def test_small_batches_give_the_same(trainer: KGRPOTrainer) -> None:
    ids, mask, completion = make_inputs("mixed prompts")
    length = completion.shape[1]
    whole, _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, length)
    for size in (1, 2, 3):
        parts, entropies, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, mask, length, batch_size=size
        )
        assert torch.allclose(parts, whole, atol=1e-6)
        assert entropies is None


def count_passes(trainer: KGRPOTrainer, ids: Any, mask: Any, length: int) -> list[tuple[int, ...]]:
    """The shapes of what went through the model for these log-probabilities."""
    inner = trainer.model.get_base_model() if hasattr(trainer.model, "peft_config") else trainer.model
    seen: list[tuple[int, ...]] = []
    hook = inner.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, length)
    hook.remove()
    return seen


def test_a_prompt_is_computed_once_and_padding_never(trainer: KGRPOTrainer) -> None:
    ids, mask, completion = make_inputs("mixed prompts")
    seen = count_passes(trainer, ids, mask, completion.shape[1])
    assert seen == [(1, 4 + 11 + 2 + 8 + 7 + 1)]  # the last token of each completion predicts nothing


def test_first_turns_that_are_alike_are_computed_once(trainer: KGRPOTrainer) -> None:
    ids, mask, completion = make_inputs("one group")
    ids[1, 9:11] = ids[0, 9:11]
    ids[2, 9:14] = ids[0, 9:14]
    length = completion.shape[1]
    wanted, wanted_entropies = reference(trainer, ids, mask, length)
    logps, entropies, _ = trainer._get_per_token_logps_and_entropies(
        trainer.model, ids, mask, length, compute_entropy=True
    )
    assert torch.allclose(logps[completion], wanted[completion], atol=1e-5)
    assert torch.allclose(entropies[completion], wanted_entropies[completion], atol=1e-5)
    expected, got = gradients(trainer, wanted, completion), gradients(trainer, logps, completion)
    for name, gradient in expected.items():
        assert torch.allclose(got[name], gradient, atol=1e-5, rtol=1e-4), name
    # 9 prompt tokens, and of the completions 11 tokens, no further one, 1 after the fifth, and none.
    assert count_passes(trainer, ids, mask, length) == [(1, 9 + 11 + 0 + 1 + 0)]


def test_other_attention_takes_the_way_of_trl(tiny_model: Path, tmp_path: Path) -> None:
    trainer = make_trainer(tiny_model, tmp_path)
    assert trainer._share_tokens
    trainer.model.set_attn_implementation("eager")
    assert not takes_trees(trainer.model)


def test_a_sliding_window_takes_the_way_of_trl() -> None:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, MistralConfig, MistralForCausalLM

    small = {"vocab_size": 30, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4}
    kinds = ["sliding_attention", "full_attention"]
    assert not takes_trees(Gemma3ForCausalLM(Gemma3TextConfig(**small, **heads, sliding_window=4, layer_types=kinds)))
    assert not takes_trees(MistralForCausalLM(MistralConfig(**small, **heads, sliding_window=4)))
    assert takes_trees(MistralForCausalLM(MistralConfig(**small, **heads, sliding_window=None)))


def test_adapters_read_bfloat16_as_it_is(tiny_model: Path, tmp_path: Path) -> None:
    model = make_trainer(tiny_model, tmp_path, adapter=True, temperature=1.0).model
    perturb(model)
    for weight in model.parameters():
        if not weight.requires_grad:  # as a run in bfloat16 keeps them
            weight.data = weight.data.to(torch.bfloat16)
    ids, mask, scored = make_inputs("one group")
    read: list[Any] = []
    module = next(module for name, module in model.named_modules() if name.endswith("lora_A.default"))
    module.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].dtype))

    def tokens_and_gradients() -> list[Any]:
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            values, _ = shared_prefix_logps(model, ids, mask, scored.shape[1])
        values.sum().backward()
        return [values.detach(), *(weight.grad.clone() for weight in model.parameters() if weight.requires_grad)]

    direct = tokens_and_gradients()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kgr1.grpo.logps._no_detour", lambda _: nullcontext())
        converted = tokens_and_gradients()
    assert read == [torch.bfloat16, torch.float32]
    assert all(torch.equal(one, other) for one, other in zip(direct, converted, strict=True))
