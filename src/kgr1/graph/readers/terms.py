"""From frames of RDF terms to facts, labels and counts of what is left out.

Identifiers are full IRIs (short ones in dumps whose prefix is known), ``_:<source>.<name>`` for blank nodes, and the
N-Triples form for literals, whose label is their text. What names a thing becomes its label or an alias: the label in
the best language that it has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

import polars as pl

from kgr1.graph.batches import Batch
from kgr1.graph.readers import profiles
from kgr1.graph.readers.labels import LabelChooser
from kgr1.graph.readers.options import OTHERS, Profile, ReadOptions
from kgr1.graph.readers.place import Place

_LITERAL = r'^"((?s).*)"(?:@([A-Za-z0-9-]+)(?:--\w+)?|\^\^<([^>]*)>)?$'
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))")
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "b": "\b", "f": "\f"}
_ESCAPED = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\b": "\\b", "\f": "\\f", '"': '\\"', "\\": "\\\\"}
_TO_ESCAPE = re.compile('[\x00-\x1f"\\\\\x7f\ufffe\uffff]')
_MAX_NAMELESS = 1 << 20  # entities that get a readable name from their IRI
_STRING = "http://www.w3.org/2001/XMLSchema#string"


class TermMapper:
    """Maps frames of terms of one or more sources; :meth:`finish` gives what is only known at the end."""

    def __init__(self, options: ReadOptions) -> None:
        self.options = options
        self._chooser: LabelChooser | None = None
        self._relations: set[str] = set()
        self._iris: list[pl.Series] | None = []
        self._languages: tuple[str, ...] = ()

    def batches(self, frames: Iterator[tuple[pl.DataFrame, int]], place: Place) -> Iterator[Batch]:
        """Batches of the frames of one source."""
        profile = self.options.profile
        for frame, rows in frames:
            if profile == "auto" and frame.height:
                profile = profiles.tell(frame)
            yield self._batch(frame, rows, place, profile)

    def finish(self, place: Place) -> Batch:
        """Labels of what has none in a preferred language, and readable names of IRIs without any."""
        if self._chooser is None:
            return place.batch(None, None, 0)
        nameless = [pl.Series(sorted(self._relations), dtype=pl.String), *self._nameless(1)]
        ids = pl.concat(nameless).unique(maintain_order=True)
        names = pl.DataFrame({"id": ids.filter(~self._chooser.labelled(ids))}).select(
            "id",
            pl.col("id").map_elements(local_name, return_dtype=pl.String).alias("label"),
            pl.lit(False).alias("alias"),
        )
        labels = pl.concat([self._chooser.rest(), names.filter(pl.col("label") != pl.col("id"))])
        return place.batch(None, labels, 0)

    def _nameless(self, least: int) -> list[pl.Series]:
        """IRIs of entities without a label so far, as one series if there are at least so many."""
        if not self._iris or self._chooser is None:
            return []
        if sum(map(len, self._iris)) >= least:
            ids = pl.concat(self._iris).unique(maintain_order=True)
            ids = ids.filter(~self._chooser.labelled(ids))
            # A graph with so many entities has labels, or its users know its identifiers.
            self._iris = [ids] if len(ids) <= _MAX_NAMELESS else None
        return self._iris or []

    def _remember(self, facts: pl.DataFrame, *, short: bool) -> None:
        self._relations.update(facts["relation"].unique())
        if self._iris is not None and not short:
            ids = pl.concat([facts["head"], facts.filter(pl.col("text").is_null())["tail"]]).unique(maintain_order=True)
            self._iris.append(ids.filter(ids.str.contains(r"^[A-Za-z][A-Za-z0-9+.\-]*:")))
            self._nameless(2 * _MAX_NAMELESS)

    def _batch(self, frame: pl.DataFrame, rows: int, place: Place, profile: Profile) -> Batch:
        dump = profiles.DUMPS["plain" if profile == "auto" else profile]
        self._languages = self.options.languages or self._languages or dump.languages
        if self._chooser is None:
            self._chooser = LabelChooser(self._languages)
        frame = _without(
            frame, "statements about statements", pl.any_horizontal(pl.col("s", "o").str.starts_with("<<")), place
        )
        for reason, condition in profiles.noise(profile):
            frame = _without(frame, reason, condition, place)
        frame = self._languages_filter(frame, place)
        frame, names = _names(frame, dump)
        facts = self._facts(frame, dump, place)
        labels = [] if self.options.literals == "drop" else [self._chooser.take(_shown(names, dump, place))]
        if self.options.literals == "drop":
            place.drop("text (literals)", names.height)
        labels.append(_literal_labels(facts))
        self._remember(facts, short=bool(dump.prefixes))
        return place.batch(facts.drop("text"), pl.concat(labels), rows)

    def _languages_filter(self, frame: pl.DataFrame, place: Place) -> pl.DataFrame:
        """The frame with ``text`` (of literals, else null) and ``language``, and canonical literals in ``o``."""
        frame = with_text(frame)
        if OTHERS not in self._languages:
            wanted = pl.col("language").is_null() | pl.col("language").str.to_lowercase().is_in(self._languages)
            wanted |= pl.col("language").str.to_lowercase().str.split("-").list.first().is_in(self._languages)
            frame = _without(frame, "text in other languages", ~wanted, place)
        return canonical(frame).drop("type")

    def _facts(self, frame: pl.DataFrame, dump: profiles.Dump, place: Place) -> pl.DataFrame:
        if self.options.literals != "keep":
            frame = _without(frame, "text (literals)", pl.col("text").is_not_null(), place)
        columns = [
            _identifier("s", dump, place).alias("head"),
            _identifier("p", dump, place).alias("relation"),
            pl.when(pl.col("text").is_null()).then(_identifier("o", dump, place)).otherwise(pl.col("o")).alias("tail"),
            pl.col("text"),
        ]
        if self.options.graphs:
            columns.append(_identifier("g", dump, place).alias("graph"))
        return frame.select(columns)


def with_text(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with the parts of literals, null elsewhere: ``text`` (escapes unread), ``language``, ``type``."""
    o = pl.col("o")
    literal, escaped = o.str.starts_with('"'), o.str.contains("\\", literal=True)
    frame = frame.with_columns(o.str.slice(1).str.splitn('"', 2).struct.rename_fields(["text", "rest"]).struct.unnest())
    rest = pl.col("rest")
    frame = frame.with_columns(
        pl.when(literal).then("text").alias("text"),
        pl.when(literal & rest.str.starts_with("@")).then(rest.str.slice(1)).alias("language"),
        pl.when(literal & rest.str.starts_with("^^<")).then(rest.str.slice(3).str.strip_suffix(">")).alias("type"),
    ).drop("rest")
    hard = literal & escaped
    if not frame.select(hard.any()).item():
        return frame
    # A quote inside may be escaped: only there the slower expression that takes groups out.
    parts = pl.when(hard).then(o).otherwise(None).str.extract_groups(_LITERAL).struct.rename_fields(["_1", "_2", "_3"])
    columns = zip(("text", "language", "type"), ("_1", "_2", "_3"), strict=True)
    frame = frame.with_columns(parts.struct.unnest())
    return frame.with_columns(
        pl.when(hard).then(part).otherwise(column).alias(column) for column, part in columns
    ).drop("_1", "_2", "_3")


