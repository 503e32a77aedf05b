from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_graphs import FAMILY, load_triples

from kgr1.datasets.cues import Cues
from kgr1.datasets.expert import Habits, Step, expert_dataset, expert_steps, misspell
from kgr1.datasets.paths import Hop, find_path, find_solutions, gold_f1, shortest_paths
from kgr1.datasets.phrasing import BRIEF, TEMPLATES, think
from kgr1.datasets.plain import load_questions
from kgr1.graph.api import KnowledgeGraph
from kgr1.graph.store import GraphStore
from kgr1.types import Answer, ErrorCode, GoldAnswer, Operation, Question


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


def solve(question: Question, graph: GraphStore, max_turns: int = 5, seed: int = 0, **more: bool) -> list[Step] | None:
    return expert_steps(question, graph, random.Random(seed), max_turns=max_turns, **more)


def test_a_two_hop_walk_lists_relations_before_it_follows_one(family: GraphStore) -> None:
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


def test_a_backward_hop_uses_the_head_operations(family: GraphStore) -> None:
    steps = solve(ask(("^about", "^wrote"), ("Ada", "Luigi"), ("Engine",)), family, max_turns=6)
    assert calls(steps)[:2] == ['get_head_relations("Engine")', 'get_head_entities("Engine", "about")']
    assert steps is not None
    assert steps[-1].answer is not None
    assert steps[-1].answer.names == ("Ada", "Luigi")


def test_who_looks_outwards_first_shows_why_a_hop_goes_backward(family: GraphStore) -> None:
    look = Habits(thoughts="brief", outwards_first=True)
    question = ask(("^about", "^wrote"), ("Ada", "Luigi"), ("Engine",))
    steps = expert_steps(question, family, random.Random(0), max_turns=9, habits=look)
    assert calls(steps) == [
        'get_tail_relations("Engine")',
        'get_head_relations("Engine")',
        'get_head_entities("Engine", "about")',
        'get_tail_relations("Notes")',
        'get_head_relations("Notes")',
        'get_head_entities("Notes", "wrote")',
        'get_head_entities("Sketch", "wrote")',
    ]
    assert steps is not None
    replay(question, steps, family, 9)
    assert [step.think for step in steps[:3]] == [
        "I list the relations first.",
        "Nothing fits, so I look inwards.",
        "One of these fits.",
    ]
    assert not any(step.mistake for step in steps)  # to be imitated
    forward = ask(("spouse", "nationality"), ("England",))
    plain = expert_steps(forward, family, random.Random(0), max_turns=5, habits=look)
    assert calls(plain) == calls(solve(forward, family))
    for seed in range(20):
        fixed = expert_steps(forward, family, random.Random(seed), max_turns=6, recovery=True, habits=look)
        assert not any(call.startswith("get_head") for call in calls(fixed))


def test_who_looks_outwards_first_gives_up_where_both_ways_have_the_relation() -> None:
    graph = GraphStore.from_triples([("a", "likes", "b"), ("b", "likes", "c")])
    question = ask(("^likes",), ("a",), ("b",))
    assert solve(question, graph) is not None
    habits = Habits(outwards_first=True)
    assert expert_steps(question, graph, random.Random(0), max_turns=7, habits=habits) is None


def test_branching_asks_every_entity_but_lists_relations_once(family: GraphStore) -> None:
    question = ask(("parent", "nationality"), ("England", "Scotland"))
    assert solve(question, family) is None
    steps = solve(question, family, max_turns=6)
    assert [c.split("(")[0] for c in calls(steps)].count("get_tail_relations") == 2
    assert calls(steps)[-2:] == [
        'get_tail_entities("Anne", "nationality")',
        'get_tail_entities("George", "nationality")',
    ]


