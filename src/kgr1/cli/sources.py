"""What a user may name as a graph or as questions, and how each is opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kgr1.cli.cache import built_graph
from kgr1.cli.console import one_line
from kgr1.errors import GraphError

if TYPE_CHECKING:
    from kgr1.graph.api import KnowledgeGraph
    from kgr1.types import Question

EMBEDDED = "countries"
"""The word for the graph and the questions that come with the package."""

SPARQL = "sparql+"
"""What the address of a SPARQL endpoint begins with."""


@contextmanager
def open_graph(spec: str, *, verify: bool = False) -> Iterator[KnowledgeGraph]:
    """The graph that ``spec`` names: a store folder, a triple file, a server's URL, or the embedded graph.

    ``sparql+`` before a URL makes it that of a SPARQL endpoint; behind ``#`` stand its options, see
    :func:`kgr1.graph.sparql.read_options`.

    Raises :class:`GraphError` in one sentence if there is none, or it cannot be opened.
    """
    from kgr1.graph.store import GraphStore

    if spec.lower().startswith(SPARQL):
        from kgr1.graph.sparql import SparqlGraph, read_options

        url, _, options = spec[len(SPARQL) :].partition("#")
        with closing(SparqlGraph(url, read_options(options))) as endpoint:
            endpoint.check()
            yield endpoint
        return
    if is_url(spec):
        from kgr1.server.client import GraphClient

        url, _, name = spec.partition("#")
        with closing(GraphClient(url, name or None)) as client:
            client.info()  # a wrong address is an error now, not in the middle of a run
            yield client
        return
    with store_folder(spec) as folder, closing(GraphStore.open(folder, verify=verify)) as store:
        yield store


def is_url(spec: str) -> bool:
    """True if the text names a graph server or a SPARQL endpoint."""
    return spec.lower().removeprefix(SPARQL).startswith(("http://", "https://"))


@contextmanager
def store_folder(spec: str) -> Iterator[Path]:
    """The folder of a built graph; a triple file is built first and kept in the cache."""
    path = Path(spec).expanduser()
    if spec == EMBEDDED and not path.exists():
        from kgr1.datasets.embedded import embedded_graph_path

        path = embedded_graph_path()
    if path.is_dir():
        yield path
    elif path.is_file():
        with built_graph(path) as folder:
            yield folder
    else:
        raise GraphError(
            f"There is no graph at {one_line(spec)}; give a built graph, a triple file, a URL or '{EMBEDDED}'.",
            path=spec,
        )


EVERY_SPLIT = "all"


def load_question_set(
    spec: str,
    *,
    split: str | None = None,
    usual: str = EVERY_SPLIT,
    subset: str | None = None,
    hops: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    max_turns: int = 7,
) -> list[Question]:
    """The questions that ``spec`` names; with ``limit`` that many, drawn by ``seed``, else all in their order.

    ``split`` 'all' takes every split; None takes the ``usual`` one, or all of a file whose lines name no split.
    Of the embedded questions only those that an expert can solve in ``max_turns`` turns are taken.
    Raises :class:`kgr1.errors.DatasetError` if there are none.
    """
    from kgr1.datasets.plain import load_questions
    from kgr1.errors import DatasetError

    wanted = None if (split or usual) == EVERY_SPLIT else split or usual
    if spec == EMBEDDED and not Path(spec).exists():
        from kgr1.datasets.embedded import embedded_questions

        if subset is not None:
            raise DatasetError("The countries have no subsets; leave out --subset.")
        if hops is not None:
            raise DatasetError("The countries cannot be chosen by hops; leave out --hops.")
        found = embedded_questions(wanted, count=limit, seed=seed, max_turns=max_turns)
        if not found:
            raise DatasetError(f"No question on countries has a way of {max_turns} turns; raise agent.max_turns.")
        return found
    drawn = None if limit is None else seed
    path = Path(spec).expanduser()
    try:
        found = load_questions(path, split=wanted, subset=subset, hops=hops, limit=limit, seed=drawn)
    except DatasetError as error:
        if split is not None or error.details.get("wanted") != wanted or error.details.get("available") != []:
            raise
        found = load_questions(path, subset=subset, hops=hops, limit=limit, seed=drawn)
    if not found:
        raise DatasetError(f"There is no question in {spec}.", path=spec)
    return found


def resolve_topics(graph: KnowledgeGraph, topics: Sequence[str]) -> tuple[str, ...]:
    """The topics as the graph writes them; raises :class:`GraphError` with the closest names for one it lacks."""
    from kgr1.types import ErrorCode, Operation, Query

    resolved: dict[str, None] = {}
    for topic in topics:
        # An entity is the subject of something, or its object, or it is not there.
        operations = (Operation.GET_TAIL_RELATIONS, Operation.GET_HEAD_RELATIONS)
        found = graph.execute([Query(operation=operation, entity=topic) for operation in operations])
        if found[0].error not in (None, ErrorCode.NO_RESULTS):
            raise GraphError(f"Topic not found. {found[0].message}", topic=topic)
        resolved.setdefault(next((seen for seen in found if seen.ok), found[0]).query.entity)
    return tuple(resolved)
