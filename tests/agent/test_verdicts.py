"""What a verifier is asked in an episode, and what becomes of its verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from episode_parts import FailingGraph, answer, ask, play
from set_episodes import FILMS, Rows, named

from kgr1.agent.policy import Generation, Grammar, ScriptedPolicy, ScriptedSession
from kgr1.agent.prior import MOST_VERIFIED, Prior, Verdict, branches, likeliest
from kgr1.agent.rollout import SURELY
from kgr1.agent.scout import MOST_FOLLOWED, MOST_READ
from kgr1.config import SamplingSettings
from kgr1.graph.store import GraphStore
from kgr1.graph.temporal import UNDATED, parse_span
from kgr1.types import DirectedRelation, Episode, Outcome, Question, StopReason

LIST = ask('get_tail_relations("Alien")')
DIRECTOR = ask('get_tail_entities("Alien", "director")')
LIST_FOUND = ask('get_tail_relations("*")')
WALK = [LIST, DIRECTOR, LIST_FOUND, ask('get_head_entities("*", "director")'), answer('["*"]')]
SENTENCES: dict[str, Any] = {"sentences": {"On.": 0.0, "That was asked.": 1.0}, "onward": ("On.",)}

Asked = tuple[list[list[DirectedRelation]], list[Outcome]]


class Judge:
    """A verifier that likes many results but no way back, and what begins with a late letter to be gone on from."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []

    def verdicts(
        self, question: str, branches: Sequence[Sequence[DirectedRelation]], outcomes: Sequence[Outcome]
    ) -> list[Verdict]:
        assert question
        self.asked.append(([list(way) for way in branches], list(outcomes)))
        return [
            Verdict(-1.0 if found.back else float(found.total), float(ord(found.names[0][0]) - ord("A")))
            for found in outcomes
        ]


class Knowing:
    """A ranker that has met a share of all relations, and likes none."""

    def __init__(self, share: float) -> None:
        self._share = share

    def scores(
        self, question: str, topics: Sequence[str], before: Sequence[str], relations: Sequence[DirectedRelation]
    ) -> list[float]:
        return [0.0] * len(relations)

    def familiarity(self, relations: Sequence[DirectedRelation]) -> float:
        return self._share


class Judged(ScriptedPolicy):
    """A policy that has a verifier; it remembers what the grammar expects."""

    meaning = None

    def __init__(self, verifier: Judge | None, texts: Sequence[str] = WALK, known: float = 1.0) -> None:
        super().__init__(texts, "judged")
        self.verifier, self.ranker = verifier, Knowing(known)
        self.texts = texts
        self.told: list[dict[str, float | None]] = []
        self.thoughts: list[list[float | None]] = []

    async def open(self, prompt: str, question: Question, sampling: SamplingSettings) -> ScriptedSession:
        return _Told(prompt, self)


class _Told(ScriptedSession):
    def __init__(self, prompt: str, policy: Judged) -> None:
        super().__init__(prompt, list(policy.texts))
        self._policy = policy

    async def generate(self, max_new_tokens: int, grammar: Grammar | None = None) -> Generation:
        if grammar is not None:
            expected = grammar.expected("<kg-query>")
            queries: Sequence[str] = getattr(grammar, "queries", ())
            self._policy.told.append(dict(zip(queries, expected, strict=True)) if expected else {})
            self._policy.thoughts.append(grammar.expected("<think>"))
        return await super().generate(max_new_tokens, grammar)


def played(policy: ScriptedPolicy, *topics: str, rows: Rows = FILMS, **agent: Any) -> Episode:
    settings = {"sets": True, "guided": True, "max_turns": 12, "observation_tokens": 5000, "verifier_weight": 0.5}
    question = named(*(topics or ("Alien",)), text="On what is it?")
    return play(policy, on=GraphStore.from_triples(rows), question=question, **{**settings, **agent})


def test_what_was_listed_is_followed_and_weighed() -> None:
    judge = Judge()
    policy = Judged(judge)
    assert set(played(policy).answers) == {"Legend"}
    starts, again, onward = judge.asked
    assert starts == (
        [[]],
        [Outcome((True, "actor"), ("Weaver",), 1), Outcome((True, "director"), ("Scott",), 1)],
    )
    assert again == ([[(True, "director")], []], [Outcome((True, "actor"), ("Weaver",), 1)])
    # "*" is Scott: what he directed is known without the film that was asked about.
    way, outcomes = onward
    assert way == [[(True, "director")]]
    assert Outcome((False, "director"), ("Legend",), 1) in outcomes
    assert policy.told[1]['get_tail_entities("Alien", "actor")'] == 0.5


