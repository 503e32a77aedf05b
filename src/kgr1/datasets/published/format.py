"""What a published format is: how it is told, and how it becomes questions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from kgr1.datasets.published.rows import Row, read_lines, read_rows
from kgr1.types import Question

Topics = Literal["name", "id"]
"""How topics are called in questions: by the names that a person reads, or by identifiers."""

_WORDS = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "dev": "dev",
    "valid": "dev",
    "validation": "dev",
    "val": "dev",
    "test": "test",
}
"""Words in the names of files, and the split that each stands for."""

Triple = tuple[str, str, str]


class Item(NamedTuple):
    """A question, and the triples of its own graph where its row carries them."""

    question: Question
    graph: Sequence[Triple] | None = None


@dataclass(frozen=True)
class Reading:
    """What a user may say about how files are read.

    ``names`` maps identifiers to names, for sources that have none.
    """

    topics: Topics = "name"
    names: Mapping[str, str] = field(default_factory=dict)

    def topic(self, identifier: str, name: str = "") -> str:
        """What a topic is called in the question; at least one of its two names must be there."""
        if self.topics == "id" and identifier:
            return identifier
        return name or self.name(identifier)

    def name(self, identifier: str) -> str:
        """The name of an identifier as a graph built with the same names shows it, or the identifier."""
        name = self.names.get(identifier)
        if not name:
            return identifier
        return f"{name} [{identifier}]" if self._bearers[name] > 1 else name

    def label(self, identifier: str) -> str:
        """The bare name of an identifier, or the identifier."""
        return self.names.get(identifier) or identifier

    @cached_property
    def _bearers(self) -> Counter[str]:
        return Counter(self.names.values())


@dataclass(frozen=True)
class SourceFile:
    """A file of a source. ``split`` is what its name says, or empty."""

    path: Path
    dataset: str
    split: str

    def number(self, row: int) -> str:
        """An id for a row of a format without ids, counted from 1."""
        return "-".join(filter(None, (self.dataset, self.split, str(row))))


class Format(Protocol):
    """One of the formats that a question set is published in."""

    @property
    def name(self) -> str:
        """What it is called among the formats of its set."""
        ...

    @property
    def what(self) -> str:
        """The format in words."""
        ...

    @property
    def files(self) -> tuple[str, ...]:
        """Patterns of the names of its files in a folder, without endings of compression."""
        ...

    def fits(self, path: Path, sample: Row | str) -> bool:
        """True if the first row (or line) of a file is in this format."""
        ...

    def read(self, file: SourceFile, reading: Reading) -> Iterator[Item]:
        """The questions of a file. Raises :class:`kgr1.errors.DatasetError` with the place of what cannot be read."""
        ...


@dataclass(frozen=True)
class RowFormat:
    """A format with one question a row, told by the fields that every row has."""

    name: str
    what: str
    files: tuple[str, ...]
    keys: frozenset[str]
    question: Callable[[Row, SourceFile, Reading], Item | None]  # None: a row that is no question
    split: str = ""  # where the name of a file says none

    def fits(self, path: Path, sample: Row | str) -> bool:
        """See :class:`Format`."""
        return isinstance(sample, Row) and sample.fields.keys() >= self.keys

    def read(self, file: SourceFile, reading: Reading) -> Iterator[Item]:
        """See :class:`Format`."""
        file = SourceFile(file.path, file.dataset, file.split or self.split)
        for row in read_rows(file.path):
            item = self.question(row, file, reading)
            if item is not None:
                yield item


@dataclass(frozen=True)
class LineFormat:
    """A format with one question a line of text, told by the look of the first one."""

    name: str
    what: str
    files: tuple[str, ...]
    looks: Callable[[str], bool]
    questions: Callable[[Iterator[tuple[int, str]], SourceFile, Reading], Iterator[Question]]

    def fits(self, path: Path, sample: Row | str) -> bool:
        """See :class:`Format`."""
        return isinstance(sample, str) and self.looks(sample)

    def read(self, file: SourceFile, reading: Reading) -> Iterator[Item]:
        """See :class:`Format`."""
        for question in self.questions(read_lines(file.path), file, reading):
            yield Item(question)


def split_of(path: Path) -> str:
    """The split that the name of a file says, or an empty text.

    >>> split_of(Path("data/validation-00000-of-00001.parquet")), split_of(Path("kb.txt"))
    ('dev', '')
    """
    words = re.split(r"[^a-z]+", path.name.lower())
    return next((_WORDS[word] for word in words if word in _WORDS), "")
