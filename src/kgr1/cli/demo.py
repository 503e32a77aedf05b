"""``kgr1 demo``: train an agent on the embedded graph in a few minutes and show what it learned.

The questions are split by topic, so the test asks about countries that no training question started from. Everything is
measured in this run: the untrained model first, then the same model after a cold start and one step of GRPO. A demo
that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from kgr1.cli.console import duration, note, out, styled
from kgr1.cli.options import Force

if TYPE_CHECKING:
    from kgr1.config import Settings
    from kgr1.graph.api import KnowledgeGraph
    from kgr1.types import Question

TEST_QUESTIONS = 16
TRAIN_QUESTIONS = 400

SETTINGS = """
[agent]
max_turns = 5
max_new_tokens = 72
observation_tokens = 160

[coldstart]
trajectories = 72
learning_rate = 3e-4
batch_size = 2
micro_batch_size = 2
save_steps = 12

[train]
steps = 1
questions_per_step = 2
group_size = 4
micro_batch_size = 4
learning_rate = 5e-5
lora_rank = 16
save_steps = 1
"""


def demo(
    target: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder for the demo's files.")] = Path(
        "runs/demo"
    ),
    model: Annotated[str | None, typer.Option("--model", "-m", metavar="NAME", help="The model to train.")] = None,
    force: Force = False,
) -> None:
    """Train an agent on the countries graph for a few minutes and compare it with the untrained model."""
    from kgr1.cli import loading
    from kgr1.cli.quiet import quiet_libraries
    from kgr1.cli.sources import EMBEDDED, load_question_set, open_graph
    from kgr1.config import DEFAULT_MODEL

    started = time.monotonic()
    settings = demo_settings()
    turns = settings.agent.max_turns
    test = load_question_set(EMBEDDED, split="test", limit=TEST_QUESTIONS, max_turns=turns)
    train = load_question_set(EMBEDDED, split="train", limit=TRAIN_QUESTIONS, max_turns=turns)
    name = loading.portable_name(model or DEFAULT_MODEL)
    with quiet_libraries(), open_graph(EMBEDDED) as graph:
        loading.require(loading.REINFORCEMENT)
        _heading(f"1. The untrained model on {len(test)} test questions")
        _evaluate(name, test, graph, settings, target / "before", force=force)
        _heading(f"2. Cold start: {settings.coldstart.trajectories} expert trajectories")
        learned = _coldstart(name, train, graph, settings, target / "coldstart", force=force)
        _heading(f"3. Reinforcement learning: {settings.train.steps} step of GRPO, to show how it goes")
        learned = _train(learned, train, graph, settings, target / "grpo", force=force)
        _heading("4. The trained model on the same test questions")
        _evaluate(learned, test, graph, settings, target / "after", force=force)
        _compare(target / "before", target / "after")
        _heading("5. One question with its trace")
        _show(learned, test, graph, settings)
    note(f"The demo took {duration(time.monotonic() - started)}. Ask it yourself, for example:")
    out.print(Text(f'kgr1 ask "Which countries border Austria?" --graph countries --topic Austria --model {learned}'))


def demo_settings() -> Settings:
    """The settings of the demo: small enough for two CPU cores and ten minutes."""
    import tomllib

    from kgr1.config import Settings, validate

    return validate(Settings, tomllib.loads(SETTINGS), source="the demo")


def _heading(text: str) -> None:
    out.print(Text(f"\n{text}", style="bold"))


def _evaluate(
    model: str, questions: Sequence[Question], graph: KnowledgeGraph, settings: Settings, target: Path, *, force: bool
) -> None:
    """Greedy episodes on the test questions, into ``target``."""
    import shutil

    from kgr1.cli.evaluate import play, runner
    from kgr1.cli.loading import load_policy

    if force:
        shutil.rmtree(target, ignore_errors=True)
    policy = load_policy(model, max_rows=len(questions))
    made_with: dict[str, object] = {"model": model, "agent": settings.agent.model_dump(mode="json")}
    play(questions, runner(graph, policy, settings), target, made_with, 1, len(questions), retry_failed=True)


def _coldstart(
    model: str, questions: list[Question], graph: KnowledgeGraph, settings: Settings, target: Path, *, force: bool
) -> str:
    from kgr1.cli.coldstart import agent_layout, expert_trajectories, fine_tune
    from kgr1.cli.mixing import Material
    from kgr1.cli.runs import POLICY, prepare, run_record

    record = run_record("demo coldstart", settings, ("agent", "coldstart"), seed=settings.coldstart.seed, model=model)
    going_on = prepare(target, record, resume=not force, force=force)
    if not (target / POLICY).is_dir():
        trajectories = expert_trajectories(Material(graph, questions, {}), settings)
        layout = agent_layout(trajectories, graph, settings)
        fine_tune(model, layout, target, settings, agent=settings.agent, going_on=going_on)
    return str(target / POLICY)


def _train(
    start: str, questions: list[Question], graph: KnowledgeGraph, settings: Settings, target: Path, *, force: bool
) -> str:
    from kgr1.cli.runs import POLICY, prepare, run_record
    from kgr1.cli.train import reinforce

    record = run_record("demo train", settings, ("agent", "reward", "train"), seed=settings.train.seed, model=start)
    going_on = prepare(target, record, resume=not force, force=force)
    if not (target / POLICY).is_dir():
        reinforce(start, questions, [], graph, target, settings, going_on=going_on)
    return str(target / POLICY)


def _compare(before: Path, after: Path) -> None:
    from kgr1.cli.diff import journal
    from kgr1.cli.evaluate import print_table
    from kgr1.evaluation.compare import compare
    from kgr1.evaluation.files import read_episodes
    from kgr1.evaluation.report import comparison_table

    comparison = compare(read_episodes(journal(before)), read_episodes(journal(after)))
    out.print()
    print_table(comparison_table(comparison, "before", "after"))


def _show(model: str, questions: Sequence[Question], graph: KnowledgeGraph, settings: Settings) -> None:
    """Play the first two-hop test question in the open."""
    import asyncio

    from kgr1.agent.rollout import run_episode
    from kgr1.cli.loading import load_policy
    from kgr1.cli.trace import print_answers, watch

    question = next((q for q in questions if q.hops == 2 and q.kind == "chain"), questions[0])
    out.print(Text.assemble(("Question: ", "dim"), styled(question.text)))
    policy = watch(load_policy(model, max_rows=1))
    episode = asyncio.run(run_episode(question, graph, policy, agent=settings.agent, sampling=settings.sampling))
    print_answers([episode])
    gold = ", ".join(answer.label for answer in question.answers)
    out.print(Text.assemble(("Gold answer: ", "dim"), styled(gold)))
