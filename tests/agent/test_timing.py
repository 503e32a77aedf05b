"""What a question says about times, and which dated results it means by that."""

from __future__ import annotations

from typing import Any

import pytest
from episode_parts import answer, ask, play
from set_episodes import named

from kgr1.agent.claim import supports
from kgr1.agent.timing import Moment, Timing, dates, fits, meant, moments_of, read_timing, unlike
from kgr1.graph.store import GraphStore
from kgr1.graph.temporal import UNDATED, parse_filter, parse_span
from kgr1.types import STEP, Episode, Observation, Query

VISITS = [
    ("Straw", "visit", "Iraq", "2005-03-01", "2005-03-01"),
    ("China", "visit", "Iraq", "2006-07-02", "2006-07-02"),
    ("Egypt", "visit", "Iraq", "2007-01-05", "2007-01-05"),
    ("Bush", "visit", "Iraq", "2007-09-03", "2007-09-03"),
    ("Bush", "visit", "Iraq", "2008-12-14", "2008-12-14"),
    ("Straw", "office", "Foreign Secretary", "2001", "2006"),
    ("Straw", "office", "Home Secretary", "1997", "2001"),
    ("Straw", "born in", "Buckhurst Hill", "", ""),
]
WHO = [ask('get_head_relations("Iraq")'), ask('get_head_entities("Iraq", "visit")'), answer('["*"]')]
OFFICE = [ask('get_tail_relations("Straw")'), ask('get_tail_entities("Straw", "office")'), answer('["*"]')]


def played(text: str, *topics: str, walk: list[str] = WHO, **agent: Any) -> Episode:
    settings = {"sets": True, "max_turns": 5, "observation_tokens": 5000, "comparisons": True, **agent}
    spans = [parse_span(start, end) or UNDATED for *_, start, end in VISITS]
    graph = GraphStore.from_triples([row[:3] for row in VISITS], spans=spans)
    return play(walk, on=graph, question=named(*topics, text=text), **settings)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("Who visited Iraq on 16 May 2006?", "2006-05-16"),
        ("Who visited Iraq on may 16th, 2006?", "2006-05-16"),
        ("Who visited Iraq in nov of 2010?", "2010-11"),
        ("Who visited Iraq in May 2008?", "2008-05"),
        ("what is office of Straw that is start time is 1920-5-3", "1920-05-03"),
        ("what is award of Straw that is point in time is 1947-0-0", "1947"),
        ("on 12-28-1836, who visited Iraq", "1836-12-28"),
        ("Who visited Iraq before November 2015?", "before 2015-11"),
        ("After 2014, who visited Iraq?", "after 2014"),
        ("Who visited Iraq prior to the year 2014?", "before 2014"),
        ("who visited Iraq 2012", "2012"),
        ("Who visited Iraq?", None),
        ("Who has 20123 seats?", None),
        ("Who came on 31-31-2010?", None),
        ("Who came on 14/12/2008?", "2008-12-14"),
        ("Who came on 10.10.1978?", "1978-10-10"),
        ("Who came before january 15,1978?", "before 1978-01-15"),
        ("Who came on 14/13/2008?", "2008"),
        ("Who came between 2006 and 2008?", "2006/2008"),
        ("Who was there from 2005 to 2007?", "2005/2007"),
        ("Who came between 2008 and 2006?", "2008"),
        ("Who came not before May 2008?", "2008-05/"),
        ("Who came no later than 2008?", "/2008"),
    ],
)
def test_dates_are_read_as_people_write_them(text: str, limit: str | None) -> None:
    assert read_timing(text).limit == (None if limit is None else parse_filter(limit))


@pytest.mark.parametrize(
    ("text", "asks", "parts", "end"),
    [
        ("When did Straw take office?", True, 3, False),
        ("In which month did China visit Iraq?", True, 2, False),
        ("what year did Straw leave office", True, 1, True),
        ("what is the end time for Straw has office as Home Secretary", True, 3, True),
        ("on which date was Straw born", True, 3, False),
        ("Who was in office when it was 2003?", False, 3, False),  # the time is given
        ("Where was Straw born?", False, 3, False),
        ("Who visited Iraq when Blair was in office?", False, 3, False),
        ("When Blair was in office, who visited Iraq?", False, 3, False),
        ("When was the film in which Crowe played released?", True, 3, False),
        ("What time zone is Chicago in?", False, 3, False),
        ("What time did it end?", True, 3, True),
        ("During what time frame was he a bishop?", True, 3, False),
        ("What award did he win and when did he acquire it?", True, 3, False),
        ("When was she born, and who was her mother?", True, 3, False),
        ("When he was presented with the award, what was the date?", True, 3, False),
        ("What are the dates of her terms?", False, 3, False),
        ("When did his wife die?", True, 3, True),
        ("When did they break up?", True, 3, True),
    ],
)
def test_some_questions_ask_for_a_time(text: str, asks: bool, parts: int, end: bool) -> None:
    assert read_timing(text)[:3] == (asks, parts, end)


