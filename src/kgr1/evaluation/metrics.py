"""The headline metrics, one definition each (SPEC section 8).

Every metric is a mean over questions (or a ratio of two such means) with a bootstrap interval over questions. With
several samples a question, its value is the mean over its samples; ``union_*`` treat the samples as one N-run search
and ``pass@k`` estimates the chance that one of k samples is right. Questions that were not answered, or whose episode
failed, count 0 and stay in the denominator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kgr1.agent.ledger import OK
from kgr1.config import RewardSettings
from kgr1.evaluation.bootstrap import RESAMPLES, Column, Metric, estimate
from kgr1.rewards.answer import AnswerScore, score_answers
from kgr1.rewards.outcome import outcome_reward
from kgr1.rewards.vote import count_votes
from kgr1.types import Episode, GoldAnswer, Record, StopReason

METRIC_VERSION = 3
"""Goes up whenever a definition below changes; saved with every summary. 2: in ``generated_tokens`` a whole name counts
only up to where it is the only one left, and ``label [id]`` matches a gold entity that has no id. 3: and one whose id
is its label."""

Key = tuple[str, str, str]
"""Dataset, split and id of a question."""

SHARES = ("f1", "hit1", "hit_any", "em", "retrieval", "valid_queries", "answered", "fallback")
"""Metrics between 0 and 1, besides ``pass@k`` and ``union_*``; tables show them in percent."""

_EPISODE_METRICS: dict[str, Callable[[EpisodeRow], float]] = {
    "f1": lambda row: row.score.f1,
    "hit1": lambda row: float(row.score.hit1),
    "hit_any": lambda row: float(row.score.hit_any),
    "em": lambda row: float(row.score.exact),
    "retrieval": lambda row: float(row.retrieved),
    "answered": lambda row: float(bool(row.answers)),
    "fallback": lambda row: float(row.fallback),
    "generated_tokens": lambda row: row.generated_tokens,
    "forced_tokens": lambda row: row.forced_tokens,
    "written_tokens": lambda row: row.generated_tokens + row.forced_tokens,
    "context_tokens": lambda row: row.context_tokens,
    "total_tokens": lambda row: row.total_tokens,
    "graph_calls": lambda row: row.graph_calls,
    "empty_graph_calls": lambda row: row.empty_graph_calls,
    "model_calls": lambda row: row.model_calls,
    "turns": lambda row: row.turns,
    "seconds": lambda row: row.seconds,
}


@dataclass(frozen=True, slots=True)
class EpisodeRow:
    """What the metrics need of one episode: small, so that a run of any length can be summarised from its file."""

    key: Key
    sample: int
    hops: int | None
    kind: str
    gold: tuple[GoldAnswer, ...]
    answers: tuple[str, ...]  # empty unless the episode ended with an answer
    answer_ids: tuple[str | None, ...]
    score: AnswerScore
    retrieved: int
    generated_tokens: int
    forced_tokens: int
    context_tokens: int
    total_tokens: int  # prompt + completion, summed over the model calls
    graph_calls: int
    empty_graph_calls: int  # graph calls that were answered with an error; nothing found is one
    model_calls: int
    turns: int
    valid: int  # turns whose query ran and returned something
    asked: int  # turns that did not answer, so malformed actions count as invalid queries
    fallback: bool
    seconds: float

    @classmethod
    def of(cls, episode: Episode) -> EpisodeRow:
        """Score one episode."""
        question, usage = episode.question, episode.usage
        outcome = outcome_reward(episode, RewardSettings())
        answered = episode.stop is StopReason.ANSWERED
        # Other systems than the agent have turns that are not meant to ask the graph, and some that no model wrote.
        asked = [turn for turn in episode.turns if turn.answer is None and not (turn.step and turn.query is None)]
        retrieved = [turn for turn in episode.turns if turn.retrieved]
        return cls(
            key=question_key(episode),
            sample=episode.sample,
            hops=question.hops,
            kind=question.kind,
            gold=question.answers,
            answers=episode.answers if answered else (),
            answer_ids=episode.answer_ids if answered else (),
            score=outcome.answer,
            retrieved=outcome.retrieved,
            generated_tokens=usage.generated_tokens,
            forced_tokens=usage.forced_tokens,
            context_tokens=usage.context_tokens,
            total_tokens=usage.prompt_tokens + usage.generated_tokens + usage.forced_tokens,
            graph_calls=usage.graph_calls,
            empty_graph_calls=_empty_graph_calls(episode),
            model_calls=usage.model_calls,
            turns=len(episode.turns) - len(retrieved),
            valid=sum(turn.observation is not None and turn.observation.ok for turn in asked),
            asked=len(asked),
            fallback=episode.fallback,
            seconds=usage.seconds,
        )


def _empty_graph_calls(episode: Episode) -> int:
    outcomes = episode.usage.graph_outcomes
    if outcomes:
        return episode.usage.graph_calls - outcomes.get(OK, 0)
    return sum(turn.observation is not None and not turn.observation.ok for turn in episode.turns)  # an old record


class Slice(Record):
    """The metrics of some of the questions."""

    questions: int
    episodes: int
    metrics: dict[str, Metric]


class Summary(Record):
    """The headline numbers of one run: overall, and by hops, question kind and data set where these are known."""

    metric_version: int = METRIC_VERSION
    seed: int = 0  # of the bootstrap
    resamples: int = RESAMPLES
    overall: Slice
    by_hops: dict[str, Slice]
    by_kind: dict[str, Slice]
    by_dataset: dict[str, Slice]

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The overall metrics."""
        return self.overall.metrics


