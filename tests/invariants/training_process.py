"""Training runs in processes of their own, some of which are killed on the way.

``python training_process.py FILE``: FILE is a JSON list of runs, each an object with ``kind`` (``grpo`` or
``coldstart``), ``start``, ``out``, ``settings``, and perhaps ``resume`` and ``kill_after``. Every run is
forked from one process that has loaded the libraries; the exit codes are printed as a JSON list.

A run with ``die_writing`` is killed when the files of that checkpoint are written, but not yet its marker; one with
``die_after`` as soon as its marker is.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import peft  # noqa: F401  (what every run would load for itself)
import torch
import torch.utils.tensorboard
import transformers.models.llama.modeling_llama
import transformers.trainer  # noqa: F401

import kgr1.grpo.checkpoint
from kgr1.config import ColdstartSettings, Settings
from kgr1.graph.api import GraphInfo
from kgr1.grpo.coldstart import build_examples, train_coldstart
from kgr1.grpo.trainer import train_grpo
from kgr1.models.weights import load_model
from kgr1.types import Observation, Query, Question
from small_world import AGENT, small_graph, small_questions, small_trajectories


class Deadly:
    """The small graph; once the file ``after`` exists, the ``count``-th query from then on kills the process."""

    def __init__(self, after: Path | None, count: int) -> None:
        self._graph, self._after, self._left = small_graph(), after, count

    def execute(self, queries: Sequence[Query]) -> list[Observation]:
        if self._after is not None and self._after.exists():
            self._left -= len(queries)
            if self._left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return self._graph.execute(queries)

    def info(self) -> GraphInfo:
        return self._graph.info()

    def close(self) -> None:
        self._graph.close()


def die_writing(step: int, *, marked: bool = False) -> None:
    """Let this process be killed when it is about to mark the checkpoint of ``step`` as complete, or has done so."""
    mark = kgr1.grpo.checkpoint.mark_complete

    def deadly(path: Path) -> None:
        last = path.name == f"checkpoint-{step}"
        if last and marked:
            mark(path)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        mark(path)

    kgr1.grpo.checkpoint.mark_complete = deadly


def with_hops(number: int, question: Question) -> Question:
    """Every second question says that it has two hops, so that there is something to stage."""
    return question.model_copy(update={"hops": 1 + number % 2})


def grpo(run: dict[str, Any], out: Path) -> None:
    after, count = run.get("kill_after") or (None, 0)
    train_grpo(
        run["start"],
        [with_hops(number, question) for number, question in enumerate(small_questions()[:4])],  # two steps a pass
        Deadly(out / after if after else None, count),
        out,
        Settings.model_validate(run["settings"]),
        resume=run.get("resume", False),
    )


def coldstart(run: dict[str, Any], out: Path) -> None:
    settings = ColdstartSettings.model_validate(run["settings"])
    loaded = load_model(run["start"], merge=settings.lora_rank == 0)
    trajectories = [(with_hops(n, question), steps) for n, (question, steps) in enumerate(small_trajectories())]
    examples = build_examples(trajectories, small_graph(), loaded.tokenizer, AGENT)
    after, count = run.get("kill_after") or (None, 0)

    def on_step(step: int, steps: int, values: dict[str, float]) -> None:
        # Reported before the checkpoint of the same step is written, so the step after it is the first to die.
        if after is not None and (out / after).exists() and step > count:
            os.kill(os.getpid(), signal.SIGKILL)

    train_coldstart(loaded, examples, out, settings, resume=run.get("resume", False), on_step=on_step)


def perform(run: dict[str, Any]) -> int:
    """Fork a process for the run; its exit code, negative for a signal."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        torch.set_num_threads(1)
        os.dup2(2, 1)  # the trainer prints; stdout is for the result
        if run.get("die_writing"):
            die_writing(run["die_writing"])
        if run.get("die_after"):
            die_writing(run["die_after"], marked=True)
        {"grpo": grpo, "coldstart": coldstart}[run["kind"]](run, Path(run["out"]))
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    runs = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    print(json.dumps([perform(run) for run in runs]))
