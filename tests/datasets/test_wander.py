"""Random walks in place of the right ones."""

from __future__ import annotations

import random

from kgr1.datasets.expert import expert_dataset, expert_steps
from kgr1.datasets.paths import parse_path
from kgr1.datasets.wander import wander
from kgr1.graph import GraphStore
from kgr1.types import GoldAnswer, Question

ROWS = [
    *((f"p{i}", relation, f"p{(i * 7 + step) % 40}") for i in range(40) for step, relation in enumerate("abcd", 1)),
    *((f"p{i}", "has", f"thing {i} {j}") for i in range(40) for j in range(40)),
]


def question(number: int, path: tuple[str, ...] = ("a", "b")) -> Question:
    return Question(
        id=str(number), text=f"who is a of b of p{number}", topics=(f"p{number}",), answers=(GoldAnswer(label="x"),),
        gold_path=path,
    )  # fmt: skip


def test_a_walk_is_one_of_the_graph_and_as_long_as_the_path() -> None:
    graph = GraphStore.from_triples(ROWS)
    paths = set()
    for number in range(40):
        for hops in (1, 2, 3):
            asked = question(number, ("a", "b", "a")[:hops])
            found = wander(asked, graph, random.Random(number))
            assert found is not None
            assert (found.text, found.topics, len(found.gold_path)) == (asked.text, asked.topics, hops)
            steps = expert_steps(found, graph, random.Random(0), max_turns=2 * hops + 1)
            assert steps is not None
            assert [step.query.relation for step in steps if step.query and step.query.relation] == [
                hop.relation for hop in parse_path(found.gold_path)[0]
            ]
            paths.add(found.gold_path)
    assert len(paths) > 30
    assert not any("has" in path for path in paths)  # too many answers for a trajectory


def test_no_walk_where_none_goes_on() -> None:
    graph = GraphStore.from_triples([("p0", "a", "end"), ("p1", "a", "end 1"), ("p1", "a", "end 2")])
    assert wander(question(0), graph, random.Random(0)) is None
    assert wander(question(1), graph, random.Random(0)) is None
    assert wander(question(7), graph, random.Random(0)) is None
    found = wander(question(1, ("b",)), graph, random.Random(0))
    assert found is not None
    assert [answer.label for answer in found.answers] == ["end 1", "end 2"]


def test_a_share_of_the_trajectories_wanders() -> None:
    graph = GraphStore.from_triples(ROWS)
    questions = [question(number) for number in range(40)]
    solved = [q.model_copy(update={"answers": _answers(graph, q)}) for q in questions]

    def paths(share: float) -> list[tuple[str, ...]]:
        found = expert_dataset(solved, graph, count=40, seed=0, max_turns=5, recovery_share=0.1, wander_share=share)
        assert len(found) == 40
        return [q.gold_path for q, _ in found]

    assert set(paths(0.0)) == {("a", "b")}
    assert paths(1.0) == paths(1.0)
    assert sum(path != ("a", "b") for path in paths(1.0)) > 30
    assert 8 < sum(path != ("a", "b") for path in paths(0.5)) < 30


def _answers(graph: GraphStore, asked: Question) -> tuple[GoldAnswer, ...]:
    names = {asked.topics[0]}
    for relation in asked.gold_path:
        names = {tail for head, edge, tail in graph.triples() if head in names and edge == relation}
    return tuple(GoldAnswer(label=name) for name in sorted(names))
