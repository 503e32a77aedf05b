"""What a ranker and the meaning of relations are asked for in an episode, and what becomes of their opinion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from episode_parts import FailingGraph, answer, ask, play
from set_episodes import FILMS, named, play_sets

from kgr1.agent.policy import Generation, Grammar, ScriptedPolicy, ScriptedSession
from kgr1.agent.prior import MOST_ASKED, Prior, walked
from kgr1.agent.set_grammar import SetGrammar
from kgr1.config import AgentSettings, SamplingSettings
from kgr1.graph.store import GraphStore
from kgr1.types import DirectedRelation, Episode, Question, StopReason, Turn

LIST = 'get_tail_relations("Alien")'
DIRECTOR = 'get_tail_entities("Alien", "director")'
ACTOR = 'get_tail_entities("Alien", "actor")'
LIST_FOUND = 'get_tail_relations("*")'
BACK = 'get_head_entities("*", "director")'
SETS: dict[str, Any] = {"sets": True, "max_turns": 12, "observation_tokens": 5000}
WALK = [ask(LIST), ask(DIRECTOR), answer('["*"]')]


def turns_of(*calls: str, topics: tuple[str, ...] = ("Alien",), **agent: Any) -> tuple[Turn, ...]:
    return play_sets([*map(ask, calls), ""], topics, **agent).turns[: len(calls)]


class Asked:
    """A ranker that likes long names, and remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[str, ...], tuple[str, ...], list[DirectedRelation]]] = []
        self.choices: list[list[DirectedRelation]] = []
        self.known = 1.0

    def scores(
        self, question: str, topics: Sequence[str], before: Sequence[str], relations: Sequence[DirectedRelation]
    ) -> list[float]:
        self.calls.append((question, tuple(topics), tuple(before), list(relations)))
        return [len(name) + 0.5 * out for out, name in relations]

    def familiarity(self, relations: Sequence[DirectedRelation]) -> float:
        self.choices.append(list(relations))
        return self.known


def test_the_way_to_what_is_found_begins_at_the_last_topic() -> None:
    turns = turns_of(LIST, DIRECTOR, LIST_FOUND, BACK, LIST_FOUND, 'get_tail_entities("*", "actor")', ACTOR)
    ways = [walked(turns[:count]) for count in range(len(turns) + 1)]
    assert ways == [
        [],
        [],
        [(True, "director")],
        [(True, "director")],  # a list of relations leads nowhere
        [(True, "director"), (False, "director")],
        [(True, "director"), (False, "director")],
        [(True, "director"), (False, "director"), (True, "actor")],
        [(True, "actor")],
    ]


def test_what_led_nowhere_is_no_part_of_the_way() -> None:
    nothing = 'get_tail_entities("*", "actor")'
    turns = turns_of(LIST, DIRECTOR, nothing, 'get_tail_entities("Alien", "born in")')
    assert all(turn.observation is not None and not turn.observation.ok for turn in turns[2:])
    assert walked(turns) == [(True, "director")]
    assert walked(turns_of("get_tail_entities(")) == []  # not even a query


def test_each_query_along_a_relation_has_a_weighed_score() -> None:
    ranker = Asked()
    prior = Prior(ranker, 2.0, named("Alien", "Scott"))
    queries = [
        ("Alien", None),
        ("Alien", (True, "actor")),
        ("*", (True, "born in")),
        ("Scott", (False, "director")),
        ("*", None),
        ("*", (False, "director")),
    ]
    assert prior.of(queries, turns_of(LIST, DIRECTOR)) == [None, 11.0, 15.0, 16.0, None, 16.0]
    asked = {before: relations for _, _, before, relations in ranker.calls}
    assert len(ranker.calls) == 2
    assert asked == {
        (): [(True, "actor"), (False, "director")],
        ("director",): [(True, "born in"), (False, "director")],
    }
    assert {call[:2] for call in ranker.calls} == {("What is it?", ("Alien", "Scott"))}


@pytest.mark.parametrize("entities", [[], ["Alien", "Weaver"]])
def test_without_a_relation_nobody_is_asked(entities: list[str]) -> None:
    ranker = Asked()
    expected = Prior(ranker, 1.0, named("Alien")).of([(entity, None) for entity in entities], ())
    assert expected == [None] * len(entities)
    assert ranker.calls == []