def test_first_and_last_are_orders() -> None:
    assert [read_timing(text).order for text in ("who came first", "the most recent visit", "who came")] == [-1, 1, 0]
    assert read_timing("who came") == Timing()


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("Who visited Iraq?", {"Straw", "China", "Egypt", "Bush"}),
        ("Who visited Iraq in 2007?", {"Egypt", "Bush"}),
        ("Who visited Iraq after January 2007?", {"Bush"}),
        ("Who visited Iraq before Egypt?", {"Straw", "China"}),
        ("Before Egypt, who was the last to visit Iraq?", {"China"}),
        ("After China, who visited Iraq first?", {"Egypt"}),
        ("Who was the first to visit Iraq?", {"Straw"}),
        ("When did Bush last visit Iraq?", {"2008-12-14"}),
        ("In which year did Bush visit Iraq?", {"2007", "2008"}),
        ("In which month did China visit Iraq?", {"2006-07"}),
        ("Who visited Iraq in 1950?", {"Straw", "China", "Egypt", "Bush"}),  # nobody, so that it tells nothing
    ],
)
def test_the_dates_of_facts_say_which_results_are_meant(text: str, answers: set[str]) -> None:
    assert set(played(text, "Iraq").answers) == answers
    assert set(played(text, "Iraq", comparisons=False).answers) == {"Straw", "China", "Egypt", "Bush"}


def test_of_several_topics_the_time_is_that_of_their_fact() -> None:
    episode = played("When was Straw in that office?", "Straw", "Foreign Secretary", walk=OFFICE)
    assert episode.answers == ("2001",)
    ended = played("When did Straw stop being that?", "Straw", "Home Secretary", walk=OFFICE)
    assert ended.answers == ("2001",)
    assert {(t.head, t.relation, t.tail) for t in supports(ended)[0]} == {("Straw", "office", "Home Secretary")}


@pytest.mark.parametrize(
    ("text", "both", "named"),
    [
        ("What is the office of Straw and start time?", False, True),
        ("Who published it and when?", False, True),
        ("What award did he win and when did he acquire it?", False, True),
        ("What is the start time and the end time of Straw as Secretary?", True, False),
        ("What are start and end time of his term?", True, False),
        ("When did it start and end?", True, False),
        ("When did she begin and finish working there?", True, False),
        ("When did it start?", False, False),
        ("What is the end time and end cause of it?", False, False),
        ("Who won?", False, False),
    ],
)
def test_a_question_may_ask_for_start_and_end_or_for_what_it_is_the_time_of(text: str, both: bool, named: bool) -> None:
    timing = read_timing(text)
    assert (timing.both, timing.named) == (both, named)


def test_names_are_answered_with_their_dates_and_spans_with_both_ends() -> None:
    offices = {"Foreign Secretary", "Home Secretary"}
    assert set(played("what is the office of Straw and start time", "Straw", walk=OFFICE).answers) == offices | {
        "2001",
        "1997",
    }
    ends = played("start time and end time of Straw as that?", "Straw", "Home Secretary", walk=OFFICE)
    assert ends.answers == ("1997", "2001")
    assert all(supports(ends))


def test_accents_do_not_keep_a_result_from_being_meant() -> None:
    rows = [(name, "award received", "Golden Ball") for name in ("Diego Maradona", "Romário")]
    spans = [parse_span(year) or UNDATED for year in ("1986", "1994")]
    walk = [
        ask('get_head_relations("Golden Ball")'),
        ask('get_head_entities("Golden Ball", "award received")'),
        answer('["*"]'),
    ]
    settings = {"sets": True, "observation_tokens": 5000, "comparisons": True}
    question = named("Golden Ball", text="when did romario receive the golden ball")
    assert play(walk, on=GraphStore.from_triples(rows, spans=spans), question=question, **settings).answers == ("1994",)


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("what is office of Straw that is start time is 2001-6-8", {"Foreign Secretary"}),
        ("what is office of Straw that is end time is 2001-6-8", {"Home Secretary"}),
        ("which office did Straw have in 2001?", {"Foreign Secretary", "Home Secretary"}),
        ("which office did Straw have before 2002?", {"Home Secretary"}),
        ("which office did Straw get after 2000?", {"Foreign Secretary"}),
        ("which office does Straw have now?", {"Foreign Secretary"}),
        ("which office did Straw have between 1998 and 2000?", {"Home Secretary"}),
    ],
)
def test_a_fact_may_hold_begin_or_end_at_a_time(text: str, answers: set[str]) -> None:
    assert set(played(text, "Straw", walk=OFFICE).answers) == answers


