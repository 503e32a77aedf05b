"""A resumable run: interrupted anywhere, it ends with the summary of an unbroken one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from eval_episodes import asked, played, question

from full_disk import file_size_limit
from kgr1.config import AgentSettings
from kgr1.errors import EvaluationError, GraphServerError
from kgr1.evaluation.files import Journal, read_episodes
from kgr1.evaluation.metrics import Summary, summarise
from kgr1.evaluation.run import OtherRunError, Progress, evaluate, read_sessions
from kgr1.types import Episode, Question, StopReason

SETTINGS: dict[str, Any] = {"model": "scripted", "agent": {"max_turns": 5}}
QUESTIONS = [question(n, hops=n % 2 + 1, dataset="demo") for n in range(12)]

Runner = Callable[[Question, int], Awaitable[Episode]]


class Scripted:
    """Answers right or wrong by the question's number; remembers what it was asked."""

    def __init__(self, fail_at: int | None = None, error: Exception | None = None, delay_s: float = 0.0) -> None:
        self.calls: list[tuple[str, int]] = []
        self.running = self.most = 0
        self.fail_at, self.error, self.delay_s = fail_at, error, delay_s

    async def __call__(self, item: Question, sample: int) -> Episode:
        self.calls.append((item.id, sample))
        if self.error is not None and len(self.calls) == self.fail_at:
            raise self.error
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(self.delay_s * (len(self.calls) % 3))
        self.running -= 1
        right = (int(item.id[1:]) + sample) % 3 > 0
        return played(
            item, ["Paris"] if right else ["Rome"], sample=sample, turns=[asked("Paris")], tokens=len(item.id)
        )


def run(out: Path, runner: Runner, **options: Any) -> Summary:
    options = {"settings": SETTINGS, "samples": 2, "concurrency": 3} | options
    return asyncio.run(evaluate(options.pop("questions", QUESTIONS), runner, out, **options))


def saved(out: Path) -> list[tuple[str, int]]:
    return sorted((e.question.id, e.sample) for e in read_episodes(out / "episodes.jsonl"))


EVERYTHING = sorted((item.id, sample) for item in QUESTIONS for sample in range(2))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    return run(tmp_path_factory.mktemp("unbroken"), Scripted())


def test_a_run_writes_its_folder(tmp_path: Path) -> None:
    out = tmp_path / "new" / "run"
    runner, seen = Scripted(delay_s=0.002), list[Progress]()
    summary = run(out, runner, progress=seen.append)
    assert sorted(path.name for path in out.iterdir()) == [
        ".lock",
        "episodes.jsonl",
        "run.json",
        "sessions.jsonl",
        "summary.json",
        "summary.md",
    ]
    assert saved(out) == EVERYTHING
    assert runner.most == 3
    assert [p.done for p in seen] == list(range(1, 25))
    assert {(p.total, p.resumed) for p in seen} == {(24, 0)}
    assert Summary.model_validate_json((out / "summary.json").read_text("utf-8")) == summary
    assert "| F1 (macro) | 66.7 % |" in (out / "summary.md").read_text("utf-8")
    assert json.loads((out / "run.json").read_text("utf-8"))["settings"] == SETTINGS


def test_a_finished_run_plays_nothing_again(tmp_path: Path) -> None:
    first = run(tmp_path, Scripted())
    again = Scripted()
    assert run(tmp_path, again, concurrency=7, questions=QUESTIONS[::-1]) == first
    assert again.calls == []


@pytest.mark.parametrize("stop_at", [1, 5, 24])
def test_a_run_stopped_by_an_error_resumes(tmp_path: Path, stop_at: int, unbroken: Summary) -> None:
    error = GraphServerError("The graph server is gone.")
    with pytest.raises(GraphServerError, match="is gone"):
        run(tmp_path, Scripted(stop_at, error), concurrency=1)
    assert len(saved(tmp_path)) == stop_at - 1
    assert not (tmp_path / "summary.json").exists()
    rest, seen = Scripted(), list[Progress]()
    assert run(tmp_path, rest, progress=seen.append) == unbroken
    assert len(rest.calls) == 24 - (stop_at - 1)
    assert (seen[0].done, seen[0].resumed) == (stop_at, stop_at - 1)
    assert saved(tmp_path) == EVERYTHING


