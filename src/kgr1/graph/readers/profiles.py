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

ROWS_TO_TELL = 1000


def tell(frame: pl.DataFrame) -> Profile:
    """Which dump the first terms of a source come from."""
    first = frame.head(ROWS_TO_TELL)
    if first["p"].str.starts_with(f"<{_FREEBASE}").mean() or 0 > 0.5:
        return "freebase"
    direct = frame["p"].str.starts_with(f"<{_WIKIDATA}prop/direct/")
    if direct.any() and first["s"].str.contains(r"^<https?://(www\.wikidata\.org|wikiba\.se)/").mean() == 1.0:
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
    p, o = pl.col("p"), pl.col("o")
    direct = p.str.starts_with(f"<{_WIKIDATA}prop/direct/")
    names = p.is_in([f"<{iri}>" for iri in (*WIKIDATA.labels, *WIKIDATA.aliases)])
    sitelinks = pl.col("s").str.contains(r"^<https?://[a-z\-]+\.(wiki|m\.wiki)") | p.is_in(
        [f"<http://schema.org/{name}>" for name in ("about", "isPartOf", "inLanguage")]
    )
    return [
        ("Wikidata: values that exist but are unknown", direct & o.str.contains(r"^(_:|<[^>]*/\.well-known/genid/)")),
        (
            "Wikidata: labels that repeat rdfs:label",
            p.is_in([f"<{_SKOS}prefLabel>", "<http://schema.org/name>"]) & ~sitelinks,
        ),
        ("Wikidata: descriptions", p == "<http://schema.org/description>"),
        ("Wikidata: links to pages", sitelinks & ~direct & ~names),
        ("Wikidata: identifiers repeated as IRIs", p.str.starts_with(f"<{_WIKIDATA}prop/direct-normalized/")),
        ("Wikidata: data about the dump and the items", ~direct & ~names),
    ]


def _freebase_noise() -> list[tuple[str, pl.Expr]]:
    s, p, o = pl.col("s"), pl.col("p"), pl.col("o")
    thing = rf"^<{_FREEBASE.replace('.', '[.]')}[mg][.]"
    name = p.is_in([f"<{iri}>" for iri in (*FREEBASE.labels, *FREEBASE.aliases)])
    return [
        ("Freebase: rdf:type, rdfs:label and other terms that repeat its own", ~p.str.starts_with(f"<{_FREEBASE}")),
        (
            "Freebase: facts about types and properties",
            ~s.str.contains(thing) & ~p.str.contains("/type[.]type[.]instance>$"),
        ),
        ("Freebase: keys", p.str.contains(r"/ns/(type\.object\.key|key\.[^>]*|[^>]*\.key)>$")),
        ("Freebase: names that are no text", name & ~o.str.starts_with('"')),
    ]
