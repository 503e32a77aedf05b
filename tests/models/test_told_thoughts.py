"""Guided turns of a policy that knows few sentences."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("llguidance")

from kgr1.agent.parse import parse_turn
from kgr1.agent.rollout import run_episode
from kgr1.agent.thoughts import thoughts
from kgr1.config import AgentSettings, SamplingSettings
from kgr1.graph.store import GraphStore
from kgr1.models.transformers import TransformersPolicy
from kgr1.types import Episode, Question, StopReason

ROWS = [("Ann", "child", "Ben"), ("Ann", "mother", "Cleo"), ("Cleo", "child", "Ann"), ("Cleo", "child", "Dora")]
QUESTION = Question(id="q", text="Who are the children of Ann's mother?", topics=("Ann",), answers=())
HEAT = 30.0
"""Makes long sentences frequent enough to be heard."""

SENTENCES = {"I list the relations.": 0.0, "That was asked.": -1.0, 'The question asks for "{cue}".': 2.0}


@pytest.fixture(scope="module")
def policy(tiny_model: Path) -> TransformersPolicy:
    return TransformersPolicy.load(str(tiny_model), dtype="float32")


def play(
    policy: TransformersPolicy,
    sentences: Mapping[str, float] = SENTENCES,
    temperature: float = 0.0,
    seed: int = 0,
    **agent: Any,
) -> Episode:
    settings = AgentSettings.model_validate(
        {"max_turns": 6, "max_new_tokens": 300, "guided": True, "sets": True, "sentences": sentences, **agent}
    )
    sampling = SamplingSettings(temperature=temperature, seed=seed)
    graph = GraphStore.from_triples(ROWS)
    episode = asyncio.run(run_episode(QUESTION, graph, policy, agent=settings, sampling=sampling))
    assert episode.stop is StopReason.ANSWERED, episode.error
    return episode


def check(episode: Episode, sentences: Mapping[str, float]) -> set[str]:
    """All that was said; each of it is a sentence with a word that was left, in a well-formed turn."""
    said = [parse_turn(turn.text).think for turn in episode.turns]
    for place, (thought, turn) in enumerate(zip(said, episode.turns, strict=True)):
        assert thought in thoughts(sentences, QUESTION, episode.turns[:place])
        assert turn.well_formed
        assert len(turn.logprobs) == len(turn.token_ids)
        assert math.isfinite(sum(turn.logprobs))
        assert sum(turn.logprobs) <= 0.0
    return set(said)


@pytest.mark.parametrize("more", [{}, {"page_size": 2}])
def test_every_turn_begins_with_a_sentence_that_is_known(policy: TransformersPolicy, more: dict[str, Any]) -> None:
    said: set[str] = set()
    for seed in range(12):
        said |= check(play(policy, temperature=HEAT, seed=seed, **more), SENTENCES)
    assert len(said) > 1


def test_without_luck_the_same_comes_again(policy: TransformersPolicy) -> None:
    first, second = play(policy, seed=1), play(policy, seed=2)
    check(first, SENTENCES)
    assert [turn.token_ids for turn in first.turns] == [turn.token_ids for turn in second.turns]
    assert [turn.logprobs for turn in first.turns] == [turn.logprobs for turn in second.turns]


def test_one_sentence_is_no_choice(policy: TransformersPolicy) -> None:
    for sentences in ({"I go on.": 3.0}, {'"{cue}" comes next.': 0.0, "I go on.": 0.0}):
        for seed in range(4):
            check(play(policy, sentences, temperature=1.0, seed=seed), sentences)
    only = play(policy, {"I go on.": 3.0}, temperature=1.0)
    assert all(turn.text.startswith("<think>I go on.</think>\n") for turn in only.turns)


def test_where_no_sentence_is_left_anything_can_be_said(policy: TransformersPolicy) -> None:
    plain, none = (play(policy, sentences) for sentences in ({}, {'It asks for "{cue}".': 0.0}))
    assert all(turn.well_formed for turn in (*plain.turns, *none.turns))
    assert parse_turn(none.turns[0].text).think in ('It asks for "children".', 'It asks for "mother".')


@pytest.mark.parametrize("liked", range(3))
def test_a_number_beside_a_sentence_counts(policy: TransformersPolicy, liked: int) -> None:
    sentence = list(SENTENCES)[liked]
    episode = play(policy, {**SENTENCES, sentence: 500.0}, temperature=1.0)
    check(episode, SENTENCES)
    assert parse_turn(episode.turns[0].text).think[:10] == sentence[:10]
