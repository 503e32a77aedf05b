"""What a question compares, and which of what was found it means by that."""

from __future__ import annotations

from typing import Any

import pytest
from episode_parts import answer, ask, play
from hypothesis import given
from hypothesis import strategies as st
from set_episodes import Rows, named

from kgr1.agent.claim import supports
from kgr1.agent.comparison import Comparison, compare, find_comparison, number_of
from kgr1.agent.thoughts import thoughts
from kgr1.graph.store import GraphStore
from kgr1.types import STEP, Episode, Observation, Query

CLUBS: Rows = [
    ("Spain", "club", "Badalona"),
    ("Spain", "club", "Zaragoza"),
    ("Spain", "club", "Valencia"),
    ("Spain", "club", "Nameless"),
    ("Badalona", "sports.team.founded", "1930"),
    ("Zaragoza", "sports.team.founded", "2002-05-01"),
    ("Valencia", "sports.team.founded", "1986"),
    ("Badalona", "sports.team.seats", "12,500"),
    ("Zaragoza", "sports.team.seats", "10744"),
    ("Valencia", "sports.team.seats", "9000.0"),
    ("Badalona", "colour", "green"),
]
WALK = [ask('get_tail_relations("Spain")'), ask('get_tail_entities("Spain", "club")'), answer('["*"]')]


def facts(**relations: dict[str, str]) -> list[Observation]:
    return [
        Observation(
            query=Query(operation=STEP[True], entity=name, relation=relation), names=(value,), ids=(value,), total=1
        )
        for relation, values in relations.items()
        for name, value in values.items()
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Which club was founded prior to 1994?", Comparison(True, 1994, True)),
        ("Which film was released after October 30, 2014?", Comparison(False, 2014, True)),
        ("Which film was released after 2014-10-30?", Comparison(False, 2014, True)),
        ("Which school has fewer than 10,102 students?", Comparison(True, 10102)),
        ("Which school has more than 7.5 teachers?", Comparison(False, 7.5)),
        ("Which school has more students than others?", None),
        ("Who came after Elizabeth II?", None),
        ("What is the largest city?", Comparison(False)),
        ("Which was the earliest film?", Comparison(True, None, True)),
        ("Which opened most recently?", Comparison(False, None, True)),
        ("Where is Leastville?", None),
        ("Which school has at least 10,102 students?", Comparison(False, 10102, within=True)),
        ("Which school has no fewer than 10 teachers?", Comparison(False, 10, within=True)),
        ("Which school has at most 300 students?", Comparison(True, 300, within=True)),
        ("Which school has no more than 300 students?", Comparison(True, 300, within=True)),
        ("Which school was founded since 1986?", Comparison(False, 1986, True, True)),
        ("Which film was released not before 1986?", Comparison(False, 1986, True, True)),
        ("Which film came no later than 1986?", Comparison(True, 1986, True, True)),
        ("Which school has at least some students?", None),
        ("", None),
    ],
)
def test_what_a_question_compares(text: str, expected: Comparison | None) -> None:
    assert find_comparison(text) == expected


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("1930", 1930.0),
        ("31,290", 31290.0),
        ("-3.5", -3.5),
        ("m.0x1", None),
        ("1930 Cup", None),
        ("nan", None),
        ("Infinity", None),
    ],
)
def test_numbers_are_read_off_names(name: str, number: float | None) -> None:
    assert number_of(name) == number


def test_dates_are_years_with_their_part() -> None:
    first, last = number_of("2001-01-01"), number_of("2001-12-31")
    assert first is not None
    assert last is not None
    assert 2000.99 < first < last < 2002.01


@given(
    st.dictionaries(st.text(max_size=3), st.floats(allow_nan=False, allow_infinity=False)),
    st.booleans(),
    st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
    st.booleans(),
)
def test_under_and_over_share_nothing(numbers: dict[str, float], less: bool, bound: float | None, times: bool) -> None:
    chosen = Comparison(less, bound, times).chosen(numbers)
    assert chosen <= numbers.keys()
    assert bool(chosen) >= (bound is None and bool(numbers))
    if bound is not None:
        assert not chosen & Comparison(not less, bound, times).chosen(numbers)


