"""``kgr1 ask``: one question, with the way to its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from kgr1.cli.bars import busy
from kgr1.cli.console import emit, one_line, out, styled
from kgr1.cli.options import Config, GraphSpec, ModelSpec, Overrides, sampled_settings

if TYPE_CHECKING:
    from kgr1.agent.link import Link
    from kgr1.agent.policy import Policy
    from kgr1.config import Settings
    from kgr1.graph.api import KnowledgeGraph
    from kgr1.types import Episode, Question


def ask(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question, in quotes.")],
    graph: GraphSpec,
    topic: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="An entity that the question is about; repeat it for several. Found in the text if left out.",
        ),
    ] = None,
    model: ModelSpec = None,
    max_turns: Annotated[int | None, typer.Option(min=1, help="Turns of the agent, the answer included.")] = None,
    runs: Annotated[int, typer.Option(min=1, max=64, help="Sampled runs whose answers are put together.")] = 1,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="0 takes the likeliest token; 1.0 by default with several runs.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the sampling; 0 by default.")] = None,
    abstain: Annotated[bool, typer.Option("--abstain", help="Withhold answers that no shown fact leads to.")] = False,
    config: Config = None,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object with answers and episodes.")] = False,
) -> None:
    """Answer one question from a graph, showing every step and the facts behind the answer."""
    from kgr1.cli import trace
    from kgr1.cli.loading import check_sampling, load_policy
    from kgr1.cli.quiet import quiet_libraries
    from kgr1.cli.sources import open_graph, resolve_topics
    from kgr1.config import DEFAULT_AGENT
    from kgr1.types import Question

    if not question.strip():
        raise typer.BadParameter("the question is empty.", param_hint="QUESTION")
    model = model or DEFAULT_AGENT
    check_sampling(model)
    given = [*(overrides or ()), *(["agent.abstain=true"] if abstain else [])]
    settings = sampled_settings(
        config, given, runs=runs, temperature=temperature, seed=seed, max_turns=max_turns, model=model
    )
    with open_graph(graph) as opened, quiet_libraries():
        topics = resolve_topics(opened, topic) if topic else _find_topics(question, opened, quiet=as_json)
        asked = Question(id="ask", text=question, topics=topics, answers=())
        policy = load_policy(model, max_rows=min(runs, 16), endpoint=settings.endpoint, dtype=settings.sampling.dtype)
        episodes = asyncio.run(_play(asked, opened, policy, settings, runs, live=runs == 1 and not as_json))
    if as_json:
        emit(trace.as_json(asked, episodes, settings.agent))
    else:
        for number, episode in enumerate(episodes, start=1):
            if runs > 1:
                out.print(Text(f"Run {number} of {runs}", style="bold"))
                trace.print_episode(episode)
        trace.print_answers(episodes, settings.agent)
    _raise_if_all_failed(episodes)


def _raise_if_all_failed(episodes: Sequence[Episode]) -> None:
    from kgr1.errors import GraphError, ModelError
    from kgr1.types import StopReason

    if all(episode.stop is StopReason.GRAPH_ERROR for episode in episodes):
        raise GraphError(episodes[0].error)
    if all(episode.stop is StopReason.POLICY_ERROR for episode in episodes):
        raise ModelError(episodes[0].error)


def _find_topics(question: str, graph: KnowledgeGraph, *, quiet: bool) -> tuple[str, ...]:
    """The entities that the question names; says which they are."""
    from kgr1.agent.link import link

    found = link(question, graph)
    if not found:
        raise typer.BadParameter(
            "the question holds no name that was found in this graph; name the entity that it is about, e.g. "
            "--topic France.",
            param_hint="--topic",
        )
    if not quiet:
        shown = ", ".join(_describe(each) for each in found)
        out.print(Text.assemble(("Topic: " if len(found) == 1 else "Topics: ", "dim"), styled(shown)))
    return tuple(each.name for each in found)


def _describe(found: Link) -> str:
    """A topic, with what was written if that is something else, and the number of its namesakes."""
    from kgr1.agent.spans import without_possessive
    from kgr1.graph.names import lookup_key

    remarks = []
    written = without_possessive(found.text)
    if lookup_key(written) != lookup_key(found.name):
        remarks.append(f"for {written}")
    if found.others:
        remarks.append(f"{len(found.others)} more could be meant, such as {found.others[0]}")
    return one_line(f"{found.name} ({'; '.join(remarks)})" if remarks else found.name)


async def _play(
    question: Question,
    graph: KnowledgeGraph,
    policy: Policy,
    settings: Settings,
    runs: int,
    *,
    live: bool,
) -> list[Episode]:
    from kgr1.agent.rollout import run_episodes
    from kgr1.cli.trace import watch
    from kgr1.grpo.batch import episode_seed

    sampling = [
        settings.sampling.model_copy(update={"seed": episode_seed(settings.sampling.seed, 0, question.text, run)})
        for run in range(runs)
    ]
    with busy("Thinking", out):
        return await run_episodes(
            [question] * runs,
            graph,
            watch(policy) if live else policy,
            agent=settings.agent,
            sampling=sampling,
            samples=range(runs),
        )
