"""What a user may ask of the readers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kgr1.types import Record

Format = Literal["tsv", "csv", "jsonl", "parquet", "nt", "nq", "ttl", "trig", "rdf"]
"""Names of the formats, as ``--format`` takes them."""

Profile = Literal["auto", "plain", "wikidata", "freebase"]
Literals = Literal["keep", "labels", "drop"]

OTHERS = "*"
"""In a list of languages: all others."""


class ReadOptions(Record):
    """How sources are read; the defaults suit most.

    ``languages`` is in order of preference: the first one that an entity has a label in is shown, further labels lead
    to it too; labels and texts in languages that are not listed are left out, unless ``*`` stands in the list. Text
    without a language ranks after those that are named. None is ``en,*``, and ``en,mul`` for the dumps of whole
    knowledge bases. ``keep`` and ``drop`` are patterns of relations (``*`` and ``?`` as in file names), compared with
    the identifier and with what follows its last ``/`` or ``#``.
    """

    format: Format | None = None  # None: by the names of the files
    times: bool | None = None  # True: columns 4 and 5 of a table are dates; None: if they look so
    graphs: bool = False  # named graphs of RDF become question graphs
    profile: Profile = "auto"  # what is known about certain RDF dumps; auto looks at the first lines
    languages: tuple[str, ...] | None = None
    literals: Literals = "keep"  # labels: used where they name something, otherwise left out; drop: not even that
    keep: tuple[str, ...] = Field(default=())
    drop: tuple[str, ...] = Field(default=())
    skip_bad_lines: bool = False  # of formats with one fact a line
    base: str | None = None  # IRI that relative ones of Turtle, TriG and RDF/XML are resolved against
