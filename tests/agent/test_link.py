"""Names in questions: what is found, what is left alone, and the same without a name index."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgr1.agent.link import Link, find_links, link
from kgr1.agent.names import Names
from kgr1.agent.spans import MAX_QUESTION_PIECES, fold, forms_of, pieces_of, spans_of
from kgr1.graph import GraphStore, KnowledgeGraph
from kgr1.graph.api import GraphInfo, NameIndex, NameMatch
from kgr1.types import ErrorCode, Observation, Query

FILMS = (
    [(f"Film {i}", "genre", "Drama") for i in range(40)]
    + [(f"Film {i}", "written in", "English") for i in range(40)]
    + [(f"Film {i}", "country", "United States of America") for i in range(40)]
    + [("United States of America", f"location.country.fact_{i}", f"Value {i}") for i in range(30)]
    + [
        ("Alien", "directed_by", "Ridley Scott"),
        ("Alien", "starring", "Sigourney Weaver"),
        ("Aliens", "directed_by", "James Cameron"),
        ("Amélie", "directed_by", "Jean-Pierre Jeunet"),
        ("Who", "directed_by", "Film 1"),
        ("The Lord of the Rings: The Return of the King", "directed_by", "Peter Jackson"),
        ("The Return", "directed_by", "Andrey Zvyagintsev"),
        ("Spider-Man", "directed_by", "Sam Raimi"),
        ("Anger", "directed_by", "R. Kelly"),
        ("yixin_prince_gong", "parents", "daoguang_emperor"),
        ("Washington, D.C.", "country", "United States of America"),
        ("United States", "spelling of", "United States of America"),
        ("Ohio", "country", "United States of America"),
        ("Władysław Sikorski", "born in", "Tuszów Narodowy"),
        ("Love, etc.", "directed_by", "Marion Vernoux"),
        ("Peter Pan (1953 film)", "directed_by", "Clyde Geronimi"),
        ("2001", "directed_by", "Stanley Kubrick"),
    ]
)


@pytest.fixture(scope="module")
def films() -> GraphStore:
    return GraphStore.from_triples(FILMS)


class Remote:
    """A graph without a name index, such as a server."""

    def __init__(self, store: GraphStore) -> None:
        self._store = store
        self.batches: list[int] = []

    def execute(self, queries: Sequence[Query]) -> list[Observation]:
        self.batches.append(len(queries))
        return self._store.execute(queries)

    def info(self) -> GraphInfo:
        return self._store.info()

    def close(self) -> None:
        pass


def topics(question: str, graph: KnowledgeGraph) -> list[str]:
    return [found.name for found in link(question, graph)]


QUESTIONS = [
    ("Who directed Alien?", ["Alien"]),
    ("who directed alien", ["Alien"]),
    ("Who directed Aliens?", ["Aliens"]),
    ("What is Sigourney Weaver's best film?", ["Sigourney Weaver"]),
    ("what is sigourney weaver 's best film ?", ["Sigourney Weaver"]),
    ("the films of “Ridley Scott”", ["Ridley Scott"]),
    ("who made The Lord of the Rings: The Return of the King", ["The Lord of the Rings: The Return of the King"]),
    ("who made the lord of the rings : the return of the king ?", ["The Lord of the Rings: The Return of the King"]),
    ("what gender is yixin_prince_gong 's father ?", ["yixin_prince_gong"]),
    ("the parents of Yixin Prince Gong", ["yixin_prince_gong"]),
    ("which country is washington, d.c. in", ["Washington, D.C."]),
    ("Which country is Washington , D.C. in?", ["Washington, D.C."]),
    ("who directed love, etc.", ["Love, etc."]),
    ("Who directed Spider Man?", ["Spider-Man"]),
    ("what did r kelly direct", ["R. Kelly"]),
    ("who directed amelie", ["Amélie"]),
    ("where was wladyslaw sikorski born", ["Władysław Sikorski"]),
    ("who directed peter pan", ["Peter Pan (1953 film)"]),
    ("films with Sigorney Weaver", ["Sigourney Weaver"]),
    ("films with sigourney waever", ["Sigourney Weaver"]),
    ("what has jeunet directed", ["Jean-Pierre Jeunet"]),
    ("which films were made in the United States", ["United States of America"]),
    ("did Ohio's people see Alien", ["Alien", "Ohio"]),
]


@pytest.mark.parametrize(("question", "wanted"), QUESTIONS, ids=[question for question, _ in QUESTIONS])
def test_topics_are_found(question: str, wanted: list[str], films: GraphStore) -> None:
    assert sorted(topics(question, films)) == wanted


@pytest.mark.parametrize(
    "question", ["", "?", "   ", "who is the of", "what is it", "\x00\ud800", "who directed", "¿¡«»", "xyzzy plugh"]
)
def test_nothing_is_found_in_nothing(question: str, films: GraphStore) -> None:
    assert link(question, films) == ()


def test_without_an_index_the_same_is_found_in_few_batches(films: GraphStore) -> None:
    remote = Remote(films)
    assert isinstance(films, NameIndex)
    assert not isinstance(remote, NameIndex)
    other = [question for question, _ in QUESTIONS if topics(question, remote) != topics(question, films)]
    assert len(other) <= 2, other  # an error suggests fewer names than an index gives
    remote.batches.clear()
    assert topics("Who directed Alien?", remote) == ["Alien"]
    assert len(remote.batches) <= 3


def test_a_question_graph_is_asked_for_itself(films: GraphStore) -> None:
    class OnlyQ7(Remote):
        def execute(self, queries: Sequence[Query]) -> list[Observation]:
            assert all(query.graph_id == "q7" for query in queries)
            return super().execute([query.model_copy(update={"graph_id": None}) for query in queries])

    assert [found.name for found in link("Who directed Alien?", OnlyQ7(films), graph_id="q7")] == ["Alien"]
    assert link("Who directed Alien?", films, graph_id="q7") == ()  # a store that has no such graph finds nothing


def test_all_bearers_of_a_name_are_given() -> None:
    triples = [("Q90", "country", "Q142"), ("Q90", "mayor", "Q2"), ("Q830149", "state", "Q1439")]
    labels = {"Q90": "Paris", "Q830149": "Paris", "Q142": "France", "Q2": "Anne Hidalgo", "Q1439": "Texas"}
    graph = GraphStore.from_triples(triples, labels=labels)
    (found,) = link("who is the mayor of Paris", graph)
    assert (found.name, found.id, found.others) == ("Paris [Q90]", "Q90", ("Paris [Q830149]",))
    (found,) = link("which state is paris in", graph)
    assert found.name == "Paris [Q830149]"
    assert [match.degree for match in graph.find_names("PARIS")] == [2, 1]
    assert [match.name for match in graph.closest_names("Pariss")] == ["Paris [Q90]", "Paris [Q830149]"]
    assert graph.find_names("Lyon") == graph.closest_names("???") == ()


def test_places_and_scores(films: GraphStore) -> None:
    question = "Did Ridley Scott direct Amelie?"
    found = find_links(question, films)
    assert all(question[each.start : each.end] == each.text for each in found)
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    by_name = {each.name: each for each in found}
    assert by_name["Ridley Scott"].exact
    assert not by_name["Amélie"].exact
    assert link(question, films, limit=1)[0].name == found[0].name


def test_a_long_question_takes_a_bounded_number_of_lookups() -> None:
    asked: list[str] = []

    class Counting(GraphStore):
        def find_names(self, text: str) -> tuple[NameMatch, ...]:
            asked.append(text)
            return super().find_names(text)

    graph = Counting.from_triples(FILMS)
    link("alien " * 50_000, graph)
    assert len(pieces_of("word " * 50_000)) == MAX_QUESTION_PIECES
    assert 0 < len(asked) < 40_000
    assert link("x" * 1_000_000, graph) == ()


@given(st.text(max_size=60))
def test_any_text_can_be_cut_into_spans(text: str) -> None:
    for span in spans_of(text, pieces_of(text)):
        assert text[span.start : span.end] == span.text
        assert all(form.text.strip() for form in forms_of(span.text))
    assert fold(fold(text)) == fold(text)


def test_suggestions_of_an_error_are_checked_against_the_graph() -> None:
    class Lying(Remote):
        def execute(self, queries: Sequence[Query]) -> list[Observation]:
            message = 'No entity is named "x"; the closest are "Nobody", "Alien", "\\u00".'
            return [
                each
                if each.ok or each.error is ErrorCode.NO_RESULTS
                else Observation(query=each.query, error=ErrorCode.ENTITY_NOT_FOUND, message=message)
                for each in super().execute(queries)
            ]

    names = Names(Lying(GraphStore.from_triples(FILMS)))
    assert names.find(["nothing"]) == {}
    assert [match.name for match in names.closest("nothing", 3)] == ["Alien"]


@pytest.mark.parametrize(("folder", "least"), [("metaqa", 0.9), ("webqsp-cwq", 0.5)])
def test_published_questions(shared_data: Path, folder: str, least: float) -> None:
    with gzip.open(shared_data / folder / "kg.tsv.gz", "rt", encoding="utf-8", newline="\n") as lines:
        graph = GraphStore.from_triples(tuple(line.rstrip("\n").split("\t")) for line in lines)  # type: ignore[misc]
    with gzip.open(shared_data / folder / "questions.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for number, line in enumerate(lines) if number % 100 == 0][:40]
    right = sum(set(topics(row["question"], graph)) == set(row["topic_entities"]) for row in rows)
    assert right / len(rows) >= least


def test_names_of_any_length_and_numbers_where_nothing_else_is_named() -> None:
    treaty = "Convention on the Prohibition of the Use, Stockpiling, Production and Transfer of Anti-Personnel Mines"
    treaty = f"{treaty} and on their Destruction, done at Oslo on 18 September 1997"
    rows = [("42", "keeper", "Ann Lee"), ("Alien", "released in", "1979"), (treaty, "depositary", "United Nations")]
    graph = GraphStore.from_triples(rows)
    assert [found.name for found in link(f"Who is the depositary of the {treaty}?", graph)] == [treaty]
    assert [found.name for found in link("Who is the keeper of 42?", graph)] == ["42"]
    assert [found.name for found in link("What was released in 1979?", graph)] == ["1979"]
    assert [found.name for found in link("Who made Alien in 1979?", graph)] == ["Alien"]
    assert link("Who made it in 1980?", graph) == ()


def test_a_name_that_stands_twice_is_one_topic() -> None:
    graph = GraphStore.from_triples([("Alien", "director", "Ridley Scott")])
    assert [found.name for found in link('Who directed Alien, and what is "Alien"?', graph)] == ["Alien"]


def test_a_name_that_stands_twice_keeps_its_better_place(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = [("Alien", 0.9), ("Ridley Scott", 0.75), ("Alien", 0.72)]
    links = tuple(Link(name=name, id=name, text=name, start=0, end=1, score=score) for name, score in scores)
    monkeypatch.setattr("kgr1.agent.link.find_links", lambda *_, **__: links)
    assert link("", GraphStore.from_triples([("a", "b", "c")])) == links[:2]
