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
_TEXT = r'"(?:[^"\\\n\r]|\\[tbnrf"\\]|\\u[0-9A-Fa-f]{4}|\\U[0-9A-Fa-f]{8})*"'
_LITERAL = rf"{_TEXT}(?:@[A-Za-z]+(?:-[A-Za-z0-9]+)*|\^\^{_IRI})?"
_LINE = rf"^[ \t]*({_IRI}|{_BLANK})[ \t]*({_IRI})[ \t]*({_IRI}|{_BLANK}|{_LITERAL})[ \t]*"
_TRIPLE = rf"{_LINE}\.[ \t]*$"
_QUAD = rf"{_LINE}({_IRI}|{_BLANK})?[ \t]*\.[ \t]*$"


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
    """Terms of a block of N-Triples or N-Quads; the lines that take pyoxigraph come last."""
    count = block.count(b"\n")
    lines = _split(block, place)
    pattern, columns = (_QUAD, TERMS) if kind == "nq" else (_TRIPLE, TERMS[:3])
    terms = lines.select(pl.col("line").str.extract_groups(pattern).struct.rename_fields(columns).struct.unnest())
    if kind == "nt":
        terms = terms.with_columns(pl.lit(None, pl.String).alias("g"))
    odd = terms["s"].is_null()
    if odd.any():
        rest = lines.filter(odd).filter(~pl.col("line").str.contains(r"^\s*(#|$)"))
        extra = [_one(text, place.line + number, place, kind) for text, number in rest.iter_rows()]
        terms = pl.concat([terms.filter(~odd), *(frame for frame in extra if frame is not None)])
    place.line += count
    return terms, count


def _split(block: bytes, place: Place) -> pl.DataFrame:
    """Lines of a block (column ``line``) with their numbers from 1 (column ``number``)."""
    try:
        text = block.decode("utf-8")
        lines: list[str | None] = list(text[:-1].split("\n"))
    except UnicodeDecodeError:
        lines = [decode(raw, place.line + n, place) for n, raw in enumerate(block[:-1].split(b"\n"), 1)]
    frame = pl.DataFrame({"line": pl.Series(lines, dtype=pl.String)})
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
        (str(subject), str(predicate), str(value), None if isinstance(graph, _DEFAULT) else str(graph))
        for subject, predicate, value, graph in quads
    ]
    return pl.DataFrame(rows, schema=dict.fromkeys(TERMS, pl.String), orient="row")


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
    for node in nodes.filter(nodes.str.contains(r"^_:[0-9a-f]{32}$")).unique(maintain_order=True):
        anonymous.setdefault(node, f"_:a.{len(anonymous)}")
    if not anonymous:
        return frame
    return frame.with_columns(pl.col("s", "o", "g").replace(anonymous))