def _without(frame: pl.DataFrame, reason: str, condition: pl.Expr, place: Place) -> pl.DataFrame:
    kept = frame.filter(~condition.fill_null(False))
    place.drop(reason, frame.height - kept.height)
    return kept


def _identifier(column: str, dump: profiles.Dump, place: Place) -> pl.Expr:
    """The identifier of an IRI or blank node."""
    term = pl.col(column)
    iri = term.str.slice(1).str.strip_suffix(">")
    for prefix in dump.prefixes:
        iri = (
            pl.when(iri.str.starts_with(prefix) & (iri.str.len_bytes() > len(prefix)))
            .then(iri.str.strip_prefix(prefix))
            .otherwise(iri)
        )
    anonymous = term.str.starts_with("_:a.")
    blank = (
        pl.when(anonymous)
        .then(pl.lit(f"_:{place.number}a.") + term.str.slice(4))
        .otherwise(pl.lit(f"_:{place.number}.") + term.str.slice(2))
    )
    return pl.when(term.str.starts_with("_:")).then(blank).otherwise(iri)


def _names(frame: pl.DataFrame, dump: profiles.Dump) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What is left, and the terms that name their subject, with the column ``alias``."""
    alias = pl.col("p").is_in([f"<{iri}>" for iri in dump.aliases])
    naming = (alias | pl.col("p").is_in([f"<{iri}>" for iri in dump.labels])) & pl.col("text").is_not_null()
    marked = frame.with_columns(naming.alias("naming"), alias.alias("alias"))
    names = marked.filter(pl.col("naming")).drop("naming")
    if not names.height:
        return frame, names
    return marked.filter(~pl.col("naming")).drop("naming", "alias"), names


def _shown(names: pl.DataFrame, dump: profiles.Dump, place: Place) -> pl.DataFrame:
    """Identifier, text, language and alias of names that can be seen."""
    frame = names.select(
        _identifier("s", dump, place).alias("id"), pl.col("text").alias("label"), pl.col("language"), pl.col("alias")
    )
    return frame.filter(pl.col("label").str.strip_chars() != "")


def _literal_labels(facts: pl.DataFrame) -> pl.DataFrame:
    texts = facts.filter(pl.col("text").is_not_null() & (pl.col("text").str.strip_chars() != ""))
    return (
        texts.select(pl.col("tail").alias("id"), pl.col("text").alias("label"))
        .unique(maintain_order=True)
        .with_columns(pl.lit(False).alias("alias"))
    )


def canonical(frame: pl.DataFrame) -> pl.DataFrame:
    """A frame of :func:`with_text` with escapes read in ``text`` and one spelling for every literal in ``o``."""
    language = pl.col("language")
    odd = pl.col("text").str.contains("\\", literal=True) | (pl.col("type") == _STRING)
    odd |= language.is_not_null() & (language != language.str.to_lowercase())
    if not frame.select(odd.any()).item():
        return frame
    terms = frame.filter(odd).select("o", "text", "language", "type").unique()
    read = [unescape(text) for text in terms["text"]]
    spelled = [
        f'"{escape(text)}"' + (f"@{language.lower()}" if language else "" if kind in (None, _STRING) else f"^^<{kind}>")
        for text, language, kind in zip(read, terms["language"], terms["type"], strict=True)
    ]
    fresh = pl.DataFrame(
        {"o": terms["o"], "_text": read, "_o": spelled}, schema_overrides={"_text": pl.String, "_o": pl.String}
    )
    joined = frame.join(fresh, on="o", how="left", maintain_order="left")
    return joined.with_columns(pl.coalesce("_o", "o").alias("o"), pl.coalesce("_text", "text").alias("text")).drop(
        "_o", "_text"
    )


def unescape(text: str) -> str:
    r"""What the escapes of an N-Triples string stand for; half characters become U+FFFD.

    >>> unescape(r"a\tb \"c\" \u00e9")
    'a\tb "c" é'
    """

    def char(found: re.Match[str]) -> str:
        code = found[1] or found[2]
        if code is None:
            return _CONTROLS.get(found[3], found[3])
        number = int(code, 16)
        return "\ufffd" if 0xD800 <= number < 0xE000 or number > 0x10FFFF else chr(number)

    return _ESCAPE.sub(char, text) if "\\" in text else text


def escape(text: str) -> str:
    r"""The text between the quotes of an N-Triples literal, in canonical form.

    >>> escape('say "\n"')
    'say \\"\\n\\"'
    """
    return _TO_ESCAPE.sub(lambda found: _ESCAPED.get(found[0], f"\\u{ord(found[0]):04X}"), text)


def local_name(iri: str) -> str:
    """What of an IRI can be read: the part after its last ``#``, ``/`` or ``:``.

    >>> local_name("http://example.org/film#directed_by"), local_name("http://example.org/")
    ('directed_by', 'http://example.org/')
    """
    if ":" not in iri or iri.startswith("_:"):
        return iri
    name = unquote(re.split(r"[#/:]", iri)[-1])
    return name if name.strip() and "\ufffd" not in name else iri
