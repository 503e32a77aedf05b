"""``kgr1 rescore``: any metric on saved episodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kgr1.cli.console import warn
from kgr1.cli.options import RunFolder
from kgr1.errors import EvaluationError

if TYPE_CHECKING:
    from kgr1.evaluation.bootstrap import Metric


def rescore(
    run: RunFolder,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A metric, e.g. f1, rog_hit or tog_em; repeat it for several."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap intervals.")] = 0,
) -> None:
    """Compute metrics of an evaluation again, the measures of published work included; changes no file.

    What a language model said of this run is among them after 'kgr1 judge': judge_recall, judge_any, judge_all.
    """
    from kgr1.cli.console import emit, safe_json
    from kgr1.cli.diff import episodes_of, journal
    from kgr1.cli.evaluate import print_table
    from kgr1.evaluation.bootstrap import RESAMPLES
    from kgr1.evaluation.metrics import METRIC_VERSION
    from kgr1.evaluation.report import slice_table
    from kgr1.evaluation.variants import rescore as recompute

    path = journal(run)
    found = recompute(episodes_of(run), metric or (), seed=seed, judged=_judged(path, metric or (), seed))
    if as_json:
        made = {"metric_version": METRIC_VERSION, "seed": seed, "resamples": RESAMPLES}
        emit(safe_json(made | found.model_dump(mode="json")))
    else:
        print_table(slice_table(found, seed=seed, resamples=RESAMPLES))


def _judged(episodes: Path, names: Sequence[str], seed: int) -> dict[str, Metric]:
    """The judge's metrics of a run; an error if one was asked for by name and is not to be had."""
    from kgr1.evaluation.agreement import JUDGE_METRICS, Judgement, find_judgement
    from kgr1.evaluation.files import read_episodes
    from kgr1.evaluation.judge import matter_of

    by_name = next((name for name in names if name in JUDGE_METRICS), None)
    if names and by_name is None:
        return {}
    found = find_judgement(episodes, map(matter_of, read_episodes(episodes)))
    if found.summary is not None and found.summary.seed != seed:
        found = Judgement(
            problem=f"The judge's numbers are left out: their intervals were drawn with seed {found.summary.seed} and "
            f"not {seed}. Run 'kgr1 judge' again with --seed {seed}; verdicts that it has are not asked for again."
        )
    if found.summary is not None:
        return dict(found.summary.metrics)
    if by_name is not None and episodes.exists():  # a run that is not there is told by who reads it
        none = f"There is no '{by_name}' for this run, as no language model judged it yet."
        raise EvaluationError(found.problem or f"{none} Run 'kgr1 judge RUN --base-url URL --model NAME' first.")
    if found.problem:
        warn(found.problem)
    return {}
