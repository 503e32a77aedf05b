"""Staged hops: what each stage asks, that nothing is lost, and that the number of the round decides alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("trl")

from trainer_parts import make_trainer
from trl.trainer.utils import RepeatSampler

from kgr1.config import TrainSettings, load_settings
from kgr1.errors import SettingsError
from kgr1.grpo.order import PassSampler, StagedSampler
from kgr1.grpo.stages import Schedule, count_hops, pools, staged
from kgr1.types import Question
from small_world import small_questions

HOPS = [1, 2, 1, 3, None, 2, 1, 2, 3, 1]


def test_a_stage_takes_what_has_few_enough_hops_and_the_last_one_everything() -> None:
    assert pools(HOPS, [1, 2], 3, "questions") == [[0, 2, 6, 9], [0, 1, 2, 5, 6, 7, 9], list(range(10))]
    assert pools(HOPS, [], 3, "questions") == [list(range(10))]
    with pytest.raises(SettingsError, match="at most 1 hop has 4 questions and needs at least 5"):
        pools(HOPS, [1, 2], 5, "questions")


def test_hops_are_those_of_the_question_or_else_of_its_path() -> None:
    question = Question(id="q", text="?", topics=("a",), answers=(), gold_path=("r", "@before 2014", "&", "^s"))
    assert count_hops(question) == 2
    assert count_hops(question.model_copy(update={"hops": 3})) == 3
    assert count_hops(question.model_copy(update={"gold_path": ()})) is None


@settings(deadline=None)
@given(
    hops=st.lists(st.sampled_from([1, 2, 3, None]), min_size=4, max_size=30),
    rounds=st.integers(1, 9),
    size=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_every_pass_of_a_stage_asks_each_of_its_questions_once(
    hops: list[int | None], rounds: int, size: int, seed: int
) -> None:
    hops = [*hops, 1, 1, 1, 1]
    schedule = Schedule(pools(hops, [1, 2], size, "questions"), rounds, size, seed)
    for start, most in ((0, 1), (rounds, 2), (2 * rounds, None)):
        pool = [i for i, number in enumerate(hops) if most is None or (number is not None and number <= most)]
        length = len(pool) // size if most is None else min(rounds, len(pool) // size)
        assert list(schedule.pool(start)) == pool
        asked = [place for number in range(start, start + length) for place in schedule.batch(number)]
        assert len(asked) == length * size == len(set(asked))
        assert set(asked) <= set(pool)
    # Rounds can be asked for in any order: nothing is remembered between them.
    again = Schedule(pools(hops, [1, 2], size, "questions"), rounds, size, seed)
    assert [again.batch(n) for n in range(20, -1, -1)] == [schedule.batch(n) for n in range(21)][::-1]


def test_passes_of_a_stage_differ() -> None:
    schedule = Schedule(pools([1] * 20 + [2] * 20, [1], 4, "questions"), 20, 4, 0)
    passes = [tuple(p for n in range(5 * turn, 5 * turn + 5) for p in schedule.batch(n)) for turn in range(4)]
    assert len(set(passes)) == 4
    assert all(sorted(shown) == list(range(20)) for shown in passes)
    assert {schedule.stage(n) for n in range(20)} == {0}
    assert schedule.stage(20) == schedule.stage(2000) == 1


def draw(schedule: Schedule | None, number: int) -> list[int]:
    trl = RepeatSampler(list(range(10)), mini_repeat_count=3, batch_size=2, repeat_count=2, seed=0)
    sampler = PassSampler(trl, lambda: number, schedule)
    drawn = list(sampler)
    assert len(drawn) == len(sampler)
    return drawn


def test_the_sampler_shows_the_rounds_of_the_schedule_as_the_trainer_wants_them() -> None:
    schedule = Schedule(pools(HOPS, [1, 2], 2, "questions"), 3, 2, 7)
    shown = [draw(schedule, number) for number in range(3)]
    rounds = [drawn[start : start + 12] for drawn in shown for start in range(0, 60, 12)]
    assert len(rounds) == 15
    for number, drawn in enumerate(rounds):
        one, other = schedule.batch(number)
        assert drawn == [one, one, one, other, other, other] * 2
    assert all(HOPS[place] == 1 for drawn in rounds[:3] for place in drawn)
    assert {HOPS[place] for drawn in rounds[3:6] for place in drawn} == {1, 2}
    assert None in {HOPS[place] for drawn in rounds[6:] for place in drawn}
    assert draw(None, 0) != shown[0]


def test_a_pass_of_the_cold_start_goes_from_few_hops_to_many() -> None:
    stages = pools(HOPS, [1, 2], 1, "trajectories")
    orders = [staged(stages, 0, turn) for turn in range(5)]
    for order in orders:
        assert sorted(order) == list(range(10))
        assert Counter(HOPS[place] for place in order[:4]) == {1: 4}
        assert Counter(HOPS[place] for place in order[4:7]) == {2: 3}
    assert len(set(map(tuple, orders))) > 1
    turn = 0
    sampler = StagedSampler(stages, 0, lambda: turn)
    assert (list(sampler), len(sampler)) == (orders[0], 10)
    turn = 3
    assert list(sampler) == orders[3]


@pytest.mark.parametrize("stages", ["[2, 1]", "[1, 1]", "[0, 1]"])
def test_stages_must_grow(stages: str) -> None:
    with pytest.raises(SettingsError, match=r"train.stages.*grow"):
        load_settings(overrides=[f"train.stages={stages}"])
    assert load_settings(overrides=["train.stages=[1, 2]"]).train.stages == (1, 2)
    assert TrainSettings().stages == ()


def test_a_trainer_asks_and_replaces_inside_the_stage(taught_model: Path, tmp_path: Path) -> None:
    questions = [q.model_copy(update={"hops": 1 + n % 2}) for n, q in enumerate(small_questions())]
    changes = {"stages": (1,), "updates_per_batch": 2, "save_steps": 2}
    trainer = make_trainer(taught_model, tmp_path, questions=questions, stage_steps=4, **changes)
    few = [question.id for question in questions if question.hops == 1]
    assert [trainer._pool(step) for step in (0, 2)] == [few, few]
    assert len(trainer._pool(4)) == len(questions)
    sampler = trainer._get_train_sampler()
    assert isinstance(sampler, PassSampler)
    drawn = list(sampler)
    size = len(drawn) // 3  # a pass has three rounds of two questions
    assert [len({questions[i].id for i in drawn[start : start + size]}) for start in (0, size, 2 * size)] == [2, 2, 2]
    assert {questions[place].hops for place in drawn[: 2 * size]} == {1}
    trainer.state.global_step = 6
    assert {questions[place].hops for place in sampler} == {1, 2}
    with pytest.raises(SettingsError, match="stage_steps"):
        make_trainer(taught_model, tmp_path, questions=questions, stage_steps=3, **changes)
    with pytest.raises(SettingsError, match="at most 1 hop"):
        make_trainer(taught_model, tmp_path, questions=questions, stages=(1,), questions_per_step=4)
