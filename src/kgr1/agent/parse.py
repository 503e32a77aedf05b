"""From the text of one turn to an action: the exact-match parser of SPEC section 3.

The first complete action counts and everything after it is cut off. Nothing is guessed about queries: only the four
operations and their published aliases, with quoted arguments and at most a page number, are accepted. Answers are a
JSON list of strings; a tolerant fallback reads lists written in other ways, because an answer that a reader understands
should count.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from kgr1.rewards.answer import normalise
from kgr1.types import OPERATION_ALIASES, Answer, ErrorCode, Operation, Query

_ACTIONS = ("kg-query", "answer")
_TAG = re.compile(r"</?(?:think|kg-query|answer|information)>")
_THINK = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)
_CALL = re.compile(r"\s*([A-Za-z_]\w*)\s*\((.*)\)\s*", re.DOTALL)
_STRING = re.compile(r'\s*("(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\')\s*', re.DOTALL)
_PAGE = re.compile(r"\s*page\s*=\s*([0-9]{1,9})\s*")
_OPERATIONS: dict[str, Operation] = {operation.value: operation for operation in Operation} | OPERATION_ALIASES

MAX_ANSWERS = 1000
MAX_NAME_CHARACTERS = 2000


class _Unquoted(str):
    """A number in JSON, as it was written."""

    __slots__ = ()


@dataclass(frozen=True)
class ParsedTurn:
    """What a turn means. Exactly one of ``query``, ``answer`` and ``error`` is set.

    ``well_formed`` is v_fmt of SPEC section 4: exactly one think block, then exactly one well-formed action, and
    nothing else.
    """

    think: str = ""
    query: Query | None = None
    answer: Answer | None = None
    error: ErrorCode | None = None
    message: str = ""
    well_formed: bool = False


def parse_turn(text: str, seen: Sequence[str] = (), graph_id: str | None = None, *, page_size: int = 0) -> ParsedTurn:
    """Map the text of one turn to an action. ``seen`` are the names shown so far, used to split loose answers.

    ``page_size`` is that of :func:`parse_query`.
    """
    text = valid_unicode(text)
    found = _first_action(text)
    if found is None:
        return ParsedTurn(
            error=ErrorCode.FORMAT_ERROR,
            message="No complete action. Write <think>...</think> and then <kg-query>...</kg-query> or "
            "<answer>...</answer>.",
        )
    before, tag, body = found
    think = _THINK.fullmatch(before)
    framed = think is not None and not _TAG.search(think[1]) and not _TAG.search(body)
    thought = think[1].strip() if think is not None else ""
    if tag == "answer":
        names, strict = parse_answer(body, seen)
        return ParsedTurn(think=thought, answer=Answer(names=names), well_formed=framed and strict)
    parsed = parse_query(body, graph_id, page_size=page_size)
    if isinstance(parsed, Query):
        complete = (parsed.relation is not None) == parsed.operation.takes_relation
        return ParsedTurn(think=thought, query=parsed, well_formed=framed and complete)
    return ParsedTurn(think=thought, error=parsed[0], message=parsed[1])


def valid_unicode(text: str) -> str:
    """The text with lone surrogates, which no file or message can carry, replaced by U+FFFD."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _first_action(text: str) -> tuple[str, str, str] | None:
    """The first complete action: the text before it, its tag and its body.

    Plain searches instead of one regular expression, which would take quadratic time on many tags that never close.
    """
    found: list[tuple[int, str, str]] = []
    for tag in _ACTIONS:
        start = text.find(f"<{tag}>")
        body = start + len(tag) + 2
        end = text.find(f"</{tag}>", body) if start >= 0 else -1
        if end >= 0:
            found.append((start, tag, text[body:end]))
    if not found:
        return None
    start, tag, content = min(found)
    return text[:start], tag, content