def test_more_of_what_is_found_is_better() -> None:
    rows = [("A", "few", "B"), *(("A", "many", f"C{number}") for number in range(4)), ("A", "few of", "A")]
    policy = Judged(Judge(), [ask('get_tail_relations("A")'), answer("[]")])
    played(policy, "A", rows=rows)
    told = policy.told[1]
    assert told['get_tail_entities("A", "many")'] == 4 * 0.5
    assert told['get_tail_entities("A", "few")'] == 0.5
    # What leads to the topic alone leads there.
    assert told['get_tail_entities("A", "few of")'] == -0.5


def test_a_verifier_is_told_what_leads_back() -> None:
    rows = [("A", "code", "P"), ("A", "second", "P"), ("B", "second", "P"), ("P", "of", "Q"), ("Q", "kind", "P")]
    walk = [ask('get_tail_relations("A")'), ask('get_tail_entities("A", "code")'), LIST_FOUND, answer("[]")]
    policy = Judged(Judge(), walk)
    played(policy, "A", rows=rows)
    told = {query: score for query, score in policy.told[3].items() if '"*"' in query}
    assert told == {
        'get_head_entities("*", "code")': -0.5,
        'get_head_entities("*", "second")': 0.5,  # it leads to another one as well
        'get_tail_entities("*", "of")': 0.5,
        'get_head_entities("*", "kind")': 0.5,
    }
    further = [*walk[:3], ask('get_tail_entities("*", "of")'), LIST_FOUND, answer("[]")]
    policy = Judged(Judge(), further)
    played(policy, "A", rows=rows)
    assert policy.told[5]['get_tail_entities("*", "kind")'] == -0.5
    # What leads from another topic to what was found connects both.
    policy = Judged(Judge(), [*walk[:2], ask('get_tail_relations("B")'), answer("[]")])
    played(policy, "A", "B", rows=rows)
    assert policy.told[3]['get_tail_entities("B", "second")'] == 0.5


def test_what_it_was_not_asked_about_is_as_bad_as_the_worst() -> None:
    queries = [("A", (True, f"r{number}")) for number in range(MOST_VERIFIED + 2)] + [("*", None)]
    expected: list[float | None] = [*map(float, range(MOST_VERIFIED + 2)), None]
    best = likeliest(queries, expected)
    assert best == [("A", (True, f"r{number}")) for number in range(MOST_VERIFIED + 1, 1, -1)]
    outcomes = {step: Outcome(step[1], ("x",) * place, place) for place, step in enumerate(best, 3)}
    prior = Prior(None, 0.0, named("A"), verifier=Judge(), verifier_weight=2.0)
    found = prior.verified(queries, expected, outcomes, ())
    assert found[:2] == [0.0 + 2 * 3, 1.0 + 2 * 3]
    assert found[MOST_VERIFIED + 1] == MOST_VERIFIED + 1 + 2 * 3
    assert found[2] == 2.0 + 2 * (3 + MOST_VERIFIED - 1)
    assert found[-1] is None
    assert prior.verified(queries, expected, {}, ()) == expected


def test_topics_and_what_was_found_have_ways_of_their_own() -> None:
    judge = Judge()
    second = ask('get_tail_relations("Legend")')
    played(Judged(judge, [LIST, DIRECTOR, second, LIST_FOUND, answer('["*"]')]), "Alien", "Legend")
    ways = [way for way, _ in judge.asked]
    assert ways == [[[]], [[(True, "director")], []], [[(True, "director")], []], [[(True, "director")]]]


def test_only_some_of_what_was_found_are_followed_from() -> None:
    many = [("A", "has", f"B{number:02}") for number in range(MOST_FOLLOWED + 5)]
    rows = [*many, *((name, "is in", f"C{name}") for _, _, name in many)]
    judge = Judge()
    walk = [ask('get_tail_relations("A")'), ask('get_tail_entities("A", "has")'), LIST_FOUND, answer('["*"]')]
    played(Judged(judge, walk), "A", rows=rows)
    assert judge.asked[-1][1][0].total == MOST_FOLLOWED
    assert judge.asked[0][1] == [Outcome((True, "has"), tuple(name for _, _, name in many), len(many))]


