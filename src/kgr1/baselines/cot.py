"""Chain of thought: reasoning first, then the list, at temperature 0. One model call, no graph.

The other systems answer this way, too, when the graph gave them nothing.
"""

from __future__ import annotations

from kgr1.baselines.play import Outcome, Run, play
from kgr1.baselines.replies import read_answers
from kgr1.baselines.shown import show_question
from kgr1.config import Settings
from kgr1.graph.api import KnowledgeGraph
from kgr1.models.client import ModelClient
from kgr1.types import Episode, Question

PROMPT = """\
Answer the question from what you know. First reason step by step in a few sentences. Then end with one line that \
holds every answer as a JSON list of strings:
Answer: ["first answer", "second answer"]
Question: {question}"""


async def cot(
    question: Question, graph: KnowledgeGraph, client: ModelClient, settings: Settings, *, seed: int, sample: int = 0
) -> Episode:
    """See :class:`kgr1.baselines.play.System`."""
    return await play("cot", answer_without_graph, question, graph, client, settings, seed=seed, sample=sample)


async def answer_without_graph(run: Run, tokens: int = 0) -> Outcome:
    """One call that reasons and answers from the model alone, in ``tokens``, or ``baseline.answer_tokens`` if 0."""
    (text,) = await run.ask("reason", cot_prompt(run), tokens=tokens or run.settings.answer_tokens)
    answers, strict = read_answers(text, marked=True)
    return Outcome(answers, strict, fallback=True)


def cot_prompt(run: Run) -> str:
    """The prompt for the question of a run."""
    return PROMPT.format(question=show_question(run.question))