def test_an_entity_without_the_relation_is_not_asked_for_it(family: GraphStore) -> None:
    # Of Ada's works and relatives only some have "wrote"; Anne is listed first and has none.
    question = ask(("parent", "wrote"), ("Childe Harold",))
    steps = solve(question, family, max_turns=6)
    assert calls(steps)[2:] == [
        'get_tail_relations("Anne")',
        'get_tail_relations("George")',
        'get_tail_entities("George", "wrote")',
    ]
    assert steps is not None
    replay(question, steps, family, 6)


def test_an_intersection_walks_both_branches(family: GraphStore) -> None:
    question = ask(("^nationality", "&", "^parent"), ("X",), ("England", "Ada"))
    assert solve(question, family) is None  # what the path gives is not the gold set
    question = ask(("^nationality", "&", "parent"), ("George",), ("England", "Ada"))
    steps = solve(question, family)
    assert calls(steps) == [
        'get_head_relations("England")',
        'get_head_entities("England", "nationality")',
        'get_tail_relations("Ada")',
        'get_tail_entities("Ada", "parent")',
    ]
    assert steps is not None
    assert steps[-1].answer == Answer(names=("George",))
    replay(question, steps, family, 5)


def test_a_wrong_gold_set_or_path_is_not_solved(family: GraphStore) -> None:
    assert solve(ask(("spouse", "nationality"), ("Scotland",)), family) is None
    assert solve(ask(("spouse", "nationality"), ("England", "Scotland")), family) is None
    assert solve(ask(("wrote", "nationality"), ("England",)), family) is None
    assert solve(ask(("spouse",), ("William",), ("Nobody",)), family) is None
    assert solve(ask(("spouse",), ()), family) is None
    assert solve(ask(("spouse",), ("William",), ()), family) is None
    assert solve(ask(("wrote", "&", "spouse"), ("William",)), family) is None  # two branches, one topic


def test_the_topic_is_left_out_where_the_gold_set_leaves_it_out(family: GraphStore) -> None:
    without = ask(("wrote", "about", "^about"), ("Sketch", "Notes"))
    assert solve(without, family, max_turns=7) is not None
    others = ask(("about", "^about"), ("Sketch",), ("Notes",))
    steps = solve(others, family)
    assert steps is not None
    assert steps[-1].answer == Answer(names=("Sketch",))


def test_without_a_gold_path_a_shortest_one_is_found(family: GraphStore) -> None:
    question = ask((), ("Luigi", "Ada"), ("Engine",))
    assert find_path(question, family) == (("Engine",), [(Hop("about", True), Hop("wrote", True))])
    steps = solve(question, family, max_turns=6)
    assert steps is not None
    replay(question, steps, family, 6)
    assert find_path(ask((), ("Scotland", "Engine")), family) == ((), [])
    assert find_path(question, family, max_queries=3) == ((), [])
    assert find_path(question, family, max_hops=1) == ((), [])


def test_one_of_several_entities_with_a_label_is_what_the_question_asks_for() -> None:
    """The graph shows them as ``label [id]``."""
    triples = [("France", "capital", "Q90"), ("Texas", "town", "Q830149"), ("Texas", "capital", "Q16559")]
    twins = GraphStore.from_triples(triples, labels={"Q90": "Paris", "Q830149": "Paris", "Q16559": "Austin"})
    for answers in (("Paris",), ("Paris [Q90]",), ("Q90",)):
        question = ask((), answers, ("France",))
        assert find_path(question, twins) == (("France",), [(Hop("capital"),)])
        assert shortest_paths(question, twins) == [(Hop("capital"),)]
        steps = solve(ask(("capital",), answers, ("France",)), twins)
        assert steps is not None
    other = GoldAnswer(label="Paris", id="Q830149")
    assert find_path(ask((), (), ("France",)).model_copy(update={"answers": (other,)}), twins) == ((), [])


