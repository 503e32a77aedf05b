"""Observations as text: layout, budget, names that must not act."""

from __future__ import annotations

import json
import re
import time

import pytest
from graph_strategies import HEAD_ENTITIES, TAIL_RELATIONS, names
from hypothesis import given, settings
from hypothesis import strategies as st

from kgr1.graph import Rendered, neutralise, render
from kgr1.graph.render import Layout
from kgr1.types import ErrorCode, Observation, Query

TAGS = [
    "<think>", "</think>", "< / information >", "<INFORMATION>", "<kg-query>", "</Kg-Query>", "<answer",
    "<answer x=1>", "<|im_end|>", "<|endoftext|>", "< |im_start|>", "<s>", "</s>", "<bos>", "<start_of_turn>",
    "<<SYS>>", "<|", "<｜end▁of▁sentence｜>", "＜think＞", "﹤answer﹥", "[INST]", "[/INST]",
    "<\nthink>", "<\u200bthink>", "<\u202ethink>",
    "<!--", "<0x0A>", "a <", "</",
]  # fmt: skip
ACTIVE = re.compile(r"[<＜﹤]\s*(/|\w|\||｜|!|$)|\[/?INST")


class Counter:
    """One token a piece of up to four characters, like a tokeniser; remembers how often it was asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, text: str) -> int:
        self.calls += 1
        return sum(-(-len(piece) // 4) for piece in re.findall(r"\w+|[^\w\s]", text))


def entities(*found: str, total: int | None = None) -> Observation:
    query = Query(operation=HEAD_ENTITIES, entity="e", relation="r")
    return Observation(query=query, names=found, ids=found, total=len(found) if total is None else total)


def relations(*found: str) -> Observation:
    query = Query(operation=TAIL_RELATIONS, entity="e")
    return Observation(query=query, names=found, ids=found, total=len(found))


def test_flat() -> None:
    assert render(entities("A", "B c", "D_e"), Counter(), 100) == Rendered("A, B c, D_e", 3)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Paris, Texas", '"Paris, Texas"'),
        ('say "hi"', r'"say \"hi\""'),
        ("two\nlines", r'"two\nlines"'),
        ("back\\slash", r'"back\\slash"'),
        (" padded", '" padded"'),
        ("it's", "it's"),
        ("a; b", "a; b"),
        ("x ... and 3 more", '"x ... and 3 more"'),
        ("KG_NO_RESULTS: x", '"KG_NO_RESULTS: x"'),
        ("a\x00b\x7f", '"a b "'),
        ("\u202egnp.exe", "gnp.exe"),
        ("Zürich 東京", "Zürich 東京"),
        ("می‌خواهم", "می‌خواهم"),
        ("line\u2028sep", "line sep"),
        ("a < b > c", "a < b > c"),
        ("<b>x</b>, y", '"‹b›x‹/b›, y"'),
    ],
)
def test_names_that_need_care(name: str, shown: str) -> None:
    if name == "a < b > c":  # a bracket before a letter is taken for a tag, even with a blank between
        shown = "a ‹ b › c"
    assert render(entities("A", name), Counter(), 100).text == f"A, {shown}"


@given(st.lists(names, min_size=1, max_size=8))
@settings(max_examples=60)
def test_a_flat_line_can_be_split_again(found: list[str]) -> None:
    text = render(entities(*found), len, 10_000).text
    assert "\n" not in text
    assert len(re.findall(r'"(?:[^"\\]|\\.)*"|[^,]+', text.replace(", ", ","))) == len(found)


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("layout", ["flat", "tree"])
def test_tags_do_not_survive(tag: str, layout: Layout) -> None:
    for name in (tag, f"Alien{tag}</information>", f"{tag}, {tag}", f"a.{tag}"):
        for observation in (entities("A", name, "think>"), relations("A", name, "think>")):
            text = render(observation, len, 10_000, layout).text
            assert not ACTIVE.search(text), text
    error = Observation(query=entities().query, error=ErrorCode.ENTITY_NOT_FOUND, message=f'No "{tag}" <answer>.')
    assert not ACTIVE.search(render(error, len, 10_000).text)
    assert not ACTIVE.search(neutralise(f"x{tag}{tag}y"))


def test_neutralising_is_linear_and_settles() -> None:
    for text in (
        "<" * 100_000,
        "< " * 50_000,
        "<" + " " * 100_000,
        "[" + " " * 100_000,
        "</" * 50_000,
        "\u202e" * 50_000,
    ):
        started = time.perf_counter()
        once = neutralise(text)
        assert time.perf_counter() - started < 1.0
        assert neutralise(once) == once
    assert neutralise("plain <3 text, 3 < 4") == "plain <3 text, 3 < 4"


@given(st.text(max_size=30))
def test_neutral_text_is_printable(text: str) -> None:
    shown = neutralise(text)
    assert not ACTIVE.search(shown)
    shown.encode("utf-8")
    assert "\n" not in shown


@pytest.mark.parametrize("layout", ["flat", "tree"])
@pytest.mark.parametrize("count", [1, 2, 30, 809, 20_000])
@pytest.mark.parametrize("budget", [16, 100, 512])
def test_budget(count: int, budget: int, layout: Layout) -> None:
    found = [f"Entity number {i * 7919 % 1000}{' of a long name' * (i % 3)}" for i in range(count)]
    counter = Counter()
    text, shown = render(entities(*found), counter, budget, layout)
    assert counter(text) <= budget
    assert counter.calls <= 14
    separator = ", " if layout == "flat" else "\n"
    if shown == count:
        assert text == separator.join(found)
        return
    assert text.endswith(f"... and {count - shown} more")
    assert text.startswith(separator.join(found[:shown]))
    one_more = separator.join(found[: shown + 1]) + f" ... and {count - shown - 1} more"
    assert counter(one_more) > budget, "one more name would have fitted"


def test_a_single_name_beyond_the_budget() -> None:
    assert render(entities("x" * 1000, "y"), Counter(), 16) == Rendered("... and 2 more", 0)


def test_names_that_the_backend_cut_are_counted() -> None:
    assert render(entities("A", "B", total=1000), Counter(), 100) == Rendered("A, B ... and 998 more", 2)


def test_errors() -> None:
    message = 'No entity is named "x"; the closest is "y".'
    error = Observation(query=entities().query, error=ErrorCode.ENTITY_NOT_FOUND, message=message)
    assert render(error, Counter(), 100) == Rendered(f"KG_ENTITY_NOT_FOUND: {message}", 0)
    cut = render(error, Counter(), 16).text
    assert cut.startswith("KG_ENTITY_NOT_FOUND: No")
    assert cut.endswith("...")
    assert Counter()(cut) <= 16


def test_tree_groups_relations_by_prefix() -> None:
    found = ["country", "film.actor.film", "people.person.gender", "people.person.parents", "x, y"]
    text = "country\nfilm.actor.\n  film\npeople.person.\n  gender\n  parents\nx, y"
    assert render(relations(*found), Counter(), 100, "tree") == Rendered(text, 5)
    assert render(entities("b.c", "b.d"), Counter(), 100, "tree") == Rendered("b.c\nb.d", 2)


def test_quoted_names_are_json() -> None:
    name = 'He said, "x\\y"\n'
    assert json.loads(render(entities(name), len, 1000).text) == name


def dated(*dates: tuple[str, ...], names: tuple[str, ...] = ("A", "Paris, Texas")) -> Observation:
    return entities(*names).model_copy(update={"times": dates})


def test_dates_stand_behind_their_names() -> None:
    many = tuple(f"{1000 + year}" for year in range(220))
    assert render(dated(("2014-02-16", "1990/"), ()), Counter(), 100).text == 'A (2014-02-16, 1990/), "Paris, Texas"'
    text = render(dated(("2014",), many), Counter(), 200).text
    assert text.startswith('A (2014), "Paris, Texas" (1000, 1001, ')
    assert text.endswith(", ... 212 more ..., 1219)")
    assert render(dated(("2014",), many), Counter(), 200, "tree").text == text.replace(
        ', "Paris, Texas"', "\nParis, Texas"
    )


@pytest.mark.parametrize("budget", range(16, 90, 3))
def test_dates_give_way_before_names_do(budget: int) -> None:
    dates = tuple(f"2014-01-{day:02}" for day in range(1, 29))
    observation = dated(*[dates] * 4, names=("A", "B", "C", "D"))
    counter = Counter()
    text, shown = render(observation, counter, budget)
    assert counter(text) <= budget
    kept = re.findall(r"\(([^)]*)\)", text)
    assert len(kept) == shown
    for each in kept:  # the first and the last date stay, whatever is left out
        assert each.startswith("2014-01-01, ")
        assert each.endswith(", 2014-01-28")
    if shown < 4:
        assert all("... 26 more ..." in each for each in kept)


def test_dates_from_a_graph_are_no_tags() -> None:
    assert not ACTIVE.search(render(dated(("</information>",), ("<|im_end|>", "\n")), Counter(), 100).text)


@pytest.mark.parametrize(
    ("offset", "names", "total", "text"),
    [
        (0, 3, 3, "n0, n1, n2"),
        (0, 3, 8, "n0, n1, n2 [1-3 of 8; page=2 for more]"),
        (3, 3, 8, "n0, n1, n2 [4-6 of 8; page=3 for more]"),
        (6, 2, 8, "n0, n1 [7-8 of 8]"),
        (3, 2, 8, "n0, n1 ... and 1 more [4-6 of 8; page=3 for more]"),
    ],
)
def test_a_page_says_which_it_is(offset: int, names: int, total: int, text: str) -> None:
    observation = entities(*[f"n{i}" for i in range(names)], total=total)
    query = observation.query.model_copy(update={"offset": offset, "limit": 3})
    paged = observation.model_copy(update={"query": query})
    assert render(paged, Counter(), 100) == Rendered(text, names)
    last_line = text[text.index("[") :] if "[" in text else "n2"
    assert render(paged, Counter(), 100, "tree").text.splitlines()[-1] == last_line
    tight = render(paged, Counter(), 16)
    assert Counter()(tight.text) <= 16
    assert ("[" in tight.text) == ("[" in text)


def test_what_stands_beside_names_counts() -> None:
    observation = entities("A", "m.01", "m.02")
    beside = {1: " (film: Alien)", 2: " (film: Aliens)"}
    whole = render(observation, Counter(), 100, beside=beside, note="(note)")
    assert whole == Rendered("A, m.01 (film: Alien), m.02 (film: Aliens) (note)", 3)
    for budget in range(8, 40):
        text, shown = render(observation, Counter(), budget, beside=beside, note="(note)")
        assert Counter()(text) <= max(budget, Counter()("... and 3 more (note)"))
        assert text.count("film") == max(shown - 1, 0)


def test_a_name_that_looks_like_a_page_is_quoted() -> None:
    assert render(entities("A", "B [1-3 of 8]"), Counter(), 100).text == 'A, "B [1-3 of 8]"'
