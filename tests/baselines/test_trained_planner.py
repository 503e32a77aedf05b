"""A planner that was trained on shortest paths plans them, and RoG answers with it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

pytest.importorskip("trl")

from baseline_parts import settings

from kgr1.baselines.plans import plan_prompt, plan_target, read_plan
from kgr1.baselines.rog import Rog
from kgr1.config import ColdstartSettings
from kgr1.datasets.plans import planner_pairs
from kgr1.grpo.coldstart import IGNORED, text_examples, train_coldstart
from kgr1.models.local import LocalClient
from kgr1.models.weights import load_model
from small_world import small_graph, small_questions


def test_the_trained_planner_finds_the_answers(tiny_model: Path, tmp_path: Path) -> None:
    graph, questions = small_graph(), small_questions()
    pairs = planner_pairs(questions, graph, count=100, seed=0)
    assert {(q.id, str(path[0])) for q, path in pairs} == {(q.id, q.gold_path[0]) for q in questions}
    texts = [(plan_prompt(question), plan_target(path)) for question, path in pairs]
    loaded = load_model(str(tiny_model))
    examples = text_examples(texts, loaded.tokenizer)
    for example, (_, target) in zip(examples, texts, strict=True):
        learned = [label for label in example.labels if label != IGNORED]
        assert loaded.tokenizer.decode(learned) == f"{target}<|im_end|>"
    cold = ColdstartSettings(
        epochs=60, learning_rate=1e-2, batch_size=6, micro_batch_size=6, lora_rank=0, save_steps=10_000
    )
    folder = train_coldstart(loaded, examples, tmp_path / "planner", cold)

    client = LocalClient.load(str(folder), max_rows=2)
    player, short = Rog(reasons=False), settings(beams=1, plan_tokens=20)
    for question in questions:
        episode = asyncio.run(player(question, graph, client, short, seed=0))
        plan = read_plan(episode.turns[0].text, longest=3, backward=False)
        assert plan is not None
        assert [str(hop) for hop in plan] == list(question.gold_path)
        assert episode.answers == (question.answers[0].label,)
        assert len(episode.evidence) == 1
    many = asyncio.run(player(questions[0], graph, client, settings(plan_tokens=20), seed=0))
    assert many.answers[0] == questions[0].answers[0].label  # the best of three beams comes first
