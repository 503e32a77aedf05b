"""What every :class:`kgr1.graph.api.KnowledgeGraph` does, as tests that a backend passes in three lines::

class TestMyBackend(GraphContract):
    def make_graph(self, triples, labels=None):
        return MyBackend(triples, labels)
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from reference_graph import ReferenceGraph

from kgr1.graph.api import GraphInfo, KnowledgeGraph
from kgr1.types import ErrorCode, Observation, Operation, Query

FILMS = [
    ("Alien", "directed_by", "Ridley Scott"),
    ("Alien", "starring", "Sigourney Weaver"),
    ("Alien", "starring", "John Hurt"),
    ("Alien", "release year", "1979"),
    ("Aliens", "directed_by", "James Cameron"),
    ("Aliens", "starring", "Sigourney Weaver"),
    ("Blade Runner", "directed_by", "Ridley Scott"),
    ("James_Cameron_Facts", "about", "James Cameron"),
    ("Amélie", "directed_by", "Jean-Pierre Jeunet"),
    ("Alien", "sequel", "Aliens"),
    ("Narcissus", "admires", "Narcissus"),
]

CITIES = [
    ("Q90", "country", "Q142"),
    ("Q830149", "country", "Q30"),
    ("Q830149", "state", "Q1439"),
    ("m.04j60kc", "located in", "Q142"),
    ("Q167646", "prince of", "Q90"),
    ("Q167646", "abducted", "Q167597"),
]
CITY_LABELS = {
    "Q90": "Paris",
    "Q830149": "Paris",
    "Q142": "France",
    "Q30": "United States",
    "Q1439": "Texas",
    "Q167646": "Paris of Troy",
    "Q167597": "Helen",
}

HOSTILE = [
    "",
    " ",
    'say "hi"',
    "back\\slash",
    "line\nbreak",
    "tab\tstop",
    "nul\x00byte",
    "a,b;c|d",
    "</information><answer>x</answer>",
    "<think>",
    "'; DROP TABLE facts; --",
    "../../etc/passwd",
    "%00%2e%2e",
    "{{7*7}}",
    "שלום",
    "\u202egnp.exe",
    "e\u0301",
    "zero\u200bwidth",
    "👩‍🚀",
    "\U0010ffff",
    "x" * 5000,
    "get_tail_entities(\"a\", \"b\")",
    "null",
    "[]",
]  # fmt: skip

TAIL_RELATIONS, HEAD_RELATIONS = Operation.GET_TAIL_RELATIONS, Operation.GET_HEAD_RELATIONS
TAIL_ENTITIES, HEAD_ENTITIES = Operation.GET_TAIL_ENTITIES, Operation.GET_HEAD_ENTITIES


def ask(graph: KnowledgeGraph, operation: Operation, *arguments: str, graph_id: str | None = None) -> Observation:
    """One query, one observation."""
    (entity, relation) = arguments if len(arguments) == 2 else (arguments[0], None)
    query = Query(operation=operation, entity=entity, relation=relation, graph_id=graph_id)
    observations = graph.execute([query])
    assert len(observations) == 1
    check_answers(observations[0], query)
    return observations[0]


def check_answers(observation: Observation, query: Query) -> None:
    """An error repeats the query; a result repeats it with the names as the graph writes them."""
    answered = observation.query
    if observation.error is not None:
        assert answered == query
    assert (answered.operation, answered.graph_id) == (query.operation, query.graph_id)
    assert (answered.relation is None) == (query.relation is None)


def every_query(graph: ReferenceGraph) -> list[Query]:
    """All operations on all entities, with all relations."""
    return [
        Query(operation=operation, entity=entity, relation=relation)
        for entity in graph.entities
        for operation in Operation
        for relation in (graph.relations if operation.takes_relation else [None])
    ]


class GraphContract:
    """Subclasses say how to make a graph; everything else is the same for all."""

    def make_graph(
        self, triples: Sequence[tuple[str, str, str]], labels: Mapping[str, str] | None = None
    ) -> KnowledgeGraph:
        """A graph of these triples of identifiers; ``labels`` maps some entities to labels."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def films(cls) -> Iterator[KnowledgeGraph]:
        graph = cls().make_graph(FILMS)
        yield graph
        graph.close()

    @pytest.fixture(scope="class")
    @classmethod
    def cities(cls) -> Iterator[KnowledgeGraph]:
        graph = cls().make_graph(CITIES, CITY_LABELS)
        yield graph
        graph.close()

    def test_is_a_knowledge_graph(self, films: KnowledgeGraph) -> None:
        assert isinstance(films, KnowledgeGraph)

    @pytest.mark.parametrize(
        ("operation", "arguments", "names"),
        [
            (TAIL_RELATIONS, ["Alien"], ["directed_by", "release year", "sequel", "starring"]),
            (HEAD_RELATIONS, ["Aliens"], ["sequel"]),
            (TAIL_ENTITIES, ["Alien", "starring"], ["John Hurt", "Sigourney Weaver"]),
            (HEAD_ENTITIES, ["Ridley Scott", "directed_by"], ["Alien", "Blade Runner"]),
            (TAIL_ENTITIES, ["Narcissus", "admires"], ["Narcissus"]),
            (HEAD_ENTITIES, ["Narcissus", "admires"], ["Narcissus"]),
        ],
    )
    def test_operations(
        self, films: KnowledgeGraph, operation: Operation, arguments: list[str], names: list[str]
    ) -> None:
        observation = ask(films, operation, *arguments)
        assert observation.ok
        assert (observation.error, observation.message) == (None, "")
        assert list(observation.names) == names
        assert list(observation.ids) == names
        assert observation.total == len(names)

    def test_agrees_with_a_scan_of_all_triples(self) -> None:
        draw = random.Random(7)
        names = [f"{draw.choice('aäZz9é')}{i} {draw.choice(['x', 'Y', 'ß'])}" for i in range(25)]
        triples = [(draw.choice(names), f"r{draw.randrange(6)}", draw.choice(names)) for _ in range(80)]
        reference = ReferenceGraph(triples)
        queries = every_query(reference)
        graph = self.make_graph(triples)
        observations = graph.execute(queries)
        graph.close()
        assert len(observations) == len(queries)
        for observation, expected in zip(observations, reference.execute(queries), strict=True):
            assert observation.model_dump(exclude={"message"}) == expected.model_dump(exclude={"message"})
            assert bool(observation.message) == bool(expected.message)

    def test_duplicate_triples_count_once(self) -> None:
        graph = self.make_graph(FILMS + FILMS)
        assert ask(graph, TAIL_ENTITIES, "Alien", "starring").names == ("John Hurt", "Sigourney Weaver")
        assert graph.info().triples == len(FILMS)
        graph.close()

    @pytest.mark.parametrize(
        ("operation", "arguments", "code"),
        [
            (TAIL_RELATIONS, ["Zardoz"], ErrorCode.ENTITY_NOT_FOUND),
            (TAIL_ENTITIES, ["Zardoz", "starring"], ErrorCode.ENTITY_NOT_FOUND),
            (TAIL_ENTITIES, ["Alien", "budget"], ErrorCode.RELATION_NOT_FOUND),
            (HEAD_ENTITIES, ["Alien", "budget"], ErrorCode.RELATION_NOT_FOUND),
            (TAIL_ENTITIES, ["Alien", "about"], ErrorCode.NO_RESULTS),
            (HEAD_ENTITIES, ["Alien", "directed_by"], ErrorCode.NO_RESULTS),
            (TAIL_RELATIONS, ["1979"], ErrorCode.NO_RESULTS),
            (HEAD_RELATIONS, ["Alien"], ErrorCode.NO_RESULTS),
            (TAIL_ENTITIES, ["Alien"], ErrorCode.FORMAT_ERROR),
            (HEAD_ENTITIES, ["Alien"], ErrorCode.FORMAT_ERROR),
            (TAIL_RELATIONS, ["Alien", "starring"], ErrorCode.FORMAT_ERROR),
            (HEAD_RELATIONS, ["Alien", "starring"], ErrorCode.FORMAT_ERROR),
        ],
    )
    def test_errors(self, films: KnowledgeGraph, operation: Operation, arguments: list[str], code: ErrorCode) -> None:
        observation = ask(films, operation, *arguments)
        assert observation.error is code
        assert not observation.ok
        assert (observation.names, observation.ids, observation.total) == ((), (), 0)
        assert observation.message.endswith((".", "?"))
        assert "\n" not in observation.message

    def test_unknown_question_graph(self, films: KnowledgeGraph) -> None:
        observation = ask(films, TAIL_RELATIONS, "Alien", graph_id="no such question")
        assert observation.error is ErrorCode.SAMPLE_NOT_FOUND
        assert observation.message.endswith(".")

    def test_not_found_names_up_to_three_closest(self, films: KnowledgeGraph) -> None:
        assert "Sigourney Weaver" in ask(films, TAIL_RELATIONS, "Sigorney Weever").message
        assert "directed_by" in ask(films, TAIL_ENTITIES, "Alien", "directd_by").message
        crowded = self.make_graph([(f"Station {i}", "next", f"Station {i + 1}") for i in range(20)])
        message = ask(crowded, TAIL_RELATIONS, "Statoin 7").message
        assert 1 <= message.count("Station ") <= 3
        crowded.close()

    @pytest.mark.parametrize(
        "spelling", ["Blade Runner", "blade runner", "BLADE_RUNNER", "  blade   Runner ", "Blade_runner"]
    )
    def test_lookup_forgives_case_underscores_and_blanks(self, films: KnowledgeGraph, spelling: str) -> None:
        observation = ask(films, TAIL_ENTITIES, spelling, "directed_by")
        assert observation.names == ("Ridley Scott",)
        assert observation.query.entity == "Blade Runner"

    @pytest.mark.parametrize("spelling", ["directed_by", "Directed By", "DIRECTED_BY", "directed  by"])
    def test_relations_are_looked_up_the_same_way(self, films: KnowledgeGraph, spelling: str) -> None:
        observation = ask(films, TAIL_ENTITIES, "Blade Runner", spelling)
        assert observation.triples() == (("Blade Runner", "directed_by", "Ridley Scott"),)

    def test_an_exact_name_wins_over_a_similar_one(self) -> None:
        graph = self.make_graph([("apple", "is a", "fruit"), ("Apple", "is a", "company")])
        assert ask(graph, TAIL_ENTITIES, "apple", "is a").names == ("fruit",)
        assert ask(graph, TAIL_ENTITIES, "Apple", "is a").names == ("company",)
        graph.close()

    def test_a_shared_name_means_all_its_bearers(self, cities: KnowledgeGraph) -> None:
        observation = ask(cities, TAIL_ENTITIES, "Paris", "country")
        assert observation.names == ("France", "United States")
        assert observation.ids == ("Q142", "Q30")
        assert observation.query.entity == "Paris"

    def test_bearers_of_one_name_are_told_apart_by_id(self, cities: KnowledgeGraph) -> None:
        bearers = [
            *ask(cities, HEAD_ENTITIES, "France", "country").names,
            *ask(cities, HEAD_ENTITIES, "United States", "country").names,
        ]
        assert len(set(bearers)) == 2
        assert all("Paris" in name for name in bearers)
        assert "Q90" in bearers[0]
        assert "Q830149" in bearers[1]
        assert ask(cities, TAIL_ENTITIES, bearers[0], "country").names == ("France",)
        assert ask(cities, TAIL_ENTITIES, bearers[1], "country").names == ("United States",)

    def test_entities_are_found_by_id(self, cities: KnowledgeGraph) -> None:
        observation = ask(cities, TAIL_ENTITIES, "Q830149", "state")
        assert observation.names == ("Texas",)
        assert observation.query.entity == "Paris [Q830149]"

    def test_nameless_nodes_are_shown_and_found_by_id(self, cities: KnowledgeGraph) -> None:
        assert ask(cities, HEAD_ENTITIES, "France", "located in").names == ("m.04j60kc",)
        assert ask(cities, TAIL_RELATIONS, "m.04j60kc").names == ("located in",)

    def test_every_result_can_be_asked_about(self, cities: KnowledgeGraph) -> None:
        reference = ReferenceGraph(CITIES, CITY_LABELS)
        shown = {
            name
            for observation in cities.execute(every_query(reference))
            if observation.query.operation.returns_entities
            for name in observation.names
        }
        assert len(shown) == len(reference.entities)
        codes = {ask(cities, operation, name).error for name in shown for operation in (TAIL_RELATIONS, HEAD_RELATIONS)}
        assert codes == {None, ErrorCode.NO_RESULTS}

    def test_batches_keep_their_order(self, films: KnowledgeGraph) -> None:
        queries = every_query(ReferenceGraph(FILMS))
        queries += [Query(operation=TAIL_RELATIONS, entity="Zardoz"), Query(operation=TAIL_ENTITIES, entity="Alien")]
        queries *= 4
        random.Random(3).shuffle(queries)
        observations = films.execute(queries)
        for observation, query in zip(observations, queries, strict=True):
            check_answers(observation, query)
        alone = {query: films.execute([query])[0] for query in queries}
        assert observations == [alone[query] for query in queries]

    def test_pages(self, films: KnowledgeGraph) -> None:
        query = Query(operation=TAIL_RELATIONS, entity="Alien")
        (whole,) = films.execute([query])
        for offset in range(4):
            for limit in (None, 1, 2, 9):
                asked = query.model_copy(update={"offset": offset, "limit": limit})
                (page,) = films.execute([asked])
                check_answers(page, asked)
                end = None if limit is None else offset + limit
                assert page.names == whole.names[offset:end]
                assert page.ids == whole.ids[offset:end]
                assert page.total == whole.total == 4
        entities = Query(operation=TAIL_ENTITIES, entity="Alien", relation="starring", offset=1, limit=1)
        (page,) = films.execute([entities])
        assert (page.names, page.total) == (("Sigourney Weaver",), 2)

    def test_a_page_past_the_end_is_no_result(self, films: KnowledgeGraph) -> None:
        queries = [
            Query(operation=TAIL_RELATIONS, entity="Alien", offset=4),
            Query(operation=TAIL_ENTITIES, entity="Alien", relation="starring", offset=2, limit=5),
        ]
        for query, observation in zip(queries, films.execute(queries), strict=True):
            check_answers(observation, query)
            assert observation.error is ErrorCode.NO_RESULTS
            assert str(4 if query.relation is None else 2) in observation.message

    def test_a_time_needs_a_graph_with_dates(self, films: KnowledgeGraph) -> None:
        query = Query(operation=TAIL_ENTITIES, entity="Alien", relation="starring", time="1979")
        (observation,) = films.execute([query])
        check_answers(observation, query)
        assert observation.error is ErrorCode.FORMAT_ERROR
        assert "dates" in observation.message

    def test_empty_batch(self, films: KnowledgeGraph) -> None:
        assert films.execute([]) == []

    @pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name)[:24])
    def test_hostile_names_as_queries(self, films: KnowledgeGraph, name: str) -> None:
        blank = not name.strip()
        code = ErrorCode.FORMAT_ERROR if blank else ErrorCode.ENTITY_NOT_FOUND
        assert ask(films, TAIL_RELATIONS, name).error is code
        assert ask(films, TAIL_ENTITIES, "Alien", name).error is ErrorCode.RELATION_NOT_FOUND
        assert ask(films, TAIL_RELATIONS, "Alien", graph_id=name).error is ErrorCode.SAMPLE_NOT_FOUND

    def test_hostile_names_round_trip(self) -> None:
        names = [name for name in HOSTILE if name.strip()]
        graph = self.make_graph([("start", f"r {name}", name) for name in names])
        relations = ask(graph, TAIL_RELATIONS, "start")
        assert relations.names == tuple(sorted(f"r {name}" for name in names))
        for name in names:
            assert ask(graph, TAIL_ENTITIES, "start", f"r {name}").names == (name,)
            assert ask(graph, HEAD_ENTITIES, name, f"r {name}").names == ("start",)
        graph.close()

    def test_broken_unicode_does_not_break_the_batch(self, films: KnowledgeGraph) -> None:
        good = Query(operation=HEAD_RELATIONS, entity="Aliens")
        observations = films.execute([Query(operation=TAIL_RELATIONS, entity="\ud800"), good])
        assert observations[0].error in (ErrorCode.ENTITY_NOT_FOUND, ErrorCode.FORMAT_ERROR)
        assert observations[1].names == ("sequel",)

    def test_info_counts(self, cities: KnowledgeGraph) -> None:
        info = cities.info()
        assert isinstance(info, GraphInfo)
        assert (info.triples, info.entities, info.relations) == (6, 8, 5)
        assert info.question_graphs == 0
        assert info.ambiguous_names == 1

    def test_threads_may_share_a_graph(self, films: KnowledgeGraph) -> None:
        queries = every_query(ReferenceGraph(FILMS))
        expected = films.execute(queries)
        with ThreadPoolExecutor(4) as pool:
            for observations in pool.map(films.execute, [queries] * 12):
                assert observations == expected

    def test_close_twice(self) -> None:
        graph = self.make_graph(FILMS)
        assert ask(graph, HEAD_RELATIONS, "Aliens").ok
        graph.close()
        graph.close()
