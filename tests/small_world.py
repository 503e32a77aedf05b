"""A graph of a few facts, questions about it, and a tiny model that a cold start has taught to ask and answer them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kgr1.config import AgentSettings, ColdstartSettings, RewardSettings, Settings, TrainSettings
from kgr1.datasets.expert import Step
from kgr1.graph.store import GraphStore
from kgr1.types import Answer, GoldAnswer, Operation, Query, Question

FACTS = (
    ("Ann", "likes", "Bob"),
    ("Ann", "has", "cat"),
    ("Bob", "likes", "Cid"),
    ("Bob", "has", "dog"),
    ("Cid", "likes", "Ann"),
    ("Cid", "has", "fox"),
)
AGENT = AgentSettings(max_turns=3, max_new_tokens=40, observation_tokens=32)
SEED = 3


def small_graph() -> GraphStore:
    return GraphStore.from_triples(FACTS, name="small")


def small_questions() -> list[Question]:
    """One question for each fact."""
    return [
        Question(
            id=f"{head}-{relation}",
            text=f"{head} {relation}?",
            topics=(head,),
            answers=(GoldAnswer(label=tail, id=tail),),
            gold_path=(relation,),
        )
        for head, relation, tail in FACTS
    ]


def small_trajectories() -> list[tuple[Question, list[Step]]]:
    """The shortest way to each answer: one query, one answer."""
    return [
        (
            question,
            [
                Step(think="I ask", query=_query(question.topics[0], question.gold_path[0])),
                Step(think="I see", answer=Answer(names=(question.answers[0].label,))),
            ],
        )
        for question in small_questions()
    ]


def _query(entity: str, relation: str) -> Query:
    return Query(operation=Operation.GET_TAIL_ENTITIES, entity=entity, relation=relation)


def teach(start: Path, out: Path, *, epochs: int = 100, **changes: Any) -> Path:
    """Cold start of the model in ``start``: it asks well-formed questions most of the time, but not always."""
    from kgr1.grpo.coldstart import build_examples, train_coldstart
    from kgr1.models.weights import load_model

    settings = ColdstartSettings(
        epochs=epochs, learning_rate=1e-2, batch_size=6, micro_batch_size=6, lora_rank=0, save_steps=10_000
    )
    loaded = load_model(str(start))
    examples = build_examples(small_trajectories(), small_graph(), loaded.tokenizer, AGENT)
    return train_coldstart(loaded, examples, out, settings.model_copy(update=changes))


def small_settings(**train: Any) -> Settings:
    """Settings of a GRPO run of a few seconds."""
    values: dict[str, Any] = {
        "steps": 4,
        "questions_per_step": 2,
        "group_size": 4,
        "micro_batch_size": 4,
        "learning_rate": 1e-3,
        "lora_rank": 0,
        "save_steps": 2,
        "seed": SEED,
    }
    agent = AGENT.model_copy(update={"max_turns": 2})
    return Settings(agent=agent, reward=RewardSettings(), train=TrainSettings(**{**values, **train}))
