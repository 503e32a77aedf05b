"""Where training questions come from: one graph and one set, or a mixture of several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kgr1.cli.console import note, warn

if TYPE_CHECKING:
    from kgr1.config import AgentSettings
    from kgr1.datasets.mixture import Mixture, Part
    from kgr1.graph.api import KnowledgeGraph
    from kgr1.types import Question

MIXED = 4000
"""Questions that are drawn from a mixture unless --limit says otherwise."""


@dataclass
class Material:
    """Questions with the graph that answers them."""

    graph: KnowledgeGraph
    questions: list[Question]
    record: dict[str, Any]  # what run.json says about them
    mixture: Mixture | None = None
    pools: dict[str, list[Question]] | None = None  # what a cold start of a mixture draws from, by part


@contextmanager
def open_material(
    graph: str | None,
    questions: str | None,
    mixture: Path | None,
    *,
    without: Sequence[str] | None,
    split: str | None,
    subset: str | None,
    limit: int | None,
    seed: int,
    agent: AgentSettings,
) -> Iterator[Material]:
    """The training questions that the options of a command name, with their graph open.

    ``without`` are parts of the mixture to leave out; what their dev and test splits ask about stays held out.
    Questions that are made fit the turns of ``agent``, and the way it asks.
    Raises :class:`kgr1.errors.KGR1Error` in one sentence for what cannot be opened.
    """
    from kgr1.cli import runs
    from kgr1.cli.sources import load_question_set, open_graph

    if mixture is not None:
        if graph is not None or questions is not None or split is not None or subset is not None:
            raise typer.BadParameter(
                "a mixture names its own graphs and questions; leave out --graph, --questions, --split and --subset.",
                param_hint="--mixture",
            )
        with _opened(mixture, without or (), seed=seed, agent=agent) as mixed:
            drawn = mixed.draw(limit or MIXED, seed)
            pools = mixed.questions if limit is None else mixed.draw_parts(limit, seed)
            source = runs.question_record(drawn, source=str(mixture), limit=limit)
            if without:
                source["without"] = sorted(without)
            record = {"graph": runs.graph_record(str(mixture), mixed.family.info()), "questions": source}
            yield Material(mixed.family, drawn, record, mixed, pools)
        return
    if without:
        raise typer.BadParameter("only parts of a --mixture can be left out.", param_hint="--without")
    if graph is None or questions is None:
        raise typer.BadParameter("give --graph and --questions, or a --mixture.", param_hint="--graph")
    asked = load_question_set(
        questions, split=split, usual="train", subset=subset, limit=limit, seed=seed, max_turns=agent.max_turns
    )
    with open_graph(graph) as opened:
        source = runs.question_record(asked, source=questions, subset=subset, split=split, limit=limit)
        yield Material(opened, asked, {"graph": runs.graph_record(graph, opened.info()), "questions": source})


def mind_times(questions: Sequence[Question], agent: AgentSettings) -> None:
    """Say so if questions need times and the prompt does not tell the model about them."""
    from kgr1.datasets.paths import is_time

    count = sum(any(map(is_time, question.gold_path)) for question in questions)
    if count and not agent.time_filter:
        warn(
            f"{count:,} questions need a time filter, and the prompt does not mention it; set agent.time_filter=true, "
            "here and wherever the policy is used."
        )


@contextmanager
def _opened(path: Path, without: Sequence[str], *, seed: int, agent: AgentSettings) -> Iterator[Mixture]:
    from kgr1.cli.bars import busy
    from kgr1.cli.sources import load_question_set, open_graph
    from kgr1.config import expand
    from kgr1.datasets.mixture import LeftOut, Source, load_recipe, mix

    recipe, left_out = load_recipe(path).leave_out(without)
    held_out = [question for spec in recipe.held_out for question in load_question_set(expand(spec))]
    with ExitStack() as stack:
        graphs: dict[str, KnowledgeGraph] = {}
        sources: list[Source] = []
        for part in recipe.part:
            spec = expand(part.graph)
            if spec not in graphs:
                graphs[spec] = stack.enter_context(open_graph(spec))
            sources.append(Source(part, graphs[spec], _questions(part)))
        with busy("Mixing questions"):
            mixed = mix(
                sources,
                seed=seed,
                max_turns=agent.max_turns,
                sets=agent.sets,
                held_out=held_out,
                held_out_topics=recipe.held_out_topics,
                left_out=[LeftOut(part, _questions(part)) for part in left_out],
            )
        for name, found in mixed.questions.items():
            note(f"{name}: {len(found):,} questions, {mixed.dropped[name]:,} left out.")
        yield mixed


def _questions(part: Part) -> list[Question]:
    from kgr1.cli.sources import load_question_set
    from kgr1.config import expand

    return [] if part.questions is None else load_question_set(expand(part.questions), subset=part.subset)
