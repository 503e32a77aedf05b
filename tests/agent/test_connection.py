"""What connects the topics of a question: which relation is meant by it, and which results."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from episode_parts import FailingGraph, answer, ask, play
from hypothesis import given
from hypothesis import strategies as st
from set_episodes import ENTITIES, RELATIONS, Rows, graphs, named

from kgr1.agent.claim import supports
from kgr1.agent.connection import MOST_LINKED, MOST_LINKS, Connection, values
from kgr1.agent.found import find
from kgr1.agent.ledger import Ledger
from kgr1.agent.policy import Generation, Grammar, ScriptedPolicy, ScriptedSession
from kgr1.agent.prior import Prior
from kgr1.agent.retrieve import Retriever
from kgr1.agent.scout import Scout
from kgr1.config import AgentSettings, SamplingSettings
from kgr1.graph.store import GraphStore
from kgr1.graph.temporal import UNDATED, parse_span
from kgr1.types import STEP, DirectedRelation, Episode, Observation, Query, Question, StopReason

STUDIES: Rows = [
    ("Brees", "studied at", "Purdue"),
    ("Brees", "studied at", "Westlake"),
    ("Brees", "born in", "Dallas"),
    ("Brees", "plays for", "Saints"),
    ("Exponent", "paper of", "Purdue"),
    ("Exponent", "printed in", "Lafayette"),
    ("Boilermakers", "coach", "Brohm"),
    ("Brohm", "works at", "Purdue"),
    ("Purdue", "founded", "1869"),
    ("Purdue", "in", "Indiana"),
    ("Westlake", "founded", "1969"),
    ("Westlake", "in", "Texas"),
    ("Dallas", "in", "Texas"),
]
COLLEGES = ("Purdue", "Westlake")
LIST = 'get_tail_relations("Brees")'
STUDIED = 'get_tail_entities("Brees", "studied at")'
WALK = [ask(LIST), ask(STUDIED), answer('["*"]')]


def fact(outgoing: bool, entity: str, relation: str, *names: str) -> Observation:
    query = Query(operation=STEP[outgoing], entity=entity, relation=relation)
    return Observation(query=query, names=names, ids=names, total=len(names))


def connection(*facts: Observation, ends: Mapping[DirectedRelation, frozenset[str]] | None = None) -> Connection:
    topics: dict[str, dict[DirectedRelation, Observation]] = {}
    for each in facts:
        hop = each.query.operation.outgoing, each.query.relation or ""
        topics.setdefault(each.query.entity, {})[hop] = each
    return Connection(topics, ends or {})


def triples(links: list[Observation]) -> set[tuple[str, str, str]]:
    return {(t.head, t.relation, t.tail) for link in links for t in link.triples(len(link.names))}


TWO = connection(
    fact(True, "Brees", "studied at", *COLLEGES),
    fact(True, "Brees", "born in", "Dallas"),
    fact(True, "Exponent", "paper of", "Purdue"),
    fact(True, "Exponent", "read by", "Brees"),
    ends={(True, "in"): frozenset({"Indiana"}), (False, "paper of"): frozenset({"Purdue"})},
)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("Which club was founded in 1930?", ["1930"]),
        ("Which club was founded in 1930, and by whom?", ["1930"]),
        ("Which club was founded after the year 1930?", []),
        ("Which club was founded before May 1930?", []),
        ("Which club has more than about 1500 seats?", []),
        ("Which club has at least 1500 seats?", []),
        ("Which club has 12,500 seats?", []),  # as graphs do not write it
        ("Which one has a ratio of 3.14159?", []),
        ("Who went to school in 1990?", ["1990"]),
        ("Who plays number 10?", []),
    ],
)
def test_numbers_count_like_topics_unless_something_is_compared_to_them(text: str, numbers: list[str]) -> None:
    assert values(named("Spain", text=text)) == numbers


def test_a_relation_is_connected_if_what_it_leads_to_has_a_fact_with_another_topic() -> None:
    def connects(entity: str, outgoing: bool, relation: str, *done: str) -> bool:
        return TWO.connects(entity, (outgoing, relation), (), done)

    assert connects("Brees", True, "studied at")
    assert not connects("Brees", True, "born in")
    assert not connects("Brees", False, "studied at")  # which was not looked at
    assert connects("Exponent", True, "paper of")
    assert not connects("Exponent", True, "read by")  # a topic itself is nothing that both have to do with
    assert connects("*", False, "paper of")
    assert not connects("*", True, "in")
    assert not connects("*", False, "paper of", "Brees", "Exponent")
    assert not connects("Brees", True, "studied at", "Exponent")


def test_from_a_second_topic_it_is_connected_if_it_leads_to_what_was_found() -> None:
    assert TWO.connects("Exponent", (True, "paper of"), {"Purdue", "Yale"}, {"Brees"})
    assert not TWO.connects("Exponent", (True, "paper of"), {"Yale"}, {"Brees"})
    assert TWO.connects("Exponent", (True, "paper of"), {"Yale"}, {"Exponent"})  # found from this topic itself


def test_results_are_linked_if_some_of_them_have_a_fact_with_another_topic() -> None:
    assert triples(TWO.links(COLLEGES, {"Brees"})) == {("Exponent", "paper of", "Purdue")}
    assert TWO.links(("Purdue",), {"Brees"}) == []  # all of them have
    assert TWO.links(("Westlake", "Yale"), {"Brees"}) == []  # none has
    assert TWO.links(COLLEGES, {"Brees", "Exponent"}) == []


def test_several_topics_leave_what_has_to_do_with_all_of_them() -> None:
    three = connection(
        fact(True, "A", "r", "x", "y", "z"), fact(True, "B", "s", "x", "y"), fact(False, "C", "t", "y", "z")
    )
    assert triples(three.links(("x", "y", "z"), {"A"})) == {("B", "s", "y"), ("y", "t", "C")}


def test_what_has_to_do_with_most_is_said_by_few_facts() -> None:
    many = [f"n{i}" for i in range(MOST_LINKED + 1)]
    assert connection(fact(True, "T", "r", *many)).links([*many, "other"], ()) == []
    (link,) = connection(fact(True, "T", "r", *many[1:])).links([*many, "other"], ())
    assert link.names == link.ids == tuple(many[1:])
    single = connection(*(fact(True, "T", f"r{i}", name) for i, name in enumerate(many[1:])))
    assert len(single.links([*many, "other"], ())) == MOST_LINKS


def test_an_entity_between_links_as_well() -> None:
    coach = connection(fact(True, "Brees", "studied at", *COLLEGES), fact(True, "Boilermakers", "coach", "Brohm"))
    facts = [fact(False, "Purdue", "works at", "Brohm", "Brees"), fact(True, "Westlake", "in", "Texas")]
    assert coach.links(COLLEGES, {"Brees"}) == []
    links = coach.links_between({name: name.upper() for name in COLLEGES}, {"Brees"}, facts)
    assert triples(links) == {("Boilermakers", "coach", "Brohm"), ("Brohm", "works at", "Purdue")}
    assert links[-1].ids == ("PURDUE",)
    both = [*facts, fact(False, "Westlake", "works at", "Brohm")]
    assert coach.links_between({name: name for name in COLLEGES}, {"Brees"}, both) == []  # tells nothing of one of them


# The graph is asked


def begun(question: Question, rows: Rows) -> tuple[Scout, Ledger]:
    ledger = Ledger()
    scout = Scout(question, Retriever(GraphStore.from_triples(rows), ledger), AgentSettings())
    asyncio.run(scout.begin())
    return scout, ledger


def test_all_facts_of_the_topics_are_looked_up() -> None:
    scout, ledger = begun(named("Brees", "Exponent"), STUDIES)
    assert scout.connection is not None
    assert {topic: sorted(facts) for topic, facts in scout.connection.facts.items()} == {
        "Brees": [(True, "born in"), (True, "plays for"), (True, "studied at")],
        "Exponent": [(True, "paper of"), (True, "printed in")],
    }
    assert ledger.graph_calls == 4 + 5


def test_one_topic_costs_nothing_unless_a_number_is_named() -> None:
    scout, ledger = begun(named("Brees"), STUDIES)
    assert scout.connection is None
    assert ledger.graph_calls == 0
    scout, ledger = begun(named("Brees", text="Where did Brees study that opened in 1869 or 1870?"), STUDIES)
    assert scout.connection is not None
    assert set(scout.connection.facts) == {"Brees", "1869"}  # nothing is called 1870
    assert scout.connection.around["1869"] == {"Purdue"}


DATED = [
    ("Straw", "visit", "Iraq", "2005"),
    ("Straw", "visit", "Iran", "2006"),
    ("Straw", "office", "Minister", "1997"),
]


@pytest.mark.parametrize(
    ("text", "untimely"),
    [
        ("Where was Straw in 2005?", {(True, "office"), (True, "born in")}),
        ("Where was Straw in 2010?", {(True, "office"), (True, "born in"), (True, "visit")}),
        ("When was Straw in Iraq?", {(True, "born in")}),
        ("Where was Straw with Iraq?", set()),
    ],
)
def test_relations_that_have_nothing_of_the_time_count_for_less(text: str, untimely: set[DirectedRelation]) -> None:
    rows = [*((head, relation, tail) for head, relation, tail, _ in DATED), ("Straw", "born in", "Buckhurst Hill")]
    spans = [*(parse_span(date) or UNDATED for *_, date in DATED), UNDATED]
    question = named("Straw", "Iraq", text=text)
    for dated in (spans, None):  # in a graph without dates nothing is of any time
        graph = GraphStore.from_triples(rows, spans=dated)
        scout = Scout(question, Retriever(graph, Ledger()), AgentSettings(comparisons=True))
        asyncio.run(scout.begin())
        assert scout.connection is not None
        expected = untimely if dated else set()
        assert set(scout.connection.untimely.get("Straw", ())) == expected
        for hop in scout.connection.facts["Straw"]:
            connects = scout.connection.connects("Straw", hop, (), ())
            assert scout.connection.weight("Straw", hop, (), ()) == connects - (hop in expected)


# In an episode


class Ranked(ScriptedPolicy):
    """A policy that could have a ranker; it remembers what the grammar expects of queries."""

    ranker = meaning = verifier = None

    def __init__(self, texts: list[str]) -> None:
        super().__init__(texts)
        self._all = texts
        self.told: list[dict[str, float | None]] = []

    async def open(self, prompt: str, question: Question, sampling: SamplingSettings) -> ScriptedSession:
        return _Told(prompt, list(self._all), self.told)


class _Told(ScriptedSession):
    def __init__(self, prompt: str, texts: list[str], told: list[dict[str, float | None]]) -> None:
        super().__init__(prompt, texts)
        self._told = told

    async def generate(self, max_new_tokens: int, grammar: Grammar | None = None) -> Generation:
        if grammar is not None:
            expected = grammar.expected("<kg-query>")
            self._told.append(dict(zip(grammar.queries, expected, strict=True)) if expected else {})
        return await super().generate(max_new_tokens, grammar)


def played(texts: list[str], question: Question, rows: Rows = STUDIES, **agent: Any) -> tuple[Episode, Ranked]:
    policy = Ranked(texts)
    settings = {"sets": True, "guided": True, "max_turns": 8, "observation_tokens": 5000, "connection_weight": 2.0}
    episode = play(policy, on=GraphStore.from_triples(rows), question=question, **{**settings, **agent})
    return episode, policy


def test_what_another_topic_has_a_fact_with_is_what_was_found() -> None:
    episode, _ = played(WALK, named("Brees", "Exponent"))
    assert episode.answers == ("Purdue",)
    turn = episode.turns[1]
    assert turn.information == "Purdue, Westlake (Exponent, paper of: Purdue) (in both: Purdue)"
    assert triples(list(turn.linked)) == {("Exponent", "paper of", "Purdue")}
    assert {(t.head, t.relation, t.tail) for t in supports(episode)[0]} == {
        ("Brees", "studied at", "Purdue"),
        ("Exponent", "paper of", "Purdue"),
    }
    without, _ = played(WALK, named("Brees", "Exponent"), connection_weight=0.0)
    assert set(without.answers) == set(COLLEGES)


def test_what_a_graph_gives_in_part_says_nothing_of_what_is_not_there() -> None:
    rows = [
        ("Ann", "married", "Bob"),
        ("Ann", "married", "Zed"),
        ("Bob", "citizen of", "US"),
        ("Zed", "citizen of", "US"),
    ]
    rows += [(f"C{number:03}", "citizen of", "US") for number in range(50)]
    walk = [ask('get_tail_relations("Ann")'), ask('get_tail_entities("Ann", "married")'), answer('["*"]')]
    settings = {"sets": True, "guided": True, "observation_tokens": 5000, "connection_weight": 2.0}
    for most in (None, 20):  # the latter shows that Bob is one, and not that Zed is
        graph = GraphStore.from_triples(rows, max_results=most)
        episode = play(Ranked(walk), on=graph, question=named("Ann", "US"), **settings)
        assert episode.answers == ("Bob", "Zed")


def test_a_topic_that_the_graph_writes_another_way_is_no_other_topic() -> None:
    rows = [("France", "borders", name) for name in ("Spain", "Italy", "Andorra")]
    rows += [("Spain", "borders", name) for name in ("Portugal", "France", "Andorra")]
    rows += [("NATO", "founded in", "Washington")]
    for topic in ("France", "france"):
        walk = [
            ask(f'get_tail_entities("{topic}", "borders")'),
            ask('get_tail_entities("*", "borders")'),
            answer('["*"]'),
        ]
        episode, _ = played(walk, named(topic, "NATO"), rows)
        assert set(episode.answers) - {"France"} == {"Andorra", "Portugal"}


class Renaming:
    """A graph that answers some queries with another name of what was asked about."""

    def __init__(self, graph: GraphStore) -> None:
        self._graph = graph

    def execute(self, queries: Sequence[Query]) -> list[Observation]:
        return [self._renamed(found) for found in self._graph.execute(queries)]

    def _renamed(self, found: Observation) -> Observation:
        query = found.query.model_copy(update={"entity": f"Q({found.query.entity})"})
        return found.model_copy(update={"query": query}) if found.query.limit else found


def test_what_was_found_keeps_the_name_that_it_was_asked_about_with() -> None:
    for topics in (("Brees", "Exponent"), ("Brees", "Boilermakers")):
        plain, _ = played(WALK, named(*topics))
        graph = Renaming(GraphStore.from_triples(STUDIES))
        settings = {"sets": True, "guided": True, "observation_tokens": 5000, "connection_weight": 2.0}
        episode = play(Ranked(WALK), on=graph, question=named(*topics), **settings)
        assert episode.answers == plain.answers == ("Purdue",)


def test_without_the_ranker_that_the_settings_want_an_episode_fails_as_others_do() -> None:
    episode, _ = played(WALK, named("Brees", "Exponent"), ranker_weight=1.0)
    assert episode.stop is StopReason.POLICY_ERROR
    assert "has no ranker" in episode.error


def test_it_may_be_by_way_of_an_entity_between() -> None:
    episode, _ = played(WALK, named("Brees", "Boilermakers"))
    assert episode.answers == ("Purdue",)
    assert episode.turns[1].information.endswith(
        "(Boilermakers, coach: Brohm) (Brohm, works at: Purdue) (in both: Purdue)"
    )
    assert "Brohm" in episode.turns[1].shown_entities


def test_a_number_in_the_question_counts_as_well() -> None:
    question = named("Brees", text="Where did Brees study that was founded in 1869?")
    assert played(WALK, question)[0].answers == ("Purdue",)
    compared = named("Brees", text="Where did Brees study that was founded before 1969?")
    assert set(played(WALK, compared)[0].answers) == set(COLLEGES)


def test_a_walk_goes_on_from_what_is_linked() -> None:
    further = [*WALK[:2], ask('get_tail_relations("*")'), ask('get_tail_entities("*", "in")'), answer('["*"]')]
    episode, policy = played(further, named("Brees", "Exponent"))
    assert episode.answers == ("Indiana",)
    # What was linked is done with, so that nothing more is expected of its relations, and how it was is not asked.
    assert policy.told[3]['get_tail_entities("*", "in")'] == 0.0
    assert 'get_tail_entities("*", "founded")' in policy.told[3]
    assert not [query for query in policy.told[3] if query.startswith("get_head_entities") and "paper of" in query]
    apart, _ = played(further, named("Brees"))
    assert "in: paper of, studied at, works at" in apart.turns[2].information


def test_relations_that_lead_to_another_topic_are_expected() -> None:
    turns = [
        ask('get_tail_relations("Exponent")'),
        ask(LIST),
        ask('get_tail_entities("Brees", "born in")'),
        answer("[]"),
    ]
    _, policy = played(turns, named("Brees", "Exponent"))
    assert policy.told[0] == {LIST: 2.0, 'get_tail_relations("Exponent")': 2.0}  # each has a relation that connects
    assert policy.told[1] == {
        LIST: None,
        'get_tail_entities("Exponent", "paper of")': 2.0,
        'get_tail_entities("Exponent", "printed in")': 0.0,
    }
    # From the second topic it is what leads to what the first one has found.
    assert {query: score for query, score in policy.told[3].items() if "Exponent" in query} == {
        'get_tail_entities("Exponent", "paper of")': 0.0,
        'get_tail_entities("Exponent", "printed in")': 0.0,
    }
    alone = [*STUDIES, ("Dated", "kind of", "relation")]
    _, policy = played(turns, named("Brees", "Exponent", "Dated"), alone)
    assert policy.told[0]['get_tail_relations("Dated")'] == 0.0


@pytest.mark.parametrize("topics", [("Brees",), ("Brees", "Exponent")])
def test_where_no_topic_is_left_a_list_costs_nothing_more(topics: tuple[str, ...]) -> None:
    with_list = [*WALK[:2], ask('get_tail_relations("*")'), answer('["*"]')]
    listing, plain = (played(walk, named(*topics))[0] for walk in (with_list, WALK))
    members = len(plain.answers)
    assert listing.usage.graph_calls == plain.usage.graph_calls + 2 * members


@pytest.mark.parametrize("agent", [{"guided": False}, {"sets": False}, {"connection_weight": 0.0}])
def test_nothing_is_looked_up_in_vain(agent: dict[str, Any]) -> None:
    plain, _ = played(WALK[:1], named("Brees", "Exponent"), **{**agent, "max_turns": 1})
    assert plain.usage.graph_calls <= 2
    assert played(WALK, named("Brees", "Exponent"), **agent)[0].turns[1].linked == ()


def test_a_policy_that_is_never_asked_to_choose_looks_nothing_up() -> None:
    episode = play(
        ScriptedPolicy(WALK[:1]),
        on=GraphStore.from_triples(STUDIES),
        question=named("Brees", "Exponent"),
        sets=True,
        guided=True,
        connection_weight=1.0,
        max_turns=1,
    )
    assert episode.usage.graph_calls == 2


def test_a_graph_that_is_gone_at_the_first_look_ends_the_episode_before_its_first_turn() -> None:
    graph = FailingGraph(good=3)
    settings = {"sets": True, "guided": True, "connection_weight": 1.0}
    episode = play(Ranked(WALK), on=graph, question=named("Brees", "Exponent"), **settings)
    assert (episode.stop, episode.turns) == (StopReason.GRAPH_ERROR, ())
    assert "gone" in episode.error


@given(graphs(), st.sampled_from(ENTITIES), st.sampled_from(ENTITIES), st.sampled_from(RELATIONS), st.booleans())
def test_every_link_is_a_fact_and_every_answer_stands_on_facts(
    rows: Rows, topic: str, other: str, relation: str, outgoing: bool
) -> None:
    direction = "tail" if outgoing else "head"
    call = Query(operation=STEP[outgoing], entity=topic, relation=relation).to_text()
    listing = Query.model_validate({"operation": f"get_{direction}_relations", "entity": topic}).to_text()
    episode, _ = played([ask(listing), ask(call), answer('["*"]')], named(topic, other), rows)
    facts = {(t.head, t.relation, t.tail) for turn in episode.turns for link in turn.linked for t in link.triples(99)}
    assert facts <= set(rows)
    for turn in episode.turns:
        if turn.linked:
            members = set(find(episode.question.topics, episode.turns).names)
            assert turn.observation is not None
            assert members < set(turn.observation.names)
            assert all(supports(episode))


def test_a_prior_without_connections_expects_nothing_of_them() -> None:
    queries = [("Alien", (True, "actor")), ("*", (True, "born in"))]
    assert Prior(None, 0.0, named("Alien", "Weaver"), connection_weight=3.0).of(queries, ()) == [0.0, 0.0]


def test_of_what_is_linked_a_comparison_takes_what_it_means() -> None:
    rows = [*STUDIES, ("Cup", "winner", "Purdue"), ("Cup", "winner", "Westlake"), ("Brees", "studied at", "Elsewhere")]
    question = named("Brees", "Cup", text="Where did Brees study that won the Cup and was founded last?")
    episode, _ = played(WALK, question, rows, comparisons=True)
    assert episode.answers == ("Westlake",)
    assert triples(list(episode.turns[1].linked)) == {("Cup", "winner", "Westlake"), ("Westlake", "founded", "1969")}
