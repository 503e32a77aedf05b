"""Checkpoints are complete or not there, whatever happens while they are written."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from full_disk import file_size_limit  # noqa: E402
from kgr1.config import ColdstartSettings  # noqa: E402
from kgr1.errors import CheckpointError, SettingsError  # noqa: E402
from kgr1.grpo.checkpoint import (  # noqa: E402
    MARKER,
    checkpoint_step,
    latest_checkpoint,
    mark_complete,
    remove_incomplete,
    start_point,
    working_name,
    write_json,
)
from kgr1.grpo.coldstart import build_examples, train_coldstart  # noqa: E402
from kgr1.grpo.policy import save_policy  # noqa: E402
from kgr1.grpo.trainer import train_grpo  # noqa: E402
from kgr1.models.weights import load_model  # noqa: E402
from small_world import AGENT, small_graph, small_questions, small_settings, small_trajectories  # noqa: E402

Report = Callable[[int, int, dict[str, float]], None]


def make(folder: Path, name: str, *, complete: bool = True) -> Path:
    path = folder / name
    path.mkdir(parents=True)
    (path / "weights").write_text("x")
    if complete:
        mark_complete(path)
    return path


def test_the_newest_complete_checkpoint_is_found(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "nowhere") is None
    assert latest_checkpoint(tmp_path) is None
    for step in (2, 10, 9):
        make(tmp_path, f"checkpoint-{step}")
    make(tmp_path, "checkpoint-12", complete=False)
    make(tmp_path, "checkpoint-best")
    make(tmp_path, "checkpoint-13.old")
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert checkpoint_step(tmp_path / "checkpoint-best") == -1
    assert json.loads((tmp_path / "checkpoint-10" / MARKER).read_text()) == {"step": 10}


def test_what_a_crash_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = [make(tmp_path, "checkpoint-2"), make(tmp_path, "policy", complete=False)]
    kept += [make(tmp_path, "checkpoint-best", complete=False), make(tmp_path, ".hidden", complete=False)]
    gone = [make(tmp_path, "checkpoint-4", complete=False), make(tmp_path, ".policy.part-77", complete=False)]
    gone.append(working_name(tmp_path / "log.jsonl"))
    gone[-1].write_text("half")
    (tmp_path / "rollouts").mkdir()
    gone.append(working_name(tmp_path / "rollouts" / "step-1.gz"))
    gone[-1].write_text("half")
    remove_incomplete(tmp_path)
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in gone)


def test_where_a_run_starts(tmp_path: Path) -> None:
    out = tmp_path / "a" / "run"
    assert start_point(out, resume=False) is None
    assert start_point(out, resume=True) is None
    half = make(out, "checkpoint-3", complete=False)
    assert start_point(out, resume=False) is None
    assert not half.exists()
    make(out, "checkpoint-2")
    assert start_point(out, resume=True) == out / "checkpoint-2"
    with pytest.raises(CheckpointError, match="holds checkpoint-2 of an earlier run"):
        start_point(out, resume=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="Cannot write"):
        start_point(tmp_path / "file" / "run", resume=False)


def test_only_the_first_process_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = make(tmp_path, "checkpoint-3", complete=False)
    monkeypatch.setenv("RANK", "1")
    start_point(tmp_path, resume=False)
    assert half.exists()


def test_json_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def run(start: Path, out: Path, *, resume: bool = False, on_step: Report | None = None) -> Path:
    """Four steps of a cold start with checkpoints after the second and the fourth."""
    loaded = load_model(str(start))
    examples = build_examples(small_trajectories(), small_graph(), loaded.tokenizer, AGENT)[:4]
    settings = ColdstartSettings(epochs=4, batch_size=4, micro_batch_size=4, lora_rank=0, save_steps=2)
    return train_coldstart(loaded, examples, out, settings, resume=resume, on_step=on_step)


@pytest.fixture(scope="module")
def unbroken(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights that four undisturbed steps lead to."""
    return (run(tiny_model, tmp_path_factory.mktemp("unbroken")) / "model.safetensors").read_bytes()


