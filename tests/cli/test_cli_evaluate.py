"""``kgr1 evaluate`` and ``kgr1 diff`` without a model."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cli_process import Run, Spawn, command, environment

from kgr1.evaluation.files import read_episodes

ORACLE = ("evaluate", "-g", "countries", "-q", "countries", "--policy", "oracle")
EXTRA = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tensorboard", "matplotlib", "gguf")


def test_the_expert_answers_everything(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "a"
    result = run(*ORACLE, "--limit", "30", "--out", out)
    assert "| F1 (macro) | 100.0 %" in result.stdout
    assert str(out) in result.stderr
    settings = json.loads((out / "run.json").read_text())["settings"]
    assert settings["policy"] == {"name": "oracle"}
    assert settings["agent"]["max_turns"] == 5
    assert len(list(read_episodes(out / "episodes.jsonl"))) == 30
    table = run("diff", out, out).stdout
    assert "30 questions in both runs" in table
    assert "+0.0 points" in table


def test_what_the_expert_cannot_solve_counts_as_wrong(run: Run, tmp_path: Path, family: Path) -> None:
    lines = [
        {"id": "1", "question": "Ada's children?", "topic_entities": ["Ada"], "answers": ["Ben", "Cleo"]},
        {"id": "2", "question": "Dan's dog?", "topic_entities": ["Dan"], "answers": ["Rex"]},
    ]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, lines)))
    words = ("evaluate", "-g", family, "-q", tmp_path / "q.jsonl", "--policy", "oracle", "--out", tmp_path / "a")
    assert "| F1 (macro) | 50.0 %" in run(*words).stdout  # a file without splits is taken as a whole
    assert "no split 'test'" in run(*words, "--split", "test", code=1).stderr


def test_topics_from_the_text(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "a"
    result = run(*ORACLE, "--limit", "20", "--out", out, "--link")
    assert "Topics found in the text: exactly the given ones in" in result.stderr
    given = {e.question.id: e.question.topics for e in read_episodes(run_plain(run, tmp_path / "b"))}
    linked = {e.question.id: e.question.topics for e in read_episodes(out / "episodes.jsonl")}
    assert linked.keys() == given.keys()
    assert sum(bool(set(linked[key]) & set(given[key])) for key in given) >= 18
    assert json.loads((out / "run.json").read_text())["settings"]["topics"] == "linked"
    refused = run(*ORACLE, "--limit", "20", "--out", out, code=1)
    assert "topics" in refused.stderr


def run_plain(run: Run, out: Path) -> Path:
    """The journal of the same questions with the topics that they give."""
    run(*ORACLE, "--limit", "20", "--out", out)
    assert "topics" not in json.loads((out / "run.json").read_text())["settings"]
    return out / "episodes.jsonl"


def test_settings_that_came_later_do_not_part_a_folder_from_its_past(run: Run, tmp_path: Path) -> None:
    run(*ORACLE, "--limit", "2", "--out", tmp_path / "a")
    agent = json.loads((tmp_path / "a" / "run.json").read_text())["settings"]["agent"]
    assert set(agent) == {"max_turns", "max_new_tokens", "observation_tokens", "prompt", "layout"}
    run(*ORACLE, "--limit", "2", "--out", tmp_path / "b", "--set", "agent.page_size=50")
    agent = json.loads((tmp_path / "b" / "run.json").read_text())["settings"]["agent"]
    assert agent["page_size"] == 50
    refused = run(*ORACLE, "--limit", "2", "--out", tmp_path / "a", "--set", "agent.page_size=50", code=1)
    assert "page_size" in refused.stderr


def test_going_on(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "a"
    run(*ORACLE, "--limit", "20", "--out", out)
    journal = out / "episodes.jsonl"
    whole = journal.read_text()
    journal.write_text("".join(whole.splitlines(keepends=True)[:5]) + '{"cut off')
    result = run(*ORACLE, "--limit", "20", "--out", out)
    assert "5 of 20 episodes were there already" in result.stderr
    assert {e.question.id for e in read_episodes(journal)} == {
        json.loads(x)["question"]["id"] for x in whole.split("\n") if x
    }
    refused = run(*ORACLE, "--limit", "20", "--out", out, "--set", "agent.observation_tokens=64", code=1)
    assert "settings.agent.observation_tokens is 512 there and 64 now" in refused.stderr
    run(*ORACLE, "--limit", "20", "--out", out, "--concurrency", "1")


def ids(journal: str) -> list[str]:
    return sorted(json.loads(line)["question"]["id"] for line in journal.splitlines())


def test_several_runs(run: Run, tmp_path: Path) -> None:
    result = run(*ORACLE, "--limit", "5", "--runs", "2", "--out", tmp_path / "a")
    assert "5 questions, 10 episodes" in result.stdout
    assert json.loads((tmp_path / "a" / "run.json").read_text())["settings"]["sampling"]["temperature"] == 1.0
    run(*ORACLE, "--runs", "2", "--temperature", "0", "--out", tmp_path / "b", code=2)


def test_a_run_needs_one_policy(run: Run, tmp_path: Path) -> None:
    words = ("evaluate", "-g", "countries", "-q", "countries", "--out", tmp_path / "a")
    assert "--policy oracle" in run(*words, code=2).stderr
    run(*words, "--policy", "oracle", "--model", "x", code=2)
    run(*words, "--policy", "gpt", code=2)


def test_settings_are_checked(run: Run, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "a")
    assert "unknown key 'agent.turns'" in run(*ORACLE, *out, "--set", "agent.turns=3", code=1).stderr
    assert "agent.max_turns" in run(*ORACLE, *out, "--set", "agent.max_turns=0", code=1).stderr
    assert "table.key=value" in run(*ORACLE, *out, "--set", "max_turns", code=1).stderr
    (tmp_path / "s.toml").write_text("[agent\n")
    assert "not valid TOML" in run(*ORACLE, *out, "--config", tmp_path / "s.toml", code=1).stderr
    assert "s2.toml" in run(*ORACLE, *out, "--config", tmp_path / "s2.toml", code=1).stderr
    assert not (tmp_path / "a").exists()


def test_a_config_file_counts_less_than_the_command_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("[agent]\nmax_turns = 7\nobservation_tokens = 64\n")
    run(*ORACLE, "--limit", "2", "--out", tmp_path / "a", "-c", tmp_path / "s.toml", "--set", "agent.max_turns=6")
    agent = json.loads((tmp_path / "a" / "run.json").read_text())["settings"]["agent"]
    assert (agent["max_turns"], agent["observation_tokens"]) == (6, 64)


def test_diff_needs_two_evaluations(run: Run, tmp_path: Path) -> None:
    assert "Cannot read" in run("diff", tmp_path, tmp_path / "none", code=1).stderr


def test_without_the_training_extra(spawn: Spawn, tmp_path: Path, family: Path) -> None:
    """What needs no model works; what needs one says how to install it."""
    graph, out = tmp_path / "g", tmp_path / "a"
    for words in (
        ("graph", "build", family, graph),
        ("graph", "info", graph),
        (*ORACLE, "--limit", "3", "--out", out),
        ("diff", out, out),
    ):
        done = spawn(*words, without=EXTRA)
        assert done.returncode == 0, done.stderr
    data = ("-g", "countries", "-q", "countries", "--limit", "5", "--out", tmp_path / "new")
    (tmp_path / "log.jsonl").write_text('{"step": 1, "f1": 0.5}\n')
    for words in (
        ("ask", "Q?", "-g", graph, "--topic", "Ada"),
        ("evaluate", *data, "--model", "m"),
        ("coldstart", *data),
        ("train", *data, "--start", "m"),
        ("curve", tmp_path / "log.jsonl", "--out", tmp_path / "c.png"),
    ):
        done = spawn(*words, without=EXTRA)
        assert done.returncode == 1
        assert "pip install 'kgr1[train]'" in done.stderr
        assert done.stderr.count("Error: ") == 1
        assert "Traceback" not in done.stderr


def test_ctrl_c_says_what_is_kept(cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "a"
    process = subprocess.Popen(
        [*command(), *ORACLE, "--split", "train", "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(cache),
    )
    deadline = time.monotonic() + 30
    journal = out / "episodes.jsonl"
    while not (journal.exists() and journal.stat().st_size > 10_000) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (130, "")
    count = len(list(read_episodes(journal)))
    assert 0 < count < 5000
    assert f"Interrupted. Kept: {count} episodes in {out}; run the same command again to go on." in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize("debug", ["0", "1"])
def test_tracebacks_are_for_debugging(spawn: Spawn, debug: str) -> None:
    done = spawn("graph", "info", "nowhere", KGR1_DEBUG=debug)
    assert done.returncode == 1
    assert ("Traceback" in done.stderr) is (debug == "1")
    assert "There is no graph at nowhere" in done.stderr
