"""The measures of published work: their definitions by hand, and what holds for any names."""

from __future__ import annotations

import json
import random
from datetime import date

import pytest
from eval_episodes import asked, played, question
from hypothesis import given, settings
from hypothesis import strategies as st

from kgr1.errors import EvaluationError
from kgr1.evaluation.metrics import EpisodeRow, columns, group_rows, pass_at_k
from kgr1.evaluation.variants import VARIANTS, rescore
from kgr1.rewards.answer import normalise
from kgr1.types import Episode, ErrorCode, StopReason

NASTY = st.sampled_from(
    [
        *("Washington, D.C.", "Good, Bad & Ugly, The", "2,5", "25", "1990-05-17", "", " ", "!!!", "The The", "a_b"),
        *(
            "İstanbul",
            "Zürich",
            "Zu\u0308rich",
            "\u202eRome",
            "東京",
            "{Paris}",
            "<script>",
            "Łódź",
            "ﬁne",
            "\x00",
            "a_b",
        ),
    ]
)
NAMES = st.lists(NASTY | st.text(max_size=8) | st.integers().map(str) | st.dates().map(date.isoformat), max_size=8)


def score(name: str, answers: list[str] | None, gold: list[str]) -> float:
    return VARIANTS[name](played(question(1, gold), answers))


def test_rog_counts_substrings_and_is_capped() -> None:
    # One line holds both golds: the published script gives P = 2.
    assert score("rog_f1", ["Paris and Rome"], ["Paris", "Rome"]) == 1.0
    assert score("rog_hit", ["Parisian cafés"], ["Paris"]) == 1.0
    assert score("rog_accuracy", ["Rome"], ["Paris", "Rome", "Oslo"]) == pytest.approx(1 / 3)
    assert score("rog_f1", ["Rome", "Bern"], ["Paris", "Rome"]) == pytest.approx(0.5)
    assert score("rog_hit", ["Pa", "ris"], ["Paris"]) == 0.0  # joined by a blank
    assert score("rog_accuracy", ["paris"], ["Paris", "PARIS!"]) == 1.0  # one distinct gold


def test_tog_takes_substrings_either_way() -> None:
    assert score("tog_em", ["New York"], ["new york city"]) == 1.0
    assert score("tog_em", ["it is NewYork, I think"], ["New York"]) == 1.0
    assert score("tog_em", ["the answer is {Oslo} or {Rome}"], ["Rome"]) == 0.0  # the first braces count
    assert score("tog_em", ["{}"], ["Rome"]) == 0.0  # empty text is a substring of everything
    assert score("tog_em", ["Bern"], ["Rome"]) == 0.0


def test_token_f1_is_a_bag_of_words() -> None:
    assert score("token_f1", ["Washington, D.C."], ["Washington DC"]) == 1.0
    assert score("token_f1", ["new york"], ["new york city"]) == pytest.approx(0.8)
    assert score("token_f1", ["york york"], ["york"]) == pytest.approx(2 / 3)


def test_hit_is_f1_above_zero() -> None:
    assert score("hit_f1", ["Bern", "Rome"], ["Rome", "Oslo"]) == 1.0
    assert score("hit_f1", ["Romeo"], ["Rome"]) == 0.0


def test_substring_retrieval_reads_what_was_shown() -> None:
    seen = asked("Greater Paris Area").model_copy(update={"information": "Greater Paris Area"})
    episode = played(question(1), None, turns=[seen])
    row = EpisodeRow.of(episode)
    assert (VARIANTS["substring_retrieval"](episode), row.retrieved) == (1.0, 0)
    failed = asked(error=ErrorCode.NO_RESULTS).model_copy(update={"information": "There is no Paris."})
    assert VARIANTS["substring_retrieval"](played(question(1), None, turns=[failed])) == 1.0
    assert VARIANTS["substring_retrieval"](played(question(1), ["Paris"])) == 0.0
    # Another system puts what it retrieved into prompts of its own.
    step = asked("Greater Paris").model_copy(update={"step": "retrieve"})
    assert VARIANTS["substring_retrieval"](played(question(1), None, turns=[step])) == 1.0
    assert (
        VARIANTS["substring_retrieval"](played(question(1), None, turns=[step.model_copy(update={"shown": 0})])) == 0.0
    )


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "substring_retrieval"])
def test_an_episode_that_did_not_answer_counts_zero(name: str) -> None:
    episode = played(question(1), ["Paris"], stop=StopReason.POLICY_ERROR)
    assert VARIANTS[name](episode) == 0.0
    assert score(name, [], ["Paris"]) == score(name, ["Paris"], []) == score(name, ["Paris"], ["", "!"]) == 0.0


def parsed(answers: list[str] | None, gold: list[str], parses: tuple[tuple[int, ...], ...]) -> Episode:
    return played(question(1, gold, parses=parses), answers)


def test_the_best_parse_counts() -> None:
    languages, parses = ["Jamaican English", "Jamaican Creole"], ((0,), (0, 1))
    f1, em = VARIANTS["best_parse_f1"], VARIANTS["best_parse_em"]
    one = parsed(["Jamaican English"], languages, parses)
    assert (EpisodeRow.of(one).score.f1, f1(one), em(one)) == (pytest.approx(2 / 3), 1.0, 1.0)
    other = parsed(["Jamaican Creole"], languages, parses)
    assert (f1(other), em(other)) == (pytest.approx(2 / 3), 0.0)
    apart = parsed(languages, languages, ((0,), (1,)))  # both readings at once are the answer to neither
    assert (EpisodeRow.of(apart).score.f1, f1(apart), em(apart)) == (1.0, pytest.approx(2 / 3), 0.0)
    assert f1(parsed([], languages, ((0,), ()))) == f1(parsed(None, languages, ((), (0,)))) == 0.0
    failed = played(question(1, languages, parses=parses), ["Jamaican English"], stop=StopReason.POLICY_ERROR)
    assert (f1(failed), em(failed)) == (0.0, 0.0)


