"""Whether questions and a graph belong together, and whether an output names one of the inputs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kgr1.cli.console import one_line, warn

if TYPE_CHECKING:
    from kgr1.graph.api import KnowledgeGraph
    from kgr1.types import Question

LOOKED_UP = 200
"""Topics that are looked up at most in a graph of this machine."""

ASKED = 20
"""Topics that are looked up at most by queries, which a server or an endpoint may take long for."""

HARDLY = 0.1
"""A smaller share of known topics is a reason for a warning."""


def mind_topics(questions: Sequence[Question], graph: KnowledgeGraph) -> None:
    """Say so if hardly any topic of the questions is a name in the graph; looks at a sample, and never fails."""
    from kgr1.errors import KGR1Error
    from kgr1.graph.api import NameIndex

    topics = sorted({(topic, question.graph_id or "") for question in questions for topic in question.topics})
    index = graph if isinstance(graph, NameIndex) else None
    drawn = random.Random(0).sample(topics, min(len(topics), ASKED if index is None else LOOKED_UP))
    try:
        if index is not None:  # a query would also look for names that are close
            unknown = [topic for topic, _ in drawn if not index.find_names(topic)]
        else:
            unknown = _unknown(drawn, graph)
        name = graph.info().name
    except KGR1Error:  # whoever plays will be told, and by what it really asks
        return
    known = len(drawn) - len(unknown)
    if unknown and known < HARDLY * len(drawn):
        found = f"{known or 'none'} {'is' if known < 2 else 'are'}"
        warn(
            f"Of {len(drawn)} topics of the questions that were looked up, {found} in the graph '{one_line(name)}' "
            f"(not there: '{one_line(unknown[0][:80])}'). "
            "Whoever asks this graph will find next to nothing: check that questions and graph belong together."
        )


def _unknown(topics: Sequence[tuple[str, str]], graph: KnowledgeGraph) -> list[str]:
    """The topics that the graph of their question does not know, as it answers queries."""
    from kgr1.types import ErrorCode, Operation, Query

    queries = [
        Query(operation=Operation.GET_TAIL_RELATIONS, entity=topic, graph_id=graph_id or None, limit=1)
        for topic, graph_id in topics
    ]
    found = graph.execute(queries)
    pairs = zip(topics, found, strict=True)
    return [topic for (topic, _), seen in pairs if seen.error not in (None, ErrorCode.NO_RESULTS)]


def refuse_input(target: Path, *inputs: Path | str | None, option: str) -> None:
    """Raise :class:`typer.BadParameter` if ``target`` is one of the ``inputs``, or a file in it that is read.

    Inputs are what a user may name as a graph, as questions or as a file; what is no file or folder is passed over.
    """
    for given in inputs:
        if given is not None and any(_same(target, file) for file in _files(Path(given).expanduser())):
            raise typer.BadParameter(
                f"{one_line(str(target))} is read by this command and would be lost; choose another name.",
                param_hint=option,
            )


def _files(place: Path) -> list[Path]:
    """The file or folder itself, and the files that are read where it is one of questions or a built graph."""
    from kgr1.datasets.plain import FILE_NAMES
    from kgr1.graph.files import HEADER

    try:
        if not place.is_dir():
            return [place]
        if (place / HEADER).is_file():
            return [place, *place.iterdir()]
    except OSError:  # also what no file can be called, such as a long URL
        return []
    return [place, *(place / name for name in FILE_NAMES)]


def _same(one: Path, other: Path) -> bool:
    try:
        return one.expanduser().samefile(other)
    except OSError:  # one of them is not there, so nothing can be lost
        return False
