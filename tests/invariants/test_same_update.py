"""The update does not depend on how a batch is cut: into micro-batches, or among processes."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from safetensors.torch import load_file  # noqa: E402

from kgr1.config import ColdstartSettings  # noqa: E402
from kgr1.grpo.coldstart import build_examples, train_coldstart  # noqa: E402
from kgr1.grpo.trainer import train_grpo  # noqa: E402
from kgr1.models.weights import load_model  # noqa: E402
from kgr1.types import Episode  # noqa: E402
from small_world import (  # noqa: E402
    AGENT,
    SEED,
    small_graph,
    small_questions,
    small_settings,
    small_trajectories,
)

SCRIPT = Path(__file__).with_name("two_processes.py")
COMPARED = ("loss", "grad_norm", "reward", "reward_std", "f1", "turns", "generated_tokens", "num_tokens")


def row(out: Path) -> dict[str, float]:
    (line,) = (out / "log.jsonl").read_text().splitlines()
    values: dict[str, float] = json.loads(line)
    return values


def weights(policy: Path) -> dict[str, Any]:
    (file,) = policy.glob("*.safetensors")
    return dict(load_file(file))


def gradients(out: Path) -> list[Any]:
    """The gradient of the first step as the optimizer got it (a tenth of it is Adam's first moment)."""
    state = torch.load(out / "checkpoint-1" / "optimizer.pt")["state"]
    return [10 * state[index]["exp_avg"] for index in sorted(state)]


def check_same(one: Path, other: Path) -> None:
    # Not the weights: a first step of Adam is nearly the sign of the gradient, whatever its size.
    left, right = gradients(one), gradients(other)
    assert len(left) == len(right) > 10
    assert max(float(gradient.abs().max()) for gradient in left) > 1e-2
    for a, b in zip(left, right, strict=True):
        assert torch.allclose(a, b, atol=2e-6, rtol=1e-3)
    first, second = row(one), row(other)
    for name in COMPARED:
        assert second[name] == pytest.approx(first[name], rel=2e-4, abs=1e-6), name


def reinforce(start: Path, out: Path, rank: int, micro: int, **train: Any) -> Path:
    # One group, so that with two processes each has a half of it.
    settings = small_settings(
        steps=1,
        save_steps=9,
        questions_per_step=1,
        group_size=8,
        micro_batch_size=micro,
        lora_rank=rank,
        beta=0.1,
        **train,
    )
    train_grpo(str(start), small_questions()[:4], small_graph(), out, settings)
    return out


def replace_dull(start: Path, out: Path) -> Path:
    """A step that samples nearly greedily, so that the episodes of most groups are all alike; a group a process."""
    settings = small_settings(steps=1, save_steps=9, lora_rank=4, beta=0.1, temperature=0.05, resample=2)
    train_grpo(str(start), small_questions(), small_graph(), out, settings)
    return out


@pytest.mark.parametrize("rank", [0, 4])
def test_micro_batches_of_reinforcement_learning(taught_model: Path, tmp_path: Path, rank: int) -> None:
    check_same(*(reinforce(taught_model, tmp_path / str(micro), rank, micro) for micro in (4, 2)))


@pytest.mark.parametrize("rank", [0, 4])
def test_activations_that_are_computed_again(taught_model: Path, tmp_path: Path, rank: int) -> None:
    kept, again = (
        reinforce(taught_model, tmp_path / str(on), rank, 4, gradient_checkpointing=on) for on in (False, True)
    )
    check_same(kept, again)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_bfloat16_trains_weights_that_stay_float32(taught_model: Path, tmp_path: Path, checkpointing: bool) -> None:
    """A step of 1e-6 is less than bfloat16 can add to a weight."""
    out = reinforce(
        taught_model,
        tmp_path,
        0,
        4,
        dtype="bfloat16",
        gradient_checkpointing=checkpointing,
        learning_rate=1e-6,
        rollout_rows=3,  # fewer than episodes: the others wait for a row
    )
    before, after = weights(taught_model), weights(out / "policy")
    assert {value.dtype for value in after.values()} == {torch.float32}
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert len(moved) == len(before)
    assert any(torch.equal(before[name].bfloat16(), after[name].bfloat16()) for name in before)
    values = row(out)
    assert values["kl"] < 1e-3  # the reference is rounded in the same way
    assert values["grad_norm"] > 0


def cold(start: Path, out: Path, rank: int, micro: int) -> Path:
    loaded = load_model(str(start))
    examples = build_examples(small_trajectories(), small_graph(), loaded.tokenizer, AGENT)
    settings = ColdstartSettings(
        epochs=3, batch_size=6, micro_batch_size=micro, lora_rank=rank, save_steps=9, seed=SEED, learning_rate=1e-3
    )
    train_coldstart(loaded, examples, out, settings)
    return out


@pytest.mark.parametrize("rank", [0, 4])
def test_micro_batches_of_the_cold_start(tiny_model: Path, tmp_path: Path, rank: int) -> None:
    whole = cold(tiny_model, tmp_path / "6", rank, 6)
    for micro in (1, 2):
        other = cold(tiny_model, tmp_path / str(micro), rank, micro)
        logs = [[json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()] for out in (whole, other)]
        for first, second in zip(*logs, strict=True):
            assert second["loss"] == pytest.approx(first["loss"], rel=2e-4)
            assert second["grad_norm"] == pytest.approx(first["grad_norm"], rel=2e-3)
        left, right = weights(whole / "policy"), weights(other / "policy")
        assert all(torch.allclose(left[name], right[name], atol=5e-5, rtol=0) for name in left)


@pytest.fixture(scope="module")
def distributed(taught_model: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the results of the same steps in two processes (gloo, CPU)."""
    folder = tmp_path_factory.mktemp("distributed")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(SCRIPT)]
    done = subprocess.run(
        [sys.executable, *launch, str(taught_model), str(tiny_model), str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, [line for line in done.stderr.splitlines() if "Error" in line]
    return folder


@pytest.mark.parametrize("rank", [0, 4])
def test_two_processes_reinforce_as_one(distributed: Path, taught_model: Path, tmp_path: Path, rank: int) -> None:
    alone = reinforce(taught_model, tmp_path, rank, 4)
    together = distributed / f"grpo-{rank}"
    check_same(alone, together)
    advantages = [json.loads((distributed / f"advantages-{rank}-{process}.json").read_text()) for process in (0, 1)]
    assert len(advantages[0]) == len(advantages[1]) == 4
    assert advantages[0] != advantages[1]
    assert {path.name for path in (together / "rollouts").iterdir()} == {
        "step-000000-0.jsonl.gz",
        "step-000000-1.jsonl.gz",
    }


def test_two_processes_replace_what_one_would_replace(distributed: Path, taught_model: Path, tmp_path: Path) -> None:
    def played(out: Path) -> list[tuple[str, int, int | None, tuple[str, ...]]]:
        files = sorted((out / "rollouts").iterdir())  # those of the processes, in order
        lines = [line for file in files for line in gzip.decompress(file.read_bytes()).splitlines()]
        episodes = [Episode.model_validate_json(line) for line in lines]
        return [(e.question.id, e.sample, e.seed, tuple(turn.text for turn in e.turns)) for e in episodes]

    alone, together = replace_dull(taught_model, tmp_path), distributed / "replaced"
    assert played(together) == played(alone)
    assert len({episode[0] for episode in played(together)}) == 2
    assert row(together)["resampled_groups"] == row(alone)["resampled_groups"] >= 2


def test_two_processes_start_cold_as_one(distributed: Path, tiny_model: Path, tmp_path: Path) -> None:
    alone = cold(tiny_model, tmp_path, 0, 3)
    left, right = weights(alone / "policy"), weights(distributed / "cold" / "policy")
    assert all(torch.allclose(left[name], right[name], atol=5e-5, rtol=0) for name in left)
    for first, second in zip(
        *((out / "log.jsonl").read_text().splitlines() for out in (alone, distributed / "cold")), strict=True
    ):
        assert json.loads(second)["grad_norm"] == pytest.approx(json.loads(first)["grad_norm"], rel=2e-3)
        assert json.loads(second)["loss"] == pytest.approx(json.loads(first)["loss"], rel=2e-3)


def test_two_processes_leave_one_complete_checkpoint(distributed: Path) -> None:
    from kgr1.grpo.checkpoint import latest_checkpoint

    for name in ("grpo-0", "grpo-4", "replaced", "cold"):
        checkpoint = latest_checkpoint(distributed / name)
        assert checkpoint is not None
        assert len(list(checkpoint.glob("rng_state_*"))) == 2
        assert not list((distributed / name).glob(".*"))