def test_the_opinion_counts_as_much_as_it_knows_of_the_whole_choice() -> None:
    ranker = Asked()
    queries = [("Alien", (True, "actor")), ("*", None), ("*", (True, "born in"))]
    turns = turns_of(LIST, DIRECTOR)
    sure = Prior(ranker, 2.0, named("Alien")).of(queries, turns)
    assert ranker.choices == [[(True, "actor"), (True, "born in")]]
    ranker.known = 0.25
    assert Prior(ranker, 2.0, named("Alien")).of(queries, turns) == [x if x is None else x / 4 for x in sure]
    assert Prior(ranker, 2.0, named("Alien"), 0.2).of(queries, turns) == [x if x is None else x / 4 for x in sure]
    assert Prior(ranker, 2.0, named("Alien"), 0.5).of(queries, turns) == [x if x is None else x / 2 for x in sure]
    ranker.known = 0.0
    assert Prior(ranker, 2.0, named("Alien")).of(queries, turns) == [0.0, None, 0.0]
    assert Prior(ranker, 2.0, named("Alien"), 0.5).of(queries, turns) == [x if x is None else x / 2 for x in sure]


class Meant:
    """Says that incoming relations are meant, and remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[DirectedRelation, ...], list[DirectedRelation]]] = []
        self.ahead: list[tuple[str, tuple[DirectedRelation, ...], list[DirectedRelation]]] = []

    def onward(self, question: str, before: Sequence[DirectedRelation], relations: Sequence[DirectedRelation]) -> float:
        self.ahead.append((question, tuple(before), list(relations)))
        return -3.0

    def scores(
        self, question: str, before: Sequence[DirectedRelation], relations: Sequence[DirectedRelation]
    ) -> list[float]:
        self.calls.append((question, tuple(before), list(relations)))
        return [0.0 if out else 8.0 for out, _ in relations]


def test_meaning_counts_where_fewer_than_half_of_the_relations_are_known() -> None:
    ranker, meaning = Asked(), Meant()
    queries = [("Alien", (True, "actor")), ("*", None), ("*", (False, "director"))]
    turns = turns_of(LIST, DIRECTOR)
    for known, added in ((0.0, 4.0), (0.25, 2.0), (0.5, 0.0), (1.0, 0.0)):
        ranker.known = known
        alone = Prior(ranker, 2.0, named("Alien"), 0.3).of(queries, turns)
        with_it = Prior(ranker, 2.0, named("Alien"), 0.3, meaning, 0.5).of(queries, turns)
        assert with_it == [alone[0], None, pytest.approx(alone[2] + added)]
    assert (
        meaning.calls
        == [
            ("What is it?", (), [(True, "actor")]),
            ("What is it?", ((True, "director"),), [(False, "director")]),
        ]
        * 2
    )
    assert Prior(None, 0.0, named("Alien"), 0.0, meaning, 0.5).of(queries, turns) == [0.0, None, 4.0]
    ranker.known, ranker.calls[:] = 0.0, []
    assert Prior(ranker, 0.0, named("Alien"), 0.0, meaning, 0.5).of(queries, turns) == [0.0, None, 4.0]
    assert ranker.calls == []


def test_of_many_relations_the_model_is_asked_about_those_that_the_ranker_likes() -> None:
    meaning = Meant()
    hops: list[DirectedRelation] = [(False, "r" * number) for number in range(1, MOST_ASKED + 3)]
    ranker = Asked()
    ranker.known = 0.0
    found = Prior(ranker, 1.0, named("Alien"), 1.0, meaning, 1.0).of([("Alien", hop) for hop in hops], ())
    assert [sorted(call[2]) for call in meaning.calls] == [sorted(hops[2:])]  # it likes long names
    assert found == [float(number + 8) for number in range(1, MOST_ASKED + 3)]  # the others mean as little as the least
    meaning.calls.clear()
    Prior(None, 0.0, named("Alien"), 0.0, meaning, 1.0).of([("Alien", hop) for hop in hops], ())
    assert meaning.calls[0][2] == hops[:MOST_ASKED]  # in the order of the list


def test_going_on_has_a_weighed_score_of_its_own() -> None:
    meaning = Meant()
    prior = Prior(None, 0.0, named("Alien"), 0.0, meaning, 0.0, 0.5)
    hops = [(True, "born in"), (True, "director"), (False, "director")]
    assert prior.onward(hops, turns_of(LIST, DIRECTOR)) == -1.5
    assert prior.onward(hops[2:], turns_of(LIST, DIRECTOR)) == -1.5
    assert (
        meaning.ahead
        == [  # the way back is no way on
            ("What is it?", ((True, "director"),), hops[:2]),
            ("What is it?", ((True, "director"),), []),
        ]
    )
    ranker = Asked()
    for known, share in ((0.0, 1.0), (0.25, 0.5), (0.5, 0.0)):
        ranker.known = known
        knowing = Prior(ranker, 1.0, named("Alien"), 0.0, meaning, 0.0, 0.5)
        assert knowing.onward(hops, turns_of(LIST, DIRECTOR)) == -1.5 * share
        assert knowing.looks_ahead(turns_of(LIST, DIRECTOR)) is (share > 0)
    assert ranker.choices[:2] == [hops, [(True, "actor"), (True, "director")]]
    meaning.ahead[2:] = []
    assert Prior(None, 0.0, named("Alien"), 0.0, meaning, 1.0).onward(hops, ()) == 0.0
    assert Prior(Asked(), 1.0, named("Alien"), ahead_weight=1.0).onward(hops, ()) == 0.0
    assert len(meaning.ahead) == 2


def test_what_is_expected_in_an_episode_stands_in_for_the_prior() -> None:
    agent, turns = AgentSettings(sets=True, max_turns=9), turns_of(LIST, DIRECTOR)
    said = {"That was asked.": 1.0, "It goes on.": 0.25}
    prior = Prior(Asked(), 1.0, named("Alien"))
    known = SetGrammar(("Alien",), turns, agent, prior, said, [None, 7.0])
    assert known.expected("<think>") == [1.0, 0.25]
    assert known.expected("<kg-query>") == [None, 7.0]
    assert known.steps == [("*", None), ("Alien", (True, "actor"))]
    assert SetGrammar(("Alien",), turns, agent, prior, said).expected("<kg-query>") == [None, 5.5]


def test_a_grammar_expects_something_of_each_query_that_has_a_relation() -> None:
    agent = AgentSettings(sets=True, max_turns=9)
    turns = turns_of(LIST, DIRECTOR, 'get_tail_relations("Weaver")', topics=("Alien", "Weaver"))
    grammar = SetGrammar(("Alien", "Weaver"), turns, agent, Prior(Asked(), 1.0, named("Alien", "Weaver")))
    assert dict(zip(grammar.queries, grammar.expected("<kg-query>"), strict=True)) == {
        LIST_FOUND: None,
        ACTOR: 5.5,
        'get_tail_entities("Weaver", "born in")': 7.5,
        'get_head_entities("Weaver", "actor")': 5.0,
    }
    assert SetGrammar(("Alien", "Weaver"), turns, agent).expected("<kg-query>") == []
    last = SetGrammar(("Alien", "Weaver"), turns, agent.model_copy(update={"max_turns": 4}), grammar._prior)
    assert last.expected("<kg-query>") == []


# In an episode


class Ranked(ScriptedPolicy):
    """A policy that could have a ranker, and remembers what the grammar lets it know of that."""

    def __init__(self, ranker: Asked | None, walk: Sequence[str] = WALK) -> None:
        super().__init__(walk, "ranked")
        self.walk = walk
        self.ranker = ranker
        self.meaning = Meant()
        self.verifier = None
        self.told: list[list[float | None]] = []
        self.thoughts: list[list[float | None]] = []

    async def open(self, prompt: str, question: Question, sampling: SamplingSettings) -> ScriptedSession:
        return _Told(prompt, list(self.walk), self)


class _Told(ScriptedSession):
    def __init__(self, prompt: str, texts: list[str], policy: Ranked) -> None:
        super().__init__(prompt, texts)
        self._policy = policy

    async def generate(self, max_new_tokens: int, grammar: Grammar | None = None) -> Generation:
        if grammar is not None:
            self._policy.told.append(grammar.expected("<kg-query>"))
            self._policy.thoughts.append(grammar.expected("<think>"))
        return await super().generate(max_new_tokens, grammar)


def played(policy: ScriptedPolicy, **agent: Any) -> Episode:
    return play_sets(policy, ("Alien",), FILMS, guided=True, **agent)


def test_the_opinion_comes_with_the_grammar_of_each_turn() -> None:
    policy = Ranked(Asked())
    assert played(policy, ranker_weight=2.0).answers == ("Scott",)
    # Alien is listed, then it has an actor and a director, then "*" is to be listed or the actor asked for.
    assert policy.told == [[None], [11.0, 17.0], [None, 11.0]]


def test_meaning_is_asked_for_without_a_ranker_too() -> None:
    policy = Ranked(None)
    assert played(policy, meaning_weight=0.5).answers == ("Scott",)
    assert policy.told == [[None], [0.0, 0.0], [None, 0.0]]
    assert [call[2] for call in policy.meaning.calls] == [[(True, "actor"), (True, "director")], [(True, "actor")]]


@pytest.mark.parametrize(
    "agent", [{"ranker_weight": 0.0}, {"ranker_weight": 2.0, "meaning_weight": 1.0, "sets": False}]
)
def test_without_a_weight_or_without_sets_nobody_is_asked(agent: dict[str, Any]) -> None:
    ranker = Asked()
    policy = Ranked(ranker)
    assert played(policy, **agent).stop is StopReason.ANSWERED
    assert policy.told == [[]] * 3
    assert ranker.calls == policy.meaning.calls == []


def test_a_weight_without_a_ranker_ends_the_episode_with_advice() -> None:
    episode = played(Ranked(None), ranker_weight=0.5)
    assert episode.stop is StopReason.POLICY_ERROR
    assert episode.turns == ()
    assert episode.error == (
        "agent.ranker_weight is 0.5, but 'ranked' has no ranker; make one with 'kgr1 ranker', or set "
        "agent.ranker_weight=0."
    )
    assert played(Ranked(None)).answers == ("Scott",)


def test_a_policy_that_can_have_no_ranker_plays_on() -> None:
    weighed, plain = (played(ScriptedPolicy(WALK), ranker_weight=weight) for weight in (0.5, 0.0))
    assert weighed.answers == ("Scott",)
    assert [turn.text for turn in weighed.turns] == [turn.text for turn in plain.turns]


ONWARD: dict[str, Any] = {
    "sentences": {"I list.": 0.0, 'On to "{cue}".': 0.0, "That was asked.": 1.0},
    "onward": ('On to "{cue}".',),
}


def test_what_was_found_is_looked_at_before_the_next_thought() -> None:
    policy = Ranked(None)
    question = named("Alien", text="Which director?")
    episode = play(policy, on=GraphStore.from_triples(FILMS), question=question, guided=True, **SETS, **ONWARD)
    without = episode.usage.graph_calls
    assert policy.thoughts == [[0.0, 0.0, 1.0]] * 3
    policy = Ranked(None)
    ahead = {**SETS, **ONWARD, "ahead_weight": 0.5}
    episode = play(policy, on=GraphStore.from_triples(FILMS), question=question, guided=True, **ahead)
    assert policy.thoughts == [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, -1.5, 1.0]]
    assert policy.meaning.ahead == [("Which director?", ((True, "director"),), [(True, "born in")])]
    assert episode.usage.graph_calls == without + 2  # the relations of both directions
    assert len(episode.turns) == 3
    assert policy.meaning.calls == []


def test_nobody_looks_behind_what_was_singled_out() -> None:
    rows = [
        ("Alien", "actor", "Weaver"),
        ("Alien", "actor", "Hurt"),
        ("Weaver", "born in", "US"),
        ("Hurt", "in", "1984"),
    ]
    walk = [ask(LIST), ask('get_tail_entities("Alien", "actor")'), answer('["*"]')]
    for topics, looked in ((("Alien",), 1), (("Alien", "1984"), 0)):
        policy = Ranked(None, walk)
        settings = {**SETS, **ONWARD, "ahead_weight": 0.5, "connection_weight": 1.0, "guided": True}
        episode = play(policy, on=GraphStore.from_triples(rows), question=named(*topics), **settings)
        assert len(policy.meaning.ahead) == looked
        assert bool(episode.turns[1].linked) is (not looked)


@pytest.mark.parametrize("agent", [{"onward": ()}, {"sentences": {}}, {"max_turns": 4}, {"ahead_weight": 0.0}])
def test_nobody_looks_ahead_in_vain(agent: dict[str, Any]) -> None:
    policy = Ranked(None)
    played(policy, **{**ONWARD, "ahead_weight": 0.5, **agent})
    assert policy.meaning.ahead == []
    assert policy.thoughts[-1][-1:] in ([1.0], [])


def test_a_graph_that_is_gone_when_looking_ahead_ends_the_episode_after_a_whole_turn() -> None:
    policy = Ranked(None)
    # The relations of Alien in both directions, and its director; the next query is for what lies ahead.
    graph = FailingGraph(good=3)
    graph._graph = GraphStore.from_triples(FILMS)
    question = named("Alien", text="Which director?")
    episode = play(policy, on=graph, question=question, guided=True, **SETS, **ONWARD, ahead_weight=0.5)
    assert episode.stop is StopReason.GRAPH_ERROR
    assert [turn.query is not None and turn.query.relation for turn in episode.turns] == [None, "director"]
    assert episode.turns[-1].shown_entities == ("Scott",)
    assert policy.meaning.ahead == []
