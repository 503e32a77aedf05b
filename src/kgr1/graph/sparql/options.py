"""What a user may say about an endpoint: where the facts are, how things are named, and how patient to be."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

from pydantic import Field, ValidationError, field_validator

from kgr1.errors import GraphError
from kgr1.graph.sparql.terms import is_iri
from kgr1.types import Record

RDFS_LABEL = "http://www.w3.org/2000/01/rdf-schema#label"
SKOS = "http://www.w3.org/2004/02/skos/core#"
LABELS = (RDFS_LABEL, SKOS + "prefLabel", "http://schema.org/name")
ALIASES = (SKOS + "altLabel",)
ANY_LANGUAGE = "*"

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class SparqlOptions(Record):
    """Settings of a :class:`kgr1.graph.sparql.SparqlGraph`; all have defaults that suit an unknown endpoint.

    IRIs are written out in full. ``prefixes`` maps the start of an identifier to the namespace that it stands for
    ("wd:" to "http://www.wikidata.org/entity/" shows ``wd:Q42``, "" shows ``Q42``); ``relation_prefixes`` come first
    for relations. ``languages`` are tried in order, then labels without a language; ``*`` at the end stands for any.
    """

    graph: str | None = None  # named graph of the facts; None is the endpoint's default graph
    label_graph: str | None = None  # named graph of labels and aliases; None is that of the facts
    graph_prefix: str | None = None  # a question graph is the named graph of this and its id; None: there are none
    labels: tuple[str, ...] = LABELS
    aliases: tuple[str, ...] = ALIASES
    hide: tuple[str, ...] = ()  # predicates that are not relations, besides those of labels and aliases
    languages: tuple[str, ...] = ("en", "mul")
    prefixes: dict[str, str] = Field(default_factory=dict)
    relation_prefixes: dict[str, str] = Field(default_factory=dict)
    namespace: str | None = None  # of plain names, percent-encoded; see kgr1.graph.sparql.to_ntriples
    property_link: str | None = None  # from the node that has a relation's label to it; other predicates are hidden
    names: Literal["auto", "local", "remote"] = "auto"  # whether all names are fetched and looked up here
    local_triples: Count = 300_000  # "auto" fetches the names of graphs up to this size
    timeout_s: Positive = 30.0  # of one attempt
    scan_timeout_s: Positive = 5.0  # of a search that reads all labels
    retries: Annotated[int, Field(ge=0)] = 3
    backoff_s: Annotated[float, Field(ge=0)] = 0.5
    max_results: Annotated[int, Field(ge=1)] | None = 10_000  # names in one observation; its total counts all
    page_rows: Annotated[int, Field(ge=10)] = 10_000  # rows asked for at a time
    sort_rows: Count = 50_000  # results up to this size are fetched and sorted here, larger ones by the endpoint
    batch: Count = 100  # queries that share one request
    max_query_bytes: Annotated[int, Field(ge=4_000)] = 60_000
    user_agent: str = ""

    @field_validator("graph", "label_graph", "graph_prefix", "namespace", "property_link")
    @classmethod
    def _is_iri(cls, value: str | None) -> str | None:
        if value is not None and not is_iri(value):
            raise ValueError("must be an absolute IRI such as http://example.org/graph")
        return value

    @field_validator("labels", "aliases", "hide")
    @classmethod
    def _are_iris(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            cls._is_iri(value)
        return values

    @field_validator("prefixes", "relation_prefixes")
    @classmethod
    def _are_namespaces(cls, values: dict[str, str]) -> dict[str, str]:
        for value in values.values():
            cls._is_iri(value)
        return values


def read_options(text: str) -> SparqlOptions:
    """Options as they stand behind the ``#`` of an address: a TOML file, or ``name=value`` pairs joined by ``&``.

    In pairs, lists are separated by commas and prefixes written ``wd:=http://...``. Raises :class:`GraphError` that
    says which option is wrong.
    """
    if not text:
        return SparqlOptions()
    values = _from_pairs(text) if "=" in text else _from_file(Path(text).expanduser())
    try:
        return SparqlOptions.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "options"
        if first["type"] == "extra_forbidden":
            known = ", ".join(SparqlOptions.model_fields)
            raise GraphError(f"{place!r} is not an option of a SPARQL endpoint; there are {known}.") from error
        raise GraphError(f"The option {place} of the SPARQL endpoint is wrong: {first['msg']}.") from error


def _from_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise GraphError(f"Cannot read the options in {path}: {error.strerror}.", path=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise GraphError(f"The options in {path} are not TOML: {error}.", path=str(path)) from error


def _from_pairs(text: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        if name in ("labels", "aliases", "hide", "languages"):
            values[name] = tuple(part for part in value.split(",") if part)
        elif name in ("prefixes", "relation_prefixes"):
            pairs = [part.partition("=") for part in value.split(",") if part]
            values[name] = {short: namespace for short, _, namespace in pairs}
        elif name == "max_results" and value == "none":
            values[name] = None
        else:
            values[name] = value
    return values
