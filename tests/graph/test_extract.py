"""Question graphs cut out of a larger graph."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from graph_strategies import Rows, graphs
from hypothesis import given, settings
from hypothesis import strategies as st

from kgr1.errors import GraphServerError
from kgr1.graph import GraphInfo, GraphStore
from kgr1.graph.build import build_from_batches
from kgr1.graph.extract import CUT, HUBS, NO_TOPIC, REFUSED, SHORT, ExtractOptions, extract_question_graphs
from kgr1.graph.temporal import UNDATED, parse_span
from kgr1.types import ErrorCode, GoldAnswer, Observation, Operation, Query, Question

CHAIN = [("a", "r", "b"), ("c", "s", "b"), ("c", "r", "d"), ("d", "r", "e"), ("x", "r", "y")]


def question(name: str, *topics: str, answers: Iterable[str] = (), graph_id: str | None = None) -> Question:
    gold = tuple(GoldAnswer(label=answer, id=answer) for answer in answers)
    return Question(id=name, text="?", topics=topics, answers=gold, graph_id=graph_id)


def extract(graph: Any, *questions: Question, plain: bool = False, **options: Any) -> tuple[dict[str, Rows], Any]:
    """Facts by question graph, sorted, and the counts of what was dropped."""
    found: dict[str, Rows] = {item.id: [] for item in questions}
    dropped: dict[str, int] = {}
    for batch in extract_question_graphs(graph, questions, ExtractOptions(**options), plain=plain):
        for reason, count in batch.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
        if batch.facts is not None:
            assert ("graph" in batch.facts.columns) is not plain
            for row in batch.facts.iter_rows(named=True):
                found.setdefault(row.get("graph", ""), []).append((row["head"], row["relation"], row["tail"]))
    return {name: sorted(rows) for name, rows in found.items()}, dropped


class Wire:
    """The same graph with nothing but what a protocol gives."""

    def __init__(self, store: GraphStore) -> None:
        self._store = store

    def execute(self, queries: list[Query]) -> list[Observation]:
        return self._store.execute(queries)

    def info(self) -> GraphInfo:
        return self._store.info()

    def close(self) -> None:
        self._store.close()


def ball(rows: Rows, topics: Iterable[str], hops: int) -> Rows:
    """The straightforward way: facts of every entity that is fewer than ``hops`` steps away."""
    distance = dict.fromkeys(topics, 0)
    queue = deque(distance)
    while queue:
        node = queue.popleft()
        for head, _, tail in rows:
            for here, there in ((head, tail), (tail, head)):
                if here == node and there not in distance:
                    distance[there] = distance[node] + 1
                    queue.append(there)
    near = {node for node, steps in distance.items() if steps < hops}
    return sorted({row for row in rows if row[0] in near or row[2] in near})


@settings(max_examples=40, deadline=None)
@given(graphs(), st.data(), st.integers(1, 3))
def test_against_the_straightforward_way(rows: Rows, data: st.DataObject, hops: int) -> None:
    topics = data.draw(st.lists(st.sampled_from(sorted({row[0] for row in rows})), min_size=1, max_size=2))
    store = GraphStore.from_triples(rows)
    expected = ball(rows, topics, hops)
    for graph in (store, Wire(store)):
        found, dropped = extract(graph, question("q", *topics), hops=hops)
        assert found["q"] == expected
        assert dropped == {}


def test_hops_go_both_ways_and_stop() -> None:
    store = GraphStore.from_triples(CHAIN)
    asked = [question("1", "a"), question("2", "e", "x"), question("3", "nobody")]
    found, dropped = extract(store, *asked, hops=2)
    assert found == {"1": CHAIN[:2], "2": [CHAIN[2], CHAIN[3], CHAIN[4]], "3": []}
    assert dropped == {NO_TOPIC: 1}


def test_gold_answers_are_no_starts_unless_that_is_asked_for() -> None:
    store = GraphStore.from_triples(CHAIN)
    asked = question("q", "a", answers=["e", "not in the graph"])
    assert extract(store, asked, hops=1)[0]["q"] == [CHAIN[0]]
    assert extract(store, asked, hops=1, include_answers=True)[0]["q"] == [CHAIN[0], CHAIN[3]]


def test_limits() -> None:
    hub = [(f"leaf {n}", "in", "hub") for n in range(50)]
    store = GraphStore.from_triples([*hub, ("hub", "near", "z")])
    found, dropped = extract(store, question("q", "leaf 1"), hops=3, hub_limit=20)
    assert (found["q"], dropped) == ([("leaf 1", "in", "hub")], {HUBS: 1})
    found, dropped = extract(store, question("q", "hub"), hops=1, hub_limit=20)
    assert (len(found["q"]), dropped) == (51, {})
    found, dropped = extract(store, question("q", "hub"), hops=2, max_triples=7)
    assert (len(found["q"]), dropped) == (7, {CUT: 1})


class Refusing(Wire):
    """A graph that does not answer queries about some entities."""

    def __init__(self, store: GraphStore, operation: Operation, *entities: str) -> None:
        super().__init__(store)
        self._about = {(operation, entity) for entity in entities}

    def execute(self, queries: list[Query]) -> list[Observation]:
        return [self._refuse(query) or super(Refusing, self).execute([query])[0] for query in queries]

    def _refuse(self, query: Query) -> Observation | None:
        if (query.operation, query.entity) not in self._about:
            return None
        return Observation(query=query, error=ErrorCode.SERVER_ERROR, message="No answer within 30 s.")


class Miscounting(Wire):
    """A graph that counts a result more than it has."""

    def execute(self, queries: list[Query]) -> list[Observation]:
        found = super().execute(queries)
        return [one.model_copy(update={"total": one.total + 1}) if one.ok else one for one in found]


@pytest.mark.parametrize("most", [1, 7, 20, 60])
def test_what_a_graph_cuts_is_asked_for_page_by_page(most: int) -> None:
    rows = [("hub", f"r{number % 30:02}", f"leaf {number:03}") for number in range(60)]
    rows += [("hub", "r00", f"more {number:03}") for number in range(25)]
    dated = {"spans": [parse_span(str(1900 + number)) or UNDATED for number in range(len(rows))]}
    for options in ({}, dated):
        whole, cut = (GraphStore.from_triples(rows, max_results=n, **options) for n in (None, most))
        wanted = list(extract_question_graphs(whole, [question("q", "hub")]))
        for graph in (cut, Wire(cut)):
            found = list(extract_question_graphs(graph, [question("q", "hub")]))
            assert found[-1].facts is not None
            assert wanted[-1].facts is not None
            assert found[-1].facts.equals(wanted[-1].facts)
            assert found[-1].dropped == {}
        found, dropped = extract(Wire(cut), question("q", "hub"), max_triples=40)
        assert (len(found["q"]), dropped) == (40, {CUT: 1})


def test_results_that_a_graph_counts_and_does_not_give_are_told() -> None:
    store = GraphStore.from_triples(CHAIN)
    found, dropped = extract(Miscounting(store), question("1", "a"), question("2", "nobody"), hops=2)
    assert (found["1"], dropped) == (CHAIN[:2], {SHORT: 1, NO_TOPIC: 1})


def test_a_graph_that_does_not_answer() -> None:
    store = GraphStore.from_triples(CHAIN)
    for operation in (Operation.GET_TAIL_RELATIONS, Operation.GET_TAIL_ENTITIES):
        graph = Refusing(store, operation, "a")
        with pytest.raises(
            GraphServerError, match=rf"without an answer to {operation}\(\"a\".*No answer within 30 s\."
        ):
            extract(graph, question("q", "a"))
    for operation in (Operation.GET_HEAD_RELATIONS, Operation.GET_HEAD_ENTITIES):
        found, dropped = extract(Refusing(store, operation, "b"), question("q", "a"), hops=3)
        assert (found["q"], dropped) == (CHAIN[:1], {REFUSED: 1})


def test_aliases_come_along(tmp_path: Path) -> None:
    rows = [("Q60", "P17", "Q30"), ("Q61", "P17", "Q30"), ("Q1", "P1", "Q2")]
    labels = {"Q60": "New York City", "Q30": "United States", "Q61": "Washington", "P17": "country"}
    aliases = {"Q60": ["NYC", "Big Apple"], "P17": ["lies in"], "Q30": ["USA"], "Q2": ["not met"], "Q61": ["NYC"]}
    store = GraphStore.from_triples(rows, labels=labels, aliases=aliases)
    asked = [question("1", "NYC"), question("2", "USA")]
    report = build_from_batches(extract_question_graphs(store, asked, ExtractOptions(hops=1)), tmp_path / "cut")
    assert report.aliases == 5
    with GraphStore.open(tmp_path / "cut") as cut:
        for graph_id, text in (("1", "NYC"), ("1", "Big Apple"), ("2", "USA")):
            operations = ["get_tail_relations", "get_head_relations"]
            queries = [Query(operation=each, entity=text, graph_id=graph_id) for each in operations]
            assert [found.names for found in cut.execute(queries) if found.ok] == [("country",)]
        same = [Query(operation="get_tail_entities", entity="NYC", relation="lies in")]
        assert cut.execute(same)[0].names == store.execute(same)[0].names == ("United States",)
        assert cut.entities.find("New York City") == cut.entities.find("Big Apple")
        assert cut.entities.find("not met") == ()


def test_one_graph_of_all() -> None:
    store = GraphStore.from_triples(CHAIN)
    found, _ = extract(store, question("1", "a"), question("2", "b"), hops=1, plain=True)
    assert found[""] == CHAIN[:2]


def test_identifiers_labels_and_dates_come_along(tmp_path: Path) -> None:
    rows = [("m.1", "p.1", "m.2"), ("m.3", "p.1", "m.1"), ("m.1", "p.1", "m.2")]
    labels = {"m.1": "Denton", "m.2": "Texas", "m.3": "Denton", "p.1": "lies in"}
    spans = [parse_span("1990/1994"), UNDATED, parse_span("2014-05")]
    store = GraphStore.from_triples(rows, labels=labels, spans=[span or UNDATED for span in spans])
    for number, graph in enumerate((store, Wire(store))):
        topic = "Denton [m.1]"
        batches = extract_question_graphs(graph, [question("q", topic)], ExtractOptions(hops=1))
        out = tmp_path / str(number)
        report = build_from_batches(batches, out)
        assert report.triples == 3
        with GraphStore.open(out) as built:
            assert [built.entities.id(n) for n in range(3)] == ["m.1", "m.3", "m.2"]
            assert list(built.triples()) == list(store.triples())
            assert built.info().question_graphs == 1
            (found,) = built.execute(
                [Query(operation="get_tail_entities", entity="m.1", relation="lies in", graph_id="q")]
            )
            assert (found.names, found.times) == (("Texas",), (("1990/1994", "2014-05"),))


def test_a_topic_of_several_entities_means_all(tmp_path: Path) -> None:
    rows = [("m.1", "r", "m.2"), ("m.3", "r", "m.4")]
    store = GraphStore.from_triples(rows, labels={"m.1": "Denton", "m.3": "Denton"})
    assert extract(store, question("q", "denton"))[0]["q"] == rows


def test_questions_with_a_graph_of_their_own_stay_in_it() -> None:
    store = GraphStore.from_question_graphs({"g1": CHAIN[:1], "g2": CHAIN})
    assert extract(store, question("q", "a", graph_id="g1"), hops=3)[0]["q"] == CHAIN[:1]
    assert extract(store, question("q", "a", graph_id="g2"), hops=3)[0]["q"] == sorted(CHAIN[:3])


@pytest.mark.parametrize("field", ["hops", "max_triples", "hub_limit"])
def test_options_out_of_range(field: str) -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        ExtractOptions(**{field: 0})
