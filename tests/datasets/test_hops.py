"""Which choices an expert made: what was listed, what it took, which way led there, and what it knew."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from small_graphs import FAMILY

from kgr1.datasets.expert import Habits, expert_steps
from kgr1.datasets.hops import Choice, Followed, choices, followed
from kgr1.datasets.steps import Step
from kgr1.graph.api import KnowledgeGraph
from kgr1.graph.store import GraphStore
from kgr1.types import Answer, DirectedRelation, GoldAnswer, Operation, Query, Question

Rows = list[tuple[str, str, str]]


def question_of(path: Sequence[str], answers: Sequence[str], topics: Sequence[str], **more: object) -> Question:
    gold = tuple(GoldAnswer(label=name, id=name) for name in answers)
    question = Question(id="q", text="Which is it?", topics=tuple(topics), answers=gold, gold_path=tuple(path))
    return question.model_copy(update=more)


def walk(question: Question, graph: KnowledgeGraph, *, seed: int = 0, recovery: bool = False) -> list[Step]:
    steps = expert_steps(
        question, graph, random.Random(seed), max_turns=12, habits=Habits(sets=True), recovery=recovery
    )
    assert steps is not None
    assert any(step.mistake for step in steps) is recovery
    return steps


def made(question: Question, graph: KnowledgeGraph, *, seed: int = 0, recovery: bool = False) -> list[Choice]:
    return list(choices([(question, walk(question, graph, seed=seed, recovery=recovery))], graph))


def known(question: Question, graph: KnowledgeGraph) -> list[Followed]:
    return list(followed([(question, walk(question, graph))], graph))


def around(rows: Rows, *entities: str) -> set[DirectedRelation]:
    """The relations of some entities, triple by triple."""
    return {(True, r) for h, r, _ in rows if h in entities} | {(False, r) for _, r, t in rows if t in entities}


NATIONS = question_of(("parent", "nationality"), ("England", "Scotland"), ("Ada",))


def test_each_hop_is_a_choice_among_what_was_listed(family: GraphStore) -> None:
    first, second = made(NATIONS, family)
    assert first == Choice(NATIONS, (), ((True, "parent"), (True, "spouse"), (True, "wrote")), 0)
    assert second == Choice(
        NATIONS,
        ("parent",),
        ((True, "nationality"), (True, "wrote"), (False, "parent")),  # of Anne and of George
        0,
    )


def test_against_the_arrow(family: GraphStore) -> None:
    question = question_of(("^about", "^wrote"), ("Ada", "Luigi"), ("Engine",))
    first, second = made(question, family)
    assert first.relations[first.chosen] == (False, "about")
    assert set(first.relations) == {(False, "about"), (False, "built")}
    assert (second.before, second.relations[second.chosen]) == (("about",), (False, "wrote"))
    assert set(second.relations) == around(FAMILY, "Notes", "Sketch")


def test_a_mistake_is_no_choice(family: GraphStore) -> None:
    expected = made(NATIONS, family)
    for seed in range(5):
        assert made(NATIONS, family, seed=seed, recovery=True) == expected


def test_one_relation_leaves_no_choice() -> None:
    graph = GraphStore.from_triples([("A", "r", "B"), ("B", "s", "C"), ("B", "t", "D")])
    (only,) = made(question_of(("r", "s"), ("C",), ("A",)), graph)
    assert only.before == ("r",)
    assert only.relations == ((True, "s"), (True, "t"), (False, "r"))


def test_another_topic_begins_anew(family: GraphStore) -> None:
    path = ("^nationality", "&", "^about", "^wrote", "parent")
    found = made(question_of(path, ("George",), ("England", "Engine")), family)
    # England has one relation.
    assert [(choice.before, choice.relations[choice.chosen]) for choice in found] == [
        ((), (False, "about")),
        (("about",), (False, "wrote")),
        (("about", "wrote"), (True, "parent")),
    ]


def test_a_hop_comes_with_what_the_expert_knew(family: GraphStore) -> None:
    first, second = known(NATIONS, family)
    relations = ((True, "parent"), (True, "spouse"), (True, "wrote"))
    ada = frozenset({"Ada"})
    assert first == Followed(NATIONS, ((),), ("Ada",), ada, ada, relations, (True, "parent"), goes_on=True)
    relations = ((True, "nationality"), (True, "wrote"), (False, "parent"))
    way = ((True, "parent"),)
    here = ("Anne", "George")
    met = ada.union(here)
    assert second == Followed(NATIONS, (way,), here, ada, met, relations, (True, "nationality"), goes_on=False)


WRITER = ((False, "about"), (False, "wrote"))
"""From Engine to Ada and Luigi."""


def test_before_another_topic_nobody_knows_whether_it_goes_on(family: GraphStore) -> None:
    path = ("^about", "^wrote", "parent", "&", "parent")
    found = known(question_of(path, ("Anne", "George"), ("Engine", "Ada")), family)
    topics = frozenset({"Engine"}), frozenset({"Engine", "Ada"})
    assert [(each.branches, each.here, each.asked, each.hop, each.goes_on) for each in found] == [
        (((),), ("Engine",), topics[0], WRITER[0], True),
        ((WRITER[:1],), ("Notes", "Sketch"), topics[0], WRITER[1], True),
        ((WRITER,), ("Ada", "Luigi"), topics[0], (True, "parent"), None),
        (((*WRITER, (True, "parent")), ()), ("Ada",), topics[1], (True, "parent"), False),
    ]
    assert [each.met for each in found] == [
        topics[0],
        topics[0].union(("Notes", "Sketch")),
        topics[0].union(("Notes", "Sketch", "Ada", "Luigi")),
        topics[1],  # who asks about a topic goes back to nothing
    ]


def test_a_hop_that_was_no_choice_is_part_of_the_way(family: GraphStore) -> None:
    path = ("^nationality", "&", "^about", "^wrote", "parent")
    found = known(question_of(path, ("George",), ("England", "Engine")), family)
    england = ((False, "nationality"),)  # its only relation
    assert [(each.branches, each.goes_on) for each in found] == [
        (((),), None),
        ((england, ()), True),
        ((england, WRITER[:1]), True),
        ((england, WRITER), False),
    ]


def test_what_was_asked_about_is_not_gone_on_from() -> None:
    rows = [("A", "r", "B"), ("B", "s", "A"), ("B", "s", "C"), ("C", "t", "D"), ("C", "u", "E"), ("A", "t", "F")]
    *_, last = known(question_of(("r", "s", "t"), ("D",), ("A",)), GraphStore.from_triples(rows))
    assert (last.here, last.asked, last.hop) == (("C",), frozenset({"A"}), (True, "t"))


def test_a_list_that_nothing_is_taken_from_is_no_going_on(family: GraphStore) -> None:
    *hops, answer = walk(NATIONS, family)
    assert [step.query.relation for step in hops if step.query is not None] == [None, "parent", None, "nationality"]
    (only,) = followed([(NATIONS, [*hops[:3], answer])], family)
    assert (only.hop, only.goes_on) == ((True, "parent"), False)


def test_only_the_graph_of_a_question_counts() -> None:
    rows = [("A", "r", "B"), ("A", "s", "C"), ("B", "t", "D"), ("A", "u", "D")]
    graph = GraphStore.from_question_graphs({"one": rows[:2], "two": rows})
    for name, count in (("one", 2), ("two", 3)):
        (choice,) = made(question_of(("r",), ("B",), ("A",), graph_id=name), graph)
        assert set(choice.relations) == around(rows[: 2 * count - 2], "A")
        assert len(choice.relations) == count


def test_what_cannot_be_followed_is_passed_over(family: GraphStore) -> None:
    """Steps that no expert of this graph makes."""

    def follow(entity: str, relation: str | None) -> Step:
        return Step(think="", query=Query(operation=Operation.GET_TAIL_ENTITIES, entity=entity, relation=relation))

    steps = [
        follow("*", "parent"),  # nothing was found yet
        follow("Nobody", "parent"),
        follow("Ada", "nothing"),
        follow("Ada", None),
        follow("Ada", "parent"),
        Step(think="", answer=Answer(names=("*",))),
    ]
    (choice,) = choices([(NATIONS, steps)], family)
    assert choice.relations[choice.chosen] == (True, "parent")
    assert list(choices([], family)) == []


@given(
    st.lists(
        st.tuples(st.sampled_from("ABCDE"), st.sampled_from("rst"), st.sampled_from("ABCDE")), min_size=1, max_size=20
    ),
    st.sampled_from("ABCDE"),
    st.lists(st.tuples(st.booleans(), st.sampled_from("rst")), min_size=1, max_size=3),
)
def test_on_any_graph_a_chain_is_its_hops(rows: Rows, topic: str, path: list[DirectedRelation]) -> None:
    """Against a walk triple by triple."""
    graph = GraphStore.from_triples(rows)
    steps, expected, knew = [], [], []
    here = {topic}
    for place, (out, relation) in enumerate(path):
        operation = Operation.GET_TAIL_ENTITIES if out else Operation.GET_HEAD_ENTITIES
        query = Query(operation=operation, entity=topic if place == 0 else "*", relation=relation)
        steps.append(Step(think="", query=query))
        options = around(rows, *here)
        if len(options) > 1 and (out, relation) in options:
            expected.append((tuple(name for _, name in path[:place]), options, (out, relation)))
        if (out, relation) in options:
            knew.append(((tuple(path[:place]),), tuple(sorted(here)), place + 1 < len(path)))
        facts = [(h, t) if out else (t, h) for h, r, t in rows if r == relation]
        ends = {end for start, end in facts if start in here}
        here = ends - {topic} or ends  # the topic is asked about by its name
    question = question_of((), (), (topic,))
    found = [
        (choice.before, set(choice.relations), choice.relations[choice.chosen])
        for choice in choices([(question, steps)], graph)
    ]
    assert found == expected
    assert [(each.branches, each.here, each.goes_on) for each in followed([(question, steps)], graph)] == knew
