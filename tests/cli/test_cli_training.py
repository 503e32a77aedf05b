"""``kgr1 coldstart``, ``train`` and ``curve`` with a tiny model."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_process import Run

from kgr1.cli import runs
from kgr1.cli.bars import StepBar
from kgr1.cli.train import reinforce
from kgr1.config import Settings, TrainSettings
from kgr1.errors import EvaluationError
from kgr1.graph.store import GraphStore
from kgr1.types import Question

pytest.importorskip("trl")

DATA = ("--graph", "countries", "--questions", "countries", "--limit", "40", "--set", "agent.max_turns=3")
FEW = ("trajectories=6", "batch_size=2", "micro_batch_size=2", "save_steps=1", "lora_rank=2")
COLD = (*DATA, *(word for s in FEW for word in ("--set", f"coldstart.{s}")))
SHORT = ("steps=2", "questions_per_step=1", "group_size=2", "micro_batch_size=2", "save_steps=1", "lora_rank=2")
TRAIN = (*DATA, "--set", "agent.max_new_tokens=8", *(word for s in SHORT for word in ("--set", f"train.{s}")))


def rows(out: Path) -> list[dict[str, Any]]:
    return [row for line in (out / "log.jsonl").read_text().splitlines() if "loss" in (row := json.loads(line))]


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the second step."""
    update = StepBar.update

    def interrupt(self: StepBar, done: int, total: int, numbers: Any) -> None:
        update(self, done, total, numbers)
        if done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(StepBar, "update", interrupt)


