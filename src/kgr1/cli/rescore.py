"""``kgr1 rescore``: any metric on saved episodes."""

from __future__ import annotations

from typing import Annotated

import typer

from kgr1.cli.options import RunFolder


def rescore(
    run: RunFolder,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A metric, e.g. f1, rog_hit or tog_em; repeat it for several."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap intervals.")] = 0,
) -> None:
    """Compute metrics of an evaluation again, the measures of published work included; changes no file."""
    from kgr1.cli.console import emit, safe_json
    from kgr1.cli.diff import journal
    from kgr1.cli.evaluate import print_table
    from kgr1.evaluation.bootstrap import RESAMPLES
    from kgr1.evaluation.files import read_episodes
    from kgr1.evaluation.metrics import METRIC_VERSION
    from kgr1.evaluation.report import slice_table
    from kgr1.evaluation.variants import rescore as recompute

    found = recompute(read_episodes(journal(run)), metric or (), seed=seed)
    if as_json:
        made = {"metric_version": METRIC_VERSION, "seed": seed, "resamples": RESAMPLES}
        emit(safe_json(made | found.model_dump(mode="json")))
    else:
        print_table(slice_table(found, seed=seed, resamples=RESAMPLES))
