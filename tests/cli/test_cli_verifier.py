"""``kgr1 verifier`` with a tiny model."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from cli_process import Run

pytest.importorskip("accelerate")

from kgr1.models.pretrained import RANKER_FILE, VERIFIER_FILE

DATA = ("--graph", "countries", "--questions", "countries", "--limit", "40")
TRAJECTORIES = ("--set", "coldstart.trajectories=12")
RANKER = ("ranker", *DATA, *TRAJECTORIES, "--set", "ranker.epochs=2", "--set", "ranker.batch_size=4")
FEW = ("verifier.epochs=2", "verifier.batch_size=4", "verifier.held_out=0.25")
VERIFIER = ("verifier", *DATA, *TRAJECTORIES, *(word for s in FEW for word in ("--set", s)))


@pytest.fixture
def policy(run: Run, tiny_model: Path, tmp_path: Path) -> Path:
    """A tiny model with a ranker."""
    folder = shutil.copytree(tiny_model, tmp_path / "policy")
    run(*RANKER, "--out", folder)
    return folder


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_verifier(run: Run, policy: Path, tmp_path: Path) -> None:
    out = tmp_path / "beside"
    result = run(*VERIFIER, "--model", policy, "--out", out)
    assert names(out) == {VERIFIER_FILE}
    assert f"Trained {out / VERIFIER_FILE}" in result.stdout
    made = re.search(r"(\d+) cases of 12 questions\.", result.stderr)
    assert made is not None
    learned = re.search(r"cases +(\d+)", result.stdout)
    assert learned is not None
    assert 0 < int(learned[1]) < int(made[1])
    shares = re.findall(r"right among these, ([\w ]+?) +([\d.]+)%", result.stdout)
    assert [name for name, _ in shares] == ["ranker alone", "with the verifier", "going on"]
    assert all(0 <= float(share) <= 100 for _, share in shares)
    held = re.search(r"cases held out +(\d+)", result.stdout)
    assert held is not None
    assert int(held[1]) == int(made[1]) - int(learned[1])

    before = (out / VERIFIER_FILE).read_bytes()
    refused = run(*VERIFIER, "--model", policy, "--out", out, code=2)
    assert "--force replaces it" in refused.stderr
    assert (out / VERIFIER_FILE).read_bytes() == before
    (out / "notes.txt").write_text("mine")
    whole = run(*VERIFIER, "--model", policy, "--out", out, "--force", "--set", "verifier.held_out=0")
    assert "held out" not in whole.stdout
    assert (out / VERIFIER_FILE).read_bytes() != before
    assert names(out) == {VERIFIER_FILE, "notes.txt"}
    assert (out / "notes.txt").read_text() == "mine"


def test_the_same_seed_makes_the_same_file(run: Run, policy: Path) -> None:
    run(*VERIFIER, "--out", policy)
    before = (policy / VERIFIER_FILE).read_bytes()
    run(*VERIFIER, "--out", policy, "--force")
    assert (policy / VERIFIER_FILE).read_bytes() == before
    run(*VERIFIER, "--out", policy, "--force", "--set", "verifier.seed=1")
    assert (policy / VERIFIER_FILE).read_bytes() != before


def test_it_is_made_for_the_policy_in_the_folder(run: Run, policy: Path, tiny_model: Path) -> None:
    everything = names(policy)
    run(*VERIFIER, "--out", policy)
    assert names(policy) == everything | {VERIFIER_FILE}
    other = run(*VERIFIER, "--model", tiny_model, "--out", policy, "--force", code=2).stderr
    assert "leave out --model, or name another folder" in " ".join(other.split())
    run(*VERIFIER, "--model", policy, "--out", policy, "--force")


def test_a_ranker_comes_first(run: Run, policy: Path, tiny_model: Path, tmp_path: Path) -> None:
    """It is in the folder of the policy, or in that of the verifier."""
    out = tmp_path / "beside"
    without = run(*VERIFIER, "--model", tiny_model, "--out", out, code=1)
    assert without.stderr.splitlines()[-1] == (
        f"Error: '{tiny_model}' has no ranker, which says what relations a verifier is to read about; make one with "
        "'kgr1 ranker' first."
    )
    assert without.stdout == ""
    assert not out.exists()
    out.mkdir()
    shutil.copy(policy / RANKER_FILE, out)
    run(*VERIFIER, "--model", tiny_model, "--out", out)
    assert names(out) == {RANKER_FILE, VERIFIER_FILE}


def test_a_limit_holds_for_a_mixture(run: Run, policy: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mixture.toml"
    recipe.write_text('[[part]]\nname = "countries"\ngraph = "countries"\nquestions = "countries"\n')
    few = (*VERIFIER[VERIFIER.index("--set") :], "--set", "agent.max_turns=7", "--out", policy)
    told = run("verifier", "--mixture", recipe, "--limit", "9", *few).stderr
    assert re.search(r"\d+ cases of 9 questions\.", told)


def test_a_policy_is_asked_with_its_verifier(run: Run, policy: Path, tmp_path: Path) -> None:
    """One that says so finds the verifier in its folder; without the file the episodes end with advice."""
    sentences = {"I list the relations first.": 0.0, "One of these fits.": 0.0, "The question goes on.": 0.0}
    agent = {"sets": True, "guided": True, "max_turns": 5, "max_new_tokens": 400, "sentences": sentences}
    agent |= {"onward": ["The question goes on."], "ranker_weight": 1.0, "verifier_weight": 5.0}
    (policy / "agent.json").write_text(json.dumps(agent))
    words = ("evaluate", *DATA, "--limit", "1", "--model", policy)

    def error(name: str) -> str:
        run(*words, "--out", tmp_path / name)
        (episode,) = map(json.loads, (tmp_path / name / "episodes.jsonl").read_text().splitlines())
        assert bool(episode["turns"]) is not bool(episode["error"])
        return str(episode["error"])

    advice = (
        f"'{policy}' has no verifier, which agent.verifier_weight and agent.verifier_onward ask for; make one with "
        "'kgr1 verifier', or set agent.verifier_weight=0 and agent.verifier_onward=0."
    )
    assert advice in error("without")
    run(*VERIFIER, "--out", policy)
    assert error("with") == ""
    (policy / VERIFIER_FILE).write_bytes(b"damaged")
    damaged = run(*words, "--out", tmp_path / "damaged", code=1)
    assert "delete it, or make it again with 'kgr1 verifier'." in " ".join(damaged.stderr.split())


def test_what_cannot_be_used_is_one_sentence(run: Run, family: Path, policy: Path, tmp_path: Path) -> None:
    out = tmp_path / "beside"
    unknown = run(*VERIFIER, "--model", "./none", "--out", out, code=1)
    assert "There is no model folder at './none'; check the path." in unknown.stderr
    elsewhere = run(*VERIFIER, "--graph", family, "--model", policy, "--out", out, code=1)
    assert "check that questions and graph belong together" in elsewhere.stderr
    neither = run("verifier", "--model", policy, "--out", out, code=2)
    assert "--mixture" in neither.stderr
    graph, questions = tmp_path / "one.tsv", tmp_path / "one.jsonl"
    graph.write_text("Ada\tparent of\tBen\n")
    question = {"id": "1", "question": "Whose parent is Ada?", "topic_entities": ["Ada"], "answers": ["Ben"]}
    questions.write_text(json.dumps({**question, "split": "train"}))
    only = run("verifier", "--graph", graph, "--questions", questions, "--model", policy, "--out", out, code=1)
    assert "There is nothing to learn; take other questions, or raise coldstart.trajectories." in only.stderr
    assert not out.exists()
