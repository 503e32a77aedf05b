"""Evidence: the shown facts on a shortest chain from a topic to each answer."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from episode_parts import answer, ask, play
from hypothesis import given
from hypothesis import strategies as st

from kgr1.agent.evidence import find_evidence, find_supports, shown_times, shown_triples
from kgr1.graph.render import render, show_dates
from kgr1.graph.store import GraphStore
from kgr1.types import Observation, Operation, Query, Question, Triple, Turn

FACTS = [
    ("A", "r", "B"),
    ("A", "r", "C"),
    ("B", "s", "D"),
    ("C", "s", "E"),
    ("E", "t", "D"),
    ("X", "u", "Y"),
]


def evidence(topics: Sequence[str], answers: str, *calls: str) -> list[tuple[str, ...]]:
    question = Question(id="1", text="?", topics=tuple(topics), answers=())
    script = [*map(ask, calls), answer(answers)]
    episode = play(script, on=GraphStore.from_triples(FACTS), question=question, max_turns=9)
    return [tuple(triple) for triple in episode.evidence]


AR = 'get_tail_entities("A", "r")'
BS = 'get_tail_entities("B", "s")'
CS = 'get_tail_entities("C", "s")'
ET = 'get_tail_entities("E", "t")'
XU = 'get_tail_entities("X", "u")'


def test_the_shortest_chain_is_the_evidence() -> None:
    calls = (AR, CS, ET, BS)
    assert evidence(["A"], '["D"]', *calls) == [("A", "r", "B"), ("B", "s", "D")]
    # Without the short way, the long one.
    assert evidence(["A"], '["D"]', AR, CS, ET) == [("A", "r", "C"), ("C", "s", "E"), ("E", "t", "D")]


def test_backward_steps_count_and_keep_the_direction_of_the_fact() -> None:
    assert evidence(["D"], '["A"]', 'get_head_entities("D", "s")', 'get_head_entities("B", "r")') == [
        ("B", "s", "D"),
        ("A", "r", "B"),
    ]


def test_several_answers_and_topics() -> None:
    assert evidence(["A", "X"], '["B", "Y", "C"]', AR, XU) == [("A", "r", "B"), ("A", "r", "C"), ("X", "u", "Y")]


def test_an_answer_that_nothing_connects_has_no_evidence() -> None:
    assert evidence(["A"], '["D"]', BS) == []
    assert evidence(["A"], '["Y"]', AR, XU) == []
    assert evidence(["A"], '["A"]', AR) == []
    assert evidence(["A"], '["B"]', 'get_tail_relations("A")') == []
    assert evidence(["A"], "[]", AR) == []


def test_facts_are_listed_once_in_the_order_they_were_shown() -> None:
    question = Question(id="1", text="?", topics=("A",), answers=())
    episode = play([ask(BS), ask(AR), ask(BS), ""], on=GraphStore.from_triples(FACTS), question=question)
    assert shown_triples(episode.turns) == [Triple("B", "s", "D"), Triple("A", "r", "B"), Triple("A", "r", "C")]
    assert find_evidence((), ("D",), episode.turns) == ()


def test_a_topic_is_an_answer_if_a_query_led_back_to_it() -> None:
    assert evidence(["D"], '["D"]', 'get_head_entities("D", "s")', BS) == [("B", "s", "D")]
    loop = ['get_tail_entities("A", "r")', 'get_head_entities("B", "r")']
    assert evidence(["A"], '["A"]', *loop) == [("A", "r", "B")]
    assert evidence(["A"], '["A"]', loop[0], BS) == []  # nothing came back to it


def test_a_topic_is_an_answer_if_another_topic_leads_to_it() -> None:
    there = [("A", "r", "B"), ("B", "s", "D")]
    assert evidence(["A", "D"], '["D"]', AR, BS) == there
    assert evidence(["D", "A"], '["D"]', AR, BS) == there


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("2014-05-17", 1),
        ("2014-05", 1),
        ("2014", 1),
        ("1990", 2),
        ("1994-01-02", 0),  # within a span, and no date that was shown
        ("1994", 2),
        ("2015-06-01", 0),  # not among the dates that were shown
        ("2014-05-18", 0),
        ("17", 0),
        ("soon", 0),
    ],
)
def test_dates_behind_results_are_answers(answer: str, expected: int) -> None:
    def dated(entity: str, name: str, *times: str) -> Turn:
        query = Query(operation=Operation.GET_TAIL_ENTITIES, entity=entity, relation="met")
        seen = Observation(query=query, names=(name,), ids=(name,), times=(times,), total=1)
        return Turn(text="", query=query, observation=seen, shown=1, information=name + show_dates(times, most=2))

    turns = [
        dated("A", "B", "2014-05-17", "2015-06-01", "2016-02"),
        dated("B", "C", "1990/1994"),
        dated("X", "Y", "1800"),
    ]
    (found,) = find_supports(["A"], [answer], turns)
    assert len(found) == expected
    assert find_supports(["A"], ["1800"], turns) == ((),)  # nothing connects that fact with the topic
    assert shown_times([*turns, turns[0], dated("A", "B", "2017"), dated("A", "C")]) == {
        Triple("A", "met", "B"): ("2014-05-17", "2016-02", "2017"),
        Triple("B", "met", "C"): ("1990/1994",),
        Triple("X", "met", "Y"): ("1800",),
    }


ENTITIES = st.sampled_from("ABCDEF")


@st.composite
def traces(draw: st.DrawFn) -> list[Turn]:
    """Turns that show facts among few entities, in both directions."""
    turns = []
    for head, tail, outgoing in draw(st.lists(st.tuples(ENTITIES, ENTITIES, st.booleans()), max_size=8)):
        operation = Operation.GET_TAIL_ENTITIES if outgoing else Operation.GET_HEAD_ENTITIES
        query = Query(operation=operation, entity=head, relation="r")
        seen = Observation(query=query, names=(tail,), ids=(tail,), total=1)
        turns.append(Turn(text="", query=query, observation=seen, shown=draw(st.integers(0, 1))))
    return turns


@given(traces(), st.lists(ENTITIES, max_size=2), st.lists(ENTITIES, max_size=4))
def test_support_is_a_connected_part_of_what_was_shown(
    turns: list[Turn], topics: list[str], answers: list[str]
) -> None:
    supports = find_supports(topics, answers, turns)
    shown = shown_triples(turns)
    assert len(supports) == len(answers)
    for name, facts in zip(answers, supports, strict=True):
        assert set(facts) <= set(shown)
        assert find_supports(topics, [name], turns) == (facts,)  # no answer changes what stands behind another
        ends = {name for fact in facts for name in (fact.head, fact.tail)}
        assert not facts or (name in ends and ends & set(topics))
        if name not in topics:
            assert bool(facts) == (name in _connected(topics, shown))
    assert set(find_evidence(topics, answers, turns)) == {fact for facts in supports for fact in facts}


def _connected(topics: list[str], shown: list[Triple]) -> set[str]:
    """What facts connect with the topics, by going over all of them until nothing is added."""
    found = set(topics)
    for _ in shown:
        for fact in shown:
            if {fact.head, fact.tail} & found:
                found |= {fact.head, fact.tail}
    return found


def test_facts_about_what_was_found_are_those_of_its_members() -> None:
    question = Question(id="1", text="?", topics=("A",), answers=())
    script = [ask(AR), ask('get_tail_entities("*", "s")'), answer('["*"]')]
    episode = play(script, on=GraphStore.from_triples(FACTS), question=question, sets=True)
    assert episode.answers == ("D", "E")
    assert [tuple(fact) for fact in episode.evidence] == FACTS[:4]
    assert find_supports(["A"], ["D"], episode.turns) == ((Triple("A", "r", "B"), Triple("B", "s", "D")),)
    against = [ask('get_head_entities("D", "s")'), ask('get_head_entities("*", "r")'), answer('["*"]')]
    back = play(
        against, on=GraphStore.from_triples(FACTS), question=question.model_copy(update={"topics": ("D",)}), sets=True
    )
    assert back.answers == ("A",)
    assert [tuple(fact) for fact in back.evidence] == [("B", "s", "D"), ("A", "r", "B")]


def test_members_that_were_not_shown_carry_nothing() -> None:
    rows = [("A", "r", f"n{number:02}") for number in range(40)]
    rows += [(f"n{number:02}", "s", f"m{number:02}") for number in range(40)]
    question = Question(id="1", text="?", topics=("A",), answers=())
    script = [ask(AR), ask('get_tail_entities("*", "s")'), answer('["m00", "m01", "m39"]')]
    episode = play(script, on=GraphStore.from_triples(rows), question=question, sets=True, observation_tokens=30)
    first, second = (turn.shown for turn in episode.turns[:2])
    assert 2 <= second <= first < 40
    assert shown_triples(episode.turns) == [Triple(*row) for row in (*rows[:first], *rows[40 : 40 + second])]
    assert episode.answer_ids == ("m00", "m01", None)
    assert [bool(facts) for facts in find_supports(["A"], episode.answers, episode.turns)] == [True, True, False]


def turn(entity: str, relation: str, *names: str) -> Turn:
    query = Query(operation=Operation.GET_TAIL_ENTITIES, entity=entity, relation=relation)
    return Turn(text="", query=query, observation=Observation(query=query, names=names, ids=names, total=len(names)),
                shown=len(names))  # fmt: skip


def test_entities_whose_names_differ_in_punctuation_are_not_one() -> None:
    languages = turn("Ann", "uses", "C++", "C#")
    assert find_supports(["Ann"], ["C#"], [languages]) == ((Triple("Ann", "uses", "C#"),),)
    band = [turn("Ann", "works for", "WHO"), turn("The Who", "drummer", "Keith Moon")]
    assert find_supports(["Ann"], ["Keith Moon"], band) == ((),)
    # A model that writes names its own way means the one that is like it.
    assert find_supports(["ann"], ["Washington DC"], [turn("Ann", "lives in", "Washington, D.C.")]) != ((),)


def test_a_date_within_a_name_is_not_the_date_of_a_fact() -> None:
    query = Query(operation=Operation.GET_TAIL_ENTITIES, entity="Ann", relation="visited")
    years = tuple(str(year) for year in range(2000, 2020))
    seen = Observation(query=query, names=("Bob", "Euro 2012"), ids=("b", "e"), times=(years, ("2019",)), total=2)
    text, shown = render(seen, lambda words: len(words.split()), 200)
    assert "2012" not in text.replace("Euro 2012", "")
    told = Turn(text="", query=query, observation=seen, shown=shown, information=text)
    assert find_supports(["Ann"], ["2012"], [told]) == ((),)
    assert find_supports(["Ann"], ["2000"], [told]) == ((Triple("Ann", "visited", "Bob"),),)
    assert find_supports(["Ann"], ["2019"], [told]) != ((),)


def test_a_date_that_was_left_out_behind_one_name_is_not_shown_by_another() -> None:
    query = Query(operation=Operation.GET_HEAD_ENTITIES, entity="Iraq", relation="visit")
    often = tuple(f"{year}-05-01" for year in range(2000, 2020))
    seen = Observation(query=query, names=("Ann", "Bob"), ids=("a", "b"), times=(often, ("2010-05-01",)), total=2)
    text, shown = render(seen, lambda words: len(words.split()), 200)
    turn = Turn(text="", query=query, observation=seen, shown=shown, information=text)
    assert find_supports(["Iraq"], ["2010-05-01"], [turn]) == ((Triple("Bob", "visit", "Iraq"),),)
    assert set(often) - set(shown_times([turn])["Ann", "visit", "Iraq"]) == {
        date for date in often if date not in text or date == "2010-05-01"
    }


def test_entities_whose_names_differ_in_case_are_not_one() -> None:
    shown = [turn("A", "lives in", "US"), turn("Us", "director", "Peele")]
    assert find_supports(["A"], ["Peele"], shown) == ((),)
    assert find_supports(["A"], ["us"], shown) == ((Triple("A", "lives in", "US"),),)
    assert find_supports(["a"], ["US"], shown) == ((Triple("A", "lives in", "US"),),)
    # A topic may stand in the facts as the question spells it, and as the graph does.
    both = [turn("France", "borders", "Spain"), turn("france", "capital", "Paris")]
    assert all(find_supports(["france"], ["Spain", "Paris"], both))


def test_what_two_topics_have_in_common_takes_a_fact_about_each() -> None:
    shown = [turn("France", "borders", "Belgium", "Spain"), turn("Germany", "borders", "Belgium", "Poland")]
    both = (Triple("France", "borders", "Belgium"), Triple("Germany", "borders", "Belgium"))
    assert find_supports(["France", "Germany"], ["Belgium"], shown) == (both,)
    # What is behind the other topic is not asked of this one.
    chain = [turn("Ann", "spouse", "Bob"), turn("Bob", "born in", "Rome")]
    assert find_supports(["Ann", "Bob"], ["Rome"], chain) == ((Triple("Bob", "born in", "Rome"),),)
