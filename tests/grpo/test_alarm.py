"""Runs that run away are saved and ended, with the reason; others are left alone."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("trl")

from kgr1.config import TrainSettings
from kgr1.grpo.alarm import WINDOW, Alarm, find_alarm
from kgr1.grpo.checkpoint import latest_checkpoint
from kgr1.grpo.trainer import train_grpo
from small_world import small_graph, small_questions, small_settings

CALM = {"entropy": 0.5, "kl": 0.02, "generated_tokens": 100.0}


@pytest.mark.parametrize(
    ("change", "word"),
    [({"kl": 9.0}, "train.stop_kl"), ({"entropy": 6.0}, "train.stop_entropy"), ({"generated_tokens": 900.0}, "grew")],
)
def test_what_runs_away_is_named(change: dict[str, float], word: str) -> None:
    rows = [CALM] * 10
    assert find_alarm(rows, TrainSettings()) is None
    assert find_alarm([*rows, CALM | change], TrainSettings()) is None or change == {"kl": 9.0}
    reason = find_alarm([*rows, *[CALM | change] * WINDOW], TrainSettings())
    assert reason is not None
    assert word in reason


def test_limits_of_zero_and_missing_values_are_silent() -> None:
    wild = [{"entropy": 50.0, "generated_tokens": 1e6 * step} for step in range(1, 20)]
    silent = TrainSettings(stop_entropy=0, stop_growth=0)
    assert find_alarm(wild, silent) is None
    assert find_alarm(wild, TrainSettings()) is not None
    assert find_alarm(wild[: WINDOW - 1], TrainSettings()) is None


def test_between_updates_on_one_batch_a_run_goes_on() -> None:
    """The episodes of a batch are in no checkpoint."""
    alarm = Alarm(TrainSettings(updates_per_batch=3))
    rows: list[dict[str, float]] = []
    for step in range(1, 13):
        # Step 10 alone is so bad that the mean is too high in a window that ends there; later steps bring it down.
        rows.append(CALM | {"kl": {10: 9.0, 11: -9.0}.get(step, 0.02)})
        control = SimpleNamespace(should_save=False, should_training_stop=False)
        alarm.on_log(None, SimpleNamespace(log_history=rows, global_step=step), control)
        stopped = step == 12
        assert (control.should_save, control.should_training_stop) == (stopped, stopped)
        assert (alarm.reason is not None) == stopped


def test_a_run_stops_saved_and_goes_on_with_another_limit(taught_model: Path, tmp_path: Path) -> None:
    reasons: list[str] = []

    def run(limit: float, *, resume: bool) -> list[int]:
        settings = small_settings(lora_rank=4, steps=WINDOW + 2, save_steps=50, stop_entropy=limit)
        train_grpo(
            str(taught_model), small_questions(), small_graph(), tmp_path, settings,
            resume=resume, on_alarm=reasons.append,
        )  # fmt: skip
        return [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text("utf-8").splitlines()]

    assert run(1e-9, resume=False) == list(range(1, WINDOW + 1))
    assert len(reasons) == 1
    assert "train.stop_entropy" in reasons[0]
    checkpoint = latest_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint.name == f"checkpoint-{WINDOW}"
    assert run(0, resume=True) == list(range(1, WINDOW + 3))
    assert len(reasons) == 1
