"""``kgr1 coldstart``: supervised fine-tuning on expert trajectories, before reinforcement learning."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    resolve_settings,
)

if TYPE_CHECKING:
    from kgr1.cli.mixing import Material
    from kgr1.config import Settings
    from kgr1.datasets.expert import Step
    from kgr1.graph.api import KnowledgeGraph
    from kgr1.types import Question


def coldstart(
    target: Out,
    graph: SomeGraph = None,
    questions: SomeQuestions = None,
    mixture: MixtureFile = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="NAME", help="The model to start from: folder or hub name.")
    ] = None,
    subset: Subset = None,
    split: Split = None,
    limit: Limit = None,
    config: Config = None,
    overrides: Overrides = None,
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
    seed = settings.coldstart.seed
    material = open_material(
        graph,
        questions,
        mixture,
        split=split,
        subset=subset,
        limit=limit,
        seed=seed,
        max_turns=settings.agent.max_turns,
    )
    with keeping(lambda: what_is_kept(target)), quiet_libraries(), material as given:
        record = runs.run_record("coldstart", settings, ("agent", "coldstart"), seed=seed, model=name, **given.record)
        trajectories = expert_trajectories(given, settings)
        note(f"{len(trajectories)} expert trajectories from {len(given.questions)} questions.")
        loading.require(loading.TRAINING)
        loading.check_model(name)
        going_on = runs.prepare(target, record, resume=resume, force=force)
        fine_tune(name, trajectories, given.graph, target, settings, going_on=going_on)


def expert_trajectories(given: Material, settings: Settings) -> list[tuple[Question, list[Step]]]:
    """What the expert does on the questions, the parts of a mixture by their weights.

    Raises :class:`kgr1.errors.DatasetError` if it can do none of a part.
    """
    from kgr1.datasets.expert import expert_dataset
    from kgr1.datasets.mixture import quotas
    from kgr1.errors import DatasetError

    parts = {"": given.questions} if given.mixture is None else given.mixture.questions
    weights = {"": 1.0} if given.mixture is None else given.mixture.weights
    shares = quotas(settings.coldstart.trajectories, weights, parts)
    result: list[tuple[Question, list[Step]]] = []
    with busy("Walking the graph"):
        for part, questions in parts.items():
            found = expert_dataset(
                questions,
                given.graph,
                count=shares[part],
                seed=settings.coldstart.seed,
                max_turns=settings.agent.max_turns,
                recovery_share=settings.coldstart.recovery_share,
                wander_share=settings.coldstart.wander_share,
            )
            if not found and shares[part]:
                raise DatasetError(
                    f"None of the {len(questions)} questions {f'of {part} ' if part else ''}has a path of at most "
                    f"{settings.agent.max_turns} turns in this graph; check that questions and graph belong together, "
                    "or raise agent.max_turns."
                )
            result += found
    if given.mixture is not None:
        random.Random(settings.coldstart.seed).shuffle(result)
    return result


def fine_tune(
    name: str,
    trajectories: list[tuple[Question, list[Step]]],
    graph: KnowledgeGraph,
    target: Path,
    settings: Settings,
    *,
    going_on: bool,
) -> None:
    """Fine-tune a model on trajectories with a progress bar and a closing table."""
    from kgr1.cli.loading import no_stdout
    from kgr1.grpo.coldstart import build_examples, train_coldstart
    from kgr1.models.weights import load_model

    with busy(f"Loading {name}"):
        loaded = load_model(name, merge=False)
    with busy("Laying out the trajectories"):
        examples = build_examples(trajectories, graph, loaded.tokenizer, settings.agent)
    losses: list[float] = []
    with StepBar("Cold start", "step") as bar:

        def report(step: int, steps: int, values: dict[str, float]) -> None:
            losses.extend(values[key] for key in ("loss",) if key in values)
            bar.update(step, steps, {"loss": f"{losses[-1]:.3f}"} if losses else {})

        with keeping(lambda: what_is_kept(target, bar)), no_stdout():
            policy = train_coldstart(loaded, examples, target, settings.coldstart, resume=going_on, on_step=report)
        rows: list[tuple[str, str]] = [("trajectories", str(len(examples))), ("time", duration(bar.seconds))]
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
