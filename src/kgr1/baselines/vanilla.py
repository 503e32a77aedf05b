"""Vanilla prompting: the question in, a JSON list of answers out, at temperature 0. One model call, no graph."""

from __future__ import annotations

from kgr1.baselines.play import Outcome, Run, play
from kgr1.baselines.replies import read_answers
from kgr1.baselines.shown import show_question
from kgr1.config import Settings
from kgr1.graph.api import KnowledgeGraph
from kgr1.models.client import ModelClient
from kgr1.types import Episode, Question

PROMPT = """\
Answer the question from what you know. Reply with a JSON list of strings that holds every answer and nothing else, \
such as ["first answer", "second answer"].
Question: {question}"""


async def vanilla(
    question: Question, graph: KnowledgeGraph, client: ModelClient, settings: Settings, *, seed: int, sample: int = 0
) -> Episode:
    """See :class:`kgr1.baselines.play.System`."""
    return await play("vanilla", _steps, question, graph, client, settings, seed=seed, sample=sample)


async def _steps(run: Run) -> Outcome:
    prompt = PROMPT.format(question=show_question(run.question))
    (text,) = await run.ask("answer", prompt, tokens=run.settings.answer_tokens)
    answers, strict = read_answers(text)
    return Outcome(answers, strict, fallback=True)
