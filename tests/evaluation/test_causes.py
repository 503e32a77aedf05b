"""What became of an episode, and how its calls of the graph ended."""

from __future__ import annotations

import pytest
from eval_episodes import asked, played, question

from kgr1.evaluation.causes import OUTCOMES, Cause, call_outcomes, cause
from kgr1.types import Episode, ErrorCode, Observation, Operation, Query, StopReason, Turn

TWO = ("Paris", "Rome")


def said(answers: list[str] | None, seen: tuple[str, ...] = ("Oslo",), stop: StopReason | None = None) -> Episode:
    return played(question(1, TWO), answers, turns=[asked(*seen)] if seen else [], stop=stop)


def alone(answers: list[str], seen: tuple[str, ...] = ()) -> Episode:
    """The last resort of a system: an answer from the model alone."""
    return said(answers, seen).model_copy(update={"fallback": True})


@pytest.mark.parametrize(
    ("episode", "expected"),
    [
        (said(["rome", "PARIS"]), Cause.RIGHT),
        (said(None, stop=StopReason.POLICY_ERROR), Cause.MODEL_FAILED),
        (said(None, stop=StopReason.GRAPH_ERROR), Cause.GRAPH_FAILED),
        (said(["Paris", "Rome"], stop=StopReason.GRAPH_ERROR), Cause.GRAPH_FAILED),
        (said(None), Cause.TURNS_USED_UP),
        (said(None, stop=StopReason.CONTEXT_FULL), Cause.CONTEXT_FULL),
        (said([]), Cause.NO_ANSWER),
        (said(["", " "]), Cause.NO_ANSWER),
        (said(["Rome"]), Cause.INCOMPLETE),
        (said(["Rome", "Paris", "Oslo"]), Cause.SURPLUS),
        (said(["Rome", "Oslo"]), Cause.MIXED),
        (said(["Oslo"], seen=("Paris", "Oslo")), Cause.NOT_PICKED),
        (said(["Oslo"], seen=()), Cause.NOT_ASKED),
        (alone(["oslo"]), Cause.FALLBACK),
        (alone(["oslo"], seen=("Paris", "Oslo")), Cause.FALLBACK),
        (alone(["Rome"]), Cause.INCOMPLETE),
        (alone(["Rome", "Paris"]), Cause.RIGHT),
        (alone([]), Cause.NO_ANSWER),
        (said(["oslo"]), Cause.WRONG_PATH),
        (said(["Bern"]), Cause.INVENTED),
    ],
    ids=lambda value: value.value if isinstance(value, Cause) else "",
)
def test_causes(episode: Episode, expected: Cause) -> None:
    assert cause(episode) is expected


def test_a_query_that_failed_is_no_use_of_the_graph() -> None:
    turn = asked(error=ErrorCode.ENTITY_NOT_FOUND)
    assert cause(played(question(1), ["Oslo"], turns=[turn])) is Cause.NOT_ASKED


def test_call_outcomes() -> None:
    turns = [asked("Paris"), asked("Paris"), asked(error=ErrorCode.NO_RESULTS), Turn(text="hm"), Turn(text="hm")]
    found = call_outcomes(played(question(1), ["Paris"], turns=turns))
    assert found == {"result": 1, "repeated": 1, "KG_NO_RESULTS": 1, "not a query": 2}
    assert set(found) <= {*OUTCOMES, *ErrorCode}
    assert call_outcomes(played(question(1), ["Paris"])) == {}


def test_a_query_that_the_graph_failed_on_is_a_query() -> None:
    turns = [asked("Rome"), asked("Paris").model_copy(update={"observation": None})]
    episode = played(question(1), None, turns=turns, stop=StopReason.GRAPH_ERROR)
    assert call_outcomes(episode) == {"result": 1}
    assert call_outcomes(played(question(1), None, turns=[*turns, Turn(text="hm")]))["not a query"] == 1


def with_ledger(episode: Episode, **outcomes: int) -> Episode:
    usage = episode.usage.model_copy(update={"graph_calls": sum(outcomes.values()), "graph_outcomes": outcomes})
    return episode.model_copy(update={"usage": usage})


def test_call_outcomes_are_those_of_the_ledger() -> None:
    """A query about all that was found is one turn and several calls."""
    turns = [asked("Paris"), asked("Rome"), Turn(text="hm")]
    episode = with_ledger(played(question(1), ["Paris"], turns=turns), ok=9, KG_NO_RESULTS=3)
    assert call_outcomes(episode) == {"result": 8, "repeated": 1, "KG_NO_RESULTS": 3, "not a query": 1}


def test_steps_of_other_systems_are_no_failed_queries() -> None:
    """What their method asks again is no repetition either."""
    thinking = Turn(text="relations: capital", step="prune relations")
    step = asked("Paris").model_copy(update={"step": "retrieve"})
    episode = played(question(1), ["Paris"], turns=[thinking, step, thinking, step])
    episode = with_ledger(episode.model_copy(update={"system": "tog"}), ok=2)
    assert call_outcomes(episode) == {"result": 2}
    alone = played(question(1), ["Paris"], turns=[thinking] * 7).model_copy(update={"system": "self-consistency"})
    assert call_outcomes(alone) == {}


def test_a_withheld_answer() -> None:
    nothing = said([]).model_copy(update={"withheld": ("Bern",)})
    assert cause(nothing) is Cause.WITHHELD
    assert cause(said(["Rome"]).model_copy(update={"withheld": ("Bern",)})) is Cause.INCOMPLETE


def test_the_same_words_about_what_was_found_ask_something_else() -> None:
    def about(entity: str, name: str) -> Turn:
        query = Query(operation=Operation.GET_TAIL_ENTITIES, entity=entity, relation="parent")
        seen = Observation(query=query, names=(name,), ids=(name,), total=1)
        return Turn(text="", query=query, observation=seen, shown=1)

    turns = [about("Ann", "Bob"), about("*", "Cid"), about("*", "Dan"), about("Ann", "Bob")]
    assert call_outcomes(played(question(1), ["Dan"], turns=turns)) == {"result": 3, "repeated": 1}