def test_the_search_takes_any_topic_and_joins_two(family: GraphStore) -> None:
    assert find_path(ask((), ("Engine",), ("England", "Charles")), family) == (("Charles",), [(Hop("built"),)])
    question = ask((), ("George",), ("England", "Ada"))
    assert find_path(question, family) == (("England", "Ada"), [(Hop("nationality", True),), (Hop("parent"),)])
    steps = solve(question, family)
    assert steps is not None
    replay(question, steps, family, 5)


def test_among_equal_paths_the_words_of_the_question_decide() -> None:
    graph = GraphStore.from_triples([("a", "born in", "x"), ("a", "adopted by", "x")])
    question = ask((), ("x",), ("a",)).model_copy(update={"text": "Where was a born?"})
    assert find_path(question, graph) == (("a",), [(Hop("born in"),)])


def test_among_paths_without_such_words_the_one_along_the_relations_wins() -> None:
    graph = GraphStore.from_triples([("x", "about", "a"), ("a", "zone", "x")])
    assert find_path(ask((), ("x",), ("a",)), graph) == (("a",), [(Hop("zone"),)])


def test_questions_without_gold_paths_get_cues() -> None:
    triples = [(f"film{i}", relation, f"{relation} {i}") for i in range(40) for relation in ("director", "genre")]
    questions = [
        ask((), (f"{relation} {i}",), (f"film{i}",)).model_copy(
            update={"id": f"{relation}{i}", "text": f"{word} film{i}?"}
        )
        for i in range(40)
        for relation, word in (("director", "who shot"), ("genre", "what kind is"))
    ]
    dataset = expert_dataset(
        questions, GraphStore.from_triples(triples), count=30, seed=0, max_turns=5, recovery_share=0.0
    )
    words = {"director": "shot", "genre": "kind"}
    assert len(dataset) == 30
    assert all(f'"{words[question.id.rstrip("0123456789")]}"' in steps[1].think for question, steps in dataset)


def test_a_question_is_asked_with_all_its_topics_whichever_the_found_path_starts_at(family: GraphStore) -> None:
    question = ask((), ("Engine",), ("England", "Charles"))
    ((asked, steps),) = expert_dataset([question], family, count=1, seed=0, max_turns=5, recovery_share=0.0)
    assert asked == question
    assert calls(steps)[0] == 'get_tail_relations("Charles")'


def test_where_no_path_is_exact_the_best_one_is_answered_with() -> None:
    graph = GraphStore.from_triples([("Ada", "parent", "Anne"), ("Ada", "parent", "George"), ("Ada", "wrote", "Notes")])
    exact = ask((), ("Notes",)).model_copy(update={"id": "exact"})
    # Both parents, and only one is asked for: the older one, say.
    near = ask((), ("George",)).model_copy(update={"id": "near"})
    far = ask((), ("Lovelace",)).model_copy(update={"id": "far"})

    def walked(share: float) -> list[tuple[str, tuple[str, ...]]]:
        made = expert_dataset(
            [exact, near, far], graph, count=3, seed=0, max_turns=5, recovery_share=0.0, near_share=share
        )
        for question, steps in made:
            assert question in (exact, near, far)  # what was asked has not changed
            assert steps[-1].answer is not None
        return sorted((question.id, steps[-1].answer.names) for question, steps in made if steps[-1].answer)

    assert walked(0.0) == [("exact", ("Notes",))]
    assert walked(0.4) == [("exact", ("Notes",)), ("near", ("Anne", "George"))]


def test_the_best_way_is_exact_or_the_one_with_the_best_f1(family: GraphStore) -> None:
    def ends(question: Question, least: float) -> set[tuple[str, ...]]:
        return {tuple(sorted(end)) for end in find_solutions(question, family, least=least).values()}

    both = ask((), ("Anne", "George", "Zoe"))
    assert ends(both, 1.0) == set()
    assert ends(both, 0.8) == {("Anne", "George")}
    assert ends(both, 0.81) == set()
    assert ends(ask((), ("Anne", "George")), 0.1) == {("Anne", "George")}
    assert gold_f1({"Anne": "Anne", "George": "George"}, both.answers) == pytest.approx(0.8)
    assert gold_f1({}, both.answers) == gold_f1({"Ada": "Ada"}, both.answers) == 0.0