def question_key(episode: Episode) -> Key:
    """What tells the questions of a run apart."""
    question = episode.question
    return (question.dataset, question.split, question.id)


def union_name(found: Container[str], name: str) -> str:
    """What a metric is called among those ``found`` if several runs of a question count as one N-run search."""
    union = f"union_{name}"
    return union if union in found else name


def runs_per_question(questions: int, episodes: int) -> int:
    """How many runs of each question there are."""
    return round(episodes / max(questions, 1))


def pass_at_k(samples: int, right: int, k: int) -> float:
    """Chance that at least one of k samples is right: 1 - C(n-c, k) / C(n, k), unbiased (arXiv 2107.03374, eq. 1).

    >>> pass_at_k(samples=4, right=1, k=1), pass_at_k(samples=4, right=2, k=3)
    (0.25, 1.0)
    """
    if not 0 <= right <= samples or not 1 <= k <= samples:
        raise ValueError(f"pass@k needs 0 <= right <= samples and 1 <= k <= samples; got {right}, {samples}, {k}.")
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


def union_answers(samples: Sequence[EpisodeRow]) -> tuple[tuple[str, ...], tuple[str | None, ...]]:
    """Answers of an N-run search (SPEC section 3) and their ids: the union, most votes first.

    Names are one if their normal forms are; ties go to the better place in a list, then to the earlier sample.
    """
    candidates = count_votes([(row.answers, row.answer_ids) for row in samples])
    return tuple(candidate.name for candidate in candidates), tuple(candidate.id for candidate in candidates)


def summarise(episodes: Iterable[Episode], *, seed: int = 0, resamples: int = RESAMPLES) -> Summary:
    """The headline numbers of a run; the order of ``episodes`` does not matter."""
    return summarise_rows((EpisodeRow.of(episode) for episode in episodes), seed=seed, resamples=resamples)


