"""Nothing that is a name can leave its place in a query."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kgr1.errors import GraphError
from kgr1.graph.sparql import SparqlOptions, read_options, to_ntriples
from kgr1.graph.sparql.naming import Naming, plain_iri
from kgr1.graph.sparql.queries import Pattern, Queries
from kgr1.graph.sparql.terms import Term, from_binding, iri, is_iri, literal, quote, read_literal

pyoxigraph = pytest.importorskip("pyoxigraph")

NAMESPACE = "http://kgr1.example/"
OPTIONS = SparqlOptions(namespace=NAMESPACE, graph="http://kgr1.example/graph/1")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.text("\"\\u{}<>\n\r'`^| 0aDE", max_size=30)
HOSTILE = [
    '"', "\\", '\\"', '" } DROP ALL #', "> } ; DROP ALL #", "\\u0022", "\\\\u0022", "\\U00000022", "\n", "\r\n", "\x00",
    "'''", '"""', "{}", "?x", "$x", "<think>", "\u202e", "\u2028", "\ufeff", "\U0010ffff", "a" * 3000, "# comment",
    "${x}", "%00", "@en", '"@en . ?s ?p ?o', "\\", "\\\\", "ends with \\", "\x85", "\x7f",
]  # fmt: skip

# The grammar of SPARQL 1.1, rules STRING_LITERAL2 and IRIREF: what a parser takes out of a query as one token.
_TOKEN = re.compile(r'"(?:[^\x22\x5C\x0A\x0D]|\\[tbnrf\\"\']|\\u[0-9A-Fa-f]{4})*"|<[^<>"{}|^`\\\x00-\x20]*>', re.DOTALL)


def shape(query: str) -> str:
    """A query without the content of its strings and IRIs."""
    return _TOKEN.sub("_", query)


def all_queries(name: str) -> list[str]:
    """Every query that a name gets into."""
    queries = Queries(OPTIONS, OPTIONS.graph)
    entity, text = iri(plain_iri(NAMESPACE, name)), literal(name)
    german = literal(name, language="de")
    patterns = [
        queries.relations([(0, entity)], True),
        queries.relations([(0, entity), (1, text)], False),
        queries.neighbours([(0, entity, entity)], True),
        queries.neighbours([(0, entity, entity), (1, german, entity)], False),
        queries.union([(text, entity)], False),
        *(queries.any_edge([(0, text, entity)], outgoing) for outgoing in (True, False)),
        *(queries.existing([(0, entity), (1, text)], relations) for relations in (True, False)),
        *(queries.bearers([(0, text), (1, german)], relations) for relations in (True, False)),
        queries.labels([entity], OPTIONS.labels, False),
        queries.with_key([name, name]),
        queries.with_parts([name]),
        queries.union([(entity, entity)], True),
    ]
    texts = [pattern.select(10) for pattern in patterns] + [patterns[0].counted(), patterns[0].next_rows(5, name)]
    return [*texts, queries.page_by_name(patterns[-1], 5, 5)]


ORDINARY = [shape(query) for query in all_queries("x")]


def with_examples(test):
    for text in HOSTILE:
        test = example(text)(test)
    return settings(max_examples=100, deadline=None)(given(TEXTS)(test))


@with_examples
def test_any_name_leaves_the_shape_of_every_query(name: str) -> None:
    assert [shape(query) for query in all_queries(name)] == ORDINARY


@with_examples
def test_any_literal_comes_back_from_a_parser(text: str) -> None:
    store = pyoxigraph.Store()
    rows = list(store.query(f"SELECT ?k ?l WHERE {{ VALUES (?k ?l) {{ (7 {quote(text)}) }} }}"))
    assert [(row["k"].value, row["l"].value) for row in rows] == [("7", text)]
    (found,) = store.query(f"SELECT ?l WHERE {{ BIND({literal(text, language='de').to_sparql()} AS ?l) }}")
    assert (found["l"].value, found["l"].language) == (text, "de")


@settings(max_examples=15, deadline=None)
@given(TEXTS)
@example('" } } ; DROP ALL #')
@example("\\u0022 } #")
def test_every_query_with_any_name_parses_and_finds_nothing(name: str) -> None:
    store = pyoxigraph.Store()
    canary = pyoxigraph.Quad(*(pyoxigraph.NamedNode(f"urn:canary:{i}") for i in range(3)))
    store.add(canary)
    for query in all_queries(name):
        rows = [[term for term in row if term is not None] for row in store.query(query)]
        assert [row for row in rows if any("canary" in term.value for term in row)] == []
    assert list(store) == [canary]


@with_examples
def test_identifiers_of_literals_are_canonical_n_triples_and_lead_back(text: str) -> None:
    for term in (literal(text), literal(text, language="de"), literal(text, "http://example.org/type")):
        assert read_literal(term.identifier) == term
        assert read_literal(term.to_sparql()) == term
    if not re.search(r"[\x00-\x1f\x7f]", text):  # which pyoxigraph escapes one by one
        assert literal(text).identifier == str(pyoxigraph.Literal(text))


@with_examples
def test_plain_names_become_iris_and_come_back(name: str) -> None:
    address = plain_iri(NAMESPACE, name)
    assert is_iri(address)
    assert len(address) < 1000
    assert str(pyoxigraph.NamedNode(address)) == f"<{address}>"
    if name.strip():
        naming = Naming(OPTIONS)
        assert naming.identifier(iri(address), name) == name
        assert naming.terms(name)[0] == iri(address) or read_literal(name) is not None


