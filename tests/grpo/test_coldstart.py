"""The cold start: what is learned from a trajectory, and that it looks as a rollout does."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from engine_parts import saying  # noqa: E402
from kgr1.agent.prompt import build_prompt, format_turn  # noqa: E402
from kgr1.agent.rollout import run_episode  # noqa: E402
from kgr1.config import AgentSettings, ColdstartSettings, SamplingSettings  # noqa: E402
from kgr1.datasets.expert import Habits, Step, expert_steps  # noqa: E402
from kgr1.errors import GraphServerError, SettingsError  # noqa: E402
from kgr1.graph.store import GraphStore  # noqa: E402
from kgr1.grpo.coldstart import (  # noqa: E402
    IGNORED,
    Example,
    build_examples,
    collate,
    train_coldstart,
)
from kgr1.models.pretrained import agent_settings  # noqa: E402
from kgr1.models.tokens import encode_prompt  # noqa: E402
from kgr1.models.transformers import TransformersPolicy  # noqa: E402
from kgr1.models.weights import load_model, load_tokenizer  # noqa: E402
from kgr1.types import GoldAnswer, Observation, Question, StopReason  # noqa: E402
from small_world import AGENT, small_graph, small_trajectories  # noqa: E402

FACTS = [("Ann", "likes", "Bob"), ("Bob", "has", "dog"), ("Bob", "has", "cat"), ("Ann", "has", "fox")]
QUESTION = Question(
    id="q",
    text="What does the one that Ann likes have?",
    topics=("Ann",),
    answers=(GoldAnswer(label="dog", id="dog"), GoldAnswer(label="cat", id="cat")),
    gold_path=("likes", "has"),
)
SETTINGS = AgentSettings(max_turns=7, max_new_tokens=120, observation_tokens=64)


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(str(tiny_model))


def expert(recovery: bool, seed: int = 0) -> list[Step]:
    graph = GraphStore.from_triples(FACTS)
    steps = expert_steps(QUESTION, graph, random.Random(seed), max_turns=7, recovery=recovery)
    assert steps is not None
    return steps


def build(steps: list[Step], tokenizer: Any, **agent: Any) -> Example:
    settings = SETTINGS.model_copy(update=agent)
    (example,) = build_examples([(QUESTION, steps)], GraphStore.from_triples(FACTS), tokenizer, settings)
    return example


def text_of(step: Step) -> str:
    action = step.query or step.answer
    assert action is not None
    return format_turn(step.think, action)


@pytest.mark.parametrize("recovery", [False, True])
def test_only_the_experts_right_turns_are_learned(tokenizer: Any, recovery: bool) -> None:
    steps = expert(recovery)
    assert any(step.mistake for step in steps) is recovery
    example = build(steps, tokenizer)
    assert len(example.input_ids) == len(example.labels)
    learned = [label for label in example.labels if label != IGNORED]
    assert learned == [i for step in steps if not step.mistake for i in tokenizer.encode(text_of(step))]
    assert all(label in (IGNORED, i) for i, label in zip(example.input_ids, example.labels, strict=True))
    prompt = encode_prompt(tokenizer, build_prompt(QUESTION, SETTINGS))
    assert list(example.input_ids[: len(prompt)]) == prompt
    assert set(example.labels[: len(prompt)]) == {IGNORED}
    text = tokenizer.decode(example.input_ids)
    assert text.count("</information>") == len(steps) - 1
    assert all(text_of(step) in text for step in steps)  # mistakes are shown
    for step in steps:
        if step.mistake:
            assert text_of(step) not in tokenizer.decode([i for i in example.labels if i != IGNORED])


@pytest.mark.parametrize("recovery", [False, True])
def test_the_layout_is_that_of_a_rollout(tiny_model: Path, tokenizer: Any, recovery: bool) -> None:
    """A model that samples the expert's tokens, on the real engine and the same graph, has the very same context."""
    policy = TransformersPolicy.load(str(tiny_model), max_rows=1)
    example = build(expert(recovery), tokenizer)
    with saying(policy.engine, dict(enumerate(example.input_ids))):
        episode = asyncio.run(
            run_episode(QUESTION, GraphStore.from_triples(FACTS), policy, agent=SETTINGS, sampling=SamplingSettings())
        )
    assert episode.stop is StopReason.ANSWERED
    assert set(episode.answers) == {"cat", "dog"}
    ids = [*episode.prompt_ids, *(i for t in episode.turns for i in (*t.token_ids, *t.information_ids))]
    assert tuple(ids) == example.input_ids