def test_every_session_is_logged(tmp_path: Path) -> None:
    with pytest.raises(GraphServerError):
        run(tmp_path, Scripted(6, GraphServerError("gone")), concurrency=1)
    run(tmp_path, Scripted(), concurrency=4)
    run(tmp_path, Scripted())  # nothing was left to play
    sessions = read_sessions(tmp_path)
    assert [(one.concurrency, one.episodes) for one in sessions] == [(1, 5), (4, 19)]
    tokens = sum(e.usage.generated_tokens for e in read_episodes(tmp_path / "episodes.jsonl"))
    assert sum(one.generated_tokens for one in sessions) == tokens
    assert all(one.seconds > 0 for one in sessions)
    with (tmp_path / "sessions.jsonl").open("ab") as file:
        file.write(b'{"concurrency": 1, \xff')
    assert read_sessions(tmp_path) == sessions
    assert read_sessions(tmp_path / "nothing") == []


def test_an_unexpected_error_names_the_question(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"Question 'q1', sample 1, failed with KeyError: 'x'") as caught:
        run(tmp_path, Scripted(4, KeyError("x")), concurrency=1)
    assert isinstance(caught.value.__cause__, KeyError)
    assert len(saved(tmp_path)) == 3


def test_the_samples_of_a_question_follow_each_other(tmp_path: Path) -> None:
    run(tmp_path, Scripted(), concurrency=1)
    episodes = list(read_episodes(tmp_path / "episodes.jsonl"))
    assert [(e.question.id, e.sample) for e in episodes[:4]] == [("q0", 0), ("q0", 1), ("q1", 0), ("q1", 1)]


def test_a_cancelled_run_resumes(tmp_path: Path, unbroken: Summary) -> None:
    async def cancelled() -> None:
        runner = Scripted(delay_s=0.02)
        task = asyncio.ensure_future(evaluate(QUESTIONS, runner, tmp_path, settings=SETTINGS, samples=2, concurrency=3))
        while len(runner.calls) < 10:
            await asyncio.sleep(0.005)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()

    asyncio.run(cancelled())
    assert 0 < len(saved(tmp_path)) < 24
    assert run(tmp_path, Scripted()) == unbroken


def test_any_cut_of_the_last_line_is_repaired(tmp_path: Path, unbroken: Summary) -> None:
    run(tmp_path, Scripted(), concurrency=1)
    journal = tmp_path / "episodes.jsonl"
    whole = journal.read_bytes()
    start = whole.rstrip(b"\n").rindex(b"\n") + 1
    for end in [*range(start, len(whole), 97), len(whole) - 1]:
        journal.write_bytes(whole[:end])
        runner = Scripted()
        assert run(tmp_path, runner) == unbroken
        assert len(runner.calls) == 1
        assert saved(tmp_path) == EVERYTHING
    journal.write_bytes(whole[:start] + b"\0" * 40 + b"\n")  # what a power cut can leave
    assert run(tmp_path, Scripted()) == unbroken
    assert b"\0" not in journal.read_bytes()


def test_damage_in_the_middle_is_reported(tmp_path: Path) -> None:
    run(tmp_path, Scripted())
    journal = tmp_path / "episodes.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:3], b"{broken}\n", *lines[4:]]))
    before = journal.read_bytes()
    with pytest.raises(EvaluationError, match=r"Line 4 of .*episodes.jsonl is damaged") as caught:
        run(tmp_path, Scripted())
    assert caught.value.details["line"] == 4
    assert journal.read_bytes() == before


