"""What is known about RDF in general and about two kinds of dumps: which terms name things, which are noise."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from kgr1.graph.readers.options import OTHERS, Profile

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_RDFS = "http://www.w3.org/2000/01/rdf-schema#"
_SKOS = "http://www.w3.org/2004/02/skos/core#"
_WIKIDATA = "http://www.wikidata.org/"
_FREEBASE = "http://rdf.freebase.com/ns/"
_LABELS = (
    f"{_RDFS}label",
    f"{_SKOS}prefLabel",
    "http://schema.org/name",
    "https://schema.org/name",
    "http://xmlns.com/foaf/0.1/name",
)


@dataclass(frozen=True)
class Dump:
    """How the terms of a dump are read.

    ``labels`` and ``aliases`` are IRIs of relations that name their subject; ``prefix`` is what IRIs of entities and
    relations begin with and identifiers leave out.
    """

    labels: tuple[str, ...]
    aliases: tuple[str, ...]
    languages: tuple[str, ...]
    prefixes: tuple[str, ...] = ()


PLAIN = Dump(labels=_LABELS, aliases=(f"{_SKOS}altLabel",), languages=("en", OTHERS))
WIKIDATA = Dump(
    labels=(f"{_RDFS}label",),
    aliases=(f"{_SKOS}altLabel",),
    languages=("en", "mul"),
    prefixes=(f"{_WIKIDATA}entity/", f"{_WIKIDATA}prop/direct/"),
)
FREEBASE = Dump(
    labels=(f"{_FREEBASE}type.object.name",),
    aliases=(f"{_FREEBASE}common.topic.alias",),
    languages=("en",),
    prefixes=(_FREEBASE,),
)
DUMPS: dict[str, Dump] = {"plain": PLAIN, "wikidata": WIKIDATA, "freebase": FREEBASE}

_OWN_TERMS = (*PLAIN.labels, *PLAIN.aliases, "http://schema.org/description")


def tell(frame: pl.DataFrame) -> Profile:
    """Which dump the first terms of a source come from."""
    p = frame["p"]
    if 2 * int(p.str.starts_with(f"<{_FREEBASE}").sum()) > frame.height:
        return "freebase"
    direct = p.str.starts_with(f"<{_WIKIDATA}prop/direct/")
    if direct.any():
        whole = frame["s"].str.starts_with("<https://www.wikidata.org/wiki/Special:EntityData/").any()
        if whole or (direct | p.is_in([f"<{iri}>" for iri in _OWN_TERMS])).all():
            return "wikidata"
    return "plain"


def noise(profile: Profile) -> list[tuple[str, pl.Expr]]:
    """What a dump holds besides facts about things: reasons, and conditions on a frame of terms."""
    if profile == "wikidata":
        return _wikidata_noise()
    if profile == "freebase":
        return _freebase_noise()
    return []


def _wikidata_noise() -> list[tuple[str, pl.Expr]]:
    s, p, o = pl.col("s"), pl.col("p"), pl.col("o")
    direct = p.str.starts_with(f"<{_WIKIDATA}prop/direct/")
    names = p.is_in([f"<{iri}>" for iri in (*WIKIDATA.labels, *WIKIDATA.aliases)])
    things = s.str.starts_with(f"<{_WIKIDATA}entity/")
    repeated = p.is_in([f"<{_SKOS}prefLabel>", "<http://schema.org/name>"]) & things
    return [
        ("Wikidata: values that exist but are unknown", direct & o.str.contains(r"^(_:|<[^>]*/\.well-known/genid/)")),
        ("Wikidata: labels that repeat rdfs:label", repeated),
        ("Wikidata: descriptions", p == "<http://schema.org/description>"),
        ("Wikidata: identifiers repeated as IRIs", p.str.starts_with(f"<{_WIKIDATA}prop/direct-normalized/")),
        ("Wikidata: links to pages, data about the dump and its items", ~things | ~(direct | names)),
    ]


def _freebase_noise() -> list[tuple[str, pl.Expr]]:
    s, p, o = pl.col("s"), pl.col("p"), pl.col("o")
    prefix = _FREEBASE.replace(".", "[.]")
    own = p.str.starts_with(f"<{_FREEBASE}")
    key = p.str.contains(
        rf"^<http://rdf[.]freebase[.]com/key/|^<{prefix}(type[.]object[.]key|type[.]object[.]permission)>$"
    )
    name = p.is_in([f"<{iri}>" for iri in (*FREEBASE.labels, *FREEBASE.aliases)])
    things = s.str.contains(rf"^<{prefix}[mg][.]") | p.str.contains(rf"^<{prefix}type[.]type[.]instance>$")
    return [
        ("Freebase: keys and permissions", key),
        ("Freebase: rdf:type, rdfs:label and other terms that repeat its own", ~own & ~key),
        ("Freebase: facts about types and properties", own & ~things),
        ("Freebase: names that are no text", name & ~o.str.starts_with('"')),
    ]
