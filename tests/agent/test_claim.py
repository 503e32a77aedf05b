"""Names of answers: how sure the agent is of them, what stands behind them, and which are withheld."""

from __future__ import annotations

import math

import pytest
from episode_parts import answer, ask, play
from hypothesis import given
from hypothesis import strategies as st

from kgr1.agent.claim import Claim, Doubt, doubt, probability, weigh, withhold
from kgr1.config import AgentSettings
from kgr1.graph.store import GraphStore
from kgr1.graph.temporal import UNDATED, parse_span
from kgr1.types import Answer, Episode, Question, StopReason, Triple, Turn

CAPITAL = ask('get_tail_entities("France", "capital")')
STRICT = AgentSettings(abstain=True)


def said(*names: str, logprobs: tuple[float, ...] = (), calls: tuple[str, ...] = (CAPITAL,)) -> Episode:
    """An episode that answers after its queries; the tokens of every turn have these log-probabilities."""
    listed = ", ".join(f'"{name}"' for name in names)
    episode = play([*calls, answer(f"[{listed}]")])
    turns = tuple(turn.model_copy(update={"logprobs": logprobs}) for turn in episode.turns)
    return episode.model_copy(update={"turns": turns})


def test_probability_of_what_was_written() -> None:
    episode = said("Paris", logprobs=(-1.0, -3.0))
    assert probability(episode) == pytest.approx(math.exp(-2))
    last = episode.turns[-1].model_copy(update={"logprobs": (0.0,)})
    mixed = episode.model_copy(update={"turns": (*episode.turns[:-1], last)})
    assert probability(mixed, "answer") == 1.0
    assert probability(mixed) == pytest.approx(math.exp(-4 / 3))
    assert probability(said("Paris")) is None
    assert probability(said("Paris", logprobs=(1e-9,))) == 1.0  # rounding of a sampler


def test_one_run() -> None:
    claims = weigh([said("Lyon", "Paris", logprobs=(-0.5,))])
    assert [claim.name for claim in claims] == ["Lyon", "Paris"]
    assert [claim.evidence for claim in claims] == [(), (Triple("France", "capital", "Paris"),)]
    assert [claim.confidence for claim in claims] == [pytest.approx(math.exp(-0.5))] * 2
    assert claims[1].id == "Paris"
    assert weigh([said("Paris")])[0].confidence is None


def test_the_dates_of_the_facts_are_told() -> None:
    facts = [("France", "capital", "Paris"), ("Ann", "lives in", "Paris"), ("Ann", "lives in", "Rome")]
    spans = [UNDATED, parse_span("2001", "2004"), parse_span("2005")]
    dated = GraphStore.from_triples(facts, spans=[span for span in spans if span])
    asked = Question(id="1", text="?", topics=("France", "Ann"), answers=())
    lives = ask('get_tail_entities("Ann", "lives in")')
    (paris, rome) = weigh([play([CAPITAL, lives, answer('["Paris", "Rome"]')], on=dated, question=asked)])
    assert dict(zip(paris.evidence, paris.times, strict=True)) == {
        Triple("France", "capital", "Paris"): (),
        Triple("Ann", "lives in", "Paris"): ("2001/2004",),
    }
    assert rome.times == (("2005",),)
    assert weigh([said("Paris")])[0].times == ()
    # The dates are those of the run that the facts are of.
    first = play([CAPITAL, answer('["Paris", "Rome"]')], on=dated, question=asked)
    runs = [first, play([lives, answer('["Rome"]')], on=dated, question=asked)]
    assert {claim.name: claim.times for claim in weigh(runs)} == {"Paris": (), "Rome": (("2005",),)}


def test_several_runs_are_weighed_by_agreement_and_probability() -> None:
    runs = [said("Paris", logprobs=(-0.5,)), said("paris", "Lyon", logprobs=(0.0,)), play([CAPITAL], max_turns=1)]
    found = {claim.name: claim for claim in weigh(runs)}
    assert found["Paris"].runs == 2
    assert found["Paris"].confidence == pytest.approx((math.exp(-0.5) + 1) / 3)
    assert found["Lyon"].confidence == pytest.approx(1 / 3)
    assert found["Paris"].evidence == (Triple("France", "capital", "Paris"),)
    # One run without log-probabilities: only the agreement is known.
    mixed = weigh([said("Paris", logprobs=(-0.5,)), said("Paris"), said("Lyon")])
    assert [(claim.name, claim.confidence) for claim in mixed] == [("Paris", 2 / 3), ("Lyon", 1 / 3)]
    assert weigh([]) == weigh([runs[2]]) == []


