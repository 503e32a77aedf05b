"""Which entities of a graph a text names: through the graph's name index, or by asking queries where it has none.

A graph that satisfies :class:`kgr1.graph.api.NameIndex` is looked up directly. Any other one (a server, an endpoint, a
question graph inside a store) is asked for the relations of the candidates, in one batch: an entity that is not there
is answered with ``KG_ENTITY_NOT_FOUND`` and the closest names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence

from kgr1.graph.api import KnowledgeGraph, NameIndex, NameMatch
from kgr1.types import ErrorCode, Observation, Operation, Query

MAX_BEARERS = 50
"""Entities looked at that share one name; those with fewer triples are left out."""

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


class Names:
    """Looks names up in one graph (or question graph) and remembers what it saw."""

    def __init__(self, graph: KnowledgeGraph, graph_id: str | None = None) -> None:
        self._graph = graph
        self._graph_id = graph_id
        self._index: NameIndex | None = graph if graph_id is None and isinstance(graph, NameIndex) else None
        self._found: dict[str, tuple[NameMatch, ...]] = {}
        self._suggested: dict[str, tuple[NameMatch, ...]] = {}
        self._relations: dict[str, tuple[str, ...]] = {}

    def find(self, texts: Collection[str]) -> dict[str, tuple[NameMatch, ...]]:
        """Every entity that each text names, the one with most triples first; texts that name none are left out."""
        unseen = [text for text in dict.fromkeys(texts) if text not in self._found]
        if self._index is not None:
            for text in unseen:
                self._found[text] = self._index.find_names(text)[:MAX_BEARERS]
        elif unseen:
            self._ask(unseen)
        return {text: found for text in texts if (found := self._found[text])}

    def closest(self, text: str, count: int) -> tuple[NameMatch, ...]:
        """Entities with names like the text.

        Without an index these are the suggestions of the error that :meth:`find` got for the same text.
        """
        if self._index is not None:
            return self._index.closest_names(text, count)
        self.find([text])
        return self._suggested.get(text, ())

    def relations(self, names: Collection[str]) -> dict[str, tuple[str, ...]]:
        """The relations of entities in either direction, by display name; none for one that is not there."""
        unseen = [name for name in dict.fromkeys(names) if name not in self._relations]
        observed = self._execute(unseen, Operation.GET_TAIL_RELATIONS, Operation.GET_HEAD_RELATIONS)
        for name, observations in zip(unseen, observed, strict=True):
            self._relations[name] = tuple(dict.fromkeys(r for o in observations for r in o.names))
        return {name: self._relations[name] for name in names}

    def _ask(self, texts: Sequence[str]) -> None:
        """Find texts by queries: one batch for all, one for the names that they suggest."""
        observed = self._execute(texts, Operation.GET_TAIL_RELATIONS, Operation.GET_HEAD_RELATIONS)
        suggested = {}
        for text, observations in zip(texts, observed, strict=True):
            match = self._match(text, observations)
            self._found[text] = () if match is None else (match,)
            if match is None:
                suggested[text] = _suggestions(observations[0].message)
        unknown = [n for names in suggested.values() for n in names if n not in self._found]
        unknown = list(dict.fromkeys(unknown))
        for name, observations in zip(
            unknown, self._execute(unknown, Operation.GET_TAIL_RELATIONS, Operation.GET_HEAD_RELATIONS), strict=True
        ):
            match = self._match(name, observations)
            self._found[name] = () if match is None else (match,)
        for text, names in suggested.items():
            self._suggested[text] = tuple(match for name in names for match in self._found[name])

    def _match(self, text: str, observations: Sequence[Observation]) -> NameMatch | None:
        """The entity behind two answers about its relations, None if there is none."""
        if any(o.error not in (None, ErrorCode.NO_RESULTS) for o in observations):
            return None
        answered = [o for o in observations if o.ok]
        name = answered[0].query.entity if answered else text
        self._relations[name] = tuple(dict.fromkeys(r for o in answered for r in o.names))
        return NameMatch(name, name, sum(o.total for o in answered))

    def _execute(self, texts: Sequence[str], *operations: Operation) -> list[list[Observation]]:
        """The answers to several operations on each text."""
        queries = [Query(operation=o, entity=text, graph_id=self._graph_id) for text in texts for o in operations]
        answers = self._graph.execute(queries) if queries else []
        width = len(operations)
        return [answers[i : i + width] for i in range(0, len(answers), width)]


def _suggestions(message: str) -> list[str]:
    """The names in quotation marks of a not-found sentence, after the one that was asked for.

    They are only read if they turn out to be entities whose names are like the text.
    """
    names = []
    for quoted in _QUOTED.findall(message)[1:4]:
        try:
            names.append(str(json.loads(quoted)))
        except ValueError:
            continue
    return [name for name in names if name.strip()]