def test_relations_seen_before_can_be_reused_to_save_turns() -> None:
    graph = GraphStore.from_triples([("a", "next", "b"), ("b", "next", "c"), ("c", "next", "d")])
    question = ask(("next", "next", "next"), ("d",), ("a",))
    assert solve(question, graph) is None
    steps = solve(question, graph, reuse_relations=True)
    assert [c.split("(")[0] for c in calls(steps)] == ["get_tail_relations"] + 3 * ["get_tail_entities"]
    assert steps is not None
    replay(question, steps, graph, 5)
    full = solve(question, graph, max_turns=7, reuse_relations=True)
    assert len(full or []) == 7  # nothing is skipped where the full walk fits


def test_recovery_makes_every_kind_of_mistake_and_ends_well(family: GraphStore) -> None:
    question = ask(("spouse", "nationality"), ("England",))
    kinds: Counter[str] = Counter()
    for seed in range(60):
        steps = solve(question, family, max_turns=6, seed=seed, recovery=True)
        assert steps is not None
        replay(question, steps, family, 6)
        (wrong,) = [number for number, step in enumerate(steps) if step.mistake]
        query = steps[wrong].query
        assert query is not None
        (observation,) = family.execute([query])
        if query.operation.takes_relation:
            kinds["branch" if observation.ok else "relation"] += 1
        elif observation.error == ErrorCode.ENTITY_NOT_FOUND:
            kinds["name"] += 1
            assert steps[wrong + 1].query is not None
        else:
            kinds["direction"] += 1
            assert query.operation == Operation.GET_HEAD_RELATIONS
    assert set(kinds) == {"name", "relation", "branch", "direction"}
    assert solve(question, family, max_turns=5, recovery=True) is None


def test_thoughts_are_short_and_name_nothing_that_was_not_shown(family: GraphStore) -> None:
    entities = {node for head, _, tail in FAMILY for node in (head, tail)}
    questions = [
        ask(("spouse", "nationality"), ("England",)),
        ask(("parent", "nationality"), ("England", "Scotland")),
        ask(("^nationality", "&", "parent"), ("George",), ("England", "Ada")),
    ]
    starts = set()
    for question in questions:
        for seed in range(40):
            steps = solve(question, family, max_turns=7, seed=seed, recovery=seed % 2 == 1)
            assert steps is not None
            starts.add(steps[0].think)
            assert seed % 2 == 1 or question.topics[0] in steps[0].think
            for step in steps:
                assert 6 <= len(step.think.split()) <= 16
                assert not {name for name in entities - set(question.topics) if name in step.think}
    assert len(starts) > 6


def test_every_situation_has_several_wordings_and_braces_are_safe() -> None:
    rng = random.Random(0)
    for situation, templates in TEMPLATES.items():
        assert len(set(templates)) >= 2, situation
        text = think(situation, rng, topic="{relation}", relation="{cue}", cue="{0}")
        assert "{topic}" not in text


def test_every_situation_has_one_brief_wording() -> None:
    rng = random.Random(0)
    assert BRIEF.keys() == TEMPLATES.keys()
    for situation in BRIEF:
        text = think(situation, rng, relation="r", cue="word", time="1990", thoughts="brief")
        assert text == think(situation, rng, relation="r", cue="word", time="1990", thoughts="brief")
        assert len(text.split()) <= 10
        assert ("word" in text) == ("cue" in situation or situation == "guess_relation")


def test_a_result_that_the_backend_cut_is_not_trusted() -> None:
    triples = [("a", "r", f"x{i}") for i in range(9)]
    question = ask(("r",), tuple(f"x{i}" for i in range(9)), ("a",))
    assert solve(question, GraphStore.from_triples(triples)) is not None
    assert solve(question, GraphStore.from_triples(triples, max_results=5)) is None
    assert (
        expert_steps(question, GraphStore.from_triples(triples), random.Random(0), max_turns=5, max_answers=8) is None
    )


