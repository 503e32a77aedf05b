"""The normaliser and the set F1, against hand-worked cases and two independent matchers."""

from __future__ import annotations

import time
import unicodedata

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from kgr1.rewards.answer import AnswerScore, GoldIndex, normalise, score_answers
from kgr1.types import GoldAnswer

NAMES = ["Paris", "the Paris", "PARIS", "Lyon", "City of Light", "Big Apple", "New York", "new_york", "Rome", "!!!", ""]


def gold(*labels: str) -> list[GoldAnswer]:
    return [GoldAnswer(label=label) for label in labels]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Washington, D.C.", "washington dc"),
        ("The Beatles", "beatles"),
        ("A Tale of  Two\tCities", "tale of two cities"),
        ("Jean_Luc", "jean luc"),
        ("__init__", "init"),
        ("Ｐａｒｉｓ", "paris"),  # full width
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("ﬁlm", "film"),  # ligature
        ("Cafe\u0301", "café"),  # combining accent
        ("L´Aquila", "laquila"),
        ("L’Aquila", "laquila"),
        ("¿Qué?", "qué"),
        ("東京。", "東京"),
        ("Σίσυφος", "σίσυφοσ"),
        ("zero\u200bwidth", "zerowidth"),
        ("\u00a0 Paris\u2003Texas ", "paris texas"),
        ("Paris (Texas)", "paris texas"),
        ("C++", "c"),
        ("Nan", "nan"),  # an article inside a word stays
        ("Athens", "athens"),
        ("The", "the"),  # nothing would be left
        ("The The", "the the"),
        ("a", "a"),
        ("!!!", "!!!"),
        ("… !", "... !"),
        ("_", "_"),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


