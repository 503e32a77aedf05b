"""The commands of the paper's setting, as recipes/README.md gives them, with a tiny model up to the first step.

A folder takes the place of everything that a machine with a GPU would fetch: ``hub`` holds a few rows in the published
schema, ``Qwen/Qwen2.5-3B-Instruct`` a tiny Qwen2. Nothing of a command is changed; options that make numbers smaller
are put at its end.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kgr1.agent.prompt import build_prompt, format_turn
from kgr1.cli.main import app
from kgr1.config import AgentSettings, ColdstartSettings, load_settings, read_toml
from small_world import FACTS as SMALL
from small_world import small_graph, small_trajectories
from tiny import save_tiny_model

pytest.importorskip("trl")
pl = pytest.importorskip("polars")

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "recipes" / "README.md").read_text("utf-8")
RECIPE = ROOT / "recipes" / "paper-qwen2.5-3b.toml"
MODEL = "Qwen/Qwen2.5-3B-Instruct"

SIZES = {
    "train.steps": 1,
    "train.questions_per_step": 2,
    "train.group_size": 4,
    "agent.max_turns": 3,
    "agent.max_new_tokens": 40,
    "agent.observation_tokens": 32,
}
"""All that is changed in the settings of the recipe."""

SMALLER = [word for key, value in SIZES.items() for word in ("--set", f"{key}={value}")]
PLANNER = [word for key, value in {"trajectories": 4, "epochs": 1, "batch_size": 1, "micro_batch_size": 1}.items()
           for word in ("--set", f"coldstart.{key}={value}")]  # fmt: skip
ONLY = [
    "--only",
    "cwq/vanilla",
    "--only",
    "cwq/RoG, tuned planner*",
    "--only",
    "cwq/KG-R1 on CWQ*",
    "--only",
    "webqsp/KG-R1 on CWQ, 1 run",
]
SMALLER_BY_COMMAND = {"train": SMALLER, "evaluate": SMALLER, "compare": ONLY, "coldstart": PLANNER}
FACTS = [list(fact) for fact in SMALL] + [["m.0x1", "has", "Ann"]]
AGENT = AgentSettings(prompt="paper", **{key.partition(".")[2]: size for key, size in SIZES.items() if key[0] == "a"})


def rows(prefix: str, facts: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Rows in the columns of the published files; one answer is missing in its graph, one list is empty."""
    return [
        {
            "id": f"{prefix}-{number}",
            "question": f"{head} {relation}?",
            "answer": [tail] if number else [],
            "q_entity": [head],
            "a_entity": [tail] if number else [],
            "graph": FACTS if number != 2 else [fact for fact in FACTS if fact[2] != tail],
            "choices": [],
        }
        for number, (head, relation, tail) in enumerate(facts)
    ]


def write_hub(folder: Path, prefix: str) -> None:
    """The files of a published set: Parquet, one for each split."""
    schema = {"id": pl.String, "question": pl.String, "answer": pl.List(pl.String), "q_entity": pl.List(pl.String)}
    schema |= {"a_entity": pl.List(pl.String), "graph": pl.List(pl.List(pl.String)), "choices": pl.List(pl.Null)}
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    for split, word, facts in (("train", "Trn", FACTS), ("validation", "Dev", FACTS[:2]), ("test", "Test", FACTS[:4])):
        frame = pl.DataFrame(rows(f"{prefix}{word}", facts), schema=schema)
        frame.write_parquet(data / f"{split}-00000-of-00001.parquet")


def commands(*sections: str) -> Iterator[list[str]]:
    """The words of every command of these parts of the page."""
    whole = re.search(r"^## The paper's setting$(.*?)^## ", README, re.MULTILINE | re.DOTALL)
    assert whole is not None
    for section in sections:
        part = re.search(rf"^### {section}$(.*?)(?=^### |\Z)", whole[1], re.MULTILINE | re.DOTALL)
        assert part is not None, section
        for block in re.findall(r"^```sh$(.*?)^```$", part[1], re.MULTILINE | re.DOTALL):
            yield from (shlex.split(line) for line in block.replace("\\\n", " ").splitlines() if line)


