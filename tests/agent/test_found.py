"""What ``*`` stands for, and that a query about it is one about each member."""

from __future__ import annotations

import random

import pytest
from episode_parts import answer, ask, play
from hypothesis import given
from hypothesis import strategies as st
from set_episodes import ENTITIES, FILMS, RELATIONS, Recording, Rows, graphs, named, play_sets, step

from kgr1.agent.found import MAX_MEMBERS, Found, find, find_for, members_of, together
from kgr1.graph.store import GraphStore
from kgr1.graph.temporal import UNDATED, parse_span
from kgr1.types import Episode, ErrorCode, Observation, Operation, Query, Turn, first_page

TAIL, HEAD = Operation.GET_TAIL_ENTITIES, Operation.GET_HEAD_ENTITIES

DIRECTOR = ask('get_tail_entities("Alien", "director")')
BACK = ask('get_head_entities("*", "director")')
BORN = ask('get_tail_entities("*", "born in")')


def found(episode: Episode, turns: int) -> tuple[str, ...]:
    """What ``*`` stands for after the first turns."""
    return find(episode.question.topics, episode.turns[:turns]).names


def names(episode: Episode, place: int) -> tuple[str, ...]:
    observation = episode.turns[place].observation
    return () if observation is None else observation.names


# What it stands for


def test_it_stands_for_the_last_result() -> None:
    texts = [ask('get_tail_relations("Cameron")'), ask('get_head_entities("Cameron", "director")')]
    texts += [ask('get_tail_relations("*")'), ask('get_tail_entities("*", "actor")'), BORN, BORN, ""]
    episode = play_sets(texts, ["Cameron"])
    sets = [(), (), ("Aliens", "Titanic"), ("Aliens", "Titanic"), ("Weaver",), ("US",), ("US",)]
    assert [found(episode, turns) for turns in range(7)] == sets
    assert episode.turns[5].information == 'KG_NO_RESULTS: "US" is not the subject of "born in"; try ' + (
        'get_head_entities("US", "born in").'
    )


def test_topics_that_results_were_asked_of_are_not_meant_unless_nothing_else_is_left() -> None:
    episode = play_sets([DIRECTOR, BACK], ["Alien"])
    assert names(episode, 1) == ("Alien", "Legend")
    assert found(episode, 2) == ("Legend",)
    rows = [("Bell", "wife", "Ada"), ("Ada", "husband", "Bell")]
    texts = [ask('get_tail_entities("Bell", "wife")'), ask('get_tail_entities("*", "husband")')]
    assert found(play_sets(texts, ["Bell"], rows), 2) == ("Bell",)
    # Nobody asked about the other topic.
    assert found(play_sets([DIRECTOR, BACK], ["Legend", "Alien"]), 2) == ("Legend",)


def test_a_topic_is_known_in_every_spelling() -> None:
    assert found(play_sets([DIRECTOR.replace("Alien", "ALIEN"), BACK], ["Alien"]), 2) == ("Legend",)
    assert found(play_sets([DIRECTOR.replace("Alien", "alien"), BACK], ["alien"]), 2) == ("Legend",)
    graph = GraphStore.from_triples(
        [("Q1", "director", "Q2"), ("Q3", "director", "Q2")], labels={"Q1": "Alien", "Q2": "Scott", "Q3": "Legend"}
    )
    texts = [ask('get_tail_entities("Q1", "director")'), BACK]
    assert found(play_sets(texts, ["Q1"], graph), 2) == ("Legend",)


def test_it_stays_the_same_until_entities_are_shown() -> None:
    rows = [("A", "r", "B"), ("A", "r", "C"), ("B", "s", "D")]
    texts = [ask('get_tail_entities("A", "r")'), ask('get_tail_relations("*")'), ask('get_tail_relations("B")')]
    texts += [ask('get_tail_entities("B", "nothing")'), "hm", ask('get_tail_entities("*", "s")'), ""]
    episode = play_sets(texts, ["A", "B"], rows)
    # To look at the relations of the other topic, or to ask it in vain, takes nothing away.
    assert [found(episode, turns) for turns in range(1, 6)] == [("B", "C")] * 5
    assert names(episode, 5) == ("D",)


