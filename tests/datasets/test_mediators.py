"""Facts that take two hops through a node without a name: asked as one, walked as two."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_graphs import FAMILY, load_triples

from kgr1.agent.observe import is_nameless
from kgr1.datasets.expert import expert_dataset, expert_steps
from kgr1.datasets.mediators import is_mediator, mediated_phrase
from kgr1.datasets.paths import Hop, parse_path
from kgr1.datasets.synthetic import generate_questions
from kgr1.datasets.walks import TripleIndex
from kgr1.graph.store import GraphStore
from kgr1.types import Question

FILMS = [
    ("Alien", "film.film.starring", "m.04j60kc"),
    ("m.04j60kc", "film.performance.actor", "Sigourney Weaver"),
    ("m.04j60kc", "film.performance.character", "Ellen Ripley"),
    ("Alien", "film.film.starring", "m.04j60kd"),
    ("m.04j60kd", "film.performance.actor", "John Hurt"),
    ("m.04j60kd", "film.performance.character", "Kane"),
    ("Sigourney Weaver", "people.person.marriage", "m.0h2v1"),
    ("Jim Simpson", "people.person.marriage", "m.0h2v1"),
    ("Alien", "film.film.director", "Ridley Scott"),
    ("Gladiator", "film.film.director", "Ridley Scott"),
    ("Sigourney Weaver", "people.person.place_of_birth", "New York"),
]


def walk(question: Question, triples: list[tuple[str, str, str]]) -> list[set[str]]:
    """The frontiers of the gold path, by scanning all triples."""
    (branch,) = parse_path(question.gold_path)
    frontiers = [set(question.topics)]
    for relation, backward, _ in branch:
        ends = [(t, h) if backward else (h, t) for h, r, t in triples if r == relation]
        frontiers.append({end for start, end in ends if start in frontiers[-1]})
    return frontiers


def check(questions: list[Question], triples: list[tuple[str, str, str]]) -> None:
    for question in questions:
        frontiers = walk(question, triples)
        gold = {answer.label for answer in question.answers}
        assert gold == frontiers[-1] - set(question.topics)
        assert gold == frontiers[-1] or (question.hops == 2 and question.kind in ("mediator", "shared"))
        assert question.hops == len(frontiers) - 1
        crossed = [frontier for frontier in frontiers if any(map(is_mediator, frontier))]
        assert len(crossed) == (question.kind == "mediator")
        assert all(is_mediator(node) for frontier in crossed for node in frontier)
        assert not any(is_mediator(name) for name in (*question.topics, *frontiers[-1]))
        assert not any(node in question.text for frontier in crossed for node in frontier)


def test_a_mediator_is_what_observations_call_nameless() -> None:
    for name in ("m.04j60kc", "Q142", "Alien", "1979", "_:b0"):
        assert is_mediator(name) == is_nameless(name, name)


def test_made_questions_cross_mediators_as_one_hop_and_never_end_there() -> None:
    graph = GraphStore.from_triples(FILMS)
    questions = generate_questions(FILMS, count=150, seed=0, kinds=["mediator"], long_share=1.0)
    check(questions, FILMS)
    texts = {question.gold_path: question.text.rstrip("?.") for question in questions}
    assert texts["film.film.starring", "film.performance.actor"].endswith(
        ("the actor of Alien", "the actor that Alien has")
    )
    assert re.search(r"the actor .*the character", texts["^film.performance.character", "film.performance.actor"])
    assert "shares the marriage with" in texts["people.person.marriage", "^people.person.marriage"]
    for question in questions:
        steps = expert_steps(question, graph, random.Random(0), max_turns=7)
        assert steps is not None
        asked = [step.query.relation for step in steps if step.query is not None and step.query.relation]
        assert set(asked) == {hop.relation for hop in parse_path(question.gold_path)[0]}
        assert not any(node in step.think for step in steps for node in ("m.04j60kc", "m.04j60kd", "m.0h2v1"))


def test_other_kinds_keep_away_from_nodes_without_a_name() -> None:
    questions = generate_questions(FILMS, count=60, seed=1)
    check([question for question in questions if question.kind != "intersection"], FILMS)
    assert {question.kind for question in questions} >= {"chain", "mediator"}
    assert not any(is_mediator(answer.label) for question in questions for answer in question.answers)


def test_a_fact_that_two_share_leaves_the_topic_out() -> None:
    questions = generate_questions(FILMS, count=60, seed=0, kinds=["mediator"])
    married = [q for q in questions if q.gold_path == ("people.person.marriage", "^people.person.marriage")]
    assert {(q.topics, q.answers[0].label, len(q.answers)) for q in married} == {
        (("Jim Simpson",), "Sigourney Weaver", 1),
        (("Sigourney Weaver",), "Jim Simpson", 1),
    }


def test_a_graph_of_identifiers_alone_has_no_mediators() -> None:
    triples = [(f"Q{n}", "P31", f"Q{n % 7 + 100}") for n in range(40)]
    questions = generate_questions(triples, count=20, seed=0)
    assert questions
    assert {question.kind for question in questions} <= {"chain", "shared", "intersection"}
    assert generate_questions(FAMILY, count=5, seed=0, kinds=["mediator"]) == []
    assert generate_questions(FILMS, count=5, seed=0, kinds=["mediator"], hops=[1]) == []


@pytest.mark.parametrize(
    ("more", "topic", "path", "texts"),
    [
        ([], "Alien", ("film.film.starring", "film.performance.actor"), {"the actor of Alien"}),
        (
            [("Alien", "film.film.crew", "m.0c"), ("m.0c", "film.crew_gig.actor", "Extra")],
            "Alien",
            ("film.film.starring", "film.performance.actor"),
            {"the actor in the starring of Alien"},
        ),
        ([("Alien", "actor", "Extra")], "Alien", ("film.film.starring", "film.performance.actor"), {"starring"}),
        ([], "Kane", ("^film.performance.character", "^film.film.starring"), {"the one whose character is Kane"}),
        (
            [("John Hurt", "film.actor.film", "m.04j60kd")],
            "Kane",
            ("^film.performance.character", "^film.film.starring"),
            {"the one in whose starring the character is Kane"},
        ),
        (
            [],
            "Jim Simpson",
            ("people.person.marriage", "^people.person.marriage"),
            {"the one that shares the marriage with Jim Simpson"},
        ),
    ],
)
def test_one_label_is_enough_only_where_nothing_else_can_be_meant(
    more: list[tuple[str, str, str]], topic: str, path: tuple[str, str], texts: set[str]
) -> None:
    index = TripleIndex([*FILMS, *more])
    first, second = map(Hop.parse, path)
    said = {mediated_phrase(index, [topic], first, second, topic, random.Random(seed)) for seed in range(30)}
    assert all(any(text in phrase for phrase in said) for text in texts)
    if more:
        labels = {hop.relation.rpartition(".")[2] for hop in (first, second)}
        assert all(label in phrase for phrase in said for label in labels)


@settings(max_examples=30, deadline=None)
@given(
    triples=st.lists(
        st.tuples(st.sampled_from(["a", "b", "c", "m.0a1", "m.0b2"]), st.sampled_from("rst"), st.sampled_from("abcd"))
        | st.tuples(st.sampled_from("abcd"), st.sampled_from("rst"), st.sampled_from(["m.0a1", "m.0b2", "m.0c3"])),
        min_size=1,
        max_size=25,
    ),
    seed=st.integers(0, 99),
)
def test_any_graph_with_mediators(triples: list[tuple[str, str, str]], seed: int) -> None:
    graph = GraphStore.from_triples(triples)
    questions = generate_questions(triples, count=5, seed=seed, kinds=["chain", "mediator"], hops=[1, 2, 3])
    check(questions, triples)
    for question in questions:
        assert expert_steps(question, graph, random.Random(0), max_turns=7) is not None


def test_questions_through_the_mediators_of_a_published_graph(shared_data: Path) -> None:
    triples = load_triples(shared_data / "webqsp-cwq" / "kg.tsv.gz")
    questions = generate_questions(
        triples, count=60, seed=0, kinds=["mediator"], topics=lambda name: not is_mediator(name)
    )
    assert len(questions) == 60
    check(questions, triples)
    graph = GraphStore.from_triples(triples)
    solved = expert_dataset(questions, graph, count=99, seed=0, max_turns=7, recovery_share=0.2)
    assert len(solved) == 60
    thoughts = [step.think for _, steps in solved for step in steps]
    assert sum("no name" in text or "in between" in text or "no answer" in text for text in thoughts) > 30
