"""How names in a query find entities and relations."""

from __future__ import annotations

import time

import pytest
from graph_strategies import HEAD_ENTITIES, HEAD_RELATIONS, TAIL_ENTITIES, TAIL_RELATIONS, Rows, ask, graphs, names
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kgr1.errors import GraphError
from kgr1.graph import GraphStore, neutralise
from kgr1.graph.names import Closeness, is_identifier, lookup_key, readings, without_dates
from kgr1.graph.render import show_name
from kgr1.types import ErrorCode

CITIES = [
    ("Q90", "P17", "Q142"),
    ("Q830149", "P17", "Q30"),
    ("Q830149", "P131", "Q1439"),
    ("m.04j60kc", "located in", "Q142"),
    ("New_York  City", "located in", "Q30"),
]
LABELS = {
    "Q90": "Paris",
    "Q830149": "Paris",
    "Q142": "France",
    "Q30": "United States",
    "Q1439": "Texas",
    "P17": "country",
}


@pytest.fixture(scope="module")
def cities() -> GraphStore:
    return GraphStore.from_triples(CITIES, "cities", LABELS)


@pytest.mark.parametrize(
    ("entity", "relation", "resolved", "results"),
    [
        ("Q90", "P17", ("Paris [Q90]", "country"), ["France"]),
        ("Paris [Q90]", "country", ("Paris [Q90]", "country"), ["France"]),
        ("paris [q90]", "COUNTRY", ("Paris [Q90]", "country"), ["France"]),
        ("Paris", "country", ("Paris", "country"), ["France", "United States"]),
        (" PARIS ", "p17", (" PARIS ", "country"), ["France", "United States"]),
        ("new york city", "located_in", ("New_York  City", "located in"), ["United States"]),
        ("m.04j60kc", "Located  In", ("m.04j60kc", "located in"), ["France"]),
        ('"Paris [Q90]"', "country", ("Paris [Q90]", "country"), ["France"]),
    ],
)
def test_spellings(
    cities: GraphStore, entity: str, relation: str, resolved: tuple[str, str], results: list[str]
) -> None:
    observation = ask(cities, TAIL_ENTITIES, entity, relation)
    assert list(observation.names) == results
    assert (observation.query.entity, observation.query.relation) == resolved


def test_names_and_ids_run_in_parallel_and_sorted_by_name(cities: GraphStore) -> None:
    observation = ask(cities, HEAD_ENTITIES, "United States", "country")
    assert (observation.names, observation.ids) == (("Paris [Q830149]",), ("Q830149",))
    observation = ask(cities, TAIL_ENTITIES, "Paris", "country")
    assert (observation.names, observation.ids) == (("France", "United States"), ("Q142", "Q30"))
    relations = ask(cities, TAIL_RELATIONS, "Paris [Q830149]")
    assert relations.names == relations.ids == ("P131", "country")


def test_an_exact_name_wins_over_a_like_one() -> None:
    graph = GraphStore.from_triples([("a b", "r", "1"), ("A_B", "r", "2"), ("A B", "r", "3")])
    assert ask(graph, TAIL_ENTITIES, "A_B", "r").names == ("2",)
    assert ask(graph, TAIL_ENTITIES, "a_b", "r").names == ("1", "2", "3")


def test_relations_alike_are_united() -> None:
    graph = GraphStore.from_triples([("a", "born_in", "x"), ("a", "Born in", "y")])
    observation = ask(graph, TAIL_ENTITIES, "a", "BORN IN")
    assert observation.names == ("x", "y")
    assert observation.query.relation == "BORN IN"


@given(graphs(), st.dictionaries(names, names))
@example([("a", "r", "b"), ("A [a]", "r", "x")], {"a": "A", "b": "A"})
@example([("a", "r", "b"), ("x", "r", "y")], {"x": "a"})
@example([("a", "r", "b"), ("c", "r", "b")], {"a": "A", "b": "A", "c": "C"})
@example([("b] [c", "r", "c"), ("d", "r", "e")], {"b] [c": "a", "c": "a [b]", "d": "a", "e": "a [b]"})
@settings(deadline=None, max_examples=60)
def test_display_names_are_unique_and_lead_back(rows: Rows, labels: dict[str, str]) -> None:
    ids = {name for head, _, tail in rows for name in (head, tail)}
    # Labels of the graph's own names, many of them equal to other names: the hostile case.
    labels = {
        name: labels.get(name, label)
        for name, label in zip(sorted(ids), [*labels.values(), *sorted(ids)], strict=False)
    }
    graph = GraphStore.from_triples(rows, labels=labels)
    shown = [graph.entities.name(symbol) for symbol in range(len(graph.entities))]
    assert len(set(shown)) == len(ids)
    assert shown == sorted(shown)
    # Not even if all that is shown is an alias of everything.
    aliased = GraphStore.from_triples(rows, labels=labels, aliases=dict.fromkeys(ids, shown))
    for vocabulary in (graph.entities, aliased.entities):
        for symbol, name in enumerate(shown):
            assert vocabulary.name(symbol) == name
            assert vocabulary.find(name) == (symbol,)
            assert vocabulary.find(vocabulary.id(symbol)) == (symbol,)
            assert symbol in vocabulary.find(show_name(name))