@given(st.text())
@settings(max_examples=400, deadline=None)
def test_normalise_is_idempotent_and_keeps_something(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert bool(once) == bool(unicodedata.normalize("NFKC", text).strip())


@given(st.text(alphabet=st.characters(max_codepoint=127)))
@settings(max_examples=300, deadline=None)
def test_ascii_shortcut_equals_the_general_way(text: str) -> None:
    # A leading word that is not ASCII forces the general way.
    plain = normalise(text)
    general = normalise("é " + text)
    if normalise("x " + text) == "x":  # only articles or punctuation: the original is kept on its own
        assert general == "é"
    else:
        assert general == f"é {plain}"


@given(st.text(max_size=12))
@settings(max_examples=300, deadline=None)
def test_case_composition_and_underscores_do_not_matter(text: str) -> None:
    assert normalise(unicodedata.normalize("NFD", text)) == normalise(unicodedata.normalize("NFC", text))
    assert normalise(f"x {text} y".replace(" ", "_")) == normalise(f"x {text} y")


def test_hand_worked_scores() -> None:
    paris = GoldAnswer(label="Paris", id="Q90", aliases=("City of Light",))
    rome = GoldAnswer(label="Rome", id="Q220")
    assert score_answers(["paris"], [paris]).exact
    half = score_answers(["Paris", "Lyon"], [paris, rome])
    assert (half.precision, half.recall, half.f1) == (0.5, 0.5, 0.5)
    assert (half.hit1, half.hit_any, half.exact) == (True, True, False)
    late = score_answers(["Lyon", "Rome"], [paris, rome])
    assert (late.hit1, late.hit_any) == (False, True)
    three = score_answers(["Rome", "Paris", "Lyon", "Nice"], [paris, rome])
    assert (three.precision, three.recall, three.f1) == (0.5, 1.0, 4 / 6)


def test_names_of_one_entity_count_once() -> None:
    paris = GoldAnswer(label="Paris", id="Q90", aliases=("City of Light",))
    score = score_answers(["Paris", "City of Light"], [paris])
    assert (score.precision, score.recall, score.matched) == (0.5, 1.0, 1)


def test_predictions_are_distinct_by_normal_form_and_blank_ones_are_dropped() -> None:
    score = score_answers(["", "Paris", "the paris!", "  ", "PARIS"], gold("Paris"))
    assert (score.predicted, score.exact, score.hit1) == (1, True, True)


def test_gold_is_unique_by_id_or_label() -> None:
    same = [GoldAnswer(label="NYC", id="Q60"), GoldAnswer(label="New York City", id="Q60"), *gold("Rome", "the Rome")]
    assert len(GoldIndex(same)) == 2
    assert score_answers(["New York City", "Rome"], same).exact
    different = [GoldAnswer(label="Paris", id="Q90"), GoldAnswer(label="Paris", id="Q830149")]
    score = score_answers(["Paris"], different)
    assert (score.gold, score.matched) == (2, 1)
    assert len(GoldIndex(gold("", " "))) == 0


def test_ids_match_where_names_do_not() -> None:
    paris = GoldAnswer(label="Paris", id="Q90")
    assert score_answers(["Lutetia"], [paris], ["Q90"]).exact
    assert not score_answers(["Lutetia"], [paris], [None]).hit_any
    assert score_answers(["m.04j60kc"], [GoldAnswer(label="", id="m.04j60kc")]).exact  # a nameless node
    with pytest.raises(ValueError, match="2 ids were given for 1"):
        score_answers(["Lutetia"], [paris], ["Q90", None])


def test_one_of_several_entities_with_a_label_is_right_where_the_gold_has_no_id() -> None:
    """The graph shows them as ``label [id]``, and a question set that has no ids cannot mean a certain one."""
    assert score_answers(["Paris [m.p1]"], gold("Paris"), ["m.p1"]).exact
    both = score_answers(["Paris [m.p1]", "Paris [m.p2]"], gold("Paris"), ["m.p1", "m.p2"])
    assert (both.matched, both.predicted) == (1, 2)
    assert not score_answers(["Paris [m.p1]"], [GoldAnswer(label="Paris", id="m.p2")], ["m.p1"]).hit_any
    assert not score_answers(["Paris [m.p1]"], gold("Paris"), [None]).hit_any  # the graph did not show this name
    assert not score_answers(["Paris [m.p1]"], gold("Paris"), ["m.p2"]).hit_any
    named = [GoldAnswer(label="Paris", id="Paris")]  # as a file of questions with names for answers is read
    assert score_answers(["Paris [m.p1]"], named, ["m.p1"]).exact
    assert not score_answers(["Paris [m.p1]"], named, ["m.p2"]).hit_any


def test_a_choice_is_made_for_the_best_total() -> None:
    # "Springfield" fits both; greedy matching would waste it on the entity that only the id can name.
    entities = [
        GoldAnswer(label="Springfield", id="Q1"),
        GoldAnswer(label="Springfield", id="Q2", aliases=("Springfield, Ohio",)),
    ]
    score = score_answers(["Springfield, Ohio", "Springfield"], entities)
    assert score.exact
    assert score_answers(["Springfield", "Springfield, Ohio"], entities).exact


@pytest.mark.parametrize(("predicted", "labels"), [([], ["Paris"]), (["Paris"], []), ([], []), (["", " "], ["Paris"])])
def test_nothing_scores_zero(predicted: list[str], labels: list[str]) -> None:
    score = score_answers(predicted, gold(*labels))
    assert (score.precision, score.recall, score.f1, score.hit1, score.hit_any, score.exact) == (0, 0, 0, 0, 0, 0)


entity = st.builds(
    GoldAnswer,
    label=st.sampled_from(NAMES),
    id=st.sampled_from([None, "Q1", "Q2", "Q3"]),
    aliases=st.lists(st.sampled_from(NAMES), max_size=3).map(tuple),
)
prediction = st.tuples(st.sampled_from(NAMES), st.sampled_from([None, None, "Q1", "Q2", "Q3"]))


def naive_score(predicted: list[tuple[str, str | None]], answers: list[GoldAnswer]) -> tuple[float, float, float, int]:
    """Precision, recall, F1 and matching size from the definitions, on a dense table."""
    entities: dict[object, tuple[set[str], str | None]] = {}
    for answer in answers:
        forms = {normalise(n) for n in [answer.label, *answer.aliases] if normalise(n)}
        key = ("id", answer.id) if answer.id else ("label", normalise(answer.label))
        if answer.id or forms:
            entities.setdefault(key, (set(), answer.id))[0].update(forms)
    listed: dict[str, set[str | None]] = {}
    for name, identifier in predicted:
        if normalise(name):
            listed.setdefault(normalise(name), set()).add(identifier)
    if not entities or not listed:
        return 0.0, 0.0, 0.0, 0
    table = np.array(
        [
            [float(form in forms or (known is not None and known in ids)) for forms, known in entities.values()]
            for form, ids in listed.items()
        ]
    )
    rows, cols = linear_sum_assignment(table, maximize=True)
    size = int(table[rows, cols].sum())
    graph = nx.Graph([(("p", i), ("g", j)) for i, j in zip(*np.nonzero(table), strict=True)])
    found = nx.bipartite.hopcroft_karp_matching(graph, [n for n in graph if n[0] == "p"]) if graph else {}
    assert size == len(found) // 2
    p, r = size / len(listed), size / len(entities)
    return p, r, (2 * p * r / (p + r) if size else 0.0), size


@given(st.lists(prediction, max_size=8), st.lists(entity, max_size=6))
@settings(max_examples=400, deadline=None)
def test_agrees_with_independent_matchers(predicted: list[tuple[str, str | None]], answers: list[GoldAnswer]) -> None:
    score = score_answers([name for name, _ in predicted], answers, [identifier for _, identifier in predicted])
    p, r, f1, size = naive_score(predicted, answers)
    assert (score.precision, score.recall, score.matched) == (p, r, size)
    assert score.f1 == pytest.approx(f1)
    assert score.exact == (p == r == 1.0)
    assert score.hit_any == (size > 0)


@given(st.lists(prediction, max_size=8), st.lists(entity, max_size=6), st.randoms())
@settings(max_examples=200, deadline=None)
def test_bounds_and_order(predicted: list[tuple[str, str | None]], answers: list[GoldAnswer], random: object) -> None:
    def score(pairs: list[tuple[str, str | None]], entities: list[GoldAnswer]) -> AnswerScore:
        return score_answers([n for n, _ in pairs], entities, [i for _, i in pairs])

    first = score(predicted, answers)
    assert 0 <= first.f1 <= 1
    assert 0 <= first.precision <= 1
    assert 0 <= first.recall <= 1
    assert min(first.precision, first.recall) <= first.f1 + 1e-12 <= max(first.precision, first.recall) + 1e-9
    assert first.exact <= first.hit1 <= first.hit_any
    mixed, entities = list(predicted), list(answers)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    random.shuffle(entities)  # type: ignore[attr-defined]
    other = score(mixed, entities)
    assert first.model_copy(update={"hit1": other.hit1}) == other


def test_a_thousand_answers_stay_fast() -> None:
    clear = gold(*(f"name {i}" for i in range(1000)))
    shared = [GoldAnswer(label=f"name {i}", aliases=("common", f"name {i + 1}")) for i in range(1000)]
    started = time.perf_counter()
    assert score_answers([f"Name {i}!" for i in range(1000)], clear).exact
    tangled = score_answers([f"Name {i}!" for i in range(1000)] + ["common"], shared)
    assert (tangled.matched, tangled.predicted) == (1000, 1001)
    worst = [GoldAnswer(label=f"g {i}", aliases=tuple(f"x {j}" for j in range(300))) for i in range(300)]
    assert score_answers([f"x {j}" for j in range(300)], worst).exact
    assert time.perf_counter() - started < 4
