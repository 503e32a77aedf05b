"""Tokens by kind, latency and throughput."""

from __future__ import annotations

import statistics

import pytest
from eval_episodes import asked, played, question
from hypothesis import given
from hypothesis import strategies as st
from report_runs import thought

from kgr1.evaluation.costs import Session, TokenKinds, counts_tokens, mean_kinds, spread, throughput, token_kinds


def test_tokens_by_kind() -> None:
    turns = [
        thought("<think>ab</think>" + 17 * "q", 20).model_copy(update={"information_ids": (1, 2, 3)}),
        thought("no tags at all", 7),
        thought('<answer>["x"]</answer>', 5, answer="x"),
    ]
    episode = played(question(1), None).model_copy(update={"turns": tuple(turns), "prompt_ids": tuple(range(9))})
    assert token_kinds(episode) == TokenKinds(prompt=9, thought=10 + 7, action=10 + 5, observation=3)


def test_forced_tokens_are_a_kind_of_their_own() -> None:
    # Ten tokens in the thought and ten behind it; two and six of them are sure, and six of these eight were forced.
    logprobs = (0.0, *[-0.5] * 8, 0.0, *[0.0] * 6, *[-0.5] * 4)
    turn = thought("<think>ab</think>" + 17 * "q", 20).model_copy(update={"logprobs": logprobs, "forced": 6})
    episode = played(question(1), None).model_copy(update={"turns": (turn, turn), "prompt_ids": (1,)})
    assert token_kinds(episode) == TokenKinds(prompt=1, thought=2 * 8.5, action=2 * 5.5, forced=12)


def test_characters_where_there_are_no_tokens() -> None:
    turn = asked("Paris").model_copy(update={"text": "<think>abc</think>query", "information": "Paris"})
    episode = played(question(1), None, turns=[turn]).model_copy(update={"prompt": "12345678"})
    found = token_kinds(episode)
    assert (found.prompt, found.observation) == (8, 5)
    assert (found.thought, found.action) == pytest.approx((18, 5))


def test_a_system_that_writes_its_own_prompts_has_calls_and_replies() -> None:
    step = asked("Paris").model_copy(update={"step": "retrieve"})
    episode = played(question(1), ["Paris"], turns=[step], tokens=30)
    assert counts_tokens(episode)
    assert token_kinds(episode) == TokenKinds(read=300, reply=30)


def test_the_prompts_of_several_runs_in_one_episode_are_what_is_left_of_their_contexts() -> None:
    turn = thought("<answer>x</answer>", 20, answer="x").model_copy(update={"information_ids": (1, 2)})
    episode = played(question(1), None, tokens=40).model_copy(update={"turns": (turn, turn)})
    assert token_kinds(episode) == TokenKinds(prompt=3 * 40 - 44, action=40, observation=4)


@given(st.lists(st.tuples(st.text(max_size=30), st.integers(0, 50)), max_size=6))
def test_the_kinds_add_up(parts: list[tuple[str, int]]) -> None:
    turns = tuple(thought(text, tokens) for text, tokens in parts)
    episode = played(question(1), None).model_copy(update={"turns": turns, "prompt_ids": (1,)})
    found = token_kinds(episode)
    assert found.thought + found.action == pytest.approx(sum(tokens for _, tokens in parts))
    assert min(found.thought, found.action) >= 0


def test_means_and_percentiles() -> None:
    assert mean_kinds([TokenKinds(prompt=1, thought=2), TokenKinds(prompt=3)]) == TokenKinds(prompt=2, thought=1)
    assert mean_kinds([]) == TokenKinds()
    values = [0.3, 9.0, 1.0, 2.5, 4.0, 0.1]
    found = spread(values)
    assert found is not None
    assert found.p50 == pytest.approx(statistics.median(values))
    assert found.p95 == pytest.approx(statistics.quantiles(values, n=20, method="inclusive")[-1])
    assert spread([]) is None


def test_throughput_by_concurrency() -> None:
    sessions = [
        Session(concurrency=8, episodes=30, generated_tokens=3000, seconds=10),
        Session(concurrency=1, episodes=2, generated_tokens=100, seconds=4),
        Session(concurrency=8, episodes=10, generated_tokens=1000, seconds=10),
        Session(concurrency=8, episodes=0, generated_tokens=0, seconds=100),
    ]
    one, eight = throughput(sessions)
    assert (one.concurrency, one.episodes_per_s, one.tokens_per_s) == (1, 0.5, 25)
    assert (eight.concurrency, eight.episodes, eight.episodes_per_s, eight.tokens_per_s) == (8, 40, 2, 200)