def test_of_several_topics_it_is_what_they_share() -> None:
    scott, weaver = ask('get_head_entities("Scott", "director")'), ask('get_head_entities("Weaver", "actor")')
    episode = play_sets([scott, weaver, DIRECTOR.replace("Alien", "*"), ""], ["Scott", "Weaver"])
    assert [turn.information for turn in episode.turns[:3]] == [
        "Alien, Legend",
        "Alien, Aliens (in both: Alien)",
        "Scott",
    ]
    assert [found(episode, turns) for turns in (1, 2, 3)] == [("Alien", "Legend"), ("Alien",), ("Scott",)]
    # With nothing in common it is the last result, and two hops from the second topic may meet the first one.
    cruise = ask('get_head_entities("Cruise", "actor")')
    texts = [ask('get_tail_entities("Weaver", "born in")'), cruise, ask('get_tail_entities("*", "actor")'), BORN, ""]
    episode = play_sets(texts, ["Weaver", "Cruise"], [*FILMS, ("Cruise", "born in", "US")])
    assert [found(episode, turns) for turns in (1, 2, 3)] == [("US",), ("Legend",), ("Cruise",)]
    assert episode.turns[3].information == "US (in both: US)"
    # From what they share the way goes on, whatever they led to before.
    rows = [("A", "r", "C"), ("A", "r", "E"), ("B", "r", "C"), ("B", "r", "D"), ("C", "t", "E"), ("C", "t", "F")]
    texts = [ask('get_tail_entities("A", "r")'), ask('get_tail_entities("B", "r")'), ask('get_tail_entities("*", "t")')]
    on = play_sets([*texts, ""], ["A", "B"], rows)
    assert [found(on, turns) for turns in (1, 2, 3)] == [("C", "E"), ("C",), ("E", "F")]
    assert on.turns[2].information == "E, F"
    # A topic that is asked again begins anew.
    again = play_sets([scott, weaver, ask('get_tail_entities("Scott", "born in")'), ""], ["Scott", "Weaver"])
    assert found(again, 3) == ("England",)


def test_what_a_remark_names_counts_as_shown() -> None:
    rows = [("A", "r", f"n{number:02}") for number in range(80)] + [
        ("B", "r", f"n{number:02}") for number in range(60, 99)
    ]
    texts = [ask('get_tail_entities("B", "r")'), ask('get_tail_entities("A", "r")'), ask('get_tail_entities("*", "r")')]
    wide = play_sets([*texts[:2], answer('["*"]')], ["A", "B"], rows)
    assert wide.answers == tuple(f"n{number:02}" for number in range(60, 80))
    episode = play_sets([*texts[:2], answer('["*"]')], ["A", "B"], rows, observation_tokens=100)
    first = tuple(f"n{number:02}" for number in range(60, 70))
    assert episode.turns[0].shown > 10  # up to n70 at least
    assert 10 < episode.turns[1].shown < 60
    assert episode.turns[1].information.endswith(f" (in both: {', '.join(first)}, ...)")
    assert episode.answers == first
    assert episode.answer_ids == first
    assert {("A", "r", name) for name in first} <= {tuple(fact) for fact in episode.evidence}
    assert set(first) <= set(episode.turns[1].shown_entities)


def test_pages_of_a_result_belong_together() -> None:
    rows = [("A", "r", f"n{number}") for number in range(6)] + [
        (f"n{number}", "s", f"m{number}") for number in range(6)
    ]
    rows += [(f"m{number}", "s", "end") for number in range(6)]
    texts = [ask('get_tail_entities("A", "r")'), ask('get_tail_entities("A", "r", page=2)')]
    texts += [ask('get_tail_entities("*", "s")'), ask('get_tail_entities("*", "s", page=2)')]
    texts += [ask('get_tail_entities("*", "s", page=3)'), ask('get_tail_entities("*", "s")'), answer('["*"]')]
    episode = play_sets(texts, ["A"], rows, page_size=4)
    assert [turn.information for turn in episode.turns[:6]] == [
        "n0, n1, n2, n3 [1-4 of 6; page=2 for more]",
        "n4, n5 [5-6 of 6]",
        "m0, m1, m2, m3 [1-4 of 6; page=2 for more]",
        "m4, m5 [5-6 of 6]",  # of the same members, not of those that were shown since
        "KG_NO_RESULTS: There are only 6 results; the last page is page=2.",
        "end",
    ]
    assert found(episode, 2) == tuple(f"n{number}" for number in range(6))
    assert found(episode, 4) == tuple(f"m{number}" for number in range(6))
    assert episode.answers == ("end",)


