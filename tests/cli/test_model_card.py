"""The card of a trained policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kgr1.cli.model_card import card, describe
from kgr1.config import Settings

RECORD: dict[str, Any] = {
    "command": "train",
    "model": "some/start",
    "kgr1": "0.1.0",
    "git_revision": "abc+changes",
    "started": "2026-01-01T00:00:00+00:00",
    "versions": {"torch": "2.13.0"},
    "seed": 7,
    "graph": {"source": "facts.tsv", "triples": 1200, "entities": 30, "relations": 4},
    "questions": {"source": "questions.jsonl", "subset": "hard", "split": "train", "count": 1000, "sha256": "f" * 64},
    "dev_questions": {"count": 0, "split": None},
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that has been: its record, its log and an adapter."""
    folder = tmp_path / "my run"
    (folder / "policy").mkdir(parents=True)
    settings = Settings().model_dump(mode="json")
    settings["train"]["learning_rate"] = 5e-4
    settings["agent"]["sentences"] = {'Now "{cue}".': 0.5, "So be it.": 0.0}
    tables = {name: settings[name] for name in ("agent", "reward", "train")}
    (folder / "run.json").write_text(json.dumps(RECORD | {"settings": tables}))
    log = [{"step": step, "f1": step / 10, "loss": 0.5} for step in range(1, 9)]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    (folder / "policy" / "adapter_config.json").write_text('{"base_model_name_or_path": "base: x"}')
    return folder


def test_what_a_card_says(run: Path) -> None:
    text = card(run, run / "policy")
    head, body = text.removeprefix("---\n").split("---\n", 1)
    metadata = yaml.safe_load(head)
    assert (metadata["base_model"], metadata["library_name"]) == ("base: x", "peft")
    assert "grpo" in metadata["tags"]
    assert "# my run\n" in body
    assert "`some/start` after reinforcement learning (multi-turn GRPO)" in body
    assert f"--model '{run / 'policy'}'" in body
    assert "| graph | `facts.tsv` (1,200 triples, 30 entities, 4 relations) |" in body
    assert (
        "| questions | 1,000 of `questions.jsonl`, subset hard, split train (SHA-256 `ffffffffffffffff`...) |" in body
    )
    assert "| seed | `7` |" in body
    assert "commit `abc+changes`" in body
    assert "development questions" not in body
    assert "| F1 | 0.300 | 0.600 |" in body  # steps 1 to 5 and 4 to 8


def test_settings_that_are_not_the_defaults_can_be_used_again(run: Path) -> None:
    import tomllib

    block = card(run, run / "policy").split("```toml\n")[1].split("```")[0]
    assert tomllib.loads(block) == {
        "agent": {"sentences": {'Now "{cue}".': 0.5, "So be it.": 0.0}},
        "train": {"learning_rate": 5e-4},
    }


def test_names_stay_names(run: Path) -> None:
    nasty = "`x`\n# h <script>| a |"
    record = json.loads((run / "run.json").read_text())
    record["graph"] = record["graph"] | {"source": nasty}
    record["model"] = nasty
    record["started"] = "<script>"
    (run / "run.json").write_text(json.dumps(record))
    (run / "policy" / "adapter_config.json").unlink()
    text = card(run, run / "policy")
    assert yaml.safe_load(text.split("---\n")[1])["base_model"] == nasty
    body = text.split("---\n", 2)[2]
    assert "\n# h" not in body
    assert "| graph | `'x' # h <script>\\| a \\|` (1,200 triples" in body
    assert "\\<script\\>" in body


def test_a_run_without_records(tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    for text in (None, "{", "[]"):
        if text is not None:
            (tmp_path / "run.json").write_text(text)
        assert "`unknown` after training" in card(tmp_path, tmp_path / "policy")


def test_a_planner_is_not_asked(run: Path) -> None:
    (run / "run.json").write_text(json.dumps(RECORD | {"command": "coldstart --planner", "settings": {}}))
    text = card(run, run / "policy")
    assert "plans relation paths" in text
    assert "kgr1 ask" not in text


def test_what_cannot_be_written_is_told(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "policy" / "README.md").mkdir()
    describe(run, run / "policy", run / "best")
    assert "was not written" in " ".join(capsys.readouterr().err.split())
    assert not (run / "best").exists()
