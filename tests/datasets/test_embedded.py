from __future__ import annotations

import random
import runpy
from collections import Counter
from pathlib import Path

import pytest

from kgr1.datasets.embedded import EMBEDDED_PHRASES, embedded_graph_path, embedded_questions
from kgr1.datasets.expert import expert_steps
from kgr1.datasets.synthetic import generate_questions
from kgr1.errors import DatasetError
from kgr1.graph.store import GraphStore
from kgr1.types import Question

GENERATOR = Path(__file__).resolve().parents[2] / "tools" / "build_countries.py"


def read_triples() -> list[tuple[str, str, str]]:
    rows = [line.split("\t") for line in embedded_graph_path().read_text("utf-8").splitlines()]
    return [(head, relation, tail) for head, relation, tail in rows]


@pytest.fixture(scope="module")
def countries() -> GraphStore:
    return GraphStore.from_triples(read_triples())


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return embedded_questions()


def test_the_generator_reproduces_the_shipped_file(tmp_path: Path) -> None:
    pytest.importorskip("countryinfo")
    runpy.run_path(str(GENERATOR))["main"](tmp_path / "countries.tsv")
    assert (tmp_path / "countries.tsv").read_bytes() == embedded_graph_path().read_bytes()


def test_facts_hold_and_names_mean_one_thing() -> None:
    triples = read_triples()
    assert triples == sorted(set(triples))
    facts = set(triples)
    assert {
        ("Austria", "capital", "Vienna"),
        ("Switzerland", "official language", "Italian"),
        ("Nepal", "borders", "China"),
        ("Brazil", "continent", "South America"),
        ("Jamaica", "calling code", "+1 876"),
    } <= facts
    assert all((tail, relation, head) in facts for head, relation, tail in triples if relation == "borders")
    assert not [triple for triple in triples if triple[0] == triple[2]]
    roles: dict[str, set[str]] = {}
    for head, relation, tail in triples:
        roles.setdefault(head, set()).add("subregion" if relation == "part of" else "country")
        role = {"borders": "country", "located in": "subregion", "part of": "continent"}.get(relation, relation)
        roles.setdefault(tail, set()).add(role)
    assert [name for name, kinds in roles.items() if len(kinds) > 1] == ["South America"]
    assert sum(kinds == {"country"} for kinds in roles.values()) == 195


def test_the_notice_carries_the_licence_of_the_source() -> None:
    notice = embedded_graph_path().with_name("NOTICE").read_text("utf-8")
    assert "countryinfo 1.0.1" in notice
    assert "Permission is hereby granted, free of charge" in notice
    assert "Copyright (c) 2018 Porimol Chandro" in notice


def test_the_expert_solves_every_question_within_its_turns(countries: GraphStore, questions: list[Question]) -> None:
    lengths: Counter[int] = Counter()
    for question in questions[::7]:
        steps = expert_steps(question, countries, random.Random(0), max_turns=7)
        assert steps is not None, question
        lengths[len(steps)] += 1
    short = embedded_questions(max_turns=5)[::11]
    assert all(expert_steps(q, countries, random.Random(0), max_turns=5) for q in short)
    drawn = embedded_questions(count=300)
    solved = [expert_steps(q, countries, random.Random(0), max_turns=5) for q in drawn]
    assert sum(steps is not None for steps in solved) > 0.85 * len(drawn)


def test_splits_share_no_topic_and_texts_are_distinct(questions: list[Question]) -> None:
    topics: dict[str, set[str]] = {}
    for question in questions:
        topics.setdefault(question.split, set()).update(question.topics)
    assert set(topics) == {"train", "dev", "test"}
    assert not topics["train"] & topics["test"]
    assert not topics["train"] & topics["dev"]
    assert not topics["dev"] & topics["test"]
    assert len({q.text for q in questions}) == len({q.id for q in questions}) == len(questions)
    assert {(q.kind, q.hops) for q in questions} == {("chain", 1), ("chain", 2), ("chain", 3), ("intersection", 2)}


def test_a_question_names_its_topics_and_hides_its_answers(questions: list[Question]) -> None:
    for question in questions:
        assert all(topic in question.text for topic in question.topics)
        assert "{" not in question.text
        assert question.text[-1] in "?."
        assert 0 < len(question.answers) <= 20
        assert not {gold.label for gold in question.answers} & set(question.topics)


def test_a_draw_is_repeatable_and_mixed() -> None:
    first = embedded_questions("train", count=200, seed=3)
    assert first == embedded_questions("train", count=200, seed=3)
    assert first != embedded_questions("train", count=200, seed=4)
    assert {q.split for q in first} == {"train"}
    kinds = Counter((q.kind, q.hops) for q in first)
    assert kinds["chain", 2] > kinds["chain", 3] > 0
    assert kinds["intersection", 2] > 10
    # More than there are: everything comes once.
    assert len(embedded_questions("dev", count=10**6)) == len(embedded_questions("dev"))
    with pytest.raises(DatasetError, match="train, dev, test"):
        embedded_questions("validation")


def test_the_phrase_table_words_generated_questions() -> None:
    triples = read_triples()
    assert set(EMBEDDED_PHRASES) == {relation for _, relation, _ in triples}
    generated = generate_questions(triples, count=50, seed=0, phrases=EMBEDDED_PHRASES)
    assert len(generated) == 50
    assert any("the country whose capital is" in q.text for q in generated)
