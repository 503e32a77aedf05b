"""Self-consistency: several chains of thought and a vote on every entity (Wang et al., ICLR 2023).

The first chain is greedy, the others are sampled. Answers are lists, so the vote is on entities: kept are those that
more than half of the chains with an answer have listed, the most voted first, ties to the earliest chain; if there is
none, the first one of that order (*ours*: the paper votes on single answers). A chain without an answer votes for
nothing and does not count.
"""

from __future__ import annotations

from kgr1.baselines.cot import cot_prompt
from kgr1.baselines.play import Outcome, Run, play
from kgr1.baselines.replies import read_answers
from kgr1.config import Settings
from kgr1.graph.api import KnowledgeGraph
from kgr1.models.client import ModelClient
from kgr1.rewards.vote import count_votes
from kgr1.types import Episode, Question


async def self_consistency(
    question: Question, graph: KnowledgeGraph, client: ModelClient, settings: Settings, *, seed: int, sample: int = 0
) -> Episode:
    """See :class:`kgr1.baselines.play.System`."""
    return await play("self-consistency", _steps, question, graph, client, settings, seed=seed, sample=sample)


async def _steps(run: Run) -> Outcome:
    prompt, tokens = cot_prompt(run), run.settings.answer_tokens
    texts = await run.ask("reason", prompt, tokens=tokens)
    others = run.settings.samples - 1
    if others:
        temperature = run.settings.sample_temperature
        texts += await run.ask("reason", prompt, tokens=tokens, temperature=temperature, n=others)
    read = [read_answers(text, marked=True) for text in texts]
    chosen = elect([answers for answers, _ in read if answers])
    return Outcome(chosen, all(strict for _, strict in read), fallback=True)


def elect(lists: list[tuple[str, ...]]) -> tuple[str, ...]:
    """The entities that more than half of the lists hold, or the best one.

    >>> elect([("Rome", "Paris"), ("paris",), ("Oslo",)])
    ('paris',)
    >>> elect([("Rome", "Paris"), ("Oslo",)])
    ('Rome',)
    """
    candidates = sorted(count_votes([(names, ()) for names in lists]), key=lambda c: (-c.votes, c.first))
    kept = [candidate for candidate in candidates if 2 * candidate.votes > len(lists)]
    return tuple(candidate.name for candidate in kept or candidates[:1])