def test_an_entity_of_this_name_can_be_asked_while_nothing_is_found() -> None:
    rows = [
        ("*", "is", "sign"),
        ("sign", "of", "*"),
        ("sign", "of", "letter"),
        ("letter", "in", "text"),
        ("*", "in", "sky"),
    ]
    texts = [ask('get_tail_relations("*")'), ask('get_tail_entities("*", "is")'), ask('get_tail_entities("*", "of")')]
    texts += [ask('get_tail_relations("*")'), ask('get_tail_entities("*", "in")'), answer('["*"]')]
    episode = play_sets(texts, ["*"], rows)
    assert [found(episode, turns) for turns in range(1, 6)] == [(), ("sign",), ("letter",), ("letter",), ("text",)]
    # As a member it is one like others.
    other = play_sets([ask('get_tail_entities("sign", "of")'), texts[4], texts[5]], ["sign"], rows)
    assert found(other, 1) == ("*", "letter")
    assert other.answers == ("sky", "text")
    assert {tuple(fact) for fact in (*episode.evidence, *other.evidence)} <= set(rows)
    assert len(other.evidence) == 4
    # Once something is found, it is that and no topic any more.
    rows = [("*", "r", "C"), ("B", "s", "D"), ("D", "t", "D"), ("D", "t", "F")]
    texts = [ask('get_tail_entities("*", "r")'), ask('get_tail_entities("B", "s")'), ask('get_tail_entities("*", "t")')]
    assert found(play_sets(texts, ["*", "B"], rows), 3) == ("D", "F")
    # Without the setting it is that entity and nothing else, neighbours of nameless results or not.
    node = [("*", "r", "m.0x"), ("m.0x", "s", "end")]
    plain = play_sets(
        [ask('get_tail_entities("*", "r")'), answer('["end"]')], ["*"], node, sets=False, expand_mediators=True
    )
    assert [tuple(fact) for fact in plain.evidence] == node


def test_before_anything_is_found_there_is_an_error() -> None:
    episode = play_sets(
        [ask('get_tail_entities("*", "r")'), ask('get_head_relations("*")'), answer('["*"]')], ["Alien"]
    )
    message = 'KG_ENTITY_NOT_FOUND: Nothing was found yet that "*" could stand for; ask about a topic first.'
    assert [turn.information for turn in episode.turns] == [message, message, ""]
    assert (episode.answers, episode.answer_ids, episode.evidence) == ((), (), ())
    assert found(episode, 3) == ()


# What is asked


def observed(*rows: str, error: ErrorCode | None = None, **more: object) -> Observation:
    query = Query(operation=TAIL, entity="x", relation="met")
    return Observation(query=query, names=rows, ids=rows, total=len(rows), error=error).model_copy(update=more)


ABOUT = Query(operation=TAIL, entity="*", relation="MET", graph_id="g")


def test_members_are_asked_whole_in_their_graph() -> None:
    query = ABOUT.model_copy(update={"time": "2014", "offset": 4, "limit": 4})
    asked = members_of(query, Found(("A", "B"), ("1", "2")))
    assert asked == [query.model_copy(update={"entity": name, "offset": 0, "limit": None}) for name in "AB"]
    many = tuple(map(str, range(MAX_MEMBERS + 5)))
    assert [each.entity for each in members_of(ABOUT, Found(many, many))] == list(many[:MAX_MEMBERS])


def test_answers_are_joined_and_sorted() -> None:
    parts = [observed("D", "B"), observed(error=ErrorCode.NO_RESULTS), observed("C", "B")]
    both = together(ABOUT, parts)
    assert (both.names, both.ids, both.times, both.total) == (("B", "C", "D"), ("B", "C", "D"), (), 3)
    # The relation as the graph writes it; what was asked about is still the set.
    assert both.query == ABOUT.model_copy(update={"relation": "met"})
    page = together(ABOUT.model_copy(update={"offset": 2, "limit": 2}), parts)
    assert (page.names, page.total) == (("D",), 3)
    beyond = together(ABOUT.model_copy(update={"offset": 4, "limit": 2}), parts)
    assert (beyond.error, beyond.message) == (
        ErrorCode.NO_RESULTS,
        "There are only 3 results; the last page is page=2.",
    )
    cut = together(ABOUT, [observed("B", total=900), observed("C")])
    assert cut.total == 900  # a server left some out