def terms(text: str, **spans: str) -> set[str]:
    """The answers to a question about the results ``spans`` of one topic."""
    rows = [("Straw", "office", name) for name in spans]
    graph = GraphStore.from_triples(rows, spans=[parse_span(each) or UNDATED for each in spans.values()])
    settings = {"sets": True, "max_turns": 5, "observation_tokens": 5000, "comparisons": True}
    return set(play(OFFICE, on=graph, question=named("Straw", "Member", text=text), **settings).answers)


def test_now_is_what_holds_still_and_first_what_is_known_to_have_begun() -> None:
    assert terms("Which office does Straw have now?", Lasting="1990/", Ended="1995/1996") == {"Lasting"}
    assert terms("Which office does Straw have now?", Older="1990/1991", Newer="1995/1996") == {"Newer"}
    assert terms("Which was the first office of Straw?", Known="1990/1994", Unknown="/2010") == {"Known"}


def test_what_has_not_ended_is_no_reason_to_answer_nothing() -> None:
    answers = terms("When did Straw leave as Member?", Secretary="1997/2001", Member="1979/")
    assert answers == {"Secretary", "Member"}


def test_the_date_of_what_was_singled_out_stands_on_that() -> None:
    rows = [("Citizen (Iran)", "visit", "China"), ("President (Iraq)", "visit", "China")]
    graph = GraphStore.from_triples(rows, spans=[parse_span("2008-05-16") or UNDATED] * 2)
    walk = [ask('get_head_relations("China")'), ask('get_head_entities("China", "visit")'), answer('["*"]')]
    settings = {"sets": True, "observation_tokens": 5000, "comparisons": True}
    question = named("China", text="When did the president of Iraq visit?")
    episode = play(walk, on=graph, question=question, **settings)
    assert episode.answers == ("2008-05-16",)
    assert supports(episode) == (((rows[1]),),)


def test_the_facts_that_are_meant_are_shown_with_their_dates() -> None:
    turn = played("Who visited Iraq in 2007?", "Iraq").turns[1]
    assert turn.information.endswith("(Iraq, visit: Bush (2007-09-03), Egypt (2007-01-05)) (in both: Bush, Egypt)")


MANY = [f"20{year:02}-{month:02}-01" for year in range(1, 21) for month in (3, 9)]  # forty dates of one result


def asked(text: str, texts: list[str] = MANY, topic: str = "Iraq") -> Episode:
    rows = [("Straw", "visit", "Iraq")] * len(texts)
    graph = GraphStore.from_triples(rows, spans=[parse_span(each) or UNDATED for each in texts])
    settings = {"sets": True, "max_turns": 5, "observation_tokens": 5000, "comparisons": True}
    return play(WHO, on=graph, question=named(topic, text=text), **settings)


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("When did Straw first visit Iraq?", ("2001-03-01",)),
        ("When did Straw last visit Iraq?", ("2020-09-01",)),
        ("In which year did Straw last visit Iraq?", ("2020",)),
        ("In which year did Straw first visit Iraq?", ("2001",)),
    ],
)
def test_an_answer_of_dates_stands_on_dates_that_are_shown(text: str, answers: tuple[str, ...]) -> None:
    episode = asked(text)
    assert episode.answers == answers
    assert all(supports(episode))
    shown = episode.turns[1].information
    assert shown.startswith("Straw (2001-03-01, ")
    assert all(answer in shown for answer in answers)
    (linked,) = episode.turns[1].linked
    assert (linked.names, len(linked.times[0])) == (("Straw",), 1)


def test_of_more_dates_than_can_be_singled_out_those_that_are_shown_are_given() -> None:
    episode = asked("When did Straw visit Iraq?")
    assert episode.turns[1].linked == ()
    assert 1 < len(episode.answers) < len(MANY)
    assert all(answer in episode.turns[1].information for answer in episode.answers)
    assert all(supports(episode))


