"""``kgr1 evaluate --system``, models behind an address, and the training of RoG's planner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_process import Run, Spawn

from kgr1.evaluation.files import read_episodes
from kgr1.models.openai import KEY_VARIABLE
from model_servers import ModelServer

DATA = ("-g", "countries", "-q", "countries", "--limit", "3")
EXTRA = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tensorboard", "matplotlib", "gguf")
KEY = "sk-test-0123456789abcdef"


def test_a_system_on_a_server(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    out = tmp_path / "a"
    with ModelServer(lambda body: 'Answer: ["Vienna"]') as server:
        words = ("evaluate", *DATA, "--system", "self-consistency", "--model", server.url, "--out", out)
        result = run(*words)
        assert "| answered without the graph | 100.0 %" in result.stdout
        assert "| model calls | 8.00 |" in result.stdout
        assert server.headers[0]["authorization"] == f"Bearer {KEY}"
        settings = json.loads((out / "run.json").read_text())["settings"]
        assert settings["policy"] == {"name": "small", "server": server.url}
        assert (settings["system"], settings["baseline"]["samples"]) == ("self-consistency", 8)
        assert KEY not in (out / "run.json").read_text() + (out / "episodes.jsonl").read_text()
        episodes = list(read_episodes(out / "episodes.jsonl"))
        assert {(e.system, e.answers) for e in episodes} == {("self-consistency", ("Vienna",))}

        journal = out / "episodes.jsonl"
        journal.write_text(journal.read_text().splitlines(keepends=True)[0])
        asked = len(server.bodies)
        assert "1 of 3 episodes were there already" in run(*words).stderr
        assert len(server.bodies) == asked + 16
        refused = run(*words, "--set", "baseline.samples=4", code=1)
        assert "settings.baseline.samples is 8 there and 4 now" in refused.stderr
        other = ("evaluate", *DATA, "--system", "vanilla", "--model", server.url, "--out", out)
        assert "settings.system" in run(*other, code=1).stderr


def test_the_agent_on_a_server(spawn: Spawn, tmp_path: Path) -> None:
    """Without torch: a model behind an address needs nothing of it."""

    def answer(body: dict[str, Any]) -> str:
        return '<think>I guess.</think>\n<answer>["Vienna"]'

    with ModelServer(answer) as server:
        done = spawn("evaluate", *DATA, "-m", f"{server.url}#small", "--out", tmp_path / "a", without=EXTRA)
        assert done.returncode == 0, done.stderr
        question = ("ask", "What is the capital of Austria?", "-g", "countries", "--topic", "Austria")
        done = spawn(*question, "--model", server.url, without=EXTRA)
        assert "=> Vienna" in done.stdout
    assert [e.answers for e in read_episodes(tmp_path / "a" / "episodes.jsonl")] == [("Vienna",)] * 3
    gone = spawn(*question, "--model", server.url, "--set", "endpoint.retries=0")
    assert gone.returncode == 1
    assert "did not answer in 1 attempt" in gone.stderr
    assert "Traceback" not in gone.stderr


def test_a_server_that_dies_in_the_middle(run: Run, tmp_path: Path) -> None:
    with ModelServer(lambda body: '["Vienna"]', lives=2) as server:
        words = ("evaluate", *DATA, "--system", "vanilla", "--model", server.url, "--out", tmp_path / "a")
        result = run(*words, "--set", "endpoint.retries=0", "--concurrency", "1")
        assert "1 episodes failed and count 0" in result.stderr
        server.lives = 10
        assert "episodes failed" not in run(*words, "--retry-failed").stderr


def test_what_does_not_go_together(run: Run, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "a")
    assert (
        "the expert plays the agent's part only"
        in run("evaluate", *DATA, *out, "--policy", "oracle", "--system", "tog", code=2).stderr
    )
    run("evaluate", *DATA, *out, "--model", "x", "--system", "gpt", code=2)
    with ModelServer() as server:
        words = ("evaluate", *DATA, *out, "--model", server.url)
        assert "take 'rog-prompted'" in run(*words, "--system", "rog", code=1).stderr
        assert "has no planner" in run(*words, "--system", "tog", "--planner", server.url, code=1).stderr


def test_a_planner_is_trained_and_used(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    few = ("trajectories=6", "batch_size=4", "micro_batch_size=2", "save_steps=5", "lora_rank=0")
    tables = tuple(word for s in few for word in ("--set", f"coldstart.{s}"))
    planner = tmp_path / "planner"
    words = ("coldstart", "--planner", "-g", "countries", "-q", "countries", "--limit", "40", *tables)
    result = run(*words, "--model", tiny_model, "--out", planner)
    assert "relation paths of 6 questions." in result.stderr
    record = json.loads((planner / "run.json").read_text())
    assert record["command"] == "coldstart --planner"
    assert set(record["settings"]) == {"baseline", "coldstart"}
    as_agent = tuple(word for word in words if word != "--planner")
    assert "command was" in run(*as_agent, "--model", tiny_model, "--out", planner, "--resume", code=1).stderr

    short = ("--set", "baseline.answer_tokens=8", "--set", "baseline.plan_tokens=8")
    out = tmp_path / "a"
    words = ("evaluate", *DATA, *short, "--system", "rog", "--model", tiny_model, "--planner", planner / "policy")
    assert "| model calls | 2.00 |" in run(*words, "--out", out).stdout
    settings = json.loads((out / "run.json").read_text())["settings"]
    assert settings["planner"]["name"] == str(planner / "policy")
    assert settings["planner"]["weights"] != settings["policy"]["weights"]
