"""RoG, reasoning on graphs: plan relation paths, follow them, reason over the walks (Luo et al., ICLR 2024).

1. Plan: a tuned planner writes paths by beam search, or a prompted one chooses from the relations near the topic.
2. Retrieve: from each topic entity, breadth first, crossing at depth i only edges of the path's i-th relation.
3. Reason: walks and question in, a list of answers out. Without this step the ends of the walks are the answers.

Two model calls; three with a prompted planner whose first paths led nowhere. *Ours*: walks are cut at
``baseline.max_walks``, and a question for which no walk was found is answered from the model alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from kgr1.baselines.cot import answer_without_graph
from kgr1.baselines.plans import near_relations, prompted_plans, tuned_plans
from kgr1.baselines.play import Outcome, Run, play
from kgr1.baselines.replies import read_answers
from kgr1.baselines.shown import show_question, show_walk
from kgr1.baselines.walks import Walk, grow
from kgr1.config import Settings
from kgr1.datasets.paths import Path
from kgr1.graph.api import KnowledgeGraph
from kgr1.models.client import ModelClient
from kgr1.types import Episode, Question

PROMPT = """\
Answer the question with the help of these walks through a knowledge graph, one on a line. A walk leads from entity to \
entity along relations; ^ before a relation means that it points the other way. Reply with a JSON list of strings that \
holds every answer, with names copied from the walks, and nothing else.
Question: {question}
Walks:
"""


@dataclass(frozen=True)
class Rog:
    """One variant; calling it plays a question, see :class:`kgr1.baselines.play.System`.

    ``tuned`` chooses the planner, ``reasons`` whether a model reads the walks. ``planner`` is the model that plans,
    where it is not the one that reasons.
    """

    tuned: bool = True
    reasons: bool = True
    planner: ModelClient | None = None

    @property
    def name(self) -> str:
        """The name of the variant."""
        return f"rog{'' if self.tuned else '-prompted'}{'' if self.reasons else '-retrieval'}"

    async def __call__(
        self,
        question: Question,
        graph: KnowledgeGraph,
        client: ModelClient,
        settings: Settings,
        *,
        seed: int,
        sample: int = 0,
    ) -> Episode:
        """Play one question."""
        return await play(self.name, self._steps, question, graph, client, settings, seed=seed, sample=sample)

    async def _steps(self, run: Run) -> Outcome:
        walks = await (self._tuned(run) if self.tuned else self._prompted(run))
        if self.reasons:
            return await reason(run, walks) if walks else await answer_without_graph(run)
        run.show(fact for walk in walks for fact in walk.facts)
        return Outcome(tuple(dict.fromkeys(walk.end for walk in walks)), strict=True)

    async def _tuned(self, run: Run) -> list[Walk]:
        return await follow(run, await tuned_plans(run, self.planner or run.client))

    async def _prompted(self, run: Run) -> list[Walk]:
        relations = await near_relations(run)
        tried: list[Path] = []
        for _ in range(2):
            paths = await prompted_plans(run, relations, tried, self.planner or run.client)
            walks = await follow(run, paths)
            if walks:
                return walks
            tried += paths
        return []


async def follow(run: Run, paths: Sequence[Path]) -> list[Walk]:
    """The walks from the topics along each path in full; those of the first path come first."""
    found: dict[Walk, None] = {}
    for path in paths:
        walks = [Walk(topic) for topic in dict.fromkeys(run.question.topics)]
        for hop in path:
            walks = await grow(run, walks, dict.fromkeys(walks, (hop,)).__getitem__, run.settings.max_walks)
        found.update(dict.fromkeys(walks))
    return list(found)[: run.settings.max_walks]


async def reason(run: Run, walks: Sequence[Walk], step: str = "reason") -> Outcome:
    """Answer from walks; when they do not all fit, those that do are drawn with a fixed seed."""
    prompt = PROMPT.format(question=show_question(run.question))
    tokens = run.settings.answer_tokens
    chosen = list(walks)
    if run.fitting(prompt, list(map(show_walk, chosen)), tokens) < len(chosen):
        random.Random(run.seed).shuffle(chosen)
    chosen = chosen[: run.fitting(prompt, list(map(show_walk, chosen)), tokens)]
    run.show(fact for walk in chosen for fact in walk.facts)
    (text,) = await run.ask(step, prompt + "\n".join(map(show_walk, chosen)), tokens=tokens)
    names = [name for walk in chosen for fact in walk.facts for name in (fact.head, fact.tail)]
    return Outcome(*read_answers(text, names))