def test_a_trajectory_that_does_not_reach_its_answer_is_refused(tokenizer: Any) -> None:
    steps = expert(False)
    with pytest.raises(SettingsError, match=f"{len(steps)} turns, more than agent.max_turns = {len(steps) - 1}"):
        build(steps, tokenizer, max_turns=len(steps) - 1)
    with pytest.raises(SettingsError):
        build(steps[:-1], tokenizer)

    class Gone(GraphStore):
        def execute(self, queries: Any) -> list[Observation]:
            raise GraphServerError("The graph is gone.")

    with pytest.raises(GraphServerError, match="gone"):
        build_examples([(QUESTION, steps)], Gone.from_triples(FACTS), tokenizer, SETTINGS)


@pytest.mark.parametrize("cut", ["nothing", "relations", "results"])
def test_with_sets_what_was_not_shown_is_not_learned(tokenizer: Any, cut: str) -> None:
    many = {
        "relations": [("Ann", f"a{n:02}", "x") for n in range(60)],  # before the one that is followed
        "results": [*(("Ann", "likes", f"A{n:02}") for n in range(28)), ("A00", "has", "eel"), ("Bob", "has", "gnu")],
    }
    graph = GraphStore.from_triples([*FACTS, *many.get(cut, [])])
    found = {tail for head, relation, tail in graph.triples() if head != "Ann" and relation == "has"}
    question = QUESTION.model_copy(update={"answers": tuple(GoldAnswer(label=name, id=name) for name in sorted(found))})
    steps = expert_steps(question, graph, random.Random(0), max_turns=7, habits=Habits(sets=True))
    assert steps is not None
    agent = SETTINGS.model_copy(update={"sets": True})
    examples = build_examples([(question, steps)], graph, tokenizer, agent)
    assert len(examples) == (cut == "nothing")
    (whole,) = build_examples(
        [(question, steps)], graph, tokenizer, agent.model_copy(update={"observation_tokens": 900})
    )
    learned = tokenizer.decode([label for label in whole.labels if label != IGNORED])
    assert learned.count("</kg-query>") == 4
    assert '["*"]' in learned


def test_examples_are_padded_on_the_right() -> None:
    batch = collate([Example((5, 6, 7), (IGNORED, 6, 7)), Example((8,), (IGNORED,))], pad=2)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 2, 2]]
    assert batch["labels"].tolist() == [[IGNORED, 6, 7], [IGNORED] * 3]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def examples(tokenizer: Any) -> list[Example]:
    return build_examples(small_trajectories(), small_graph(), tokenizer, AGENT)


@pytest.mark.parametrize("rank", [0, 4])
def test_the_loss_is_that_of_transformers(tiny_model: Path, tmp_path: Path, tokenizer: Any, rank: int) -> None:
    """One step of plain gradient descent, against the loss that the model computes from labels itself."""
    rows: list[dict[str, float]] = []
    settings = ColdstartSettings(
        epochs=1, batch_size=6, micro_batch_size=2, lora_rank=rank, learning_rate=1e-9, save_steps=99
    )
    train_coldstart(
        load_model(str(tiny_model)), examples(tokenizer), tmp_path, settings, on_step=lambda s, n, v: rows.append(v)
    )
    batch = collate(examples(tokenizer), tokenizer.pad_token_id)
    loss = load_model(str(tiny_model)).model(**batch).loss
    assert rows[0]["loss"] == pytest.approx(loss.item(), rel=1e-3)
    if rank == 0:
        model = load_model(str(tiny_model)).model
        model(**batch).loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
        assert rows[0]["grad_norm"] == pytest.approx(norm.item(), rel=1e-3)


