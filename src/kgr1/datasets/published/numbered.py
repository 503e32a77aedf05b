"""Questions that carry their graph as numbers (He et al., NSM, WSDM 2021): ``*_simple.json``.

``entities.txt`` and ``relations.txt`` beside the file say what a number stands for, from 0. Entities there are
Freebase ids and values; their names come from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kgr1.datasets.published.format import Item, Reading, SourceFile, Triple
from kgr1.datasets.published.gold import entity, unique
from kgr1.datasets.published.rows import Row, read_rows
from kgr1.errors import DatasetError, GraphError
from kgr1.graph.readers.numbered import Numbered
from kgr1.graph.readers.place import Place
from kgr1.types import GoldAnswer, Question

_KEYS = frozenset({"id", "question", "entities", "answers", "subgraph"})


class NumberedFormat:
    """See the module."""

    name = "rows with a graph of numbers"
    what = "JSON lines (*_simple.json) with entities.txt and relations.txt beside them (NSM)"
    files = ("*_simple.json",)

    def fits(self, path: Path, sample: Row | str) -> bool:
        """See :class:`kgr1.datasets.published.format.Format`."""
        return isinstance(sample, Row) and sample.fields.keys() >= _KEYS

    def read(self, file: SourceFile, reading: Reading) -> Iterator[Item]:
        """See :class:`kgr1.datasets.published.format.Format`."""
        try:
            numbered = Numbered(file.path, Place(str(file.path), unit="row"))
        except GraphError as error:
            raise DatasetError(error.message, **error.details) from error
        for row in read_rows(file.path):
            yield self._item(row, file, reading, numbered)

    def _item(self, row: Row, file: SourceFile, reading: Reading, numbered: Numbered) -> Item:
        try:
            frame = numbered.facts(dict(row.fields), row.number)
        except GraphError as error:
            raise DatasetError(error.message, **error.details) from error
        graph: list[Triple] = [] if frame is None else frame.select("head", "relation", "tail").rows()
        nodes = {name for head, _, tail in graph for name in (head, tail)}
        topics = [self._entity(row, number, numbered) for number in self._numbers(row)]
        answers = unique(self._answer(answer, nodes, reading) for answer in row.rows("answers"))
        question = Question(
            id=row.text("id"),
            text=row.text("question"),
            topics=tuple(dict.fromkeys(reading.topic(topic) for topic in topics)),
            answers=answers,
            dataset=file.dataset,
            split=file.split,
            graph_id=row.text("id"),
        )
        return Item(question, graph)

    def _numbers(self, row: Row) -> list[Any]:
        numbers = row.fields["entities"]
        if not isinstance(numbers, list):
            row.bad("'entities' must be a list of numbers")
        return numbers

    def _entity(self, row: Row, number: Any, numbered: Numbered) -> str:
        if isinstance(number, str) and number.strip():  # some releases write the identifier itself
            return number
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(numbered.entities):
            row.bad(f"'entities' holds {number!r:.40}, which is no line of entities.txt")
        return str(numbered.entities[number])

    def _answer(self, answer: Row, nodes: set[str], reading: Reading) -> GoldAnswer:
        # Where kb_id is a number, the identifier or value stands in text (SR's release).
        key = "text" if isinstance(answer.fields.get("kb_id"), int) else "kb_id"
        identifier = answer.text(key)
        label = answer.optional("text") if key == "kb_id" else ""
        label = label or reading.label(identifier)
        return (
            entity(identifier, label)
            if identifier in nodes
            else GoldAnswer(label=label, aliases=_other(identifier, label))
        )


def _other(identifier: str, label: str) -> tuple[str, ...]:
    return () if identifier == label else (identifier,)


NUMBERED = NumberedFormat()
