"""``kgr1 coldstart``: supervised fine-tuning on expert trajectories, before reinforcement learning."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kgr1.cli.bars import StepBar, busy
from kgr1.cli.console import duration, facts, note, one_line, out
from kgr1.cli.failures import keeping
from kgr1.cli.options import (
    Config,
    Force,
    Limit,
    MixtureFile,
    Out,
    Overrides,
    Resume,
    SomeGraph,
    SomeQuestions,
    Split,
    Subset,
    Without,
    resolve_settings,
)

if TYPE_CHECKING:
    from kgr1.cli.mixing import Material
    from kgr1.config import AgentSettings, Settings
    from kgr1.datasets.expert import Step
    from kgr1.graph.api import KnowledgeGraph
    from kgr1.grpo.coldstart import Example
    from kgr1.types import Question

    Layout = Callable[[Any], list[Example]]
    """Makes training examples with a tokenizer."""


Planner = Annotated[
    bool,
    typer.Option(
        "--planner",
        help="Train the planner of the baseline RoG instead: from a question to the relations of a shortest path.",
    ),
]


def coldstart(
    target: Out,
    graph: SomeGraph = None,
    questions: SomeQuestions = None,
    mixture: MixtureFile = None,
    without: Without = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="NAME", help="The model to start from: folder, GGUF file or hub name."),
    ] = None,
    subset: Subset = None,
    split: Split = None,
    limit: Limit = None,
    config: Config = None,
    overrides: Overrides = None,
    planner: Planner = False,
    resume: Resume = False,
    force: Force = False,
) -> None:
    """Teach a model the protocol: fine-tune it on trajectories of an expert that walks the graph.

    The expert's trajectories are made from the questions; how many, and how they are learned, is set in the table
    'coldstart' of the settings. The result is DIR/policy, a model for 'kgr1 train --start'.
    """
    from kgr1.cli import loading, runs
    from kgr1.cli.mixing import open_material
    from kgr1.cli.quiet import quiet_libraries
    from kgr1.config import DEFAULT_MODEL

    loading.check_installed(loading.TRAINING)
    runs.refuse_used(target, resume=resume, force=force)
    settings = resolve_settings(config, overrides)
    name = loading.portable_name(model or DEFAULT_MODEL)
    seed, asked = settings.coldstart.seed, settings.agent
    material = open_material(
        graph, questions, mixture, without=without, split=split, subset=subset, limit=limit, seed=seed, agent=asked
    )
    with keeping(lambda: what_is_kept(target)), quiet_libraries(), material as given:
        record = runs.run_record(
            "coldstart --planner" if planner else "coldstart",
            settings,
            ("baseline", "coldstart") if planner else ("agent", "coldstart"),
            seed=seed,
            model=name,
            **given.record,
        )
        layout, record["questions"] = (planner_material if planner else agent_material)(given, settings)
        loading.require(loading.TRAINING)
        loading.check_model(name)
        loading.mind_numbers(settings.coldstart.dtype, "coldstart.dtype")
        with runs.held(target):
            going_on = runs.prepare(target, record, resume=resume, force=force)
            agent = None if planner else settings.agent
            fine_tune(name, layout, target, settings, agent=agent, going_on=going_on)


def expert_trajectories(given: Material, settings: Settings) -> list[tuple[Question, list[Step]]]:
    """What the expert does on the questions, the parts of a mixture by their weights.

    Of a mixture it may take all questions, or those that --limit has drawn. Raises :class:`kgr1.errors.DatasetError` if
    it can do none of a part, or none but those that the part leaves out.
    """
    from kgr1.datasets.expert import Habits, expert_dataset
    from kgr1.datasets.mixture import quotas
    from kgr1.errors import DatasetError

    parts = {"": given.questions} if given.pools is None else given.pools
    weights = {"": 1.0} if given.mixture is None else given.mixture.weights
    skips = {"": 0} if given.mixture is None else given.mixture.skips
    shares = quotas(settings.coldstart.trajectories, weights, parts)
    result: list[tuple[Question, list[Step]]] = []
    taken: dict[str, int] = {}
    with busy("Walking the graph"):
        for part, questions in parts.items():
            found = expert_dataset(
                questions,
                given.graph,
                count=skips[part] + shares[part],
                seed=settings.coldstart.seed,
                max_turns=settings.agent.max_turns,
                recovery_share=settings.coldstart.recovery_share,
                wander_share=settings.coldstart.wander_share,
                early_share=settings.coldstart.early_share,
                near_share=settings.coldstart.near_share,
                habits=Habits(settings.coldstart.thoughts, settings.coldstart.outwards_first, settings.agent.sets),
            )
            if not found and shares[part]:
                raise DatasetError(
                    f"None of the {len(questions)} questions {f'of {part} ' if part else ''}has a path of at most "
                    f"{settings.agent.max_turns} turns in this graph; check that questions and graph belong together, "
                    "or raise agent.max_turns."
                )
            if len(found) <= skips[part] and shares[part]:
                raise DatasetError(
                    f"The part '{part}' has {len(found)} trajectories and leaves {skips[part]} of them out; lower its "
                    "skip.",
                    part=part,
                )
            result += found[skips[part] :]
            taken[part] = len(found[skips[part] :])
    if given.mixture is not None:
        note(f"Trajectories: {', '.join(f'{part} {count}' for part, count in taken.items())}.")
        random.Random(settings.coldstart.seed).shuffle(result)
    return result


def agent_material(given: Material, settings: Settings) -> tuple[Layout, dict[str, Any]]:
    """What the agent is trained on, and what run.json says about its questions; says how much that is."""
    from kgr1.cli.mixing import mind_times

    trajectories = expert_trajectories(given, settings)
    learned = [question for question, _ in trajectories]
    mind_times(learned, settings.agent)
    count = len(given.questions) if given.pools is None else sum(map(len, given.pools.values()))
    note(f"{len(trajectories)} expert trajectories from {count} questions.")
    return agent_layout(trajectories, given.graph, settings), _learned_record(given, learned)


def _learned_record(given: Material, learned: list[Question]) -> dict[str, Any]:
    """Of a mixture, whose questions are many times more than are learned, those that there is a trajectory of."""
    from kgr1.cli.runs import question_record

    asked: dict[str, Any] = given.record["questions"]
    if given.mixture is None:
        return asked
    skips = {part: skip for part, skip in given.mixture.skips.items() if skip}
    return {**asked, **question_record(learned), **({"skip": skips} if skips else {})}


def planner_material(given: Material, settings: Settings) -> tuple[Layout, dict[str, Any]]:
    """What a planner is trained on, and what run.json says about its questions; says how much that is."""
    pairs = plans(given.questions, given.graph, settings)
    note(f"{len(pairs)} relation paths of {len({prompt for prompt, _ in pairs})} questions.")

    def layout(tokenizer: Any) -> list[Example]:
        from kgr1.grpo.coldstart import text_examples

        return text_examples(pairs, tokenizer)

    return layout, given.record["questions"]


def plans(questions: list[Question], graph: KnowledgeGraph, settings: Settings) -> list[tuple[str, str]]:
    """What a planner reads and is to write; raises :class:`kgr1.errors.DatasetError` if no question has a path."""
    from kgr1.baselines.plans import plan_prompt, plan_target
    from kgr1.datasets.plans import planner_pairs
    from kgr1.errors import DatasetError

    with busy("Walking the graph"):
        found = planner_pairs(
            questions,
            graph,
            count=settings.coldstart.trajectories,
            seed=settings.coldstart.seed,
            max_hops=settings.baseline.depth,
            backward=settings.baseline.backward,
        )
    if not found:
        raise DatasetError(
            f"None of the {len(questions)} questions has a path of at most {settings.baseline.depth} relations from a "
            "topic to an answer; check that questions and graph belong together, or set baseline.backward=true."
        )
    return [(plan_prompt(question), plan_target(path)) for question, path in found]


def agent_layout(trajectories: list[tuple[Question, list[Step]]], graph: KnowledgeGraph, settings: Settings) -> Layout:
    """Lays out what the agent is trained on."""

    def layout(tokenizer: Any) -> list[Example]:
        from kgr1.grpo.coldstart import build_examples

        examples = build_examples(trajectories, graph, tokenizer, settings.agent)
        if len(examples) < len(trajectories):
            note(f"{len(trajectories) - len(examples)} of them left out: what they say was not shown to the agent.")
        return examples

    return layout


def fine_tune(
    name: str, layout: Layout, target: Path, settings: Settings, *, agent: AgentSettings | None, going_on: bool
) -> None:
    """Fine-tune a model on what ``layout`` makes, with a progress bar and a closing table."""
    from kgr1.cli.loading import no_stdout
    from kgr1.cli.model_card import describe
    from kgr1.grpo.coldstart import train_coldstart
    from kgr1.models.weights import load_model

    with busy(f"Loading {name}"):
        loaded = load_model(name, merge=False)
    with busy("Laying out the trajectories"):
        examples = layout(loaded.tokenizer)
    losses: list[float] = []
    with StepBar("Cold start", "step") as bar:

        def report(step: int, steps: int, values: dict[str, float]) -> None:
            losses.extend(values[key] for key in ("loss",) if key in values)
            bar.update(step, steps, {"loss": f"{losses[-1]:.3f}"} if losses else {})

        with keeping(lambda: what_is_kept(target, bar)), no_stdout():
            policy = train_coldstart(
                loaded, examples, target, settings.coldstart, agent=agent, resume=going_on, on_step=report
            )
        rows: list[tuple[str, str]] = [("examples", str(len(examples))), ("time", duration(bar.seconds))]
    describe(target, policy)
    if losses:
        rows.insert(1, ("loss, first and last step", f"{losses[0]:.3f}, {losses[-1]:.3f}"))
    out.print(facts(rows, title=f"Trained {one_line(str(policy))}"))


def what_is_kept(target: Path, bar: StepBar | None = None) -> str:
    """For an interrupted training run: where it was, and what --resume will go on from."""
    from kgr1.grpo.checkpoint import latest_checkpoint

    place = f"Stopped after step {bar.done} of {bar.total}. " if bar is not None and bar.total else ""
    checkpoint = latest_checkpoint(target)
    if checkpoint is None:
        return f"{place}There is no checkpoint yet in {target}, so the same command starts from the beginning."
    return f"{place}Kept: {checkpoint} and {target / 'log.jsonl'}; run the same command with --resume to go on."
