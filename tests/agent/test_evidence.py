"""Evidence: the shown facts on a shortest chain from a topic to each answer."""

from __future__ import annotations

from collections.abc import Sequence

from episode_parts import answer, ask, play

from kgr1.agent.evidence import find_evidence, shown_triples
from kgr1.graph.store import GraphStore
from kgr1.types import Question, Triple

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
