"""Paths cut one hop short."""

from __future__ import annotations

from kgr1.datasets.early import stop_early
from kgr1.datasets.expert import expert_dataset
from kgr1.graph import GraphStore
from kgr1.types import GoldAnswer, Question

ROWS = [
    *((f"p{i}", "parent", f"q{i}") for i in range(40)),
    *((f"q{i}", "city", f"c{i % 7}") for i in range(40)),
    *(("p0", "friend", f"f{i}") for i in range(3)),
    *((f"f{i}", "city", "c1") for i in range(3)),
    *(("p1", "fan", f"many {i}") for i in range(40)),
    *((f"many {i}", "city", "c2") for i in range(40)),
]
GRAPH = GraphStore.from_triples(ROWS)


def question(number: int, *path: str, answers: tuple[str, ...] = ()) -> Question:
    labels = answers or (f"c{number % 7}",)
    return Question(
        id=str(number), text=f"the city of the parent of p{number}", topics=(f"p{number}",),
        answers=tuple(GoldAnswer(label=label) for label in labels), gold_path=path,
    )  # fmt: skip


def test_the_answers_are_those_one_hop_before_the_end() -> None:
    found = stop_early(question(3, "parent", "city"), GRAPH)
    assert found is not None
    assert (found.gold_path, [answer.label for answer in found.answers]) == (("parent",), ["q3"])
    assert (found.id, found.text, found.topics) == ("3", "the city of the parent of p3", ("p3",))
    found = stop_early(question(0, "friend", "city"), GRAPH)
    assert found is not None
    assert [answer.label for answer in found.answers] == ["f0", "f1", "f2"]
    found = stop_early(question(0, "friend", "city", "^city"), GRAPH)
    assert found is not None
    assert [answer.label for answer in found.answers] == ["c1"]
    found = stop_early(question(3, "parent", "city", "@2014"), GRAPH)
    assert found is not None
    assert found.gold_path == ("parent",)  # a time belongs to its hop


def test_what_has_no_shorter_path() -> None:
    assert stop_early(question(3, "parent"), GRAPH) is None
    assert stop_early(question(3), GRAPH) is None
    assert stop_early(question(3, "parent", "&", "parent"), GRAPH) is None
    assert stop_early(question(3, "nothing", "city"), GRAPH) is None
    assert stop_early(question(1, "fan", "city"), GRAPH) is None  # 40 answers
    assert stop_early(question(1, "fan", "city"), GRAPH, max_answers=40) is not None


def test_a_share_of_the_trajectories_ends_early() -> None:
    questions = [question(number, "parent", "city") for number in range(40)]

    def early(share: float) -> int:
        found = expert_dataset(questions, GRAPH, count=40, seed=0, max_turns=5, recovery_share=0.0, early_share=share)
        assert len(found) == 40
        lengths = {(len(asked.gold_path), len(steps)) for asked, steps in found}
        assert lengths <= {(1, 3), (2, 5)}
        for asked, steps in found:
            assert steps[-1].answer is not None
            assert steps[-1].answer.names == tuple(answer.label for answer in asked.answers)
        return sum(len(asked.gold_path) == 1 for asked, _ in found)

    assert early(0.0) == 0
    assert early(1.0) == 40
    assert 10 < early(0.5) < 30
