"""``kgr1 verifier``: what reads where relations lead, beside a policy and its ranker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

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
from kgr1.cli.ranker import apart, check_target, flawless, policy_beside

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kgr1.config import Settings
    from kgr1.grpo.verifier import Case
    from kgr1.models.ranker import Ranker
    from kgr1.models.weights import LoadedModel


def verifier(
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
    """Train a verifier on the paths of the expert and on what other relations lead to, into the folder of a policy.

    With the policy's model it reads where the relations lead that the policy's ranker likes best; its opinion counts as
    'agent.verifier_weight' says. How many questions it learns from is set by 'coldstart.trajectories', and how in the
    table 'verifier' of the settings. Takes an hour for 5,500 questions on two cores of a CPU.
    """
    from kgr1.cli import loading
    from kgr1.cli.coldstart import expert_trajectories
    from kgr1.cli.mixing import open_material
    from kgr1.cli.quiet import quiet_libraries
    from kgr1.datasets.hops import followed

    loading.check_installed(loading.TRAINING)
    from kgr1.models.pretrained import VERIFIER_FILE

    settings = flawless(resolve_settings(config, overrides))
    name = loading.portable_name(policy_beside(target, model))
    loading.check_model(name)
    seed, agent = settings.coldstart.seed, settings.agent
    material = open_material(
        graph, questions, mixture, without=without, split=split, subset=subset, limit=limit, seed=seed, agent=agent
    )
    check_target(target, VERIFIER_FILE, force=force)
    loading.require(loading.TRAINING)
    with quiet_libraries(), material as given:
        loaded, ranker = _load(name, target, settings.sampling.dtype)
        from kgr1.grpo.verifier import cases

        trajectories = expert_trajectories(given, settings)
        made: list[Case] = []
        with StepBar("Following relations", "question") as bar:
            for number, trajectory in enumerate(trajectories, 1):
                made += cases(followed([trajectory], given.graph), given.graph, ranker, seed + number)
                bar.update(number, len(trajectories), {})
    note(f"{len(made)} cases of {len(trajectories)} questions.")
    _train(loaded, made, target, settings)


def _load(name: str, target: Path, dtype: str) -> tuple[LoadedModel, Ranker]:
    """The policy and its ranker, which is in the folder of the verifier or in that of the policy."""
    from kgr1.cli.loading import mind_numbers, placement
    from kgr1.errors import ModelError
    from kgr1.models.pretrained import policy_folder
    from kgr1.models.ranker import Ranker
    from kgr1.models.weights import load_model

    device, dtype = placement(dtype)
    mind_numbers(dtype, "sampling.dtype")
    with busy(f"Loading {name}"):
        loaded = load_model(name, dtype=dtype)
        loaded.model.to(device)
        folders = target, policy_folder(name)
        found = (Ranker.load(folder, loaded.model, loaded.tokenizer) for folder in folders)
        ranker = next((each for each in found if each is not None), None)
    if ranker is None:
        raise ModelError(
            f"'{name}' has no ranker, which says what relations a verifier is to read about; make one with "
            "'kgr1 ranker' first."
        )
    return loaded, ranker


def _train(loaded: LoadedModel, made: Sequence[Case], target: Path, settings: Settings) -> None:
    """Train a verifier on most of the cases, with a progress bar, and tell what it makes of the others."""
    from kgr1.grpo.verifier import right_shares, save_verifier, train_verifier
    from kgr1.models.verifier import Verifier

    seen, unseen = apart(made, settings.verifier.held_out, settings.verifier.seed)
    trained = Verifier.new(loaded.model, loaded.tokenizer, seed=settings.verifier.seed)
    with StepBar("Verifier", "step") as bar:
        train_verifier(
            trained,
            seen,
            settings.verifier,
            on_step=lambda step, steps, loss: bar.update(step, steps, {"loss": f"{loss:.3f}"}),
        )
    file = save_verifier(trained, target)
    rows = [
        ("cases", str(len(seen))),
        ("time", duration(bar.seconds)),
    ]
    if unseen:
        rows.append(("cases held out", str(len(unseen))))
        with StepBar("Reading", "case") as reading:
            shares = right_shares(trained, unseen, on_read=lambda done, total: reading.update(done, total, {}))
        rows += [(f"right among these, {name}", f"{share:.1%}") for name, share in shares.items()]
    out.print(facts(rows, title=f"Trained {one_line(str(file))}"))
