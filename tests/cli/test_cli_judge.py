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


def test_what_was_judged_can_be_rescored(run: Run, tmp_path: Path) -> None:
    first = tmp_path / "a"
    run("evaluate", "-g", "countries", "-q", "countries", "--policy", "oracle", "--limit", "6", "--out", first)
    words = ("rescore", first, "--metric", "judge_recall", "--metric", "f1", "--json")
    told = " ".join(run(*words, code=1).stderr.split())
    assert "There is no 'judge_recall' for this run, as no language model judged it yet" in told
    assert "kgr1 judge RUN --base-url URL --model NAME" in told
    assert "judge" not in run("rescore", first).output  # nobody asked for it
    assert "Cannot read" in run("rescore", tmp_path / "nothing", "--metric", "judge_recall", code=1).stderr
    with judge_server() as server:
        shown = run("judge", first, "--base-url", server.url, "--model", "m", "--seed", "5").stdout
        assert "(2000 resamples, seed 5)" in shown
        shown = run("judge", first, "--base-url", server.url, "--model", "m").stdout
    found = json.loads(run(*words).stdout)
    assert list(found["metrics"]) == ["f1", "judge_recall"]
    assert found["metrics"]["judge_recall"] == json.loads((first / "judge.json").read_text())["metrics"]["judge_recall"]
    assert (found["questions"], found["metrics"]["judge_recall"]["value"]) == (6, 1.0)
    assert "(2000 resamples, seed 0)" in shown
    alone = json.loads(run("rescore", first, "--metric", "judge_all", "--json").stdout)
    assert (list(alone["metrics"]), alone["episodes"]) == (["judge_all"], 6)
    assert "| LLM judge, some gold entity named | 100.0 % | [100.0, 100.0] |" in run("rescore", first).stdout
    assert "judge_any" in run("rescore", first, "--metric", "nonsense", "--metric", "judge_any", code=1).stderr
    # Intervals of another seed stand nowhere.
    told = " ".join(run(*words, "--seed", "5", code=1).stderr.split())
    assert "drawn with seed 0 and not 5. Run 'kgr1 judge' again with --seed 5" in told


def test_the_verdicts_of_another_run_are_not_shown(run: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        out = tmp_path / name
        run("evaluate", "-g", "countries", "-q", "countries", "--policy", "oracle", "--limit", "4", "--out", out)
    first, second = tmp_path / "a", tmp_path / "b"
    with judge_server() as server:
        run("judge", first, "--base-url", server.url, "--model", "m")
    lines = [json.loads(line) for line in (second / "episodes.jsonl").read_text().splitlines()]
    lines[0]["answers"], lines[0]["answer_ids"] = ["Atlantis"], []
    (second / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (second / "judge.json").write_bytes((first / "judge.json").read_bytes())
    why = "judged other answers than those in episodes.jsonl"
    assert why in " ".join(run("rescore", second, "--metric", "judge_any", code=1).stderr.split())
    shown = run("rescore", second)
    assert why in " ".join(shown.stderr.split())
    assert "LLM judge" not in shown.stdout
    page = tmp_path / "page.html"
    told = run("report", f"one={first}", f"two={second}", "--out", page)
    assert " ".join(told.stderr.split()).count(why) == 1
    assert f"<li>two: The judge&#39;s numbers are left out: {second / 'judge.json'} {why}" in page.read_text()
    assert "LLM judge" in page.read_text()  # of the first


def test_a_judge_that_does_not_keep_to_the_form_is_told(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "a"
    run("evaluate", "-g", "countries", "-q", "countries", "--policy", "oracle", "--limit", "3", "--out", out)
    with judge_server(lambda asked: "It looks fine to me.") as server:
        told = run("judge", out, "--base-url", server.url, "--model", "m")
    assert "3 of 3 verdicts could not be read" in " ".join(told.stderr.split())