def test_a_relation_to_thousands_is_not_read_whole() -> None:
    rows = [("A", "has", f"B{number:04}") for number in range(4 * MOST_READ)] + [("A", "is", "C")]
    judge = Judge()
    played(Judged(judge, [ask('get_tail_relations("A")'), answer("[]")]), "A", rows=rows)
    (many,) = (found for found in judge.asked[0][1] if found.hop[1] == "has")
    assert many.names == tuple(f"B{number:04}" for number in range(MOST_READ))


def test_going_on_is_weighed_where_the_ranker_knows_the_relations() -> None:
    for known, weight in ((1.0, 1.0), (0.5, 1.0), (0.25, 0.5), (0.0, 0.0)):
        judge = Judge()
        policy = Judged(judge, known=known)
        played(policy, **SENTENCES, verifier_weight=0.0, verifier_onward=0.5)
        goes_on = ord("S") - ord("A"), ord("L") - ord("A")  # from Scott, and from Legend
        expected = [0.0, 0.0, 0.5 * weight * goes_on[0], 0.0, 0.5 * weight * goes_on[1]]
        assert [said[0] for said in policy.thoughts] == expected
        assert [said[1] for said in policy.thoughts] == [1.0] * 5
        scott, legend = Outcome((True, "director"), ("Scott",), 1), Outcome((False, "director"), ("Legend",), 1)
        assert judge.asked == ([([[]], [scott]), ([[(True, "director")]], [legend])] if weight else [])


def test_going_on_from_where_the_way_began_is_told_as_such() -> None:
    turns = played(Judged(Judge()), verifier_weight=0.0, verifier_onward=0.0).turns
    judge = Judge()
    prior = Prior(Knowing(1.0), 0.0, named("Alien"), verifier=judge, verifier_onward=1.0)
    asked = [
        (["Scott"], turns[:2]),
        (["Alien"], turns[:2]),  # the topic
        (["Legend"], turns[:4]),
        (["Scott"], turns[:4]),  # found on the way
        (["Legend", "Scott"], turns[:4]),
    ]
    for names, before in asked:
        prior.goes_on(names, before)
    assert [found.back for _, (found,) in judge.asked] == [False, True, False, True, False]


def test_where_one_relation_was_listed_going_on_is_asked_about_as_well() -> None:
    judge = Judge()
    rows = [("A", "r", "B"), ("B", "s", "C"), ("B", "t", "C")]
    walk = [ask('get_tail_relations("A")'), ask('get_tail_entities("A", "r")'), answer('["*"]')]
    played(Judged(judge, walk), "A", rows=rows, verifier_weight=0.0, verifier_onward=1.0, **SENTENCES)
    assert judge.asked == [([[]], [Outcome((True, "r"), ("B",), 1)])]


@pytest.mark.parametrize(("comparisons", "asked"), [(True, 0), (False, 1)])
def test_nobody_asks_whether_to_go_on_from_what_a_comparison_means(comparisons: bool, asked: int) -> None:
    rows = [("Spain", "club", name) for name in ("Badalona", "Zaragoza")]
    rows += [("Badalona", "founded", "1930"), ("Zaragoza", "founded", "2002"), ("Spain", "capital", "Madrid")]
    judge = Judge()
    walk = [ask('get_tail_relations("Spain")'), ask('get_tail_entities("Spain", "club")'), answer('["*"]')]
    settings: dict[str, Any] = {"sets": True, "guided": True, "max_turns": 9, "observation_tokens": 5000, **SENTENCES}
    question = named("Spain", text="Which club of Spain was founded last?")
    graph = GraphStore.from_triples(rows)
    episode = play(
        Judged(judge, walk), on=graph, question=question, comparisons=comparisons, verifier_onward=1.0, **settings
    )
    assert len(judge.asked) == asked
    assert set(episode.answers) == ({"Zaragoza"} if comparisons else {"Badalona", "Zaragoza"})


@pytest.mark.parametrize(
    ("topics", "text", "weight", "sure"),
    [
        (("A", "b"), "What is it?", 1.0, True),  # a name as another one writes it
        (("A", "B", "C"), "What is it?", 1.0, True),
        (("A",), "What is it?", 1.0, False),  # the child of a parent may be the one asked about
        (("A", "D"), "What is it?", 1.0, False),
        (("A", "B"), "When was it?", 1.0, False),  # the date of what was found
        (("A", "B"), "What is it?", 0.0, False),
    ],
)
def test_a_question_that_names_several_things_asks_for_none_of_them(
    topics: tuple[str, ...], text: str, weight: float, sure: bool
) -> None:
    rows = [("A", "r", "B"), ("B", "s", "C"), ("B", "t", "D")]
    walk = [ask('get_tail_relations("A")'), ask('get_tail_entities("A", "r")'), answer('["*"]')]
    judge = Judge()
    policy = Judged(judge, walk)
    settings: dict[str, Any] = {"sets": True, "guided": True, "max_turns": 9, "observation_tokens": 5000, **SENTENCES}
    settings |= {"connection_weight": weight, "comparisons": True, "verifier_weight": 0.0, "verifier_onward": 1.0}
    question = Question(id="q", text=text, topics=topics, answers=())
    play(policy, on=GraphStore.from_triples(rows), question=question, **settings)
    told = [value for value in policy.thoughts[-1] if value is not None]
    assert (SURELY in told) is sure
    assert len(judge.asked) == (0 if sure else 1)


