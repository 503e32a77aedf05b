"""Questions that carry their graph as a list of triples of names (columns of Luo et al., RoG, ICLR 2024).

A row has ``id, question, answer, q_entity, a_entity, graph``. Nodes are names; nodes without one keep the Freebase id.
``answer`` and ``a_entity`` are the same names except where an answer is a value. An answer that is no node of the graph
has no id here, so that a score counts it and a reader sees that it cannot be reached.
"""

from __future__ import annotations

from typing import cast

from kgr1.datasets.published.format import Item, Reading, RowFormat, SourceFile, Triple
from kgr1.datasets.published.gold import unique
from kgr1.datasets.published.rows import Row
from kgr1.types import GoldAnswer, Question


def _item(row: Row, file: SourceFile, reading: Reading) -> Item:
    graph = _graph(row)
    nodes = {name for head, _, tail in graph for name in (head, tail)}
    # The order is that of the file: a_entity may hold an entity that answer does not spell.
    answers = dict.fromkeys((*row.texts("answer"), *(row.texts("a_entity") if "a_entity" in row else ())))
    question = Question(
        id=row.text("id"),
        text=row.text("question"),
        topics=tuple(dict.fromkeys(row.texts("q_entity"))),
        answers=unique(GoldAnswer(label=name, id=name if name in nodes else None) for name in answers),
        dataset=file.dataset,
        split=file.split,
        graph_id=row.text("id"),
    )
    return Item(question, graph)


def _graph(row: Row) -> list[Triple]:
    graph = row.fields.get("graph")
    if not isinstance(graph, list):
        row.bad("'graph' must be a list of [head, relation, tail]")
    for number, triple in enumerate(graph, 1):
        if not isinstance(triple, list | tuple) or len(triple) != 3 or not all(isinstance(x, str) for x in triple):
            row.bad(f"item {number} of 'graph' is not [head, relation, tail]")
    # A triple with a blank name is left out, as the reader of graphs does.
    return [cast("Triple", tuple(triple)) for triple in graph if all(name.strip() for name in triple)]


WITH_GRAPH = RowFormat(
    name="rows with a graph of names",
    what="Parquet or JSON lines with id, question, answer, q_entity, a_entity and graph (rmanluo/RoG-*)",
    files=("*.parquet", "*.jsonl"),
    keys=frozenset({"id", "question", "answer", "q_entity", "graph"}),
    question=_item,
)