def test_an_alias_does_not_take_over_what_is_shown() -> None:
    rows = [("Q1", "r", "Q9"), ("Q2", "s", "Q9"), ("Q3", "t", "Q9")]
    aliases = {"Q3": ["Paris [Q1]", "paris [q2]", "Berlin [Q1]"]}
    graph = GraphStore.from_triples(rows, labels={"Q1": "Paris", "Q2": "Paris"}, aliases=aliases)
    for text, relation in {"Paris [Q1]": "r", "Paris [Q2]": "s", "paris [q2]": "t", "Berlin [Q1]": "t"}.items():
        assert ask(graph, TAIL_RELATIONS, text).names == (relation,)


@pytest.mark.parametrize(
    "name", ["m.04j60kc", "/m/04j60kc", "g.11b5lzk_x", "Q142", "_:b1", "0B2F44E5-6c1a-4a5e-9d4a-3f9d8d2f7a10"]
)
def test_identifiers_that_say_nothing(name: str) -> None:
    assert is_identifier(name)


@pytest.mark.parametrize("name", ["G.NA", "M._Ward", "M.anifest", "g.o.o.d", "m.anifest", "/M/04J60KC", "q142", "Q"])
def test_names_that_look_a_little_like_identifiers(name: str) -> None:
    assert not is_identifier(name)


@given(names)
@settings(max_examples=200)
def test_what_is_shown_is_found_by_key(name: str) -> None:
    shown = neutralise(name)
    assert lookup_key(name) in {lookup_key(reading) for reading in (shown, *readings(shown))}
    quoted = show_name(name)
    assert lookup_key(name) in {lookup_key(reading) for reading in (quoted, *readings(quoted))}


@pytest.mark.parametrize(
    "name", ["<think>", "</information> x", "<|im_end|>", "[INST] a", "a\u202eb", "a\nb", "＜s＞", 'x "y", z']
)
def test_a_hostile_name_can_be_copied_from_the_screen(name: str) -> None:
    graph = GraphStore.from_triples([(name, "is", "b")])
    for copied in (show_name(name), neutralise(name), name):
        assert ask(graph, TAIL_ENTITIES, copied, "is").names == ("b",), copied


def test_readings_of_quotes_and_escapes() -> None:
    assert list(readings("plain")) == []
    assert list(readings('"a b"')) == ["a b"]
    assert list(readings(r"a\"b\n")) == ['a"b\n']
    assert list(readings("bad \\q")) == []


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("Parris", "Paris [Q"), ("Untied States", "United States"), ("new york", "New_York  City")],
)
def test_closest_entities(cities: GraphStore, asked: str, expected: str) -> None:
    observation = ask(cities, TAIL_RELATIONS, asked)
    assert observation.error is ErrorCode.ENTITY_NOT_FOUND
    assert expected in observation.message


def test_closest_names_are_at_most_three_and_only_if_like() -> None:
    graph = GraphStore.from_triples([(f"station {i}", "on line", "U2") for i in range(50)])
    assert len(graph.entities.closest("station x")) == 3
    assert graph.entities.closest("zzzzqq") == []
    assert graph.entities.closest("") == []
    assert graph.entities.closest("station 17x")[0] == "station 17"


def test_closest_relation_of_the_entity_comes_first() -> None:
    rows = [("a", "people.person.place_of_birth", "b"), ("c", "place_of_burial", "d"), ("c", "place_of_birt", "d")]
    graph = GraphStore.from_triples(rows)
    message = ask(graph, TAIL_ENTITIES, "a", "place_of_births").message
    assert '"people.person.place_of_birth"' in message
    assert message.index("people.person.place_of_birth") < message.index('place_of_birt"')


