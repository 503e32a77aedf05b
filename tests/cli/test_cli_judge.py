"""``kgr1 judge`` against a server on loopback."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from cli_process import Run

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "evaluation"))

from judge_server import judge_server


def test_judging_a_run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGR1_JUDGE_KEY", "k-123")
    out = tmp_path / "a"
    run("evaluate", "-g", "countries", "-q", "countries", "--policy", "oracle", "--limit", "10", "--out", out)
    episodes = (out / "episodes.jsonl").read_bytes()
    with judge_server() as server:
        words = ("judge", out, "--base-url", server.url, "--model", "m")
        server.fail_after = 4
        # One worker, so that the number kept is known.
        stopped = run(*words, "--concurrency", "1", "--retries", "0", code=1)
        assert "4 verdicts are kept" in stopped.stderr
        server.fail_after = 10**9
        result = run(*words)
        assert "larger one is needed" not in result.stderr
        assert "| LLM judge, gold entities named | 100.0 % | [100.0, 100.0] |" in result.stdout
        assert "not defined" in result.stdout  # both sides say yes to everything
        asked = len(server.requests)
        assert "0, " in run(*words).stdout
        assert len(server.requests) == asked
        assert set(server.keys) == {"Bearer k-123"}
    found = json.loads((out / "judge.json").read_text())
    assert (found["episodes"], found["entities"]["equal"], found["entities"]["kappa"]) == (10, 1.0, None)
    assert (out / "episodes.jsonl").read_bytes() == episodes
    assert "not the address" in run("judge", out, "--base-url", "nonsense", "--model", "m", code=1).stderr
    assert "Cannot read" in run("judge", tmp_path / "b", "--base-url", "http://x", "--model", "m", code=1).stderr
    assert not (tmp_path / "b").exists()
    monkeypatch.setenv("KGR1_JUDGE_KEY", "k\n123")
    assert "characters that no key has" in run(*words, code=1).stderr


def test_a_judge_that_does_not_keep_to_the_form_is_told(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "a"
    run("evaluate", "-g", "countries", "-q", "countries", "--policy", "oracle", "--limit", "3", "--out", out)
    with judge_server(lambda asked: "It looks fine to me.") as server:
        told = run("judge", out, "--base-url", server.url, "--model", "m")
    assert "3 of 3 verdicts could not be read" in " ".join(told.stderr.split())
