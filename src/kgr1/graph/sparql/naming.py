"""Between RDF terms and the identifiers that users see: prefixes, plain names under a namespace, literals."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from urllib.parse import quote as percent_encode
from urllib.parse import unquote

from kgr1.errors import GraphError
from kgr1.graph.encode import check_name
from kgr1.graph.sparql.options import RDFS_LABEL, SparqlOptions
from kgr1.graph.sparql.terms import XSD, Term, iri, is_iri, literal, quote, read_literal

_LONG_NAME = 600  # bytes of a percent-encoded name; some servers refuse IRIs much longer than a thousand
_LONGEST_LITERAL = 60_000  # characters of an identifier that is read as a literal
_HASHED = "~"  # marks a name that is hashed; percent_encode leaves it alone, so it is encoded by hand

# Datatypes that a lexical form can have, tried when a text may stand for a literal.
_NUMBERS = tuple(XSD + name for name in ("integer", "int", "long", "nonNegativeInteger", "decimal", "double", "float"))
_PLAUSIBLE: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = (
    (re.compile(r"[+-]?\d{1,30}"), _NUMBERS),
    (re.compile(r"[+-]?\d{1,30}\.\d{1,30}"), (XSD + "decimal", XSD + "double", XSD + "float")),
    (re.compile(r"[+-]?\d{1,30}(\.\d{1,30})?[eE][+-]?\d{1,4}"), (XSD + "double", XSD + "float")),
    (re.compile(r"-?\d{4,9}(Z|[+-]\d\d:\d\d)?"), (XSD + "gYear",)),
    (re.compile(r"-?\d{4,9}-\d\d(Z|[+-]\d\d:\d\d)?"), (XSD + "gYearMonth",)),
    (re.compile(r"-?\d{4,9}-\d\d-\d\d(Z|[+-]\d\d:\d\d)?"), (XSD + "date",)),
    (re.compile(r"-?\d{4,9}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?"), (XSD + "dateTime",)),
    (re.compile(r"true|false|0|1"), (XSD + "boolean",)),
    (re.compile(r"[a-z][a-z0-9+.-]*:\S+"), (XSD + "anyURI",)),
)


class Naming:
    """Identifiers of terms and back, as the options say."""

    def __init__(self, options: SparqlOptions, *, relations: bool = False) -> None:
        pairs: list[tuple[str, str]] = [
            *(options.relation_prefixes.items() if relations else ()),
            *options.prefixes.items(),
        ]
        self._to_short = sorted(pairs, key=lambda pair: -len(pair[1]))  # the longest namespace that fits is the best
        self._to_full = sorted(pairs, key=lambda pair: -len(pair[0]))  # and so is the longest prefix
        self._plain = options.namespace
        self._languages = tuple(tag for tag in options.languages if tag != "*")

    def identifier(self, term: Term, label: str | None = None) -> str:
        """How a term is identified; the label is that of a plain name too long to stand in its IRI."""
        if term.is_literal:
            return term.identifier
        if self._plain and term.value.startswith(self._plain):
            local = term.value[len(self._plain) :]
            if local.startswith(_HASHED):
                return label or local
            name = unquote(local)
            return name if name.strip() and plain_iri(self._plain, name) == term.value else term.value
        for short, namespace in self._to_short:
            local = term.value[len(namespace) :]
            if local and term.value.startswith(namespace):
                shortened = short + local
                if next(self._expansions(shortened), "") == term.value:
                    return shortened
        return term.value

    def terms(self, identifier: str) -> list[Term]:
        """The terms that an identifier can stand for, the likeliest first; whether they exist is another question."""
        found: list[Term] = []
        short = len(identifier) <= _LONGEST_LITERAL
        as_literal = read_literal(identifier) if short and identifier.startswith('"') else None
        if as_literal is not None:
            found.append(as_literal)
        try:
            identifier.encode("utf-8")
        except UnicodeEncodeError:
            return []
        found += [iri(value) for value in self._expansions(identifier)]
        return list(dict.fromkeys(found))

    def _expansions(self, identifier: str) -> Iterator[str]:
        if self._plain and identifier.strip():
            yield plain_iri(self._plain, identifier)
        for short, namespace in self._to_full:
            if identifier.startswith(short) and len(identifier) > len(short):
                value = namespace + identifier[len(short) :]
                if len(value) <= 4 * _LONG_NAME and is_iri(value):
                    yield value
        if len(identifier) <= 4 * _LONG_NAME and is_iri(identifier):
            yield identifier

    def literals(self, text: str) -> list[Term]:
        """The literals whose lexical form is the text and whose datatype or language is one of the usual ones."""
        found = [literal(text), *(literal(text, language=language) for language in self._languages)]
        for pattern, datatypes in _PLAUSIBLE:
            if pattern.fullmatch(text):
                found += [literal(text, datatype) for datatype in datatypes]
        return found


def plain_iri(namespace: str, name: str) -> str:
    """The IRI of a plain name: the namespace and the percent-encoded name, or its hash if that would be very long.

    >>> plain_iri("http://example.org/", "Gert Fröbe")
    'http://example.org/Gert%20Fr%C3%B6be'
    """
    if len(name) <= _LONG_NAME:
        encoded = percent_encode(name, safe="").replace(_HASHED, "%7E")
        if len(encoded) <= _LONG_NAME:
            return namespace + encoded
    return namespace + _HASHED + blake2b(name.encode("utf-8"), digest_size=20).hexdigest()


def to_ntriples(
    triples: Iterable[tuple[str, str, str]],
    labels: Mapping[str, str] | None = None,
    *,
    namespace: str = "http://kgr1.example/",
) -> Iterator[str]:
    """Lines of N-Triples (with line ends) of a graph of plain names, for loading into any RDF store.

    Every name becomes an IRI under ``namespace`` (:func:`plain_iri`) with an ``rdfs:label``, its entry in ``labels`` or
    the name itself. :class:`SparqlGraph` with the option ``namespace`` shows the names again. Memory grows with the
    number of names, not of triples. Raises :class:`GraphError` for a name that is empty or not valid Unicode.
    """
    labels = labels or {}
    known: dict[str, str] = {}

    def term(name: str) -> str:
        text = known.get(name)
        if text is None:
            problem = check_name(name)
            if problem:
                raise GraphError(f"A triple cannot be written: {problem}.")
            text = known[name] = f"<{plain_iri(namespace, name)}>"
        return text

    for head, relation, tail in triples:
        yield f"{term(head)} {term(relation)} {term(tail)} .\n"
    for name, text in known.items():
        yield f"{text} <{RDFS_LABEL}> {quote(labels.get(name) or name)} .\n"