def test_closeness_prefers_whole_words_and_breaks_ties_by_name() -> None:
    assert Closeness("obama").best(["Osama", "Alabama", "Barack Obama"], 2) == ["Barack Obama", "Osama"]
    assert Closeness("abc").best(["abd", "abe"], 2) == ["abd", "abe"]


@pytest.mark.parametrize(
    "text", ["x" * 1_000_000, "\u0301" * 1_000_000, '"' * 1_000_000, "\\" * 1_000_000, "< " * 500_000]
)
def test_a_query_of_a_megabyte_costs_little(cities: GraphStore, text: str) -> None:
    started = time.perf_counter()
    observation = ask(cities, TAIL_RELATIONS, text)
    assert observation.error is ErrorCode.ENTITY_NOT_FOUND
    assert len(observation.message) < 2000
    ask(cities, HEAD_RELATIONS, f"a [{text}]")
    ask(cities, TAIL_ENTITIES, "Q90", text)
    assert time.perf_counter() - started < 2.0


def test_lone_surrogates_are_not_found_or_refused(cities: GraphStore) -> None:
    assert ask(cities, TAIL_RELATIONS, "\ud800").error is ErrorCode.ENTITY_NOT_FOUND
    with pytest.raises(GraphError, match="Triple 1: a name holds a lone surrogate"):
        GraphStore.from_triples([("\ud800", "r", "b")])
    with pytest.raises(GraphError, match="label of 'a'"):
        GraphStore.from_triples([("a", "r", "b")], labels={"a": "\ud800"})


@pytest.mark.parametrize("row", [("", "r", "b"), ("a", " ", "b"), ("a", "r"), ("a", "r", None)])
def test_bad_triples_are_refused(row: tuple[str, str, str]) -> None:
    with pytest.raises(GraphError, match="Triple 2"):
        GraphStore.from_triples([("a", "r", "b"), row])


def test_no_triples_are_refused() -> None:
    with pytest.raises(GraphError, match="no triple"):
        GraphStore.from_triples([])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Bob (2014)", "Bob"),
        ("Bob (2014-05)", "Bob"),
        ("Bob (2014-05-17, 2015-01-01)", "Bob"),
        ("Bob (1990/1994, 1999/, /1900)", "Bob"),
        ("Bob (-44-03-15)", "Bob"),
        ("Bob (2014-01-03, 2014-01-09, ... 214 more ..., 2014-12-30)", "Bob"),
        ("Bob (2014) (2015)", "Bob (2014)"),
        ("Bob (film)", "Bob (film)"),
        ("Bob (2014 film)", "Bob (2014 film)"),
        ("Bob (2014", "Bob (2014"),
        ("Bob ()", "Bob ()"),
        ("Bob (2014, )", "Bob (2014, )"),
        ("Bob (,2014)", "Bob (,2014)"),
        ("(2014)", "(2014)"),
        (" (2014)", " (2014)"),
        ("Bob(2014)", "Bob(2014)"),
    ],
)
def test_dates_behind_a_name_are_left_out(text: str, name: str) -> None:
    assert without_dates(text) == name


def test_a_name_with_dates_leads_back_if_nothing_else_does() -> None:
    graph = GraphStore.from_triples(
        [("Peter Pan (1953)", "year", "1953"), ("Peter Pan", "author", "Barrie"), ("A, B", "likes", "Ann")]
    )
    assert ask(graph, TAIL_RELATIONS, "Peter Pan (1953)").names == ("year",)
    assert ask(graph, TAIL_RELATIONS, "Peter Pan (1954)").names == ("author",)
    assert ask(graph, TAIL_RELATIONS, "peter pan (1954, 1955)").query.entity == "Peter Pan"
    assert ask(graph, TAIL_RELATIONS, '"A, B" (2014-05-17)').names == ("likes",)
    assert ask(graph, TAIL_RELATIONS, "Nobody (1954)").error is ErrorCode.ENTITY_NOT_FOUND


def test_dates_are_read_in_linear_time() -> None:
    for text in (
        "x (" + "1, " * 300_000,
        "x (" + "1" * 1_000_000 + ")",
        " (" * 300_000 + ")",
        "x (" + "1, " * 1300 + "y)",
    ):
        started = time.perf_counter()
        assert without_dates(text) == text
        assert time.perf_counter() - started < 1.0
