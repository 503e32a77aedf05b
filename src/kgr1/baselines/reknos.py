"""ReKnoS, reasoning with super-relations: choose paths of relation groups, see what they lead to (Wang et al., 2025).

At every step the model scores the super-relations that the graph connects to a kept path (one call); the best paths by
the sum of their scores are kept and followed along any member relation, in both directions. At the end one call tells
whether what was found is enough, and one answers: L + 2 calls.

*Ours*: a path that nothing chosen connects to stays as it is and competes with its score; what is shown at the end are
whole walks, not only the entities they end in; and after a "no" the model answers without the graph. How flat
vocabularies are grouped is told in :mod:`kgr1.baselines.super_relations`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kgr1.agent.rank import rank_relations
from kgr1.baselines.cot import answer_without_graph
from kgr1.baselines.play import Outcome, Run, play
from kgr1.baselines.replies import numbered, read_picks, read_verdict
from kgr1.baselines.rog import reason
from kgr1.baselines.shown import show_question, show_topics, show_walk
from kgr1.baselines.super_relations import group_of, name_of
from kgr1.baselines.walks import Walk, grow, relations_of
from kgr1.config import Settings
from kgr1.datasets.paths import Hop
from kgr1.graph.api import KnowledgeGraph
from kgr1.graph.render import show_name
from kgr1.models.client import ModelClient
from kgr1.types import Episode, Question

SCORE_PROMPT = """\
A question is answered by walking through a knowledge graph from its topic. These are groups of relations that can be \
followed in step {step} of {steps}. Which of them lead to the answer? Pick at most {width} and give each a score \
between 0 and 1, so that the scores sum to 1. Reply with a JSON object from the number of the group to its score, such \
as {{"2": 0.7, "5": 0.3}}, and nothing else.
Question: {question}
Topic: {topics}
Groups:
"""

VERDICT_PROMPT = """\
Do these walks through a knowledge graph lead to the answer of the question? Reply with Yes or No and nothing else.
Question: {question}
Walks:
"""


@dataclass(frozen=True)
class _Path:
    """A path of groups with its score, and the walks that follow it."""

    groups: tuple[str, ...]
    score: float
    walks: tuple[Walk, ...]


async def reknos(
    question: Question, graph: KnowledgeGraph, client: ModelClient, settings: Settings, *, seed: int, sample: int = 0
) -> Episode:
    """See :class:`kgr1.baselines.play.System`."""
    return await play("reknos", _steps, question, graph, client, settings, seed=seed, sample=sample)


async def _steps(run: Run) -> Outcome:
    walks = await _explore(run)
    if not walks:
        return await answer_without_graph(run)
    prompt = VERDICT_PROMPT.format(question=show_question(run.question))
    lines = list(map(show_walk, walks))
    shown = walks[: run.fitting(prompt, lines, run.settings.call_tokens)]
    run.show(fact for walk in shown for fact in walk.facts)
    (text,) = await run.ask("verdict", prompt + "\n".join(lines[: len(shown)]), tokens=run.settings.call_tokens)
    if not read_verdict(text)[0]:
        return await answer_without_graph(run)
    return await reason(run, walks, step="answer")


async def _explore(run: Run) -> list[Walk]:
    """The walks of the best paths, one for each entity that they end in, at most ``baseline.end_entities``."""
    topics = tuple(Walk(topic) for topic in dict.fromkeys(run.question.topics))
    paths = [_Path((), 0.0, topics)]
    known: dict[str, list[Hop]] = {}
    for step in range(run.settings.depth):
        ends = [walk.end for path in paths for walk in path.walks if walk.end not in known]
        known |= await relations_of(run, ends)
        options = [_groups(path, known) for path in paths]
        scores = await _score(run, options, known, step)
        if not scores:
            break
        paths = await _extend(run, paths, options, scores, known)
    ends_seen: dict[str, Walk] = {}
    for path in paths:
        for walk in path.walks:
            if walk.facts:
                ends_seen.setdefault(walk.end, walk)
    return list(ends_seen.values())[: run.settings.end_entities]


def _groups(path: _Path, known: Mapping[str, Sequence[Hop]]) -> set[str]:
    """The groups that the graph connects to the ends of a path."""
    return {group_of(hop.relation) for walk in path.walks for hop in known[walk.end]}


async def _score(
    run: Run, options: Sequence[set[str]], known: Mapping[str, Sequence[Hop]], step: int
) -> dict[str, float]:
    """The groups that the model picks among all that can follow, with scores that sum to 1; empty if it picks none."""
    members: dict[str, set[str]] = {}
    for hops in known.values():
        for hop in hops:
            members.setdefault(group_of(hop.relation), set()).add(hop.relation)
    groups = sorted(set().union(*options))
    if not groups:
        return {}
    names = [name_of(group, members[group]) for group in groups]
    settings = run.settings
    prompt = SCORE_PROMPT.format(
        step=step + 1,
        steps=settings.depth,
        width=settings.width,
        question=show_question(run.question),
        topics=show_topics(run.question),
    )
    lines = numbered([show_name(name, "tree") for name in names])
    room = run.fitting(prompt, lines, settings.call_tokens)
    if room < len(groups):
        kept = sorted(rank_relations(run.question.text, names)[:room])
        groups, names = [groups[i] for i in kept], [names[i] for i in kept]
        lines = numbered([show_name(name, "tree") for name in names])
    (text,) = await run.ask("score groups", prompt + "\n".join(lines), tokens=settings.call_tokens)
    return {groups[i]: score for i, score in read_picks(text, names, settings.width).items()}


async def _extend(
    run: Run,
    paths: Sequence[_Path],
    options: Sequence[set[str]],
    scores: Mapping[str, float],
    known: Mapping[str, Sequence[Hop]],
) -> list[_Path]:
    """The best paths, each with one group more where one was picked that connects to it, and their walks."""
    grown: list[tuple[_Path, str]] = []
    for path, groups in zip(paths, options, strict=True):
        picked = [group for group in scores if group in groups]
        grown += [(path, group) for group in picked] if picked else [(path, "")] if path.groups else []
    grown.sort(key=lambda item: (-round(item[0].score + scores.get(item[1], 0.0), 9), item[0].groups, item[1]))
    result = []
    for path, group in grown[: run.settings.kept_paths]:
        if not group:
            result.append(path)
            continue

        def members(walk: Walk, group: str = group) -> list[Hop]:
            return [hop for hop in known[walk.end] if group_of(hop.relation) == group]

        walks = await grow(run, path.walks, members, run.settings.max_walks)
        walks = _few_ends(walks, run.settings.step_entities)
        if walks:
            result.append(_Path((*path.groups, group), path.score + scores[group], tuple(walks)))
    return result


def _few_ends(walks: Sequence[Walk], most: int) -> list[Walk]:
    """One walk to each of the first ``most`` entities that they end in."""
    first: dict[str, Walk] = {}
    for walk in walks:
        if len(first) == most:
            break
        first.setdefault(walk.end, walk)
    return list(first.values())
