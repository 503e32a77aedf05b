"""The agent itself as one of the systems: one run, or N sampled runs whose answers are put together."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from kgr1.agent.claim import withhold
from kgr1.agent.evidence import find_evidence
from kgr1.agent.rollout import run_episode
from kgr1.config import Settings
from kgr1.graph.api import KnowledgeGraph
from kgr1.models.client import ModelClient
from kgr1.rewards.vote import count_votes
from kgr1.types import Episode, Question, StopReason, Usage


async def agent(
    question: Question, graph: KnowledgeGraph, client: ModelClient, settings: Settings, *, seed: int, sample: int = 0
) -> Episode:
    """One run, with the settings of the tables ``agent`` and ``sampling``; see :class:`kgr1.baselines.play.System`."""
    return withhold(await _run(question, graph, client, settings, seed=seed, sample=sample), settings.agent)


async def _run(
    question: Question, graph: KnowledgeGraph, client: ModelClient, settings: Settings, *, seed: int, sample: int
) -> Episode:
    """One run with everything that it answered."""
    sampling = settings.sampling.model_copy(update={"seed": seed})
    return await run_episode(question, graph, client.policy(), agent=settings.agent, sampling=sampling, sample=sample)


async def agent_runs(
    question: Question, graph: KnowledgeGraph, client: ModelClient, settings: Settings, *, seed: int, sample: int = 0
) -> Episode:
    """``baseline.runs`` runs as one episode: the union of their answers, the sum of their costs (SPEC section 3).

    The runs are drawn at ``sampling.temperature``, or at 1 where that is 0 and all of them would be the same. Answers
    that most runs gave come first; what is withheld is decided on all runs together. Runs that failed count as runs
    without answers; the episode has failed only if all of them have.
    """
    temperature = settings.sampling.temperature or 1.0
    drawn = settings.model_copy(update={"sampling": settings.sampling.model_copy(update={"temperature": temperature})})
    runs = await asyncio.gather(
        *(
            _run(question, graph, client, drawn, seed=seed + number, sample=number)
            for number in range(settings.baseline.runs)
        )
    )
    return withhold(_united(runs, seed, sample), settings.agent, runs)


def _united(runs: Sequence[Episode], seed: int, sample: int) -> Episode:
    answered = [run for run in runs if run.stop is StopReason.ANSWERED]
    candidates = count_votes([(run.answers, run.answer_ids) for run in answered])
    answers = tuple(candidate.name for candidate in candidates)
    turns = tuple(turn for run in runs for turn in run.turns)
    first = answered[0] if answered else runs[0]
    return first.model_copy(
        update={
            "turns": turns,
            "answers": answers,
            "answer_ids": tuple(candidate.id for candidate in candidates),
            "evidence": find_evidence(first.question.topics, answers, turns),
            "prompt_ids": (),  # one of several contexts; it must not be taken for that of all turns
            "usage": _sum([run.usage for run in runs]),
            "system": "agent-runs",
            "seed": seed,
            "sample": sample,
        }
    )


def _sum(usages: Sequence[Usage]) -> Usage:
    """Costs add up; the runs go on at the same time, so the longest one's time is that of all."""
    outcomes: Counter[str] = Counter()
    for usage in usages:
        outcomes.update(usage.graph_outcomes)
    return Usage(
        generated_tokens=sum(usage.generated_tokens for usage in usages),
        forced_tokens=sum(usage.forced_tokens for usage in usages),
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        context_tokens=sum(usage.context_tokens for usage in usages),
        model_calls=sum(usage.model_calls for usage in usages),
        graph_calls=sum(usage.graph_calls for usage in usages),
        graph_outcomes=dict(sorted(outcomes.items())),
        seconds=max(usage.seconds for usage in usages),
    )
