"""The cells of a comparison: each an ordinary evaluation folder, one failing without the others.

::

    OUT/cells/DATASET/SYSTEM/   run.json, episodes.jsonl, summary.json, ... as `kgr1 evaluate` writes them
    OUT/cells/DATASET/SYSTEM/cell.json   what the recipe said when the cell was finished
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from kgr1.errors import EvaluationError, KGR1Error
from kgr1.evaluation.bootstrap import Metric
from kgr1.evaluation.causes import Cause
from kgr1.evaluation.costs import Spread, Throughput, spread, throughput
from kgr1.evaluation.files import write_whole
from kgr1.evaluation.metrics import METRIC_VERSION, Summary
from kgr1.evaluation.recipe import Cell, CellRecord, Recipe, cell_record, cells
from kgr1.evaluation.run import EpisodeRunner, OtherRunError
from kgr1.evaluation.runs import Run
from kgr1.types import Episode, Question, Record, StopReason

CELL_FILE = "cell.json"
Status = Literal["finished", "failed", "not run"]


class CellResult(Record):
    """One line of ``results.jsonl``: what a cell came to, or why it did not.

    ``latency`` is over the seconds of single episodes, which include waiting for others unless the concurrency was 1.
    """

    dataset: str
    system: str
    kind: str
    status: Status
    error: str = ""
    folder: str  # relative to the folder of the comparison
    metric_version: int = METRIC_VERSION
    questions: int = 0
    episodes: int = 0
    failed_episodes: int = 0  # the model or the graph failed; they count 0
    metrics: dict[str, Metric] = Field(default_factory=dict)
    latency: Spread | None = None
    throughput: list[Throughput] = Field(default_factory=list)
    causes: dict[str, int] = Field(default_factory=dict)  # episodes by what became of them

    @classmethod
    def of(cls, run: Run, *, kind: str = "", folder: str = "") -> CellResult:
        """What a finished run came to."""
        overall = run.summary.overall
        return cls(
            dataset=run.dataset,
            system=run.system,
            kind=kind,
            status="finished",
            folder=folder,
            questions=overall.questions,
            episodes=overall.episodes,
            failed_episodes=run.failed,
            metrics=overall.metrics,
            latency=spread(run.seconds),
            throughput=throughput(run.sessions),
            causes={cause.value: run.causes[cause] for cause in Cause if run.causes[cause]},
        )


def cell_folder(out: Path, cell: Cell) -> Path:
    """Where a cell is kept."""
    return out / "cells" / cell.dataset / cell.system


def run_cells(
    recipe: Recipe,
    out: Path,
    chosen: Sequence[Cell],
    play: Callable[[Cell, Path], Summary],
    *,
    started: Callable[[Cell], None] = lambda cell: None,
    ended: Callable[[Cell, str], None] = lambda cell, error: None,
) -> dict[Cell, str]:
    """Play the chosen cells one after the other; returns the errors of those that failed.

    ``play`` evaluates a cell into its folder, going on with what is there. Whatever it raises is the failure of that
    cell alone. A cell that was finished stays so if its graph cannot be opened this time, say, or the disk is full, and
    no longer if its folder turns out to be of another run.
    """
    errors: dict[Cell, str] = {}
    for cell in chosen:
        started(cell)
        folder = cell_folder(out, cell)
        try:
            play(cell, folder)
            write_whole(
                folder / CELL_FILE, json.dumps(cell_record(recipe, cell).model_dump(mode="json"), indent=2) + "\n"
            )
        except OtherRunError as error:
            (folder / CELL_FILE).unlink(missing_ok=True)
            errors[cell] = error.message
        except KGR1Error as error:
            errors[cell] = error.message
        except Exception as error:  # of a library, say: the other cells may well work
            errors[cell] = f"Unexpected {type(error).__name__}: {error}"
        ended(cell, errors.get(cell, ""))
    return errors


def collect(
    recipe: Recipe, out: Path, errors: Mapping[Cell, str], *, examples: int = 0
) -> tuple[list[CellResult], list[Run]]:
    """What every cell of the recipe came to, whether it was played now or earlier, and the runs that have numbers."""
    found = [_result(recipe, out, cell, errors.get(cell, ""), examples) for cell in cells(recipe)]
    return [result for result, _ in found], [run for _, run in found if run is not None]


def _result(recipe: Recipe, out: Path, cell: Cell, error: str, examples: int) -> tuple[CellResult, Run | None]:
    folder = cell_folder(out, cell)
    known: dict[str, Any] = {
        "dataset": cell.dataset,
        "system": cell.system,
        "kind": recipe.systems[cell.system].kind,
        "folder": folder.relative_to(out).as_posix(),
    }
    without = CellResult(**known, status="failed" if error else "not run", error=error)
    if not _is_of(folder, cell_record(recipe, cell)):
        return without, None
    try:
        run = Run.load(folder, system=cell.system, dataset=cell.dataset, examples=examples)
    except KGR1Error as problem:
        return CellResult(**known, status="failed", error=problem.message), None
    if run.unfinished:  # episodes that had failed were taken out to be played again, and not all of them were
        return without, None
    result = CellResult.of(run, kind=known["kind"], folder=known["folder"])
    return result.model_copy(update={"error": error}), run


def _is_of(folder: Path, record: CellRecord) -> bool:
    """Whether the folder was finished under this recipe."""
    try:
        return CellRecord.model_validate(json.loads((folder / CELL_FILE).read_bytes())) == record
    except (OSError, ValueError):
        return False


def giving_up(runner: EpisodeRunner, after: int) -> EpisodeRunner:
    """A runner that raises :class:`EvaluationError` when ``after`` episodes in a row could not be played.

    A model server that died would otherwise cost a time-out for every question that is left.
    """
    failed = 0

    async def play(question: Question, sample: int) -> Episode:
        nonlocal failed
        episode = await runner(question, sample)
        failed = failed + 1 if episode.stop in (StopReason.POLICY_ERROR, StopReason.GRAPH_ERROR) else 0
        if failed >= after:
            raise EvaluationError(
                f"{failed} episodes in a row could not be played, the last one because: {episode.error.rstrip('.')}. "
                "What was finished is kept; see to the model or the graph and run the same command again."
            )
        return episode

    return play