def test_coldstart(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "cold"
    result = run("coldstart", *COLD, "--model", tiny_model, "--out", out)
    assert "Trained" in result.stdout
    assert "6 expert trajectories from 40 questions." in result.stderr
    assert "Warning" not in result.stderr
    assert len(rows(out)) == 3
    record = json.loads((out / "run.json").read_text())
    assert (record["command"], record["model"], record["seed"]) == ("coldstart", str(tiny_model), 0)
    assert record["settings"]["coldstart"]["trajectories"] == 6
    assert record["graph"]["triples"] == 2095
    assert record["questions"]["count"] == 40
    assert f"`{tiny_model}` after a cold start" in (out / "policy" / "README.md").read_text()

    used = run("coldstart", *COLD, "--model", tiny_model, "--out", out, code=1)
    assert "already holds a finished run; go on with --resume, replace it with --force" in used.stderr
    other = run("coldstart", *COLD, "--model", tiny_model, "--out", out, "--resume", "--limit", "41", code=1)
    assert "questions.limit was 40 and is 41" in other.stderr

    missing = run("coldstart", *COLD, "--model", "./none", "--out", out, "--force", code=1)
    assert "no model folder" in missing.stderr
    assert (out / "policy").is_dir()  # nothing is replaced before it is clear that there is a model

    (out / "notes.txt").write_text("mine")
    run("coldstart", *COLD, "--set", "coldstart.trajectories=4", "--model", tiny_model, "--out", out, "--force")
    assert len(rows(out)) == 2
    assert (out / "notes.txt").read_text() == "mine"
    evaluation = ("evaluate", *DATA, "--limit", "2", "--set", "agent.max_new_tokens=8", "--model", out / "policy")
    assert "2 questions, 2 episodes" in run(*evaluation, "--out", tmp_path / "evaluation").stdout
    run(*evaluation, "--out", tmp_path / "evaluation")
    run("coldstart", *COLD, "--model", tiny_model, "--out", out, "--force")
    assert "policy.weights" in run(*evaluation, "--out", tmp_path / "evaluation", code=1).stderr


@pytest.mark.usefixtures("interrupted")
def test_an_interrupted_coldstart_says_how_to_go_on(
    run: Run, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "cold"
    words = ("coldstart", *COLD, "--model", tiny_model, "--out", out)
    stopped = run(*words, code=130)
    assert "Stopped after step 2 of 3." in stopped.stderr
    assert f"Kept: {out / 'checkpoint-1'}" in stopped.stderr
    assert "--resume" in stopped.stderr
    assert "unfinished run" in run(*words, code=1).stderr
    monkeypatch.undo()
    monkeypatch.setenv("COLUMNS", "200")
    run(*words, "--resume")
    assert [row["step"] for row in rows(out)] == [1, 2, 3]
    assert (out / "policy").is_dir()


def test_train(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "rl"
    result = run("train", *TRAIN, "--start", tiny_model, "--out", out, "--dev-split", "dev")
    assert "Warning: --dev-split has no effect" in result.stderr
    assert "f1 0.000" in result.stderr
    assert str(out / "curve.png") in result.stdout
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert [row["step"] for row in rows(out)] == [1, 2]
    record = json.loads((out / "run.json").read_text())
    assert set(record["settings"]) == {"agent", "reward", "train"}
    assert record["dev_questions"]["split"] == "dev"
    card = (out / "policy" / "README.md").read_text()
    assert f"`{tiny_model}` after reinforcement learning" in card
    assert "\nmax_new_tokens = 8\n" in card
    assert re.search(r"\n\| F1 \| \d\.\d{3} \| \d\.\d{3} \|\n", card)
    assert not (out / "README.md").exists()
    run("train", *TRAIN, "--start", tiny_model, "--out", out, code=1)
    # more steps are the one thing that a resumed run may ask for
    more = ("--set", "train.steps=3", "--dev-split", "dev", "--resume")
    run("train", *TRAIN, *more, "--start", tiny_model, "--out", out)
    assert json.loads((out / "run.json").read_text())["started"] == record["started"]
    assert [row["step"] for row in rows(out)] == [1, 2, 3]
    refused = run("train", *TRAIN, *more, "--set", "train.beta=0.5", "--start", tiny_model, "--out", out, code=1)
    assert "settings.train.beta was" in refused.stderr

    picture = tmp_path / "both.png"
    run("curve", f"first={out}", out / "log.jsonl", "--out", picture, "--metric", "kl", "--metric", "loss")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "has nonsense" in run("curve", out, "--out", picture, "--metric", "nonsense", code=1).stderr


@pytest.mark.parametrize("more", [(), ("--resume",), ("--force",)])
def test_two_trainings_do_not_write_to_one_folder(
    run: Run, tiny_model: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    with runs.held(out):
        (out / "log.jsonl").write_text("precious")
        for words in (("train", *TRAIN, "--start"), ("coldstart", *COLD, "--model")):
            refused = run(*words, tiny_model, "--out", out, *more, code=1)
            assert f"Another run is writing to {out}" in refused.stderr
    assert sorted(path.name for path in out.iterdir()) == [".lock", "log.jsonl"]
    assert (out / "log.jsonl").read_text() == "precious"


def test_a_training_holds_its_folder_while_it_runs(
    run: Run, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, tried = tmp_path / "out", list[str]()

    def meanwhile(*_: Any, **__: Any) -> None:
        with pytest.raises(EvaluationError, match="Another run is writing to"), runs.held(out):
            pass
        tried.append("held")

    monkeypatch.setattr("kgr1.cli.train.reinforce", meanwhile)
    monkeypatch.setattr("kgr1.cli.coldstart.fine_tune", meanwhile)
    run("train", *TRAIN, "--start", tiny_model, "--out", out)
    run("coldstart", *COLD, "--model", tiny_model, "--out", out)
    assert tried == ["held", "held"]


def test_the_lock_goes_with_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = "import sys, time; from pathlib import Path; from kgr1.cli.runs import held\n"
    hold += "with held(Path(sys.argv[1])): print('held', flush=True); time.sleep(100)"
    words = [sys.executable, "-c", hold, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(EvaluationError, match="Another run is writing to"):
            runs.refuse_used(tmp_path, resume=True, force=False)
        monkeypatch.setenv("RANK", "1")  # another process of one training
        with runs.held(tmp_path):
            runs.refuse_used(tmp_path, resume=True, force=False)
        monkeypatch.delenv("RANK")
        process.kill()
    runs.refuse_used(tmp_path, resume=True, force=False)
    with runs.held(tmp_path), pytest.raises(EvaluationError), runs.held(tmp_path):
        pass


def test_training_on_another_graph_is_told(
    run: Run, family: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kgr1.cli.train.reinforce", lambda *_, **__: None)
    words = ("train", *TRAIN, "--start", tiny_model, "--out")
    assert "none is in the graph 'family'" in run(*words, tmp_path / "a", "--graph", family).stderr
    assert "looked up" not in run(*words, tmp_path / "b").stderr


def test_a_start_brings_its_settings(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    start = shutil.copytree(tiny_model, tmp_path / "start")
    sentences = {"So be it.": 1.0, 'Now "{cue}".': 0.0}
    agent = {"sets": True, "guided": True, "max_turns": 4, "ranker_weight": 3.0, "sentences": sentences}
    (start / "agent.json").write_text(json.dumps(agent))
    words = ("train", *TRAIN, "--set", "train.steps=1", "--start", start)
    told = run(*words, "--out", tmp_path / "usual").stderr
    told = " ".join(told.split())
    assert "Its ranker and verifier, the meaning of relations, what it looks up in the graph beforehand" in told
    assert "and its bonus for certain sentences" in told
    assert "are switched off, also in the policy that comes out." in told
    settings = json.loads((tmp_path / "usual" / "run.json").read_text())["settings"]
    assert settings["agent"]["sentences"] == dict.fromkeys(sentences, 0.0)
    assert settings["agent"]["ranker_weight"] == 0.0
    assert (settings["agent"]["sets"], settings["agent"]["max_turns"]) == (True, 3)  # the option goes before the file
    assert [settings["reward"][f"w_{name}"] for name in ("fmt", "kg", "ans", "f1", "ret")] == [0, 0, 0, 1, 1]
    train = settings["train"]
    assert (train["temperature"], train["resample"], train["beta"]) == (2.0, 1, 0.0)
    assert (train["baseline"], train["learning_rate"], train["group_size"]) == ("episode", 2e-4, 2)
    assert train["stop_entropy"] == 0.0
    kept = json.loads((tmp_path / "usual" / "policy" / "agent.json").read_text())
    assert (kept["guided"], kept["sentences"]) == (True, dict.fromkeys(sentences, 0.0))

    run(*words, "--set", "train.temperature=1.5", "--set", "reward.w_ans=0.25", "--out", tmp_path / "warm")
    settings = json.loads((tmp_path / "warm" / "run.json").read_text())["settings"]
    assert (settings["train"]["temperature"], settings["train"]["resample"]) == (1.5, 1)
    assert (settings["reward"]["w_fmt"], settings["reward"]["w_ans"]) == (0.0, 0.25)

    other = ("agent.guided=false", "agent.sentences={}", "reward.w_ans=0.25")
    run(*words, *(word for s in other for word in ("--set", s)), "--out", tmp_path / "other")
    settings = json.loads((tmp_path / "other" / "run.json").read_text())["settings"]
    assert (settings["reward"]["w_fmt"], settings["reward"]["w_ans"]) == (0.5, 0.25)
    assert (settings["train"]["temperature"], settings["train"]["resample"]) == (1.0, 0)


def test_settings_that_do_not_fit_together(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    words = ("train", *TRAIN, "--set", "train.micro_batch_size=3", "--start", tiny_model, "--out", tmp_path / "rl")
    assert "must be a multiple of train.micro_batch_size" in run(*words, code=1).stderr


def test_settings_are_refused_before_anything_is_written(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    odd = ("--set", "train.updates_per_batch=2", "--set", "train.steps=3", "--set", "train.save_steps=2")
    result = run("train", *TRAIN, *odd, "--start", tiny_model, "--out", out, code=1)
    assert "train.steps must be a multiple of train.updates_per_batch" in result.stderr
    assert not out.exists()


def test_questions_of_another_graph(run: Run, family: Path, tiny_model: Path, tmp_path: Path) -> None:
    words = ("coldstart", *COLD, "--graph", family, "--model", tiny_model, "--out", tmp_path / "cold")
    assert "check that questions and graph belong together" in run(*words, code=1).stderr


def test_a_folder_that_cannot_be_written(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    words = ("coldstart", *COLD, "--model", tiny_model, "--out", tmp_path / "file" / "cold")
    assert "Cannot write to" in run(*words, code=1).stderr


def test_force_removes_nothing_but_a_run(tmp_path: Path) -> None:
    for name in ("policy", "checkpoint-3", "checkpoint-old", "data"):
        (tmp_path / name).mkdir()
    elsewhere = tmp_path / "data" / "precious"
    elsewhere.mkdir()
    (tmp_path / "best").symlink_to(elsewhere)
    (tmp_path / "best.json").write_text("{}")  # says of which step best/ is
    runs.clear(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-old", "data"]
    assert elsewhere.is_dir()


@pytest.mark.parametrize("every", [0, 5])
def test_an_alarm_names_the_best_policy_where_there_is_one(
    every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def alarmed(*_: Any, on_alarm: Callable[[str], None], **__: Any) -> Path:
        on_alarm("it collapses")
        return tmp_path / "policy"

    monkeypatch.setattr("kgr1.grpo.trainer.train_grpo", alarmed)
    settings = Settings(train=TrainSettings(eval_steps=every))
    dev = [Question(id="1", text="Who?", topics=("Ada",), answers=())]
    graph = GraphStore.from_triples([("Ada", "knows", "Ben")])
    reinforce("start", dev, dev, graph, tmp_path, settings, going_on=False)
    told = " ".join(capsys.readouterr().err.split())
    assert "Stopped early, because it collapses. The last checkpoint is kept" in told
    assert ("is the best policy by the development questions" in told) is (every > 0)


def test_several_graphs_at_once(run: Run, family: Path, tiny_model: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mixture.toml"
    recipe.write_text(
        f"""
        [[part]]
        name = "countries"
        graph = "countries"
        questions = "countries"
        entity_styles = ["upper", "exchanged"]
        [[part]]
        name = "family"
        graph = "{family}"
        generate = 8
        hops = [1]
        relation_styles = ["as_is", "upper"]
        """
    )
    cold, grpo = tmp_path / "cold", tmp_path / "grpo"
    few = COLD[COLD.index("--set") :]
    result = run("coldstart", "--mixture", recipe, *few, "--model", tiny_model, "--out", cold)
    assert "6 expert trajectories" in result.stderr
    assert re.search(r"Trajectories: countries \d, family \d\.", result.stderr)
    assert "family: " in result.stderr
    record = json.loads((cold / "run.json").read_text())
    assert record["graph"]["source"] == str(recipe)
    short = TRAIN[TRAIN.index("--set") :]
    dev = ("--dev-split", "dev", "--set", "train.eval_steps=2", "--set", "train.eval_questions=4")
    run("train", "--mixture", recipe, *short, *dev, "--limit", "20", "--start", cold / "policy", "--out", grpo)
    assert len(rows(grpo)) == 2
    assert json.loads((grpo / "run.json").read_text())["dev_questions"]["count"] == 4
    assert (grpo / "best").is_dir()
    named = ("train", "--mixture", recipe, *short, "--limit", "4", "--start", cold / "policy", "--out", tmp_path / "x")
    refused = run(*named, "--dev-split", "nonsense", code=1)
    assert "questions of a split 'nonsense' that it is not trained on; choose from dev, test." in refused.stderr
    assert not (tmp_path / "x").exists()

    both = run("coldstart", "--mixture", recipe, *COLD, "--model", tiny_model, "--out", tmp_path / "x", code=2)
    assert "leave out --graph" in both.stderr
    neither = run("coldstart", *few, "--model", tiny_model, "--out", tmp_path / "x", code=2)
    assert "--mixture" in neither.stderr


def test_a_mixture_names_the_variable_that_is_not_set(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mixture.toml"
    recipe.write_text('[[part]]\nname = "films"\ngraph = "$KGR1_NOWHERE/films.kg"\n')
    result = run("coldstart", "--mixture", recipe, "--model", tiny_model, "--out", tmp_path / "x", code=1)
    assert "$KGR1_NOWHERE" in result.stderr
    assert "is not set" in result.stderr
