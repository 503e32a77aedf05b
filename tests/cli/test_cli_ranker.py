"""``kgr1 ranker`` with a tiny model."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from cli_process import Run

pytest.importorskip("accelerate")

from kgr1.models.pretrained import RANKER_FILE

DATA = ("--graph", "countries", "--questions", "countries", "--limit", "40")
FEW = ("coldstart.trajectories=12", "ranker.epochs=2", "ranker.batch_size=4", "ranker.held_out=0.25")
RANKER = ("ranker", *DATA, *(word for s in FEW for word in ("--set", s)))


def test_ranker(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "policy"
    result = run(*RANKER, "--model", tiny_model, "--out", out)
    assert list(out.iterdir()) == [out / RANKER_FILE]
    assert f"Trained {out / RANKER_FILE}" in result.stdout
    made = re.search(r"(\d+) choices of 12 questions\.", result.stderr)
    assert made is not None
    learned = re.search(r"choices +(\d+)", result.stdout)
    assert learned is not None
    shares = re.findall(r"right one among the best (\d), of (\d+) held out +([\d.]+)%", result.stdout)
    assert [most for most, _, _ in shares] == ["1", "5"]
    assert {int(count) for _, count, _ in shares} == {int(made[1]) - int(learned[1])}
    assert 0 < int(learned[1]) < int(made[1])
    assert 0 <= float(shares[0][2]) <= float(shares[1][2]) <= 100

    before = (out / RANKER_FILE).read_bytes()
    refused = run(*RANKER, "--model", tiny_model, "--out", out, code=2)
    assert "--force replaces it" in refused.stderr
    assert (out / RANKER_FILE).read_bytes() == before
    run(*RANKER, "--model", tiny_model, "--out", out, "--force")
    assert (out / RANKER_FILE).read_bytes() == before  # the same seed
    (out / "notes.txt").write_text("mine")
    whole = run(*RANKER, "--model", tiny_model, "--out", out, "--force", "--set", "ranker.held_out=0")
    assert "held out" not in whole.stdout
    assert (out / RANKER_FILE).read_bytes() != before
    assert (out / "notes.txt").read_text() == "mine"


def test_it_is_made_for_the_policy_in_the_folder(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    policy = shutil.copytree(tiny_model, tmp_path / "policy")
    run(*RANKER, "--out", policy)
    named = tmp_path / "named"
    run(*RANKER, "--model", tiny_model, "--out", named)
    assert (policy / RANKER_FILE).read_bytes() == (named / RANKER_FILE).read_bytes()
    other = run(*RANKER, "--model", tiny_model, "--out", policy, "--force", code=2).stderr
    assert "leave out --model, or name another folder" in " ".join(other.split())
    run(*RANKER, "--model", policy, "--out", policy, "--force")


def test_a_limit_holds_for_a_mixture(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mixture.toml"
    recipe.write_text('[[part]]\nname = "countries"\ngraph = "countries"\nquestions = "countries"\n')
    few = (*RANKER[RANKER.index("--set") :], "--set", "agent.max_turns=7", "--model", tiny_model)
    told = run("ranker", "--mixture", recipe, "--limit", "9", *few, "--out", tmp_path / "policy").stderr
    assert re.search(r"\d+ choices of 9 questions\.", told)


def test_a_policy_is_asked_with_its_ranker(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    """One that says so finds the ranker in its folder; without the file the episodes end with advice."""
    policy = shutil.copytree(tiny_model, tmp_path / "policy")
    agent = {"sets": True, "guided": True, "ranker_weight": 2.0, "max_turns": 3, "max_new_tokens": 400}
    (policy / "agent.json").write_text(json.dumps(agent))
    words = ("evaluate", *DATA, "--limit", "1", "--model", policy)

    def error(name: str) -> str:
        run(*words, "--out", tmp_path / name)
        (episode,) = map(json.loads, (tmp_path / name / "episodes.jsonl").read_text().splitlines())
        assert bool(episode["turns"]) is not bool(episode["error"])
        return str(episode["error"])

    assert "make one with 'kgr1 ranker', or set agent.ranker_weight=0." in error("without")
    run(*RANKER, "--out", policy)
    assert error("with") == ""


def test_what_cannot_be_used_is_one_sentence(run: Run, family: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "policy"
    unknown = run(*RANKER, "--model", "./none", "--out", out, code=1)
    assert "There is no model folder at './none'; check the path." in unknown.stderr
    elsewhere = run(*RANKER, "--graph", family, "--model", tiny_model, "--out", out, code=1)
    assert "check that questions and graph belong together" in elsewhere.stderr
    neither = run("ranker", "--model", tiny_model, "--out", out, code=2)
    assert "--mixture" in neither.stderr
    graph, questions = tmp_path / "one.tsv", tmp_path / "one.jsonl"
    graph.write_text("Ada\tparent of\tBen\n")
    question = {"id": "1", "question": "Whose parent is Ada?", "topic_entities": ["Ada"], "answers": ["Ben"]}
    questions.write_text(json.dumps({**question, "split": "train"}))
    only = run("ranker", "--graph", graph, "--questions", questions, "--model", tiny_model, "--out", out, code=1)
    assert "every hop of these questions has one relation to follow" in only.stderr
    assert not out.exists()
