"""Shortest relation paths to answers, and what a planner is trained on."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
from small_graphs import FAMILY, load_triples

from kgr1.datasets.paths import Hop, shortest_paths
from kgr1.datasets.plain import load_questions
from kgr1.datasets.plans import planner_pairs
from kgr1.graph.store import GraphStore
from kgr1.types import GoldAnswer, Question


def asked(topic: str, *answers: str, text: str = "?") -> Question:
    gold = tuple(GoldAnswer(label=answer) for answer in answers)
    return Question(id=f"{topic}-{answers}", text=text, topics=(topic,), answers=gold)


def paths(question: Question, **options: object) -> list[str]:
    found = shortest_paths(question, GraphStore.from_triples(FAMILY), **options)  # type: ignore[arg-type]
    return [" ".join(map(str, path)) for path in found]


def test_all_shortest_paths() -> None:
    assert paths(asked("Ada", "England")) == [
        "spouse nationality",
        "parent nationality",
    ]  # the second reaches others too
    assert paths(asked("Ada", "England", "Scotland")) == ["parent nationality", "spouse nationality"]
    assert paths(asked("Ada", "England"), most=1) == ["spouse nationality"]
    assert paths(asked("Ada", "Anne")) == ["parent"]


def test_directions_and_bounds() -> None:
    assert paths(asked("Engine", "Ada")) == []
    assert paths(asked("Engine", "Ada"), backward=True) == ["^about ^wrote"]
    assert paths(asked("Ada", "Childe Harold"), max_hops=1) == []
    assert paths(asked("Ada", "Ada"), backward=True) == []  # the topic is no answer
    assert paths(asked("Nobody", "Ada")) == []
    assert paths(asked("Ada", "England"), max_queries=1) == []


def test_lengths_are_those_of_networkx(shared_data: Path) -> None:
    """On published questions: the length of a shortest directed path from the topic to the nearest answer."""
    folder = shared_data / "pathquestion"
    triples = load_triples(folder / "kg-pq-2h.tsv.gz")
    graph, peer = GraphStore.from_triples(triples), nx.DiGraph([(head, tail) for head, _, tail in triples])
    questions = load_questions(folder, subset="pq-2h", split="train", limit=60, seed=1)
    for question in questions:
        found = shortest_paths(question, graph, max_hops=3, max_frontier=10_000)
        topics = [topic for topic in question.topics if topic in peer]
        reach = [nx.single_source_shortest_path_length(peer, topic, cutoff=3) for topic in topics]
        lengths = [r[a.id] for r in reach for a in question.answers if a.id is not None and r.get(a.id)]
        assert {len(path) for path in found} == ({min(lengths)} if lengths else set())


def test_pairs() -> None:
    graph = GraphStore.from_triples(FAMILY)
    questions = [asked("Ada", "England"), asked("Nobody", "x"), asked("Luigi", "Engine"), asked("Ada", "Anne")]
    pairs = planner_pairs(questions, graph, count=10, seed=1)
    assert len(pairs) == 4
    assert {question.id for question, _ in pairs} == {questions[i].id for i in (0, 2, 3)}
    assert (questions[2], (Hop("wrote"), Hop("about"))) in pairs
    assert len({question.id for question, _ in planner_pairs(questions, graph, count=2, seed=1)}) == 2
    assert planner_pairs(questions, graph, count=2, seed=1) == planner_pairs(questions, graph, count=2, seed=1)
    assert len(planner_pairs(questions, graph, count=10, seed=1, paths_per_question=1)) == 3
