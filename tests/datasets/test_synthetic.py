from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_graphs import FAMILY, load_triples

from kgr1.datasets.asking import readable
from kgr1.datasets.expert import Habits, expert_steps
from kgr1.datasets.paths import parse_path
from kgr1.datasets.synthetic import generate_questions
from kgr1.datasets.walks import topic_split
from kgr1.errors import DatasetError
from kgr1.graph.store import GraphStore
from kgr1.types import Question

NODES = st.sampled_from("abcdefgh")
TRIPLES = st.lists(st.tuples(NODES, st.sampled_from(["r", "s", "t"]), NODES), max_size=40)


def evaluate(question: Question, triples: list[tuple[str, str, str]]) -> set[str]:
    """Follow the gold path by scanning all triples, as slowly and plainly as possible."""
    ends = []
    for topic, branch in zip(question.topics, parse_path(question.gold_path), strict=True):
        frontier = {topic}
        for number, (relation, backward, _) in enumerate(branch):
            if backward:
                frontier = {h for h, r, t in triples if r == relation and t in frontier}
            else:
                frontier = {t for h, r, t in triples if r == relation and h in frontier}
            if question.kind == "shared" and number == 1:
                assert topic in frontier
                frontier -= {topic}
            assert topic not in frontier
        ends.append(frontier)
    return set.intersection(*ends)


@settings(max_examples=40, deadline=None)
@given(triples=TRIPLES, seed=st.integers(0, 99), sets=st.booleans())
def test_gold_sets_are_exactly_what_the_path_reaches(
    triples: list[tuple[str, str, str]], seed: int, sets: bool
) -> None:
    questions = generate_questions(triples, count=6, seed=seed, max_answers=3, sets=sets)
    habits = Habits(sets=sets)
    graph = GraphStore.from_triples(triples) if triples else None
    for question in questions:
        assert graph is not None
        gold = {answer.label for answer in question.answers}
        assert gold == evaluate(question, triples)
        assert 0 < len(gold) <= 3
        assert expert_steps(question, graph, random.Random(0), max_turns=7, habits=habits) is not None
    assert len({q.text for q in questions}) == len(questions)


def test_questions_of_a_published_graph(shared_data: Path) -> None:
    triples = load_triples(shared_data / "worldcup2014" / "kg.tsv.gz")
    questions = generate_questions(triples, count=300, seed=5)
    assert len(questions) == 300
    graph = GraphStore.from_triples(triples)
    short = sum(expert_steps(q, graph, random.Random(0), max_turns=5) is not None for q in questions)
    assert short > 0.75 * len(questions)
    kinds = Counter((q.kind, q.hops) for q in questions)
    assert min(kinds["chain", 1], kinds["chain", 2], kinds["intersection", 2]) > 20
    splits: dict[str, set[str]] = {}
    for question in questions:
        assert {topic_split(topic, 5) for topic in question.topics} == {question.split}
        splits.setdefault(question.split, set()).update(question.topics)
    assert set(splits) == {"train", "dev", "test"}


def test_an_agent_that_asks_about_sets_gets_longer_questions(shared_data: Path) -> None:
    triples = load_triples(shared_data / "worldcup2014" / "kg.tsv.gz")
    one, sets = (generate_questions(triples, count=300, seed=5, sets=sets) for sets in (False, True))
    hops = Counter(q.hops for q in sets if q.kind == "chain")
    assert max(hops.values()) < 1.5 * min(hops.values())
    assert sum(q.hops == 3 for q in sets) > 2 * sum(q.hops == 3 for q in one)
    many = [q for q in sets if q.kind == "chain" and len(evaluate(_shortened(q), triples)) > 3]
    assert many  # a next hop starts from more entities than there are turns
    graph = GraphStore.from_triples(triples)
    assert all(expert_steps(q, graph, random.Random(0), max_turns=7, habits=Habits(sets=True)) for q in sets)


