"""Turn rewards of SPEC section 4."""

from __future__ import annotations

import pytest
from reward_episodes import answer_turn, episode, query_turn

from kgr1.config import RewardSettings
from kgr1.rewards.turn import turn_rewards, v_ans, v_fmt, v_kg
from kgr1.types import ErrorCode, Operation, Turn

DEFAULT = RewardSettings()


def test_a_perfect_episode() -> None:
    relations = query_turn(["capital"], operation=Operation.GET_TAIL_RELATIONS)
    rewards = turn_rewards(episode(relations, query_turn(["Paris"]), answer_turn("Paris")), DEFAULT)
    assert [(r.fmt, r.kg, r.ans) for r in rewards] == [(1, 1, 0), (1, 1, 0), (1, 0, 1)]
    assert [r.total for r in rewards] == [1.0, 1.0, 1.0]


def test_weights_are_applied() -> None:
    settings = RewardSettings(w_fmt=1, w_kg=10, w_ans=100)
    rewards = turn_rewards(episode(query_turn(["Paris"]), answer_turn("Paris")), settings)
    assert [r.total for r in rewards] == [11.0, 101.0]
    assert turn_rewards(episode(), settings) == ()


def test_v_fmt_needs_one_action() -> None:
    assert v_fmt(query_turn(["Paris"])) == v_fmt(answer_turn("Paris")) == 1
    assert v_fmt(query_turn(["Paris"], well_formed=False)) == 0
    assert v_fmt(Turn(text="<think>x</think>", well_formed=True)) == 0
    both = query_turn(["Paris"]).model_copy(update={"answer": answer_turn("Paris").answer})
    assert v_fmt(both) == 0


@pytest.mark.parametrize("code", list(ErrorCode))
def test_v_kg_of_an_error_is_zero(code: ErrorCode) -> None:
    assert v_kg(query_turn(error=code)) == 0


def test_v_kg_of_an_empty_or_missing_result_is_zero() -> None:
    assert v_kg(query_turn([])) == 0
    assert v_kg(query_turn(["Paris"]).model_copy(update={"observation": None})) == 0
    assert v_kg(answer_turn("Paris")) == 0


def test_a_repeated_query_earns_nothing() -> None:
    first, other = query_turn(["Paris"]), query_turn(["Berlin"], entity="Germany")
    rewards = turn_rewards(episode(first, other, first, answer_turn("Paris")), DEFAULT)
    assert [r.kg for r in rewards] == [1, 1, 0, 0]
    assert rewards[2].fmt == 1


def test_a_repeat_in_other_words_is_a_repeat() -> None:
    plain = query_turn(["Paris"], entity="France")
    shouted = query_turn(["Paris"], entity="FRANCE", resolved="France")
    again = query_turn(["Paris"], entity="FRANCE", resolved="France")
    assert v_kg(shouted, [plain]) == v_kg(plain, [shouted]) == v_kg(again, [shouted]) == 0
    elsewhere = query_turn(["Paris"], entity="france", resolved="France (Texas)")
    assert v_kg(elsewhere, [plain]) == 1


def test_another_operation_or_relation_is_no_repeat() -> None:
    first = query_turn(["Paris"])
    assert v_kg(query_turn(["Paris"], operation=Operation.GET_HEAD_ENTITIES), [first]) == 1
    assert v_kg(query_turn(["Paris"], relation="largest city"), [first]) == 1


def test_another_page_or_time_is_no_repeat() -> None:
    first = query_turn(["Paris"])

    def asked(**changes: object) -> Turn:
        assert first.query is not None
        assert first.observation is not None
        query = first.query.model_copy(update=changes)
        observation = first.observation.model_copy(update={"query": query})
        return first.model_copy(update={"query": query, "observation": observation})

    turns = [asked(limit=50), asked(limit=50, offset=50), asked(limit=50, offset=50), asked(time="2014"), asked()]
    turns += [asked(time="2014"), asked(time="2014", limit=50, offset=50)]
    assert [reward.kg for reward in turn_rewards(episode(*turns), DEFAULT)] == [1, 1, 0, 1, 0, 0, 1]


