"""RDF in five syntaxes: terms, labels, languages, blank nodes, and what is wrong with a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pyoxigraph as ox
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reading import Everything, read

from kgr1.errors import GraphFormatError
from kgr1.graph.readers import rdf, streams, terms

in_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
XSD = "http://www.w3.org/2001/XMLSchema#"
LABEL = "<http://www.w3.org/2000/01/rdf-schema#label>"
SYNTAXES = {
    "nt": ox.RdfFormat.N_TRIPLES,
    "nq": ox.RdfFormat.N_QUADS,
    "ttl": ox.RdfFormat.TURTLE,
    "trig": ox.RdfFormat.TRIG,
}

iris = st.sampled_from(["http://e.org/a", "http://e.org/b#c", "urn:x:y", "http://é.org/ü%20", "http://e.org/p?q=1&r=~"])
texts = st.text(st.characters(codec="utf-8"), max_size=8)
literals = st.one_of(
    st.builds(ox.Literal, texts),
    st.builds(lambda text, tag: ox.Literal(text, language=tag), texts, st.sampled_from(["en", "de-AT", "zh-hans"])),
    st.builds(lambda text, kind: ox.Literal(text, datatype=ox.NamedNode(kind)), texts, iris),
)
nodes = st.builds(ox.NamedNode, iris) | st.builds(ox.BlankNode, st.sampled_from(["b0", "x.y", "é1", "a-b"]))
triples = st.lists(st.builds(ox.Triple, nodes, st.builds(ox.NamedNode, iris), nodes | literals), min_size=1, max_size=8)


def identifier(term: ox.NamedNode | ox.BlankNode | ox.Literal) -> str:
    if isinstance(term, ox.NamedNode):
        return term.value
    return f"_:1.{term.value}" if isinstance(term, ox.BlankNode) else str(term)


@in_folder
@given(triples, st.sampled_from(sorted(SYNTAXES)), st.integers(1, 200))
def test_round_trip(tmp_path: Path, graph: list[ox.Triple], syntax: str, block: int) -> None:
    source = tmp_path / f"kg.{syntax}"
    quads = [ox.Quad(*triple) for triple in graph] if syntax in ("nq", "trig") else graph
    ox.serialize(quads, output=str(source), format=SYNTAXES[syntax])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "BLOCK_BYTES", block)
        found = read(source, profile="plain")
    assert sorted(found.facts) == sorted(tuple(map(identifier, triple)) for triple in graph)
    values = {str(t.object): t.object.value for t in graph if isinstance(t.object, ox.Literal)}
    assert {k: v for k, v in found.labels.items() if k[0] == '"'} == {k: v for k, v in values.items() if v.strip()}


lines = st.text(st.sampled_from('<>"_:.ab#\\u0041\n\t@en^^/h '), max_size=40)


@in_folder
@given(triples, st.lists(lines, max_size=3), st.sampled_from(["nt", "nq"]))
def test_the_fast_way_and_the_parser_agree(tmp_path: Path, graph: list[ox.Triple], odd: list[str], syntax: str) -> None:
    """Every line on its own: read as the parser reads it, or refused as the parser refuses it."""
    good = ox.serialize(graph, format=ox.RdfFormat.N_TRIPLES).decode().splitlines(keepends=False)
    every = [*odd, *good, *(line.replace(" ", "\t") for line in good), *(line[:-3] for line in good)]
    every = [line for text in every for line in text.split("\n")]
    expected, bad = [], 0
    for line in every:
        try:
            expected += [tuple(map(str, list(quad)[:3])) for quad in ox.parse(line, format=SYNTAXES[syntax])]
        except SyntaxError:
            bad += 1
    source = tmp_path / f"kg.{syntax}"
    source.write_text("\n".join(every), encoding="utf-8", newline="")
    place = rdf.Place("x", skip=True)
    with source.open("rb") as stream:
        frames = [frame for frame, _ in rdf.read_terms(stream, place, rdf.ReadOptions(), syntax)]
    rows = [
        row[:3] for frame in frames for row in terms.canonical(terms.with_text(frame)).select("s", "p", "o", "g").rows()
    ]
    assert sorted(rows) == sorted(expected)
    assert sum(place.batch(None, None, 0).dropped.values()) == bad


TURTLE = """
@prefix e: <http://e.org/film#> . @prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix skos: <http://www.w3.org/2004/02/skos/core#> . @prefix schema: <http://schema.org/> .
e:alien e:directed_by e:scott ; rdfs:label "Alien"@en, "Alien, le huitième passager"@fr ; skos:altLabel "Alien 1" .
e:alien e:year 1979 ; e:height "1.50"^^<http://e.org/metre> ; e:tagline "In space\\n..."@en, "Dans l'espace"@fr .
e:scott schema:name "Ridley Scott"@fr, "R. Scott"@de ; e:child [ e:name "Jake" ] , _:luke .
_:luke a e:Person . e:scott e:home <http://e.org/Hollywood%20Hills> .
e:directed_by rdfs:label "directed by"@en .
"""
ALIEN, SCOTT = "http://e.org/film#alien", "http://e.org/film#scott"


def turtle(folder: Path, text: str = TURTLE, name: str = "kg.ttl") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def about(found: Everything, subject: str) -> set[tuple[str, str]]:
    return {(relation.rpartition("#")[2], tail) for head, relation, tail in found.facts if head == subject}


def test_facts_and_labels(tmp_path: Path) -> None:
    found = read(turtle(tmp_path))
    assert about(found, ALIEN) == {
        ("directed_by", SCOTT),
        ("year", f'"1979"^^<{XSD}integer>'),
        ("height", '"1.50"^^<http://e.org/metre>'),
        ("tagline", '"In space\\n..."@en'),
        ("tagline", '"Dans l\'espace"@fr'),
    }
    assert about(found, SCOTT) == {
        ("child", "_:1a.0"),
        ("child", "_:1.luke"),
        ("home", "http://e.org/Hollywood%20Hills"),
    }
    shown = found.labels
    assert (shown[ALIEN], shown[SCOTT]) == ("Alien", "Ridley Scott")
    assert shown['"In space\\n..."@en'] == "In space\n..."
    assert shown["http://e.org/Hollywood%20Hills"] == "Hollywood Hills"
    assert shown["http://e.org/film#directed_by"] == "directed by"
    assert shown["http://www.w3.org/1999/02/22-rdf-syntax-ns#type"] == "type"
    assert not any(identifier.startswith("_:") for identifier in shown)
    assert {(ALIEN, "Alien, le huitième passager"), (ALIEN, "Alien 1"), (SCOTT, "R. Scott")} <= found.aliases
    assert found.rows == 16
    assert not found.dropped


@pytest.mark.parametrize(
    ("languages", "alien", "scott", "left_out"),
    [
        (("en", "*"), "Alien", "Ridley Scott", 0),
        (("fr",), "Alien, le huitième passager", "Ridley Scott", 4),
        (("de", "fr"), "Alien, le huitième passager", "R. Scott", 3),
        (("de", "*"), "Alien", "R. Scott", 0),
        (("en",), "Alien", "scott", 4),
    ],
)
def test_languages(tmp_path: Path, languages: tuple[str, ...], alien: str, scott: str, left_out: int) -> None:
    found = read(turtle(tmp_path), languages=languages)
    assert (found.labels[ALIEN], found.labels[SCOTT]) == (alien, scott)
    assert found.dropped["text in other languages"] == left_out


def test_regional_languages_and_text_without_one(tmp_path: Path) -> None:
    rows = [
        '<e:a> {} "colour"@EN-gb',
        '<e:a> {} "color"',
        '<e:b> {} "farbe"@de',
        '<e:b> {} "plain"',
        "<e:a> <e:r> <e:b>",
    ]
    source = turtle(tmp_path, "".join(row.format(LABEL) + " .\n" for row in rows), "kg.nt")
    found = read(source)
    assert (found.labels["e:a"], found.labels["e:b"]) == ("colour", "plain")
    assert {("e:a", "color"), ("e:b", "farbe")} <= found.aliases


@pytest.mark.parametrize(
    ("how", "facts", "labels", "left_out"), [("keep", 10, True, 0), ("labels", 5, True, 5), ("drop", 5, False, 11)]
)
def test_literals(tmp_path: Path, how: str, facts: int, labels: bool, left_out: int) -> None:
    found = read(turtle(tmp_path), literals=how)
    assert len(found.facts) == facts
    assert (found.labels[ALIEN] == "Alien") is labels
    assert found.dropped["text (literals)"] == left_out


def test_patterns_of_relations(tmp_path: Path) -> None:
    kept = read(turtle(tmp_path), keep=("directed_*", "http://e.org/film#year"))
    assert about(kept, ALIEN) == {("directed_by", SCOTT), ("year", f'"1979"^^<{XSD}integer>')}
    left = read(turtle(tmp_path), drop=("tagline", "child", "type", "n?me"))
    assert {relation.rpartition("#")[2] for _, relation, _ in left.facts} == {"directed_by", "year", "height", "home"}
    assert left.dropped["relations that are not wanted"] == 6


def test_the_first_preferred_label_counts_wherever_it_stands(tmp_path: Path) -> None:
    first = turtle(tmp_path, f'<e:a> {LABEL} "eins"@de . <e:a> <e:r> <e:b> .', "1.ttl")
    second = turtle(tmp_path, f'<e:a> {LABEL} "one"@en, "uno"@es . <e:r> {LABEL} "related to" .', "2.ttl")
    found = read(first, second)
    assert found.labels == {"e:a": "one", "e:r": "related to", "e:b": "b"}


def test_blank_nodes_belong_to_their_file(tmp_path: Path) -> None:
    for name in ("1.nt", "2.nt"):
        turtle(tmp_path, "_:x <e:r> _:y .\n", name)
    turtle(tmp_path, "[] <e:r> [] .", "3.ttl")
    facts = read(tmp_path).facts
    assert facts == [("_:1.x", "e:r", "_:1.y"), ("_:2.x", "e:r", "_:2.y"), ("_:3a.0", "e:r", "_:3a.1")]
    assert read(tmp_path).facts == facts


def test_nodes_without_a_name_are_numbered(tmp_path: Path) -> None:
    """Whatever random names the parser gives them; about one in fifteen of these is shorter than the others."""
    source = turtle(tmp_path, "[] <e:r> <e:b> .\n" * 2000, "many.ttl")
    facts = read(source).facts
    assert {head for head, _, _ in facts} == {f"_:1a.{number}" for number in range(2000)}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("kg.trig", "GRAPH <e:g> { <e:a> <e:r> <e:b> } <e:a> <e:r> <e:c> . _:h { <e:a> <e:r> <e:d> }"),
        ("kg.nq", "<e:a> <e:r> <e:b> <e:g> .\n<e:a> <e:r> <e:c> .\n<e:a> <e:r> <e:d> _:h .\n"),
    ],
)
def test_named_graphs(tmp_path: Path, name: str, text: str) -> None:
    source = turtle(tmp_path, text, name)
    found = read(source, graphs=True)
    assert dict(zip([fact[2] for fact in found.facts], found.graphs, strict=True)) == {
        "e:b": "e:g",
        "e:c": None,
        "e:d": "_:1.h",
    }
    assert read(source).graphs == []


def test_statements_about_statements_are_left_out(tmp_path: Path) -> None:
    found = read(turtle(tmp_path, "<e:a> <e:r> <e:b> .\n<e:a> <e:says> <<( <e:a> <e:r> <e:b> )>> .\n", "kg.nt"))
    assert len(found.facts) == 1
    assert found.dropped == {"statements about statements": 1}


@pytest.mark.parametrize(
    ("name", "text", "line", "reason"),
    [
        ("kg.nt", b"<e:a> <e:r> <e:b> .\n# fine\n\n<e:a> <e:r> .\n", 4, "not N-Triples (TODO)"),
        ("kg.nt", b"<e:a> <e:r> <e:b> .\n<e:a> <e:r> <b> .\n", 2, "not N-Triples (No scheme found in an absolute IRI)"),
        ("kg.nt", b'<e:a> <e:r> "x .\n', 1, "not N-Triples ("),
        ("kg.nt", b'<e:a> <e:r> "x"\n', 1, "not N-Triples ("),
        ("kg.nt", b'<e:a> <e:r> "\xff" .\n', 1, "invalid UTF-8 (byte 0xff)"),
        ("kg.nq", b"<e:a> <e:r> <e:b> <e:g> <e:h> .\n", 1, "not N-Quads ("),
        ("kg.ttl", b"@prefix e: <http://e/> .\n\ne:a e:b f:c .\n", 3, "The prefix f: has not been declared"),
        (
            "kg.ttl",
            b"<http://e/a>\n <b> <http://e/c> .\n",
            2,
            "No scheme found in an absolute IRI; if that is a relative",
        ),
        ("kg.ttl", b'<e:a> <e:b> "\xff" .\n', 1, "Invalid UTF-8"),
        ("kg.rdf", b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n<a>\n</rdf:RDF>', None, ""),
        ("kg.rdf", b"a\tb\tc\n", None, ""),
    ],
)
def test_what_is_wrong(tmp_path: Path, name: str, text: bytes, line: int | None, reason: str) -> None:
    (tmp_path / name).write_bytes(text)
    with pytest.raises(GraphFormatError) as caught:
        read(tmp_path / name)
    assert caught.value.details["path"] == str(tmp_path / name)
    assert caught.value.details["line"] == line
    assert str(caught.value.details["reason"]).startswith(reason.removesuffix("TODO)"))
    assert str(caught.value).count("\n") == 0


def test_bad_lines_are_counted_where_that_is_asked(tmp_path: Path) -> None:
    text = b'<e:a> <e:r> <e:b> .\n<e:a> <e:r> .\n<e:a> <e:r> "\xff" .\nnonsense\n<e:a> <e:r> <e:c> .'
    (tmp_path / "kg.nt").write_bytes(text)
    found = read(tmp_path / "kg.nt", skip_bad_lines=True)
    assert [fact[2] for fact in found.facts] == ["e:b", "e:c"]
    assert found.dropped == {"not N-Triples": 2, "invalid UTF-8": 1}


def test_relative_iris_with_a_base(tmp_path: Path) -> None:
    source = turtle(tmp_path, "<#a> <r> <b> .")
    assert read(source, base="http://e.org/x").facts == [("http://e.org/x#a", "http://e.org/r", "http://e.org/b")]
    with pytest.raises(GraphFormatError, match="base"):
        read(source, base="no iri")


def test_escapes_have_one_spelling(tmp_path: Path) -> None:
    rows = [
        r'"\u00e9\t"',
        '"é\\t"',
        f'"é\\t"^^<{XSD}string>',
        r'"\U000000e9\u0009"',
        r'"\'"',
        '"\'"',
        '"x"@DE',
        '"x"@de',
    ]
    source = turtle(tmp_path, "".join(f"<e:a> <e:r{n}> {row} .\n" for n, row in enumerate(rows)), "kg.nt")
    found = read(source)
    assert {fact[2] for fact in found.facts} == {'"é\\t"', '"\'"', '"x"@de'}
    assert found.labels['"é\\t"'] == "é\t"


def test_readable_names_are_given_up_in_graphs_with_very_many_nameless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terms, "_MAX_NAMELESS", 3)
    monkeypatch.setattr(streams, "BLOCK_BYTES", 64)
    source = turtle(tmp_path, "".join(f"<e:/a{n}> <e:/r> <e:/b{n}> .\n" for n in range(20)), "kg.nt")
    assert read(source).labels == {"e:/r": "r"}


def test_names_of_names(tmp_path: Path) -> None:
    values: list[Any] = ["", " ", "\u200b", "a" * 100_000]
    frame = pl.DataFrame({"v": [str(ox.Literal(value)) for value in values]})
    text = "".join(f"<e:a> <e:r> {value} .\n<e:b> {LABEL} {value} .\n" for value in frame["v"])
    found = read(turtle(tmp_path, text, "kg.nt"))
    assert {fact[2] for fact in found.facts} == set(frame["v"])
    assert found.labels[str(ox.Literal(values[3]))] == values[3]
    assert '""' not in found.labels
