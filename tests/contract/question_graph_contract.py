"""What every backend with question graphs does, as tests that it passes in three lines; see graph_contract.py."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

import pytest
from graph_contract import CITIES, FILMS, HEAD_ENTITIES, TAIL_ENTITIES, TAIL_RELATIONS, ask, every_query
from reference_graph import ReferenceGraph

from kgr1.graph.api import KnowledgeGraph
from kgr1.types import ErrorCode


class QuestionGraphContract:
    """For backends with question graphs: each answers as if it stood alone."""

    def make_question_graphs(self, graphs: Mapping[str, Sequence[tuple[str, str, str]]]) -> KnowledgeGraph:
        """A graph of the graphs of questions, by their ids."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def questions(cls) -> Iterator[KnowledgeGraph]:
        graph = cls().make_question_graphs(
            {"films": FILMS[:6], "more films": FILMS[3:], "cities": CITIES, "ü 1": FILMS}
        )
        yield graph
        graph.close()

    def test_each_answers_from_its_own_facts(self, questions: KnowledgeGraph) -> None:
        assert ask(questions, HEAD_ENTITIES, "Ridley Scott", "directed_by", graph_id="films").names == ("Alien",)
        found = ask(questions, HEAD_ENTITIES, "Ridley Scott", "directed_by", graph_id="more films")
        assert found.names == ("Blade Runner",)
        assert ask(questions, HEAD_ENTITIES, "Ridley Scott", "directed_by", graph_id="ü 1").total == 2
        assert ask(questions, HEAD_ENTITIES, "Ridley Scott", "directed_by").total == 2

    def test_names_of_other_graphs_are_not_known(self, questions: KnowledgeGraph) -> None:
        observation = ask(questions, TAIL_RELATIONS, "Blade Runner", graph_id="films")
        assert observation.error is ErrorCode.ENTITY_NOT_FOUND
        assert "Blade Runner" not in observation.message.removeprefix('No entity is named "Blade Runner"')
        observation = ask(questions, TAIL_ENTITIES, "Alien", "sequel", graph_id="films")
        assert observation.error is ErrorCode.RELATION_NOT_FOUND
        assert ask(questions, TAIL_RELATIONS, "Alien", graph_id="cities").error is ErrorCode.ENTITY_NOT_FOUND

    @pytest.mark.parametrize("graph_id", ["", "Films", "films ", "cities\0", "../films", "\ud800"])
    def test_ids_are_exact(self, questions: KnowledgeGraph, graph_id: str) -> None:
        observation = ask(questions, TAIL_RELATIONS, "Alien", graph_id=graph_id)
        assert observation.error in (ErrorCode.SAMPLE_NOT_FOUND, ErrorCode.FORMAT_ERROR)

    def test_info_counts_them(self, questions: KnowledgeGraph) -> None:
        assert questions.info().question_graphs == 4
        assert questions.info().triples == len(FILMS) + len(CITIES)

    def test_each_agrees_with_a_graph_of_its_own(self) -> None:
        draw = random.Random(5)
        names = [f"{draw.choice('aAäZ')}{i} {draw.choice(['x', 'X'])}" for i in range(14)] + ["a0_x", "A0 X"]
        graphs = {
            f"q{n}": [
                (draw.choice(names), f"{draw.choice('rR')}{draw.randrange(3)}", draw.choice(names))
                for _ in range(draw.randrange(1, 25))
            ]
            for n in range(6)
        }
        graph = self.make_question_graphs(graphs)
        everything = ReferenceGraph([triple for triples in graphs.values() for triple in triples])
        for graph_id, triples in graphs.items():
            alone = ReferenceGraph(triples)
            queries = every_query(everything)
            expected = alone.execute(queries)
            asked = [query.model_copy(update={"graph_id": graph_id}) for query in queries]
            for observation, wanted in zip(graph.execute(asked), expected, strict=True):
                plain = {"message": True, "query": {"graph_id"}}
                assert observation.query.graph_id == graph_id
                assert observation.model_dump(exclude=plain) == wanted.model_dump(exclude=plain)
        graph.close()
