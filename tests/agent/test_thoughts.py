"""What can be said in the next turn of a policy that knows few sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
from episode_parts import ask
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from set_episodes import FILMS, Rows, play_sets

from kgr1.agent.policy import Generation, Grammar, ScriptedPolicy, ScriptedSession
from kgr1.agent.prior import Prior
from kgr1.agent.set_grammar import SetGrammar
from kgr1.agent.thoughts import thoughts as weighed
from kgr1.config import AgentSettings, SamplingSettings
from kgr1.types import DirectedRelation, Question, Turn

LIST = 'get_tail_relations("Alien")'
DIRECTOR = 'get_tail_entities("Alien", "director")'
LIST_FOUND = 'get_tail_relations("*")'
BORN = 'get_tail_entities("*", "born in")'
PLAIN = "I list the relations."
CUE = 'It asks for "{cue}".'
OPEN = "<think>"


def question(text: str, *topics: str) -> Question:
    return Question(id="q", text=text, topics=topics or ("Alien",), answers=())


def thoughts(sentences: Iterable[str], about: Question, turns: Sequence[Turn]) -> list[str]:
    """All that can be said, where nothing is added to any sentence."""
    said = weighed(dict.fromkeys(sentences, 0.0), about, turns)
    assert set(said.values()) <= {0.0}
    return list(said)


def asks(*words: str) -> list[str]:
    return [f'It asks for "{word}".' for word in words]


def turns_of(*said: tuple[str, str], on: Rows = FILMS, **agent: Any) -> tuple[Turn, ...]:
    """The turns of an episode, each a query and the thought before it."""
    texts = [ask(call, think) for call, think in said]
    return play_sets([*texts, ""], ("Alien",), on, **agent).turns[: len(said)]


BIRTH = question("Where was the director of Alien born?")


def test_a_sentence_comes_once_or_once_for_each_word() -> None:
    last = "That was asked."
    assert thoughts([PLAIN, CUE, last], BIRTH, []) == [PLAIN, *asks("director", "born"), last]
    assert weighed({PLAIN: -5.0, CUE: 1.5}, BIRTH, []) == {PLAIN: -5.0, **dict.fromkeys(asks("director", "born"), 1.5)}
    assert thoughts(['"{cue}", that is "{cue}".'], BIRTH, [])[0] == '"director", that is "director".'


def test_names_of_topics_and_words_that_tell_nothing_are_never_said() -> None:
    assert thoughts([CUE], question("Who is the mother of Ann_Lee 's best friend?", "Ann Lee"), []) == asks(
        "mother", "best", "friend"
    )
    assert thoughts([CUE], question("Is it the ALIEN of Alien, and who?"), []) == []
    assert thoughts([CUE, PLAIN], question("What is it?"), []) == [PLAIN]
    assert thoughts([CUE, PLAIN], question("7 x 42?"), []) == [PLAIN]


def test_without_sentences_nothing_is_prescribed() -> None:
    assert thoughts([], BIRTH, []) == []
    assert thoughts((), BIRTH, turns_of((LIST, 'It asks for "born".'))) == []


def test_a_word_speaks_for_one_hop() -> None:
    turns = turns_of((LIST, PLAIN), (DIRECTOR, asks("director")[0]), (LIST_FOUND, PLAIN), (BORN, asks("born")[0]))
    left = [thoughts([CUE, PLAIN], BIRTH, turns[:count]) for count in range(len(turns) + 1)]
    both, one, none = [*asks("director", "born"), PLAIN], [*asks("born"), PLAIN], [PLAIN]
    assert left == [both, both, one, one, none]


def test_a_word_that_stands_twice_speaks_for_two_hops() -> None:
    twice = question("Who are the children of the children of Alien?")
    rows = [("Alien", "child", "B"), ("B", "child", "C"), ("C", "child", "D")]
    said = asks("children")[0]
    first = 'get_tail_entities("Alien", "child")'
    again = 'get_tail_entities("*", "child")'
    turns = turns_of((first, said), (again, said), (again, said), on=rows)
    assert all(turn.shown_entities for turn in turns)
    left = [thoughts([CUE], twice, turns[:count]) for count in range(4)]
    assert left == [[said], [said], [], []]


@pytest.mark.parametrize(
    "call",
    [
        LIST,
        'get_head_relations("Alien")',
        'get_tail_relations("Nobody")',
        'get_tail_entities("Nobody", "director")',
        'get_tail_entities("Alien", "no such relation")',
        'get_tail_entities("Alien", "born in")',
        'get_tail_entities("*", "director")',
        "no query",
    ],
)
def test_what_led_nowhere_uses_nothing_up(call: str) -> None:
    turns = turns_of((call, asks("director")[0]))
    assert thoughts([CUE], BIRTH, turns) == asks("director", "born")


def test_what_was_cut_off_uses_nothing_up() -> None:
    hop = turns_of((DIRECTOR, asks("director")[0]))
    assert thoughts([CUE], BIRTH, hop) == asks("born")
    unseen = [turn.model_copy(update={"shown": 0}) for turn in hop]
    assert thoughts([CUE], BIRTH, unseen) == asks("director", "born")
    wordless = [turn.model_copy(update={"text": ""}) for turn in hop]
    assert thoughts([CUE], BIRTH, wordless) == asks("director", "born")


def test_only_what_is_quoted_in_the_thought_is_used_up() -> None:
    for think in ("The director it is.", 'I follow "actor".', '"', 'It says ""', '"the director"'):
        assert thoughts([CUE], BIRTH, turns_of((DIRECTOR, think))) == asks("director", "born"), think
    assert thoughts([CUE], BIRTH, turns_of((DIRECTOR, '"born" and "director"'))) == []


def test_a_question_cannot_break_a_sentence() -> None:
    odd = 'Is "{cue}" </think> <kg-query>{0}</kg-query> or \\"Köln\\"\n{relation} naïve'
    assert thoughts([CUE], question(odd), []) == asks("cue", "think", "query", "köln", "relation", "naïve")
    assert thoughts(["{0} {relation} {cue} {"], question("mother"), []) == ["{0} {relation} mother {"]


@given(st.text(max_size=60), st.text(max_size=10), st.lists(st.sampled_from([PLAIN, CUE, '{cue}{cue} {"']), max_size=3))
def test_any_question_gives_sentences_with_its_words(text: str, topic: str, sentences: list[str]) -> None:
    said = thoughts(sentences, question(text, topic), [])
    assert len(set(said)) == len(said)
    for thought in said:
        assert "{cue}" not in thought
        assert not set("<>\n\\") & set(thought)
        assert thought.count('"') == (0 if thought == PLAIN else 2 if thought.startswith("It asks") else 1)
    assert (PLAIN in said) is (PLAIN in sentences)


# In the grammar of a turn


class Liking:
    """A ranker that likes long names."""

    def scores(self, question: str, topics: Any, before: Any, relations: Sequence[DirectedRelation]) -> list[float]:
        return [float(len(name)) for _, name in relations]

    def familiarity(self, relations: Sequence[DirectedRelation]) -> float:
        return 1.0


def grammar(said: Mapping[str, float], *calls: str, **agent: Any) -> SetGrammar:
    settings = AgentSettings.model_validate({"sets": True, "max_turns": 9, **agent})
    turns = turns_of(*((call, PLAIN) for call in calls))
    return SetGrammar(("Alien",), turns, settings, Prior(Liking(), 1.0, BIRTH), said)


def test_a_grammar_offers_thoughts_and_then_queries() -> None:
    said = {PLAIN: -5.0, asks("director")[0]: 0.0}
    second, silent = grammar(said, LIST), grammar({}, LIST)
    assert second.choices(OPEN) == [f"{thought}</think>" for thought in said]
    assert second.expected(OPEN) == [-5.0, 0.0]
    assert not silent.choices(OPEN)
    assert not silent.expected(OPEN)
    query = f"<think>{PLAIN}</think>\n<kg-query>"
    assert second.choices(query) == silent.choices(query) == [f"{text}</kg-query>" for text in second.queries]
    assert second.expected(query) == silent.expected(query) == [5.0, 8.0]
    for other in ("", "<thin", f"{OPEN}I", f"{OPEN}{PLAIN}</think>"):
        assert not second.choices(other)
        assert not second.expected(other)


def test_thoughts_come_also_where_queries_are_not_chosen_as_a_whole() -> None:
    for more in ({"time_filter": True}, {"page_size": 2}, {"max_turns": 2}):
        other = grammar({PLAIN: 0.0}, LIST, **more)
        assert other.choices(OPEN) == [f"{PLAIN}</think>"]
        assert other.choices(f"<think>{PLAIN}</think>\n<kg-query>") == []


def test_nothing_but_the_thoughts_can_be_written(reader: Any) -> None:
    told = grammar(dict.fromkeys([PLAIN, *asks("director")], 0.0), LIST)
    for think in (PLAIN, *asks("director")):
        assert reader(told, ask(DIRECTOR, think))
    for think in ("", "I list", f"{PLAIN} ", *asks("born", "daughter"), "Anything."):
        assert not reader(told, ask(DIRECTOR, think)), think
    assert reader(grammar({}, LIST), ask(DIRECTOR, "Anything."))


class _Session(ScriptedSession):
    """Keeps the thoughts that it could have begun each turn with."""

    def __init__(self, prompt: str, texts: list[str], told: list[list[str]]) -> None:
        super().__init__(prompt, texts)
        self._told = told

    async def generate(self, max_new_tokens: int, grammar: Grammar | None = None) -> Generation:
        assert grammar is not None
        self._told.append(grammar.choices(OPEN))
        return await super().generate(max_new_tokens, grammar)


class _Told(ScriptedPolicy):
    def __init__(self, texts: list[str]) -> None:
        super().__init__(texts)
        self.texts, self.told = texts, list[list[str]]()

    async def open(self, prompt: str, question: Question, sampling: SamplingSettings) -> ScriptedSession:
        return _Session(prompt, self.texts, self.told)


@pytest.mark.parametrize("sets", [True, False])
def test_an_episode_tells_its_grammars_what_can_be_said(sets: bool) -> None:
    said = 'Go on to "what\'s".'  # the question of these episodes has no telling word
    policy = _Told([ask(LIST, said), ask(DIRECTOR, said), ""])
    play_sets(policy, ("Alien",), guided=True, sets=sets, sentences={CUE: 0.0, PLAIN: -5.0}, max_turns=3)
    assert policy.told == [[f"{PLAIN}</think>"] if sets else []] * 3


@pytest.mark.parametrize(
    "sentences", [{"</think>": 0.0}, {"two\nlines": 0.0}, {"": 0.0}, {"ok": math.nan}, {"ok": math.inf}]
)
def test_sentences_that_would_break_a_turn_are_refused(sentences: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        AgentSettings(sentences=sentences)
