"""Builds that are killed, that meet each other, that run out of disk: the target is whole or untouched."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

import kgr1
from kgr1.errors import GraphError
from kgr1.graph import GraphStore, build_graph
from kgr1.graph.batches import Batch
from kgr1.graph.build import BuildProgress, build_from_batches
from kgr1.graph.building import builder
from kgr1.graph.building.workspace import new_numbers
from kgr1.types import Triple

STAGES = ["reading", "names", "facts", "saving"]
OLD, NEW = Triple("x", "y", "z"), Triple("a", "r", "b")

KILLED = """
import os, signal, sys
from pathlib import Path
from kgr1.graph import build_graph

def kill(progress):
    if progress.stage == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)

build_graph([Path(sys.argv[1])], Path(sys.argv[2]), on_progress=kill, force=True)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "kg.tsv"
    path.write_text("\t".join(NEW) + "\n")
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The place of a store; a graph is there already."""
    path = tmp_path / "graph"
    GraphStore.from_triples([OLD]).save(path)
    return path


def triples(path: Path) -> list[Triple]:
    with GraphStore.open(path, verify=True) as graph:
        return list(graph.triples())


def at(stage: str, act: Callable[[], object]) -> Callable[[BuildProgress], None]:
    """Does something when a build comes to a stage."""

    def watch(progress: BuildProgress) -> None:
        if progress.stage == stage:
            act()

    return watch


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_build_changes_nothing_and_the_next_one_cleans_up(source: Path, out: Path, stage: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(kgr1.__file__).parents[1])}
    command = [sys.executable, "-c", KILLED, str(source), str(out), stage]
    done = subprocess.run(command, env=environment, check=False, timeout=300)
    assert done.returncode == -signal.SIGKILL
    left = out.parent / ".graph.building"
    assert sorted(path.name for path in out.parent.iterdir()) == [left.name, "graph", "kg.tsv"]
    assert triples(out) == [OLD]
    for folder in (left, left / "store"):
        with pytest.raises(GraphError, match="not a graph store"):
            GraphStore.open(folder)
    build_graph([source], out, force=True)
    assert triples(out) == [NEW]
    assert sorted(path.name for path in out.parent.iterdir()) == ["graph", "kg.tsv"]


@pytest.mark.parametrize("stage", STAGES)
def test_of_two_builders_at_once_the_second_is_told_to_wait(source: Path, out: Path, stage: str) -> None:
    refused = []

    def meet() -> None:
        with pytest.raises(GraphError, match=r"Another process is building .*graph; wait") as caught:
            build_graph([source], out, force=True)
        refused.append(caught.value)
        with pytest.raises(GraphError, match="Another process"):
            GraphStore.from_triples([OLD]).save(out, force=True)

    build_graph([source], out, on_progress=at(stage, meet), force=True)
    assert refused
    assert triples(out) == [NEW]
    assert sorted(path.name for path in out.parent.iterdir()) == ["graph", "kg.tsv"]


def test_builders_of_different_targets_do_not_meet(source: Path, out: Path) -> None:
    other = out.parent / "other"
    build_graph([source], out, on_progress=at("names", lambda: build_graph([source], other)), force=True)
    assert triples(out) == triples(other) == [NEW]


@pytest.fixture
def restored_limit() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("memory_bytes", [1, 1 << 30])
@pytest.mark.parametrize("stage", STAGES)
def test_no_room_for_another_byte(source: Path, out: Path, restored_limit: None, stage: str, memory_bytes: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))

    try:
        with pytest.raises(GraphError, match=f"Cannot write {out}: File too large"):
            build_graph([source], out, memory_bytes=memory_bytes, on_progress=at(stage, fill), force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert sorted(path.name for path in out.parent.iterdir()) == ["graph", "kg.tsv"]
    assert triples(out) == [OLD]


def several_runs() -> Iterator[Batch]:
    """Batches of names of their own; with little memory each is numbered in a run of its own."""
    for low in range(0, 400, 100):
        rows = [(f"entity {number}", "r", f"thing {number}") for number in range(low, low + 100)]
        yield Batch(facts=pl.DataFrame(rows, schema=["head", "relation", "tail"], orient="row"), labels=None, rows=low)


@pytest.mark.parametrize("fault", range(10))
def test_a_disk_that_is_full_when_room_is_reserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int) -> None:
    """Two sides and five runs of each: every reservation fails once."""
    monkeypatch.setattr(builder, "_BATCH_ROWS", 100)
    calls = []
    reserve = os.posix_fallocate

    def full(descriptor: int, offset: int, size: int) -> None:
        calls.append(size)
        if len(calls) == fault + 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        reserve(descriptor, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(GraphError, match=r"The disk is full: .*graph was not written"):
        build_from_batches(several_runs(), tmp_path / "graph", memory_bytes=1)
    assert len(calls) == fault + 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [None, errno.EOPNOTSUPP, errno.EINVAL])
def test_numbers_in_files_have_their_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int | None) -> None:
    def unable(*arguments: int) -> None:
        assert error is not None
        raise OSError(error, os.strerror(error))

    if error is not None:
        monkeypatch.setattr(os, "posix_fallocate", unable)
    numbers = new_numbers(tmp_path / "numbers", 700_000)
    state = (tmp_path / "numbers").stat()
    assert state.st_size == 2_800_000
    assert state.st_blocks * 512 >= state.st_size
    numbers[-1] = 7
    assert numbers.sum() == 7
    assert new_numbers(tmp_path / "none", 0).shape == (0,)


def test_a_full_disk_is_told_whoever_notices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_ipc(*arguments: object, **options: object) -> None:
        raise OSError("No space left on device (os error 28)")  # polars gives no number

    monkeypatch.setattr(pl.DataFrame, "write_ipc", write_ipc)
    with pytest.raises(GraphError, match="The disk is full"):
        build_from_batches(several_runs(), tmp_path / "graph")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def full(path: str, flags: int, *mode: int) -> int:
        if flags & os.O_CREAT and str(path).endswith("lock"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(GraphError, match="The disk is full"):
        build_from_batches(several_runs(), tmp_path / "graph")
    assert list(tmp_path.iterdir()) == []


def test_errors_of_a_reader_come_through_as_they_are(tmp_path: Path) -> None:
    def batches() -> Iterator[Batch]:
        yield Batch(facts=pl.DataFrame([NEW], schema=["head", "relation", "tail"], orient="row"), labels=None, rows=1)
        raise ConnectionResetError("the other end is gone")

    with pytest.raises(ConnectionResetError, match="the other end is gone"):
        build_from_batches(batches(), tmp_path / "graph")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [None, "", " ", "\u3000\t"])
@pytest.mark.parametrize("column", ["head", "relation", "tail"])
def test_names_that_a_reader_should_not_give(tmp_path: Path, column: str, name: str | None) -> None:
    facts = pl.DataFrame({"head": ["a"], "relation": ["r"], "tail": ["b"]}).with_columns(pl.lit(name).alias(column))
    with pytest.raises(GraphError, match=r"A name is (missing|empty)"):
        build_from_batches([Batch(facts=facts.cast(pl.String), labels=None, rows=1)], tmp_path / "graph")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("batches", [[], [Batch(facts=None, labels=None, rows=0)]])
def test_no_triples(tmp_path: Path, batches: list[Batch]) -> None:
    with pytest.raises(GraphError, match="no triple"):
        build_from_batches(batches, tmp_path / "graph")
    assert list(tmp_path.iterdir()) == []
