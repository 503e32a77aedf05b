"""Mixtures: every question is answered by its member, in its spelling, and nothing held out is trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgr1.datasets.expert import expert_dataset
from kgr1.datasets.mixture import HeldOut, HeldOutTopics, LeftOut, Mixture, Part, Source, load_recipe, mix, quotas
from kgr1.datasets.plain import load_questions
from kgr1.errors import DatasetError, SettingsError
from kgr1.graph.store import GraphStore
from kgr1.graph.temporal import UNDATED, parse_span
from kgr1.rewards.answer import normalise
from kgr1.types import GoldAnswer, Question

PEOPLE = [
    (f"person_{n}", relation, tail)
    for n in range(30)
    for relation, tail in (
        ("spouse", f"person_{(n + 1) % 30}"),
        ("place_of_birth", f"town_{n % 7}"),
        ("profession", f"trade_{n % 5}"),
    )
]


def asked(n: int, split: str = "train") -> Question:
    return Question(
        id=f"q{n}",
        text=f"where was person {n} 's spouse born",
        topics=(f"person_{n}",),
        answers=(GoldAnswer(label=f"town_{(n + 1) % 30 % 7}", id=f"town_{(n + 1) % 30 % 7}"),),
        split=split,
        gold_path=("spouse", "place_of_birth"),
    )


def mixed(**settings: object) -> Mixture:
    part = Part.model_validate({"name": "people", "graph": "-", "questions": "-"} | settings)
    questions = [asked(n, "test" if n % 10 == 0 else "dev" if n % 10 == 1 else "train") for n in range(30)]
    graph = GraphStore.from_triples(PEOPLE)
    return mix([Source(part, graph, questions if part.questions else ())], seed=3, max_turns=7)


def test_every_question_can_be_solved_in_the_spelling_of_its_member() -> None:
    mixture = mixed(entity_styles=["as_is", "title", "upper", "exchanged"], relation_styles=["as_is", "camel"])
    questions = mixture.questions["people"]
    assert len({question.graph_id for question in questions}) > 3
    solved = expert_dataset(questions, mixture.family, count=99, seed=0, max_turns=7, recovery_share=0.3)
    assert len(solved) == len(questions)
    spellings = {question.gold_path[1] for question in questions}
    assert spellings == {"place_of_birth", "placeOfBirth"}
    titles = [question for question in questions if question.graph_id and "~title" in question.graph_id]
    assert titles
    for question in titles:
        assert question.topics[0].startswith("Person ")
        assert question.topics[0].lower() in question.text


def test_exchanged_names_change_the_answer_with_the_question() -> None:
    mixture = mixed(entity_styles=["exchanged"])
    names = {name for triple in PEOPLE for name in (triple[0], triple[2])}
    moved = 0
    for question in mixture.questions["people"]:
        original = asked(int(question.id.rpartition("q")[2]))
        moved += question.topics != original.topics
        assert {question.topics[0], question.answers[0].label} <= names
        assert question.topics[0].replace("_", " ") in question.text
    assert moved > 10


def test_held_out_topics_and_texts_are_kept_out() -> None:
    mixture = mixed()
    topics = {topic for question in mixture.questions["people"] for topic in question.topics}
    assert topics == {f"person_{n}" for n in range(30) if n % 10 > 1}
    assert {question.split for question in mixture.others["people"]} == {"dev", "test"}
    fence = HeldOut([asked(0)])
    assert fence.holds(asked(0).model_copy(update={"topics": ("other",)}))
    assert fence.holds(asked(5).model_copy(update={"topics": ("PERSON 0",)}))
    assert not fence.holds(asked(5))


def test_made_questions_respect_what_other_parts_hold_out() -> None:
    graph = GraphStore.from_triples(PEOPLE)
    made = Part(name="made", graph="-", generate=60, hops=(1, 2))
    tests = [asked(n, "test") for n in range(0, 30, 2)]
    mixture = mix([Source(made, graph)], seed=0, max_turns=7, held_out=tests)
    questions = mixture.questions["made"] + mixture.others["made"]
    assert {question.split for question in questions} == {"train", "dev"}
    assert len(questions) > 20
    assert not {topic for question in questions for topic in question.topics} & {q.topics[0] for q in tests}
    without = mix([Source(made.model_copy(update={"skip_relations": ("sp*",)}), graph)], seed=0, max_turns=7)
    assert not any("spouse" in hop for q in without.questions["made"] for hop in q.gold_path)
    assert any("spouse" in hop for q in questions for hop in q.gold_path)


def test_a_question_in_other_names_is_no_held_out_one() -> None:
    mixture = mixed(entity_styles=["exchanged"])
    held_out = {normalise(asked(n).text) for n in range(30) if n % 10 < 2}
    assert not held_out & {normalise(question.text) for question in mixture.questions["people"]}
    # Nothing else is in the way of the 24 questions.
    assert mixture.dropped["people"] > 0
    assert mixture.dropped["people"] + len(mixture.questions["people"]) == 24


def walks(name: str, **settings: object) -> Source:
    """A part of made questions on the graph of people."""
    part = Part.model_validate({"name": name, "graph": "people.tsv", "generate": 60, "hops": (1, 2)} | settings)
    return Source(part, GraphStore.from_triples(PEOPLE))


def topics_of(questions: list[Question]) -> set[str]:
    return {topic for question in questions for topic in question.topics}


def test_what_measures_one_part_is_not_learned_by_another_on_its_graph() -> None:
    one, other = walks("one"), walks("other", entity_styles=["as_is", "exchanged"])
    mixture = mix([one, other], seed=1, max_turns=7)
    kept = topics_of(mixture.others["one"]) | topics_of(mixture.others["other"])
    assert len(kept) > 1
    assert not kept & topics_of(mixture.questions["one"])
    texts = {normalise(question.text) for found in mixture.others.values() for question in found}
    assert not texts & {normalise(question.text) for found in mixture.questions.values() for question in found}
    # A set has training questions wherever its split says so, and keeps them.
    topic = sorted(kept)[0]
    learned = asked(1).model_copy(update={"text": "Where is it?", "topics": (topic,)})
    people = Part(name="people", graph="people.tsv", questions="-")
    mixture = mix([Source(people, one.graph, [learned]), one, other], seed=1, max_turns=7)
    assert topics_of(mixture.questions["people"]) == {topic}
    assert topics_of(mixture.others["one"]) | topics_of(mixture.others["other"]) == kept - {topic}
    elsewhere = Source(people.model_copy(update={"graph": "else.tsv"}), one.graph, [learned])
    assert topic in topics_of(mix([elsewhere, one, other], seed=1, max_turns=7).others["one"])


def test_a_part_is_the_same_without_another() -> None:
    people = Part(name="people", graph="people.tsv", questions="-", entity_styles=("as_is", "exchanged", "upper"))
    questions = [asked(n, "test" if n % 5 == 0 else "train") for n in range(30)]
    first, second = walks("first"), walks("second", relation_styles=["as_is", "camel"], entity_styles=["exchanged"])
    whole = mix([first, Source(people, first.graph, questions), second], seed=3, max_turns=7)
    parts = {
        "people": mix([Source(people, first.graph, questions)], seed=3, max_turns=7, left_out=[LeftOut(first.part)]),
        "second": mix([second], seed=3, max_turns=7, left_out=[LeftOut(first.part), LeftOut(people, questions)]),
    }
    for name, left in parts.items():
        assert left.questions[name] == whole.questions[name]
        fewer = whole.draw_parts(20, 5)[name]
        assert 0 < len(fewer) < len(left.questions[name])
        assert left.draw_parts(20, 5)[name][: len(fewer)] == fewer
    alike = mix([walks("one"), walks("two")], seed=3, max_turns=7).questions
    assert {question.text for question in alike["one"]} != {question.text for question in alike["two"]}


def test_development_questions_are_of_the_split_that_is_named() -> None:
    graph = GraphStore.from_triples(PEOPLE)
    people = Part(name="people", graph="people.tsv", questions="-")
    questions = [asked(n, "test" if n % 10 == 0 else "valid" if n % 10 == 1 else "train") for n in range(30)]
    mixture = mix([Source(people, graph, questions), walks("made", graph="else.tsv")], seed=3, max_turns=7)
    for split in ("test", "valid"):
        drawn = mixture.draw_dev(99, 0, split)
        assert {(question.split, question.graph_id) for question in drawn} == {(split, "people")}
        assert len(drawn) == 3
    assert {question.graph_id for question in mixture.draw_dev(99, 0)} == {"made"}
    for unknown in ("train", "nonsense"):
        with pytest.raises(DatasetError, match=f"of a split '{unknown}' .* choose from dev, test, valid."):
            mixture.draw_dev(9, 0, unknown)
    alone = mix([Source(people, graph, [asked(1)])], seed=0, max_turns=5)
    with pytest.raises(DatasetError, match="none has another split"):
        alone.draw_dev(9, 0)


def test_questions_without_exact_rewards_are_left_out() -> None:
    graph = GraphStore.from_triples(PEOPLE)
    part = Part(name="people", graph="-", questions="-", max_answers=1)
    lost = asked(1).model_copy(update={"id": "lost", "answers": (GoldAnswer(label="nowhere"),)})
    two = asked(2).model_copy(update={"id": "two", "answers": (*asked(2).answers, *asked(3).answers)})
    mixture = mix([Source(part, graph, [asked(0), lost, two])], seed=0, max_turns=5)
    assert [question.id for question in mixture.questions["people"]] == ["people:q0"]
    assert mixture.dropped == {"people": 2}
    with pytest.raises(DatasetError, match="'people'"):
        mix([Source(part, graph, [lost])], seed=0, max_turns=5)


@pytest.mark.parametrize(("limits", "left"), [({"min_hops": 2}, {2, 3, None}), ({"max_hops": 2}, {1, 2, None})])
def test_questions_whose_answers_are_near_or_far_can_be_left_out(limits: dict[str, int], left: set[int | None]) -> None:
    part = Part(name="people", graph="-", questions="-", **limits)
    questions = [asked(n).model_copy(update={"hops": hops}) for n, hops in ((2, 1), (3, 2), (4, 3), (5, None))]
    mixture = mix([Source(part, GraphStore.from_triples(PEOPLE), questions)], seed=0, max_turns=7)
    assert {question.hops for question in mixture.questions["people"]} == left
    assert mixture.dropped == {"people": 1}


def test_the_same_arguments_give_the_same_questions() -> None:
    first, second = (mixed(entity_styles=["snake", "exchanged"]) for _ in range(2))
    assert first.questions == second.questions
    assert first.draw(7, 1) == second.draw(7, 1) != first.draw(7, 2)


@given(
    st.integers(0, 200),
    st.dictionaries(st.text(min_size=1, max_size=3), st.tuples(st.floats(0.1, 9), st.integers(0, 50)), max_size=6),
)
def test_quotas_use_everything_and_no_more(count: int, parts: dict[str, tuple[float, int]]) -> None:
    pools = {name: [None] * size for name, (_, size) in parts.items()}
    shares = quotas(count, {name: weight for name, (weight, _) in parts.items()}, pools)
    assert sum(shares.values()) == min(count, sum(map(len, pools.values())))
    assert all(0 <= shares[name] <= len(pools[name]) for name in pools)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("[[part]]\nname = 'a'", SettingsError, "part.0.graph"),
        ("[[part]]\nname = 'a/b'\ngraph = 'g'", SettingsError, "part.0.name"),
        ("[[part]]\nname = 'a'\ngraph = 'g'\nstyles = []", SettingsError, "unknown key 'part.0.styles'"),
        ("[[part]]\nname = 'a'\ngraph = 'g'\n[[part]]\nname = 'a'\ngraph = 'h'", DatasetError, "same name"),
        ("part = [", SettingsError, "not valid TOML"),
        ("", SettingsError, "part"),
    ],
)
def test_a_wrong_recipe_is_explained(text: str, error: type[Exception], message: str, tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(error, match=message):
        load_recipe(path)


def test_a_part_of_incomplete_questions_asks_for_what_the_graph_has() -> None:
    graph = GraphStore.from_triples(PEOPLE)
    part = Part(name="people", graph="-", questions="-", incomplete=True)
    elsewhere = GoldAnswer(label="nowhere")
    half = asked(1).model_copy(update={"id": "half", "answers": (*asked(1).answers, elsewhere)})
    none = asked(2).model_copy(update={"id": "none", "answers": (elsewhere,)})
    mixture = mix([Source(part, graph, [asked(0), half, none])], seed=0, max_turns=5)
    assert [(q.id, q.answers) for q in mixture.questions["people"]] == [("people:half", asked(1).answers)]


def test_topics_that_another_graph_holds_out_can_be_allowed() -> None:
    graph = GraphStore.from_triples(PEOPLE)
    mine = Part(name="mine", graph="mine.tsv", questions="-")
    same, other = mine.model_copy(update={"name": "same"}), mine.model_copy(update={"name": "b", "graph": "b.tsv"})
    reworded = {"text": "Another text"}
    sources = [
        Source(mine, graph, [asked(n) for n in range(6)]),
        Source(same, graph, [asked(0, "test").model_copy(update=reworded), asked(20)]),
        Source(other, graph, [asked(1, "test").model_copy(update=reworded), asked(2, "test"), asked(21)]),
    ]
    held_out = [asked(3).model_copy(update=reworded), asked(4)]

    def left(topics: HeldOutTopics, parts: int = 3) -> list[str]:
        without = [LeftOut(source.part, source.questions) for source in sources[parts:]]
        mixture = mix(sources[:parts], seed=0, max_turns=5, held_out=held_out, held_out_topics=topics, left_out=without)
        return [question.id for question in mixture.questions["mine"]]

    # The topic of a test on the same graph and the texts of all tests are kept out, also of parts that are left out.
    for parts in (3, 2, 1):
        assert left("all", parts) == ["mine:q5"]
        assert left("graph", parts) == ["mine:q1", "mine:q3", "mine:q5"]


def test_unknown_styles_are_explained() -> None:
    with pytest.raises(DatasetError, match="as_is, exchanged, spaced"):
        mixed(entity_styles=["roman"])
    with pytest.raises(DatasetError, match="camel"):
        mixed(relation_styles=["exchanged"])


@pytest.mark.parametrize(("folder", "subset"), [("pathquestion", "pq-2h"), ("webqsp-cwq", "webqsp")])
def test_published_sets_mix_without_a_leak(folder: str, subset: str, shared_data: Path) -> None:
    questions = load_questions(shared_data / folder, subset=subset)
    with GraphStore.from_triples(_triples(shared_data / folder / "kg.tsv.gz")) as graph:
        part = Part(name="part", graph="-", questions="-", entity_styles=("as_is", "lower"), relation_styles=("snake",))
        mixture = mix([Source(part, graph, questions)], seed=0, max_turns=7)
        fence = HeldOut(question for question in questions if question.split != "train")
        originals = {question.id: question for question in questions}
        chosen = mixture.questions["part"]
        assert len(chosen) > 200
        for question in chosen:
            original = originals[question.id.partition(":")[2]]
            assert original.split == "train"
            assert not fence.holds(original)
        walked = expert_dataset(chosen[:60], mixture.family, count=60, seed=0, max_turns=9, recovery_share=0.2)
        assert len(walked) > 30  # in the published sets some gold paths give more than the gold answers


def _triples(path: Path) -> list[tuple[str, str, str]]:
    import gzip

    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [(head, relation, tail) for head, relation, tail in (line.rstrip("\n").split("\t") for line in lines)]


def test_parts_say_which_kinds_are_made_and_of_what() -> None:
    prizes = [(f"person_{n}", "prize", f"cup_{n % 4}") for n in range(30) for _ in range(2)]
    years = [span for n in range(30) for span in (parse_span(str(1990 + n % 9)), parse_span(str(2001 + n % 3)))]
    dated = GraphStore.from_triples(
        [*prizes, *((f"cup_{n}", "gold", f"medal_{n}") for n in range(4))],
        spans=[span for span in [*years, *[UNDATED] * 4] if span is not None],
    )
    part = Part(name="prizes", graph="-", generate=30, hops=(1, 2), kinds=("temporal",), skip_relations=("go*",))
    styled = part.model_copy(update={"entity_styles": ("upper", "exchanged"), "relation_styles": ("upper",)})
    for each in (part, styled):
        mixture = mix([Source(each, dated)], seed=7, max_turns=7)
        questions = mixture.questions["prizes"]
        assert len(questions) > 5
        for question in questions:
            assert (question.kind, question.gold_path[1][0], len(question.gold_path)) == ("temporal", "@", 2)
        solved = expert_dataset(questions, mixture.family, count=99, seed=0, max_turns=7, recovery_share=0.3)
        assert len(solved) == len(questions)
        assert all(any(step.query and step.query.time for step in steps) for _, steps in solved)
    with pytest.raises(DatasetError, match="'people' asks for temporal questions, and its graph has no dates"):
        mixed(questions=None, kinds=["temporal"])
    with pytest.raises(DatasetError, match="chain, shared, intersection, mediator, temporal"):
        mixed(questions=None, kinds=["star"])