@given(name=st.text(min_size=1), seed=st.integers(0, 9))
def test_a_slip_is_never_the_name_itself(name: str, seed: int) -> None:
    assert misspell(name, random.Random(seed)) != name


def test_cues_are_learned_from_paths_and_ignore_what_speaks_for_another_relation() -> None:
    texts = [("darling of A", "spouse"), ("darling of A today", "spouse"), ("kid of A", "child"), ("kid of A", "child")]
    questions = [
        ask((relation,), ("x",)).model_copy(update={"text": text}) for text, relation in texts for _ in range(3)
    ]
    cues = Cues(questions)
    both = ask(("spouse", "child"), ("x",)).model_copy(update={"text": "kid of the darling of A"})
    assert cues.find(both, "spouse", both.gold_path) == "darling"
    assert cues.find(both, "child", both.gold_path) == "kid"
    assert cues.find(both, "nationality", both.gold_path) is None
    assert cues.find(both.model_copy(update={"text": "its nationalities"}), "nationality") == "nationalities"
    assert cues.find(both, "spouse", both.gold_path, used={"darling"}) is None


def test_no_word_of_the_question_is_quoted_for_two_hops() -> None:
    graph = GraphStore.from_triples([("a", "land of birth", "b"), ("b", "land next to it", "c")])
    question = ask(("land of birth", "land next to it"), ("c",), ("a",)).model_copy(
        update={"text": "a land and a land"}
    )
    steps = solve(question, graph, cues=Cues([question]))
    assert steps is not None
    assert ['"land"' in step.think for step in steps] == [False, True, False, False, False]


@pytest.mark.parametrize(
    ("name", "graph", "subset", "max_turns", "share"),
    [
        ("pathquestion", "kg-pq-2h.tsv.gz", "pq-2h", 5, 0.95),
        ("pathquestion", "kg-pq-3h.tsv.gz", "pq-3h", 7, 0.6),
        ("metaqa", "kg.tsv.gz", None, 5, 0.5),
        ("worldcup2014", "kg.tsv.gz", None, 5, 0.9),
    ],
)
def test_published_questions_are_solved_exactly(
    shared_data: Path, name: str, graph: str, subset: str | None, max_turns: int, share: float
) -> None:
    store = GraphStore.from_triples(load_triples(shared_data / name / graph))
    questions = load_questions(shared_data / name, split="train", subset=subset, limit=200, seed=0)
    solved = 0
    for question in questions:
        for recovery in (False, True):
            steps = expert_steps(question, store, random.Random(1), max_turns=max_turns, recovery=recovery)
            if steps is not None:
                replay(question, steps, store, max_turns)
                solved += not recovery
    assert solved >= share * len(questions)


def test_a_dataset_has_its_share_of_mistakes_and_is_repeatable(shared_data: Path) -> None:
    store = GraphStore.from_triples(load_triples(shared_data / "pathquestion" / "kg-pq-2h.tsv.gz"))
    questions = load_questions(shared_data / "pathquestion", split="train", subset="pq-2h")
    made = [
        expert_dataset(questions, store, count=100, seed=seed, max_turns=7, recovery_share=0.2) for seed in (0, 0, 1)
    ]
    assert made[0] == made[1] != made[2]
    assert len({question.id for question, _ in made[0]}) == 100
    assert sum(any(step.mistake for step in steps) for _, steps in made[0]) == 20
    thoughts = [step.think for _, steps in made[0] for step in steps]
    assert sum('which is "spouse" here' in text for text in thoughts) > 3  # words of the question are quoted
    short = expert_dataset(questions[:5], store, count=100, seed=0, max_turns=7, recovery_share=0)
    assert len(short) == 5
