"""The queries. Values come in through :meth:`Term.to_sparql` only.

A :class:`Pattern` is a group of a query with the variables that matter. Batches number their keys: the variable ``?k``
says which key of the VALUES block a row belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from kgr1.graph.sparql.options import ANY_LANGUAGE, SparqlOptions
from kgr1.graph.sparql.terms import XSD_STRING, Term, iri, quote


class Pattern(NamedTuple):
    """The inside of WHERE, and the variables whose distinct rows are the answer."""

    variables: tuple[str, ...]
    where: str

    def select(self, limit: int) -> str:
        """At most ``limit`` distinct rows, in any order."""
        return f"SELECT DISTINCT {self._listed} WHERE {{ {self.where} }} LIMIT {limit}"

    def counted(self) -> str:
        """The number of distinct rows, as ``?n``."""
        return f"SELECT (COUNT(*) AS ?n) WHERE {{ SELECT DISTINCT {self._listed} WHERE {{ {self.where} }} }}"

    def next_rows(self, limit: int, last: str | None) -> str:
        """Rows in the order of the text of the first variable, from ``last`` on (that text included)."""
        first = f"STR(?{self.variables[0]})"
        after = f" FILTER({first} >= {quote(last)})" if last is not None else ""
        return f"SELECT DISTINCT {self._listed} WHERE {{ {self.where}{after} }} ORDER BY {first} LIMIT {limit}"

    @property
    def _listed(self) -> str:
        return " ".join(f"?{name}" for name in self.variables)


def spellings(term: Term) -> list[str]:
    """A term as queries write it. Some stores keep ``"x"`` and ``"x"^^xsd:string`` apart; both are asked for."""
    text = term.to_sparql()
    if term.is_literal and not term.datatype and not term.language:
        return [text, f"{text}^^<{XSD_STRING}>"]
    return [text]


def values(names: Sequence[str], rows: Iterable[Sequence[Term | int]]) -> str:
    """A VALUES block; numbers stand for keys."""
    lines = []
    for row in rows:
        combined = [""]
        for cell in row:
            written = [str(cell)] if isinstance(cell, int) else spellings(cell)
            combined = [f"{left} {right}" for left in combined for right in written]
        lines += [f"({line.strip()})" for line in combined]
    return f"VALUES ({' '.join(f'?{name}' for name in names)}) {{ {' '.join(lines)} }}"


def iris(addresses: Iterable[str], separator: str = " ") -> str:
    """IRIs for VALUES of one variable or, with a comma, for IN."""
    return separator.join(iri(address).to_sparql() for address in addresses)


def _edge(outgoing: bool) -> Callable[[str], str]:
    """The triple pattern of an edge of ``?e``, or of a literal in its place."""
    return (lambda node: f"{node} ?p ?x") if outgoing else (lambda node: f"?x ?p {node}")


def _literal(cell: Term | int) -> bool:
    return not isinstance(cell, int) and cell.is_literal


def _cell(cell: Term | int) -> str:
    return str(cell) if isinstance(cell, int) else cell.to_sparql()


class Queries:
    """The queries on one graph of an endpoint."""

    def __init__(self, options: SparqlOptions, graph: str | None) -> None:
        self._options = options
        self._graph = graph
        self._label_graph = options.label_graph or graph
        hidden = dict.fromkeys((*options.labels, *options.aliases, *options.hide))
        self.hidden = frozenset(hidden)
        self._link = iri(options.property_link).to_sparql() if options.property_link else ""
        self._shown = f" FILTER(?p NOT IN ({iris(hidden, ', ')}))" if hidden else ""

    def facts(self, pattern: str) -> str:
        """A pattern over the facts."""
        return f"GRAPH {iri(self._graph).to_sparql()} {{ {pattern} }}" if self._graph else pattern

    def texts(self, pattern: str) -> str:
        """A pattern over labels."""
        graph = self._label_graph
        return f"GRAPH {iri(graph).to_sparql()} {{ {pattern} }}" if graph else pattern

    def relations(self, keys: Sequence[tuple[int, Term]], outgoing: bool) -> Pattern:
        """(k, p): the relations of each key as subject or as object. A literal is no subject."""
        near, far = ("s", "o") if outgoing else ("o", "s")
        triple: Callable[[str], str] = (lambda node: f"{node} ?p ?o") if outgoing else (lambda node: f"?s ?p {node}")
        branches = self._branches(("k", near), keys, 1, triple)
        where = f"{branches}{self._shown} FILTER(!isBlank(?{far}))"
        if self._link:
            where += f" FILTER EXISTS {{ {self.texts(f'?w {self._link} ?p')} }}"
        return Pattern(("k", "p"), where)

    def neighbours(self, keys: Sequence[tuple[int, Term, Term]], outgoing: bool) -> Pattern:
        """(k, x): what stands at the other end of each (entity, relation)."""
        branches = self._branches(("k", "e", "p"), keys, 1, _edge(outgoing))
        return Pattern(("k", "x"), f"{branches} FILTER(!isBlank(?x))")

    def union(self, pairs: Iterable[tuple[Term, Term]], outgoing: bool) -> Pattern:
        """(x,): what stands at the other end of any of the pairs."""
        branches = self._branches(("e", "p"), list(pairs), 0, _edge(outgoing))
        return Pattern(("x",), f"{branches} FILTER(!isBlank(?x))")

    def _branches(
        self, names: Sequence[str], keys: Sequence[Sequence[Term | int]], column: int, triple: Callable[[str], str]
    ) -> str:
        """The facts about every key: one VALUES block for IRIs, and one branch of a UNION for every literal.

        Virtuoso compares the literals of VALUES with all literals of the graph and looks constants up in its index.
        """
        resources = [key for key in keys if not _literal(key[column])]
        branches = []
        if resources or not keys:
            branches.append(f"{values(names, resources)} {self.facts(triple(f'?{names[column]}'))}")
        for key in keys:
            node = key[column]
            if isinstance(node, int) or not node.is_literal:
                continue
            others = [(name, cell) for name, cell in zip(names, key, strict=True) if cell is not node]
            bound = (
                f"VALUES ({' '.join(f'?{name}' for name, _ in others)}) {{ ({' '.join(_cell(c) for _, c in others)}) }}"
            )
            branches += [f"{bound} {self.facts(triple(text))}" for text in spellings(node)]
        return branches[0] if len(branches) == 1 else f"{{ {' UNION '.join(f'{{ {one} }}' for one in branches)} }}"

    def page_by_name(self, pattern: Pattern, offset: int, limit: int) -> str:
        """Rows (x, name) of a pattern over ``?x`` in the order of the labels, by the endpoint's comparison."""
        label = self.texts(f"VALUES ?lp {{ {iris(self._options.labels)} }} ?x ?lp ?l{self._in_languages()}")
        ordered = (
            f"SELECT ?x (MIN(?n) AS ?name) WHERE {{ {pattern.where} OPTIONAL {{ {label} }} "
            f"BIND(COALESCE(STR(?l), STR(?x)) AS ?n) }} GROUP BY ?x ORDER BY ?name STR(?x)"
        )
        # Virtuoso refuses to sort with a limit beyond 10,000, but not to cut what a subquery has sorted.
        return f"SELECT ?x ?name WHERE {{ {{ {ordered} }} }} LIMIT {limit} OFFSET {offset}"

    def any_edge(self, keys: Sequence[tuple[int, Term, Term]], outgoing: bool) -> Pattern:
        """(k,): the (entity, relation) keys with something at the other end."""
        triple = "?e ?p ?x" if outgoing else "?x ?p ?e"
        inside = self.facts(triple)
        return Pattern(("k",), f"{values(('k', 'e', 'p'), keys)} FILTER EXISTS {{ {inside} FILTER(!isBlank(?x)) }}")

    def existing(self, keys: Sequence[tuple[int, Term]], relations: bool) -> Pattern:
        """(k,): the terms that are entities (or relations) of the graph."""
        inside = self._relation_exists("e") if relations else self._entity_exists("e")
        return Pattern(("k",), f"{values(('k', 'e'), keys)} FILTER EXISTS {{ {inside} }}")

    def bearers(self, keys: Sequence[tuple[int, Term]], relations: bool) -> Pattern:
        """(k, e): the nodes with each label or alias; whether they are entities (or relations) is not asked."""
        predicates = iris((*self._options.labels, *self._options.aliases), ", ")
        node = "?w" if relations and self._link else "?e"
        branches = [
            f"{{ {self.texts(f'{node} ?lp {text}')} BIND({number} AS ?k) }}"
            for number, label in keys
            for text in spellings(label)
        ]
        where = f"{{ {' UNION '.join(branches)} }} FILTER(?lp IN ({predicates}))"
        if node == "?w":
            where += " " + self.texts(f"?w {self._link} ?e")
        return Pattern(("k", "e"), f"{where} FILTER(isIRI(?e))")

    def labels(
        self, terms: Sequence[Term], predicates: Sequence[str], relations: bool, any_language: bool = False
    ) -> Pattern:
        """(e, lp, l): the labels of some terms."""
        where = f"{values(('e',), [(term,) for term in terms])} {self._label_edges(predicates, relations)}"
        return Pattern(("e", "lp", "l"), where if any_language else where + self._in_languages())

    def all_labels(self, predicates: Sequence[str]) -> Pattern:
        """(e, lp, l): all labels of the graph."""
        where = f"{self._label_edges(predicates, False)} FILTER(isIRI(?e))"
        everything = ANY_LANGUAGE in self._options.languages
        return Pattern(("e", "lp", "l"), where if everything else where + self._in_languages())

    def entities(self) -> Pattern:
        """(e,): all entities."""
        outgoing = self.facts("?e ?p ?o") + f"{self._shown} FILTER(!isBlank(?o))"
        incoming = self.facts("?s ?p ?e") + f"{self._shown} FILTER(!isBlank(?s))"
        return Pattern(("e",), f"{{ {{ {outgoing} }} UNION {{ {incoming} }} }} FILTER(!isBlank(?e))")

    def all_relations(self) -> Pattern:
        """(p,): all relations."""
        if self._link:
            return Pattern(("p",), f"{self.texts(f'?w {self._link} ?p')} FILTER(isIRI(?p))")
        return Pattern(("p",), f"{self.facts('?s ?p ?o')}{self._shown} FILTER(!isBlank(?s) && !isBlank(?o))")

    def triples(self) -> Pattern:
        """(s, p, o): all facts."""
        return Pattern(("s", "p", "o"), f"{self.facts('?s ?p ?o')}{self._shown} FILTER(!isBlank(?s) && !isBlank(?o))")

    def shared_labels(self) -> Pattern:
        """(t,): the labels of more than one entity."""
        where = f"{self._label_edges(self._options.labels, False)}{self._in_languages()} FILTER(isIRI(?e))"
        exists = f"FILTER EXISTS {{ {self._entity_exists('e')} }} BIND(STR(?l) AS ?t)"
        return Pattern(
            ("t",), f"{{ SELECT ?t WHERE {{ {where} {exists} }} GROUP BY ?t HAVING(COUNT(DISTINCT ?e) > 1) }}"
        )

    def question_graphs(self) -> Pattern:
        """(g,): the named graphs of questions."""
        prefix = quote(self._options.graph_prefix or "")
        return Pattern(("g",), f"GRAPH ?g {{ ?s ?p ?o }} FILTER(STRSTARTS(STR(?g), {prefix}))")

    def size_up_to(self, limit: int) -> str:
        """The number of triples, as ``?n``, counted no further than ``limit``."""
        return f"SELECT (COUNT(*) AS ?n) WHERE {{ SELECT ?s WHERE {{ {self.facts('?s ?p ?o')} }} LIMIT {limit} }}"

    def with_key(self, keys: Sequence[str]) -> Pattern:
        """(e,): nodes whose label or alias is one of the keys in lower case, written with blanks or underscores."""
        wanted = ", ".join(quote(form) for key in keys for form in (key, key.replace(" ", "_")))
        return Pattern(("e",), f"{self._all_texts()} FILTER(LCASE(STR(?l)) IN ({wanted}))")

    def with_parts(self, parts: Sequence[str]) -> Pattern:
        """(e,): nodes whose label contains one of the parts, which are in lower case."""
        tests = " || ".join(f"CONTAINS(LCASE(STR(?l)), {quote(part)})" for part in parts)
        return Pattern(("e",), f"{self._all_texts()} FILTER({tests})")

    def _all_texts(self) -> str:
        predicates = iris((*self._options.labels, *self._options.aliases))
        return self.texts(f"VALUES ?lp {{ {predicates} }} ?e ?lp ?l") + f"{self._in_languages()} FILTER(isIRI(?e))"

    def _label_edges(self, predicates: Sequence[str], relations: bool) -> str:
        choice = f"VALUES ?lp {{ {iris(predicates)} }} "
        if relations and self._link:
            return self.texts(f"{choice}?w {self._link} ?e . ?w ?lp ?l")
        return self.texts(f"{choice}?e ?lp ?l")

    def _in_languages(self) -> str:
        tags = [quote(tag.lower()) for tag in self._options.languages if tag != ANY_LANGUAGE]
        return f" FILTER(LCASE(LANG(?l)) IN ({', '.join(dict.fromkeys([*tags, quote('')]))}))"

    def _entity_exists(self, name: str) -> str:
        outgoing = self.facts(f"?{name} ?p ?o") + f"{self._shown} FILTER(!isBlank(?o))"
        incoming = self.facts(f"?s ?p ?{name}") + f"{self._shown} FILTER(!isBlank(?s))"
        return f"{{ {outgoing} }} UNION {{ {incoming} }}"

    def _relation_exists(self, name: str) -> str:
        if self._link:
            return self.texts(f"?w {self._link} ?{name}")
        return f"{self.facts(f'?s ?{name} ?o')} FILTER(!isBlank(?s) && !isBlank(?o))"