def test_a_model_that_takes_no_trees_has_the_same_loss(tiny_model: Path, tmp_path: Path, tokenizer: Any) -> None:
    def first_loss(name: str, attention: str) -> float:
        rows: list[dict[str, float]] = []
        settings = ColdstartSettings(epochs=1, batch_size=6, micro_batch_size=3, save_steps=99)
        loaded = load_model(str(tiny_model))
        loaded.model.set_attn_implementation(attention)
        made = examples(tokenizer)
        train_coldstart(loaded, made, tmp_path / name, settings, on_step=lambda s, n, v: rows.append(v))
        return rows[0]["loss"]

    assert first_loss("rows", "eager") == pytest.approx(first_loss("tree", "sdpa"), rel=1e-5)


@pytest.mark.parametrize("rank", [0, 4])
def test_in_bfloat16_what_is_trained_stays_float32(tiny_model: Path, tmp_path: Path, tokenizer: Any, rank: int) -> None:
    rows: list[dict[str, float]] = []
    loaded = load_model(str(tiny_model))
    settings = ColdstartSettings(epochs=1, batch_size=6, lora_rank=rank, micro_batch_size=6, dtype="bfloat16")
    folder = train_coldstart(loaded, examples(tokenizer), tmp_path, settings, on_step=lambda s, n, v: rows.append(v))
    loss = load_model(str(tiny_model)).model(**collate(examples(tokenizer), tokenizer.pad_token_id)).loss.item()
    assert rows[0]["loss"] == pytest.approx(loss, rel=2e-2)
    assert rows[0]["loss"] != pytest.approx(loss, rel=1e-6)
    from safetensors.torch import load_file

    saved = load_file(folder / ("adapter_model.safetensors" if rank else "model.safetensors"))
    assert {value.dtype for value in saved.values()} == {torch.float32}


def test_the_settings_of_the_agent_are_saved_with_the_policy(tiny_model: Path, tmp_path: Path, tokenizer: Any) -> None:
    folder = train_coldstart(
        load_model(str(tiny_model)), examples(tokenizer), tmp_path, ColdstartSettings(), agent=AGENT
    )
    assert AgentSettings.model_validate(agent_settings(str(folder))) == AGENT


def test_a_new_adapter_depends_on_the_seed_alone(tiny_model: Path, tmp_path: Path, tokenizer: Any) -> None:
    def weights(name: str, seed: int, noise: int) -> bytes:
        torch.manual_seed(noise)  # whatever happened before in the process
        settings = ColdstartSettings(epochs=1, batch_size=6, micro_batch_size=6, lora_rank=2, seed=seed, save_steps=99)
        folder = train_coldstart(load_model(str(tiny_model)), examples(tokenizer), tmp_path / name, settings)
        return (folder / "adapter_model.safetensors").read_bytes()

    first = weights("a", 0, 1)
    assert weights("b", 0, 2) == first
    assert weights("c", 1, 1) != first


def test_an_adapter_can_be_trained_further(tiny_model: Path, tmp_path: Path, tokenizer: Any) -> None:
    settings = ColdstartSettings(epochs=3, batch_size=6, micro_batch_size=6, lora_rank=2, save_steps=99)
    first = train_coldstart(load_model(str(tiny_model)), examples(tokenizer), tmp_path / "a", settings)
    again = load_model(str(first), merge=False)
    second = train_coldstart(again, examples(tokenizer), tmp_path / "b", settings)
    assert (first / "adapter_model.safetensors").read_bytes() != (second / "adapter_model.safetensors").read_bytes()
    assert load_model(str(second)).base == str(tiny_model)


def test_settings_that_do_not_fit(tiny_model: Path, tmp_path: Path, tokenizer: Any) -> None:
    loaded = load_model(str(tiny_model))
    with pytest.raises(SettingsError, match="no expert trajectory"):
        train_coldstart(loaded, [], tmp_path, ColdstartSettings())
    with pytest.raises(SettingsError, match=r"coldstart\.batch_size = 6 must be a multiple"):
        train_coldstart(
            loaded, examples(tokenizer), tmp_path, ColdstartSettings(batch_size=6, micro_batch_size=4, lora_rank=0)
        )


def test_what_was_taught_is_known(taught_model: Path) -> None:
    """The model that other tests start from has learned its trajectories: it is sure of the expert's tokens."""
    loaded = load_model(str(taught_model))
    batch = collate(examples(loaded.tokenizer), loaded.tokenizer.pad_token_id)
    with torch.no_grad():
        assert loaded.model(**batch).loss < 0.3