def check_left_behind(out: Path, error: CheckpointError, *, earlier: bool) -> None:
    """One sentence, no half-written folder, and the earlier checkpoint if there was one."""
    assert "\n" not in error.message
    assert str(out) in error.message
    assert "enforce fail" not in error.message
    if earlier:
        assert "The last complete checkpoint is checkpoint-2; " in error.message
        assert error.message.endswith("and start again with --resume.")
        assert latest_checkpoint(out) == out / "checkpoint-2"
    else:
        assert "There is no earlier checkpoint" in error.message
        assert latest_checkpoint(out) is None
    assert {path.name for path in out.glob("checkpoint-*")} == ({"checkpoint-2"} if earlier else set())
    assert not list(out.glob(".*"))
    assert not (out / "policy").exists()


@pytest.mark.parametrize("bytes_left", [60_000, 200_000], ids=["weights", "optimizer"])
def test_a_checkpoint_that_cannot_be_written(
    tiny_model: Path, tmp_path: Path, unbroken: bytes, bytes_left: int
) -> None:
    with file_size_limit(1 << 40):

        def limit(step: int, steps: int, values: dict[str, float]) -> None:
            if step == 3:
                resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

        with pytest.raises(CheckpointError) as caught:
            run(tiny_model, tmp_path, on_step=limit)
    check_left_behind(tmp_path, caught.value, earlier=True)
    policy = run(tiny_model, tmp_path, resume=True)
    assert (policy / "model.safetensors").read_bytes() == unbroken


def test_the_first_checkpoint_cannot_be_written(tiny_model: Path, tmp_path: Path, unbroken: bytes) -> None:
    with file_size_limit(60_000), pytest.raises(CheckpointError) as caught:
        run(tiny_model, tmp_path)
    check_left_behind(tmp_path, caught.value, earlier=False)
    assert (run(tiny_model, tmp_path, resume=True) / "model.safetensors").read_bytes() == unbroken


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 2 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk(tiny_model: Path, small_disk: Path, unbroken: bytes) -> None:
    out = small_disk / "run"

    def fill(step: int, steps: int, values: dict[str, float]) -> None:
        if step == 3:
            free = shutil.disk_usage(small_disk).free
            (small_disk / "ballast").write_bytes(b"x" * (free - 180_000))

    with pytest.raises(CheckpointError, match=r"the disk is full.*make room") as caught:
        run(tiny_model, out, on_step=fill)
    check_left_behind(out, caught.value, earlier=True)
    (small_disk / "ballast").unlink()
    assert (run(tiny_model, out, resume=True) / "model.safetensors").read_bytes() == unbroken


