"""The planner of RoG: from a question to relation paths.

A tuned planner has learned to write ``<path>r1<sep>r2</path>`` from (question, path) pairs, see
:func:`kgr1.datasets.plans.planner_pairs`; :func:`plan_prompt` and :func:`plan_target` are what it is trained on. A
prompted planner is any model that is shown relations and asked for paths of them as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kgr1.agent.rank import rank_relations
from kgr1.baselines.play import Run
from kgr1.baselines.replies import read_paths
from kgr1.baselines.shown import show_question, show_topics
from kgr1.baselines.walks import Walk, grow, relations_of
from kgr1.datasets.paths import Hop, Path
from kgr1.graph.render import neutralise, show_name
from kgr1.models.client import ModelClient
from kgr1.types import Question

TUNED_PROMPT = """\
Name the path of relations that leads from the topic to the answer.
Question: {question}
Topic: {topics}"""

PROMPTED = """\
Which chains of relations in a knowledge graph lead from the topic to the answer of the question? Choose from the \
relations below; ^ before a relation follows it backwards. Reply with a JSON list of {paths} chains of at most {hops} \
relations each, the likeliest first, such as [["relation a", "relation b"], ["relation c"]], and nothing else.
Question: {question}
Topic: {topics}{note}
Relations:
"""

NOTE = "\nNo chain like these exists, so name others: {paths}"

_PLAN = re.compile(r"\s*<path>(.+)</path>\s*", re.DOTALL)
_NEAR = 50  # entities one hop away whose relations a prompted planner is shown


def plan_prompt(question: Question) -> str:
    """What a tuned planner reads."""
    return TUNED_PROMPT.format(question=show_question(question), topics=show_topics(question))


def plan_target(path: Path) -> str:
    """What a tuned planner is to write.

    >>> plan_target((Hop("mayor"), Hop("born in", backward=True)))
    '<path>mayor<sep>^born in</path>'
    """
    return f"<path>{'<sep>'.join(neutralise(str(hop)) for hop in path)}</path>"


def read_plan(text: str, *, longest: int, backward: bool) -> Path | None:
    """The path in the reply of a tuned planner; None if it is not exactly one path that may be walked.

    >>> [str(hop) for hop in read_plan("<path>mayor<sep>born in</path>", longest=3, backward=False)]
    ['mayor', 'born in']
    """
    found = _PLAN.fullmatch(text)
    if found is None or "<path>" in found[1] or "</path>" in found[1]:
        return None
    return _path([step.strip() for step in found[1].split("<sep>")], longest=longest, backward=backward)


def _path(steps: Sequence[str], *, longest: int, backward: bool) -> Path | None:
    path = tuple(Hop.parse(step) for step in steps)
    usable = 0 < len(path) <= longest and all(hop.relation and (backward or not hop.backward) for hop in path)
    return path if usable else None


async def tuned_plans(run: Run, planner: ModelClient) -> list[Path]:
    """The paths of a beam search, best first; beams that cannot be read are dropped."""
    settings = run.settings
    texts = await run.ask(
        "plan",
        plan_prompt(run.question),
        tokens=settings.plan_tokens,
        n=settings.beams,
        beams=settings.beams,
        client=planner,
    )
    read = [read_plan(text, longest=settings.depth, backward=settings.backward) for text in texts]
    return list(dict.fromkeys(path for path in read if path is not None))


async def prompted_plans(run: Run, relations: Sequence[str], tried: Sequence[Path], planner: ModelClient) -> list[Path]:
    """The paths that a model writes when it is shown relations; ``tried`` are paths that lead nowhere."""
    settings = run.settings
    listed = "; ".join(" > ".join(show_name(str(hop)) for hop in path) for path in tried)
    prompt = PROMPTED.format(
        paths=settings.beams,
        hops=settings.depth,
        question=show_question(run.question),
        topics=show_topics(run.question),
        note=NOTE.format(paths=listed) if tried else "",
    )
    lines = [show_name(name, "tree") for name in relations]
    shown = run.fitting(prompt, lines, settings.plan_tokens)
    (text,) = await run.ask("plan", prompt + "\n".join(lines[:shown]), tokens=settings.plan_tokens, client=planner)
    read = [
        _path(steps, longest=settings.depth, backward=settings.backward)
        for steps in read_paths(text, most=settings.beams, longest=settings.depth)
    ]
    return [path for path in read if path is not None and path not in tried]


async def near_relations(run: Run) -> list[str]:
    """The relations within two hops of the topics, the likeliest for the question first."""
    backward = run.settings.backward
    topics = [Walk(topic) for topic in dict.fromkeys(run.question.topics)]
    first = await relations_of(run, (walk.end for walk in topics), backward=backward)
    walks = await grow(run, topics, lambda walk: first[walk.end], run.settings.max_walks)
    ends = list(dict.fromkeys(walk.end for walk in walks))[:_NEAR]
    second = await relations_of(run, ends, backward=backward)
    names = sorted({str(hop) for hops in (*first.values(), *second.values()) for hop in hops})
    return [names[i] for i in rank_relations(run.question.text, names)][: run.settings.plan_relations]
