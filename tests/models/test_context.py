"""What the model makes of a text: each text once, whatever is beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from kgr1.models import context as module  # noqa: E402
from kgr1.models.context import Context  # noqa: E402
from kgr1.models.weights import LoadedModel, load_model  # noqa: E402

TEXTS = ["who is the director of it", "film director", "a", "place of birth of the one who made the film " * 3, "导演"]


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> LoadedModel:
    return load_model(str(tiny_model))


def test_a_text_is_read_as_if_it_were_alone(loaded: LoadedModel) -> None:
    together = Context(loaded.model, loaded.tokenizer).vectors(TEXTS)
    assert together.shape == (len(TEXTS), loaded.model.config.hidden_size)
    for text, vector in zip(TEXTS, together, strict=True):
        ids = loaded.tokenizer.encode(text, add_special_tokens=False)
        with torch.no_grad():
            states = loaded.model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
        assert len(states) == loaded.model.config.num_hidden_layers + 1
        middle = states[loaded.model.config.num_hidden_layers // 2 + 1]
        assert torch.allclose(vector, middle[0].mean(0), atol=1e-5)


def test_the_order_of_words_counts(loaded: LoadedModel) -> None:
    one, other = Context(loaded.model, loaded.tokenizer).vectors(["place of birth", "birth of place"])
    assert not torch.allclose(one, other, atol=1e-3)


def test_a_text_is_read_once(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    context = Context(loaded.model, loaded.tokenizer)
    passes: list[int] = []
    hook = loaded.model.get_decoder().register_forward_pre_hook(
        lambda _, args, kwargs: passes.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    first = context.vectors([*TEXTS, TEXTS[0]])
    assert sorted(passes) == [1, 2, 2]
    assert torch.equal(context.vectors([TEXTS[0], TEXTS[2]]), first[[0, 2]])
    assert torch.equal(first[0], first[-1])
    assert len(passes) == 3
    monkeypatch.setattr(module, "MOST_TEXTS", 5)  # all of them are read anew rather than one too many kept
    assert torch.allclose(context.vectors([TEXTS[0], "one more"])[0], first[0], atol=1e-6)
    assert len(context._known) == 2
    hook.remove()


def test_no_text_and_no_tokens(loaded: LoadedModel) -> None:
    context = Context(loaded.model, loaded.tokenizer)
    assert context.vectors([]).shape == (0, loaded.model.config.hidden_size)
    assert bool(context.vectors(["", "a"]).isfinite().all())


def test_the_model_is_not_trained_by_it(loaded: LoadedModel) -> None:
    vectors = Context(loaded.model, loaded.tokenizer).vectors(TEXTS)
    assert not vectors.requires_grad
    assert all(parameter.grad is None for parameter in loaded.model.parameters())
