"""``kgr1 diff``: two evaluations side by side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kgr1.cli.console import one_line, warn

if TYPE_CHECKING:
    from kgr1.types import Episode


def diff(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="The folder of an evaluation.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="The folder of another one on the same questions.")],
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap intervals.")] = 0,
) -> None:
    """Compare two evaluations question by question, with 95% intervals of the difference."""
    from kgr1.cli.evaluate import print_table
    from kgr1.evaluation.compare import compare
    from kgr1.evaluation.report import comparison_table

    comparison = compare(episodes_of(before), episodes_of(after), seed=seed)
    labels = [one_line(path.resolve().name) for path in (before, after)]
    if labels[0] == labels[1]:
        labels = ["before", "after"]
    print_table(comparison_table(comparison, *labels))


def journal(path: Path) -> Path:
    """The file of episodes in the folder of an evaluation."""
    return path / "episodes.jsonl" if path.is_dir() else path


def episodes_of(run: Path) -> Iterator[Episode]:
    """The saved episodes of an evaluation; after the last of them, says so if some are still to be played.

    Raises :class:`kgr1.errors.EvaluationError` if they cannot be read or there are none.
    """
    from kgr1.evaluation.files import read_episodes
    from kgr1.evaluation.run import check_finished

    path, count = journal(run), 0
    for count, episode in enumerate(read_episodes(path), start=1):  # noqa: B007
        yield episode
    missing = check_finished(path, count)
    if missing:
        warn(one_line(f"{run} has {missing}"))
