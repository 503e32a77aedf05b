"""RDF: N-Triples, N-Quads, Turtle, TriG and RDF/XML as frames of terms.

A term stays in its N-Triples form here (``<iri>``, ``_:blank``, ``"text"@en``). Lines of N-Triples and N-Quads are
taken apart by one regular expression over a whole block; the few that it does not match go through pyoxigraph, which
knows every corner of the grammar and says what is wrong. The other formats go through pyoxigraph as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

import polars as pl
import pyoxigraph

from kgr1.graph.readers.options import Format, ReadOptions
from kgr1.graph.readers.place import Place
from kgr1.graph.readers.streams import decode, line_blocks

TERMS = ("s", "p", "o", "g")
"""Columns of a frame of terms; ``g`` is null in the default graph."""

_OXIGRAPH = {
    "nt": pyoxigraph.RdfFormat.N_TRIPLES,
    "nq": pyoxigraph.RdfFormat.N_QUADS,
    "ttl": pyoxigraph.RdfFormat.TURTLE,
    "trig": pyoxigraph.RdfFormat.TRIG,
    "rdf": pyoxigraph.RdfFormat.RDF_XML,
}
_DEFAULT = pyoxigraph.DefaultGraph
_BATCH = 100_000

_IRI = r'<[A-Za-z][A-Za-z0-9+.\-]*:[^\x00-\x20<>"{}|^`\\]*>'
_BLANK = r"_:[0-9A-Za-z_](?:[0-9A-Za-z_.\-]*[0-9A-Za-z_\-])?"
_CHAR = r'[^"\\\x00-\x1f\x7f\x{FFFE}\x{FFFF}]|\\[tbnrf"\\]'
_CODE = r"\\u(?:[0-9A-CE-Fa-ce-f][0-9A-Fa-f]|[Dd][0-7])[0-9A-Fa-f]{2}|\\U00(?:0[1-9A-Fa-f]|10)[0-9A-Fa-f]{4}"
_TEXT = rf'"(?:{_CHAR}|{_CODE})*"'  # of which the parser would make the same
_LITERAL = rf"{_TEXT}(?:@[A-Za-z]+(?:-[A-Za-z0-9]+)*|\^\^{_IRI})?"
# The parser names such a node by a random number in hexadecimal digits without leading zeros.
_ANONYMOUS = r"^_:[a-f][0-9a-f]{19,31}$"
_LINE = rf"^[ \t]*({_IRI}|{_BLANK})[ \t]*({_IRI})[ \t]*({_IRI}|{_BLANK}|{_LITERAL})[ \t]*"
_TRIPLE = rf"{_LINE}\.[ \t]*$"
_QUAD = rf"{_LINE}({_IRI}|{_BLANK})?[ \t]*\.[ \t]*$"
_USUAL = rf"^(?:{_IRI}|{_BLANK}) {_IRI} (?:{_IRI}|{_BLANK}|{_LITERAL}) \.$"


def read_terms(
    stream: BinaryIO, place: Place, options: ReadOptions, kind: Format
) -> Iterator[tuple[pl.DataFrame, int]]:
    """Frames of terms (columns s, p, o, g) and how many rows of the source each took."""
    if kind in ("nt", "nq"):
        for block in line_blocks(stream, place):
            yield _lines(block, place, kind)
    else:
        yield from _document(stream, place, options, kind)


def _lines(block: bytes, place: Place, kind: Format) -> tuple[pl.DataFrame, int]:
    """Terms of a block of N-Triples or N-Quads; lines that are unusual come last."""
    count = block.count(b"\n")
    lines = _split(block, place)
    # Checking a line and cutting it at its first two blanks is ten times faster than taking out groups.
    usual = pl.col("line").str.contains(_USUAL)
    parts = lines.filter(usual).select(pl.col("line").str.strip_suffix(" .").str.splitn(" ", 3).struct.unnest())
    parts.columns = list(TERMS[:3])
    terms = [parts.with_columns(pl.lit(None, pl.String).alias("g"))]
    if parts.height < lines.height:
        rest = lines.filter(~usual & ~pl.col("line").str.contains(r"^\s*(#|$)"))
        groups = pl.col("line").str.extract_groups(_QUAD if kind == "nq" else _TRIPLE)
        parts = rest.select(groups.struct.unnest())
        parts.columns = list(TERMS[: parts.width])
        odd = parts["s"].is_null()
        parts = parts.filter(~odd)
        terms.append(parts if parts.width == len(TERMS) else parts.with_columns(pl.lit(None, pl.String).alias("g")))
        odd_lines = rest.filter(odd).iter_rows()
        found = (_one(text, place.line + number, place, kind) for text, number in odd_lines)
        terms += [frame for frame in found if frame is not None]
    place.line += count
    return pl.concat(terms), count


def _split(block: bytes, place: Place) -> pl.DataFrame:
    """Lines of a block (column ``line``) with their numbers from 1 (column ``number``)."""
    schema = {"line": pl.String}
    try:
        # A separator that hardly any file has: this is only about lines.
        frame = pl.read_csv(block, separator="\x01", quote_char=None, has_header=False, schema=schema)
    except pl.exceptions.PolarsError:
        lines = [decode(raw, place.line + n, place) for n, raw in enumerate(block[:-1].split(b"\n"), 1)]
        frame = pl.DataFrame({"line": lines}, schema=schema)
    if b"\r" in block:
        frame = frame.with_columns(pl.col("line").str.strip_suffix("\r"))
    return frame.with_row_index("number", 1).select("line", pl.col("number").cast(pl.Int64)).drop_nulls("line")


def _one(text: str, line: int, place: Place, kind: Format) -> pl.DataFrame | None:
    """A line that is right in an unusual way, or wrong."""
    try:
        quads = list(pyoxigraph.parse(text.removeprefix("\ufeff") if line == 1 else text, format=_OXIGRAPH[kind]))
    except SyntaxError as error:
        name = "N-Quads" if kind == "nq" else "N-Triples"
        place.bad(line, f"not {name} ({_reason(error)})", f"not {name}", cause=error)
        return None
    return _frame(quads) if quads else None


def _frame(quads: list[pyoxigraph.Quad]) -> pl.DataFrame:
    rows = [
        (str(subject), str(predicate), _object(value), None if isinstance(graph, _DEFAULT) else str(graph))
        for subject, predicate, value, graph in quads
    ]
    return pl.DataFrame(rows, schema=dict.fromkeys(TERMS, pl.String), orient="row")


def _object(term: object) -> str:
    return f"<<( {term} )>>" if isinstance(term, pyoxigraph.Triple) else str(term)


def _document(stream: BinaryIO, place: Place, options: ReadOptions, kind: Format) -> Iterator[tuple[pl.DataFrame, int]]:
    """Terms of Turtle, TriG or RDF/XML."""
    anonymous: dict[str, str] = {}
    try:
        parser = pyoxigraph.parse(stream, format=_OXIGRAPH[kind], base_iri=options.base)
        while quads := list(islice(parser, _BATCH)):
            frame = _frame(quads)
            yield _renumbered(frame, anonymous), len(quads)
    except SyntaxError as error:
        reason = _reason(error)
        if "No scheme found" in reason:
            reason += "; if that is a relative IRI, say with --base what it is relative to"
        if error.lineno is None:
            place.fail_file(reason, cause=error)
        place.fail(error.lineno, reason, cause=error)
    except ValueError as error:  # the base
        place.fail_file(str(error).rstrip("."), cause=error)


def _reason(error: SyntaxError) -> str:
    """The parser's words without the position, which the message has already."""
    message = str(error.msg)
    if message.startswith("Parser error at "):
        message = message.partition(": ")[2] or message
    return " ".join(message.split()).rstrip(".")


def _renumbered(frame: pl.DataFrame, anonymous: dict[str, str]) -> pl.DataFrame:
    """The frame with nodes that have no name in the source numbered in their order; the parser names them at random."""
    nodes = pl.concat([frame["s"], frame["o"]])
    for node in nodes.filter(nodes.str.contains(_ANONYMOUS)).unique(maintain_order=True):
        anonymous.setdefault(node, f"_:a.{len(anonymous)}")
    if not anonymous:
        return frame
    return frame.with_columns(pl.col("s", "o", "g").replace(anonymous))
