"""``kgr1 train``: reinforcement learning of the agent on a graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kgr1.cli.bars import StepBar
from kgr1.cli.coldstart import what_is_kept
from kgr1.cli.console import duration, facts, note, one_line, out, warn
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
    from kgr1.config import Settings
    from kgr1.graph.api import KnowledgeGraph
    from kgr1.types import Question

SHOWN = ("f1", "reward", "kl")
"""Logged values that stand beside the progress bar."""


def train(
    start: Annotated[str, typer.Option("--start", "-s", metavar="MODEL", help="The model or adapter to start from.")],
    target: Out,
    graph: SomeGraph = None,
    questions: SomeQuestions = None,
    mixture: MixtureFile = None,
    without: Without = None,
    subset: Subset = None,
    split: Split = None,
    limit: Limit = None,
    dev_split: Annotated[
        str | None,
        typer.Option(help="Evaluate on this split during the run (every train.eval_steps steps) and keep the best."),
    ] = None,
    config: Config = None,
    overrides: Overrides = None,
    resume: Resume = False,
    force: Force = False,
) -> None:
    """Train the agent by multi-turn GRPO on questions whose answers are known.

    How long and how is set in the tables 'train', 'reward' and 'agent' of the settings. A start that was saved with
    the settings of its agent brings those along, and with 'agent.guided' some defaults are others. The result is
    DIR/policy, with the curves of the run in DIR/curve.png.
    """
    from kgr1.cli import loading, runs
    from kgr1.cli.matching import mind_topics
    from kgr1.cli.mixing import mind_times, open_material
    from kgr1.cli.quiet import quiet_libraries

    loading.check_installed(loading.REINFORCEMENT)
    runs.refuse_used(target, resume=resume, force=force)
    name = loading.portable_name(start)
    settings = _settings(name, config, overrides)
    seed, agent = settings.train.seed, settings.agent
    _mind_dev(dev_split, settings)
    material = open_material(
        graph, questions, mixture, without=without, split=split, subset=subset, limit=limit, seed=seed, agent=agent
    )
    with keeping(lambda: what_is_kept(target)), quiet_libraries(), material as given:
        mind_times(given.questions, settings.agent)
        mind_topics(given.questions, given.graph)
        dev = _dev_questions(given, questions, dev_split, subset, settings)
        record = runs.run_record(
            "train",
            settings,
            ("agent", "reward", "train"),
            seed=seed,
            model=name,
            **given.record,
            dev_questions=runs.question_record(dev, split=dev_split),
        )
        _check(name, settings)  # before anything is written
        with runs.held(target):
            going_on = runs.prepare(target, record, resume=resume, force=force)
            reinforce(name, given.questions, dev, given.graph, target, settings, going_on=going_on)


def _settings(start: str, config: Path | None, overrides: Sequence[str] | None) -> Settings:
    """Those of the run; the table 'agent' of ``start`` and what suits guided turns replace the defaults."""
    from kgr1.config import GUIDED_DEFAULTS
    from kgr1.models.pretrained import agent_settings, learning_settings

    usual = {"agent": learning_settings(start)}
    settings = resolve_settings(config, overrides, usual=usual)
    if usual["agent"] != agent_settings(start):
        note(
            f"Training changes the model {start} only. Its ranker and verifier, the meaning of relations, what it "
            "looks up in the graph beforehand and its bonus for certain sentences, which help it choose when it "
            "answers, are switched off, also in the policy that comes out."
        )
    if settings.agent.guided:
        settings = resolve_settings(config, overrides, usual={**usual, **GUIDED_DEFAULTS})
    return settings


def _check(start: str, settings: Settings) -> None:
    """Whether this machine can train, from this start and with these settings."""
    from kgr1.cli import loading

    loading.require(loading.REINFORCEMENT)
    from kgr1.grpo.arguments import check_boundaries

    loading.check_model(start)
    loading.mind_numbers(settings.train.dtype, "train.dtype")
    check_boundaries(settings.train)


def _mind_dev(split: str | None, settings: Settings) -> None:
    if split is not None and not settings.train.eval_steps:
        warn("--dev-split has no effect while train.eval_steps is 0; set it, e.g. --set train.eval_steps=10.")


def _dev_questions(
    given: Material, spec: str | None, split: str | None, subset: str | None, settings: Settings
) -> list[Question]:
    from kgr1.cli.sources import load_question_set

    count, seed = settings.train.eval_questions, settings.train.seed
    if split is None:
        return []
    if given.mixture is not None:
        return given.mixture.draw_dev(count, seed, split)
    assert spec is not None, "without a mixture there is a question set"
    return load_question_set(
        spec, split=split, subset=subset, limit=count, seed=seed, max_turns=settings.agent.max_turns
    )


def reinforce(
    start: str,
    questions: Sequence[Question],
    dev: Sequence[Question],
    graph: KnowledgeGraph,
    target: Path,
    settings: Settings,
    *,
    going_on: bool,
) -> None:
    """Train a policy with a progress bar, the curves of the run and a closing table."""
    from kgr1.cli import loading, runs
    from kgr1.cli.model_card import describe
    from kgr1.grpo.checkpoint import is_main_process
    from kgr1.grpo.trainer import train_grpo

    alarms: list[str] = []
    note(f"Training {start} on {len(questions)} questions; the log is {target / runs.LOG_FILE}.")
    with StepBar("Training", "step") as bar:

        def report(step: int, steps: int, values: dict[str, float]) -> None:
            bar.update(step, steps, {key: f"{values[key]:.3f}" for key in SHOWN if key in values})

        with keeping(lambda: what_is_kept(target, bar)), loading.no_stdout():
            policy = train_grpo(
                start,
                questions,
                graph,
                target,
                settings,
                resume=going_on,
                dev_questions=dev,
                on_step=report,
                on_alarm=alarms.append,
            )
        if not is_main_process():
            return
        rows = [("steps", str(bar.done)), ("time", duration(bar.seconds))]
    for reason in alarms:
        measured = dev and settings.train.eval_steps
        best = f"; {target / 'best'} is the best policy by the development questions" if measured else ""
        warn(f"Stopped early, because {reason}. The last checkpoint is kept{best}.")
    describe(target, policy, target / "best")
    picture = draw(target)
    if picture is not None:
        rows.append(("curves", str(picture)))
    out.print(facts(rows, title=f"Trained {one_line(str(policy))}"))


def draw(target: Path) -> Path | None:
    """Draw the curves of a finished run; a run is not a failure because its picture is."""
    from kgr1.errors import EvaluationError, MissingExtraError
    from kgr1.evaluation.curve import plot_curves

    try:
        return plot_curves([(target.resolve().name, target / "log.jsonl")], target / "curve.png")
    except (EvaluationError, MissingExtraError) as error:
        warn(f"The curves were not drawn. {error}")
        return None
