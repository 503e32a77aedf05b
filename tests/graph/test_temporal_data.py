"""Dated retrieval on real temporal graphs, compared with a scan, and questions whose answers it must contain."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from graph_strategies import HEAD_ENTITIES, HEAD_RELATIONS, TAIL_ENTITIES, TAIL_RELATIONS, ask

from kgr1.graph import GraphStore
from kgr1.graph.render import render
from kgr1.graph.temporal import OPEN_START, UNDATED, Span, format_span, parse_span
from kgr1.types import ErrorCode, Observation, Operation, Query

GRAPHS = ["icews14", "multitq-sample", "timequestions"]
MONTHS = ["January", "February", "March", "April", "May", "June"]
MONTHS += ["July", "August", "September", "October", "November", "December"]

Fact = tuple[str, str, str, Span]


def read_facts(path: Path) -> list[Fact]:
    facts = []
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            head, relation, tail, *dates = line.rstrip("\n").split("\t")
            span = parse_span(*dates)
            if span is not None:  # some facts of the real sets end before they start
                facts.append((head, relation, tail, span))
    return facts


@pytest.fixture(scope="module", params=GRAPHS)
def dated(request: pytest.FixtureRequest, shared_data: Path) -> Iterator[tuple[str, GraphStore, list[Fact]]]:
    facts = read_facts(shared_data / request.param / "tkg.tsv.gz")
    with GraphStore.from_triples([fact[:3] for fact in facts], spans=[fact[3] for fact in facts]) as store:
        yield request.param, store, facts


def during(store: GraphStore, operation: Operation, entity: str, relation: str, time: str | None) -> Observation:
    return store.execute([Query(operation=operation, entity=entity, relation=relation, time=time)])[0]


def holds(text: str, span: Span) -> bool:
    word, _, date = text.rpartition(" ")
    low, high = parse_span(date) or UNDATED
    if span == UNDATED:
        return False
    return {"": span[0] <= high and span[1] >= low, "before": span[1] < low, "after": span[0] > high}[word]


def test_counts(dated: tuple[str, GraphStore, list[Fact]]) -> None:
    _, store, facts = dated
    assert store.info().triples == len(set(facts))
    assert store.info().dated == len({fact for fact in facts if fact[3] != UNDATED})


def test_agrees_with_a_scan(dated: tuple[str, GraphStore, list[Fact]]) -> None:
    _, store, facts = dated
    draw = random.Random(3)
    around: dict[tuple[str, str, bool], list[tuple[str, Span]]] = defaultdict(list)
    for head, relation, tail, span in facts:
        around[head, relation, True].append((tail, span))
        around[tail, relation, False].append((head, span))
    spans = [fact[3] for fact in facts if OPEN_START < fact[3][0] <= fact[3][1]]
    for entity, relation, outgoing in draw.sample(sorted(around), 150):
        operation = TAIL_ENTITIES if outgoing else HEAD_ENTITIES
        near = [span for _, span in around[entity, relation, outgoing] if OPEN_START < span[0] <= span[1]]
        period = draw.choice([*near, draw.choice(spans)])
        time = format_span(period[0], period[0])[: draw.choice((4, 7, 10))]
        for text in (None, time, f"before {time}", f"after {time}"):
            expected: dict[str, set[Span]] = defaultdict(set)
            for name, span in around[entity, relation, outgoing]:
                if text is None or holds(text, span):
                    expected[name].add(span)
            found = during(store, operation, entity, relation, text)
            assert list(found.names) == sorted(expected)
            assert found.error is (None if expected else ErrorCode.NO_RESULTS)
            for name, dates in zip(found.names, found.times, strict=True):
                assert list(dates) == [format_span(*span) for span in sorted(expected[name]) if span != UNDATED]


def test_hundreds_of_facts_of_one_pair_fit_the_budget(dated: tuple[str, GraphStore, list[Fact]]) -> None:
    name, store, facts = dated
    pairs: dict[tuple[str, str], set[tuple[str, Span]]] = defaultdict(set)
    for head, relation, tail, span in facts:
        pairs[head, relation].add((tail, span))
    head, relation = max(pairs, key=lambda key: len(pairs[key]))
    if name != "timequestions":
        assert len(pairs[head, relation]) > 200
    observation = during(store, TAIL_ENTITIES, head, relation, None)
    rendered = render(observation, lambda text: len(text.split()), 100)
    assert len(rendered.text.split()) <= 100
    assert rendered.shown >= 1


def period_in(question: str) -> str | None:
    """The day, month or year that a question names."""
    found = re.search(rf"(?:(\d{{1,2}}) )?({'|'.join(MONTHS)}) (\d{{4}})", question)
    if found:
        month = f"{found[3]}-{MONTHS.index(found[2]) + 1:02}"
        return f"{month}-{int(found[1]):02}" if found[1] else month
    found = re.search(r"\d{4}(-\d\d){0,2}", question)
    return found[0] if found else None


def every_answer(store: GraphStore, entity: str, time: str | None) -> Iterator[Observation]:
    """What all relations of an entity lead to, both ways."""
    for relations, entities in ((TAIL_RELATIONS, TAIL_ENTITIES), (HEAD_RELATIONS, HEAD_ENTITIES)):
        for relation in ask(store, relations, entity).names:
            yield during(store, entities, entity, relation, time)


def questions(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_one_call_with_a_time_answers_dated_questions(shared_data: Path) -> None:
    """Of the questions whose answers follow from the graph: who did something at a time that the question names."""
    facts = read_facts(shared_data / "multitq-sample" / "tkg.tsv.gz")
    store = GraphStore.from_triples([fact[:3] for fact in facts], spans=[fact[3] for fact in facts])
    asked = answered = 0
    for question in questions(shared_data / "multitq-sample" / "questions.jsonl.gz"):
        time = period_in(question["question"])
        if not question["verified"] or question["qtype"] != "equal" or question["answer_type"] != "entity" or not time:
            continue
        asked += 1
        topics = [topic for topic in question["topic_entities"] if topic not in question["answers"]]
        sets = [set(found.names) for topic in topics for found in every_answer(store, topic, time)]
        wanted = set(question["answers"])
        # "Which country ..." asks for a part of what the facts name.
        answered += any(wanted == names or (wanted < names and "country" in question["question"]) for names in sets)
    assert asked >= 8
    assert answered == asked


def test_dates_of_facts_answer_questions_for_a_time(shared_data: Path) -> None:
    facts = read_facts(shared_data / "multitq-sample" / "tkg.tsv.gz")
    store = GraphStore.from_triples([fact[:3] for fact in facts], spans=[fact[3] for fact in facts])
    asked = 0
    for question in questions(shared_data / "multitq-sample" / "questions.jsonl.gz"):
        if not question["verified"] or question["answer_type"] != "time":
            continue
        asked += 1
        others = set(question["topic_entities"])
        dates = {
            date[: len(question["answers"][0])]
            for topic in others
            for found in every_answer(store, topic, None)
            for name, spans in zip(found.names, found.times, strict=True)
            if name in others
            for date in spans
        }
        assert set(question["answers"]) <= dates, question["question"]
    assert asked >= 15


def test_years_of_facts_answer_most_complete_questions_for_a_time(shared_data: Path) -> None:
    facts = read_facts(shared_data / "timequestions" / "tkg.tsv.gz")
    store = GraphStore.from_triples([fact[:3] for fact in facts], spans=[fact[3] for fact in facts])
    asked = reached = 0
    for question in questions(shared_data / "timequestions" / "questions.jsonl.gz"):
        if not (question["complete"] and question["answer_type"] == "time" and question["hops"] == 1):
            continue
        asked += 1
        years = {
            year
            for topic in question["topic_entities"]
            for found in every_answer(store, topic, None)
            for text in (*found.names, *(date for spans in found.times for date in spans))
            for year in text.split("/")
        }
        reached += set(question["answers"]) <= years
    assert asked > 300
    assert reached / asked > 0.95