@pytest.mark.parametrize(("times", "above"), [(False, 1986.5), (True, 1987.0)])
def test_a_bound_is_meant_too_where_the_words_say_so(times: bool, above: float) -> None:
    numbers = {"under": 1985.0, "at": 1986.0, "over": above}
    for less in (True, False):
        one, other = Comparison(less, 1986, times), Comparison(not less, 1986, times, within=True)
        assert one.chosen(numbers) | other.chosen(numbers) == set(numbers)
        assert not one.chosen(numbers) & other.chosen(numbers)
        assert "at" in other.chosen(numbers)


def test_the_relation_is_the_one_that_the_question_speaks_of() -> None:
    found = {"A": "a", "B": "b", "C": "c"}
    some = facts(
        founded={"A": "1990", "B": "1995", "C": "2000"}, seats={"A": "9", "B": "8", "C": "7"}, opened={"A": "1970"}
    )

    def meant(text: str) -> set[str]:
        question = named("Spain", text=text)
        comparison = find_comparison(text)
        assert comparison is not None
        return {name for fact in compare(question, comparison, found, some) for name in fact.names}

    assert meant("Which was founded before 1996?") == {"A", "B"}
    assert meant("Which has the most seats?") == {"A"}
    assert meant("Which opened before 1971?") == set()  # which is known of one of three
    assert meant("Which is the latest?") == set()  # of two relations
    assert meant("Which is the largest in Spain?") == set()
    assert meant("Which was founded after 1980?") == set()  # all of them: that tells nothing


def test_a_time_needs_no_word_in_common_where_there_is_one_relation_to_numbers() -> None:
    found, years = {"A": "a", "B": "b"}, facts(release={"A": "1990", "B": "1995-03-01"})
    (fact,) = compare(named("X"), Comparison(False, None, True), found, years)
    assert (fact.names, fact.ids) == (("B",), ("b",))
    assert fact.triples(1)[0].head == "B"
    assert compare(named("X"), Comparison(False), found, years) == []


def played(text: str, **agent: Any) -> Episode:
    settings = {"sets": True, "max_turns": 5, "observation_tokens": 5000, "comparisons": True, **agent}
    return play(WALK, on=GraphStore.from_triples(CLUBS), question=named("Spain", text=text), **settings)


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("Which club of Spain was founded before 1990?", {"Badalona", "Valencia"}),
        ("Which club of Spain was founded last?", {"Zaragoza"}),
        ("Which club of Spain has more than 10,000 seats?", {"Badalona", "Zaragoza"}),
        ("Which club of Spain has the fewest seats?", {"Valencia"}),
        ("Which clubs of Spain are there?", {"Badalona", "Zaragoza", "Valencia", "Nameless"}),
    ],
)
def test_the_answer_is_what_the_comparison_means(text: str, answers: set[str]) -> None:
    assert set(played(text).answers) == answers
    assert set(played(text, comparisons=False).answers) == {"Badalona", "Zaragoza", "Valencia", "Nameless"}


def test_a_topic_compares_nothing() -> None:
    rows = [(head.replace("Spain", "Last Order"), relation, tail) for head, relation, tail in CLUBS]
    walk = [call.replace("Spain", "Last Order") for call in WALK]
    settings = {"sets": True, "max_turns": 5, "observation_tokens": 5000, "comparisons": True}
    question = named("Last Order", text="Which clubs did last order found?")
    episode = play(walk, on=GraphStore.from_triples(rows), question=question, **settings)
    assert len(episode.answers) == 4


def test_the_facts_that_it_goes_by_are_shown_and_are_evidence() -> None:
    episode = played("Which club of Spain was founded before 1940?")
    assert episode.turns[1].information.endswith("(1930, sports.team.founded: Badalona) (in both: Badalona)")
    assert {(t.head, t.relation, t.tail) for t in supports(episode)[0]} >= {("Spain", "club", "Badalona")}
    (fact,) = episode.turns[1].linked
    assert [(t.head, t.relation, t.tail) for t in fact.triples(1)] == [("Badalona", "sports.team.founded", "1930")]


def test_words_that_name_what_was_compared_speak_for_no_hop() -> None:
    question = named("Spain", text="Which clubs of Spain were founded before 1990?")
    turns = played(question.text).turns[:2]
    assert turns[1].linked
    said = thoughts({'On to "{cue}".': 0.0}, question, turns)
    assert list(said) == ['On to "clubs".', 'On to "before".']
    assert 'On to "founded".' in thoughts({'On to "{cue}".': 0.0}, question, turns[:1])
