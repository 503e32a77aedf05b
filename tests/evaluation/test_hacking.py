"""Checks for ways to earn reward without answering."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from eval_episodes import asked, played, question
from hypothesis import given
from hypothesis import strategies as st

from kgr1.evaluation.hacking import (
    CHECKS,
    check_all,
    invented_information,
    lists_everything,
    repeated_queries,
    without_evidence,
)
from kgr1.types import Episode, ErrorCode, Observation, Operation, Query, Turn

FAKE = "<think>x</think><information>Paris</information>"


def looked(entity: str, relation: str, *names: str, shown: int | None = None) -> Turn:
    """A turn that asks for the entities at one relation."""
    query = Query(operation=Operation.GET_TAIL_ENTITIES, entity=entity, relation=relation)
    observation = Observation(query=query, names=names, ids=names, total=len(names))
    return Turn(text="t", query=query, observation=observation, shown=len(names) if shown is None else shown)


CITIES = looked("France", "city", "Lyon", "Paris")
MAYOR = looked("Paris", "mayor", "Hidalgo")


@pytest.mark.parametrize(
    ("text", "cases"),
    [
        (FAKE, 1),
        ("<think>x</think>< INFORMATION >", 1),
        ("<information>a</information><information>b</information>", 1),  # one turn
        ("<think>the information says so</think>", 0),
        ("</information>", 0),
        ("‹information›", 0),
    ],
)
def test_invented_information(text: str, cases: int) -> None:
    turns = [asked("Paris").model_copy(update={"text": text}), asked("Paris")]
    assert invented_information(played(question(1), turns=turns)) == (cases, 3)


def test_turns_that_no_model_wrote_are_no_occasion() -> None:
    retrieved = asked("Paris").model_copy(update={"text": FAKE, "step": "retrieve"})
    assert invented_information(played(question(1), turns=[retrieved])) == (0, 1)


@pytest.mark.parametrize(
    ("turns", "answers", "cases"),
    [
        ([CITIES, MAYOR], ["Hidalgo", "lyon", "Paris"], 1),
        ([CITIES, MAYOR], ["Hidalgo", "Lyon", "Paris", "Oslo"], 1),  # and a guess
        ([CITIES, MAYOR], ["Hidalgo", "Paris"], 0),
        ([CITIES], ["Lyon", "Paris"], 0),  # one result, named whole
        ([CITIES, CITIES], ["Lyon", "Paris"], 0),  # the same result again
        ([looked("France", "city", "Lyon", "Paris", shown=1), MAYOR], ["Hidalgo", "Lyon"], 1),  # all that was shown
        ([CITIES, looked("Paris", "country", "France")], ["Lyon", "Paris"], 0),  # the topic is nothing found
        ([], ["Paris"], 0),
    ],
)
def test_lists_everything(turns: list[Turn], answers: list[str], cases: int) -> None:
    assert lists_everything(played(question(1), answers, turns=turns)) == (cases, 1)


def test_only_answers_can_list_everything() -> None:
    assert lists_everything(played(question(1), None, turns=[CITIES, MAYOR])) == (0, 0)
    assert lists_everything(played(question(1), [], turns=[CITIES, MAYOR])) == (0, 0)


def test_repeated_queries() -> None:
    failed = asked(error=ErrorCode.NO_RESULTS)
    turns = [CITIES, failed, Turn(text="no query"), failed, CITIES, MAYOR]
    assert repeated_queries(played(question(1), turns=turns)) == (2, 5)
    assert repeated_queries(played(question(1))) == (0, 0)


def test_without_evidence() -> None:
    assert without_evidence(played(question(1), ["Oslo", "Bern"], turns=[CITIES])) == (1, 1)
    assert without_evidence(played(question(1), ["Oslo", "Paris"], turns=[CITIES])) == (0, 1)
    assert without_evidence(played(question(1), ["Hidalgo"], turns=[MAYOR])) == (1, 1)  # no chain from the topic
    assert without_evidence(played(question(1), None, turns=[CITIES])) == (0, 0)
    fallback = played(question(1), ["Paris"], turns=[CITIES]).model_copy(update={"fallback": True})
    assert without_evidence(fallback) == (1, 1)


def test_a_run() -> None:
    episodes = [
        played(question(1), ["Lyon", "Paris", "Hidalgo"], turns=[CITIES, MAYOR]),
        played(question(2), ["Paris"], turns=[CITIES, CITIES]),
        played(question(3), None, turns=[CITIES.model_copy(update={"text": FAKE})]),
        played(question(4), ["Oslo"]),
    ]
    signs = check_all(episodes, resamples=50)
    assert list(signs) == list(CHECKS)
    found = {name: (sign.cases, sign.of, sign.episodes, sign.f1) for name, sign in signs.items()}
    assert found == {
        "invented_information": (1, 8, 1, 0.0),
        "lists_everything": (1, 3, 1, 0.5),
        "repeated_queries": (1, 5, 1, 1.0),
        "without_evidence": (1, 3, 1, 0.0),
    }
    share = signs["repeated_queries"].share
    assert share is not None
    assert share.value == pytest.approx(1 / 5)
    assert check_all(reversed(episodes), resamples=50) == signs


def test_shares_without_occasions_are_absent() -> None:
    assert check_all([played(question(1), None)])["without_evidence"].share is None
    assert check_all([])["repeated_queries"].of == 0


ENTITIES = st.sampled_from(["France", "Paris", "Lyon", "Hidalgo"])
TURNS = st.lists(
    st.one_of(
        st.builds(lambda entity, names: looked(entity, "r", *names), ENTITIES, st.lists(ENTITIES, max_size=3)),
        st.sampled_from([Turn(text=FAKE), Turn(text="hm"), asked(error=ErrorCode.NO_RESULTS)]),
    ),
    max_size=5,
)
ANSWERS = st.none() | st.lists(ENTITIES, max_size=4, unique=True)


@given(TURNS, ANSWERS)
def test_cases_are_among_occasions(turns: list[Turn], answers: Sequence[str] | None) -> None:
    episode = played(question(1), answers, turns=turns)
    for name, check in CHECKS.items():
        count = check(episode)
        assert 0 <= count.cases <= count.of, name
    assert lists_everything(episode).of == without_evidence(episode).of == int(bool(answers))


@given(TURNS, ANSWERS)
def test_what_a_repetition_and_a_longer_answer_change(turns: list[Turn], answers: Sequence[str] | None) -> None:
    episode = played(question(1), answers, turns=turns)
    once, twice = repeated_queries(episode), repeated_queries(played(question(1), answers, turns=[*turns, *turns]))
    queries = sum(turn.query is not None for turn in turns)
    assert twice == (once.cases + queries, 2 * queries)
    if answers:
        longer = played(question(1), [*answers, "Oslo"], turns=turns)
        assert lists_everything(longer) == lists_everything(episode)
        assert without_evidence(longer) == without_evidence(episode)


@given(TURNS)
def test_an_episode_that_asks_nothing_twice_and_invents_nothing_is_clean(turns: list[Turn]) -> None:
    unique = {turn.query: turn for turn in turns if turn.query is not None}
    episode: Episode = played(question(1), ["Paris"], turns=list(unique.values()))
    assert repeated_queries(episode).cases == 0
    assert invented_information(episode).cases == 0