def test_other_settings_are_refused(tmp_path: Path) -> None:
    run(tmp_path, Scripted())
    other = {"model": "scripted", "agent": {"max_turns": 7}, "seed": 1}
    with pytest.raises(OtherRunError) as caught:
        run(tmp_path, Scripted(), settings=other, samples=3)
    assert caught.value.details["differences"] == ["samples", "settings.agent.max_turns", "settings.seed"]
    assert "settings.agent.max_turns is 5 there and 7 now" in str(caught.value)
    assert "settings.seed is absent there and 1 now" in str(caught.value)
    with pytest.raises(EvaluationError, match=r"questions\.count is 12 there and 11 now"):
        run(tmp_path, Scripted(), questions=QUESTIONS[1:])
    changed = [QUESTIONS[0].model_copy(update={"text": "Another?"}), *QUESTIONS[1:]]
    with pytest.raises(EvaluationError, match=r"questions\.sha256"):
        run(tmp_path, Scripted(), questions=changed)


def test_records_serve_as_settings(tmp_path: Path) -> None:
    run(tmp_path, Scripted(), settings=AgentSettings())
    with pytest.raises(EvaluationError, match=r"settings\.max_turns is 5 there and 7 now"):
        run(tmp_path, Scripted(), settings=AgentSettings(max_turns=7))


def test_episodes_of_a_newer_metric_version_are_summarised_again(tmp_path: Path) -> None:
    first = run(tmp_path, Scripted())
    manifest = json.loads((tmp_path / "run.json").read_text("utf-8")) | {"metric_version": 0}
    (tmp_path / "run.json").write_text(json.dumps(manifest), "utf-8")
    assert run(tmp_path, Scripted()) == first


def test_a_model_may_come_back_at_another_address(tmp_path: Path) -> None:
    first = run(tmp_path, Scripted(), settings={"policy": {"name": "m", "server": "http://127.0.0.1:1/v1"}})
    assert run(tmp_path, Scripted(), settings={"policy": {"name": "m", "server": "http://127.0.0.1:2/v1"}}) == first
    with pytest.raises(EvaluationError, match=r'settings\.policy\.name is "m" there and "n" now'):
        run(tmp_path, Scripted(), settings={"policy": {"name": "n", "server": "http://127.0.0.1:1/v1"}})


def test_foreign_folders_are_refused(tmp_path: Path) -> None:
    used = tmp_path / "used"
    used.mkdir()
    (used / "episodes.jsonl").write_text("precious\n", "utf-8")
    with pytest.raises(OtherRunError, match=r"no run\.json"):
        run(used, Scripted())
    assert (used / "episodes.jsonl").read_text("utf-8") == "precious\n"
    (tmp_path / "file").write_text("x", "utf-8")
    with pytest.raises(EvaluationError, match="Cannot make the folder"):
        run(tmp_path / "file", Scripted())
    run(tmp_path / "run", Scripted())
    (tmp_path / "run" / "run.json").write_text("{", "utf-8")
    with pytest.raises(EvaluationError, match=r"Cannot read .*run\.json"):
        run(tmp_path / "run", Scripted())


def test_lines_that_are_not_of_this_run_are_refused(tmp_path: Path) -> None:
    run(tmp_path, Scripted())
    journal = tmp_path / "episodes.jsonl"
    lines = journal.read_text("utf-8").splitlines(keepends=True)
    journal.write_text("".join([*lines, lines[2]]), "utf-8")
    with pytest.raises(OtherRunError, match="twice"):
        run(tmp_path, Scripted())
    stranger = played(question("99")).model_dump_json() + "\n"
    journal.write_text("".join([*lines, stranger]), "utf-8")
    with pytest.raises(EvaluationError, match="'q99', sample 0, though it is not part of this run"):
        run(tmp_path, Scripted())


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no questions"):
        run(tmp_path, Scripted(), questions=[])
    with pytest.raises(EvaluationError, match="'q0' occurs more than once"):
        run(tmp_path, Scripted(), questions=[*QUESTIONS, QUESTIONS[0]])
    with pytest.raises(EvaluationError, match="at least 1"):
        run(tmp_path, Scripted(), concurrency=0)
    with pytest.raises(EvaluationError, match="must turn into JSON"):
        run(tmp_path, Scripted(), settings={"path": tmp_path})
    assert list(tmp_path.iterdir()) == []


def test_the_runner_must_return_what_it_was_asked_for(tmp_path: Path) -> None:
    async def confused(item: Question, sample: int) -> Episode:
        return played(item, sample=0)

    with pytest.raises(EvaluationError, match="sample 1, and returned an episode of 'q0', sample 0"):
        run(tmp_path, confused, concurrency=1)