def _shortened(question: Question) -> Question:
    return question.model_copy(update={"gold_path": question.gold_path[:-1] or question.gold_path})


def test_what_shares_something_with_the_topic(shared_data: Path) -> None:
    triples = load_triples(shared_data / "worldcup2014" / "kg.tsv.gz")
    questions = generate_questions(triples, count=40, seed=2, kinds=["shared"], sets=True)
    assert len(questions) == 40
    for question in questions:
        first, second, *_ = question.gold_path
        assert {first, second} == {first, f"^{first}".replace("^^", "")}
        assert evaluate(question, triples) == {answer.label for answer in question.answers}
        assert question.hops == len(question.gold_path) >= 2
    assert generate_questions(triples, count=5, seed=2, kinds=["shared"], hops=[1]) == []


def test_what_is_short_owns_something() -> None:
    texts = [q.text for q in generate_questions(FAMILY, count=200, seed=0, hops=[1, 2])]
    assert any("'s " in text for text in texts)
    names = tuple({node for head, _, tail in FAMILY for node in (head, tail)})
    assert all(text.partition("'s ")[0].endswith(names) for text in texts if "'s " in text)


def test_the_seed_and_not_the_order_of_triples_decides(shared_data: Path) -> None:
    triples = load_triples(shared_data / "worldcup2014" / "kg.tsv.gz")
    questions = generate_questions(triples, count=100, seed=5)
    assert questions == generate_questions(reversed(triples), count=100, seed=5)
    assert questions != generate_questions(triples, count=100, seed=6)
    # A stored graph can be given as it is.
    assert questions == generate_questions(GraphStore.from_triples(triples).triples(), count=100, seed=5)


def test_every_condition_of_an_intersection_is_needed(shared_data: Path) -> None:
    triples = load_triples(shared_data / "worldcup2014" / "kg.tsv.gz")
    for question in generate_questions(triples, count=50, seed=1, kinds=["intersection"]):
        assert len(question.topics) == 2
        for topic, branch in zip(question.topics, parse_path(question.gold_path), strict=True):
            one = question.model_copy(update={"topics": (topic,), "gold_path": tuple(str(hop) for hop in branch)})
            assert evaluate(one, triples) > {answer.label for answer in question.answers}


def test_hops_and_phrases_are_respected() -> None:
    phrases = {"wrote": ["a work of {x}", "the author of {x}"]}
    questions = generate_questions(FAMILY, count=30, seed=0, hops=[1], kinds=["chain"], phrases=phrases)
    assert {q.hops for q in questions} == {1}
    wrote = [q for q in questions if q.gold_path == ("^wrote",)]
    assert wrote
    assert all("the author of" in q.text for q in wrote)


def test_topic_splits_have_their_shares() -> None:
    counts = Counter(topic_split(f"node {i}") for i in range(5000))
    assert counts["train"] == pytest.approx(3000, abs=150)
    assert counts["dev"] == pytest.approx(500, abs=100)


def test_an_empty_graph_gives_nothing() -> None:
    assert generate_questions([], count=5, seed=0) == []


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"kinds": ["star"]}, "chain, shared"),
        ({"kinds": []}, "chain, shared"),
        ({"hops": [5]}, "1 to 4"),
        ({"phrases": {"r": ["the r of {x}"]}}, "forward, backward"),
        ({"phrases": {"r": ["the r", "{x}"]}}, "{x}"),
    ],
)
def test_wrong_settings_are_named(more: dict[str, object], match: str) -> None:
    with pytest.raises(DatasetError, match=match):
        generate_questions(FAMILY, count=1, seed=0, **more)


@pytest.mark.parametrize(
    ("relation", "words"),
    [
        ("people.person.place_of_birth", "place of birth"),
        ("http://example.org/bornIn", "born in"),
        ("has_genre", "genre"),
        ("official language", "official language"),
        ("P31", "P31"),
        ("...", "..."),
    ],
)
def test_labels_become_words(relation: str, words: str) -> None:
    assert readable(relation) == words
