"""``kgr1 evaluate``: a system on a question set, into a folder that can be resumed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markdown import Markdown

from kgr1.cli.bars import StepBar
from kgr1.cli.console import clean, note, out, warn
from kgr1.cli.options import (
    Config,
    GraphSpec,
    Hops,
    Limit,
    ModelSpec,
    Out,
    Overrides,
    QuestionsSpec,
    Split,
    Subset,
    SystemName,
    sampled_settings,
)

if TYPE_CHECKING:
    from kgr1.agent.policy import Policy
    from kgr1.baselines.play import System
    from kgr1.config import Settings
    from kgr1.evaluation.metrics import Summary
    from kgr1.evaluation.run import EpisodeRunner, Progress
    from kgr1.graph.api import KnowledgeGraph
    from kgr1.models.client import ModelClient
    from kgr1.types import Question

PolicyName = Literal["model", "oracle"]
Planner = Annotated[
    str | None, typer.Option(metavar="NAME", help="The model that plans for RoG; by default the one that answers.")
]
Concurrency = Annotated[int, typer.Option(min=1, max=4096, help="Episodes that run at once.")]
Link = Annotated[
    bool, typer.Option("--link", help="Find the topics in the text; those that the questions give are not used.")
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Play episodes again in which the model or the graph failed.")
]


def evaluate(
    graph: GraphSpec,
    questions: QuestionsSpec,
    target: Out,
    model: ModelSpec = None,
    policy: Annotated[
        PolicyName, typer.Option(help="'oracle' is the expert that knows the answers; it needs no model.")
    ] = "model",
    system: Annotated[
        SystemName, typer.Option(help="Who plays: the agent, or one of the systems that it is compared with.")
    ] = "agent",
    planner: Planner = None,
    subset: Subset = None,
    hops: Hops = None,
    split: Split = None,
    limit: Limit = None,
    runs: Annotated[int, typer.Option(min=1, max=1000, help="Runs of each question.")] = 1,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="0 takes the likeliest token; 1.0 by default with several runs.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the sampling and of the draw of --limit; 0 by default.")
    ] = None,
    config: Config = None,
    overrides: Overrides = None,
    concurrency: Concurrency = 32,
    link: Link = False,
    retry_failed: RetryFailed = False,
) -> None:
    """Play the questions, score the answers, and write episodes and numbers to a folder.

    Run the same command again to go on with a run that was interrupted. Folders are compared with 'kgr1 diff'.
    """
    from kgr1.cli.loading import check_sampling
    from kgr1.cli.quiet import quiet_libraries
    from kgr1.cli.sources import load_question_set, open_graph

    if (model is None) == (policy == "model"):
        raise typer.BadParameter("name what to evaluate: either --model NAME or --policy oracle.", param_hint="--model")
    if policy == "oracle" and system != "agent":
        raise typer.BadParameter("the expert plays the agent's part only.", param_hint="--policy")
    check_sampling(model, planner)
    settings = sampled_settings(config, overrides, runs=runs, temperature=temperature, seed=seed, model=model)
    asked = load_question_set(
        questions,
        split=split,
        usual="test",
        subset=subset,
        hops=hops,
        limit=limit,
        seed=settings.sampling.seed,
        max_turns=settings.agent.max_turns,
    )
    with quiet_libraries(), open_graph(graph) as opened:
        asked = with_topics(asked, opened, link=link)
        runner_, described = _player(model, system, planner, opened, settings, concurrency)
        made_of = made_with(described, opened, settings, link=link)
        summary, failures = play(asked, runner_, target, made_of, runs, concurrency, retry_failed)
    print_summary(summary, target)
    _warn_of_failures(failures)


def _player(
    model: str | None, system: str, planner: str | None, graph: KnowledgeGraph, settings: Settings, concurrency: int
) -> tuple[EpisodeRunner, dict[str, object]]:
    """What plays a question, and what is recorded about it."""
    if model is None:
        return runner(graph, oracle(graph, settings), settings), {"policy": {"name": "oracle"}}
    from kgr1.baselines.systems import find_system
    from kgr1.cli.loading import load_client

    dtype = settings.sampling.dtype
    client = load_client(model, max_rows=concurrency, endpoint=settings.endpoint, dtype=dtype)
    second = load_client(planner, max_rows=1, endpoint=settings.endpoint, dtype=dtype) if planner is not None else None
    player = find_system(system, client, second)
    record = described(model, system, planner, client=client, settings=settings)
    return system_runner(graph, player, client, settings), record


def described(
    model: str, system: str, planner: str | None = None, *, client: ModelClient | None = None, settings: Settings
) -> dict[str, object]:
    """What is recorded about a system with its models; the ``client`` of one behind an address knows its name."""
    from kgr1.cli.loading import describe
    from kgr1.cli.sources import is_url

    dtype = settings.sampling.dtype
    record: dict[str, object] = {"policy": describe(model, client, dtype=dtype)}
    if is_url(model):
        seen = settings.endpoint
        record["endpoint"] = {"context": seen.context, "continue_reply": seen.continue_reply}
    if system != "agent":
        record |= {"system": system, "baseline": settings.baseline.model_dump(mode="json")}
    if planner is not None:
        record["planner"] = describe(planner, dtype=dtype)
    return record


def with_topics(questions: Sequence[Question], graph: KnowledgeGraph, *, link: bool) -> list[Question]:
    """The questions as they are asked; says so if they seem to be about another graph."""
    from kgr1.cli.matching import mind_topics

    if link:
        return linked(questions, graph)
    mind_topics(questions, graph)
    return list(questions)


def linked(questions: Sequence[Question], graph: KnowledgeGraph) -> list[Question]:
    """The questions with the topics that their texts name instead of their own; says how often those were found."""
    from kgr1.agent.link import link
    from kgr1.graph.names import lookup_key

    linked, met, same = [], 0, 0
    for question in questions:
        topics = tuple(found.name for found in link(question.text, graph, graph_id=question.graph_id))
        given, found = set(map(lookup_key, question.topics)), set(map(lookup_key, topics))
        met += bool(given & found)
        same += given == found
        linked.append(question.model_copy(update={"topics": topics}))
    if questions:
        note(
            f"Topics found in the text: exactly the given ones in {same / len(questions):.1%} of the questions, "
            f"at least one of them in {met / len(questions):.1%}."
        )
    return linked


_LATER = frozenset(
    {
        "page_size",
        "time_filter",
        "rank_relations",
        "expand_mediators",
        "show_namesakes",
        "sets",
        "guided",
        "abstain",
        "min_confidence",
        "ranker_weight",
        "ranker_floor",
        "meaning_weight",
        "ahead_weight",
        "onward",
        "connection_weight",
        "verifier_weight",
        "verifier_onward",
        "comparisons",
        "sentences",
    }
)
"""Settings of the agent that older folders do not know; they are recorded only where they are not at their default."""


def made_with(
    described: dict[str, object], graph: KnowledgeGraph, settings: Settings, *, link: bool = False
) -> dict[str, object]:
    """What must be the same for a folder to be resumed."""
    info = graph.info()
    known: dict[str, object] = {"name": info.name, "triples": info.triples}
    content = getattr(graph, "content_hash", "")  # a server tells none
    if content:
        known["content"] = content
    agent, usual = (each.model_dump(mode="json") for each in (settings.agent, type(settings.agent)()))
    return {
        **described,
        "graph": known,
        "agent": {key: agent[key] for key in agent if key not in _LATER or agent[key] != usual[key]},
        "sampling": settings.sampling.model_dump(mode="json", exclude={"dtype"}),  # the model's is recorded
    } | ({"topics": "linked"} if link else {})


def oracle(graph: KnowledgeGraph, settings: Settings) -> Policy:
    """The expert, which knows gold paths and answers; it gives an empty answer to what it cannot solve."""
    import random

    from kgr1.agent.policy import OraclePolicy
    from kgr1.datasets.expert import Habits, expert_steps
    from kgr1.types import Answer, Query

    habits = Habits(sets=settings.agent.sets)

    def plan(question: Question) -> Sequence[tuple[str, Query | Answer]]:
        rng = random.Random(f"{settings.sampling.seed}:{question.id}")
        turns = settings.agent.max_turns
        steps = expert_steps(question, graph, rng, max_turns=turns, reuse_relations=True, habits=habits)
        if steps is None:
            return [("I see no way to the answer.", Answer(names=()))]
        return [(step.think, step.query or step.answer or Answer(names=())) for step in steps]

    return OraclePolicy(plan)


def system_runner(graph: KnowledgeGraph, system: System, client: ModelClient, settings: Settings) -> EpisodeRunner:
    """Lets a system play one question with the seed that belongs to it."""
    from kgr1.grpo.batch import episode_seed
    from kgr1.types import Episode

    async def play(question: Question, sample: int) -> Episode:
        await asyncio.sleep(0)
        seed = episode_seed(settings.sampling.seed, 0, question.id, sample)
        return await system(question, graph, client, settings, seed=seed, sample=sample)

    return play


def runner(graph: KnowledgeGraph, policy: Policy, settings: Settings) -> EpisodeRunner:
    """Plays one question with the seed that belongs to it."""
    from kgr1.agent.claim import withhold
    from kgr1.agent.rollout import run_episode
    from kgr1.grpo.batch import episode_seed
    from kgr1.types import Episode

    async def play(question: Question, sample: int) -> Episode:
        await asyncio.sleep(0)  # a policy that never waits would keep Ctrl-C waiting until the last question
        seed = episode_seed(settings.sampling.seed, 0, question.id, sample)
        sampling = settings.sampling.model_copy(update={"seed": seed})
        episode = await run_episode(question, graph, policy, agent=settings.agent, sampling=sampling, sample=sample)
        return withhold(episode, settings.agent)

    return play


def play(
    questions: Sequence[Question],
    episode_runner: EpisodeRunner,
    target: Path,
    made_with: dict[str, object],
    runs: int,
    concurrency: int,
    retry_failed: bool,
) -> tuple[Summary, Counter[str]]:
    """Run the evaluation with a progress bar; also counts failures by their message."""
    from kgr1.cli.failures import keeping
    from kgr1.evaluation.run import evaluate as run_evaluation
    from kgr1.rewards.answer import score_answers

    scores: list[float] = []
    failures: Counter[str] = Counter()
    with StepBar("Evaluating", "episode") as bar:

        def report(progress: Progress) -> None:
            episode = progress.episode
            scores.append(score_answers(episode.answers, episode.question.answers, episode.answer_ids).f1)
            if episode.error:
                failures[episode.error] += 1
            if len(scores) == 1 and progress.resumed:
                note(f"Going on: {progress.resumed} of {progress.total} episodes were there already.")
            bar.update(progress.done, progress.total, {"f1": f"{sum(scores) / len(scores):.3f}"})

        def kept() -> str:
            return f"Kept: {bar.done} episodes in {target}; run the same command again to go on."

        with keeping(kept):
            summary = asyncio.run(
                run_evaluation(
                    questions,
                    episode_runner,
                    target,
                    settings=made_with,
                    samples=runs,
                    concurrency=concurrency,
                    retry_failed=retry_failed,
                    progress=report,
                )
            )
    return summary, failures


def print_summary(summary: Summary, target: Path) -> None:
    """The table of a run."""
    from kgr1.evaluation.report import summary_table

    print_table(summary_table(summary))
    note(f"Episodes and numbers are in {target}.")


def print_table(markdown: str) -> None:
    """Markdown as a table on a terminal, as it is elsewhere."""
    text = clean(markdown)
    out.print(Markdown(text, hyperlinks=False) if out.is_terminal else text.rstrip("\n"))


def _warn_of_failures(failures: Counter[str]) -> None:
    if failures:
        (message, _), *_ = failures.most_common(1)
        warn(
            f"{failures.total()} episodes failed and count 0; most often: {message} "
            "Run the same command with --retry-failed to play them again."
        )
