"""A run that was killed and resumed ends as one that was not: the same weights, bit for bit, and the same log."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")

from kgr1.errors import SettingsError
from kgr1.grpo.trainer import train_grpo
from kgr1.types import Episode
from small_world import SEED, small_graph, small_questions, small_settings

SCRIPT = Path(__file__).with_name("training_process.py")
TIMES = ("rollout_s", "step_time")
KILLED = -9

COLD = {
    "epochs": 2,
    "learning_rate": 1e-3,
    "batch_size": 2,
    "micro_batch_size": 1,
    "lora_rank": 0,
    "save_steps": 2,
    "seed": SEED,
}
CASES: dict[str, dict[str, Any]] = {
    "grpo, all weights": {"kind": "grpo", "start": "taught", "changes": {}, "turns": 2},
    "grpo, a new adapter, in stages": {
        "kind": "grpo",
        "start": "taught",
        "changes": {"lora_rank": 4, "stages": [1], "stage_steps": 1},
    },
    "grpo, an adapter to start from": {
        "kind": "grpo",
        "start": "adapter",
        "changes": {"lora_rank": 4, "updates_per_batch": 2, "beta": 0.1},
    },
    "cold start, all weights": {"kind": "coldstart", "start": "taught", "changes": {}},
    "cold start, a new adapter, in stages": {
        "kind": "coldstart",
        "start": "taught",
        "changes": {"lora_rank": 4, "stages": [1]},
    },
}


def save_adapter(base: Path, target: Path) -> Path:
    """A small random adapter on ``base``."""
    import torch
    from peft import get_peft_model

    from kgr1.grpo.policy import lora_config, save_policy
    from kgr1.models.weights import load_model

    loaded = load_model(str(base))
    torch.manual_seed(1)
    model = get_peft_model(loaded.model, lora_config(4))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.01)
    return save_policy(model, loaded.tokenizer, target)


@pytest.fixture(scope="module")
def finished(taught_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with an unbroken run and a broken one for every case."""
    folder = tmp_path_factory.mktemp("resume")
    starts = {"taught": taught_model, "adapter": save_adapter(taught_model, folder / "adapter")}
    runs: list[dict[str, Any]] = []
    codes: list[int] = []

    def add(code: int, **run: Any) -> None:
        runs.append(run)
        codes.append(code)

    for name, case in CASES.items():
        if case["kind"] == "grpo":
            settings = small_settings(**case["changes"]).model_dump(mode="json")
            settings["agent"]["max_turns"] = case.get("turns", 1)
        else:
            settings = COLD | case["changes"]
        common = {"kind": case["kind"], "start": str(starts[case["start"]]), "settings": settings}
        broken = common | {"out": str(folder / name / "broken")}
        add(0, **common, out=str(folder / name / "unbroken"))
        add(KILLED, **broken, kill_after=["checkpoint-2/complete.json", 1 if case["kind"] == "grpo" else 2])
        if name == "grpo, all weights":  # while a checkpoint is written, and between the last one and the end
            add(KILLED, **broken, resume=True, die_writing=4)
            add(KILLED, **broken, resume=True, die_after=4)
        add(0, **broken, resume=True)
    (folder / "runs.json").write_text(json.dumps(runs))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder / "runs.json")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == codes, done.stderr
    return folder


def rows(run: Path) -> list[dict[str, float]]:
    lines = (run / "log.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in TIMES} for line in lines]


def bare(episode: Episode) -> dict[str, Any]:
    plain = episode.model_dump(mode="json")
    for part in (plain["usage"], *plain["turns"]):
        for key in [key for key in part if key in ("seconds", "generate_s", "graph_s")]:
            del part[key]
    del plain["policy"]
    return dict(plain)


def rollouts(run: Path) -> dict[str, list[dict[str, Any]]]:
    return {
        path.name: [bare(Episode.model_validate_json(line)) for line in gzip.open(path, "rt", encoding="utf-8")]
        for path in (run / "rollouts").glob("*")
    }


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_equals_an_unbroken_one(finished: Path, case: str) -> None:
    unbroken, broken = finished / case / "unbroken", finished / case / "broken"
    wanted = rows(unbroken)
    assert [row["step"] for row in wanted] == list(range(1, len(wanted) + 1))
    assert len({row["loss"] for row in wanted}) > 1
    assert all(row["grad_norm"] > 0 for row in wanted)
    assert rows(broken) == wanted
    files = {path.name for path in (unbroken / "policy").iterdir()}
    assert files == {path.name for path in (broken / "policy").iterdir()}
    (weights,) = (name for name in files if name.endswith(".safetensors"))
    assert (unbroken / "policy" / weights).read_bytes() == (broken / "policy" / weights).read_bytes()
    assert rollouts(unbroken) == rollouts(broken)


def test_the_runs_were_broken_where_they_should(finished: Path) -> None:
    """The pieces of a broken run leave traces: one TensorBoard file each."""
    for case in CASES:
        pieces = {path.name for path in (finished / case / "broken" / "runs").rglob("events*")}
        assert len(pieces) == (3 if case == "grpo, all weights" else 2)
        assert not list((finished / case / "broken").glob(".*"))


def test_a_pass_over_the_questions_ends_inside_the_run(finished: Path) -> None:
    asked = rollouts(finished / "grpo, all weights" / "broken")
    assert sorted(asked) == [f"step-{step:06d}-0.jsonl.gz" for step in range(4)]
    questions = [{episode["question"]["id"] for episode in asked[name]} for name in sorted(asked)]
    assert [len(step) for step in questions] == [2, 2, 2, 2]
    assert questions[0] | questions[1] == questions[2] | questions[3]
    assert len(questions[0] | questions[1]) == 4


def test_the_stages_went_on_where_they_were(finished: Path) -> None:
    asked = rollouts(finished / "grpo, a new adapter, in stages" / "broken")
    hops = [{episode["question"]["hops"] for episode in asked[name]} for name in sorted(asked)]
    assert hops[0] == {1}
    # The run was broken in the middle of the first pass over everything.
    questions = [{episode["question"]["id"] for episode in asked[name]} for name in sorted(asked)]
    assert len(questions[1] | questions[2]) == 4


def test_a_run_with_several_updates_on_a_batch_is_made_longer(taught_model: Path, tmp_path: Path) -> None:
    """Checkpoints are where a batch ends, also the one at the end of a run."""

    def train(out: Path, steps: int, *, resume: bool = False) -> Path:
        settings = small_settings(steps=steps, updates_per_batch=3, save_steps=3, lora_rank=4)
        train_grpo(str(taught_model), small_questions()[:4], small_graph(), out, settings, resume=resume)
        return out

    for steps in (4, 5):
        with pytest.raises(SettingsError, match=r"train\.steps must be a multiple of train\.updates_per_batch = 3"):
            train(tmp_path / "cut", steps)
    whole, longer = train(tmp_path / "whole", 6), train(tmp_path / "longer", 3)
    train(longer, 6, resume=True)
    assert rows(longer) == rows(whole)
    assert [row["step"] for row in rows(whole)] == list(range(1, 7))
    assert rollouts(longer) == rollouts(whole)
    file = "adapter_model.safetensors"
    assert (longer / "policy" / file).read_bytes() == (whole / "policy" / file).read_bytes()


def test_the_adapter_to_start_from_is_the_reference(finished: Path) -> None:
    first = rows(finished / "grpo, an adapter to start from" / "unbroken")[0]
    assert first["kl"] == pytest.approx(0, abs=1e-7)