def perform(words: Sequence[str]) -> str:
    """Run one command in the current folder; what it printed."""
    smaller = next((more for word, more in SMALLER_BY_COMMAND.items() if word in words), [])
    if words[:2] == ["kgr1", "data"] and words[4:5] == ["hub"]:
        write_hub(Path("hub"), words[3])
    if words[0] == "kgr1":
        done = CliRunner().invoke(app, [*words[1:], *smaller], prog_name="kgr1")
        assert done.exit_code == 0, f"{shlex.join(words)}\n{done.output}\n{done.exception!r}"
        return done.output
    # accelerate starts one process for each GPU by torch's launcher, and a single one where there is none.
    assert words[:5] == ["accelerate", "launch", "--num_processes", "4", "-m"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "--"]
    process = subprocess.run([*launch, *words[5:], *smaller], capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stderr[-4000:]
    return process.stdout


def _small(recipe: str) -> str:
    """A comparison takes its sizes from its own file."""
    text = recipe
    for key in ("max_turns", "max_new_tokens", "observation_tokens"):
        text = re.sub(rf"^{key} = .*$", f"{key} = {SIZES[f'agent.{key}']}", text, flags=re.MULTILINE)
    assert text != recipe
    return text


def taught(random_model: Path, out: Path) -> Path:
    """A model that asks and answers now and then: one that knows nothing gets no reward, and its step no gradient."""
    from kgr1.grpo.coldstart import build_examples, train_coldstart
    from kgr1.models.weights import load_model

    loaded = load_model(str(random_model))
    examples = build_examples(small_trajectories(), small_graph(), loaded.tokenizer, AGENT)
    size = {"epochs": 70, "batch_size": 6, "micro_batch_size": 6, "save_steps": 1000}
    return train_coldstart(loaded, examples, out, ColdstartSettings(learning_rate=1e-2, **size))


def texts() -> Iterator[str]:
    """What the model reads and writes in these episodes."""
    for question, steps in small_trajectories():
        yield build_prompt(question, AGENT)
        for step in steps:
            action = step.query or step.answer
            assert action is not None
            yield format_turn(step.think, action)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which all commands of data, training and evaluation were run."""
    folder = tmp_path_factory.mktemp("paper")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("KGR1_CACHE", str(folder / "cache"))
        patch.setenv("COLUMNS", "200")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
        (folder / "recipes").mkdir()
        for recipe in (ROOT / "recipes").glob("paper-*.toml"):
            smaller = recipe.read_text() if recipe.name != "paper-compare.toml" else _small(recipe.read_text())
            (folder / "recipes" / recipe.name).write_text(smaller)
        for words in commands("Data"):
            perform(words)
        start = save_tiny_model(folder / "random", context=4096, family="Qwen2", texts=list(texts()))
        (folder / MODEL).parent.mkdir()
        taught(start, folder / "taught").rename(folder / MODEL)
        for words in commands("Training", "Evaluation"):
            perform(words)
        yield folder


def log(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    (file,) = folder.glob("*.safetensors")
    return dict(load_file(file))


@pytest.mark.slow
@pytest.mark.parametrize("run", ["paper-webqsp-3b", "paper-cwq-3b"])
def test_the_first_step_and_its_checkpoint(place: Path, run: str) -> None:
    import torch

    out = place / "runs" / run
    (row,) = log(out)
    assert (row["step"], row["learning_rate"]) == (1, 1e-6)
    assert row["grad_norm"] > 0
    assert row["degenerate_groups"] < 1
    assert row["turns"] <= SIZES["agent.max_turns"]
    assert abs(row["kl"]) < 1e-2  # nothing has been learned yet, and both sides are rounded
    assert (out / "checkpoint-1" / "complete.json").is_file()
    before, after = weights(place / MODEL), weights(out / "policy")
    assert {value.dtype for value in after.values()} == {torch.float32}
    moved = [float((after[name] - before[name]).abs().max()) for name in before]
    # The first step of AdamW moves a weight by the learning rate; float32 rounds that for weights around 1.
    assert max(moved) == pytest.approx(1e-6, rel=0.1)
    assert json.loads((place / MODEL / "config.json").read_text())["architectures"] == ["Qwen2ForCausalLM"]
    count = len(list((out / "rollouts").iterdir()))
    assert count == (2 if run == "paper-cwq-3b" else 1)  # one file a process


@pytest.mark.slow
def test_the_planner(place: Path) -> None:
    record = json.loads((place / "runs" / "paper-planner" / "run.json").read_text())
    assert record["command"] == "coldstart --planner"
    assert record["model"].endswith(MODEL)
    assert record["settings"]["coldstart"]["learning_rate"] == 2e-5
    assert len(log(place / "runs" / "paper-planner")) >= 1
    before, after = weights(place / MODEL), weights(place / "runs" / "paper-planner" / "policy")
    assert any(bool((after[name] != before[name]).any()) for name in before)


@pytest.mark.slow
def test_only_sizes_were_changed(place: Path) -> None:
    wanted = flat(read_toml(RECIPE, "recipe"))
    for run in ("paper-webqsp-3b", "paper-cwq-3b"):
        used = flat(json.loads((place / "runs" / run / "run.json").read_text())["settings"])
        assert {key for key in wanted if used[key] != wanted[key]} == {key for key in SIZES if wanted[key] != used[key]}
        assert all(used[key] == value for key, value in SIZES.items())


@pytest.mark.slow
def test_the_evaluations(place: Path) -> None:
    runs = {name: json.loads((place / "runs" / name / "summary.json").read_text()) for name in
            ("paper-cwq-3b-test", "paper-cwq-3b-test-3", "paper-cwq-3b-on-webqsp")}  # fmt: skip
    counts = {name: (run["overall"]["questions"], run["overall"]["episodes"]) for name, run in runs.items()}
    assert counts == {"paper-cwq-3b-test": (4, 4), "paper-cwq-3b-test-3": (4, 12), "paper-cwq-3b-on-webqsp": (4, 4)}
    assert "union_f1" in runs["paper-cwq-3b-test-3"]["overall"]["metrics"]
    assert runs["paper-cwq-3b-test"]["overall"]["metrics"]["valid_queries"]["value"] > 0
    episode = json.loads((place / "runs" / "paper-cwq-3b-test" / "episodes.jsonl").read_text().splitlines()[0])
    assert "You can query knowledge up to 3 times" in episode["prompt"]
    assert episode["question"]["graph_id"] == episode["question"]["id"]
    assert (place / "runs" / "paper-3b.png").read_bytes().startswith(b"\x89PNG")
    assert "Latency of single questions" not in (place / "runs" / "paper-3b.html").read_text()


@pytest.mark.slow
def test_the_comparison(place: Path) -> None:
    out = place / "runs" / "paper-compare"
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    finished = {f"{line['dataset']}/{line['system']}" for line in lines if line["status"] == "finished"}
    assert len(finished) == 7
    table = (out / "table.md").read_text()
    for phrase in ("cwq: F1 (macro)", "all questions: Hit@1", "## Latency of single questions", "one at a time"):
        assert phrase in table, phrase
    (causes,) = [line["causes"] for line in lines if line["system"] == "vanilla" and line["status"] == "finished"]
    assert sum(causes.values()) == 4


def flat(tables: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}.{key}": value for name, table in tables.items() for key, value in table.items()}


PAPER = {
    "train.learning_rate": 1e-6,
    "train.weight_decay": 0.01,
    "train.max_grad_norm": 1.0,
    "train.questions_per_step": 128,
    "train.group_size": 16,
    "train.beta": 0.01,
    "train.temperature": 1.0,
    "train.steps": 400,
    "train.lora_rank": 0,
    "train.dtype": "bfloat16",
    "train.credit": "turn",
    "agent.max_turns": 5,
    "agent.max_new_tokens": 256,
    "agent.observation_tokens": 512,
    "agent.prompt": "paper",
    "sampling.temperature": 0.0,
}


@pytest.mark.parametrize(
    ("file", "changes"), [("3b", {}), ("7b", {"train.beta": 0.02, "train.group_size": 8})], ids=["3b", "7b"]
)
def test_the_settings_are_those_of_the_paper(file: str, changes: dict[str, object]) -> None:
    settings = load_settings(ROOT / "recipes" / f"paper-qwen2.5-{file}.toml")
    used = flat(settings.model_dump())
    assert {key: used[key] for key in PAPER} == PAPER | changes
    episodes = settings.train.questions_per_step * settings.train.group_size
    assert episodes % (4 * settings.train.micro_batch_size) == 0


def test_the_ablations_change_what_they_say() -> None:
    changed = []
    usual = flat(load_settings(RECIPE).model_dump())
    for words in commands("Ablations"):
        overrides = [words[at + 1] for at, word in enumerate(words) if word == "--set"]
        used = flat(load_settings(RECIPE, overrides).model_dump())
        changed.append({key: used[key] for key in used if used[key] != usual[key]})
    assert changed == [
        {"reward.w_fmt": 0, "reward.w_kg": 0, "reward.w_ans": 0},
        {"train.credit": "trajectory"},
        {"reward.w_ret": 0},
        {"agent.layout": "tree"},
    ]


@pytest.mark.parametrize("name", ["paper-compare", "paper-transfer"])
def test_the_comparisons_play_what_the_page_makes(name: str) -> None:
    from kgr1.evaluation.recipe import read_recipe

    recipe = read_recipe(ROOT / "recipes" / f"{name}.toml")
    made = {word for words in commands("Data", "Training", "Transfer") for word in words}
    for item in recipe.datasets.values():
        assert item.graph in made
        assert item.questions in made
    models = {spec.model for spec in recipe.systems.values()}
    assert models <= {MODEL, *(f"{word}/policy" for word in made)}
    agent = read_toml(RECIPE, "recipe")["agent"]
    for system in recipe.systems:
        used = recipe.settings_of(system).agent.model_dump()
        assert used | agent == used


def test_the_published_rows(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same commands on real rows: 500 of the published schema, of both sets, as one file."""
    import gzip

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KGR1_CACHE", str(tmp_path / "cache"))
    source = gzip.decompress((shared_data / "webqsp-cwq" / "rog-format-sample.jsonl.gz").read_bytes()).decode()
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "test-00000-of-00001.jsonl").write_text("".join(f"{x}\n" for x in source.splitlines()[:40]))
    for words in list(commands("Data"))[2:]:
        done = CliRunner().invoke(app, words[1:], prog_name="kgr1")
        assert done.exit_code == 0, done.output
    words = ["evaluate", "-g", "sets/cwq/graph.kg", "-q", "sets/cwq", "--policy", "oracle", "--limit", "10"]
    done = CliRunner().invoke(app, [*words, "--out", "oracle"], prog_name="kgr1")
    assert done.exit_code == 0, done.output
    summary = json.loads((tmp_path / "oracle" / "summary.json").read_text())
    assert summary["overall"]["metrics"]["f1"]["value"] > 0.5
