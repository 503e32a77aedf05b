"""``kgr1 grounding`` on saved runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cli_process import Run

from kgr1.agent.grammar import TurnGrammar
from kgr1.agent.policy import Generation, Policy, Session
from kgr1.cli import evaluate as evaluate_command
from kgr1.config import SamplingSettings, Settings
from kgr1.graph import KnowledgeGraph
from kgr1.types import Question

ORACLE = ("evaluate", "-g", "countries", "-q", "countries", "--policy", "oracle")


class Guessing:
    """Plays another policy's part, and answers one name more."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.name, self.count_tokens = policy.name, policy.count_tokens

    async def open(self, prompt: str, question: Question, sampling: SamplingSettings) -> Session:
        session = await self._policy.open(prompt, question, sampling)
        generate = session.generate

        async def guess(max_new_tokens: int, grammar: TurnGrammar | None = None) -> Generation:
            written = await generate(max_new_tokens, grammar)
            return replace(written, text=written.text.replace("]</answer>", ', "Atlantis"]</answer>'))

        session.generate = guess  # type: ignore[method-assign]
        return session


def test_the_expert_stands_on_facts(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "expert"
    run(*ORACLE, "--limit", "40", "--out", out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    table = run("grounding", out).stdout
    assert "| answers fully supported by shown triples | 100.0 % | [100.0, 100.0] |" in table
    assert "| answers without any evidence | 0.0 % | [0.0, 0.0] | 0 of 40 | 0 | - |" in table
    assert "record no log-probabilities" in table
    found = json.loads(run("grounding", out / "episodes.jsonl", "--json").stdout)
    assert found["metrics"]["fully_supported"]["value"] == 1.0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert "Cannot read" in run("grounding", tmp_path / "nothing", code=1).stderr


def test_abstaining_from_end_to_end(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The expert that guesses one more name, with and without abstaining; then the picture of the curve."""
    expert = evaluate_command.oracle

    def guessing(graph: KnowledgeGraph, settings: Settings) -> Guessing:
        return Guessing(expert(graph, settings))

    monkeypatch.setattr(evaluate_command, "oracle", guessing)
    command = (*ORACLE, "--limit", "12")
    run(*command, "--out", tmp_path / "guesses")
    run(*command, "--set", "agent.abstain=true", "--out", tmp_path / "abstains")
    refused = run(*command, "--set", "agent.abstain=true", "--out", tmp_path / "guesses", code=1)
    assert "agent.abstain" in refused.stderr
    guesses, abstains = (
        json.loads(run("grounding", tmp_path / name, "--json").stdout) for name in ("guesses", "abstains")
    )
    assert guesses["metrics"]["fully_supported"]["value"] == 0.0
    assert abstains["metrics"]["fully_supported"]["value"] == 1.0
    saved = [json.loads(line) for line in (tmp_path / "abstains" / "episodes.jsonl").read_text().splitlines()]
    assert {tuple(episode["withheld"]) for episode in saved} == {("Atlantis",)}
    assert all(episode["answers"] and "Atlantis" not in episode["answers"] for episode in saved)
    assert abstains["everything"][0]["precision"] > guesses["everything"][0]["precision"]

    picture = tmp_path / "plots" / "curve.png"
    pytest.importorskip("matplotlib")
    result = run("grounding", tmp_path / "guesses", "--out", picture)
    assert "Drew" in result.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")
