"""How much of what a run answered stands on facts that were shown, and what abstaining would gain."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from kgr1.agent.claim import Statement, Tokens, supports, weigh_statements
from kgr1.errors import EvaluationError
from kgr1.evaluation.bootstrap import RESAMPLES, Column, Metric, estimate
from kgr1.evaluation.coverage import Item, Operating, Point, mean_precision, operate, precision_coverage, spread
from kgr1.evaluation.hacking import Sign, Signs
from kgr1.evaluation.metrics import Key, question_key
from kgr1.evaluation.report import interval, markdown_table
from kgr1.evaluation.variants import listed
from kgr1.types import Episode, GoldAnswer, Record


class Support(NamedTuple):
    """What one episode gave out: ``supported`` of ``names`` names have facts behind them; ``withheld`` were not."""

    names: int
    supported: int
    withheld: int

    @property
    def fully(self) -> bool:
        """Whether there is an answer and every name of it has facts behind it."""
        return self.names > 0 and self.supported == self.names


def support(episode: Episode) -> Support:
    """How the answers of an episode are supported by triples that were shown in it."""
    if not listed(episode):
        return Support(0, 0, len(episode.withheld))
    return Support(len(episode.answers), sum(map(bool, supports(episode))), len(episode.withheld))


class Grounding(Record):
    """What :func:`measure` finds in a run.

    ``metrics`` are shares with their intervals; one that has no occasion, such as an answer, is missing. ``everything``
    and ``supported`` are the curves of all names and of those with evidence alone; ``plain`` is the end of the first,
    where every name is given out, and ``operating`` some points of the second, its end last.
    """

    questions: int
    episodes: int
    runs: int  # most samples of one question
    tokens: Tokens
    with_confidence: bool  # whether some name has one
    metrics: dict[str, Metric]
    everything: tuple[Point, ...]
    supported: tuple[Point, ...]
    plain: Operating | None
    operating: tuple[Operating, ...]
    signs: dict[str, Sign]
    seed: int
    resamples: int


def measure(
    episodes: Iterable[Episode], *, tokens: Tokens = "episode", seed: int = 0, resamples: int = RESAMPLES
) -> Grounding:
    """Grounding, curves and checks of saved episodes; their order does not matter.

    Raises :class:`EvaluationError` if there are none.
    """
    found: dict[Key, list[tuple[int, Support, Statement]]] = {}
    gold: dict[Key, tuple[GoldAnswer, ...]] = {}
    signs = Signs()
    for episode in episodes:
        key = question_key(episode)
        found.setdefault(key, []).append((episode.sample, support(episode), Statement.of(episode, tokens)))
        gold[key] = episode.question.answers
        signs.add(episode)
    if not found:
        raise EvaluationError("There are no episodes in this run; evaluate something first.")
    questions = [sorted(found[key], key=lambda one: (one[0], one[2].names)) for key in sorted(found)]
    items = [
        Item(tuple(weigh_statements([statement for *_, statement in samples])), gold[key])
        for key, samples in zip(sorted(found), questions, strict=True)
    ]
    backed = [item.supported for item in items]
    everything, supported = precision_coverage(items), precision_coverage(backed)
    drawn = {"seed": seed, "resamples": resamples}
    plain = operate(items, everything[-1:], **drawn)
    return Grounding(
        questions=len(items),
        episodes=sum(map(len, questions)),
        runs=max(map(len, questions)),
        tokens=tokens,
        with_confidence=any(claim.confidence is not None for item in items for claim in item.claims),
        metrics=estimate(_columns([[one for _, one, _ in samples] for samples in questions]), **drawn),
        everything=tuple(everything),
        supported=tuple(supported),
        plain=plain[0] if plain else None,
        operating=tuple(operate(backed, spread(supported), **drawn)),
        signs=signs.found(**drawn),
        **drawn,
    )


def _columns(questions: list[list[Support]]) -> dict[str, Column]:
    """Numerator and denominator of every share per question, means over samples."""

    def column(top: Iterable[float], bottom: Iterable[float]) -> Column:
        return np.array(list(top), dtype=np.float64), np.array(list(bottom), dtype=np.float64)

    def mean(values: Iterable[float]) -> float:
        every = list(values)
        return math.fsum(every) / len(every)

    ones = [1.0] * len(questions)
    answered = [mean(one.names > 0 for one in samples) for samples in questions]
    names = [mean(one.names for one in samples) for samples in questions]
    return {
        "answered": column(answered, ones),
        "abstained": column([mean(not o.names and o.withheld > 0 for o in samples) for samples in questions], ones),
        "fully_supported": column([mean(one.fully for one in samples) for samples in questions], answered),
        "supported_names": column([mean(one.supported for one in samples) for samples in questions], names),
    }


LABELS = {
    "answered": "episodes with an answer",
    "abstained": "episodes that abstained",
    "fully_supported": "answers fully supported by shown triples",
    "supported_names": "names supported by shown triples",
    "invented_information": "turns with an invented information block",
    "lists_everything": "answers that list everything seen",
    "repeated_queries": "queries asked before",
    "without_evidence": "answers without any evidence",
}
"""What tables call a share or a check."""


def grounding_table(found: Grounding) -> str:
    """Markdown: shares, precision against coverage, and the checks."""
    lines = [
        f"{found.questions} questions, {found.episodes} episodes; 95% bootstrap intervals over questions "
        f"({found.resamples} resamples, seed {found.seed}).",
        "",
        *markdown_table(
            ("grounding", "share", "95% interval"),
            [(LABELS[name], _percent(metric.value), _interval(metric)) for name, metric in found.metrics.items()],
        ),
        "",
        *_coverage_lines(found),
        "",
        *_sign_lines(found),
    ]
    return "\n".join(lines) + "\n"


def _coverage_lines(found: Grounding) -> list[str]:
    rows = [("everything", "0", *_operating_cells(found.plain))] if found.plain else []
    last = len(found.operating) - 1
    for place, one in enumerate(found.operating):
        # Rounded down, so that whoever types it gets the names of this row.
        threshold = "0" if place == last else f"{math.floor(1e4 * one.point.threshold) / 1e4:.4f}"
        rows.append(("supported names", threshold, *_operating_cells(one)))
    header = ("given out", "threshold", "coverage", "precision", "95% interval", "F1, all questions", "95% interval")
    return [*markdown_table(header, rows), "", _about_confidence(found)]


def _about_confidence(found: Grounding) -> str:
    if not found.with_confidence:
        return (
            "The episodes record no log-probabilities and there is one run a question, so nothing tells how sure the "
            "answers are: evidence is the only ground to abstain on."
        )
    of = "all turns" if found.tokens == "episode" else "the turn with the answer"
    runs = "" if found.runs == 1 else f", and the share of up to {found.runs} runs that gave the name"
    mean, end = mean_precision(found.supported), found.supported[-1].precision if found.supported else 0.0
    return (
        f"Confidence: mean log-probability of the tokens of {of}, as a probability{runs}. Precision of the supported "
        f"names on average over all coverages: {_percent(mean)}; if it told nothing: {_percent(end)}."
    )


def _operating_cells(one: Operating) -> tuple[str, ...]:
    return (
        _percent(one.point.coverage),
        _percent(one.precision.value),
        _interval(one.precision),
        _percent(one.f1.value),
        _interval(one.f1),
    )


def _sign_lines(found: Grounding) -> list[str]:
    rows = []
    for name, sign in found.signs.items():
        share = ("-", "-") if sign.share is None else (_percent(sign.share.value), _interval(sign.share))
        cases = f"{sign.cases} of {sign.of}"
        rows.append((LABELS[name], *share, cases, str(sign.episodes), "-" if sign.f1 is None else _percent(sign.f1)))
    return markdown_table(("check", "share", "95% interval", "cases", "episodes", "F1 of these"), rows)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _interval(metric: Metric) -> str:
    return interval("f1", metric)
