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

    ``commit`` is the one that kgr1 was checked with, in full or its first seven digits; ``revision`` is taken where the
    hub no longer has it. ``files`` are patterns of paths.
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

    def stated(self, split: str, repository: str | None = None) -> dict[int, str]:
        """How many questions a split may have, and where that stands; empty if no place states it.

        Of files from a ``repository`` its own count holds, if there is one. A set of several ``parts`` (what stands
        before the comma) may have been converted with any of them, so their sums hold too.
        """
        held = [count for count in self.counts if (split or "all") in count.splits]
        own = [count for count in held if count.where == repository]
        found: dict[int, tuple[str, ...]] = {}
        for count in own or held:
            number, part = count.splits[split or "all"], count.where.partition(",")[0]
            more: dict[int, tuple[str, ...]] = {number: (count.where,)}
            if self.parts > 1:
                together = (
                    each for each in found.items() if part not in (where.partition(",")[0] for where in each[1])
                )
                more |= {total + number: (*where, count.where) for total, where in together}
            found = more | found
        return {total: " and ".join(where) for total, where in found.items()}

    @property
    def questions(self) -> int:
        """How many questions the set has as a whole, as its paper or its files count."""
        return sum(sum(count.splits.values()) for count in self.counts[: self.parts])
