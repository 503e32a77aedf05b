"""ToG, think on graph: a beam search over relations and entities that a model prunes (Sun et al., ICLR 2024).

At every depth, from the frontier: list relations, let the model keep some of each entity (one call an entity), follow
them, let the model weigh the entities found (one call a relation), keep the N best, and ask whether the facts so far
are enough. At most 2ND + D + 1 model calls.

*Ours*: the paper's bound needs at most N calls for the weighing at a depth, while N entities with N relations each can
ask for more; so the N relations with the best scores get a call, and the entities of the others weigh the same. Lists
that do not fit into a prompt are cut by likeness to the question. A question without any fact is answered from the
model alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from kgr1.agent.rank import rank_relations
from kgr1.baselines.cot import answer_without_graph
from kgr1.baselines.play import Outcome, Run, play
from kgr1.baselines.replies import numbered, read_answers, read_picks, read_scores, read_verdict
from kgr1.baselines.shown import show_fact, show_question
from kgr1.baselines.walks import relations_of
from kgr1.config import Settings
from kgr1.datasets.paths import Hop
from kgr1.graph.api import KnowledgeGraph
from kgr1.graph.render import show_name
from kgr1.models.client import ModelClient
from kgr1.types import Episode, Question, Triple

RELATIONS_PROMPT = """\
Which of these relations of "{entity}" help most to answer the question? ^ before a relation means that it points to \
the entity. Pick at most {width} and give each a score between 0 and 1, so that the scores sum to 1. Reply with a JSON \
object from the number of the relation to its score, such as {{"2": 0.7, "5": 0.3}}, and nothing else.
Question: {question}
Relations:
"""

ENTITIES_PROMPT = """\
These entities were found by following the relation "{relation}" from "{entity}". How much does each of them help to \
answer the question? Reply with a JSON list of one score between 0 and 1 for each of them, in their order, so that the \
scores sum to 1, and nothing else.
Question: {question}
Entities:
"""

VERDICT_PROMPT = """\
Are these facts from a knowledge graph, together with what you know, enough to answer the question? Reply with No, or \
with Yes and a JSON list of every answer, such as: Yes ["first answer", "second answer"]
Question: {question}
Facts:
"""

ANSWER_PROMPT = """\
Answer the question with the help of these facts from a knowledge graph and of what you know. Reply with a JSON list \
of strings that holds every answer and nothing else.
Question: {question}
Facts:
"""


@dataclass(frozen=True)
class _Lead:
    """A relation to follow from an entity, with its score."""

    entity: str
    hop: Hop
    score: float


@dataclass(frozen=True)
class _Found:
    """An entity that was found, with the fact that leads there and its score."""

    score: float
    fact: Triple
    entity: str
    hop: Hop


async def tog(
    question: Question, graph: KnowledgeGraph, client: ModelClient, settings: Settings, *, seed: int, sample: int = 0
) -> Episode:
    """See :class:`kgr1.baselines.play.System`."""
    return await play("tog", _steps, question, graph, client, settings, seed=seed, sample=sample)


async def _steps(run: Run) -> Outcome:
    settings = run.settings
    frontier: dict[str, Hop | None] = dict.fromkeys(run.question.topics[: settings.width])
    facts: dict[Triple, None] = {}
    for _ in range(settings.depth):
        found = await _entities(run, await _relations(run, frontier))
        best = sorted(found, key=lambda item: (-item.score, item.fact, item.hop))[: settings.width]
        best = [item for item in best if item.score > 0]
        if not best:
            return await _answer(run, list(facts))
        facts.update(dict.fromkeys(item.fact for item in best))
        enough, answers, strict = await _verdict(run, list(facts))
        if enough:
            return Outcome(answers, strict) if answers else await _answer(run, list(facts))
        frontier = {}
        for item in best:
            frontier.setdefault(item.entity, item.hop)
    return await answer_without_graph(run, run.settings.call_tokens)


async def _relations(run: Run, frontier: dict[str, Hop | None]) -> list[_Lead]:
    """The relations that the model keeps, at most N for each entity of the frontier."""
    settings = run.settings
    listed = await relations_of(run, frontier)
    asked: list[tuple[str, list[Hop], str]] = []
    for entity, came in frontier.items():
        back = Hop(came.relation, not came.backward) if came is not None else None
        hops = [hop for hop in listed[entity] if hop != back and not _skipped(hop.relation, settings.skip_relations)]
        if hops:
            question = show_question(run.question)
            head = RELATIONS_PROMPT.format(entity=show_name(entity, "tree"), width=settings.width, question=question)
            hops = _fitting(run, head, hops)
            asked.append((entity, hops, head + "\n".join(numbered([show_name(str(hop), "tree") for hop in hops]))))
    texts = await run.ask_all(
        "prune relations",
        [prompt for _, _, prompt in asked],
        tokens=settings.call_tokens,
        temperature=settings.explore_temperature,
    )
    return [
        _Lead(entity, hops[position], score)
        for (entity, hops, _), text in zip(asked, texts, strict=True)
        for position, score in read_picks(text, list(map(str, hops)), settings.width).items()
    ]


def _skipped(relation: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(relation, pattern) for pattern in patterns)


def _fitting(run: Run, prompt: str, hops: list[Hop]) -> list[Hop]:
    """The hops in their order; of a list that does not fit, those that are likest to the question."""
    lines = numbered([show_name(str(hop), "tree") for hop in hops])
    room = run.fitting(prompt, lines, run.settings.call_tokens)
    if room == len(hops):
        return hops
    kept = rank_relations(run.question.text, [hop.relation for hop in hops])[:room]
    return [hops[position] for position in sorted(kept)]


async def _entities(run: Run, leads: Sequence[_Lead]) -> list[_Found]:
    """What the kept relations lead to, with relation score times entity score."""
    settings = run.settings
    leads = sorted(leads, key=lambda lead: (-lead.score, lead.entity, lead.hop))
    queries = [lead.hop.entities(lead.entity).model_copy(update={"limit": settings.fetched}) for lead in leads]
    found: list[tuple[_Lead, list[tuple[str, Triple]]]] = []
    for lead, answer in zip(leads, await run.fetch(queries), strict=True):
        pairs = list(zip(answer.names, answer.triples(), strict=True))
        if len(pairs) > settings.candidates:
            chosen = random.Random(f"{run.seed}:{lead.entity}:{lead.hop}").sample(range(len(pairs)), settings.drawn)
            pairs = [pairs[position] for position in sorted(chosen)]
        found.append((lead, pairs))
    weighed = [index for index, (_, pairs) in enumerate(found) if len(pairs) > 1][: settings.width]
    texts = await run.ask_all(
        "prune entities",
        [_entities_prompt(run, *found[index]) for index in weighed],
        tokens=settings.call_tokens,
        temperature=settings.explore_temperature,
    )
    run.show(found[index][1][i][1] for index in weighed for i in range(len(found[index][1])))
    said = dict(zip(weighed, texts, strict=True))
    result = []
    for index, (lead, pairs) in enumerate(found):
        scores = read_scores(said.get(index, ""), len(pairs)) if pairs else []
        result += [
            _Found(lead.score * score, fact, name, lead.hop) for (name, fact), score in zip(pairs, scores, strict=True)
        ]
    return result


def _entities_prompt(run: Run, lead: _Lead, pairs: Sequence[tuple[str, Triple]]) -> str:
    head = ENTITIES_PROMPT.format(
        relation=show_name(str(lead.hop), "tree"),
        entity=show_name(lead.entity, "tree"),
        question=show_question(run.question),
    )
    return head + "\n".join(numbered([show_name(name, "tree") for name, _ in pairs]))


async def _verdict(run: Run, facts: Sequence[Triple]) -> tuple[bool, tuple[str, ...], bool]:
    prompt, shown = _with_facts(run, VERDICT_PROMPT, facts, run.settings.call_tokens)
    (text,) = await run.ask("verdict", prompt, tokens=run.settings.call_tokens)
    return read_verdict(text, [name for fact in shown for name in (fact.head, fact.tail)])


async def _answer(run: Run, facts: Sequence[Triple]) -> Outcome:
    """The answer from the facts so far, or from the model alone if there are none."""
    if not facts:
        return await answer_without_graph(run, run.settings.call_tokens)
    prompt, shown = _with_facts(run, ANSWER_PROMPT, facts, run.settings.call_tokens)
    (text,) = await run.ask("answer", prompt, tokens=run.settings.call_tokens)
    return Outcome(*read_answers(text, [name for fact in shown for name in (fact.head, fact.tail)]))


def _with_facts(run: Run, template: str, facts: Sequence[Triple], tokens: int) -> tuple[str, Sequence[Triple]]:
    head = template.format(question=show_question(run.question))
    lines = list(map(show_fact, facts))
    shown = facts[: run.fitting(head, lines, tokens)]
    run.show(shown)
    return head + "\n".join(lines[: len(shown)]), shown
