"""Two runs on the same questions: both sides and the paired difference."""

from __future__ import annotations

from collections.abc import Iterable

from kgr1.errors import EvaluationError
from kgr1.evaluation.bootstrap import RESAMPLES, Column, Metric, estimate, estimate_difference
from kgr1.evaluation.metrics import METRIC_VERSION, EpisodeRow, columns, group_rows, union_name
from kgr1.types import Episode, Record


class Comparison(Record):
    """Metrics of two runs over the questions that both have, and after - before with its paired interval."""

    metric_version: int = METRIC_VERSION
    seed: int = 0
    resamples: int = RESAMPLES
    questions: int
    only_before: int = 0  # questions that only one side has and that are left out
    only_after: int = 0
    before: dict[str, Metric]
    after: dict[str, Metric]
    difference: dict[str, Metric]


def compare(
    before: Iterable[Episode], after: Iterable[Episode], *, seed: int = 0, resamples: int = RESAMPLES
) -> Comparison:
    """Compare two runs question by question; raises :class:`EvaluationError` if they share no question."""
    old, new = ((EpisodeRow.of(episode) for episode in run) for run in (before, after))
    return compare_rows(old, new, seed=seed, resamples=resamples)


def compare_rows(
    before: Iterable[EpisodeRow],
    after: Iterable[EpisodeRow],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    unions: bool = False,
) -> Comparison:
    """Like :func:`compare`, of episodes that were scored already.

    With ``unions`` a side that has several runs of each question counts as one N-run search under the plain names.
    """
    old, new = group_rows(before), group_rows(after)
    shared = [key for key in old if key in new]  # sorted, as group_rows returns them
    if not shared:
        raise EvaluationError("The two runs share no question; compare runs on the same question set.")
    old_columns, new_columns = (columns([side[key] for key in shared]) for side in (old, new))
    if unions:
        old_columns, new_columns = _as_unions(old_columns), _as_unions(new_columns)
    return Comparison(
        seed=seed,
        resamples=resamples,
        questions=len(shared),
        only_before=len(old) - len(shared),
        only_after=len(new) - len(shared),
        before=estimate(old_columns, seed=seed, resamples=resamples),
        after=estimate(new_columns, seed=seed, resamples=resamples),
        difference=estimate_difference(old_columns, new_columns, seed=seed, resamples=resamples),
    )


def _as_unions(found: dict[str, Column]) -> dict[str, Column]:
    """The columns with those of the union in the place of the mean over the runs, where there are both."""
    return {name: found[union_name(found, name)] for name in found}