def test_a_full_disk_in_reinforcement_learning(
    taught_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small_settings(steps=4)
    save = torch.save

    def full(value: Any, file: Any, *args: Any, **kwargs: Any) -> None:
        if "checkpoint-4" in str(file):
            Path(file).write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(value, file, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(CheckpointError, match="the disk is full") as caught:
            train_grpo(str(taught_model), small_questions(), small_graph(), tmp_path, settings)
    check_left_behind(tmp_path, caught.value, earlier=True)
    train_grpo(str(taught_model), small_questions(), small_graph(), tmp_path, settings, resume=True)
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint-4"


def save_text(text: str, target: Path) -> None:
    """Save a policy that is one text."""
    model = SimpleNamespace(save_pretrained=lambda folder: (Path(folder) / "weights").write_text(text))
    save_policy(model, SimpleNamespace(save_pretrained=lambda folder: None), target)


class Killed(BaseException):
    """The process ends here."""


@contextmanager
def killed(after: int, *, at_once: bool) -> Iterator[None]:
    """The process is ended after that many renames of a policy: ``at_once`` nothing is tidied up any more."""
    replace, left = os.replace, [after]

    def last(source: Any, target: Any) -> None:
        replace(source, target)
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", last)
        if at_once:
            patch.setattr(shutil, "rmtree", lambda *_, **__: None)
            patch.setattr("kgr1.grpo.policy.finish_exchange", lambda *_: None)
        with pytest.raises(Killed):
            yield


@pytest.mark.parametrize(("renames", "kept"), [(1, "old"), (2, "new")])
def test_a_policy_whose_replacement_was_cut_short_is_there_again(tmp_path: Path, renames: int, kept: str) -> None:
    make(tmp_path, "checkpoint-2")
    best = tmp_path / "best"
    save_text("old", best)
    with killed(renames, at_once=True):
        save_text("new", best)
    assert best.exists() == (renames == 2)
    assert len(list(tmp_path.glob(".best*"))) == 3 - renames
    with pytest.raises(CheckpointError, match="earlier run"):
        start_point(tmp_path, resume=False)  # refused, and everything is as it was
    assert len(list(tmp_path.glob(".best*"))) == 3 - renames
    assert start_point(tmp_path, resume=True) == tmp_path / "checkpoint-2"
    assert (best / "weights").read_text() == kept
    assert {path.name for path in tmp_path.iterdir()} == {"best", "checkpoint-2"}


def test_a_run_from_the_beginning_gets_no_policy_of_an_earlier_one(tmp_path: Path) -> None:
    save_text("old", tmp_path / "best")
    with killed(1, at_once=True):
        save_text("new", tmp_path / "best")
    assert start_point(tmp_path, resume=True) is None  # there is no checkpoint
    assert list(tmp_path.iterdir()) == []


def test_a_replacement_that_is_interrupted_is_undone_at_once(tmp_path: Path) -> None:
    save_text("old", tmp_path / "best")
    with killed(1, at_once=False):
        save_text("new", tmp_path / "best")
    assert (tmp_path / "best" / "weights").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_run_is_not_made_shorter_than_it_is(taught_model: Path, tmp_path: Path) -> None:
    make(tmp_path, "checkpoint-6")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(SettingsError, match=r"checkpoint-6 is past train.steps = 4; set train.steps=6 or more"):
        train_grpo(str(taught_model), small_questions(), small_graph(), tmp_path, small_settings(), resume=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_checkpoint_inside_of_a_batch_is_not_gone_on_from(taught_model: Path, tmp_path: Path) -> None:
    make(tmp_path, "checkpoint-3")
    settings = small_settings(updates_per_batch=2)
    with pytest.raises(CheckpointError, match=r"checkpoint-3 was saved between the train.updates_per_batch = 2 steps"):
        train_grpo(str(taught_model), small_questions(), small_graph(), tmp_path, settings, resume=True)


def test_an_error_that_is_no_write_error_is_not_hidden(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(KeyError, match="a bug"):
        run(tiny_model, tmp_path)
    assert not list(tmp_path.glob("checkpoint-*"))


def test_a_new_run_does_not_mix_with_an_earlier_one(taught_model: Path, tmp_path: Path) -> None:
    run(taught_model, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match="earlier run"):
        run(taught_model, tmp_path)
    with pytest.raises(CheckpointError, match="earlier run"):
        train_grpo(str(taught_model), small_questions(), small_graph(), tmp_path, small_settings())
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_older_checkpoints_go_when_the_newer_is_complete(tiny_model: Path, tmp_path: Path) -> None:
    run(tiny_model, tmp_path)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-4"]


def test_a_policy_is_replaced_whole_or_not_at_all(tiny_model: Path, tmp_path: Path) -> None:
    loaded = load_model(str(tiny_model))
    target = tmp_path / "policy"
    with file_size_limit(60_000), pytest.raises(CheckpointError):
        save_policy(loaded.model, loaded.tokenizer, target)
    assert list(tmp_path.iterdir()) == []
    assert save_policy(loaded.model, loaded.tokenizer, target) == target
    before = (target / "model.safetensors").read_bytes()
    (target / "stale").write_text("")
    with torch.no_grad():
        loaded.model.model.norm.weight.add_(1)
    with file_size_limit(60_000), pytest.raises(CheckpointError):
        save_policy(loaded.model, loaded.tokenizer, target)
    assert (target / "model.safetensors").read_bytes() == before
    save_policy(loaded.model, loaded.tokenizer, target)
    assert (target / "model.safetensors").read_bytes() != before
    assert not (target / "stale").exists()
    assert list(tmp_path.iterdir()) == [target]
    mask = os.umask(0o022)
    os.umask(mask)
    assert target.stat().st_mode & 0o777 == 0o777 & ~mask
