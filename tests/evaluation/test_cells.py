"""Cells of a comparison that end well, fail, or were made under another recipe; and the tables made of them."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from eval_episodes import asked, played, question
from report_runs import failed

from full_disk import file_size_limit
from kgr1.errors import EvaluationError, GraphError, GraphServerError
from kgr1.evaluation.cells import CELL_FILE, CellResult, cell_folder, collect, giving_up, run_cells
from kgr1.evaluation.files import locked
from kgr1.evaluation.metrics import Summary
from kgr1.evaluation.recipe import Cell, DataSet, Recipe, SystemSpec, cells
from kgr1.evaluation.results import difference_table, escape_latex, latex, markdown, problems, tables
from kgr1.evaluation.run import evaluate
from kgr1.types import Episode, Question, StopReason

RECIPE = Recipe(
    datasets={"a": DataSet(graph="g", questions="q"), "b": DataSet(graph="g", questions="q")},
    systems={
        "good": SystemSpec(kind="agent"),
        "bad": SystemSpec(kind="agent"),
        "x 3": SystemSpec(kind="agent", runs=3),
    },
)
ASKED = [question(n, dataset="d") for n in range(8)]


def play(cell: Cell, folder: Path) -> Summary:
    """A good system, a bad one, and one that cannot play on data set b."""
    if cell.name == "b/bad":
        raise GraphServerError("The graph is gone.")
    if cell.name == "b/x 3":
        raise KeyError("oops")

    async def runner(item: Question, sample: int) -> Episode:
        right = cell.system == "good" or int(item.id[1:]) < 2
        return played(item, ["Paris"] if right else ["Rome"], turns=[asked("Paris")], sample=sample, tokens=100)

    runs = RECIPE.systems[cell.system].runs
    return asyncio.run(evaluate(ASKED, runner, folder, settings={"system": cell.system}, samples=runs))


def test_cells(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    errors = run_cells(RECIPE, tmp_path, cells(RECIPE), play, ended=lambda cell, e: told.append((cell.name, e)))
    assert [name for name, _ in told] == [cell.name for cell in cells(RECIPE)]
    assert {cell.name: e for cell, e in errors.items()} == {
        "b/bad": "The graph is gone.",
        "b/x 3": "Unexpected KeyError: 'oops'",
    }
    results, runs = collect(RECIPE, tmp_path, errors, examples=2)
    assert [(r.dataset, r.system, r.status) for r in results] == [
        ("a", "good", "finished"),
        ("b", "good", "finished"),
        ("a", "bad", "finished"),
        ("b", "bad", "failed"),
        ("a", "x 3", "finished"),
        ("b", "x 3", "failed"),
    ]
    assert [CellResult.model_validate_json(r.model_dump_json()) for r in results] == results
    assert [len(run.examples) for run in runs] == [2] * 4
    assert runs[0].examples.keys() == runs[2].examples.keys()  # the same questions for every system
    text = markdown("Title", [*tables(results), difference_table(runs)], problems(results))
    assert "| a | good | 100.0 % [100.0, 100.0] | 100.0 % [100.0, 100.0] | 100 [100, 100] | 1 | 8 |" in text
    assert "| a | x 3 | 25.0 %" in text
    assert "| 300 [300, 300] | 3 | 8 |" in text  # several runs: the sum of their tokens
    assert "| a | bad against good | -75.0 points" in text
    assert "- b/bad failed: The graph is gone." in text
    # Only one cell is asked for later: the others are taken from their folders, those of another recipe are not.
    other = RECIPE.model_copy(update={"datasets": RECIPE.datasets | {"a": DataSet(graph="g", questions="q", limit=3)}})
    results, _ = collect(other, tmp_path, {})
    assert [r.status for r in results] == ["not run", "finished", *["not run"] * 4]
    assert "a/good has not been run." in problems(results)


def test_a_setting_that_came_later_is_the_usual_one_in_a_finished_cell(tmp_path: Path) -> None:
    cell = Cell(dataset="a", system="good")
    assert run_cells(RECIPE, tmp_path, [cell], play) == {}
    file = cell_folder(tmp_path, cell) / CELL_FILE
    record = json.loads(file.read_text())
    for settings, status in ((10, "not run"), (None, "finished")):
        agent = {key: value for key, value in record["settings"]["agent"].items() if key != "max_turns"}
        known = agent if settings is None else agent | {"max_turns": settings}
        file.write_text(json.dumps(record | {"settings": record["settings"] | {"agent": known}}))
        assert collect(RECIPE, tmp_path, {})[0][0].status == status
    for damaged in ("", "{", "[]", '{"dataset": 1}', json.dumps(record | {"more": 1})):
        file.write_text(damaged)
        assert collect(RECIPE, tmp_path, {})[0][0].status == "not run"


def test_a_failed_cell_goes_on_later(tmp_path: Path) -> None:
    cell = Cell(dataset="b", system="bad")
    assert run_cells(RECIPE, tmp_path, [cell], play)

    def mended(cell: Cell, folder: Path) -> Summary:
        return play(cell.model_copy(update={"dataset": "a"}), folder)

    assert run_cells(RECIPE, tmp_path, [cell], mended) == {}
    assert collect(RECIPE, tmp_path, {})[0][3].status == "finished"

    # The folder is an ordinary one: other settings are refused in one sentence, and the numbers stay.
    def changed(cell: Cell, folder: Path) -> Summary:
        return play(Cell(dataset="a", system="x 3"), folder)

    errors = run_cells(RECIPE, tmp_path, [cell], changed)
    assert "was made with other settings: samples is 1 there and 3 now" in errors[cell]
    assert (cell_folder(tmp_path, cell) / "summary.json").exists()


def test_a_finished_cell_keeps_its_numbers_when_its_graph_is_not_there(tmp_path: Path) -> None:
    cell = Cell(dataset="a", system="good")
    assert run_cells(RECIPE, tmp_path, [cell], play) == {}
    before = collect(RECIPE, tmp_path, {})[0][0]

    def gone(cell: Cell, folder: Path) -> Summary:
        raise GraphError("There is no graph at films.kg.")

    errors = run_cells(RECIPE, tmp_path, [cell], gone)
    results, runs = collect(RECIPE, tmp_path, errors)
    assert (results[0].status, results[0].metrics) == ("finished", before.metrics)
    assert [run.system for run in runs] == ["good"]
    assert "a/good could not be opened again; its numbers are those it had: There is no graph" in problems(results)[0]

    # What is known to be of other settings does not count as finished.
    def other(cell: Cell, folder: Path) -> Summary:
        async def runner(item: Question, sample: int) -> Episode:
            raise AssertionError("nothing is to be played")

        return asyncio.run(evaluate(ASKED, runner, folder, settings={"system": "another"}))

    errors = run_cells(RECIPE, tmp_path, [cell], other)
    assert "was made with other settings" in errors[cell]
    assert collect(RECIPE, tmp_path, errors)[0][0].status == "failed"
    assert run_cells(RECIPE, tmp_path, [cell], play) == {}
    assert collect(RECIPE, tmp_path, {})[0][0].metrics == before.metrics


def test_a_finished_cell_keeps_its_numbers_on_a_full_disk_and_beside_another_run(tmp_path: Path) -> None:
    cell = Cell(dataset="a", system="good")
    assert run_cells(RECIPE, tmp_path, [cell], play) == {}
    before = collect(RECIPE, tmp_path, {})[0][0]
    with file_size_limit(100):
        full = run_cells(RECIPE, tmp_path, [cell], play)
    assert "summary.json: File too large" in full[cell]
    with locked(cell_folder(tmp_path, cell)):
        held = run_cells(RECIPE, tmp_path, [cell], play)
    assert "Another run is writing" in held[cell]

    def broken(cell: Cell, folder: Path) -> Summary:
        raise KeyError("oops")

    for errors in (full, held, run_cells(RECIPE, tmp_path, [cell], broken), {}):
        assert collect(RECIPE, tmp_path, errors)[0][0] == before.model_copy(update={"error": errors.get(cell, "")})


def test_a_cell_that_lost_episodes_to_a_second_attempt_is_not_finished(tmp_path: Path) -> None:
    """Failed episodes are taken out to be played again, and the server dies before they are."""
    cell = Cell(dataset="a", system="good")

    def attempt(failing: set[str], patience: int) -> dict[Cell, str]:
        async def runner(item: Question, sample: int) -> Episode:
            bad = failed(0, StopReason.GRAPH_ERROR).model_copy(update={"question": item})
            return bad if item.id in failing else played(item)

        def again(cell: Cell, folder: Path) -> Summary:
            giving = giving_up(runner, patience)
            return asyncio.run(evaluate(ASKED, giving, folder, settings={}, retry_failed=True, concurrency=1))

        return run_cells(RECIPE, tmp_path, [cell], again)

    assert attempt({"q2", "q3"}, 3) == {}
    assert collect(RECIPE, tmp_path, {})[0][0].failed_episodes == 2
    errors = attempt({"q2", "q3"}, 1)
    assert "1 episodes in a row" in errors[cell]
    for told, status in ((errors, "failed"), ({}, "not run")):
        results, runs = collect(RECIPE, tmp_path, told)
        assert (results[0].status, results[0].error, runs) == (status, told.get(cell, ""), [])
    assert attempt(set(), 1) == {}
    assert collect(RECIPE, tmp_path, {})[0][0].metrics["f1"].value == 1


def test_a_dead_server_ends_the_cell(tmp_path: Path) -> None:
    asked_of: list[str] = []

    async def runner(item: Question, sample: int) -> Episode:
        asked_of.append(item.id)
        number = int(item.id[1:])
        if number < 3 or number == 5:
            return played(item, ["Paris"])
        episode = failed(number, StopReason.POLICY_ERROR)
        return episode.model_copy(update={"question": item, "error": "Connection refused."})

    questions = [question(n) for n in range(40)]
    with pytest.raises(EvaluationError, match=r"4 episodes in a row .* because: Connection refused\. What was"):
        asyncio.run(evaluate(questions, giving_up(runner, 4), tmp_path, settings={}, concurrency=1))
    assert len(asked_of) == 10  # 3 and 4, then 6 to 9


def test_failed_episodes_are_told(tmp_path: Path) -> None:
    cell = Cell(dataset="a", system="good")

    def some_fail(cell: Cell, folder: Path) -> Summary:
        async def runner(item: Question, sample: int) -> Episode:
            episode = played(item, ["Paris"])
            return (
                episode if item.id != "q3" else failed(3, StopReason.GRAPH_ERROR).model_copy(update={"question": item})
            )

        return asyncio.run(evaluate(ASKED, runner, folder, settings={}))

    assert run_cells(RECIPE, tmp_path, [cell], some_fail) == {}
    result = collect(RECIPE, tmp_path, {})[0][0]
    assert (result.failed_episodes, result.metrics["f1"].value) == (1, 7 / 8)
    assert "a/good: 1 of 8 episodes failed and count 0." in problems([result])


def test_latex_is_escaped(tmp_path: Path) -> None:
    errors = run_cells(RECIPE, tmp_path, [Cell(dataset="a", system="good")], play)
    results, _ = collect(RECIPE, tmp_path, errors)
    nasty = results[0].model_copy(update={"system": "50% & $x_1$ ~^{}\\#"})
    source = latex(tables([nasty]))
    assert r"50\% \& \$x\_1\$ \textasciitilde{}\textasciicircum{}\{\}\textbackslash{}\#" in source
    assert source.count(r"\begin{table}") == source.count(r"\end{table}") == 2
    assert escape_latex("a\n b") == "a b"
    assert latex([]) == "% needs \\usepackage{booktabs}\n"
    if shutil.which("pdflatex"):
        document = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n" + source + "\\end{document}\n"
        (tmp_path / "t.tex").write_text(document)
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
        assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