def test_a_query_that_failed_was_asked() -> None:
    failed = query_turn(error=ErrorCode.SERVER_ERROR)
    assert v_kg(query_turn(["Paris"]), [failed]) == 0


def test_the_graph_id_the_server_fills_in_does_not_hide_a_repeat() -> None:
    first = query_turn(["Paris"])
    assert first.observation is not None
    scoped = first.observation.query.model_copy(update={"graph_id": "g7"})
    second = query_turn(["Paris"]).model_copy(
        update={"observation": first.observation.model_copy(update={"query": scoped})}
    )
    assert v_kg(second, [first]) == 0


def test_v_ans_looks_at_the_final_turn_only() -> None:
    early = turn_rewards(episode(answer_turn("Paris"), query_turn(["Paris"])), DEFAULT)
    assert [r.ans for r in early] == [0, 0]
    assert v_ans(answer_turn("Paris", well_formed=False), final=True) == 1
    assert v_ans(Turn(text="Paris"), final=True) == 0


def found_turn(*results: str, relation: str = "r", page: int = 1) -> Turn:
    """A query about what was found, each result of one member."""
    turn = query_turn(results, entity="*", relation=relation)
    assert turn.query is not None
    assert turn.observation is not None
    query = turn.query.model_copy(update={"offset": 9 * (page - 1), "limit": 9})
    part = turn.observation.model_copy(update={"query": query.model_copy(update={"entity": "member"})})
    observation = turn.observation.model_copy(update={"query": query})
    return turn.model_copy(update={"query": query, "observation": observation, "expanded": (part,)})


def earned(*turns: Turn) -> list[int]:
    return [reward.kg for reward in turn_rewards(episode(*turns), DEFAULT)]


def test_what_was_found_is_something_else_after_every_result() -> None:
    listing = query_turn(["r"], entity="*", operation=Operation.GET_TAIL_RELATIONS)
    assert earned(listing, listing) == [1, 0]
    # The parent of the parent: the same words, and not the same question.
    assert earned(query_turn(["B"]), listing, found_turn("C"), listing, found_turn("D")) == [1, 1, 1, 1, 1]
    # What brought nothing changed nothing.
    nothing = query_turn(entity="*", relation="r", error=ErrorCode.NO_RESULTS)
    again = found_turn("C").model_copy(update={"query": nothing.query})
    assert earned(query_turn(["B"]), nothing, again) == [1, 0, 0]
    unseen = found_turn("C").model_copy(update={"shown": 0, "expanded": ()})
    assert earned(query_turn(["B"]), unseen, unseen) == [1, 1, 0]
    # A topic is the same all the time.
    assert earned(query_turn(["B"]), found_turn("C"), query_turn(["B"])) == [1, 1, 0]


def test_another_page_of_what_was_found_is_no_repeat_but_the_same_page_is() -> None:
    one, two = found_turn("B"), found_turn("C", page=2)
    assert earned(query_turn(["A"]), one, two, two) == [1, 1, 1, 0]
    assert earned(query_turn(["A"]), one, two, found_turn("D"), two, two) == [1, 1, 1, 1, 1, 0]


def test_relations_of_both_directions_are_asked_for_once() -> None:
    outwards = query_turn(["r"], operation=Operation.GET_TAIL_RELATIONS)
    inwards = query_turn(["s"], operation=Operation.GET_HEAD_RELATIONS)
    assert inwards.observation is not None
    assert outwards.observation is not None
    assert earned(outwards, inwards) == [1, 1]
    both = outwards.model_copy(update={"expanded": (inwards.observation,)})
    turned = inwards.model_copy(update={"expanded": (outwards.observation,)})
    assert earned(both, turned) == earned(turned, both) == [1, 0]