def test_of_several_facts_in_the_year_that_is_asked_for_one_is_shown() -> None:
    many = ["2001-01-01", "2001-02-01", "2002-05-01", "1999-01-01"]
    first, second = (Moment("A", parse_span(text) or (0, 0), text) for text in many[:2])
    assert unlike(Timing(asks=True, parts=1), [first, second]) == [first]
    assert unlike(Timing(asks=True), [first, second]) == [first, second]
    assert unlike(Timing(asks=True, end=True), [Moment("A", (0, 0), "2001/")]) == []
    assert unlike(Timing(asks=True), [Moment("A", (0, 0), "/2001")]) == []


def test_results_without_dates_are_left_as_they_are() -> None:
    walk = [ask('get_tail_relations("Straw")'), ask('get_tail_entities("Straw", "born in")'), answer('["*"]')]
    assert played("When was Straw born?", "Straw", walk=walk).answers == ("Buckhurst Hill",)


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("which offices had Straw?", {"Secretary", "Leader"}),
        ("and in 2001?", {"Secretary"}),  # of the other it is not known
        ("and in 2010?", {"Secretary", "Leader"}),  # of neither
    ],
)
@pytest.mark.parametrize("dates_of_one", [["2001"], ["2001-03", "2001-09", "2001-11"]])
def test_a_result_without_a_date_stays_unless_another_one_is_of_the_time(
    text: str, answers: set[str], dates_of_one: list[str]
) -> None:
    spans = [*(parse_span(date) or UNDATED for date in dates_of_one), UNDATED]
    rows = [*[("Straw", "office", "Secretary")] * len(dates_of_one), ("Straw", "office", "Leader")]
    graph = GraphStore.from_triples(rows, spans=spans)
    settings = {"sets": True, "observation_tokens": 5000, "comparisons": True}
    episode = play(OFFICE, on=graph, question=named("Straw", text=text), **settings)
    assert set(episode.answers) == answers
    assert all(supports(episode))


def test_the_first_of_one_date_is_not_told_from_what_has_none() -> None:
    spans = [parse_span("2001") or UNDATED, UNDATED]
    graph = GraphStore.from_triples([("Straw", "office", "Secretary"), ("Straw", "office", "Leader")], spans=spans)
    settings = {"sets": True, "observation_tokens": 5000, "comparisons": True}
    episode = play(OFFICE, on=graph, question=named("Straw", text="which one was the first?"), **settings)
    assert set(episode.answers) == {"Secretary", "Leader"}
    assert all(supports(episode))


@pytest.mark.parametrize(
    ("text", "times", "names", "fitting"),
    [
        ("Who was it in 2001?", ((), ("2001-05",)), ("A", "B"), True),
        ("Who was it in 2001?", (("2002",), ("1999/2000",)), ("A", "B"), False),
        ("Who was it in 2001?", (), ("A", "B"), False),
        ("Who was it in 2001?", (), ("A", "2001 Finals"), True),
        ("Who was it in 2001?", (), ("A", "2002 Finals"), False),
        ("When was it?", (), ("A", "2002 Finals"), True),
        ("When was it?", (("2002",), ()), ("A", "B"), True),
        ("When was it?", (), ("A", "1999-12-31"), True),
        ("When was it?", (), ("A", "B"), False),
        ("Who was it?", (), ("A", "B"), True),
        ("Who was it first?", (), ("A", "B"), True),
    ],
)
def test_a_relation_fits_if_it_has_something_of_the_time(
    text: str, times: tuple[tuple[str, ...], ...], names: tuple[str, ...], fitting: bool
) -> None:
    query = Query(operation=STEP[True], entity="X", relation="r")
    found = Observation(query=query, names=names, ids=names, times=times, total=len(names))
    assert fits(read_timing(text), found) is fitting


def test_an_open_end_is_no_date() -> None:
    spans = [Moment("A", parse_span(text) or (0, 0), text) for text in ("2001/", "/2002", "2003/2004")]
    assert dates(Timing(asks=True), spans) == ["2001", "2003"]
    assert dates(Timing(asks=True, end=True), spans) == ["2002", "2004"]
    assert dates(Timing(asks=True), [Moment("A", (0, 0), "-0044-03-15")]) == []


def test_names_that_share_most_words_are_meant_where_a_time_is_asked_for() -> None:
    names = ("Nobel Prize in Economics", "Nobel Prize in Physics")
    query = Query(operation=STEP[True], entity="Fogel", relation="award")
    found = Observation(query=query, names=names, ids=names, times=(("1993",), ("1994", "x")), total=2)
    moments = moments_of(found, names)
    assert [each.text for each in moments] == ["1993", "1994"]
    question = named("Fogel", text="when did Fogel get the economics prize")
    assert [each.text for each in meant(question, read_timing(question.text), moments, ())] == ["1993"]
