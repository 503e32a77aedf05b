"""Names of terms and terms of names, for a graph whose names have been fetched.

:class:`Names` is what retrieval asks. :class:`LocalNames` holds every name of one kind (entities or relations) in
memory and answers exactly as a store's vocabulary does; :mod:`kgr1.graph.sparql.remote` asks the endpoint instead.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple, Protocol

from kgr1.graph.encode import _display, _display_kinds, encode_names
from kgr1.graph.names import lookup_key, readings
from kgr1.graph.readers.terms import local_name
from kgr1.graph.sparql.fetch import MAX_ROWS, Fetcher
from kgr1.graph.sparql.naming import Naming
from kgr1.graph.sparql.options import ANY_LANGUAGE, SparqlOptions
from kgr1.graph.sparql.queries import Queries
from kgr1.graph.sparql.terms import Term
from kgr1.graph.vocabulary import Vocabulary


class Named(NamedTuple):
    """A term as users see it."""

    name: str  # unique among the entities or the relations of the graph
    id: str


class Lookup(NamedTuple):
    """What a text names: one term, several, or none; or why the endpoint did not say."""

    terms: tuple[Term, ...] = ()
    failure: str = ""


class Names(Protocol):
    """Lookup of one kind of names in one graph."""

    def find(self, texts: Iterable[str]) -> dict[str, Lookup]:
        """What each text names."""
        ...

    def named(self, terms: Iterable[Term]) -> dict[Term, Named]:
        """How each term is shown."""
        ...

    def closest(self, text: str, count: int) -> list[str]:
        """Up to ``count`` display names like the text, best first."""
        ...


class LabelChoice:
    """Which of several labels is shown: by language, then by predicate, then the first in the alphabet."""

    def __init__(self, options: SparqlOptions) -> None:
        languages = [tag.lower() for tag in options.languages if tag != ANY_LANGUAGE]
        self._languages = {tag: rank for rank, tag in enumerate(dict.fromkeys([*languages, ""]))}
        self._predicates = {address: rank for rank, address in enumerate(options.labels)}

    def rank(self, predicate: str, label: Term) -> tuple[int, int, str, str]:
        """Smaller is better. The first number is that of a wanted language, or larger than all of them."""
        language = label.language.lower()
        return (
            self._languages.get(language, len(self._languages)),
            self._predicates.get(predicate, len(self._predicates)),
            label.value,
            language,
        )

    def wanted(self, label: Term) -> bool:
        """Whether the label is in one of the languages that were asked for, or in none."""
        return label.language.lower() in self._languages


class LocalNames:
    """All names of one kind, in memory. Immutable; safe to share between threads."""

    def __init__(self, terms: Sequence[Term], ids: Sequence[str], labels: Sequence[str],
                 aliases: Mapping[Term, Sequence[str]]) -> None:  # fmt: skip
        self.terms = list(terms)
        self._ids = list(ids)
        self._labels = list(labels)
        kinds, self.ambiguous = _display_kinds(self._ids, self._labels)
        shown = [_display(*row) for row in zip(kinds, self._labels, self._ids, strict=True)]
        self._named = {term: Named(name, identifier) for term, name, identifier in zip(terms, shown, ids, strict=True)}
        self._by_id: dict[str, Term] = {}
        self._by_label: defaultdict[str, list[Term]] = defaultdict(list)
        self._by_alias: defaultdict[str, list[Term]] = defaultdict(list)
        self._by_key: defaultdict[str, list[Term]] = defaultdict(list)
        self._label: dict[Term, str] = {}
        for term, identifier, label in zip(terms, ids, labels, strict=True):
            self._by_id[identifier] = term
            self._by_label[label].append(term)
            self._label[term] = label
            others = aliases.get(term, ())
            for alias in others:
                self._by_alias[alias].append(term)
            for key in {lookup_key(text) for text in (identifier, label, *others)}:
                self._by_key[key].append(term)
        for term in terms:
            self._by_id.setdefault(term.identifier, term)  # the whole IRI is understood too
        self._vocabulary: Vocabulary | None = None
        self._lock = threading.Lock()

    def __contains__(self, term: object) -> bool:
        return term in self._named

    def __len__(self) -> int:
        return len(self.terms)

    def find(self, texts: Iterable[str]) -> dict[str, Lookup]:
        """By identifier, else label, ``label [id]``, alias, lookup key; see :class:`Names`."""
        return {text: Lookup(self._find(text)) for text in texts}

    def named(self, terms: Iterable[Term]) -> dict[Term, Named]:
        """See :class:`Names`. Terms that are not of the graph are left out."""
        return {term: self._named[term] for term in terms if term in self._named}

    def closest(self, text: str, count: int) -> list[str]:
        """See :class:`Names`."""
        if not self.terms:
            return []
        with self._lock:
            if self._vocabulary is None:
                labels = dict(zip(self._ids, self._labels, strict=True))
                self._vocabulary = Vocabulary(encode_names(list(labels), labels, {})[0])
        return self._vocabulary.closest(text, count)

    def _find(self, text: str) -> tuple[Term, ...]:
        for reading in (text, *readings(text)):
            by_id = self._by_id.get(reading)
            if by_id is not None:
                return (by_id,)
            found = (
                self._by_label.get(reading)
                or self._with_label_and_id(reading, exactly=True)
                or self._by_alias.get(reading)
                or self._with_label_and_id(reading, exactly=False)
                or self._by_key.get(lookup_key(reading))
            )
            if found:
                return tuple(found)
        return ()

    def _with_label_and_id(self, text: str, *, exactly: bool) -> list[Term]:
        label, bracket, identifier = text.rpartition(" [")
        if not (bracket and text.endswith("]")):
            return []
        identifier = identifier[:-1]
        if exactly:
            term = self._by_id.get(identifier)
            return [term] if term is not None and self._label[term] == label else []
        key, label_key = lookup_key(identifier), lookup_key(label)
        alike = [term for term in self._by_key.get(key, ()) if lookup_key(self._named[term].id) == key]
        return [term for term in alike if lookup_key(self._label[term]) == label_key]


def fetch_names(
    fetcher: Fetcher, queries: Queries, naming: Naming, *, relations: bool, timeout_s: float | None = None
) -> LocalNames:
    """All entities (or relations) of a graph with their labels and aliases.

    Raises :class:`Refused` if the endpoint does not give them.
    """
    options = fetcher.endpoint.options
    pattern = queries.all_relations() if relations else queries.entities()
    found = {row[0]: None for row in fetcher.all_rows(pattern, timeout_s, MAX_ROWS) if row[0] is not None}
    terms = [term for term in found if not (relations and term.value in queries.hidden)]
    choice = LabelChoice(options)
    best: dict[Term, tuple[int, int, str, str]] = {}
    others: defaultdict[Term, set[str]] = defaultdict(set)
    for predicates in filter(None, (options.labels, options.aliases)):
        # Relations are few among all that has a label, so that theirs are asked for by name.
        patterns = [queries.all_labels(predicates)]
        if relations:
            parts = [terms[start : start + options.batch] for start in range(0, len(terms), options.batch)]
            everything = ANY_LANGUAGE in options.languages
            patterns = [queries.labels(part, predicates, True, everything) for part in parts]
        rows = chain.from_iterable(fetcher.all_rows(pattern, timeout_s, MAX_ROWS) for pattern in patterns)
        for entity, predicate, label in rows:
            if entity is None or predicate is None or label is None or entity not in found:
                continue
            others[entity].add(label.value)
            if predicates is options.labels:
                rank = choice.rank(predicate.value, label)
                best[entity] = min(best.get(entity, rank), rank)
    labels = [term.value if term.is_literal else best[term][2] if term in best else "" for term in terms]
    ids = [naming.identifier(term, label or None) for term, label in zip(terms, labels, strict=True)]
    labels = [
        label or (local_name(identifier) if identifier == term.value else identifier)
        for label, identifier, term in zip(labels, ids, terms, strict=True)
    ]
    order = sorted(range(len(terms)), key=ids.__getitem__)
    aliases = {terms[i]: sorted(others[terms[i]] - {labels[i]}) for i in order if terms[i] in others}
    return LocalNames([terms[i] for i in order], [ids[i] for i in order], [labels[i] for i in order], aliases)