def test_dates_are_joined_in_their_order() -> None:
    one = observed("B", "C", times=(("-0044-03-15", "2014"), ()))
    other = observed("B", "D", times=(("0980/1013", "-0100"), ("1990",)))
    both = together(ABOUT, [one, other])
    assert both.names == ("B", "C", "D")
    assert both.times == (("-0100", "-0044-03-15", "0980/1013", "2014"), (), ("1990",))


def test_an_error_is_that_of_the_members_if_they_agree() -> None:
    none = observed(error=ErrorCode.NO_RESULTS, message="Not this one.")
    unknown = observed(error=ErrorCode.RELATION_NOT_FOUND, message="No such relation.")
    assert together(ABOUT, [none]).message == "Not this one."
    assert together(ABOUT, [none] * 3).message == "None of the 3 entities found has results here."
    assert together(ABOUT, [unknown] * 3).message == "No such relation."
    mixed = together(ABOUT, [none, unknown])
    assert (mixed.error, mixed.query) == (ErrorCode.NO_RESULTS, ABOUT)


def test_dates_and_times_reach_every_member() -> None:
    rows = [("A", "r", "B"), ("A", "r", "C"), ("B", "s", "D"), ("C", "s", "D"), ("C", "s", "E")]
    dates = [UNDATED, UNDATED, *(parse_span(year) or UNDATED for year in ("1990", "2001", "1980"))]
    graph = GraphStore.from_triples(rows, spans=dates)
    texts = [ask('get_tail_entities("A", "r")'), ask('get_tail_entities("*", "s")')]
    assert play_sets([*texts, ""], ["A"], graph).turns[1].information == "D (1990, 2001), E (1980)"
    texts[1] = ask('get_tail_entities("*", "s", "before 1999")')
    timed = play_sets([*texts, answer('["*"]')], ["A"], graph)
    assert timed.turns[1].information == "D (1990), E (1980)"
    assert [tuple(fact) for fact in timed.evidence] == [*rows[:2], rows[2], rows[4]]
    texts[1] = ask('get_tail_entities("*", "s", "1850")')
    assert play_sets([*texts, ""], ["A"], graph).turns[1].information == (
        "KG_NO_RESULTS: None of the 2 entities found has results here."
    )


def test_members_are_asked_in_the_graph_of_the_question() -> None:
    rows = [("A", "r", "B"), ("A", "r", "C"), ("B", "s", "D")]
    graph = GraphStore.from_question_graphs({"one": rows, "two": [*rows, ("C", "s", "E"), ("D", "s", "B")]})
    texts = [ask('get_tail_entities("A", "r")'), ask('get_tail_relations("*")'), ask('get_tail_entities("*", "s")')]
    shown = {}
    for name in ("one", "two"):
        episode = play([*texts, ""], on=graph, question=named("A", graph_id=name), sets=True)
        shown[name] = [turn.information for turn in episode.turns[:3]]
    assert shown == {"one": ["B, C", "out: s\nin: r", "D"], "two": ["B, C", "out: s\nin: r, s", "D, E"]}


def test_of_many_members_the_first_ones_are_asked() -> None:
    count = MAX_MEMBERS + 7
    rows = [("A", "r", f"n{number:03}") for number in range(count)]
    rows += [(f"n{number:03}", "s", f"m{number:03}") for number in range(count)]
    graph = Recording(rows)
    episode = play_sets([ask('get_tail_entities("A", "r")'), ask('get_tail_entities("*", "s")'), ""], ["A"], graph)
    assert len(found(episode, 1)) == count
    assert len(graph.asked) == episode.usage.graph_calls == 1 + MAX_MEMBERS
    assert found(episode, 2) == tuple(f"m{number:03}" for number in range(MAX_MEMBERS))


# Properties


