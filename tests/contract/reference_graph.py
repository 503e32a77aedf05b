"""The retrieval operations in the most obvious way: scan all triples. Slow, short, and independent of the store."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence

from kgr1.graph.api import GraphInfo
from kgr1.graph.temporal import UNDATED, Span, format_span, parse_span
from kgr1.types import ErrorCode, Observation, Query, Triple


def fold(name: str) -> str:
    """What different spellings of one name have in common."""
    return " ".join(name.replace("_", " ").split()).casefold()


class ReferenceGraph:
    """Triples of identifiers; ``labels`` gives some entities a label, which other entities may share."""

    def __init__(
        self,
        triples: Sequence[tuple[str, str, str]],
        labels: Mapping[str, str] | None = None,
        spans: Sequence[str] | None = None,
    ) -> None:
        labels = labels or {}
        self.spans: dict[Triple, set[Span]] = {}
        for triple, text in zip(triples, spans or (), strict=bool(spans)):
            span = parse_span(text)
            assert span is not None
            self.spans.setdefault(Triple(*triple), set()).add(span)
        self.triples = sorted({Triple(*triple) for triple in triples})
        self.entities = {i: labels.get(i, i) for triple in self.triples for i in (triple.head, triple.tail)}
        self.relations = {triple.relation: triple.relation for triple in self.triples}
        self.bearers = Counter(self.entities.values())

    def execute(self, queries: Sequence[Query]) -> list[Observation]:
        return [self.answer(query) for query in queries]

    def info(self) -> GraphInfo:
        return GraphInfo(
            name="reference",
            triples=len(self.triples),
            entities=len(self.entities),
            relations=len(self.relations),
            ambiguous_names=sum(count > 1 for count in self.bearers.values()),
        )

    def close(self) -> None:
        pass

    def display(self, identifier: str) -> str:
        """The label, or label and identifier if the label is shared."""
        label = self.entities[identifier]
        return label if self.bearers[label] == 1 else f"{label} [{identifier}]"

    def answer(self, query: Query) -> Observation:
        """One observation."""
        if query.graph_id is not None:
            return _error(query, ErrorCode.SAMPLE_NOT_FOUND, "There is no such question graph.")
        if query.operation.takes_relation != (query.relation is not None) or not query.entity.strip():
            return _error(query, ErrorCode.FORMAT_ERROR, "Give an entity, and a relation to entity operations only.")
        entities = self._find(query.entity, self.entities)
        if not entities:
            return _error(query, ErrorCode.ENTITY_NOT_FOUND, f"No such entity.{_closest(query.entity, self.entities)}")
        relations = set(self.relations)
        if query.relation is not None:
            relations = self._find(query.relation, self.relations)
            if not relations:
                close = _closest(query.relation, self.relations)
                return _error(query, ErrorCode.RELATION_NOT_FOUND, f"No such relation.{close}")
        if query.time is not None and not self.spans:
            return _error(query, ErrorCode.FORMAT_ERROR, "This graph has no dates.")
        results = self._results(query, entities, relations)
        if not results:
            return _error(query, ErrorCode.NO_RESULTS, "Nothing is stored there; ask for the relations first.")
        total = len(results)
        page = sorted(results.items())[query.offset :][: query.limit]
        if not page:
            return _error(query, ErrorCode.NO_RESULTS, f"There are only {total} results.")
        names, ids = zip(*[key for key, _ in page], strict=True)
        dated = bool(self.spans) and query.operation.returns_entities
        times = tuple(tuple(format_span(*s) for s in sorted(spans) if s != UNDATED) for _, spans in page)
        understood = query.model_copy(update={"entity": self._understood(query.entity, entities)})
        if query.relation is not None and len(relations) == 1:
            understood = understood.model_copy(update={"relation": min(relations)})
        return Observation(query=understood, names=names, ids=ids, times=times if dated else (), total=total)

    def _understood(self, text: str, entities: set[str]) -> str:
        """The display name of the entity that the text leads to, the text itself if it leads to several."""
        return self.display(min(entities)) if len(entities) == 1 else text

    def _results(self, query: Query, entities: set[str], relations: set[str]) -> dict[tuple[str, str], set[Span]]:
        operation = query.operation
        results: dict[tuple[str, str], set[Span]] = {}
        for triple in self.triples:
            near, far = (triple.head, triple.tail) if operation.outgoing else (triple.tail, triple.head)
            if near not in entities or triple.relation not in relations:
                continue
            spans = self.spans.get(triple, {UNDATED})
            if query.time is not None:
                spans = {span for span in spans if _holds(query.time, span)}
            if spans:
                key = (self.display(far), far) if operation.returns_entities else (triple.relation,) * 2
                results.setdefault(key, set()).update(spans)
        return results

    def _find(self, text: str, known: Mapping[str, str]) -> set[str]:
        if text in known:
            return {text}
        by_label = {i for i, label in known.items() if label == text}
        by_display = {i for i, label in known.items() if f"{label} [{i}]" == text}
        by_fold = {i for i, label in known.items() if fold(text) in (fold(i), fold(label))}
        return by_label or by_display or by_fold


def _holds(time: str, span: Span) -> bool:
    word, _, date = time.rpartition(" ")
    period = parse_span(date)
    assert period is not None
    if span == UNDATED:
        return False
    if word == "before":
        return span[1] < period[0]
    return span[0] > period[1] if word == "after" else span[0] <= period[1] and span[1] >= period[0]


def _error(query: Query, code: ErrorCode, message: str) -> Observation:
    return Observation(query=query, error=code, message=message)


def _closest(text: str, known: Mapping[str, str]) -> str:
    close = difflib.get_close_matches(text, known.values(), 3, 0.5)
    return f" Closest names: {', '.join(close)}." if close else ""