@pytest.mark.parametrize(
    ("text", "comparisons", "answers", "settled"),
    [
        ("Who held an office of Rome in 1999?", True, {"Gaius"}, True),
        ("Who held an office of Rome before 2010?", True, {"Gaius", "Titus"}, True),
        ("Who held an office of Rome first?", True, {"Gaius"}, True),
        ("When did Titus hold an office of Rome?", True, {"2003"}, True),
        ("Who held an office of Rome in 1980?", True, {"Gaius", "Titus"}, False),
        ("Who held an office of Rome?", True, {"Gaius", "Titus"}, False),
        ("Who held an office of Rome in 1999?", False, {"Gaius", "Titus"}, False),
    ],
)
def test_a_walk_ends_where_a_time_has_settled_what_is_meant(
    text: str, comparisons: bool, answers: set[str], settled: bool
) -> None:
    rows = [("Rome", "office", "Gaius"), ("Rome", "office", "Titus"), ("Rome", "in", "Italy")]
    spans = [parse_span("1999") or UNDATED, parse_span("2003") or UNDATED, UNDATED]
    walk = [ask('get_tail_relations("Rome")'), ask('get_tail_entities("Rome", "office")'), answer('["*"]')]
    judge = Judge()
    policy = Judged(judge, walk)
    settings: dict[str, Any] = {"sets": True, "guided": True, "max_turns": 9, "observation_tokens": 5000, **SENTENCES}
    settings |= {"comparisons": comparisons, "verifier_weight": 0.0, "verifier_onward": 1.0}
    graph = GraphStore.from_triples(rows, spans=spans)
    episode = play(policy, on=graph, question=named("Rome", text=text), **settings)
    assert set(episode.answers) == answers
    told = [value for value in policy.thoughts[-1] if value is not None]
    assert (-SURELY in told) is settled
    assert len(judge.asked) == (0 if settled else 1)


def test_branches_are_the_ways_from_each_topic() -> None:
    other = [ask('get_tail_relations("Legend")'), ask('get_tail_entities("Legend", "director")'), answer('["*"]')]
    turns = played(Judged(Judge(), [*WALK[:4], *other]), "Alien", "Legend").turns
    assert branches(turns) == [[(True, "director"), (False, "director")], [(True, "director")]]
    assert branches(()) == []


@pytest.mark.parametrize(
    "agent", [{"verifier_weight": 0.0}, {"sets": False}, {"guided": False}, {"max_turns": 1, **SENTENCES}]
)
def test_nobody_is_asked_in_vain(agent: dict[str, Any]) -> None:
    judge = Judge()
    asked = played(Judged(judge), **{"verifier_onward": 0.0, **agent})
    assert judge.asked == []
    without = played(ScriptedPolicy(WALK), **agent)
    assert asked.usage.graph_calls == without.usage.graph_calls


def test_a_weight_without_a_verifier_ends_the_episode_with_advice() -> None:
    for weights in ({"verifier_weight": 0.5}, {"verifier_weight": 0.0, "verifier_onward": 0.5}):
        episode = played(Judged(None), **weights)
        assert (episode.stop, episode.turns) == (StopReason.POLICY_ERROR, ())
        assert episode.error == (
            "'judged' has no verifier, which agent.verifier_weight and agent.verifier_onward ask for; make one with "
            "'kgr1 verifier', or set agent.verifier_weight=0 and agent.verifier_onward=0."
        )


def test_a_graph_that_is_gone_then_ends_the_episode_after_a_whole_turn() -> None:
    graph = FailingGraph(good=2)
    graph._graph = GraphStore.from_triples(FILMS)
    agent = {"sets": True, "guided": True, "verifier_weight": 0.5}
    episode = play(Judged(Judge()), on=graph, question=named("Alien"), **agent)
    assert episode.stop is StopReason.GRAPH_ERROR
    assert len(episode.turns) == 1