def test_evidence_comes_from_the_run_that_has_it() -> None:
    (claim,) = weigh([said("Paris", calls=()), said("Paris")])
    assert claim.evidence == (Triple("France", "capital", "Paris"),)


def test_doubts() -> None:
    fact = (Triple("France", "capital", "Paris"),)
    sure, unsure = Claim(name="a", evidence=fact, confidence=0.9), Claim(name="a", evidence=fact, confidence=0.8)
    picky = AgentSettings(min_confidence=0.9)
    assert [doubt(claim, picky) for claim in (sure, unsure)] == [None, Doubt.UNSURE]
    assert doubt(Claim(name="a", evidence=fact), picky) is Doubt.UNSURE
    assert doubt(Claim(name="a", confidence=1.0), STRICT) is Doubt.UNSUPPORTED
    assert doubt(Claim(name="a"), AgentSettings()) is None
    assert doubt(Claim(name="a", evidence=fact), STRICT) is None


def test_unsupported_names_are_dropped_and_named() -> None:
    episode = said("Lyon", "Paris", "Oslo")
    kept = withhold(episode, STRICT)
    assert (kept.answers, kept.answer_ids) == (("Paris",), ("Paris",))
    assert kept.withheld == ("Lyon", "Oslo")
    assert kept.evidence == episode.evidence == (Triple("France", "capital", "Paris"),)
    assert kept.turns == episode.turns  # what the model wrote stays
    assert kept.stop is StopReason.ANSWERED
    assert withhold(kept, STRICT) == kept
    assert Episode.model_validate_json(kept.model_dump_json()) == kept


def test_nothing_is_left_of_a_guess() -> None:
    kept = withhold(said("Oslo"), STRICT)
    assert (kept.answers, kept.answer_ids, kept.evidence, kept.withheld) == ((), (), (), ("Oslo",))


def test_off_changes_nothing() -> None:
    episode = said("Oslo", "Paris")
    assert withhold(episode, AgentSettings()) is episode
    unanswered = play([CAPITAL], max_turns=1)
    assert withhold(unanswered, STRICT) is unanswered


def test_unsure_answers_are_withheld_whole() -> None:
    episode = said("Paris", logprobs=(-0.5,))
    assert withhold(episode, AgentSettings(min_confidence=0.6)).answers == ("Paris",)
    assert withhold(episode, AgentSettings(min_confidence=0.7)).answers == ()
    assert withhold(said("Paris"), AgentSettings(min_confidence=0.1)).withheld == ("Paris",)
    # With several runs, their agreement counts.
    runs = [said("Paris"), said("Paris"), said("Paris", "Lyon", calls=())]
    both = runs[2].model_copy(update={"turns": runs[0].turns})
    assert withhold(both, AgentSettings(min_confidence=0.6), runs).answers == ("Paris",)


def test_a_system_that_did_not_use_the_graph_has_no_evidence() -> None:
    episode = said("Paris").model_copy(update={"fallback": True})
    assert withhold(episode, STRICT).answers == ()
    assert weigh([episode])[0].evidence == ()


NAMES = st.lists(st.sampled_from(["Paris", "paris", "Lyon", "Oslo", "France", ""]), max_size=4)


@given(NAMES, st.booleans(), st.floats(0, 1), st.lists(st.floats(-5, 0), max_size=3))
def test_withholding_splits_the_answer(names: list[str], strict: bool, least: float, logprobs: list[float]) -> None:
    turns = said("Paris").turns[:-1]
    end = Turn(text="", answer=Answer(names=tuple(names)), logprobs=tuple(logprobs))
    question = Question(id="1", text="?", topics=("France",), answers=())
    episode = Episode(question=question, turns=(*turns, end), stop=StopReason.ANSWERED, answers=tuple(names))
    agent = AgentSettings(abstain=strict, min_confidence=least)
    kept = withhold(episode, agent)
    assert sorted((*kept.answers, *kept.withheld)) == sorted(names)
    assert list(kept.answers) == [name for name in names if name in kept.answers]
    assert all(claim.evidence for claim in weigh([kept])) or not strict
    if least > 0:
        assert all((claim.confidence or 0) >= least for claim in weigh([kept]))
    assert withhold(kept, agent) == kept
