"""The parser: every accepted form, what is refused, and text that was made to break it."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgr1.agent.parse import MAX_ANSWERS, MAX_NAME_CHARACTERS, parse_answer, parse_query, parse_turn, valid_unicode
from kgr1.agent.prompt import format_turn
from kgr1.types import Answer, ErrorCode, Operation, Query

MEGABYTE = 1_000_000
THINK = "<think>I look.</think>\n"


def query(text: str) -> Query:
    parsed = parse_query(text)
    assert isinstance(parsed, Query), parsed
    return parsed


@pytest.mark.parametrize(
    ("call", "operation", "entity", "relation"),
    [
        ('get_tail_relations("Paris")', Operation.GET_TAIL_RELATIONS, "Paris", None),
        ("get_head_relations('Paris')", Operation.GET_HEAD_RELATIONS, "Paris", None),
        ('get_tail_entities("Paris", "country")', Operation.GET_TAIL_ENTITIES, "Paris", "country"),
        ("get_head_entities('Paris',\"country\")", Operation.GET_HEAD_ENTITIES, "Paris", "country"),
        ('get_relations_out("Paris")', Operation.GET_TAIL_RELATIONS, "Paris", None),
        ('get_relations_in("Paris")', Operation.GET_HEAD_RELATIONS, "Paris", None),
        ('get_entities_out("Paris", "country")', Operation.GET_TAIL_ENTITIES, "Paris", "country"),
        ('get_entities_in("Paris", "country")', Operation.GET_HEAD_ENTITIES, "Paris", "country"),
        (' \n get_tail_relations ( "Paris" ) \n', Operation.GET_TAIL_RELATIONS, "Paris", None),
        (r'get_tail_relations("a \"b\" \\ c")', Operation.GET_TAIL_RELATIONS, 'a "b" \\ c', None),
        (r"get_tail_relations('it\'s')", Operation.GET_TAIL_RELATIONS, "it's", None),
        ("get_tail_relations('say \"x\"')", Operation.GET_TAIL_RELATIONS, 'say "x"', None),
        (r'get_tail_relations("line\nbreak\ttab")', Operation.GET_TAIL_RELATIONS, "line\nbreak\ttab", None),
        ('get_tail_relations("a\nb")', Operation.GET_TAIL_RELATIONS, "a\nb", None),
        ('get_tail_entities("a, b", "c) d(")', Operation.GET_TAIL_ENTITIES, "a, b", "c) d("),
        ('get_tail_relations("Zürich 🙂")', Operation.GET_TAIL_RELATIONS, "Zürich 🙂", None),
    ],
)
def test_calling_forms(call: str, operation: Operation, entity: str, relation: str | None) -> None:
    parsed = query(call)
    assert (parsed.operation, parsed.entity, parsed.relation) == (operation, entity, relation)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("", ErrorCode.FORMAT_ERROR),
        ("Paris", ErrorCode.FORMAT_ERROR),
        ("get_tail_relations", ErrorCode.FORMAT_ERROR),
        ("get_tail_relations()", ErrorCode.FORMAT_ERROR),
        ("get_tail_relations(Paris)", ErrorCode.FORMAT_ERROR),
        ('get_tail_relations("Paris"', ErrorCode.FORMAT_ERROR),
        ('get_tail_relations("Paris)', ErrorCode.FORMAT_ERROR),
        ('get_tail_relations("Paris" "x")', ErrorCode.FORMAT_ERROR),
        ('get_tail_relations("Paris",)', ErrorCode.FORMAT_ERROR),
        ('get_tail_relations("")', ErrorCode.FORMAT_ERROR),
        ('get_tail_entities("Paris", "  ")', ErrorCode.FORMAT_ERROR),
        ('get_tail_relations("a", "b", "2014")', ErrorCode.FORMAT_ERROR),
        ('get_tail_entities("a", "b", "2014", "c")', ErrorCode.FORMAT_ERROR),
        ('get_tail_entities("a", "b", "")', ErrorCode.FORMAT_ERROR),
        ('get_tail_entities("a", "b", page=2)', ErrorCode.FORMAT_ERROR),
        ('get_tail_relations("a"); get_tail_relations("b")', ErrorCode.FORMAT_ERROR),
        ('x = get_tail_relations("a")', ErrorCode.FORMAT_ERROR),
        ('GET_TAIL_RELATIONS("a")', ErrorCode.SERVER_ERROR),
        ('get_relations("a")', ErrorCode.SERVER_ERROR),
        ('__import__("os")', ErrorCode.SERVER_ERROR),
        ('get_tail_relations("a").__class__("b")', ErrorCode.FORMAT_ERROR),
    ],
)
def test_everything_else_is_an_error_with_one_sentence(call: str, code: ErrorCode) -> None:
    parsed = parse_query(call)
    assert not isinstance(parsed, Query)
    assert parsed[0] is code
    assert parsed[1].endswith(".")
    turn = parse_turn(f"{THINK}<kg-query>{call}</kg-query>")
    assert (turn.error, turn.query, turn.answer, turn.well_formed) == (code, None, None, False)


@pytest.mark.parametrize(
    ("call", "time", "page"),
    [
        ('get_tail_entities("a", "b", "2014")', "2014", 1),
        ("get_entities_in('a', 'b', 'before 2014-05')", "before 2014-05", 1),
        ('get_tail_entities("a", "b", page=3)', None, 3),
        ('get_tail_entities("a", "b", "2014", page = 12 )', "2014", 12),
        ('get_tail_relations("a",page=2)', None, 2),
        ('get_tail_entities("a", "b, page=7")', None, 1),
        ('get_tail_entities("a", "b", page=000000002)', None, 2),
    ],
)
def test_time_and_page(call: str, time: str | None, page: int) -> None:
    parsed = parse_query(call, page_size=50)
    assert isinstance(parsed, Query)
    assert (parsed.time, parsed.offset, parsed.limit) == (time, 50 * (page - 1), 50)
    assert parse_query(parsed.to_text(), page_size=50) == parsed
    turn = parse_turn(f"{THINK}<kg-query>{call}</kg-query>", page_size=50)
    assert turn.query == parsed
    assert turn.well_formed


@pytest.mark.parametrize(
    "call",
    [
        'get_tail_relations("a", page=0)',
        'get_tail_relations("a", page=-1)',
        'get_tail_relations("a", page=1.5)',
        'get_tail_relations("a", page="2")',
        'get_tail_relations("a", page=2, page=3)',
        'get_tail_relations(page=2, "a")',
        'get_tail_relations("a" page=2)',
        'get_tail_relations("a",, page=2)',
        'get_tail_relations("a", page=2,)',
        'get_tail_relations("a", Page=2)',
        'get_tail_relations("a", page=1234567890)',
        'get_tail_relations("a", limit=2)',
        "get_tail_relations(page=2)",
        'get_tail_entities("a", "b", time="2014")',
    ],
)
def test_other_keywords_are_errors(call: str) -> None:
    parsed = parse_query(call, page_size=50)
    assert not isinstance(parsed, Query)
    assert parsed[0] is ErrorCode.FORMAT_ERROR
    assert parsed[1].endswith(".")


@pytest.mark.parametrize("call", ['get_tail_relations("a", "b")', 'get_tail_entities("a")'])
def test_a_wrong_number_of_arguments_is_for_the_graph_to_explain(call: str) -> None:
    turn = parse_turn(f"{THINK}<kg-query>{call}</kg-query>")
    assert turn.query is not None
    assert not turn.well_formed


def test_the_graph_id_goes_into_the_query() -> None:
    turn = parse_turn(f'{THINK}<kg-query>get_tail_relations("a")</kg-query>', graph_id="q7")
    assert turn.query is not None
    assert turn.query.graph_id == "q7"


def test_an_unknown_escape_keeps_its_backslash() -> None:
    # The lookup of names reads such a text both as written and as a JSON escape.
    assert query(r'get_tail_relations("C:\dir")').entity == r"C:\dir"
    assert query(r'get_tail_relations("\u200b")').entity == r"\u200b"


@pytest.mark.parametrize(
    ("text", "well_formed"),
    [
        ('<think>a</think><answer>["x"]</answer>', True),
        ('  <think>a</think>\n\n<answer>["x"]</answer>', True),
        ('<think></think><answer>["x"]</answer>', True),
        ('<answer>["x"]</answer>', False),
        ('hm <think>a</think><answer>["x"]</answer>', False),
        ('<think>a</think> so <answer>["x"]</answer>', False),
        ('<think>a</think><think>b</think><answer>["x"]</answer>', False),
        ('<think>a<think>b</think></think><answer>["x"]</answer>', False),
        ('<think>a<answer>["x"]</answer>', False),
        ('<think>a <information>b</information></think><answer>["x"]</answer>', False),
        ('<think>a</think><kg-query><answer>["x"]</answer>', False),
        ("<think>a</think><answer>x</answer>", False),
        ('<think>a</think><answer>{"x": 1}</answer>', False),
        ("<think>a</think><answer>[1]</answer>", False),
    ],
)
def test_well_formed_is_one_think_block_and_one_action(text: str, well_formed: bool) -> None:
    turn = parse_turn(text)
    assert turn.answer is not None
    assert turn.well_formed is well_formed


def test_the_first_complete_action_counts_and_the_rest_is_cut_off() -> None:
    first = '<kg-query>get_tail_relations("a")</kg-query>'
    for rest in (".", '<kg-query>get_tail_relations("b")</kg-query>', '<answer>["x"]</answer>', "<information>x"):
        turn = parse_turn(f"{THINK}{first}{rest}")
        assert turn.query is not None
        assert turn.query.entity == "a"
        assert turn.answer is None
    # An opening tag that never closes is no action; a later complete one is.
    turn = parse_turn(f'{THINK}<kg-query>get_tail_relations("a") <answer>["x"]</answer>')
    assert turn.answer == Answer(names=("x",))
    # The first to open, not the first to close.
    turn = parse_turn('<answer>["x", "<kg-query>get_tail_relations("a")</kg-query>"]</answer>')
    assert turn.answer is not None


@pytest.mark.parametrize("text", ["", "Paris", "<answer>", "</answer>", "<answer>x</kg-query>", "<ANSWER>x</ANSWER>"])
def test_a_turn_without_a_complete_action_says_what_to_write(text: str) -> None:
    turn = parse_turn(text)
    assert turn.error is ErrorCode.FORMAT_ERROR
    assert "<answer>" in turn.message
    assert not turn.well_formed


@pytest.mark.parametrize(
    ("text", "seen", "names", "strict"),
    [
        ('["a", "b"]', (), ("a", "b"), True),
        ('["a", "A", " a "]', (), ("a",), True),
        ("[]", (), (), True),
        ('["", " "]', (), (), True),
        ('["Zürich"]', (), ("Zürich",), True),
        ('"a"', (), ("a",), False),
        ("[1, null]", (), ("1",), False),
        ('["a", null]', (), ("a",), False),
        ("1.80", (), ("1.80",), False),
        ("-5", (), ("-5",), False),
        ("1e3", (), ("1e3",), False),
        ("007", (), ("007",), False),
        ("Infinity", (), ("Infinity",), False),
        ("NaN", (), ("NaN",), False),
        ("null", (), ("null",), False),
        ("true", (), ("true",), False),
        ("[1.10, 2, true]", (), ("1.10", "2", "true"), False),
        ('{"Paris": 1.10}', ("Paris",), ('{"Paris": 1.10}',), False),
        ("a\nb\n", (), ("a", "b"), False),
        ("- a\n* b", (), ("a", "b"), False),
        ("a; b", (), ("a", "b"), False),
        ("a, b", (), ("a", "b"), False),
        ("['a', 'b']", (), ("a", "b"), False),
        ("Smith, John", ("Smith, John", "John"), ("Smith, John",), False),
        ("Smith, John and more", ("Smith, John",), ("Smith", "John and more"), False),
        ("", (), (), False),
        ("  ", (), (), False),
    ],
)
def test_answers(text: str, seen: tuple[str, ...], names: tuple[str, ...], strict: bool) -> None:
    assert parse_answer(text, seen) == (names, strict)


def test_answers_are_bounded() -> None:
    names, _ = parse_answer("\n".join(f"name{i}" for i in range(3 * MAX_ANSWERS)))
    assert len(names) == MAX_ANSWERS
    ((name,), _) = parse_answer(f'["{"x" * MEGABYTE}"]')
    assert len(name) == MAX_NAME_CHARACTERS
    assert len(query(f'get_tail_relations("{"x" * MEGABYTE}")').entity) == MAX_NAME_CHARACTERS


HOSTILE = {
    "tags that never close": "<answer>" * (MEGABYTE // 8),
    "two kinds that never close": "<answer><kg-query>" * (MEGABYTE // 18),
    "thoughts": "<think>" * (MEGABYTE // 7) + "<answer>[]</answer>",
    "ends of thoughts": "<think>" + "</think> " * (MEGABYTE // 9) + "x<answer>[]</answer>",
    "blanks": THINK + " " * MEGABYTE + "x<answer>[]</answer>",
    "quotes": "<kg-query>get_tail_relations(" + '"' * MEGABYTE + ")</kg-query>",
    "escaped quotes": '<kg-query>get_tail_relations("' + '\\"' * (MEGABYTE // 2) + ")</kg-query>",
    "backslashes": '<kg-query>get_tail_relations("' + "\\" * MEGABYTE + '")</kg-query>',
    "newlines": '<kg-query>get_tail_relations("' + "\n" * MEGABYTE + '")</kg-query>',
    "pages": '<kg-query>get_tail_relations("a"' + ", page=1" * (MEGABYTE // 8) + ")</kg-query>",
    "a long page": '<kg-query>get_tail_relations("a", page=' + "1" * MEGABYTE + ")</kg-query>",
    "blanks before a page": '<kg-query>get_tail_relations("a",' + " " * MEGABYTE + "page)</kg-query>",
    "arguments": "<kg-query>get_tail_relations(" + '"a",' * (MEGABYTE // 4) + '"b")</kg-query>',
    "brackets": "<kg-query>get_tail_relations(" + ")" * MEGABYTE + "x</kg-query>",
    "brackets and blanks": "<kg-query>get_tail_relations(" + ") " * (MEGABYTE // 2) + "x</kg-query>",
    "a long operation": "<kg-query>" + "a" * MEGABYTE + "</kg-query>",
    "nested lists": "<answer>" + "[" * MEGABYTE + "</answer>",
    "closed nested lists": "<answer>" + "[" * 100_000 + "]" * 100_000 + "</answer>",
    "a long number": "<answer>" + "9" * MEGABYTE + "</answer>",
    "commas": "<answer>" + "a," * (MEGABYTE // 2) + "</answer>",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_megabyte_of_anything_is_read_in_no_time(text: str) -> None:
    started = time.process_time()
    turn = parse_turn(text, seen=["a", "b"])
    assert time.process_time() - started < 2  # quadratic time would be minutes
    assert sum(part is not None for part in (turn.query, turn.answer, turn.error)) == 1


@pytest.mark.parametrize(
    "text",
    [
        '<answer>["\ud800"]</answer>',
        '<answer>["\\ud800"]</answer>',
        "<answer>\udfff, \ud83d</answer>",
        '<kg-query>get_tail_relations("\ud800x")</kg-query>',
        '<think>\ud800</think><kg-query>get_tail_entities("a", "\udc00\ud800")</kg-query>',
    ],
)
def test_lone_surrogates_are_replaced(text: str) -> None:
    turn = parse_turn(text)
    action = turn.query or turn.answer
    assert action is not None
    assert "\ufffd" in str(action)
    assert type(action).model_validate_json(action.model_dump_json()) == action
    turn.think.encode("utf-8")


@given(st.text(st.characters(codec=None)))
def test_valid_unicode_changes_surrogates_only(text: str) -> None:
    valid = valid_unicode(text)
    valid.encode("utf-8")
    if not any("\ud800" <= c <= "\udfff" for c in text):
        assert valid == text
    assert "\ufffd" in valid_unicode(f"a\ud800{text}") or text[:1] >= "\udc00"
    assert valid_unicode("\ud83d\ude42") == "🙂"


# Tags inside a name cannot be written down; names are neutralised before the model sees them.
TAGS = re.compile("</?(think|kg-query|answer|information)>")
plain = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40).filter(
    lambda text: bool(text.strip()) and not TAGS.search(text)
)
queries = st.one_of(
    st.builds(
        Query,
        operation=st.sampled_from([op for op in Operation if not op.takes_relation]),
        entity=plain,
    ),
    st.builds(
        Query,
        operation=st.sampled_from([op for op in Operation if op.takes_relation]),
        entity=plain,
        relation=plain,
        time=st.none() | plain,
        offset=st.integers(0, 40).map(lambda page: 25 * page),
        limit=st.just(25),
    ),
)


@given(plain, queries)
def test_a_written_query_is_read_back(think: str, wanted: Query) -> None:
    turn = parse_turn(format_turn(think, wanted), page_size=wanted.limit or 0)
    assert turn.query == wanted
    assert turn.think == think.strip()
    assert turn.well_formed


@given(plain, st.lists(plain, max_size=5))
def test_a_written_answer_is_read_back(think: str, names: list[str]) -> None:
    turn = parse_turn(format_turn(think, Answer(names=tuple(names))))
    expected, strict = parse_answer(format_turn("", Answer(names=tuple(names))).partition("<answer>")[2][:-9])
    assert strict
    assert turn.well_formed
    assert turn.answer == Answer(names=expected)
    assert set(expected) <= {name.strip() for name in names}


@given(st.text(st.characters(codec=None)), st.lists(st.text(), max_size=3))
def test_any_text_is_read_without_an_exception(text: str, seen: list[str]) -> None:
    for wrapped in (text, f"<kg-query>{text}</kg-query>", f"{THINK}<answer>{text}</answer>"):
        turn = parse_turn(wrapped, seen)
        assert sum(part is not None for part in (turn.query, turn.answer, turn.error)) == 1
