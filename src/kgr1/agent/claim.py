"""What an answer claims, name by name: the facts behind each, how sure the agent is of it, and whether it is given out.

How sure: the mean log-probability of the tokens that the model wrote, as a probability (their geometric mean), and,
where a question was played several times, the share of the runs that gave the name. Neither is calibrated: a threshold
is chosen on saved episodes, which :mod:`kgr1.evaluation.coverage` is for.

Names are withheld after an episode was played and never while a model is trained, which is to learn from what it wrote.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Literal, NamedTuple

from kgr1.agent.evidence import find_evidence, find_supports, shown_times
from kgr1.config import AgentSettings
from kgr1.rewards.answer import normalise
from kgr1.rewards.vote import count_votes
from kgr1.types import Episode, Record, StopReason, Triple

Tokens = Literal["episode", "answer"]
"""Whose log-probabilities count: those of all turns, or of the turn with the answer alone."""


class Claim(Record):
    """One name of an answer."""

    name: str
    id: str | None = None
    runs: int = 1  # runs that gave it
    evidence: tuple[Triple, ...] = ()  # of the first run that has any
    times: tuple[tuple[str, ...], ...] = ()  # the dates shown behind each of these facts; empty if there are none
    confidence: float | None = None  # in [0, 1]; None where nothing tells


class Doubt(StrEnum):
    """Why a name is withheld, as part of a sentence."""

    UNSUPPORTED = "no fact that the graph showed leads to it"
    UNSURE = "the agent is not sure enough of it"


def probability(episode: Episode, tokens: Tokens = "episode") -> float | None:
    """exp of the mean log-probability of what the model wrote, in [0, 1]; None if the episode records none.

    >>> from kgr1.types import Answer, Question, Turn
    >>> turns = Turn(text="", logprobs=(-1.0, -2.0)), Turn(text="", logprobs=(0.0,), answer=Answer(names=("Rome",)))
    >>> episode = Episode(question=Question(id="1", text="?", topics=(), answers=()), turns=turns, stop="answered")
    >>> round(probability(episode), 3), probability(episode, "answer")
    (0.368, 1.0)
    """
    turns = [turn for turn in episode.turns if tokens == "episode" or turn.answer is not None]
    found = [logprob for turn in turns for logprob in turn.logprobs]
    return min(1.0, math.exp(math.fsum(found) / len(found))) if found else None


def supports(episode: Episode) -> tuple[tuple[Triple, ...], ...]:
    """The facts behind each answer (:func:`kgr1.agent.evidence.find_supports`).

    None stand behind those of a system that asked no graph, or answered from the model alone.
    """
    if episode.fallback:
        return ((),) * len(episode.answers)
    return find_supports(episode.question.topics, episode.answers, episode.turns)


class Statement(NamedTuple):
    """What one run answered, without its turns; nothing if it did not end with an answer."""

    names: tuple[str, ...]
    ids: tuple[str | None, ...]
    supports: tuple[tuple[Triple, ...], ...]
    times: Mapping[Triple, tuple[str, ...]]
    answered: bool
    probability: float | None

    @classmethod
    def of(cls, episode: Episode, tokens: Tokens = "episode") -> Statement:
        """Read it off an episode."""
        if episode.stop is not StopReason.ANSWERED:
            return cls((), (), (), {}, answered=False, probability=None)
        found, times = supports(episode), shown_times(episode.turns)
        sure = probability(episode, tokens)
        return cls(episode.answers, episode.answer_ids, found, times, answered=True, probability=sure)


def weigh(runs: Sequence[Episode], tokens: Tokens = "episode") -> list[Claim]:
    """The claims of the runs of one question; see :func:`weigh_statements`."""
    return weigh_statements([Statement.of(run, tokens) for run in runs])


def weigh_statements(runs: Sequence[Statement]) -> list[Claim]:
    """The distinct names that the runs of one question gave, in the order of :func:`kgr1.rewards.vote.count_votes`.

    The confidence of a name is the mean over all runs of the :func:`probability` of those that gave it, and 0 for the
    others. Where a run that answered has no log-probabilities it is the share of the runs that gave the name, and one
    run alone has none.
    """
    answered = [run for run in runs if run.answered]
    known = [run.probability for run in answered if run.probability is not None]
    tells = len(known) == len(answered) or len(runs) > 1
    weights = known if len(known) == len(answered) else [1.0] * len(answered)
    evidence: dict[str, tuple[Triple, ...]] = {}
    times: dict[str, tuple[tuple[str, ...], ...]] = {}
    summed: dict[str, float] = {}
    for run, weight in zip(answered, weights, strict=True):
        given = set()
        for name, facts in zip(run.names, run.supports, strict=True):
            form = normalise(name)
            if not evidence.get(form):
                evidence[form] = facts
                times[form] = tuple(run.times.get(fact, ()) for fact in facts) if run.times else ()
            given.add(form)
        for form in given:
            summed[form] = summed.get(form, 0.0) + weight
    return [
        Claim(
            name=found.name,
            id=found.id,
            runs=found.votes,
            evidence=evidence[found.form],
            times=times[found.form] if any(times[found.form]) else (),
            confidence=min(1.0, summed[found.form] / len(runs)) if tells else None,
        )
        for found in count_votes([(run.names, run.ids) for run in answered])
    ]


def doubt(claim: Claim, agent: AgentSettings) -> Doubt | None:
    """Why the settings withhold a name; None if they do not. A name without a confidence is below every threshold."""
    if agent.abstain and not claim.evidence:
        return Doubt.UNSUPPORTED
    if agent.min_confidence > 0 and (claim.confidence is None or claim.confidence < agent.min_confidence):
        return Doubt.UNSURE
    return None


def withhold(episode: Episode, agent: AgentSettings, runs: Sequence[Episode] = ()) -> Episode:
    """The episode with the names that the settings withhold in ``withheld`` and not among its answers.

    What the model wrote stays in its turns. An episode that puts several runs together is judged by the facts that all
    of them were shown and by the confidence that ``runs`` give.
    """
    if not (agent.abstain or agent.min_confidence) or episode.stop is not StopReason.ANSWERED:
        return episode
    confidences = {normalise(claim.name): claim.confidence for claim in weigh(runs or (episode,))}
    keep = [
        doubt(Claim(name=name, evidence=facts, confidence=confidences.get(normalise(name))), agent) is None
        for name, facts in zip(episode.answers, supports(episode), strict=True)
    ]
    answers = tuple(name for name, kept in zip(episode.answers, keep, strict=True) if kept)
    return episode.model_copy(
        update={
            "answers": answers,
            "answer_ids": tuple(found for found, kept in zip(episode.answer_ids, keep, strict=False) if kept),
            "evidence": () if episode.fallback else find_evidence(episode.question.topics, answers, episode.turns),
            "withheld": (*episode.withheld, *(n for n, kept in zip(episode.answers, keep, strict=True) if not kept)),
        }
    )
