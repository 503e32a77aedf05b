"""Stops a run that is running away: divergence from the start, entropy, or length.

Long runs of the published method collapse after a few hundred steps (SPEC section 5): the divergence from the start
explodes, the entropy runs to nothing or grows without end, the turns fill up. None of these comes back by itself, so
going on only spends time. The run is saved and ended, and says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import TrainerCallback

from kgr1.config import TrainSettings

WINDOW = 5
"""Steps whose mean is judged: one bad batch is no collapse."""


def find_alarm(rows: Sequence[Mapping[str, float]], settings: TrainSettings) -> str | None:
    """One sentence if the last :data:`WINDOW` logged rows have run away, None if all is well or it is too early.

    Rows without a value (``kl`` is only logged with ``beta`` > 0) say nothing about it. Lengths are compared with those
    of the first rows.
    """
    last = rows[-WINDOW:]
    if len(last) < WINDOW:
        return None
    limits = (
        ("kl", settings.stop_kl, "the divergence from the start (kl)", "train.stop_kl"),
        ("entropy", settings.stop_entropy, "the entropy per token", "train.stop_entropy"),
    )
    for key, limit, what, name in limits:
        value = _mean(last, key)
        if limit and value is not None and value > limit:
            return f"{what} was {value:.3g} on average over the last {WINDOW} steps, more than {name} = {limit:g}"
    before, now = _mean(rows[:WINDOW], "generated_tokens"), _mean(last, "generated_tokens")
    if settings.stop_growth and before and now and now > settings.stop_growth * before:
        return (
            f"episodes grew from {before:.0f} to {now:.0f} generated tokens, more than train.stop_growth = "
            f"{settings.stop_growth:g} times"
        )
    return None


def _mean(rows: Sequence[Mapping[str, float]], key: str) -> float | None:
    values = [row[key] for row in rows if key in row]
    return sum(values) / len(values) if values else None


class Alarm(TrainerCallback):  # type: ignore[misc]
    """Looks at every logged step; ``reason`` is set when the run was ended."""

    def __init__(self, settings: TrainSettings) -> None:
        self._settings = settings
        self.reason: str | None = None
        self._found: str | None = None

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Save and stop if the rows of the whole run, those before a resumption included, say so.

        With several updates on a batch that is done after the last of them, where a run can go on from.
        """
        if self.reason is not None:
            return
        rows = [row for row in state.log_history if "entropy" in row or "kl" in row]
        self._found = self._found or find_alarm(rows, self._settings)
        if self._found is not None and state.global_step % self._settings.updates_per_batch == 0:
            self.reason = self._found
            control.should_save = True
            control.should_training_stop = True
