"""Dumps of whole knowledge bases: what they say about things, without what they say about themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from reading import COMPRESS, Everything, read

from kgr1.graph import GraphStore, build_graph
from kgr1.types import Operation, Query

XSD = "http://www.w3.org/2001/XMLSchema#"
WD, WDT = "http://www.wikidata.org/entity/", "http://www.wikidata.org/prop/direct/"
WIKIDATA = f"""
<http://wikiba.se/ontology#Dump> <http://schema.org/softwareVersion> "1.0.0" .
<https://www.wikidata.org/wiki/Special:EntityData/Q42> <http://schema.org/about> <{WD}Q42> .
<https://www.wikidata.org/wiki/Special:EntityData/Q42> <http://schema.org/version> "1"^^<{XSD}integer> .
<{WD}Q42> <http://www.w3.org/1999/02/22-rdf-syntax-ns#type> <http://wikiba.se/ontology#Item> .
<{WD}Q42> <http://www.w3.org/2000/01/rdf-schema#label> "Douglas Adams"@en .
<{WD}Q42> <http://www.w3.org/2004/02/skos/core#prefLabel> "Douglas Adams"@en .
<{WD}Q42> <http://schema.org/name> "Douglas Adams"@en .
<{WD}Q42> <http://www.w3.org/2000/01/rdf-schema#label> "\\u0414\\u0443\\u0433\\u043B\\u0430\\u0441"@ru .
<{WD}Q42> <http://www.w3.org/2004/02/skos/core#altLabel> "Douglas No\\u00EBl Adams"@en .
<{WD}Q42> <http://schema.org/description> "English author"@en .
<{WD}Q42> <{WDT}P31> <{WD}Q5> .
<{WD}Q42> <{WDT}P569> "1952-03-11T00:00:00Z"^^<{XSD}dateTime> .
<{WD}Q42> <{WDT}P2048> "+1.96"^^<http://www.w3.org/2001/XMLSchema#decimal> .
<{WD}Q42> <{WDT}P1559> "Douglas Adams"@en .
<{WD}Q42> <{WDT}P214> "113230702" .
<{WD}Q42> <http://www.wikidata.org/prop/direct-normalized/P214> <http://viaf.org/viaf/113230702> .
<{WD}Q42> <{WDT}P40> _:genid1 .
<{WD}Q42> <{WDT}P22> <http://www.wikidata.org/.well-known/genid/abc> .
<https://en.wikipedia.org/wiki/Douglas_Adams> <http://schema.org/about> <{WD}Q42> .
<https://en.wikipedia.org/wiki/Douglas_Adams> <http://schema.org/name> "Douglas Adams"@en .
<{WD}Q5> <http://www.w3.org/2000/01/rdf-schema#label> "human"@en .
<{WD}Q7> <http://www.w3.org/2000/01/rdf-schema#label> "mul name"@mul .
<{WD}Q7> <{WDT}P31> <{WD}Q5> .
<{WD}P31> <http://www.w3.org/2000/01/rdf-schema#label> "instance of"@en .
""".lstrip()

FB = "http://rdf.freebase.com/ns/"
FREEBASE = "\n".join(
    line.replace("ns:", f"<{FB}").replace(" ", "\t") if '"' not in line else line.replace("ns:", f"<{FB}")
    for line in [
        "ns:m.0d3k14> ns:people.person.spouse_s> ns:m.02nqglv> .",
        "ns:m.02nqglv> ns:people.marriage.spouse> ns:m.0d3k1x> .",
        'ns:m.0d3k14>\tns:type.object.name>\t"John F. Kennedy"@en\t.',
        'ns:m.0d3k14>\tns:type.object.name>\t"JFK le pr\\u00E9sident"@fr\t.',
        'ns:m.0d3k14>\tns:common.topic.alias>\t"JFK"@en\t.',
        'ns:m.0d3k14>\t<http://www.w3.org/2000/01/rdf-schema#label>\t"John F. Kennedy"@en\t.',
        'ns:m.0d3k14>\t<http://rdf.freebase.com/key/wikipedia.en>\t"JFK"\t.',
        'ns:m.0d3k14>\tns:type.object.key>\t"/en/jfk"\t.',
        'ns:m.0d3k14>\tns:people.person.date_of_birth>\t"1917-05-29"^^<http://www.w3.org/2001/XMLSchema#date>\t.',
        "ns:m.0d3k14> <http://www.w3.org/1999/02/22-rdf-syntax-ns#type> ns:people.person> .",
        "ns:m.0d3k14> ns:type.object.type> ns:people.person> .",
        "ns:people.person> ns:type.type.instance> ns:m.0d3k14> .",
        'ns:people.person>\tns:type.object.name>\t"Person"@en\t.',
        "ns:people.person.spouse_s> ns:type.property.schema> ns:people.person> .",
    ]
)


def source(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_bytes(COMPRESS.get(Path(name).suffix, bytes)(text.encode()))
    return folder / name


def wikidata_is_right(found: Everything) -> None:
    assert found.facts == [
        ("Q42", "P31", "Q5"),
        ("Q42", "P569", '"1952-03-11T00:00:00Z"^^<http://www.w3.org/2001/XMLSchema#dateTime>'),
        ("Q42", "P2048", '"+1.96"^^<http://www.w3.org/2001/XMLSchema#decimal>'),
        ("Q42", "P1559", '"Douglas Adams"@en'),
        ("Q42", "P214", '"113230702"'),
        ("Q7", "P31", "Q5"),
    ]
    assert {k: v for k, v in found.labels.items() if k[0] in "QP"} == {
        "Q42": "Douglas Adams",
        "Q5": "human",
        "Q7": "mul name",
        "P31": "instance of",
    }
    assert ("Q42", "Douglas Noël Adams") in found.aliases


def test_wikidata(tmp_path: Path) -> None:
    found = read(source(tmp_path, "latest-truthy.nt.bz2", WIKIDATA))
    wikidata_is_right(found)
    assert not any("Дуг" in alias for _, alias in found.aliases)
    assert found.dropped == {
        "Wikidata: values that exist but are unknown": 2,
        "Wikidata: labels that repeat rdfs:label": 2,
        "Wikidata: descriptions": 1,
        "Wikidata: identifiers repeated as IRIs": 1,
        "Wikidata: links to pages, data about the dump and its items": 6,
        "text in other languages": 1,
    }
    assert found.rows == WIKIDATA.count("\n")


def test_wikidata_without_its_header_lines(tmp_path: Path) -> None:
    """A dump that somebody filtered is told by its direct properties, and a profile can be named."""
    kept = [line for line in WIKIDATA.splitlines() if line.startswith(f"<{WD}") and "wikiba.se" not in line]
    kept = [line for line in kept if "direct-normalized" not in line]
    wikidata_is_right(read(source(tmp_path, "part.nt", "\n".join(kept))))
    wikidata_is_right(read(source(tmp_path, "all.nt", "\n".join(kept[3:] + kept[:3])), profile="wikidata"))
    plain = read(tmp_path / "part.nt", profile="plain")
    assert (f"{WD}Q42", f"{WDT}P31", f"{WD}Q5") in plain.facts


def test_more_languages_of_wikidata(tmp_path: Path) -> None:
    found = read(source(tmp_path, "w.nt", WIKIDATA), languages=("ru", "en"))
    assert found.labels["Q42"] == "Дуглас"
    assert ("Q42", "Douglas Adams") in found.aliases
    assert ("Q42", "Дуглас") in read(tmp_path / "w.nt", languages=("en", "*")).aliases


@pytest.mark.parametrize("name", ["freebase-rdf-latest.nt.gz", "fb.nt"])
def test_freebase(tmp_path: Path, name: str) -> None:
    found = read(source(tmp_path, name, FREEBASE))
    assert found.facts == [
        ("m.0d3k14", "people.person.spouse_s", "m.02nqglv"),
        ("m.02nqglv", "people.marriage.spouse", "m.0d3k1x"),
        ("m.0d3k14", "people.person.date_of_birth", '"1917-05-29"^^<http://www.w3.org/2001/XMLSchema#date>'),
        ("m.0d3k14", "type.object.type", "people.person"),
        ("people.person", "type.type.instance", "m.0d3k14"),
    ]
    assert found.labels["m.0d3k14"] == "John F. Kennedy"
    assert found.aliases == {("m.0d3k14", "JFK")}
    assert set(found.labels) == {"m.0d3k14", '"1917-05-29"^^<http://www.w3.org/2001/XMLSchema#date>'}
    assert found.dropped == {
        "Freebase: keys and permissions": 2,
        "Freebase: rdf:type, rdfs:label and other terms that repeat its own": 2,
        "Freebase: facts about types and properties": 2,
        "text in other languages": 1,
    }
    without = read(tmp_path / name, drop=("type.type.instance",))
    assert len(without.facts) == 4
    assert without.dropped["relations that are not wanted"] == 1


def test_a_dump_becomes_a_graph(tmp_path: Path) -> None:
    report = build_graph([source(tmp_path, "w.nt.zst", WIKIDATA)], tmp_path / "w.kg")
    assert (report.triples, sum(report.dropped.values())) == (6, 13)
    with GraphStore.open(tmp_path / "w.kg") as graph:
        ask = [Query(operation=Operation.GET_TAIL_ENTITIES, entity=name, relation="instance of") for name in
               ("Douglas Adams", "Q42", "douglas noël adams")]  # fmt: skip
        for found in graph.execute(ask):
            assert (found.names, found.ids) == (("human",), ("Q5",))
        (height,) = graph.execute([Query(operation=Operation.GET_TAIL_ENTITIES, entity="Q42", relation="P2048")])
        assert height.names == ("+1.96",)
