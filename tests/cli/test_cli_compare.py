"""``kgr1 compare`` and ``kgr1 report`` with the expert, and with a system that fails."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from cli_process import Run, command, environment

from kgr1.cli import loading
from kgr1.cli.loading import load_client
from kgr1.evaluation.files import read_episodes

RECIPE = """
title = "Test"
concurrency = 4
[datasets.countries]
graph = "countries"
questions = "countries"
limit = {limit}
[datasets.family]
graph = "{folder}/family.tsv"
questions = "{folder}/q.jsonl"
[systems.oracle]
kind = "oracle"
[systems."oracle, short"]
kind = "oracle"
settings.agent.observation_tokens = 64
"""


@pytest.fixture
def recipe(tmp_path: Path, family: Path) -> Path:
    lines = [
        {"id": "1", "question": "Ada's children?", "topic_entities": ["Ada"], "answers": ["Ben", "Cleo"]},
        {"id": "2", "question": "Dan's dog?", "topic_entities": ["Dan"], "answers": ["Rex"]},
    ]
    (family.parent / "q.jsonl").write_text("\n".join(map(json.dumps, lines)))
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(folder=family.parent, limit=6))
    return path


def results(out: Path) -> dict[str, str]:
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    return {f"{row['dataset']}/{row['system']}": row["status"] for row in rows}


def test_a_comparison(run: Run, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("compare", recipe, "--out", out)
    assert "| family | oracle | 50.0 %" in result.stdout
    assert "| family | oracle, short against oracle | +0.0 points" in result.stdout
    assert set(results(out).values()) == {"finished"}
    assert "| countries | oracle | 100.0 %" in (out / "table.md").read_text()
    assert r"\toprule" in (out / "table.tex").read_text()
    assert len(re.findall("<svg", (out / "report.html").read_text())) == 13  # family tells no hops
    # Every cell is an ordinary evaluation: the other commands read it, and evaluate goes on with it.
    folder = out / "cells" / "countries" / "oracle"
    assert "| F1 (macro) | 100.0 %" in run("rescore", folder).stdout
    words = ("evaluate", "-g", "countries", "-q", "countries", "--policy", "oracle", "--limit", "6", "--out", folder)
    journal = (folder / "episodes.jsonl").read_bytes()
    run(*words)
    again = run("compare", recipe, "--out", out)
    assert "| family | oracle | 50.0 %" in again.stdout
    assert (folder / "episodes.jsonl").read_bytes() == journal


def test_without_numbers_there_is_no_report(run: Run, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = run("compare", recipe, "--out", out, "--only", "countries/oracle").stderr
    assert f"Results, tables and the report are in {out}." in told
    recipe.write_text(recipe.read_text().replace('questions = "', 'questions = "nowhere/'))
    told = run("compare", recipe, "--out", tmp_path / "new", code=1).stderr
    assert f"there is no report. What became of each is in {tmp_path / 'new' / 'results.jsonl'}" in told
    assert not (tmp_path / "new" / "report.html").exists()
    assert set(results(tmp_path / "new").values()) == {"failed"}


def test_a_cell_on_another_graph_is_told(run: Run, recipe: Path, tmp_path: Path) -> None:
    words = ("compare", recipe, "--only", "countries/oracle", "--out")
    assert "looked up" not in run(*words, tmp_path / "a").stderr
    recipe.write_text(recipe.read_text().replace('graph = "countries"', f'graph = "{recipe.parent}/family.tsv"'))
    assert "none is in the graph 'family'" in run(*words, tmp_path / "b").stderr


def test_only_some_cells_and_then_the_rest(run: Run, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run("compare", recipe, "--out", out, "--only", "family/*", "--only", "countries/oracle")
    assert "countries/oracle, short has not been run." in first.stderr
    assert sorted(results(out).values()) == ["finished"] * 3 + ["not run"]
    assert "the cells are countries/oracle, " in run("compare", recipe, "-o", out, "--only", "x", code=1).stderr
    run("compare", recipe, "--out", out)
    assert set(results(out).values()) == {"finished"}


def test_a_failing_cell_does_not_stop_the_others(run: Run, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    recipe.write_text(recipe.read_text().replace("[datasets.family]", '[datasets.family]\nsplit = "dev"'))
    result = run("compare", recipe, "--out", out, code=1)
    assert "family/oracle failed: " in result.stderr
    assert "no split 'dev'" in result.stderr
    assert results(out) == {
        "countries/oracle": "finished",
        "family/oracle": "failed",
        "countries/oracle, short": "finished",
        "family/oracle, short": "failed",
    }
    assert "no split &#39;dev&#39;" in (out / "report.html").read_text()
    mended = recipe.read_text().replace('split = "dev"', "").replace("limit = 6", "limit = 7")
    recipe.write_text(mended)
    refused = run("compare", recipe, "--out", out, code=1)
    assert "countries/oracle failed: " in refused.stderr
    assert "was made with other settings: questions.count is 6 there and 7 now" in refused.stderr
    assert results(out)["family/oracle"] == "finished"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('kind = "oracle"\n[', 'kind = "wizard"\n[', "no known kind 'wizard'; choose from oracle, agent"),
        ('kind = "oracle"\n[', 'kind = "agent"\n[', "needs a model"),
        ('kind = "oracle"\n[', 'kind = "oracle"\nmodel = "m"\n[', "takes no model"),
        ('kind = "oracle"\n[', 'kind = "oracle"\noptions.width = 3\n[', "no option 'width'"),
    ],
)
def test_systems_that_do_not_exist(run: Run, recipe: Path, tmp_path: Path, old: str, new: str, problem: str) -> None:
    recipe.write_text(recipe.read_text().replace(old, new, 1))
    result = run("compare", recipe, "--out", tmp_path / "out", "--only", "family", code=1)
    assert problem in result.stderr
    assert results(tmp_path / "out")["family/oracle, short"] == "finished"


def test_settings_that_a_policy_was_saved_with_and_a_recipe_leaves_out_are_named(
    run: Run, recipe: Path, tmp_path: Path
) -> None:
    policy = tmp_path / "policy"
    policy.mkdir()
    (policy / "agent.json").write_text('{"guided": true, "sets": true, "max_turns": 7}')
    agent = f'[systems.mine]\nkind = "agent"\nmodel = "{policy}"\nsettings.agent.guided = true\n'
    recipe.write_text(recipe.read_text() + agent)
    told = run("compare", recipe, "--out", tmp_path / "some", "--only", "countries/mine", code=1).stderr
    assert re.search(
        r"mine: \S+ was saved with settings .* with their\s+defaults:\s+agent.sets,\s+agent.max_turns\.", told
    )
    recipe.write_text(
        recipe.read_text().replace(
            "[datasets.countries]", "[settings.agent]\nsets = true\nmax_turns = 7\n[datasets.countries]"
        )
    )
    assert "was saved with" not in run("compare", recipe, "--out", tmp_path / "all", "--only", "*/mine", code=1).stderr
    assert "was saved with" not in run("compare", recipe, "--out", tmp_path / "none", "--only", "*/oracle").stderr
    (policy / "agent.json").write_text("{")
    run("compare", recipe, "--out", tmp_path / "damaged", code=1)
    assert results(tmp_path / "damaged")["family/oracle"] == "finished"


def test_killed_in_the_middle(run: Run, recipe: Path, tmp_path: Path, cache: Path) -> None:
    recipe.write_text(recipe.read_text().replace("limit = 6", "limit = 400"))
    out = tmp_path / "out"
    words = [*command(), "compare", str(recipe), "--out", str(out), "--only", "countries/oracle"]
    journal = out / "cells" / "countries" / "oracle" / "episodes.jsonl"
    with subprocess.Popen(words, env=environment(cache), stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 100
        while not (journal.exists() and journal.stat().st_size > 10_000) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    kept = {e.question.id: e.usage.seconds for e in read_episodes(journal)}
    assert 0 < len(kept) < 400
    assert not (out / "results.jsonl").exists()
    run("compare", recipe, "--out", out, "--only", "countries/oracle")
    assert results(out)["countries/oracle"] == "finished"
    after = {e.question.id: e.usage.seconds for e in read_episodes(journal)}
    assert len(after) == 400
    assert {key: after[key] for key in kept} == kept  # not played again


def test_reports_of_single_runs(run: Run, tmp_path: Path) -> None:
    words = ("evaluate", "-g", "countries", "-q", "countries", "--policy", "oracle", "--limit", "5")
    for name in ("a", "b"):
        run(*words, "--out", tmp_path / name)
    page = tmp_path / "new" / "r.html"
    run("report", tmp_path / "a", f"Second one={tmp_path / 'b'}", "--out", page, "--title", "Two runs")
    text = page.read_text()
    assert "<title>Two runs</title>" in text
    assert "Second one − a" in text
    same = run("report", tmp_path / "a", tmp_path / "a" / "episodes.jsonl", "--out", page)
    assert str(page) in same.stderr
    assert "a (2)" in page.read_text()
    assert ".html" in run("report", tmp_path / "a", "--out", tmp_path / "a" / "episodes.jsonl", code=2).stderr
    assert "Cannot read" in run("report", tmp_path / "c", "--out", page, code=1).stderr


@pytest.fixture
def parts(run: Run, tmp_path: Path) -> dict[str, list[str]]:
    """The lines of episodes on two data sets."""
    run(
        "evaluate", "-g", "countries", "-q", "countries", "--policy", "oracle", "--limit", "6", "-o", tmp_path / "whole"
    )
    lines = (tmp_path / "whole" / "episodes.jsonl").read_text().splitlines()
    found: dict[str, list[str]] = {"webqsp": [], "cwq": []}
    for number, line in enumerate(lines):
        episode = json.loads(line)
        episode["question"]["dataset"] = list(found)[number % 2]
        found[episode["question"]["dataset"]].append(json.dumps(episode))
    return found


def saved(folder: Path, lines: list[str]) -> Path:
    folder.mkdir()
    (folder / "episodes.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_runs_that_played_their_questions_in_another_order_are_compared(
    run: Run, parts: dict[str, list[str]], tmp_path: Path
) -> None:
    one = saved(tmp_path / "one", [*parts["webqsp"], *parts["cwq"]])
    two = saved(tmp_path / "two", [*parts["cwq"], *parts["webqsp"]])
    run("report", one, two, "--out", tmp_path / "r.md")
    assert "| cwq, webqsp | two against one | +0.0 points" in (tmp_path / "r.md").read_text()


def test_one_system_on_several_data_sets_is_one_row(run: Run, parts: dict[str, list[str]], tmp_path: Path) -> None:
    folders = {f"{name}-{part}": saved(tmp_path / f"{name}-{part}", parts[part]) for name in "ab" for part in parts}
    words = [f"{name.partition('-')[0]}={folder}" for name, folder in folders.items()]
    table = tmp_path / "r.md"
    run("report", *words, "--out", table)
    whole = table.read_text().partition("## Systems by data sets")[2].partition("##")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in whole.splitlines() if line.startswith("|")]
    assert [row[0] for row in rows] == ["system", "---", "a", "b"]
    assert "-" not in rows[2] + rows[3]
    assert "| cwq | b against a |" in table.read_text()
    # The same system twice on one data set, and a run that is not finished.
    (folders["a-cwq"] / "run.json").write_text(json.dumps({"questions": {"count": 9}, "samples": 1}))
    told = run("report", *words, words[0], "--out", table).stderr
    assert "cwq/a: 3 of 9 episodes" in told
    assert "| webqsp | a (5) against a |" in table.read_text()


def test_a_report_without_matplotlib(run: Run, spawn: object, tmp_path: Path) -> None:
    assert callable(spawn)
    run("evaluate", "-g", "countries", "-q", "countries", "--policy", "oracle", "--limit", "3", "-o", tmp_path / "a")
    done = spawn("report", tmp_path / "a", "--out", tmp_path / "r.html", without=("matplotlib", "torch", "sklearn"))
    assert done.returncode == 0, done.stderr
    assert "matplotlib is not installed" in (tmp_path / "r.html").read_text()


def test_a_model_is_loaded_only_where_it_must_play(
    run: Run, recipe: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe.write_text(
        f"""
        settings.agent = {{ max_turns = 2, max_new_tokens = 8 }}
        [datasets.family]
        graph = "{recipe.parent}/family.tsv"
        questions = "{recipe.parent}/q.jsonl"
        [systems.agent]
        kind = "agent"
        model = "{tiny_model}"
        [systems."agent, 2 runs"]
        kind = "agent"
        model = "{tiny_model}"
        runs = 2
        [systems.plans]
        kind = "rog-prompted"
        model = "{tiny_model}"
        """
    )
    loads: list[str] = []

    def counted(name: str, **options: Any) -> object:
        loads.append(name)
        return load_client(name, **options)

    monkeypatch.setattr(loading, "load_client", counted)
    out = tmp_path / "out"
    assert "| family | agent, 2 runs |" in run("compare", recipe, "--out", out).stdout
    assert loads == [str(tiny_model)]  # both cells share it
    run("compare", recipe, "--out", out)
    assert loads == [str(tiny_model)]
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    played = [(row["episodes"], "union_f1" in row["metrics"]) for row in rows]
    assert played == [(2, False), (4, True), (2, False)]
    assert "by kind" in (out / "report.html").read_text()