def test_failed_episodes_count_zero_and_can_be_retried(tmp_path: Path, unbroken: Summary) -> None:
    async def flaky(item: Question, sample: int) -> Episode:
        good = await Scripted()(item, sample)
        if item.id in ("q1", "q7"):
            return good.model_copy(update={"stop": StopReason.POLICY_ERROR, "answers": (), "error": "no server"})
        return good

    broken = run(tmp_path, flaky)
    assert broken.overall.questions == 12
    assert broken.metrics["answered"].value == 20 / 24
    untouched = Scripted()
    assert run(tmp_path, untouched) == broken
    assert untouched.calls == []
    retried = Scripted()
    assert run(tmp_path, retried, retry_failed=True) == unbroken
    assert sorted(retried.calls) == [("q1", 0), ("q1", 1), ("q7", 0), ("q7", 1)]
    assert saved(tmp_path) == EVERYTHING


def test_a_second_run_on_the_folder_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")

    async def nested(item: Question, sample: int) -> Episode:
        await evaluate(QUESTIONS, Scripted(), tmp_path, settings=SETTINGS, samples=2)
        raise AssertionError("two runs wrote to one folder")

    with pytest.raises(EvaluationError, match="Another run is writing to"):
        run(tmp_path, nested)
    run(tmp_path, Scripted())


def test_no_room_in_the_middle_of_a_line(tmp_path: Path, unbroken: Summary) -> None:
    line = len(played(QUESTIONS[0], turns=[asked("Paris")], tokens=2).model_dump_json()) + 1
    with file_size_limit(int(4.5 * line)), pytest.raises(EvaluationError, match="episodes finished so far are kept"):
        run(tmp_path, Scripted(), concurrency=1)
    assert (tmp_path / "episodes.jsonl").read_bytes().count(b"\n") == 4  # half a line was written and taken back
    assert (tmp_path / "episodes.jsonl").read_bytes().endswith(b"\n")
    assert run(tmp_path, Scripted()) == unbroken


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_named() -> None:
    # Reading that device would never end, so the journal is handed over as if it had been opened.
    journal = Journal(Path("episodes.jsonl"), os.open("/dev/full", os.O_WRONLY), 0)
    with pytest.raises(EvaluationError, match=r"Cannot write episodes\.jsonl: No space left on device"):
        journal.append(played(QUESTIONS[0]))
    journal.close()


def test_a_summary_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    run(tmp_path, Scripted())
    before = (tmp_path / "summary.json").read_bytes()
    with file_size_limit(100), pytest.raises(EvaluationError, match=r"Cannot write .*summary\.json"):
        run(tmp_path, Scripted())
    assert (tmp_path / "summary.json").read_bytes() == before
    assert not list(tmp_path.glob("*.tmp")) + list(tmp_path.glob(".*.tmp"))


def test_a_killed_process_resumes(tmp_path: Path, unbroken: Summary) -> None:
    script = tmp_path / "slow.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            from pathlib import Path
            sys.path[:0] = sys.argv[2:]
            from test_evaluation_run import Scripted, run
            run(Path(sys.argv[1]), Scripted(delay_s=0.1))
            """
        ),
        "utf-8",
    )
    out = tmp_path / "run"
    journal = out / "episodes.jsonl"
    here = Path(__file__).parent
    process = subprocess.Popen([sys.executable, str(script), str(out), str(here), str(here.parent)])
    try:
        deadline = time.monotonic() + 30
        while not (journal.exists() and journal.read_bytes().count(b"\n") >= 3):
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = journal.read_bytes().count(b"\n")
    rest = Scripted()
    assert run(out, rest) == unbroken
    assert len(rest.calls) == 24 - kept


def test_a_run_can_be_summarised_from_its_file(tmp_path: Path, unbroken: Summary) -> None:
    run(tmp_path, Scripted())
    assert summarise(read_episodes(tmp_path / "episodes.jsonl")) == unbroken
    with pytest.raises(EvaluationError, match="Cannot read"):
        list(read_episodes(tmp_path / "missing.jsonl"))
