"""``kgr1 diff``: two evaluations side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kgr1.cli.console import one_line


def diff(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="The folder of an evaluation.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="The folder of another one on the same questions.")],
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap intervals.")] = 0,
) -> None:
    """Compare two evaluations question by question, with 95% intervals of the difference."""
    from kgr1.cli.evaluate import print_table
    from kgr1.evaluation.compare import compare
    from kgr1.evaluation.files import read_episodes
    from kgr1.evaluation.report import comparison_table

    comparison = compare(read_episodes(journal(before)), read_episodes(journal(after)), seed=seed)
    labels = [one_line(path.resolve().name) for path in (before, after)]
    if labels[0] == labels[1]:
        labels = ["before", "after"]
    print_table(comparison_table(comparison, *labels))


def journal(path: Path) -> Path:
    """The file of episodes in the folder of an evaluation."""
    return path / "episodes.jsonl" if path.is_dir() else path
