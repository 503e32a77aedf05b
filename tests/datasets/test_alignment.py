from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kgr1.datasets.alignment import choose
from kgr1.datasets.paths import Hop, Solution
from kgr1.types import Question

NAMES = ("zita", "omar", "lena", "igor", "nora", "hugo", "vera", "otto")


def way(*hops: str, topic: str = "x") -> Solution:
    return Solution((topic,), (tuple(Hop.parse(hop) for hop in hops),))


def ask(text: str, topic: str = "x") -> Question:
    return Question(id=text, text=text, topics=(topic,), answers=())


def test_the_path_that_comes_back_with_the_words_wins_over_accidents() -> None:
    questions = [ask(f"which school did {name} attend", name) for name in NAMES]
    accidents = [way(f"accident {number}", topic=name) for number, name in enumerate(NAMES)]
    meant = [way("alma mater", topic=name) for name in NAMES]
    candidates = [[one, other] for one, other in zip(accidents, meant, strict=True)]
    assert choose(questions, candidates) == meant


def test_the_words_tell_apart_what_is_equally_frequent() -> None:
    births = [ask(f"where was {name} born", name) for name in NAMES]
    deaths = [ask(f"where did {name} die", name) for name in NAMES]
    both = [way("origin"), way("end")]
    # Only some of the questions have one path; these teach which word goes with which.
    candidates = [[way("origin")]] * 4 + [both] * 4 + [[way("end")]] * 4 + [both] * 4
    assert choose(births + deaths, candidates) == [way("origin")] * 8 + [way("end")] * 8


def test_the_words_of_a_relation_speak_for_it() -> None:
    questions = [ask("who is the director of it"), ask("what kind is it"), ask("which country made it")]
    directed = [way("film.genre"), way("film.director")]
    assert choose(questions, [directed, [way("film.style")], [way("film.land")]])[0] == way("film.director")


def test_a_fact_is_taken_from_head_to_tail_where_both_ways_are_there() -> None:
    questions = [ask(f"who are the parents of {name}", name) for name in NAMES]
    assert choose(questions, [[way("^child"), way("parent")]] * len(NAMES)) == [way("parent")] * len(NAMES)


def test_from_tail_to_head_where_other_questions_say_so() -> None:
    questions = [ask(f"what did {name} write", name) for name in 5 * NAMES]
    candidates = [[way("^author")]] * 39 + [[way("accident"), way("^author")]]
    assert choose(questions, candidates) == [way("^author")] * 40


def test_nothing_to_choose_from_is_none_and_equals_give_the_first() -> None:
    same = way("a")
    assert choose([ask("why"), ask("why not")], [[], [same, way("a")]]) == [None, same]
    assert choose([], []) == []


def test_both_branches_of_an_intersection_count() -> None:
    pair = Solution(("x", "y"), ((Hop("a"),), (Hop("b"),)))
    assert choose([ask("which one")], [[pair]]) == [pair]


@given(
    st.lists(
        st.tuples(
            st.text(alphabet="abcde ", max_size=30),
            st.lists(st.lists(st.sampled_from(["r", "^r", "s", "film.director"]), min_size=1, max_size=3), max_size=4),
        ),
        max_size=6,
    )
)
def test_a_choice_is_one_of_the_candidates_whatever_they_are(cases: list[tuple[str, list[list[str]]]]) -> None:
    questions = [ask(text) for text, _ in cases]
    candidates = [[way(*path) for path in paths] for _, paths in cases]
    for chosen, each in zip(choose(questions, candidates), candidates, strict=True):
        assert chosen in each if each else chosen is None
