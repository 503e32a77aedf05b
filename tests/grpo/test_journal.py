"""The log of a run, the saved episodes and the evaluation on the way."""

from __future__ import annotations

import asyncio
import errno
import gzip
import json
import os
import resource
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from kgr1.agent.rollout import run_episodes  # noqa: E402
from kgr1.config import RewardSettings, SamplingSettings  # noqa: E402
from kgr1.errors import CheckpointError, GraphServerError, ModelError, SettingsError  # noqa: E402
from kgr1.grpo import journal  # noqa: E402
from kgr1.grpo.journal import DevEvaluation, JsonlLog, write_episodes  # noqa: E402
from kgr1.grpo.trainer import train_grpo  # noqa: E402
from kgr1.models.transformers import TransformersPolicy  # noqa: E402
from kgr1.models.weights import load_model  # noqa: E402
from kgr1.rewards.score import score_episode  # noqa: E402
from kgr1.types import Episode, Observation, Question, StopReason, Turn  # noqa: E402
from small_world import small_graph, small_questions, small_settings  # noqa: E402

ROWS = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}, {"step": 3, "loss": 0.125}]


def write_log(path: Path, tail: bytes = b"") -> None:
    path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in ROWS) + tail)


def read_log(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def state(step: int, *, main: bool = True) -> SimpleNamespace:
    return SimpleNamespace(global_step=step, max_steps=9, is_world_process_zero=main)


@pytest.mark.parametrize(
    "tail",
    [b"", b'{"step": 2, "lo', b'{"st', b"\x00\x00\x00", b"\xff\xfe", b"[]\n", b'{"loss": 1}\n', b'{"step": "x"}'],
)
def test_on_resume_later_and_torn_lines_are_dropped(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "log.jsonl"
    write_log(path, tail)
    log = JsonlLog(path, 2)
    assert read_log(path) == ROWS[:2]
    log.on_log(None, state(3), None, {"loss": 1.0})
    assert read_log(path) == [*ROWS[:2], {"step": 3, "loss": 1.0}]
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_run_begins_a_new_log(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write_log(path)
    JsonlLog(path, None)
    assert read_log(path) == []


def test_only_finite_numbers_of_the_first_process_are_logged(tmp_path: Path) -> None:
    path = tmp_path / "a" / "log.jsonl"
    log = JsonlLog(path, None)
    values = {"loss": 1, "nan": float("nan"), "inf": float("inf"), "text": "x", "none": None, "train_runtime": 3.0}
    log.on_log(None, state(4), None, values)
    log.on_log(None, state(5, main=False), None, {"loss": 1})
    log.on_log(None, state(5), None, {})
    log.on_log(None, state(5), None, None)
    log.on_log(None, state(5), None, {"train_loss": 2.0, "total_flos": 3.0, "epoch": 1.0})
    assert read_log(path) == [{"step": 4, "loss": 1}]


def test_other_processes_leave_the_log_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.jsonl"
    write_log(path)
    monkeypatch.setenv("RANK", "1")
    JsonlLog(path, None)
    assert read_log(path) == ROWS


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    log = JsonlLog(tmp_path / "log.jsonl", None)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(CheckpointError, match=r"Cannot write .*log\.jsonl: File too large"):
            log.on_log(None, state(1), None, {"loss": 1.0, "reward": 2.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="Cannot write"):
        JsonlLog(tmp_path / "file" / "log.jsonl", None)


def make_episode(name: str) -> Episode:
    question = Question(id=name, text="?", topics=(), answers=())
    return Episode(question=question, turns=(Turn(text="\u2028 Zürich"),), stop=StopReason.MAX_TURNS)


def test_episodes_are_kept_and_a_repeated_step_replaces_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "rollouts"
    write_episodes(folder, 7, 1, [make_episode("old")] * 5)
    episodes = [make_episode("a"), make_episode("b")]
    write_episodes(folder, 7, 1, episodes)
    (file,) = folder.iterdir()
    assert file.name == "step-000007-1.jsonl.gz"
    with gzip.open(file, "rt", encoding="utf-8", newline="\n") as lines:
        assert [Episode.model_validate_json(line) for line in lines] == episodes


def test_episodes_that_cannot_be_written_leave_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "rollouts"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(CheckpointError, match="Cannot write"):
            write_episodes(folder, 1, 0, [make_episode("a")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(folder.iterdir()) == []


def greedy_f1(policy: Path) -> float:
    """F1 of greedy decoding on the small questions, by a fresh policy."""
    loaded = load_model(str(policy))
    questions = small_questions()
    episodes = asyncio.run(
        run_episodes(
            questions,
            small_graph(),
            TransformersPolicy(loaded.model, loaded.tokenizer, name="x"),
            agent=small_settings().agent,
            sampling=[SamplingSettings()] * len(questions),
            samples=[0] * len(questions),
        )
    )
    return sum(score_episode(e, RewardSettings()).outcome.f1 for e in episodes) / len(episodes)


@pytest.mark.parametrize("rank", [0, 4])
def test_evaluation_on_the_way(taught_model: Path, tmp_path: Path, rank: int) -> None:
    settings = small_settings(steps=3, eval_steps=2, lora_rank=rank, learning_rate=2e-3)
    told: list[tuple[int, int]] = []
    questions = small_questions()
    train_grpo(
        str(taught_model),
        questions,
        small_graph(),
        tmp_path,
        settings,
        dev_questions=questions,
        on_step=lambda step, steps, values: told.append((step, steps)),
    )
    rows = read_log(tmp_path / "log.jsonl")
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    assert [("dev_f1" in row, "dev_reward" in row, "loss" in row, "kl" in row) for row in rows] == [
        (True, True, False, False),
        (False, False, True, True),
        (True, True, True, True),
        (False, False, True, True),
    ]
    assert {(step, 3) for step in range(4)} <= set(told)
    scores = {row["step"]: row["dev_f1"] for row in rows if "dev_f1" in row}
    best = json.loads((tmp_path / "best.json").read_text())
    assert best["f1"] == max(scores.values())
    assert best["step"] == next(step for step in sorted(scores) if scores[step] == best["f1"])
    assert scores[0] == pytest.approx(greedy_f1(taught_model))
    assert best["f1"] == pytest.approx(greedy_f1(tmp_path / "best"))
    assert scores[0] > 0


def test_evaluation_does_not_change_the_run(taught_model: Path, tmp_path: Path) -> None:
    questions = small_questions()
    for name, eval_steps in (("with", 1), ("without", 0)):
        settings = small_settings(steps=1, eval_steps=eval_steps)
        train_grpo(str(taught_model), questions, small_graph(), tmp_path / name, settings, dev_questions=questions)
    first, second = (tmp_path / name / "policy" / "model.safetensors" for name in ("with", "without"))
    assert first.read_bytes() == second.read_bytes()


def measured(out: Path, monkeypatch: pytest.MonkeyPatch, f1: float) -> DevEvaluation:
    """An evaluation that writes into ``out`` and is told the F1 instead of finding it; its policy is a text."""
    score = SimpleNamespace(outcome=SimpleNamespace(f1=f1), total=0.0)

    async def nothing(*args: Any, **kwargs: Any) -> list[None]:
        return [None]

    def save(model: Any, tokenizer: Any, target: Path, agent: Any) -> None:
        target.mkdir(exist_ok=True)
        (target / "policy").write_text(str(f1))

    for name, value in (("run_episodes", nothing), ("score_episode", lambda *_: score), ("save_policy", save)):
        monkeypatch.setattr(journal, name, value)
    monkeypatch.setattr(journal, "sync_weights", lambda *_: None)
    trainer = MagicMock(out=out, settings=small_settings(eval_steps=1))
    return DevEvaluation(trainer, small_questions()[:1])


def test_the_best_policy_is_beaten_or_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step, f1, left in ((1, 0.5, 0.5), (2, 0.4, 0.5), (3, 0.6, 0.6)):
        measured(tmp_path, monkeypatch, f1).on_step_end(None, state(step), None)
        assert json.loads((tmp_path / "best.json").read_text())["f1"] == left
        assert (tmp_path / "best" / "policy").read_text() == str(left)
    shutil.rmtree(tmp_path / "best")  # its number without the policy is not to be beaten
    measured(tmp_path, monkeypatch, 0.1).on_step_end(None, state(4), None)
    assert json.loads((tmp_path / "best.json").read_text()) == {"step": 4, "f1": 0.1}
    assert (tmp_path / "best" / "policy").read_text() == "0.1"


def test_the_number_of_the_best_policy_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    evaluation = measured(tmp_path, monkeypatch, 0.5)
    monkeypatch.setattr(journal, "write_json", full)
    with pytest.raises(CheckpointError, match=r"Cannot write .*best\.json: the disk is full.*make room"):
        evaluation.on_step_end(None, state(1), None)


@pytest.mark.parametrize(
    ("changes", "questions", "words"),
    [
        ({"micro_batch_size": 3}, 6, "must be a multiple of train.micro_batch_size"),
        ({"updates_per_batch": 4}, 6, "train.save_steps must be a multiple of train.updates_per_batch = 4"),
        ({"updates_per_batch": 2, "steps": 3}, 6, r"train.steps must be a multiple of .* = 2.*; 3 is none"),
        ({"questions_per_step": 4}, 3, "There are 3 training questions, fewer than train.questions_per_step = 4"),
        ({}, 0, "no training question"),
    ],
)
def test_settings_that_do_not_fit(
    taught_model: Path, tmp_path: Path, changes: dict[str, int], questions: int, words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        train_grpo(str(taught_model), small_questions()[:questions], small_graph(), tmp_path, small_settings(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"ranker_weight": 1.0},
        {"meaning_weight": 1.0},
        {"ahead_weight": 1.0},
        {"connection_weight": 1.0},
        {"sentences": {"So be it.": 0.0, "That was asked.": 1.0}},
    ],
)
def test_what_is_added_to_probabilities_has_no_part_in_training(
    taught_model: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    usual = small_settings()
    changed = usual.model_copy(update={"agent": usual.agent.model_copy(update=changes)})
    with pytest.raises(SettingsError, match=r"agent\.ranker_weight=0"):
        train_grpo(str(taught_model), small_questions(), small_graph(), tmp_path, changed)


def test_two_questions_with_one_id(taught_model: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="same id"):
        train_grpo(str(taught_model), small_questions() * 2, small_graph(), tmp_path, small_settings())


def test_a_graph_or_model_that_fails_everywhere_stops_the_run(
    taught_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone:
        def execute(self, queries: Any) -> list[Observation]:
            raise GraphServerError("The graph is gone.")

    from kgr1.models.engine import Engine

    run = run_episodes

    async def asking(*args: Any, **kwargs: Any) -> list[Episode]:
        # Every model asks its graph sooner or later; these do at once.
        episodes = await run(*args, **kwargs)
        return [e.model_copy(update={"stop": StopReason.GRAPH_ERROR, "error": "The graph is gone."}) for e in episodes]

    with monkeypatch.context() as patch:
        patch.setattr("kgr1.grpo.trainer.run_episodes", asking)
        with pytest.raises(GraphServerError, match=r"Every episode of this step failed.*The graph is gone"):
            train_grpo(str(taught_model), small_questions(), small_graph(), tmp_path / "a", small_settings())

    def broken(self: Any) -> None:
        raise RuntimeError("no more memory")

    monkeypatch.setattr(Engine, "_step", broken)
    with pytest.raises(ModelError, match="no more memory"):
        train_grpo(str(taught_model), small_questions(), small_graph(), tmp_path / "b", small_settings())