@pytest.mark.parametrize(
    "text", ["", "x", "http://a b", "http://a>", "http://a\n", 'http://a"', "http://{a}", "http://a\\u003e", "a:\x00",
             "//a/b", "http://\ud800", "http://a`", "http://a|b", "http://a^b"],
)  # fmt: skip
def test_what_is_no_iri_is_refused(text: str) -> None:
    assert not is_iri(text)
    with pytest.raises(ValueError, match=r"IRI|surrogates"):
        iri(text).to_sparql()


def test_what_is_no_literal_is_refused() -> None:
    with pytest.raises(ValueError, match="language"):
        literal("x", language='en" } #').to_sparql()
    with pytest.raises(ValueError, match="IRI"):
        literal("x", "http://a> } #").to_sparql()
    with pytest.raises(UnicodeEncodeError):
        literal("\ud800").to_sparql()
    for text in ("x", '"x', '"x"^^<a b>', '"x"@', '"x"y"', '"\\ud800"', '"\\UFFFFFFFF"', '"x"^^xsd:int'):
        assert read_literal(text) is None


def test_bindings_of_the_results_format() -> None:
    string = "http://www.w3.org/2001/XMLSchema#string"
    assert from_binding({"type": "bnode", "value": "b0"}) is None
    assert from_binding({"type": "typed-literal", "value": "x", "datatype": string}) == literal("x")
    assert from_binding({"type": "literal", "value": "x", "xml:lang": "de"}) == Term("literal", "x", "", "de")
    for wrong in ({}, {"type": "uri"}, {"type": "uri", "value": 3}, {"type": "triple", "value": "x"}):
        with pytest.raises((KeyError, TypeError, ValueError)):
            from_binding(wrong)


@pytest.mark.parametrize(
    "binding",
    [
        {"type": "uri", "value": "http://a b|c"},
        {"type": "uri", "value": "relative"},
        {"type": "uri", "value": "http://a/\ud800"},
        {"type": "literal", "value": "x", "datatype": "http://a b"},
        {"type": "typed-literal", "value": "x", "datatype": "xsd int"},
        {"type": "literal", "value": "x", "xml:lang": "en_US"},
    ],
)
def test_what_no_query_could_name_is_left_out(binding: dict[str, str]) -> None:
    assert from_binding(binding) is None


def test_patterns_select_distinct_rows() -> None:
    pattern = Pattern(("x", "y"), "?x ?p ?y")
    assert pattern.select(3) == "SELECT DISTINCT ?x ?y WHERE { ?x ?p ?y } LIMIT 3"
    assert "COUNT(*)" in pattern.counted()


def test_n_triples_of_plain_names() -> None:
    lines = list(to_ntriples([("Wien", "in", "Österreich")], {"Wien": "Vienna"}, namespace=NAMESPACE))
    store = pyoxigraph.Store()
    store.load("".join(lines).encode(), pyoxigraph.RdfFormat.N_TRIPLES)
    assert len(store) == 4
    assert lines[0] == f"<{NAMESPACE}Wien> <{NAMESPACE}in> <{NAMESPACE}%C3%96sterreich> .\n"
    assert sum("Vienna" in line for line in lines) == 1
    with pytest.raises(GraphError, match="empty"):
        list(to_ntriples([("", "in", "x")]))


def test_prefixes_shorten_and_lead_back() -> None:
    wiki = "http://www.wikidata.org/"
    options = SparqlOptions(
        prefixes={"": f"{wiki}entity/", "dbr:": "http://dbpedia.org/resource/"},
        relation_prefixes={"": f"{wiki}prop/direct/"},
    )
    entities, relations = Naming(options), Naming(options, relations=True)
    assert entities.identifier(iri(f"{wiki}entity/Q42")) == "Q42"
    assert entities.terms("Q42")[0] == iri(f"{wiki}entity/Q42")
    assert relations.identifier(iri(f"{wiki}prop/direct/P31")) == "P31"
    assert iri(f"{wiki}prop/direct/P31") in relations.terms("P31")
    assert entities.identifier(iri("http://dbpedia.org/resource/Paris")) == "dbr:Paris"
    assert iri("http://dbpedia.org/resource/Paris") in entities.terms("dbr:Paris")
    for unknown in ("http://example.org/x", f"{wiki}entity/", "urn:isbn:1"):
        assert entities.identifier(iri(unknown)) == unknown
        assert iri(unknown) in entities.terms(unknown)
    assert entities.terms("Q42> } #") == []
    assert entities.terms("\ud800") == []


def test_options_from_pairs_and_files(tmp_path: Path) -> None:
    assert read_options("") == SparqlOptions()
    found = read_options("graph=http://g/1&languages=de,en&prefixes=wd:=http://w/e%23,x:=http://x/&max_results=none")
    assert (found.graph, found.languages, found.max_results) == ("http://g/1", ("de", "en"), None)
    assert found.prefixes == {"wd:": "http://w/e#", "x:": "http://x/"}
    path = tmp_path / "options.toml"
    path.write_text('timeout_s = 3\nlabels = ["http://l/#x"]\n[prefixes]\n"" = "http://w/"\n', "utf-8")
    found = read_options(str(path))
    assert (found.timeout_s, found.labels, found.prefixes) == (3, ("http://l/#x",), {"": "http://w/"})
    assert tomllib.loads(path.read_text("utf-8"))["timeout_s"] == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("grap=http://g", "'grap' is not an option"),
        ("graph=g", "option graph"),
        ("timeout_s=-1", "timeout_s"),
        ("labels=x", "labels"),
        ("prefixes=a:=nothing", "prefixes"),
        ("/nowhere/options.toml", "Cannot read"),
    ],
)
def test_wrong_options_are_named(text: str, says: str) -> None:
    with pytest.raises(GraphError, match=says):
        read_options(text)


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("{", "utf-8")
    with pytest.raises(GraphError, match=r"x\.toml are not TOML"):
        read_options(str(tmp_path / "x.toml"))
