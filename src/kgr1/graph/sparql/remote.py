"""Names of a graph that is too large to fetch them: every lookup is a few queries for a whole batch of names.

The rules are those of :class:`kgr1.graph.sparql.names.LocalNames`, with limits on what a lookup may cost. A name in
another spelling is looked for as the usual variants of it and then by one search through all labels, which is given
up for a while if the endpoint does not answer it in ``scan_timeout_s``. Literals are found by their text if their
datatype is a common one.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

from kgr1.graph.encode import is_blank
from kgr1.graph.names import Closeness, lookup_key, readings
from kgr1.graph.sparql.endpoint import Refused
from kgr1.graph.sparql.fetch import PATIENCE, Fetcher, Found, TooManyRows
from kgr1.graph.sparql.names import LabelChoice, Lookup, Named
from kgr1.graph.sparql.naming import Naming
from kgr1.graph.sparql.options import ANY_LANGUAGE
from kgr1.graph.sparql.queries import Queries
from kgr1.graph.sparql.terms import Term

_CACHED = 100_000  # names and texts remembered
_LONGEST_LABEL = 50_000  # characters of a text that is looked for among labels
_LONGEST_KEY = 300  # characters of a text that is looked for in other spellings
_NO_SCAN_S = 600.0
_CANDIDATES = 300  # labels compared for one list of closest names


K = TypeVar("K")
V = TypeVar("V")


class Claim(NamedTuple):
    """Who bears a text: by identifier, as the label that is shown, as another label."""

    by_id: tuple[Term, ...] = ()
    by_label: tuple[Term, ...] = ()
    by_alias: tuple[Term, ...] = ()


class RemoteNames:
    """Names of one kind, looked up at the endpoint; satisfies :class:`kgr1.graph.sparql.names.Names`."""

    def __init__(self, fetcher: Fetcher, queries: Queries, naming: Naming, *, relations: bool) -> None:
        self._fetcher = fetcher
        self._queries = queries
        self._naming = naming
        self._relations = relations
        self._options = fetcher.endpoint.options
        self._choice = LabelChoice(self._options)
        self._lock = threading.Lock()
        self._claims: dict[str, Claim] = {}
        self._found: dict[str, tuple[Term, ...]] = {}
        self._labels: dict[Term, tuple[str, bool]] = {}  # the label (or ""), and whether its language is wanted
        self._named: dict[Term, Named] = {}
        self._closest: dict[str, list[str]] = {}
        self._no_scan_until = 0.0

    def find(self, texts: Iterable[str]) -> dict[str, Lookup]:
        """By identifier, else label, ``label [id]``, alias, other spellings; see :class:`Names`."""
        result: dict[str, Lookup] = {}
        pending = [list(dict.fromkeys(texts))]
        deadline = time.monotonic() + PATIENCE * self._options.timeout_s
        while pending:
            some = pending.pop()
            try:
                result |= {text: Lookup(terms) for text, terms in self._find(some).items()}
            except Refused as error:  # perhaps one strange name that the endpoint chokes on
                if len(some) == 1 or time.monotonic() > deadline:
                    result |= dict.fromkeys(some, Lookup(failure=str(error)))
                else:
                    pending += [some[: len(some) // 2], some[len(some) // 2 :]]
        return result

    def _find(self, texts: Sequence[str]) -> dict[str, tuple[Term, ...]]:
        with self._lock:
            result = {text: self._found[text] for text in texts if text in self._found}
        open_readings = {text: [text, *readings(text)] for text in texts if text not in result}
        while open_readings:
            now = {text: rest[0] for text, rest in open_readings.items()}
            found = self._find_readings(list(dict.fromkeys(now.values())))
            for text, reading in now.items():
                if found[reading] or len(open_readings[text]) == 1:
                    result[text] = found[reading]
                    del open_readings[text]
                else:
                    open_readings[text] = open_readings[text][1:]
        fresh = {text: terms for text, terms in result.items() if terms and len(text) < 1000}
        self._remember(self._found, fresh)
        return result

    def _find_readings(self, texts: Sequence[str]) -> dict[str, tuple[Term, ...]]:
        claims = self._claim(texts)
        found = {text: claim.by_id or claim.by_label for text, claim in claims.items()}
        found |= self._with_label_and_id(text for text in texts if not found[text])
        found = {text: terms or claims[text].by_alias for text, terms in found.items()}
        missing = [text for text in texts if not found[text] and len(text) <= _LONGEST_KEY and _is_text(text)]
        found |= self._with_key(missing)
        return found

    def _claim(self, texts: Iterable[str]) -> dict[str, Claim]:
        """Who bears each text, from the cache or in three queries for all."""
        texts = list(dict.fromkeys(texts))
        with self._lock:
            known = {text: self._claims[text] for text in texts if text in self._claims}
        missing = [text for text in texts if text not in known]
        if not missing:
            return known
        ids = {text: self._naming.terms(text) for text in missing}
        short = {text: self._naming.literals(text) for text in missing if _is_text(text)}
        nodes = {} if self._relations else short
        bearers = self._bearers(short)
        existing = self._existing(
            [term for group in (ids, nodes, bearers) for terms in group.values() for term in terms]
        )
        bearers = {text: [term for term in terms if term in existing] for text, terms in bearers.items()}
        labels = self._label({term for terms in bearers.values() for term in terms})
        fresh = {}
        for text in missing:
            by_id = [term for term in ids[text] if term in existing and self._is_identified(term, text)]
            as_nodes = [term for term in nodes.get(text, ()) if term in existing]
            with_text = bearers.get(text, [])
            shown = [term for term in with_text if labels[term][0] == text]
            others = [term for term in with_text if labels[term][0] != text]
            fresh[text] = Claim(tuple(by_id[:1]), tuple(dict.fromkeys([*as_nodes, *shown])), tuple(others))
        self._remember(self._claims, {text: claim for text, claim in fresh.items() if len(text) < 1000})
        return known | fresh

    def _is_identified(self, term: Term, text: str) -> bool:
        return term.is_literal or term.value == text or self._naming.identifier(term, text) == text

    def _existing(self, terms: Iterable[Term]) -> set[Term]:
        keys = list(dict.fromkeys(terms))
        found = self._fetcher.by_key(keys, lambda some: self._queries.existing(some, self._relations))
        _raise_failure(found.values())
        return {key for key in keys if found[key].total}

    def _bearers(self, forms: dict[str, list[Term]]) -> dict[str, list[Term]]:
        """The entities (or relations) with each text as a label or alias, given the literals that it can be."""
        keys = [(text, form) for text, terms in forms.items() for form in terms if not form.datatype]
        found = self._fetcher.by_key(
            keys, lambda some: self._queries.bearers([(n, key[1]) for n, key in some], self._relations)
        )
        result: defaultdict[str, dict[Term, None]] = defaultdict(dict)
        _raise_failure(found.values())
        for (text, _), group in found.items():
            if group.terms is None:
                raise Refused(f"{group.total:,} bearers of the name {text[:100]!r}")
            result[text] |= dict.fromkeys(group.terms)
        return {text: sorted(terms) for text, terms in result.items()}

    def _label(self, terms: Iterable[Term]) -> dict[Term, tuple[str, bool]]:
        """The label of each term ("" if there is none), and whether it is in a wanted language."""
        terms = list(dict.fromkeys(terms))
        result = {term: (term.value, True) for term in terms if term.is_literal}
        with self._lock:
            result |= {term: self._labels[term] for term in terms if term in self._labels}
        missing = [term for term in terms if term not in result]
        best = self._best_labels(missing, any_language=False)
        if ANY_LANGUAGE in self._options.languages:
            best |= self._best_labels([term for term in missing if term not in best], any_language=True)
        fresh = {term: best.get(term, ("", True)) for term in missing}
        self._remember(self._labels, fresh)
        return result | fresh

    def _best_labels(self, terms: Sequence[Term], any_language: bool) -> dict[Term, tuple[str, bool]]:
        best: dict[Term, tuple[tuple[int, int, str, str], bool]] = {}
        for start in range(0, len(terms), self._options.batch):
            some = terms[start : start + self._options.batch]
            pattern = self._queries.labels(some, self._options.labels, self._relations, any_language)
            for term, predicate, label in self._fetcher.all_rows(pattern):
                if term is None or predicate is None or label is None:
                    continue
                candidate = (self._choice.rank(predicate.value, label), self._choice.wanted(label))
                best[term] = min(best.get(term, candidate), candidate)
        return {term: (rank[2], wanted) for term, (rank, wanted) in best.items()}

    def named(self, terms: Iterable[Term]) -> dict[Term, Named]:
        """See :class:`Names`."""
        terms = list(dict.fromkeys(terms))
        with self._lock:
            known = {term: self._named[term] for term in terms if term in self._named}
        missing = [term for term in terms if term not in known]
        labels = self._label(missing)
        ids = {term: self._naming.identifier(term, labels[term][0] or None) for term in missing}
        labelled = {term: labels[term][0] for term in missing if labels[term][0] not in ("", ids[term])}
        composed = {term: f"{label} [{ids[term]}]" for term, label in labelled.items()}
        fresh = {}
        try:
            claims = self._claim(labelled.values())
            doubtful = [term for term in labelled if not self._alone(term, claims[labelled[term]], labels[term][1])]
            claims |= self._claim(composed[term] for term in doubtful)
        except Refused:  # whether a label is shared is not known: identifiers are always right
            return known | {term: Named(ids[term], ids[term]) for term in missing}
        for term in missing:
            identifier, name = ids[term], ids[term]
            label = labelled.get(term, "")
            if label and not is_blank(label):
                if self._alone(term, claims[label], labels[term][1]):
                    name = label
                elif not (" [" in identifier or is_blank(identifier) or any(claims[composed[term]][:2])):
                    name = composed[term]
            fresh[term] = Named(name, identifier)
        self._remember(self._named, fresh)
        return known | fresh

    def _alone(self, term: Term, claim: Claim, wanted: bool) -> bool:
        """Whether the label is this term's alone, so that it can be shown without its identifier."""
        return wanted and not claim.by_id and set(claim.by_label) <= {term}

    def _with_label_and_id(self, texts: Iterable[str]) -> dict[str, tuple[Term, ...]]:
        parts = {}
        for text in texts:
            label, bracket, identifier = text.rpartition(" [")
            if bracket and text.endswith("]"):
                parts[text] = (lookup_key(label), identifier[:-1])
        claims = self._claim(identifier for _, identifier in parts.values())
        labels = self._label(term for claim in claims.values() for term in claim.by_id)
        return {
            text: tuple(
                term for term in claims[identifier].by_id if labels[term][0] and lookup_key(labels[term][0]) == label
            )
            for text, (label, identifier) in parts.items()
        }

    def _with_key(self, texts: Sequence[str]) -> dict[str, tuple[Term, ...]]:
        """What the usual other spellings of each text name; else what a search through all labels finds."""
        keys = {text: lookup_key(text) for text in texts}
        variants = {text: _variants(text, key) for text, key in keys.items()}
        claims = self._claim(variant for group in variants.values() for variant in group)
        found: dict[str, dict[Term, None]] = {text: {} for text in texts}
        for text, group in variants.items():
            for variant in group:
                found[text] |= dict.fromkeys([*claims[variant].by_id, *claims[variant].by_label])
        scanned = self._scan(sorted({key for text, key in keys.items() if not found[text]}))
        for text, key in keys.items():
            found[text] |= dict.fromkeys(scanned.get(key, ()))
            if not found[text]:
                for variant in variants[text]:
                    found[text] |= dict.fromkeys(claims[variant].by_alias)
        return {text: tuple(sorted(terms)) for text, terms in found.items()}

    def _scan(self, keys: Sequence[str]) -> dict[str, list[Term]]:
        """The terms whose label or alias has one of the keys, as far as the endpoint's own lower case leads to them."""
        if not keys or time.monotonic() < self._no_scan_until:
            return {}
        result: defaultdict[str, list[Term]] = defaultdict(list)
        try:
            rows = self._fetcher.rows(self._queries.with_key(keys), self._options.scan_timeout_s)
        except (Refused, TooManyRows):
            self._no_scan_until = time.monotonic() + _NO_SCAN_S
            return {}
        terms = self._existing(row[0] for row in rows if row[0] is not None)
        for term, (label, _) in self._label(terms).items():
            result[lookup_key(label)].append(term)
        return result

    def closest(self, text: str, count: int) -> list[str]:
        """See :class:`Names`. Looks at some labels that share the beginning of a word with the text."""
        key = lookup_key(text[:_LONGEST_KEY])
        with self._lock:
            if key in self._closest:
                return self._closest[key]
        words = sorted({word for word in key.split() if len(word) > 2}, key=lambda word: (-len(word), word))[:4]
        if not words or time.monotonic() < self._no_scan_until:
            return []
        pattern = self._queries.with_parts([word[:4] for word in words])
        try:
            rows = self._fetcher.endpoint.select(
                pattern.select(_CANDIDATES), pattern.variables, timeout_s=self._options.scan_timeout_s
            )
            terms = self._existing(row[0] for row in rows if row[0] is not None)
            by_label: dict[str, Term] = {}
            for term, (label, _) in sorted(self._label(terms).items()):
                by_label.setdefault(label or term.value, term)
            best = [by_label[label] for label in Closeness(text).best(by_label, count)]
            named = self.named(best)
        except Refused:
            self._no_scan_until = time.monotonic() + _NO_SCAN_S
            return []
        names = [named[term].name for term in best]
        self._remember(self._closest, {key: names})
        return names

    def _remember(self, cache: dict[K, V], fresh: dict[K, V]) -> None:
        with self._lock:
            if len(cache) + len(fresh) > _CACHED:
                cache.clear()
            cache.update(fresh)


def _is_text(text: str) -> bool:
    """Whether a text can be asked for as a label."""
    if len(text) > _LONGEST_LABEL or not text.strip():
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _variants(text: str, key: str) -> list[str]:
    """Other spellings of a text that graphs commonly use."""
    plain = " ".join(text.replace("_", " ").split())
    bare = text.strip()
    forms = [bare, bare.lower(), plain, key, key.capitalize(), key.title(), key.upper(), plain[:1].upper() + plain[1:]]
    forms += [form.replace(" ", "_") for form in forms]
    return [form for form in dict.fromkeys(forms) if form and form != text and _is_text(form)]


def _raise_failure(found: Iterable[Found]) -> None:
    for one in found:
        if one.failure:
            raise Refused(one.failure)
