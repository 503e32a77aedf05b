"""How a turn ends, and what happens when the model fails."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from engine_parts import TEXTS, failing, make_engine, play_row, play_together, sampled, saying  # noqa: E402
from kgr1.agent.prompt import STOP_STRINGS  # noqa: E402
from kgr1.agent.rollout import run_episodes  # noqa: E402
from kgr1.config import AgentSettings, SamplingSettings  # noqa: E402
from kgr1.errors import ModelError  # noqa: E402
from kgr1.graph.store import GraphStore  # noqa: E402
from kgr1.models.engine import Engine  # noqa: E402
from kgr1.models.stops import StopStrings  # noqa: E402
from kgr1.models.transformers import TransformersPolicy  # noqa: E402
from kgr1.types import FinishReason, Question, StopReason  # noqa: E402

GREEDY = SamplingSettings()


def script(engine: Engine, text: str, wanted: str, after: str = "") -> dict[int, int]:
    """Positions and tokens that make the model write ``wanted``, and ``after`` if it is not stopped."""
    start = len(engine.tokenizer.encode(text))
    return dict(enumerate(engine.tokenizer.encode(wanted) + engine.tokenizer.encode(after), start))


@pytest.mark.parametrize("stop", STOP_STRINGS)
def test_a_turn_ends_when_an_action_is_complete(tiny_model: Path, stop: str) -> None:
    engine = make_engine(tiny_model)
    wanted = f"<think>a > b</think> x{stop}"
    with saying(engine, script(engine, TEXTS[0], wanted, "never")):
        (played,) = play_together(engine, [(TEXTS[0], GREEDY)], turns=1, tokens=60)
    assert played.finishes == [FinishReason.STOP]
    assert engine.tokenizer.decode(played.turns[0]) == wanted
    assert sum(played.logprobs[0]) == pytest.approx(0, abs=1e-6)


def test_a_token_that_completes_a_stop_string_is_kept_whole() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["</answer>.\n</answer>.", "x>.y>.z"] * 20, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)
    ids = fast.encode("so </answer>. and more")
    pieces = [fast.decode([token]) for token in ids]
    end = next(i for i, piece in enumerate(pieces) if "." in piece)
    assert pieces[end].startswith(">.")
    stops = StopStrings(fast, STOP_STRINGS)
    assert [stops.complete(ids[:length]) for length in range(1, end + 2)] == [False] * end + [True]
    assert fast.decode(ids[: end + 1]).startswith("so </answer>.")
    assert not stops.complete([])
    assert not stops.complete(fast.encode("a > b </answe>"))


def test_the_end_of_the_message_ends_a_turn_and_is_no_text(tiny_model: Path) -> None:
    policy = TransformersPolicy.load(str(tiny_model))
    engine = policy.engine
    end = engine.tokenizer.eos_token_id
    question = Question(id="1", text="?", topics=("A",), answers=())
    start = len(policy.encode_prompt("hello"))
    words = engine.tokenizer.encode("hm")

    async def write() -> Any:
        session = await policy.open("hello", question, GREEDY)
        generation = await session.generate(20)
        session.close()
        session.close()
        return generation

    with saying(engine, dict(enumerate([*words, end], start))):
        generation = asyncio.run(write())
    assert generation.finish is FinishReason.EOS
    assert generation.token_ids == (*words, end)
    assert generation.text == "hm"
    assert len(generation.logprobs) == len(generation.token_ids)


def test_every_end_of_message_that_the_model_knows_ends_a_turn(tiny_model: Path) -> None:
    engine = make_engine(tiny_model)
    other = engine.tokenizer.encode("x")[0]
    engine.model.generation_config.eos_token_id = [other, engine.tokenizer.eos_token_id]
    both = Engine(engine.model, engine.tokenizer, stops=STOP_STRINGS, max_rows=1, max_context=64)
    for token in engine.model.generation_config.eos_token_id:
        with saying(both, {len(both.tokenizer.encode("Ann")): token}):
            (played,) = play_together(both, [("Ann", GREEDY)], turns=1)
        assert (played.turns, played.finishes) == ([[token]], [FinishReason.EOS])


def test_limits_of_turn_and_context(tiny_model: Path) -> None:
    engine = make_engine(tiny_model, context=40)
    start = len(engine.tokenizer.encode(TEXTS[1]))
    harmless = dict.fromkeys(range(60), engine.tokenizer.encode("a")[0])

    async def fill() -> None:
        row = await engine.open(engine.tokenizer.encode(TEXTS[1]), GREEDY)
        assert [len((await engine.generate(row, 5)).ids) for _ in range(2)] == [5, 5]
        request = await engine.generate(row, 100)
        assert request.future.result() is FinishReason.LENGTH
        assert len(request.ids) == 40 - start - 10
        assert len(row.ids) == 40
        with pytest.raises(ModelError, match="context of 40 tokens is full"):
            await engine.generate(row, 1)
        engine.close(row)

    with saying(engine, harmless):
        asyncio.run(fill())
    for ids in ([], [5] * 40, [5] * 41):
        with pytest.raises(ModelError, match=f"prompt has {len(ids)} tokens; the context holds 40"):
            asyncio.run(engine.open(ids, GREEDY))
    assert make_engine(tiny_model, context=1 << 20).max_context == 2048  # the model's own limit


def test_an_observation_may_overflow_the_context_without_harm(tiny_model: Path) -> None:
    engine = make_engine(tiny_model, context=48)

    async def run() -> list[int]:
        full, other = [await engine.open(engine.tokenizer.encode(text), sampled(1)) for text in (TEXTS[1], TEXTS[0])]
        await asyncio.gather(engine.generate(full, 8), engine.generate(other, 8))
        full.ids.extend(engine.tokenizer.encode(TEXTS[2]))
        assert len(full.ids) > 48
        await engine.generate(other, 8)
        engine.close(full)
        await engine.generate(other, 4)
        return other.ids

    alone = play_alone(make_engine(tiny_model, context=48), TEXTS[0], [8, 8, 4])
    assert asyncio.run(run()) == alone


def play_alone(engine: Engine, text: str, tokens: list[int]) -> list[int]:
    async def run() -> list[int]:
        row = await engine.open(engine.tokenizer.encode(text), sampled(1))
        for count in tokens:
            await engine.generate(row, count)
        return row.ids

    return asyncio.run(run())


FAILURES = {
    "out of memory": MemoryError("no memory"),
    "CUDA": RuntimeError("CUDA error: device-side assert triggered"),
    "an index": IndexError("index out of range in self"),
    "a value": ValueError("bad shape"),
    "not a number": None,
}


@pytest.mark.parametrize("calls", [0, 4, 9])
@pytest.mark.parametrize("error", FAILURES.values(), ids=FAILURES)
def test_a_failing_model_ends_every_waiting_episode(tiny_model: Path, error: Exception | None, calls: int) -> None:
    policy = TransformersPolicy.load(str(tiny_model), max_rows=4)
    graph = GraphStore.from_triples([("A", "r", "B")])
    questions = [Question(id=str(n), text=f"{n}?", topics=("A",), answers=()) for n in range(6)]

    def run() -> list[Any]:
        return asyncio.run(
            asyncio.wait_for(
                run_episodes(
                    questions,
                    graph,
                    policy,
                    agent=AgentSettings(max_turns=2, max_new_tokens=8),
                    sampling=[sampled(n) for n in range(6)],
                    samples=[0] * 6,
                ),
                timeout=20,
            )
        )

    with failing(policy.engine, calls, error):
        episodes = run()
    assert {episode.stop for episode in episodes} == {StopReason.POLICY_ERROR}
    reason = str(error) if error is not None else "not a number"
    assert all(reason in episode.error for episode in episodes)
    assert all(math.isfinite(p) for episode in episodes for turn in episode.turns for p in turn.logprobs)
    # The engine goes on as if nothing had been.
    again, fresh = run(), TransformersPolicy.load(str(tiny_model), max_rows=4)
    assert {episode.stop for episode in again} == {StopReason.MAX_TURNS}
    policy = fresh
    assert [episode.turns[0].token_ids for episode in run()] == [episode.turns[0].token_ids for episode in again]


def test_an_episode_that_is_cancelled_gives_its_row_back(tiny_model: Path) -> None:
    engine = make_engine(tiny_model, rows=1)

    async def run() -> int:
        job = asyncio.create_task(play_row(engine, TEXTS[0], sampled(1), turns=1, tokens=200))
        for _ in range(5):
            await asyncio.sleep(0)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        return len((await play_row(engine, TEXTS[1], sampled(2), turns=1, tokens=3)).turns[0])

    assert 1 <= asyncio.run(asyncio.wait_for(run(), 20)) <= 3
    assert engine._rows == []


def test_models_that_the_engine_cannot_sample_from_are_refused(tiny_model: Path) -> None:
    engine = make_engine(tiny_model)
    engine.model.config.layer_types = ["linear_attention", "full_attention"]
    with pytest.raises(ModelError, match="linear_attention"):
        Engine(engine.model, engine.tokenizer, stops=STOP_STRINGS, max_rows=1, max_context=64)
    engine = make_engine(tiny_model)
    engine.model.config._attn_implementation_internal = "flash_attention_2"
    with pytest.raises(ModelError, match="flash_attention_2"):
        play_together(engine, [(TEXTS[0], GREEDY)])
