"""The protocol that every graph backend satisfies, in process or remote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from kgr1.types import Observation, Query, Record


class GraphInfo(Record):
    """What a user wants to know about a graph before asking it anything."""

    name: str
    triples: int
    entities: int
    relations: int
    dated: int = 0  # triples that carry dates; a triple counts once for each of its spans
    question_graphs: int = 0
    ambiguous_names: int = 0  # names that stand for more than one entity
    bytes: int = 0  # size on disk, 0 if not on disk


@runtime_checkable
class KnowledgeGraph(Protocol):
    """One-hop retrieval over a graph (SPEC section 2).

    ``execute`` answers a batch in order: exactly one observation a query. What the caller got wrong comes back as an
    observation with an error code; only a backend that cannot answer at all raises
    :class:`kgr1.errors.GraphServerError`.

    A backend whose answers take long, such as one behind a network, may set the class attribute ``remote = True``: its
    calls are then made in threads, so that other episodes go on meanwhile.
    """

    def execute(self, queries: Sequence[Query]) -> list[Observation]:
        """Answer every query; same length and order as ``queries``."""
        ...

    def info(self) -> GraphInfo:
        """Counts of the graph."""
        ...

    def close(self) -> None:
        """Release files or connections; calling it twice is fine."""
        ...


@runtime_checkable
class NameSearch(Protocol):
    """What a graph may offer besides retrieval: finding entities by a name that is only about right."""

    def search(self, text: str, count: int = 10) -> list[tuple[str, str]]:
        """Up to ``count`` entities as (display name, identifier), best first.

        Those that the text names exactly come first, then those it names after normalisation, then the closest ones.
        Raises :class:`kgr1.errors.GraphServerError` only if the backend cannot answer.
        """
        ...


class NameMatch(NamedTuple):
    """An entity that a text names: display name, identifier, and at how many triples it stands."""

    name: str
    id: str
    degree: int


@runtime_checkable
class NameIndex(Protocol):
    """What a graph may offer besides :class:`KnowledgeGraph`: its entities by name, without a query for each.

    Both methods look at the whole graph, not at a question graph.
    """

    def find_names(self, text: str) -> tuple[NameMatch, ...]:
        """Every entity that the text names as an argument of a query would, the one with most triples first."""
        ...

    def closest_names(self, text: str, count: int = 3) -> tuple[NameMatch, ...]:
        """Entities with one of the ``count`` names that are most like the text, in this order of names."""
        ...
