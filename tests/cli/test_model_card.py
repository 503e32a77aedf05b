"""The card of a trained policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kgr1.cli.model_card import card, describe
from kgr1.config import GUIDED_DEFAULTS, Settings, load_settings

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


SENTENCES = {'Now "{cue}".': 0.5, "So be it, `now` \U0001f600 \x7f.": 0.0}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that has been: its record, its log and an adapter."""
    folder = tmp_path / "my run"
    (folder / "policy").mkdir(parents=True)
    settings = Settings().model_dump(mode="json")
    settings["train"]["learning_rate"] = 5e-4
    settings["agent"]["sentences"] = SENTENCES
    save(folder, settings={name: settings[name] for name in ("agent", "reward", "train")})
    write_log(folder, 8)
    (folder / "policy" / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/base"}')
    return folder


def write_log(folder: Path, steps: int) -> None:
    log = [{"step": step, "f1": step / 10, "loss": 0.5} for step in range(1, steps + 1)]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))


def save(folder: Path, **changed: Any) -> None:
    file = folder / "run.json"
    record = json.loads(file.read_text()) if file.exists() else RECORD
    file.write_text(json.dumps(record | changed))


def parts(run: Path) -> tuple[dict[str, Any], str]:
    """The metadata and the text of a card."""
    _, head, body = card(run, run / "policy").split("---\n", 2)
    return yaml.safe_load(head), body


def test_what_a_card_says(run: Path) -> None:
    metadata, body = parts(run)
    assert (metadata["library_name"], metadata["base_model"]) == ("peft", "owner/base")
    assert metadata["tags"][-1] == "grpo"
    assert "# `my run`\n" in body
    assert "`some/start` after reinforcement learning (multi-turn GRPO)" in body
    assert f"--model '{run / 'policy'}'" in body
    assert "| graph | `facts.tsv` (1,200 triples, 30 entities, 4 relations) |" in body
    asked = "1,000 of `questions.jsonl`, subset `hard`, split `train` (SHA-256 `ffffffffffffffff`...)"
    assert f"| questions | {asked} |" in body
    assert "| seed | `7` |" in body
    assert "commit `abc+changes`" in body
    assert "development questions" not in body


def test_a_card_shows_both_ends_of_the_run(run: Path) -> None:
    write_log(run, 10)
    _, body = parts(run)
    assert "Means over the first 5 steps and the last 5 steps of the run" in body
    assert "| F1 | 0.300 | 0.800 |" in body  # steps 1 to 5 and 6 to 10


def test_a_card_of_a_short_run_shows_its_first_and_its_last_step(run: Path) -> None:
    write_log(run, 9)
    _, body = parts(run)
    assert "The first and the last step of the run, as logged" in body
    assert "|  | first step | last step |" in body
    assert "| F1 | 0.100 | 0.900 |" in body


def test_a_card_says_what_was_left_out(run: Path) -> None:
    asked = RECORD["questions"] | {"limit": 1000, "without": ["film*", "<b>"], "skip": {"towns": 1200}}
    save(run, questions=asked)
    _, body = parts(run)
    assert "split `train`, limit `1000` (SHA-256" in body
    assert "| parts left out | `film*`, `<b>` |" in body
    assert "| trajectories left out | 1,200 of `towns` |" in body
    save(run, questions=RECORD["questions"] | {"limit": None})
    _, body = parts(run)
    assert "left out" not in body
    assert "limit" not in body.split("All settings")[0]


def test_a_card_says_how_far_the_run_came(run: Path) -> None:
    assert "| steps | 8 of 30 |" in parts(run)[1]
    settings = json.loads((run / "run.json").read_text())["settings"]
    settings["train"]["steps"] = 8
    save(run, settings=settings)
    assert "| steps | 8 |" in parts(run)[1]
    save(run, command="coldstart", settings={"coldstart": {"epochs": 1}})
    assert "| steps | 8 |" in parts(run)[1]
    (run / "log.jsonl").unlink()
    assert "| steps |" not in parts(run)[1]


def test_the_settings_can_be_used_again(run: Path) -> None:
    block = card(run, run / "policy").split("```toml\n")[1].split("\n```")[0]
    file = run / "again.toml"
    file.write_text(block, "utf-8")
    again = load_settings(file, usual=GUIDED_DEFAULTS)
    assert again.agent.sentences == SENTENCES
    assert again.train == Settings().train.model_copy(update={"learning_rate": 5e-4})
    assert again.reward == Settings().reward  # also where a default depends on the start


@pytest.mark.parametrize(
    ("command", "what", "tags"),
    [
        ("demo train", "reinforcement learning", ["grpo"]),
        ("demo coldstart", "a cold start", ["sft"]),
        ("", "training", []),
    ],
)
def test_what_was_done(run: Path, command: str, what: str, tags: list[str]) -> None:
    save(run, command=command)
    metadata, body = parts(run)
    assert f"`some/start` after {what}" in body
    assert metadata["tags"][3:] == tags


def test_a_base_that_is_a_folder_is_no_name_of_the_hub(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(run, model="/home/me/start")
    (run / "policy" / "adapter_config.json").unlink()
    metadata, _ = parts(run)
    assert metadata == {"library_name": "transformers", "tags": metadata["tags"]}
    (run / "owner" / "folder").mkdir(parents=True)
    monkeypatch.chdir(run)
    save(run, model="owner/folder")
    assert "base_model" not in parts(run)[0]


def test_the_best_policy_says_of_which_step_it_is(run: Path) -> None:
    (run / "best").mkdir()
    (run / "best.json").write_text('{"step": 20, "f1": 0.5}')
    assert "| step | `20`, the best by development questions |" in card(run, run / "best")
    assert "the best by" not in card(run, run / "policy")


def test_names_stay_names(run: Path) -> None:
    nasty = "`x`\n# h <script>| a |"
    save(run, graph=RECORD["graph"] | {"source": nasty}, model=nasty, started="<script>")
    _, body = parts(run)
    assert "\n# h" not in body
    assert "| graph | `'x' # h <script>\\| a \\|` (1,200 triples" in body
    assert "| begun | `<script>` |" in body


@pytest.mark.parametrize(
    "record",
    [
        None,
        b"{",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"graph": "x", "questions": [1], "versions": ["a"], "settings": ["a"]}',
        b'{"graph": {"triples": "many"}, "questions": {"count": null}, "settings": {"train": 1}}',
    ],
)
def test_records_that_are_damaged_cost_nothing_else(run: Path, record: bytes | None) -> None:
    (run / "run.json").unlink()
    if record is not None:
        (run / "run.json").write_bytes(record)
    describe(run, run / "policy")
    assert "`unknown` after training" in (run / "policy" / "README.md").read_text()


def test_folders_with_names_that_are_no_text(run: Path, tmp_path: Path) -> None:
    folder = run.rename(tmp_path / "run\udcff\n")
    describe(folder, folder / "policy")
    text = (folder / "policy" / "README.md").read_text()
    assert "\n# `run?`\n" in text
    assert "kgr1 ask" not in text


def test_a_planner_is_not_asked(run: Path) -> None:
    save(run, command="coldstart --planner", settings={})
    text = card(run, run / "policy")
    assert "plans relation paths" in text
    assert "kgr1 ask" not in text


def test_what_cannot_be_written_is_told(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "policy" / "README.md").mkdir()
    describe(run, run / "policy", run / "best")
    assert "was not written" in " ".join(capsys.readouterr().err.split())
    assert not (run / "best").exists()


def test_one_process_writes(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    describe(run, run / "policy")
    assert not (run / "policy" / "README.md").exists()
