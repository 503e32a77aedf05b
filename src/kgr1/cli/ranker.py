"""``kgr1 ranker``: a small model that says which relations fit a question, beside a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Protocol, TypeVar

import typer

from kgr1.cli.bars import StepBar, busy
from kgr1.cli.console import duration, facts, note, one_line, out
from kgr1.cli.options import (
    Config,
    Force,
    Limit,
    MixtureFile,
    Out,
    Overrides,
    SomeGraph,
    SomeQuestions,
    Split,
    Subset,
    Without,
    resolve_settings,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kgr1.config import Settings
    from kgr1.datasets.hops import Choice
    from kgr1.types import Question


class _Asked(Protocol):
    @property
    def question(self) -> Question: ...


Asking = TypeVar("Asking", bound=_Asked)


def ranker(
    target: Out,
    graph: SomeGraph = None,
    questions: SomeQuestions = None,
    mixture: MixtureFile = None,
    without: Without = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="NAME", help="The policy that it is for, unless that is in --out."),
    ] = None,
    subset: Subset = None,
    split: Split = None,
    limit: Limit = None,
    config: Config = None,
    overrides: Overrides = None,
    force: Force = False,
) -> None:
    """Train a ranker of relations on the choices of the expert, and put it into the folder of a policy.

    A guided agent weighs its opinion with the model's own, as 'agent.ranker_weight' says. How many questions it learns
    from is set by 'coldstart.trajectories', and how in the table 'ranker' of the settings. Takes minutes on a CPU.
    """
    from kgr1.cli import loading
    from kgr1.cli.coldstart import expert_trajectories
    from kgr1.cli.mixing import open_material
    from kgr1.cli.quiet import quiet_libraries
    from kgr1.datasets.hops import choices

    loading.check_installed(loading.TRAINING)
    from kgr1.models.pretrained import RANKER_FILE

    settings = flawless(resolve_settings(config, overrides))
    name = loading.portable_name(policy_beside(target, model))
    loading.check_model(name)
    seed, agent = settings.coldstart.seed, settings.agent
    material = open_material(
        graph, questions, mixture, without=without, split=split, subset=subset, limit=limit, seed=seed, agent=agent
    )
    check_target(target, RANKER_FILE, force=force)
    with quiet_libraries(), material as given:
        trajectories = expert_trajectories(given, settings)
        with busy("Looking at what there was to choose from"):
            made = list(choices(trajectories, given.graph))
    note(f"{len(made)} choices of {len(trajectories)} questions.")
    loading.require(loading.TRAINING)
    _train(name, made, target, settings)


def flawless(settings: Settings) -> Settings:
    """The settings for what is to be learned from experts that ask about sets and make no mistakes."""
    agent = settings.agent.model_copy(update={"sets": True})
    nothing_wrong = {"recovery_share": 0.0, "wander_share": 0.0, "early_share": 0.0}
    coldstart = settings.coldstart.model_copy(update=nothing_wrong)
    return settings.model_copy(update={"agent": agent, "coldstart": coldstart})


def check_target(folder: Path, name: str, *, force: bool) -> None:
    """Refuse a folder that is none, or that has a file of this name, unless that may be replaced."""
    if (folder / name).exists() and not force:
        raise typer.BadParameter(f"{folder / name} exists; --force replaces it.", param_hint="--out")
    if folder.exists() and not folder.is_dir():
        raise typer.BadParameter(f"{folder} is a file; name the folder of a policy.", param_hint="--out")


def policy_beside(folder: Path, model: str | None) -> str:
    """The policy that something in ``folder`` is for: what is there, or else ``model``."""
    from kgr1.cli.loading import portable_name
    from kgr1.config import DEFAULT_MODEL
    from kgr1.models.gguf import find_gguf
    from kgr1.models.weights import is_adapter

    inside = is_adapter(folder) or (folder / "config.json").is_file() or (folder.is_dir() and find_gguf(folder))
    if inside and model is not None and portable_name(model) != portable_name(str(folder)):
        raise typer.BadParameter(
            f"the policy in {folder} is what would be used with it; leave out --model, or name another folder.",
            param_hint="--model",
        )
    return str(folder) if inside else model or DEFAULT_MODEL


def _train(name: str, made: Sequence[Choice], target: Path, settings: Settings) -> None:
    """Train a ranker on most of the choices, with a progress bar, and tell what it makes of the others."""
    from kgr1.grpo.ranker import right_share, save_ranker, train_ranker, untrained_ranker
    from kgr1.models.weights import load_model

    seen, unseen = apart(made, settings.ranker.held_out, settings.ranker.seed)
    with busy(f"Loading {name}"):
        loaded = load_model(name)
    with StepBar("Reading", "text") as reading:
        trained = untrained_ranker(
            loaded.model,
            loaded.tokenizer,
            seen,
            seed=settings.ranker.seed,
            on_read=lambda done, total: reading.update(done, total, {}),
        )
    with StepBar("Ranker", "step") as bar:
        train_ranker(
            trained,
            seen,
            settings.ranker,
            on_step=lambda step, steps, loss: bar.update(step, steps, {"loss": f"{loss:.3f}"}),
        )
    file = save_ranker(trained, target)
    rows = [("choices", str(len(seen))), ("time", duration(reading.seconds))]
    for most in (1, 5) if unseen else ():
        share = right_share(trained, unseen, most)
        rows.append((f"right one among the best {most}, of {len(unseen)} held out", f"{share:.1%}"))
    out.print(facts(rows, title=f"Trained {one_line(str(file))}"))


def apart(made: Sequence[Asking], share: float, seed: int) -> tuple[list[Asking], list[Asking]]:
    """What some questions gave, and what the others did; a text that comes twice is on one side."""
    import random

    texts = sorted({each.question.text for each in made})
    held = set(random.Random(seed).sample(texts, int(share * len(texts))))
    return [each for each in made if each.question.text not in held], [e for e in made if e.question.text in held]
