"""What a guided turn may be where ``*`` stands for what was found, and what comes of guessing within that."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from episode_parts import answer, ask
from hypothesis import given
from hypothesis import strategies as st
from set_episodes import ENTITIES, FILMS, Guessing, Recording, Rows, graphs, named, play_sets

from kgr1.agent.evidence import find_supports
from kgr1.agent.found import find, find_for
from kgr1.agent.grammar import THOUGHT_CHARACTERS
from kgr1.agent.observe import Observer
from kgr1.agent.parse import parse_query
from kgr1.agent.policy import count_words
from kgr1.agent.set_grammar import SetGrammar
from kgr1.config import AgentSettings
from kgr1.graph.store import GraphStore
from kgr1.rewards.turn import asked_before
from kgr1.types import Episode, Query, StopReason

LIST = 'get_tail_relations("Alien")'
DIRECTOR = 'get_tail_entities("Alien", "director")'
LIST_FOUND = 'get_tail_relations("*")'
BACK = 'get_head_entities("*", "director")'


def after(*calls: str, topics: tuple[str, ...] = ("Alien",), on: Rows = FILMS, **agent: Any) -> SetGrammar:
    """The grammar of the turn behind some queries."""
    settings = {"max_turns": 9, **agent}
    turns = play_sets([*map(ask, calls), ""], topics, on, **settings).turns[: len(calls)]
    return SetGrammar(topics, turns, AgentSettings.model_validate({"sets": True, **settings}))


def test_first_the_relations_of_the_topics_are_listed() -> None:
    assert after().queries == (LIST,)
    assert after(topics=("Alien", "Legend", "Alien")).queries == (LIST, LIST.replace("Alien", "Legend"))


def test_then_what_was_listed_in_either_direction_is_followed() -> None:
    assert after(LIST).queries == ('get_tail_entities("Alien", "actor")', DIRECTOR)
    scott = after('get_tail_relations("Scott")', topics=("Scott",))
    assert scott.queries == ('get_tail_entities("Scott", "born in")', 'get_head_entities("Scott", "director")')


def test_what_was_found_is_listed_and_followed_like_a_topic() -> None:
    assert after(LIST, DIRECTOR).queries == (LIST_FOUND, 'get_tail_entities("Alien", "actor")')
    third = after(LIST, DIRECTOR, LIST_FOUND)
    assert third.queries == (
        'get_tail_entities("Alien", "actor")',
        'get_tail_entities("*", "born in")',
        'get_head_entities("*", "director")',
    )
    # A result changes what it stands for, so its relations are to be listed anew, and may be asked for once more.
    assert after(LIST, DIRECTOR, LIST_FOUND, BACK).queries == (LIST_FOUND, 'get_tail_entities("Alien", "actor")')
    fourth = after(LIST, DIRECTOR, LIST_FOUND, BACK, LIST_FOUND)
    assert fourth.queries[1:] == ('get_tail_entities("*", "actor")', 'get_tail_entities("*", "director")')


def test_the_same_relation_may_lead_on() -> None:
    rows = [("A", "r", "B"), ("B", "r", "C"), ("C", "r", "D")]
    calls = ['get_tail_relations("A")', 'get_tail_entities("A", "r")', LIST_FOUND, 'get_tail_entities("*", "r")']
    assert after(*calls, LIST_FOUND, topics=("A",), on=rows).queries == (
        'get_tail_entities("*", "r")',
        'get_head_entities("*", "r")',
    )


def test_nothing_is_asked_twice_of_the_same() -> None:
    rows = [("A", "r", "B"), ("B", "r", "A")]
    assert after('get_tail_relations("A")', topics=("A",), on=rows).queries == (
        'get_tail_entities("A", "r")',
        'get_head_entities("A", "r")',
    )
    calls = ['get_tail_relations("A")', 'get_tail_entities("A", "r")', 'get_head_entities("A", "r")', LIST_FOUND]
    assert after(*calls, topics=("A",), on=rows).queries == (
        'get_tail_entities("*", "r")',
        'get_head_entities("*", "r")',
    )


def test_an_answer_is_all_that_was_found(reader: Any) -> None:
    second = after(LIST, DIRECTOR)
    assert reader(second, answer('["*"]'))
    assert reader(second, ask(LIST_FOUND, think="Anything, in 2 words."))
    for wrong in (
        answer('["Scott"]'),
        answer("[]"),
        answer('["*", "*"]'),
        ask(LIST),
        ask(DIRECTOR),
        ask('get_tail_entities("*", "actor")'),
        ask('get_head_relations("*")'),  # it would show the same
        ask('get_tail_relations("Scott")'),
        ask(LIST_FOUND, think="x" * (THOUGHT_CHARACTERS + 1)),
    ):
        assert not reader(second, wrong), wrong
    first = after(LIST)
    assert reader(first, ask(DIRECTOR))
    assert not reader(first, answer('["*"]'))


def test_the_last_turn_is_an_answer(reader: Any) -> None:
    last = after(LIST, DIRECTOR, max_turns=3)
    assert last.queries == ()
    assert reader(last, answer('["*"]'))
    assert not reader(last, ask(LIST_FOUND))
    nothing = after(LIST, max_turns=2)
    assert reader(nothing, answer("[]"))
    assert not reader(nothing, answer('["*"]'))
    unknown = after('get_tail_relations("Nobody")', topics=("Nobody",))
    assert unknown.queries == ()
    assert reader(unknown, answer("[]"))


def test_queries_are_chosen_as_a_whole() -> None:
    second = after(LIST)
    begun = ask(DIRECTOR).partition("get_")[0]
    assert second.choices(begun) == [f"{query}</kg-query>" for query in second.queries]
    for other in ("", begun[:-1], begun + "get_", ask(DIRECTOR)):
        assert second.choices(other) == []
    assert after(LIST, DIRECTOR, max_turns=3).choices(begun) == []
    assert second.after(begun, 100) is None


def test_pages_and_times_can_be_asked_for(reader: Any) -> None:
    timed, paged = (after(LIST, DIRECTOR, LIST_FOUND, **more) for more in ({"time_filter": True}, {"page_size": 2}))
    born = 'get_tail_entities("*", "born in"'
    for time in ("2014", "before 2014", "2012/2014-05"):
        assert reader(timed, ask(f'{born}, "{time}")')), time
    assert reader(paged, ask(f"{born}, page=2)"))
    assert reader(paged, ask(f"{born})"))
    for grammar, wrong in ((timed, ', "once")'), (timed, ", page=2)"), (paged, ", page=0)"), (paged, ', "2014")')):
        assert not reader(grammar, ask(born + wrong)), wrong
    assert not reader(timed, ask(f'{born}, "20١٤")'))  # digits, and not those of a time or a page
    assert not reader(paged, ask(f"{born}, page=2٢)"))
    # What was asked may come again, for another part; and it may go on, so it is not chosen as a whole.
    assert reader(timed, ask('get_tail_entities("Alien", "director", "1979")'))
    assert timed.choices(ask(DIRECTOR).partition("get_")[0]) == []
    assert not reader(after(LIST, DIRECTOR), ask('get_tail_entities("Alien", "actor", "1979")'))


def test_names_are_spelt_as_they_were_shown(reader: Any) -> None:
    rows = [("Köln <b>", 'knows "well"', "</answer><|im_end|>"), ("</answer><|im_end|>", "is\\a", "two\nlines")]
    first = after(topics=("Köln <b>",), on=rows)
    assert first.queries == ('get_tail_relations("Köln ‹b›")',)
    listing = 'get_tail_relations("Köln ‹b›")'
    follow = 'get_tail_entities("Köln ‹b›", "knows \\"well\\"")'
    second = after(listing, topics=("Köln <b>",), on=rows)
    assert second.queries == (follow,)
    assert reader(second, ask(follow))
    fourth = after(listing, follow, LIST_FOUND, topics=("Köln <b>",), on=rows)
    assert fourth.queries == ('get_tail_entities("*", "is\\\\a")', 'get_head_entities("*", "knows \\"well\\"")')
    assert reader(fourth, ask(fourth.queries[0]))


# Guessing


@given(
    graphs(),
    st.integers(0, 1 << 30),
    st.integers(1, 3),
    st.sampled_from([16, 24, 40, 5000]),
    st.sampled_from([{}, {"rank_relations": "bm25"}, {"expand_mediators": True}, {"show_namesakes": True}]),
)
def test_what_can_be_written_is_valid_and_what_comes_of_it_has_evidence(
    rows: Rows, seed: int, count: int, budget: int, more: dict[str, Any]
) -> None:
    there = sorted({name for head, _, tail in rows for name in (head, tail)})
    topics = tuple(there[(seed + place) % len(there)] for place in range(count))
    settings = AgentSettings(sets=True, guided=True, max_turns=9, observation_tokens=budget, **more)
    graph = Recording(rows)
    episode = play_sets(Guessing(seed), topics, graph, **settings.model_dump())
    assert episode.usage.graph_calls == len(graph.asked)
    assert episode.stop is StopReason.ANSWERED
    for place, turn in enumerate(episode.turns[:-1]):
        assert turn.query is not None
        assert turn.observation is not None
        assert turn.observation.ok
        assert turn.well_formed
        # A query along a relation shows entities unless not even one fits; then it is not asked again of the same.
        assert not asked_before(turn, episode.turns[:place]) or turn.query.operation.returns_entities
    for place in range(len(episode.turns)):
        turns = episode.turns[:place]
        for text in SetGrammar(topics, turns, settings).queries:
            query = parse_query(text)
            assert isinstance(query, Query)
            assert query.to_text() == text
            observer = Observer(episode.question, graph.store, settings, count_words)
            assert asyncio.run(observer.ask(query, find_for(query, topics, turns))).observation.ok, text
    found = find(topics, episode.turns)
    assert (episode.answers, episode.answer_ids) == (found.names, found.ids)
    assert set(episode.evidence) <= set(rows)
    assert all(find_supports(topics, episode.answers, episode.turns))
    assert Episode.model_validate_json(episode.model_dump_json()) == episode


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_that_knows_nothing_makes_no_mistake_of_form(tiny_model: Path, temperature: float) -> None:
    pytest.importorskip("llguidance")
    from kgr1.agent.rollout import run_episodes
    from kgr1.config import SamplingSettings
    from kgr1.models.transformers import TransformersPolicy

    policy = TransformersPolicy.load(str(tiny_model), dtype="float32")
    settings = AgentSettings(max_turns=6, max_new_tokens=700, guided=True, sets=True)
    sampling = [SamplingSettings(temperature=temperature, seed=seed) for seed in range(6)]
    question = named("Scott", "Weaver")
    episodes = asyncio.run(
        run_episodes(
            [question] * 6, GraphStore.from_triples(FILMS), policy, agent=settings, sampling=sampling, samples=range(6)
        )
    )
    names = {name for head, _, tail in FILMS for name in (head, tail)}
    for episode in episodes:
        assert episode.stop is StopReason.ANSWERED, episode.error
        assert all(turn.well_formed for turn in episode.turns)
        asked = [turn.observation for turn in episode.turns if turn.query is not None]
        assert asked
        assert all(observation is not None and observation.ok for observation in asked)
        assert episode.answers == find(question.topics, episode.turns).names
        assert set(episode.answers) <= names
        assert all(find_supports(question.topics, episode.answers, episode.turns))
        written = sum(len(turn.token_ids) for turn in episode.turns)
        assert episode.usage.generated_tokens + episode.usage.forced_tokens == written
        assert all(-100 < logprob <= 0 for turn in episode.turns for logprob in turn.logprobs)
    if temperature:
        assert len({tuple(turn.query for turn in episode.turns) for episode in episodes}) > 1


def test_all_names_of_the_random_graphs_are_told_apart() -> None:
    store = GraphStore.from_triples([(name, "is", name) for name in ENTITIES])
    queries = [Query(operation="get_tail_entities", entity=name, relation="is") for name in ENTITIES]
    assert [observation.names for observation in store.execute(queries)] == [(name,) for name in ENTITIES]


@pytest.mark.parametrize(("tokens", "characters"), [(80, 96), (64, 48), (256, 400), (16, 24)])
def test_a_thought_leaves_room_for_the_action_behind_it(tokens: int, characters: int) -> None:
    agent = AgentSettings(sets=True, guided=True, max_new_tokens=tokens)
    assert f"/[^<]{{0,{characters}}}/" in SetGrammar(["a"], [], agent).lark()


def test_a_thought_ends_while_there_is_room_for_its_action(reader: Any) -> None:
    grammar = after(LIST, max_new_tokens=80)
    begun = "<think>I wonder"
    assert grammar.after(begun, 41) is None
    narrower = grammar.after(begun, 40)
    assert narrower is not None
    assert narrower.startswith('start: "<think>I wonder" "</think>')
    assert grammar.after("<think>I wonder</thi", 40) is grammar.after("<thi", 40) is None
    assert after(LIST, max_new_tokens=40).after(begun, 21) is None  # a short turn thinks, too


@pytest.mark.parametrize("odd", ["\x7f", "\x85", "\u2028", "\x00", '"\\', "\ud7ff", "é", "\n"])
def test_thoughts_of_any_characters_can_be_gone_on_from(reader: Any, odd: str) -> None:
    """A free thought may have any of them, and the grammar of the rest begins with the thought."""

    class Rest(SetGrammar):
        def lark(self) -> str:
            narrower = self.after(f"<think>{odd}", 5)
            assert narrower is not None
            return narrower

    grammar = Rest(("Alien",), [], AgentSettings(sets=True))
    assert reader(grammar, f"<think>{odd}</think>\n<kg-query>{LIST}</kg-query>")
    assert not reader(grammar, f"<think>{odd}.</think>\n<kg-query>{LIST}</kg-query>")
