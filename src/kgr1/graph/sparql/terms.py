"""RDF terms: as SPARQL text that cannot be broken out of, as identifiers, and as endpoints send them.

Everything that goes into a query goes through :meth:`Term.to_sparql`. An IRI must match the grammar of SPARQL's IRIREF
(:func:`is_iri`), which has no way to say ``>`` or a blank; the text of a literal is escaped so that neither a quote nor
a backslash nor a line break of its own is left.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from kgr1.graph.readers.terms import escape

XSD = "http://www.w3.org/2001/XMLSchema#"
XSD_STRING = XSD + "string"
LANG_STRING = "http://www.w3.org/1999/02/22-rdf-syntax-ns#langString"

# An absolute IRI of SPARQL's IRIREF. Backslashes are excluded, so that no \u escape can smuggle in another character.
_IRI = re.compile(r'[A-Za-z][A-Za-z0-9+.-]*:[^\x00-\x20<>"{}|^`\\\x7f]*')
_LANGUAGE = re.compile(r"[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*")
_LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"(?:\^\^<([^<>]*)>|@([A-Za-z0-9-]+))?', re.DOTALL)
_ESCAPED = re.compile(r'\\[uU]|[\x00-\x1f"\\\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]')
# A backslash before a u: some parsers replace \u escapes before they look for strings, and must not find one there.
_SHORT = {"\\u": r"\\\u0075", "\\U": r"\\\u0055", "\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_UNESCAPE = re.compile(r'\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([tbnrf"\'\\]))')
_LONG = {"t": "\t", "b": "\b", "n": "\n", "r": "\r", "f": "\f", '"': '"', "'": "'", "\\": "\\"}


class Term(NamedTuple):
    """An IRI or a literal. ``datatype`` is empty for plain strings and for texts with a language."""

    kind: Literal["iri", "literal"]
    value: str
    datatype: str = ""
    language: str = ""

    @property
    def is_literal(self) -> bool:
        """True for a literal."""
        return self.kind == "literal"

    @property
    def identifier(self) -> str:
        """The IRI, or the literal in canonical N-Triples, such as ``"12.5"^^<http://...#decimal>`` or ``"Wien"@de``."""
        if self.kind == "iri":
            return self.value
        text = escape(self.value)
        if self.language:
            return f'"{text}"@{self.language}'
        return f'"{text}"^^<{self.datatype}>' if self.datatype else f'"{text}"'

    def to_sparql(self) -> str:
        """The term as it stands in a query or an N-Triples file.

        Raises ValueError for what is not an IRI, not a language tag or not valid Unicode.
        """
        if not self.value.isascii():
            self.value.encode("utf-8")  # a lone surrogate raises UnicodeEncodeError, a ValueError
        if self.kind == "iri":
            if not is_iri(self.value):
                raise ValueError(f"{self.value[:100]!r} is not an IRI")
            return f"<{self.value}>"
        text = quote(self.value)
        if self.language:
            if not _LANGUAGE.fullmatch(self.language):
                raise ValueError(f"{self.language[:100]!r} is not a language tag")
            return f"{text}@{self.language}"
        return f"{text}^^{iri(self.datatype).to_sparql()}" if self.datatype else text


def iri(value: str) -> Term:
    """The IRI term."""
    return Term("iri", value)


def literal(value: str, datatype: str = "", language: str = "") -> Term:
    """A literal term; ``xsd:string`` and ``rdf:langString`` are the same as no datatype, as RDF 1.1 has it."""
    if language or datatype in (XSD_STRING, LANG_STRING):
        datatype = ""
    return Term("literal", value, datatype, language)


def is_iri(text: str) -> bool:
    """Whether the text is an absolute IRI that can stand between ``<`` and ``>`` as it is.

    >>> is_iri("http://example.org/Wien"), is_iri("http://example.org/> } DROP ALL #")
    (True, False)
    """
    if _IRI.fullmatch(text) is None:
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def quote(text: str) -> str:
    """A string literal of SPARQL and of N-Triples, in double quotes.

    Control and direction characters become ``\\u`` escapes: the query stays one line and reads as it is executed.
    Raises UnicodeEncodeError for a lone surrogate.

    >>> quote('say "hi"')
    '"say \\\\"hi\\\\""'
    """
    if not text.isascii():
        text.encode("utf-8")
    return f'"{_ESCAPED.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    return _SHORT.get(char) or f"\\u{ord(char):04X}"


def read_literal(text: str) -> Term | None:
    """The literal behind an identifier such as ``"12.5"^^<http://...>`` or ``"Wien"@de``, None if it is none."""
    found = _LITERAL.fullmatch(text)
    if found is None:
        return None
    try:
        value = _UNESCAPE.sub(_unescape, found[1])
        value.encode("utf-8")
    except (ValueError, OverflowError):
        return None
    return _checked_literal(value, found[2] or "", found[3] or "")


def _unescape(match: re.Match[str]) -> str:
    code = match[1] or match[2]
    return chr(int(code, 16)) if code else _LONG[match[3]]


def from_binding(binding: Mapping[str, Any]) -> Term | None:
    """A value of the SPARQL JSON results format; None for what no later query could name.

    That is a blank node, and what stores let in although it is no RDF: an IRI with a blank in it, a literal with such a
    datatype or with a language tag that is none. Raises KeyError, TypeError or ValueError if it is no such value.
    """
    kind, value = binding["type"], binding["value"]
    if not isinstance(value, str):
        raise TypeError("a value is not a string")
    if kind == "bnode":
        return None
    if kind == "uri":
        return iri(value) if is_iri(value) else None
    if kind not in ("literal", "typed-literal"):
        raise ValueError(f"a value of type {kind!r:.40}")
    return _checked_literal(value, str(binding.get("datatype") or ""), str(binding.get("xml:lang") or ""))


def _checked_literal(value: str, datatype: str, language: str) -> Term | None:
    if (datatype and not is_iri(datatype)) or (language and not _LANGUAGE.fullmatch(language)):
        return None
    return literal(value, datatype, language)