@given(NAMES, NAMES, st.data())
@settings(max_examples=200, deadline=None)
def test_no_single_parse_is_better(answers: list[str], gold: list[str], data: st.DataObject) -> None:
    places = st.sampled_from(range(len(gold))) if gold else st.nothing()
    parses = data.draw(st.lists(st.lists(places, unique=True, max_size=len(gold)).map(tuple), max_size=4).map(tuple))
    episode = parsed(answers, gold, parses)
    score, exact = VARIANTS["best_parse_f1"](episode), VARIANTS["best_parse_em"](episode)
    single = [EpisodeRow.of(played(question(1, [gold[at] for at in parse]), answers)).score for parse in parses]
    assert 0.0 <= score <= 1.0
    assert all(score >= one.f1 and exact >= one.exact for one in single)
    if not single:
        single = [EpisodeRow.of(episode).score]
    assert (score, exact) == (max(one.f1 for one in single), any(one.exact for one in single))
    assert exact <= (score == 1.0)
    line = episode.model_dump_json()
    assert Episode.model_validate_json(line) == episode
    assert ("parses" in json.loads(line)["question"]) is bool(
        parses
    )  # one reading leaves no trace in what older versions read


def test_parses_are_positions_of_answers() -> None:
    with pytest.raises(ValueError, match="positions among the 1 answers"):
        question(1, ["a"], parses=((1,),))


def shuffled(names: list[str], seed: int) -> list[str]:
    return random.Random(seed).sample(names, len(names))


@given(NAMES, NAMES, st.integers(0, 5))
@settings(max_examples=200, deadline=None)
def test_bounds_and_order(answers: list[str], gold: list[str], seed: int) -> None:
    """Every metric is a share, and the order of golds changes none; that of answers only hit1 and joined texts."""
    episode, other = played(question(1, gold), answers), played(question(1, shuffled(gold, seed)), answers)
    for name, variant in VARIANTS.items():
        assert 0.0 <= variant(episode) <= 1.0, name
        assert variant(episode) == variant(other), name
    turned = played(question(1, gold), shuffled(answers, seed))
    assert [EpisodeRow.of(e).score.f1 for e in (turned, other)] == [EpisodeRow.of(episode).score.f1] * 2
    assert VARIANTS["token_f1"](turned) == VARIANTS["token_f1"](episode)
    assert VARIANTS["hit_f1"](episode) == float(EpisodeRow.of(episode).score.hit_any)


@given(NAMES)
@settings(max_examples=100, deadline=None)
def test_the_gold_labels_themselves_are_right_by_every_measure(names: list[str]) -> None:
    gold = list({normalise(name): name for name in names if normalise(name)}.values())
    episode = played(question(1, gold), gold)
    measures = {name: variant(episode) for name, variant in VARIANTS.items() if name != "substring_retrieval"}
    assert EpisodeRow.of(episode).score.exact == (EpisodeRow.of(episode).score.gold > 0)
    if EpisodeRow.of(episode).score.exact and not any("{" in name for name in gold):
        assert set(measures.values()) == {1.0}, measures


def test_a_thousand_answers() -> None:
    gold = [f"Title {n}, part {n % 7} ({1000 + n})" for n in range(1000)]
    said = gold[500:] + [f"Other {n}" for n in range(500)]
    episode = played(question(1, gold), said)
    assert EpisodeRow.of(episode).score.f1 == pytest.approx(0.5)
    assert VARIANTS["rog_accuracy"](episode) == pytest.approx(0.5)
    assert VARIANTS["rog_f1"](episode) == pytest.approx(0.5)


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=6), st.randoms())
@settings(max_examples=50, deadline=None)
def test_runs_in_any_order_give_the_same_numbers(right: list[list[bool]], rng: random.Random) -> None:
    episodes = [
        played(question(n), ["Paris"] if hit else ["Rome"], sample=s)
        for n, samples in enumerate(right)
        for s, hit in enumerate(samples)
    ]
    first = rescore(episodes, resamples=20)
    rng.shuffle(episodes)
    assert rescore(episodes, resamples=20) == first
    assert first.metrics["pass@3"].value == pytest.approx(sum(map(any, right)) / len(right))
    assert first.metrics["union_hit_any"].value >= first.metrics["hit_any"].value
    assert first.metrics["tog_em"].value == pytest.approx(first.metrics["hit1"].value)
    counts = [sum(samples) for samples in right]
    assert first.metrics["pass@2"].value == pytest.approx(sum(pass_at_k(3, c, 2) for c in counts) / len(counts))


def test_rescore_takes_names_and_refuses_unknown_ones() -> None:
    run: list[Episode] = [played(question(n), ["Paris"] if n else ["Rome"]) for n in range(4)]
    found = rescore(run, ["rog_hit", "f1"])
    assert list(found.metrics) == ["rog_hit", "f1"]
    assert (found.questions, found.episodes, found.metrics["f1"].value) == (4, 4, 0.75)
    assert set(rescore(run).metrics) == {*VARIANTS, *columns(list(group_rows(map(EpisodeRow.of, run)).values()))} - {
        "valid_queries"  # nothing was asked, so there is no share
    }
    for name in ("pass@2", "nonsense"):
        with pytest.raises(EvaluationError, match=f"no metric '{name}'.*rog_hit"):
            rescore(run, ["f1", name])
