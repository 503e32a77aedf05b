"""The JSONL log of a training run: one row a step, kept in step with the checkpoints."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from kgr1.agent.rollout import run_episodes
from kgr1.config import SamplingSettings
from kgr1.grpo.checkpoint import discard, failure, is_main_process, working_name, write_json
from kgr1.grpo.policy import save_policy
from kgr1.models.sync import sync_weights
from kgr1.rewards.score import score_episode
from kgr1.types import Episode, Question

_IGNORED = frozenset(
    {"total_flos", "train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss"}
)


class JsonlLog(TrainerCallback):  # type: ignore[misc]
    """Appends every logged row to ``log.jsonl``, with short stable names.

    On resume, rows after the checkpoint's step are dropped first: they will be written again.
    """

    def __init__(self, path: Path, resumed_step: int | None) -> None:
        self.path = path
        if not is_main_process():
            return
        kept: list[str] = []
        temporary = working_name(path)
        try:
            if path.is_file() and resumed_step is not None:
                lines = path.read_text("utf-8", errors="replace").splitlines()
                kept = [line for line in lines if _step(line) <= resumed_step]
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in kept)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            raise failure(path, error) from error
        finally:
            discard(temporary)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Write one row."""
        if not state.is_world_process_zero or not logs:
            return
        row = {"step": state.global_step} | {
            key: value
            for key, value in logs.items()
            if key not in _IGNORED and isinstance(value, int | float) and math.isfinite(value)
        }
        if row.keys() <= {"step", "epoch"}:  # the trainer's closing summary
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, sort_keys=True) + "\n")
        except OSError as error:
            raise failure(self.path, error) from error


def _step(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 1 << 62  # a torn last line belongs to no step and is dropped


class StepReport(TrainerCallback):  # type: ignore[misc]
    """Tells a callable (step, steps, logged values) after every step, e.g. to move a progress bar."""

    def __init__(self, report: Callable[[int, int, dict[str, float]], None]) -> None:
        self._report = report

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Pass the numbers on."""
        if state.is_world_process_zero:
            numbers = {key: float(value) for key, value in (logs or {}).items() if isinstance(value, int | float)}
            self._report(state.global_step, state.max_steps, numbers)


class DevEvaluation(TrainerCallback):  # type: ignore[misc]
    """Greedy F1 on development questions every ``train.eval_steps`` steps; the best policy is kept in ``best/``."""

    def __init__(self, trainer: Any, questions: Sequence[Question]) -> None:
        self._trainer, self._questions = trainer, list(questions)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure the start."""
        if state.global_step == 0:
            self._measure(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure when it is time."""
        if state.global_step % self._trainer.settings.train.eval_steps == 0:
            self._measure(state)

    def _measure(self, state: Any) -> None:
        trainer = self._trainer
        model = trainer.accelerator.unwrap_model(trainer.model)
        sync_weights(model, trainer.policy.engine.model)
        count = len(self._questions)
        episodes = asyncio.run(
            run_episodes(
                self._questions,
                trainer.graph,
                trainer.policy,
                agent=trainer.settings.agent,
                sampling=[SamplingSettings()] * count,
                samples=[0] * count,
            )
        )
        scores = [score_episode(episode, trainer.settings.reward) for episode in episodes]
        f1 = sum(score.outcome.f1 for score in scores) / count
        measured = {"dev_f1": f1, "dev_reward": sum(score.total for score in scores) / count}
        if state.global_step == 0:
            trainer.log(measured)
        else:  # goes out with the row of this step; logging now would split that row in two
            for name, value in measured.items():
                trainer._metrics["train"][name].append(value)
        best = trainer.out / "best.json"
        there = best.is_file() and (trainer.out / "best").is_dir()  # a number without its policy is not to be beaten
        known = json.loads(best.read_text("utf-8"))["f1"] if there and state.global_step else -1.0
        if f1 > known and state.is_world_process_zero:
            save_policy(model, trainer.processing_class, trainer.out / "best", trainer.settings.agent)
            try:
                write_json(best, {"step": state.global_step, "f1": f1})
            except OSError as error:
                raise failure(best, error) from error


def write_episodes(folder: Path, step: int, rank: int, episodes: Sequence[Episode]) -> None:
    """Keep the episodes of one step; a step that is run again replaces its file.

    Raises :class:`kgr1.errors.CheckpointError` if they cannot be written.
    """
    path = folder / f"step-{step:06d}-{rank}.jsonl.gz"
    temporary = working_name(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with gzip.open(temporary, "wt", encoding="utf-8") as file:
            for episode in episodes:
                file.write(episode.model_dump_json() + "\n")
        os.replace(temporary, path)
    except OSError as error:
        raise failure(path, error, run=folder.parent) from error
    finally:
        discard(temporary)
