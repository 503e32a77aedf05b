"""Episodes as tokens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kgr1.grpo.batch import episode_seed, episode_tokens, pad_turns
from kgr1.types import Episode, Question, StopReason, Turn

QUESTION = Question(id="q", text="?", topics=(), answers=())


def turn(ids: tuple[int, ...], information: tuple[int, ...] = ()) -> Turn:
    return Turn(text="", token_ids=ids, logprobs=tuple(-i / 10 for i in ids), information_ids=information)


def episode(*turns: Turn, prompt: tuple[int, ...] = (1, 2)) -> Episode:
    return Episode(question=QUESTION, turns=turns, stop=StopReason.MAX_TURNS, prompt_ids=prompt)


def test_turns_and_observations_stand_in_order() -> None:
    tokens = episode_tokens(episode(turn((3, 4), (5, 6, 7)), turn((8,), (9,)), turn((10, 11))), filler=0)
    assert tokens.prompt_ids == (1, 2)
    assert tokens.completion_ids == (3, 4, 5, 6, 7, 8, 9, 10, 11)
    assert tokens.turn_of_token == (0, 0, -1, -1, -1, 1, -1, 2, 2)
    assert tokens.agent_mask == [1, 1, 0, 0, 0, 1, 0, 1, 1]
    assert tokens.logprobs == (-0.3, -0.4, 0, 0, 0, -0.8, 0, -1.0, -1.1)


def test_a_trailing_observation_is_left_out() -> None:
    tokens = episode_tokens(episode(turn((3,), (4,)), turn((5,), (6, 7))), filler=0)
    assert tokens.completion_ids == (3, 4, 5)
    assert len(tokens.logprobs) == len(tokens.turn_of_token) == 3


def test_an_episode_without_a_token_becomes_a_masked_filler() -> None:
    for empty in (episode(prompt=()), episode(turn(()), prompt=())):
        tokens = episode_tokens(empty, filler=7)
        assert (tokens.prompt_ids, tokens.completion_ids, tokens.agent_mask) == ((7,), (7,), [0])
        assert tokens.logprobs == (0.0,)
    assert episode_tokens(episode(turn(())), filler=7).prompt_ids == (1, 2)


def test_what_a_grammar_left_no_choice_about_is_not_the_agents() -> None:
    guided = Turn(text="", token_ids=(3, 4, 5, 6), logprobs=(-0.5, 0.0, -0.1, 0.0), information_ids=(7,), forced=2)
    free = Turn(text="", token_ids=(8, 9), logprobs=(-0.5, 0.0))
    assert episode_tokens(episode(guided, free), filler=0).turn_of_token == (0, -1, 0, -1, -1, 1, 1)
    last = episode_tokens(episode(guided, guided), filler=0)
    assert last.turn_of_token == (0, -1, 0, -1, -1, 1, -1, 1)
    assert last.completion_ids == (3, 4, 5, 6, 7, 3, 4, 5)
    none = Turn(text="", token_ids=(3, 4), logprobs=(0.0, 0.0), forced=2)
    assert episode_tokens(episode(none), filler=0).agent_mask == [0]


ids = st.lists(st.integers(0, 99), max_size=4).map(tuple)


@given(st.lists(st.tuples(ids, ids), max_size=5), ids)
def test_nothing_is_lost_but_a_trailing_observation(turns: list[tuple[tuple[int, ...], ...]], prompt: object) -> None:
    played = episode(*(turn(*pair) for pair in turns), prompt=prompt)  # type: ignore[arg-type]
    tokens = episode_tokens(played, filler=7)
    assert len(tokens.completion_ids) == len(tokens.turn_of_token) == len(tokens.logprobs) >= 1
    written = [(i, n) for n, pair in enumerate(turns) for i in pair[0]]
    kept = [(i, n) for i, n in zip(tokens.completion_ids, tokens.turn_of_token, strict=True) if n >= 0]
    assert kept == written
    if written:
        whole = [i for pair in turns for i in (*pair[0], *pair[1])]
        assert list(tokens.completion_ids) == whole[: len(tokens.completion_ids)]
        assert tokens.turn_of_token[-1] >= 0


def test_turn_rewards_are_padded() -> None:
    values, mask = pad_turns([[1.0, 2.0], [], [3.0]])
    assert values.tolist() == [[1, 2], [0, 0], [3, 0]]
    assert mask.tolist() == [[True, True], [False, False], [True, False]]
    assert pad_turns([])[0].shape == (0, 1)
    assert pad_turns([[], []])[1].tolist() == [[False], [False]]


def test_every_episode_has_a_seed_of_its_own() -> None:
    seeds = {
        episode_seed(seed, step, name, sample)
        for seed in range(3)
        for step in range(5)
        for name in ("a", "b", "1", "11")
        for sample in range(5)
    }
    assert len(seeds) == 3 * 5 * 4 * 5
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    assert episode_seed(0, 1, "q", 2) == 4728503097342037437  # the same on every machine and in every version