def parse_query(text: str, graph_id: str | None = None, *, page_size: int = 0) -> Query | tuple[ErrorCode, str]:
    """Read ``OP("entity"[, "relation"[, "time"]][, page=N])``; on failure an error code with one sentence.

    A call with too few or too many arguments for its operation still parses if it has one or two: the graph answers it
    with ``KG_FORMAT_ERROR`` and says what is missing. With a ``page_size`` every query asks for a page of so many
    results, the first one unless ``page`` says otherwise; with 0 there are no pages, and ``page`` is an error.

    >>> parse_query('get_entities_out("Paris", "country")').to_text()
    'get_tail_entities("Paris", "country")'
    >>> query = parse_query('get_tail_entities("Paris", "mayor", "after 2000", page=2)', page_size=50)
    >>> query.time, query.offset, query.limit
    ('after 2000', 50, 50)
    """
    call = _CALL.fullmatch(valid_unicode(text))
    if call is None:
        return ErrorCode.FORMAT_ERROR, 'Write one call such as get_tail_relations("entity").'
    operation = _OPERATIONS.get(call[1])
    if operation is None:
        names = ", ".join(member.value for member in Operation)
        return ErrorCode.SERVER_ERROR, f"Unknown operation. Use one of {names}."
    body, page = _split_page(call[2])
    arguments = _arguments(body)
    most = 3 if operation.takes_relation else 2
    if arguments is None or not 1 <= len(arguments) <= most or not all(argument.strip() for argument in arguments):
        wanted = '("entity", "relation")' if operation.takes_relation else '("entity")'
        return ErrorCode.FORMAT_ERROR, f"{operation.value} takes {wanted}, with quotes."
    if page is not None and not page_size:
        return ErrorCode.FORMAT_ERROR, f"Results have no pages here; leave out page={page}."
    if page == 0:
        return ErrorCode.FORMAT_ERROR, "The first page is page=1."
    return Query(
        operation=operation,
        entity=arguments[0],
        relation=arguments[1] if len(arguments) > 1 else None,
        time=arguments[2] if len(arguments) > 2 else None,
        graph_id=graph_id,
        offset=page_size * ((page or 1) - 1),
        limit=page_size or None,
    )


def _split_page(text: str) -> tuple[str, int | None]:
    """The quoted arguments of a call, and the number of ``page=N`` at its end if that is there."""
    arguments, comma, last = text.rpartition(",")
    found = _PAGE.fullmatch(last) if comma else None
    return (text, None) if found is None else (arguments, int(found[1]))


def _arguments(text: str) -> list[str] | None:
    arguments: list[str] = []
    position = 0
    while True:
        match = _STRING.match(text, position)
        if match is None:
            return None
        arguments.append(_unquote(match[1])[:MAX_NAME_CHARACTERS])
        position = match.end()
        if position == len(text):
            return arguments
        if text[position] != ",":
            return None
        position += 1


_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "'": "'", "\\": "\\"}


def _unquote(quoted: str) -> str:
    # Any other backslash stays where it is: the lookup of names tries such a text as written and as a JSON escape.
    return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), quoted[1:-1], flags=re.DOTALL)


def parse_answer(text: str, seen: Sequence[str] = ()) -> tuple[tuple[str, ...], bool]:
    """The listed names in order without duplicates, and whether they were a JSON list of strings.

    Numbers without quotes are names as they are written, and a ``null`` in a list is none. Fallback for other notations
    (SPEC section 3): newlines or ``;`` separate; else names that were shown are found by longest match; else commas
    separate.

    >>> parse_answer('["a", "b", "a"]')
    (('a', 'b'), True)
    >>> parse_answer("[1.80, null]")
    (('1.80',), False)
    >>> parse_answer("Washington, D.C., Ohio", seen=["Washington, D.C.", "Ohio", "Washington"])
    (('Washington, D.C.', 'Ohio'), False)
    """
    strict = False
    items: list[str] | None = None
    try:
        value = json.loads(text, parse_float=_Unquoted, parse_int=_Unquoted, parse_constant=_Unquoted)
        if isinstance(value, str):
            items = [value]
        elif isinstance(value, list):
            strict = all(type(item) is str for item in value)
            items = [_as_text(item) for item in value if item is not None]
    except (ValueError, RecursionError):  # not JSON, or nested deeper than the reader goes
        pass
    if items is None:
        items = _split(text.strip(), seen)
    unique: dict[str, str] = {}
    for item in items[:MAX_ANSWERS]:
        name = valid_unicode(item).strip()[:MAX_NAME_CHARACTERS]
        if name:
            unique.setdefault(normalise(name), name)
    return tuple(unique.values()), strict


def _as_text(item: object) -> str:
    return item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)


def _split(text: str, seen: Sequence[str]) -> list[str]:
    text = text.removeprefix("[").removesuffix("]")
    if "\n" in text or ";" in text:
        return [_bare(part) for part in re.split(r"[\n;]", text)]
    names = sorted({name for name in seen if name and name in text}, key=lambda name: (-len(name), name))
    if names:
        found = list(re.finditer("|".join(re.escape(name) for name in names), text))
        rest = re.sub("|".join(re.escape(name) for name in names), "", text)
        if not re.search(r"\w", rest):
            return [match[0] for match in found]
    return [_bare(part) for part in text.split(",")]


def _bare(text: str) -> str:
    return text.strip().strip("\"'*-").strip()