def summarise_rows(episodes: Iterable[EpisodeRow], *, seed: int = 0, resamples: int = RESAMPLES) -> Summary:
    """Like :func:`summarise`, of episodes that were scored already."""
    rows = list(group_rows(episodes).values())

    def cut(kept: Sequence[list[EpisodeRow]]) -> Slice:
        metrics = estimate(columns(kept), seed=seed, resamples=resamples)
        return Slice(questions=len(kept), episodes=sum(map(len, kept)), metrics=metrics)

    def by(label: Callable[[EpisodeRow], str]) -> dict[str, Slice]:
        groups: dict[str, list[list[EpisodeRow]]] = {}
        for samples in rows:
            groups.setdefault(label(samples[0]), []).append(samples)
        if set(groups) <= {""}:
            return {}
        return {name or "unknown": cut(groups[name]) for name in sorted(groups, key=_natural)}

    return Summary(
        seed=seed,
        resamples=resamples,
        overall=cut(rows),
        by_hops=by(lambda row: "" if row.hops is None else str(row.hops)),
        by_kind=by(lambda row: row.kind),
        by_dataset=by(lambda row: row.key[0]),
    )


def _natural(name: str) -> tuple[bool, int, str]:
    """Numbers by size, the unknown last."""
    return (name == "", int(name) if name.isdecimal() else 0, name)


def group_rows(rows: Iterable[EpisodeRow]) -> dict[Key, list[EpisodeRow]]:
    """Samples of every question, both in an order that the order of ``rows`` does not change."""
    questions: dict[Key, list[EpisodeRow]] = {}
    for row in rows:
        questions.setdefault(row.key, []).append(row)
    for samples in questions.values():
        samples.sort(key=lambda row: (row.sample, row.answers, row.generated_tokens, row.seconds))
    return dict(sorted(questions.items()))


def columns(questions: Sequence[list[EpisodeRow]]) -> dict[str, Column]:
    """Every metric's values per question, in the order of ``questions``; see :data:`Column`."""
    if not questions:
        return {}
    ones = np.ones(len(questions))
    result: dict[str, Column] = {}
    for name, value in _EPISODE_METRICS.items():
        means = [math.fsum(value(row) for row in samples) / len(samples) for samples in questions]
        result[name] = (np.array(means), ones)
    valid = [sum(row.valid for row in samples) / len(samples) for samples in questions]
    asked = [sum(row.asked for row in samples) / len(samples) for samples in questions]
    result["valid_queries"] = (np.array(valid), np.array(asked))
    fewest = min(len(samples) for samples in questions)
    if fewest > 1:
        for k in _steps(fewest):
            chances = [pass_at_k(len(s), sum(row.score.hit1 for row in s), k) for s in questions]
            result[f"pass@{k}"] = (np.array(chances), ones)
        for name, values in _union_columns(questions).items():
            result[name] = (np.array(values), ones)
    return result


def _steps(most: int) -> list[int]:
    """1, 2, 4, ... and ``most``."""
    return sorted({1 << power for power in range(most.bit_length())} | {most})


def _union_columns(questions: Sequence[list[EpisodeRow]]) -> dict[str, list[float]]:
    """All samples of a question as one N-run search; its tokens are the sum over the runs."""
    names = ("f1", "hit1", "hit_any", "em", "retrieval", "generated_tokens", "forced_tokens", "written_tokens")
    values: dict[str, list[float]] = {f"union_{name}": [] for name in names}
    for samples in questions:
        score = score_answers(*_with_gold(samples))
        parts = (score.f1, score.hit1, score.hit_any, score.exact)
        retrieved = max(row.retrieved for row in samples)
        generated, forced = (sum(row.generated_tokens for row in samples), sum(row.forced_tokens for row in samples))
        for name, value in zip(names, (*parts, retrieved, generated, forced, generated + forced), strict=True):
            values[f"union_{name}"].append(float(value))
    return values


def _with_gold(
    samples: Sequence[EpisodeRow],
) -> tuple[tuple[str, ...], tuple[GoldAnswer, ...], tuple[str | None, ...]]:
    names, ids = union_answers(samples)
    return names, samples[0].gold, ids