@given(graphs(), st.sampled_from(RELATIONS), st.booleans(), st.sampled_from(RELATIONS), st.booleans(), st.data())
def test_a_query_is_the_union_of_those_about_each_member(
    rows: Rows, first: str, out: bool, second: str, further: bool, data: st.DataObject
) -> None:
    topic = data.draw(st.sampled_from(sorted({row[0] for row in rows} - {"*"}) or ["A"]))
    graph = Recording(rows)
    texts = [Query(operation=TAIL if out else HEAD, entity=topic, relation=first).to_text()]
    texts.append(Query(operation=TAIL if further else HEAD, entity="*", relation=second).to_text())
    texts.append('get_tail_relations("*")')
    # Without the last result the relations are those of the same members.
    for script in (texts[:2], [texts[0], texts[2]]):
        graph.asked.clear()
        episode = play_sets([*map(ask, script), ""], [topic], graph)
        results = step(rows, topic, first, outgoing=out)
        members = results - {topic} or results
        if not members:
            continue
        assert set(found(episode, 1)) == members
        observation = episode.turns[1].observation
        assert observation is not None
        if script[1] == texts[1]:
            expected = set().union(*(step(rows, member, second, outgoing=further) for member in members))
            assert observation.names == tuple(sorted(expected))
            assert (observation.error is None) == bool(expected)
            assert len(graph.asked) == 1 + len(members)
            facts = {tuple(fact) for part, count in episode.turns[1].facts() for fact in part.triples(count)}
            assert facts <= set(rows)
            assert {fact[2 if further else 0] for fact in facts} == expected
        else:
            listed = {True: set[str](), False: set[str]()}
            for part in (observation, *episode.turns[1].expanded):
                listed[part.query.operation.outgoing] |= set(part.names)
            assert listed[True] == {relation for head, relation, _ in rows if head in members}
            assert listed[False] == {relation for _, relation, tail in rows if tail in members}
            assert len(graph.asked) == 1 + 2 * len(members)
        assert episode.usage.graph_calls == len(graph.asked)
        assert Episode.model_validate_json(episode.model_dump_json()) == episode


@given(graphs(), st.integers(1, 5), st.integers(0, 1 << 30))
def test_a_way_of_some_facts_is_walked_in_as_many_queries(rows: Rows, length: int, seed: int) -> None:
    """Completeness, for ways that do not come back to their topic: what lies behind that is nearer to it."""
    rng = random.Random(seed)
    topic = rng.choice([name for name in ENTITIES if name != "*"])
    way: list[tuple[str, bool]] = []
    place = topic
    for _ in range(length):
        steps = [(relation, True, tail) for head, relation, tail in rows if head == place and tail != topic]
        steps += [(relation, False, head) for head, relation, tail in rows if tail == place and head != topic]
        if not steps:
            break
        relation, outgoing, place = rng.choice(steps)
        way.append((relation, outgoing))
    texts = [
        ask(Query(operation=TAIL if out else HEAD, entity="*" if number else topic, relation=relation).to_text())
        for number, (relation, out) in enumerate(way)
    ]
    episode = play_sets([*texts, answer('["*"]')], [topic], rows)
    if way:
        assert len(episode.turns) == len(way) + 1
        assert place in names(episode, len(way) - 1)
        assert place in episode.answers


def turn(query: Query, *results: str) -> Turn:
    seen = Observation(query=query, names=results, ids=results, total=len(results))
    return Turn(text="", query=query, observation=seen, shown=len(results))


def test_another_page_is_one_of_the_last_result() -> None:
    def page(number: int, entity: str = "*") -> Query:
        return Query(operation=TAIL, entity=entity, relation="r", offset=4 * (number - 1), limit=4)

    one, two = turn(page(1), "B"), turn(page(2), "C")
    nothing = turn(page(3))
    assert page(2).continues(page(1))
    assert page(2).continues(page(3))
    assert not page(1).continues(page(2))
    assert not page(2).continues(page(1, "A"))
    assert first_page(page(2), []) is None
    assert first_page(page(2), [one]) == 0
    assert first_page(page(3), [one, two, nothing]) == 0
    assert first_page(page(2), [one, one]) == 1  # the first one is of another hop
    assert first_page(page(1), [one, two]) is None
    assert first_page(page(2, "A"), [one]) is None
    before = turn(page(1, "A"), "D", "E")
    assert find_for(page(2), ["A"], [before, one]).names == ("D", "E")
    assert find_for(page(1), ["A"], [before, one]).names == ("B",)


@pytest.mark.parametrize("sets", [True, False])
def test_without_the_setting_it_is_a_name_like_others(sets: bool) -> None:
    episode = play_sets([DIRECTOR, BORN, answer('["*", "scott"]')], ["Alien"], sets=sets)
    if sets:
        assert episode.turns[1].information == "England"
        assert (episode.answers, episode.answer_ids) == (("England", "scott"), ("England", "Scott"))
    else:
        assert episode.turns[1].information.startswith('KG_ENTITY_NOT_FOUND: No entity is named "*"')
        assert episode.answers == ("*", "scott")


def test_names_of_an_answer_are_unique() -> None:
    episode = play_sets([DIRECTOR, BACK, answer('["legend", "*", "Alien"]')], ["Alien"])
    assert episode.answers == ("legend", "Alien")
