from __future__ import annotations

import random

from dict_graph import DictGraph

from kgr1.datasets.expert import Step, expert_steps
from kgr1.graph.api import KnowledgeGraph
from kgr1.types import GoldAnswer, Question


def ask(
    path: tuple[str, ...], answers: tuple[str, ...], topics: tuple[str, ...] = ("Ada",), **more: object
) -> Question:
    gold = tuple(GoldAnswer(label=name, id=name) for name in answers)
    return Question(id="q", text="Which nation does it come from?", topics=topics, answers=gold, gold_path=path)


def replay(question: Question, steps: list[Step], graph: KnowledgeGraph, max_turns: int) -> None:
    """Independent check of a trajectory: what it asks and lists has been shown before, and it ends with the gold."""
    assert len(steps) <= max_turns
    names, relations = set(question.topics), set()
    for step in steps[:-1]:
        assert step.answer is None
        assert step.query is not None
        (observation,) = graph.execute([step.query])
        if not step.mistake:
            assert step.query.entity in names
            if step.query.relation is not None:
                assert (step.query.relation, step.query.operation.outgoing) in relations
        if step.query.operation.returns_entities:
            names.update(observation.names)
        else:
            relations.update((name, step.query.operation.outgoing) for name in observation.names)
    answer = steps[-1].answer
    assert answer is not None
    assert steps[-1].query is None
    assert set(answer.names) == {gold.label for gold in question.answers}
    assert set(answer.names) <= names
    assert list(answer.names) == sorted(answer.names)
    assert not steps[-1].mistake


def calls(steps: list[Step] | None) -> list[str]:
    assert steps is not None
    return [step.query.to_text() for step in steps if step.query is not None]


def solve(question: Question, graph: DictGraph, max_turns: int = 5, seed: int = 0, **more: bool) -> list[Step] | None:
    return expert_steps(question, graph, random.Random(seed), max_turns=max_turns, **more)


def test_a_two_hop_walk_lists_relations_before_it_follows_one(family: DictGraph) -> None:
    question = ask(("spouse", "nationality"), ("England",))
    steps = solve(question, family)
    assert calls(steps) == [
        'get_tail_relations("Ada")',
        'get_tail_entities("Ada", "spouse")',
        'get_tail_relations("William")',
        'get_tail_entities("William", "nationality")',
    ]
    assert steps is not None
    replay(question, steps, family, 5)
    assert solve(question, family, max_turns=4) is None


def test_a_backward_hop_uses_the_head_operations(family: DictGraph) -> None:
    steps = solve(ask(("^about", "^wrote"), ("Ada", "Luigi"), ("Engine",)), family, max_turns=6)
    assert calls(steps)[:2] == ['get_head_relations("Engine")', 'get_head_entities("Engine", "about")']
    assert steps is not None
    assert steps[-1].answer is not None
    assert steps[-1].answer.names == ("Ada", "Luigi")


def test_branching_asks_every_entity_but_lists_relations_once(family: DictGraph) -> None:
    question = ask(("parent", "nationality"), ("England", "Scotland"))
    assert solve(question, family) is None
    steps = solve(question, family, max_turns=6)
    assert [c.split("(")[0] for c in calls(steps)].count("get_tail_relations") == 2
    assert calls(steps)[-2:] == [
        'get_tail_entities("Anne", "nationality")',
        'get_tail_entities("George", "nationality")',
    ]
