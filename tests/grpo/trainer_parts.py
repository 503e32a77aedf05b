"""Trainers on the small world, ready to be taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kgr1.grpo.trainer import KGRPOTrainer
from kgr1.models.transformers import TransformersPolicy
from kgr1.models.weights import load_model
from kgr1.types import Question
from small_world import small_graph, small_questions, small_settings


def make_trainer(
    start: Path, out: Path, *, adapter: bool = False, questions: Sequence[Question] = (), **train: Any
) -> KGRPOTrainer:
    """A trainer before its first step, in training mode; on the small world's questions unless others are given."""
    settings = small_settings(lora_rank=4 if adapter else 0, **train)
    loaded, sampler = load_model(str(start)), load_model(str(start))
    policy = TransformersPolicy(sampler.model, sampler.tokenizer, name="test", max_rows=8)
    trainer = KGRPOTrainer(loaded, policy, questions or small_questions(), small_graph(), out, settings)
    trainer.model.train()
    return trainer


def make_batch(trainer: KGRPOTrainer, questions: int = 2) -> dict[str, Any]:
    """Roll out one batch; the batch as the trainer would buffer it, before it is shuffled."""
    names = [question.id for question in small_questions()[:questions]]
    rows = [{"prompt": name} for name in names for _ in range(trainer.settings.train.group_size)]
    output: dict[str, Any] = trainer._generate_and_score_completions(rows)
    return output
