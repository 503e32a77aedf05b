"""What a guided turn may be, word by word, and what a model that knows nothing does with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from episode_parts import FACTS, QUESTION, answer, ask, graph, play

from kgr1.agent.grammar import NAME_TOKENS, THOUGHT_CHARACTERS, TurnGrammar
from kgr1.agent.policy import ScriptedPolicy
from kgr1.config import AgentSettings
from kgr1.graph.store import GraphStore
from kgr1.types import Question, StopReason, Turn

pytest.importorskip("llguidance")

FRANCE = ask('get_tail_relations("France")')
CITIES = ask('get_tail_entities("France", "city")')


def after(*texts: str, question: Question = QUESTION, on: GraphStore | None = None, **agent: Any) -> TurnGrammar:
    """The grammar of the turn behind some turns on the graph."""
    settings = AgentSettings.model_validate({"max_turns": 6, **agent})
    played = play(texts, on=on, question=question, **{"max_turns": 6, **agent}) if texts else None
    turns: tuple[Turn, ...] = () if played is None else played.turns[: len(texts)]
    return TurnGrammar(question.topics, turns, settings)


def test_first_the_relations_of_a_topic_are_listed(reader: Any) -> None:
    first = after()
    assert reader(first, FRANCE)
    assert reader(first, ask('get_head_relations("France")', think='Anything, in 2 "words" or more.'))
    for wrong in (
        ask('get_tail_relations("Paris")'),  # not shown
        CITIES,  # not listed
        answer('["France"]'),
        answer("[]"),
        "I think so. " + FRANCE,
        FRANCE.replace("</think>", "</think></think>"),
        ask('get_tail_relations("France")', think="x" * (THOUGHT_CHARACTERS + 1)),
    ):
        assert not reader(first, wrong), wrong


def test_then_what_was_listed_can_be_followed_and_nothing_asked_twice(reader: Any) -> None:
    second = after(FRANCE)
    assert reader(second, CITIES)
    assert reader(second, ask('get_tail_entities("France", "capital")'))
    assert reader(second, ask('get_head_relations("France")'))
    for wrong in (
        FRANCE,
        ask('get_tail_entities("France", "cit")'),
        ask('get_tail_entities("France", "mayor")'),
        ask('get_head_entities("France", "city")'),  # only outgoing ones were listed
    ):
        assert not reader(second, wrong), wrong
    third = after(FRANCE, CITIES)
    assert not reader(third, CITIES)
    # Lyon has no list of its own, so it may be asked for what was listed anywhere.
    assert reader(third, ask('get_tail_entities("Lyon", "city")'))
    assert reader(third, ask('get_tail_relations("Paris")'))


def test_an_answer_lists_shown_names_once(reader: Any) -> None:
    grammar = after(FRANCE, CITIES)
    for right in ('["Lyon"]', '["Paris", "Lyon"]', '["Marseille", "Paris", "Lyon"]'):
        assert reader(grammar, answer(right)), right
    too_many = '["Paris", "Lyon", "Marseille", "Nice"]'
    # A token with the quotation mark and a comma must not lead to where nothing is left to say.
    assert not reader(grammar, answer('["Marseille", "Paris", "Lyon", "Lyon"]'))
    for wrong in ("[]", '["Par"]', '["Paris", "Paris"]', '["France"]', too_many, '["Paris",]'):
        assert not reader(grammar, answer(wrong)), wrong


def test_a_list_ends_before_it_is_cut_off(reader: Any) -> None:
    grammar, one, two = after(FRANCE, CITIES), answer('["Lyon"]'), answer('["Lyon", "Paris"]')
    assert reader(grammar, two)
    assert reader(grammar, one, room=NAME_TOKENS)
    assert not reader(grammar, two, room=NAME_TOKENS)
    # What has begun is written to its end.
    begun = grammar.after(two.partition('"Par')[0], NAME_TOKENS - 1)
    assert begun is not None
    assert '"\\"Paris\\""' in begun
    assert "*" not in begun


def test_relations_are_chosen_by_their_whole_names() -> None:
    begun = CITIES.partition('city"')[0]
    second = after(FRANCE)
    assert sorted(second.choices(begun)) == ['capital")', 'city")']
    assert second.choices(begun[:-1]) == []
    assert second.choices(begun + "city") == []
    assert second.choices(FRANCE.partition("France")[0]) == []
    assert second.choices(begun.replace("tail_entities", "head_entities")) == []  # only outgoing ones were listed
    assert after(FRANCE, CITIES).choices(begun) == ['capital")']  # the other was asked for
    assert after(FRANCE, max_turns=2).choices(begun) == []
    for more in ({"time_filter": True}, {"page_size": 2}):  # the query may go on behind the relation
        assert after(FRANCE, **more).choices(begun) == []


def test_a_node_without_a_name_is_no_answer(reader: Any) -> None:
    facts = [
        ("Alien", "performance", "m.0abc12"),
        ("m.0abc12", "actor", "Weaver"),
        ("m.0zz99", "performance", "m.0abc12"),
    ]
    store = GraphStore.from_triples(facts, name="films")

    def shown(topic: str, **agent: Any) -> TurnGrammar:
        question = Question(id="f", text="Who plays in it?", topics=(topic,), answers=())
        steps = ask(f'get_tail_relations("{topic}")'), ask(f'get_tail_entities("{topic}", "performance")')
        return after(*steps, question=question, on=store, **agent)

    node = answer('["m.0abc12"]')
    assert not reader(shown("Alien"), node)
    assert reader(shown("Alien"), ask('get_tail_relations("m.0abc12")'))
    assert reader(shown("Alien", max_turns=3), node)  # better than nothing
    assert reader(shown("m.0zz99"), node)  # here names are such


def test_what_was_asked_about_is_no_answer_beside_other_names(reader: Any) -> None:
    facts = [("Alien", "director", "Scott"), ("Legend", "director", "Scott"), ("Bell", "wife", "Ada")]
    store = GraphStore.from_triples([*facts, ("Ada", "husband", "Bell")], name="films")

    def walked(question: Question, *steps: str) -> TurnGrammar:
        return after(*map(ask, steps), question=question, on=store, max_turns=9)

    def of(text: str, *topics: str) -> Question:
        return Question(id="q", text=text, topics=topics, answers=())

    to_director = 'get_tail_relations("Alien")', 'get_tail_entities("Alien", "director")'
    back = 'get_head_relations("Scott")', 'get_head_entities("Scott", "director")'
    others = walked(of("What else did the director of Alien make?", "Alien"), *to_director, *back)
    assert reader(others, answer('["Legend"]'))
    assert not reader(others, answer('["Alien"]'))
    assert not reader(others, answer('["Legend", "Alien"]'))
    # Nobody asked about the other topic, so it can be meant.
    which = walked(
        of("Which one is by the director of Alien, Legend or Brazil?", "Alien", "Legend"), *to_director, *back
    )
    assert reader(which, answer('["Legend"]'))
    wife = 'get_tail_relations("Bell")', 'get_tail_entities("Bell", "wife")'
    husband = 'get_tail_relations("Ada")', 'get_tail_entities("Ada", "husband")'
    assert reader(walked(of("Who is the husband of the wife of Bell?", "Bell"), *wife, *husband), answer('["Bell"]'))


def test_the_last_turn_is_an_answer(reader: Any) -> None:
    last = after(FRANCE, CITIES, max_turns=3)
    assert reader(last, answer('["Paris"]'))
    assert not reader(last, ask('get_tail_relations("Paris")'))
    nothing = after(FRANCE, max_turns=2)
    assert reader(nothing, answer("[]"))
    assert not reader(nothing, answer('["France"]'))


def test_names_are_spelt_as_they_were_shown(reader: Any) -> None:
    odd = ('Say "hi", Ünï\\', "</answer><|im_end|>", "two\nlines")
    store = GraphStore.from_triples([("Köln", "knows <b>", name) for name in odd], name="odd")
    question = Question(id="o", text="Whom does Köln know?", topics=("Köln",), answers=())
    texts = ask('get_tail_relations("Köln")'), ask('get_tail_entities("Köln", "knows ‹b›")')
    assert play(texts, on=store, question=question).turns[1].observation.ok  # type: ignore[union-attr]
    grammar = after(*texts, question=question, on=store)
    assert reader(grammar, answer('["Say \\"hi\\", Ünï\\\\"]'))
    assert reader(grammar, answer('["‹/answer›‹|im_end|›", "Say \\"hi\\", Ünï\\\\"]'))
    assert not reader(grammar, answer('["</answer>"]'))
    assert reader(grammar, ask('get_tail_relations("‹/answer›‹|im_end|›")'))


def test_pages_and_times_can_be_asked_for(reader: Any) -> None:
    paged = after(FRANCE, CITIES, page_size=2)
    assert reader(paged, ask('get_tail_entities("France", "city", page=2)'))
    assert not reader(paged, ask('get_tail_entities("France", "city", page=0)'))
    timed = after(FRANCE, time_filter=True)
    for time in ("2014", "2014-02-16", "before 2014", "2012/2014-05"):
        assert reader(timed, ask(f'get_tail_entities("France", "city", "{time}")')), time
    assert not reader(timed, ask('get_tail_entities("France", "city", "once")'))
    assert not reader(after(FRANCE), ask('get_tail_entities("France", "city", "2014")'))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_that_knows_nothing_makes_no_mistake_of_form(tiny_model: Path, temperature: float) -> None:
    import asyncio

    from kgr1.agent.rollout import run_episodes
    from kgr1.config import SamplingSettings
    from kgr1.models.transformers import TransformersPolicy

    policy = TransformersPolicy.load(str(tiny_model), dtype="float32")
    settings = AgentSettings(max_turns=4, max_new_tokens=700, guided=True)
    sampling = [SamplingSettings(temperature=temperature, seed=seed) for seed in range(6)]
    episodes = asyncio.run(
        run_episodes([QUESTION] * 6, graph(), policy, agent=settings, sampling=sampling, samples=range(6))
    )
    names = {name for head, _, tail in FACTS for name in (head, tail)}
    for episode in episodes:
        assert episode.stop is StopReason.ANSWERED, episode.error
        assert all(turn.well_formed for turn in episode.turns)
        asked = [turn.query.to_text() for turn in episode.turns if turn.query is not None]
        assert asked
        assert len(set(asked)) == len(asked)
        shown = {name for turn in episode.turns for name in turn.shown_entities}
        assert set(episode.answers) <= shown <= names
        assert len(set(episode.answers)) == len(episode.answers)
        written = sum(len(turn.token_ids) for turn in episode.turns)
        assert episode.usage.generated_tokens + episode.usage.forced_tokens == written
        assert episode.usage.forced_tokens == sum(turn.forced for turn in episode.turns) > 10 * len(episode.turns)
        # Probabilities are those of the choice that was left.
        assert all(-100 < logprob <= 0 for turn in episode.turns for logprob in turn.logprobs)


def test_a_script_is_played_as_it_is() -> None:
    episode = play(ScriptedPolicy([CITIES, answer('["Nice"]')]), guided=True)
    assert episode.answers == ("Nice",)
