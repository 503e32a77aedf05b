"""``kgr1 compare``: systems times data sets, from a recipe."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kgr1.cli.console import clean, note, warn
from kgr1.cli.options import Out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kgr1.cli.board import Board
    from kgr1.cli.systems import Models
    from kgr1.evaluation.cells import CellResult
    from kgr1.evaluation.metrics import Summary
    from kgr1.evaluation.recipe import Cell, Recipe
    from kgr1.evaluation.run import Progress
    from kgr1.evaluation.runs import Run

MIN_PATIENCE = 8
"""A cell is given up after this many failed episodes in a row, or after one for each that runs at once."""


def compare(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A TOML file with data sets and systems.")],
    target: Out,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Play only these cells: DATASET/SYSTEM, a data set or a system, with * for anything.",
        ),
    ] = None,
    examples: Annotated[int, typer.Option(min=0, help="Questions of each data set that the report shows whole.")] = 100,
) -> None:
    """Play every system on every data set, and write results.jsonl, table.md, table.tex and report.html.

    Run the same command again to go on: finished cells are not played again, and failed episodes are. A cell that
    fails is reported, and the others go on.
    """
    from kgr1.cli.board import Board
    from kgr1.cli.failures import FAILED, keeping
    from kgr1.cli.quiet import quiet_libraries
    from kgr1.cli.systems import Models
    from kgr1.evaluation.cells import collect, run_cells
    from kgr1.evaluation.recipe import cells, read_recipe

    wanted = read_recipe(recipe)
    chosen = cells(wanted, only or ())
    _tell_what_is_left_out(wanted, chosen)
    with quiet_libraries(), Board(chosen) as board:
        models = Models(board.paused)

        def kept() -> str:
            return f"Kept: {board.done} episodes in {target}; run the same command again to go on."

        with keeping(kept):
            errors = run_cells(
                wanted,
                target,
                chosen,
                lambda cell, folder: _play(wanted, cell, folder, board, models),
                started=board.start,
                ended=board.end,
            )
    results, runs = collect(wanted, target, errors, examples=examples)
    _write(wanted, target, results, runs)
    _show(results, runs, target)
    if errors:
        raise typer.Exit(FAILED)


def _tell_what_is_left_out(recipe: Recipe, chosen: Sequence[Cell]) -> None:
    """Name the settings of the agent that a policy was saved with and a recipe does not take over."""
    from kgr1.errors import KGR1Error
    from kgr1.models.pretrained import agent_settings

    for name in dict.fromkeys(cell.system for cell in chosen):
        spec = recipe.systems[name]
        if spec.kind != "agent" or spec.model is None:
            continue
        named = {*recipe.settings.get("agent", {}), *spec.settings.get("agent", {})}
        try:
            saved = agent_settings(spec.model)
        except KGR1Error:  # of no use here, and no reason for the other systems not to be played
            continue
        if left_out := [key for key in saved if key not in named]:
            note(
                f"{clean(name)}: {clean(spec.model)} was saved with settings that the recipe does not name, so it "
                f"plays with their defaults: {', '.join(f'agent.{key}' for key in left_out)}."
            )


def _play(recipe: Recipe, cell: Cell, folder: Path, board: Board, models: Models) -> Summary:
    """Evaluate one cell as ``kgr1 evaluate`` does."""
    from kgr1.cli.evaluate import made_with, with_topics
    from kgr1.cli.sources import load_question_set, open_graph
    from kgr1.cli.systems import Setup, make_system
    from kgr1.evaluation.cells import giving_up
    from kgr1.evaluation.run import evaluate
    from kgr1.rewards.answer import score_answers

    data, spec, settings = recipe.datasets[cell.dataset], recipe.systems[cell.system], recipe.settings_of(cell.system)
    asked = load_question_set(
        data.questions,
        split=data.split,
        usual="test",
        subset=data.subset,
        hops=data.hops,
        limit=data.limit,
        seed=data.seed,
        max_turns=recipe.shared_settings.agent.max_turns,  # one set for all systems
    )

    concurrency = recipe.concurrency_of(cell.system)

    def report(progress: Progress) -> None:
        episode = progress.episode
        f1 = score_answers(episode.answers, episode.question.answers, episode.answer_ids).f1
        board.update(cell, progress.done, progress.total, progress.resumed, f1)

    with open_graph(data.graph) as graph:
        with board.paused():
            asked = with_topics(asked, graph, link=data.link)
        setup = Setup(cell.system, graph, settings, spec.model, spec.options, concurrency, models)
        system = make_system(spec.kind, setup)
        return asyncio.run(
            evaluate(
                asked,
                giving_up(system.runner(), max(MIN_PATIENCE, concurrency)),
                folder,
                settings=made_with(system.described, graph, settings, link=data.link),
                samples=spec.runs,
                concurrency=concurrency,
                retry_failed=True,
                progress=report,
            )
        )


def _write(recipe: Recipe, target: Path, results: Sequence[CellResult], runs: Sequence[Run]) -> None:
    from kgr1.evaluation.breakdowns import breakdowns
    from kgr1.evaluation.files import write_whole
    from kgr1.evaluation.page import build_page
    from kgr1.evaluation.results import difference_table, latex, markdown, problems, tables

    target.mkdir(parents=True, exist_ok=True)
    parts = [*tables(results), difference_table(runs), *breakdowns(runs)]
    told = [*problems(results), *(f"{r.dataset}/{r.system}: {told}" for r in runs for told in r.problems)]
    write_whole(target / "results.jsonl", "".join(result.model_dump_json() + "\n" for result in results))
    write_whole(target / "table.md", markdown(recipe.title, parts, told))
    write_whole(target / "table.tex", latex(parts))
    if runs:
        write_whole(target / "report.html", build_page(recipe.title, runs, notes=told))


def _show(results: Sequence[CellResult], runs: Sequence[Run], target: Path) -> None:
    from kgr1.cli.evaluate import print_table
    from kgr1.evaluation.results import difference_table, markdown, problems, tables

    print_table(markdown("", [*tables(results), difference_table(runs)], ()))
    for problem in problems(results):
        warn(clean(problem))
    if runs:
        note(f"Results, tables and the report are in {target}.")
    else:
        note(f"No cell has numbers, so there is no report. What became of each is in {target / 'results.jsonl'}.")
