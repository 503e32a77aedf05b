"""Questions whose groups teach nothing are replaced, within bounds and always in the same way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")

from kgr1.grpo.resample import resample
from kgr1.grpo.trainer import train_grpo
from kgr1.types import Episode, Question, StopReason
from small_world import small_graph, small_questions, small_settings


def episode(name: str) -> Episode:
    return Episode(question=Question(id=name, text="?", topics=(), answers=()), turns=(), stop=StopReason.ANSWERED)


def play(dull: set[str], ids: Sequence[str], attempts: int, seed: int = 0) -> tuple[list[str], int, list[list[str]]]:
    asked: list[list[str]] = []

    def sample(names: Sequence[str], attempt: int) -> list[Episode]:
        assert attempt == len(asked)
        asked.append(list(names))
        return [episode(name) for name in names]

    episodes, replaced = resample(
        ids, 2, list("abcdefgh"), sample, lambda group: group[0].question.id in dull, attempts=attempts, seed=seed
    )
    return [item.question.id for item in episodes], replaced, asked


def test_only_dull_groups_are_replaced_by_questions_outside_the_batch() -> None:
    names, replaced, asked = play({"a"}, ["a", "a", "b", "b"], attempts=3)
    assert names[2:] == ["b", "b"]
    assert names[0] == names[1]
    assert names[0] in "cdefgh"
    assert (replaced, len(asked), asked[1]) == (1, 2, names[:2])


def test_the_attempts_end_and_so_does_the_pool() -> None:
    everything = set("abcdefgh")
    names, replaced, asked = play(everything, ["a", "a", "b", "b"], attempts=2)
    assert (replaced, len(asked), len(names)) == (4, 3, 4)
    assert play(everything, list("aabb"), attempts=0) == (list("aabb"), 0, [list("aabb")])
    names, replaced, _ = play(everything, [c for c in "abcdefg" for _ in "12"], attempts=1)
    assert replaced == 1
    assert names[:2] == ["h", "h"]


def test_draws_depend_on_the_seed_alone() -> None:
    runs = [play({"a", "b"}, list("aabb"), attempts=1, seed=seed)[0] for seed in (1, 1, 2, 3)]
    assert runs[0] == runs[1]
    assert len({tuple(run) for run in runs}) > 1


def test_what_was_dropped_as_dull_is_not_drawn_again() -> None:
    for seed in range(20):
        _, replaced, asked = play(set("abcdefgh"), list("aabbcc"), attempts=5, seed=seed)
        played = [name for names in asked for name in names[::2]]
        assert sorted(played) == list("abcdefgh")  # all there are, each once; then there is nothing left to draw
        assert replaced == 5


def together(batches: Sequence[Sequence[str]], dull: set[str], pool: Sequence[str], attempts: int) -> list[Any]:
    """What each of some processes, one for each part of a batch, ends with: names, replacements, what was sampled."""
    lists: list[list[Any]] = [[] for _ in batches]
    barrier = threading.Barrier(len(batches))

    def gatherer(process: int) -> Callable[[list[Any]], list[Any]]:
        def gather(own: list[Any]) -> list[Any]:
            lists[process] = own
            barrier.wait(timeout=10)
            everything = [item for part in lists for item in part]
            barrier.wait(timeout=10)
            return everything

        return gather

    def run(process: int) -> tuple[list[str], int, list[str]]:
        asked: list[str] = []

        def sample(names: Sequence[str], attempt: int) -> list[Episode]:
            assert names
            asked.extend(names)
            return [episode(name) for name in names]

        episodes, replaced = resample(
            batches[process], 2, pool, sample, lambda group: group[0].question.id in dull,
            attempts=attempts, seed=7, process=process, gather=gatherer(process),
        )  # fmt: skip
        return [item.question.id for item in episodes], replaced, asked

    with ThreadPoolExecutor(len(batches)) as threads:
        return list(threads.map(run, range(len(batches))))


@pytest.mark.parametrize("attempts", [0, 1, 3])
@pytest.mark.parametrize(
    "dull", [set(), {"q1"}, {"q4", "q5"}, {f"q{n}" for n in range(0, 40, 2)}, {f"q{n}" for n in range(40)}]
)
@pytest.mark.parametrize("pool", [8, 11, 40])
def test_processes_draw_what_one_would_draw(dull: set[str], attempts: int, pool: int) -> None:
    names = [f"q{n}" for n in range(pool)]
    batch = [name for name in names[:6] for _ in range(2)]
    ((wanted, count, _),) = together([batch], dull, names, attempts)
    parts = together([batch[:4], batch[4:8], batch[8:]], dull, names, attempts)
    assert [name for part in parts for name in part[0]] == wanted
    assert {part[1] for part in parts} == {count}
    asked = [name for part in parts for name in part[2][::2]]
    assert len(asked) == len(set(asked)) == 6 + count


def test_training_counts_what_it_replaced(taught_model: Path, tmp_path: Path) -> None:
    rows: list[dict[str, float]] = []
    settings = small_settings(lora_rank=4, steps=2, save_steps=2, temperature=0.05, resample=2)
    train_grpo(
        str(taught_model), small_questions(), small_graph(), tmp_path, settings,
        on_step=lambda step, steps, values: rows.append(values),
    )  # fmt: skip
    counts = [row["resampled_groups"] for row in rows if "resampled_groups" in row]
    assert len(counts) == 2
    assert max(counts) >= 1  # nearly greedy: the episodes of most groups are all alike
