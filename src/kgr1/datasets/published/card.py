"""What is known about a question set besides its questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kgr1.datasets.published.format import Format

NOT_STATED = "not stated"


@dataclass(frozen=True)
class Count:
    """Questions by split (``train``, ``dev``, ``test``, ``all``), as one place states or holds them."""

    where: str
    splits: Mapping[str, int]


@dataclass(frozen=True)
class Hub:
    """Files of a data set on the Hugging Face hub.

    ``commit`` is what the revision must be, in full or its first seven digits; ``files`` are patterns of paths.
    """

    repository: str
    commit: str
    files: tuple[str, ...]
    revision: str = "main"


@dataclass(frozen=True)
class GraphTable:
    """Triples that a source keeps in a file of their own.

    ``files`` are patterns of names; ``fact`` turns a line into head, relation and tail, or those and a date, or None
    for a line that is no fact.
    """

    files: tuple[str, ...]
    fact: Callable[[str], tuple[str, ...] | None]
    dated: bool = False


@dataclass(frozen=True)
class Card:
    """A published question set."""

    name: str  # what commands call it
    title: str
    what: str
    graph: str  # what it asks about, and where that graph is to be had
    formats: tuple[Format, ...]
    counts: tuple[Count, ...]
    licence: str
    homepage: str
    citations: tuple[str, ...]
    notes: tuple[str, ...] = ()  # where paper and files disagree, and what else surprises
    hub: Hub | None = None
    table: GraphTable | None = None
    parts: int = 1  # how many of the counts, from the first on, add up to the whole set

    @property
    def questions(self) -> int:
        """How many questions the set has as a whole, as its paper or its files count."""
        return sum(sum(count.splits.values()) for count in self.counts[: self.parts])
