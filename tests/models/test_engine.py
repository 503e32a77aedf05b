"""The engine against transformers, and that episodes do not depend on the company they are in."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from engine_parts import (  # noqa: E402
    OBSERVATIONS,
    TEXTS,
    Played,
    counting,
    logprobs_of,
    make_engine,
    open_rows,
    play_row,
    play_together,
    sampled,
    windowed_model,
)
from kgr1.agent.prompt import STOP_STRINGS  # noqa: E402
from kgr1.config import SamplingSettings  # noqa: E402
from kgr1.models.engine import Engine  # noqa: E402
from kgr1.types import FinishReason  # noqa: E402

GREEDY = SamplingSettings()
JOBS = [(text, sampled(seed)) for seed, text in enumerate(TEXTS + TEXTS[:2])]


def reference_turn(engine: Engine, context: list[int], tokens: int) -> list[int]:
    """The turn that ``generate`` of transformers writes greedily, cut after the first stop string or end of message."""
    ids = engine.model.generate(
        torch.tensor([context]),
        attention_mask=torch.ones(1, len(context), dtype=torch.long),
        max_new_tokens=tokens,
        do_sample=False,
    )[0, len(context) :].tolist()
    for end in range(1, len(ids) + 1):
        text = engine.tokenizer.decode(ids[:end])
        if any(stop in text for stop in STOP_STRINGS) or ids[end - 1] == engine.tokenizer.eos_token_id:
            return ids[:end]
    return ids


def check_against_reference(engine: Engine, text: str, played: Played, tokens: int) -> None:
    context = engine.tokenizer.encode(text)
    for turn, ids in enumerate(played.turns):
        assert ids == reference_turn(engine, context, tokens)
        context += ids
        if turn + 1 < len(played.turns):
            context += engine.tokenizer.encode(OBSERVATIONS[turn % 2] * (1 + len(text) % 3))
    assert played.context == context


@pytest.mark.parametrize("rows", [2, 8])
def test_greedy_turns_equal_those_of_transformers(tiny_model: Path, rows: int) -> None:
    engine = make_engine(tiny_model, rows=rows)
    for text, played in zip(TEXTS, play_together(engine, [(text, GREEDY) for text in TEXTS]), strict=True):
        check_against_reference(engine, text, played, 12)


def test_greedy_turns_with_stop_strings_equal_those_of_transformers(taught_model: Path) -> None:
    from kgr1.agent.prompt import build_prompt
    from kgr1.models.tokens import encode_prompt
    from small_world import AGENT, small_questions

    engine = make_engine(taught_model)
    prompts = [
        engine.tokenizer.decode(encode_prompt(engine.tokenizer, build_prompt(question, AGENT)))
        for question in small_questions()
    ]
    together = play_together(engine, [(prompt, GREEDY) for prompt in prompts], tokens=48)
    for prompt, played in zip(prompts, together, strict=True):
        check_against_reference(engine, prompt, played, 48)
    assert FinishReason.STOP in {finish for played in together for finish in played.finishes}


def test_a_sampled_episode_depends_on_its_seed_alone(tiny_model: Path) -> None:
    alone = [play_together(make_engine(tiny_model, rows=1), [job])[0] for job in JOBS]
    for rows in (2, 8):
        assert [p.turns for p in play_together(make_engine(tiny_model, rows=rows), JOBS)] == [p.turns for p in alone]
    mixed = [5, 2, 3]
    engine = make_engine(tiny_model)
    for _ in range(2):  # an engine that was used before
        together = play_together(engine, [JOBS[index] for index in mixed])
        assert [p.turns for p in together] == [alone[index].turns for index in mixed]
    other = play_together(engine, [(text, sampled(s.seed + 100)) for text, s in JOBS])
    assert all(a.turns != b.turns for a, b in zip(alone, other, strict=True))


def test_the_same_seed_gives_the_same_episode_to_equal_prompts(tiny_model: Path) -> None:
    first, second, third = play_together(
        make_engine(tiny_model), [(TEXTS[0], sampled(1)), (TEXTS[0], sampled(1)), (TEXTS[0], sampled(2))]
    )
    assert first.turns == second.turns != third.turns
    assert play_together(make_engine(tiny_model), [(TEXTS[0], sampled(-1))])[0].turns  # any number will do


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_recorded_logprobs_are_those_of_a_plain_forward_pass(tiny_model: Path, temperature: float) -> None:
    engine = make_engine(tiny_model)
    for played in play_together(engine, [(text, sampled(s.seed, temperature)) for text, s in JOBS]):
        expected = logprobs_of(engine.model, played.context, temperature)
        position = 0
        assert len(played.turns) == 3
        for ids, logprobs in zip(played.turns, played.logprobs, strict=True):
            start = find(played.context, ids, position)
            position = start + len(ids)
            recorded = torch.tensor(logprobs).double()
            assert torch.allclose(recorded, expected[start - 1 : position - 1], atol=1e-5)


def find(context: list[int], ids: list[int], start: int) -> int:
    return next(i for i in range(start, len(context)) if context[i : i + len(ids)] == ids)


def test_rows_that_close_in_any_order_leave_the_others_right(tiny_model: Path) -> None:
    alone = [play_together(make_engine(tiny_model, rows=1), [job], turns=3)[0] for job in JOBS]
    engine = make_engine(tiny_model, rows=4)

    async def uneven() -> list[Played]:
        # Episodes of one to three turns begin and end at different times, so rows move in between.
        jobs = [
            play_row(engine, text, sampling, turns=1 + index % 3, wait=3 * index)
            for index, (text, sampling) in enumerate(JOBS)
        ]
        return await asyncio.gather(*jobs)

    for index, played in enumerate(asyncio.run(uneven())):
        assert played.turns == alone[index].turns[: 1 + index % 3]


def test_closing_a_row_moves_the_last_one_into_its_place(tiny_model: Path) -> None:
    engine = make_engine(tiny_model, rows=4)
    alone = [play_together(make_engine(tiny_model, rows=1), [(text, GREEDY)], turns=1, tokens=6)[0] for text in TEXTS]

    async def run(order: list[int]) -> None:
        rows = await open_rows(engine, TEXTS)
        await asyncio.gather(*(engine.generate(row, 2) for row in rows))
        for gone in order:
            engine.close(rows[gone])
            engine.close(rows[gone])  # twice is fine
            rest = [index for index in range(4) if rows[index].index >= 0]
            assert sorted(rows[index].index for index in rest) == list(range(len(rest)))
            await asyncio.gather(*(engine.generate(rows[index], 1) for index in rest))
            for index in rest:
                written = rows[index].ids[rows[index].prompt_length :]
                assert written == alone[index].turns[0][: len(written)]

    for order in ([0, 1, 2], [3, 2, 1], [1, 3, 0], [2, 0, 3]):
        asyncio.run(run(order))


def test_equal_prompts_are_computed_once(tiny_model: Path) -> None:
    engine = make_engine(tiny_model)
    length = len(engine.tokenizer.encode(TEXTS[2]))
    with counting(engine) as counts:
        together = play_together(engine, [(TEXTS[2], sampled(seed)) for seed in range(6)], turns=1, tokens=4)
    assert [count for count in counts if count > 6] == [length]
    for seed, played in enumerate(together):
        alone = play_together(make_engine(tiny_model, rows=1), [(TEXTS[2], sampled(seed))], turns=1, tokens=4)[0]
        assert played.turns == alone.turns
        assert torch.allclose(torch.tensor(played.logprobs), torch.tensor(alone.logprobs), atol=1e-6, rtol=0)


def test_what_follows_turns_that_are_alike_is_computed_once(tiny_model: Path) -> None:
    engine = make_engine(tiny_model)
    jobs = [(TEXTS[2], GREEDY)] * 5
    with counting(engine) as counts:
        together = play_together(engine, jobs, turns=3, tokens=4)
    alone = play_together(make_engine(tiny_model, rows=1), jobs[:1], turns=3, tokens=4)[0]
    lengths = [len(engine.tokenizer.encode(TEXTS[2]))]
    for turn in range(2):
        lengths.append(len(engine.tokenizer.encode(OBSERVATIONS[turn % 2] * (1 + len(TEXTS[2]) % 3))))
    assert [count for count in counts if count > 5] == lengths
    for played in together:
        assert played.turns == alone.turns
        assert played.context == alone.context
        assert torch.allclose(torch.tensor(played.logprobs), torch.tensor(alone.logprobs), atol=1e-6, rtol=0)


def test_rows_that_part_share_what_they_have_in_common(tiny_model: Path) -> None:
    """One row reads ahead; another, whose text parts from it in the middle of an observation, copies up to there."""
    engine = make_engine(tiny_model)
    prompt = engine.tokenizer.encode(TEXTS[0])
    common, one, other = (
        engine.tokenizer.encode(text, add_special_tokens=False) for text in (TEXTS[2], "a b c", "d e")
    )

    async def run(endings: list[list[int]]) -> list[list[int]]:
        rows = [await engine.open(prompt, GREEDY) for _ in endings]
        written = []
        for row, ending in zip(rows, endings, strict=True):
            row.ids.extend([*common, *ending])
            written.append((await engine.generate(row, 3)).ids)
        for row in rows:
            engine.close(row)
        return written

    with counting(engine) as counts:
        both = asyncio.run(run([one, other]))
    assert counts[0] == len(prompt) + len(common) + len(one)
    assert [count for count in counts[1:] if count > 2] == [len(other)]
    assert both == [reference_turn(engine, [*prompt, *common, *ending], 3) for ending in (one, other)]


def test_a_common_beginning_is_computed_once(tiny_model: Path) -> None:
    engine = make_engine(tiny_model)
    short, long = TEXTS[0], TEXTS[3]
    ids, other = engine.tokenizer.encode(short), engine.tokenizer.encode(long)
    common = next(i for i, (a, b) in enumerate(zip(ids, other, strict=False)) if a != b)
    assert common > 3
    with counting(engine) as counts:
        together = play_together(engine, [(short, sampled(1)), (long, sampled(2))], turns=2, tokens=4)
    assert counts[:2] == [len(ids), len(other) - common]
    for job, played in zip([(short, sampled(1)), (long, sampled(2))], together, strict=True):
        alone = play_together(make_engine(tiny_model, rows=1), [job], turns=2, tokens=4)[0]
        assert played.turns == alone.turns
        assert torch.allclose(torch.tensor(played.logprobs), torch.tensor(alone.logprobs), atol=1e-6, rtol=0)


def test_a_prompt_that_begins_another_is_shared_too(tiny_model: Path) -> None:
    jobs = [("Which country borders", sampled(1)), ("Which country borders Germany?", sampled(2))]
    for order in (jobs, jobs[::-1]):
        for job, played in zip(order, play_together(make_engine(tiny_model), order), strict=True):
            assert played.turns == play_together(make_engine(tiny_model, rows=1), [job])[0].turns


def test_more_episodes_than_rows_wait_and_finish(tiny_model: Path) -> None:
    engine = make_engine(tiny_model, rows=2)
    most = 0
    step = engine._step

    def watch() -> None:
        nonlocal most
        most = max(most, len(engine._rows))
        step()

    engine._step = watch  # type: ignore[method-assign]
    jobs = [(text, sampled(seed)) for seed, text in enumerate(TEXTS * 4)]
    assert len(play_together(engine, jobs, turns=2, tokens=3)) == 16
    assert most == 2
    assert engine._rows == []


def test_an_episode_whose_turn_is_over_does_not_wait_for_the_others(tiny_model: Path) -> None:
    engine = make_engine(tiny_model)
    ends: list[str] = []

    async def turn(name: str, tokens: int, count: int) -> None:
        row = await engine.open(engine.tokenizer.encode(TEXTS[0]), sampled(len(name)))
        for _ in range(count):
            await engine.generate(row, tokens)
            ends.append(name)
        engine.close(row)

    async def run() -> None:
        await asyncio.gather(turn("slow", 30, 1), turn("quick", 3, 4))

    asyncio.run(run())
    assert ends == ["quick"] * 4 + ["slow"]


def test_memory_grows_with_the_longest_context(tiny_model: Path) -> None:
    engine = make_engine(tiny_model, context=1024)
    text = TEXTS[2] * 12
    assert len(engine.tokenizer.encode(text)) > 512
    jobs = [(TEXTS[0], sampled(1)), (text, sampled(2)), (TEXTS[1], sampled(3))]
    together = play_together(engine, jobs)
    assert [p.turns for p in together] == [play_together(make_engine(tiny_model, rows=1, context=1024), [job])[0].turns
                                           for job in jobs]  # fmt: skip


def test_plain_attention_gives_the_same_as_the_fused_one(tiny_model: Path) -> None:
    fused, plain = (make_engine(tiny_model, attention=kind) for kind in ("sdpa", "eager"))
    for a, b in zip(play_together(fused, JOBS), play_together(plain, JOBS), strict=True):
        assert a.turns == b.turns
        for left, right in zip(a.logprobs, b.logprobs, strict=True):
            assert torch.allclose(torch.tensor(left), torch.tensor(right), atol=1e-6)


def test_a_grouped_query_model(tiny_model: Path) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = make_engine(tiny_model).tokenizer
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    model = Qwen2ForCausalLM(Qwen2Config(**sizes)).double()
    engine = Engine(model, tokenizer, stops=STOP_STRINGS, max_rows=4, max_context=256)
    for text, played in zip(TEXTS, play_together(engine, [(text, GREEDY) for text in TEXTS]), strict=True):
        check_against_reference(engine, text, played, 12)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["all layers", "some layers"])
def test_contexts_longer_than_a_sliding_window(tiny_model: Path, kind: str, attention: str) -> None:
    tokenizer = make_engine(tiny_model).tokenizer
    model = windowed_model(kind, len(tokenizer))
    model.set_attn_implementation(attention)
    engine = Engine(model, tokenizer, stops=STOP_STRINGS, max_rows=4, max_context=512)
    assert engine.max_context == 512
    played = play_together(engine, [(text, GREEDY) for text in TEXTS])
    assert min(len(p.context) for p in played) > 40
    for text, one in zip(TEXTS, played, strict=True):
        check_against_reference(engine, text, one, 12)
    model.config.sliding_window = None  # it matters: the same model without it writes something else
    free = Engine(model, tokenizer, stops=STOP_STRINGS, max_rows=4, max_context=512)
    assert [p.turns for p in play_together(free, [(text, GREEDY) for text in TEXTS])] != [p.turns for p in played]


def test_the_head_reads_memory_of_its_own(tiny_model: Path) -> None:
    """With the strides of a longer sequence torch copies the whole matrix of the head before it multiplies."""
    engine = make_engine(tiny_model)
    given: list[torch.Tensor] = []
    head = engine.model.get_output_embeddings()
    head.register_forward_pre_hook(lambda _, arguments: given.append(arguments[0]))
    play_together(engine, JOBS)
    assert {states.shape[:2] == (1, 1) for states in given} == {True, False}
    for states in given:
        assert states.is_contiguous()
        assert states.untyped_storage().nbytes() == states.nbytes
