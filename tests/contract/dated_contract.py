"""What every backend with dates does, as tests that it passes in three lines; see graph_contract.py."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest
from graph_contract import HEAD_ENTITIES, TAIL_ENTITIES, TAIL_RELATIONS, ask, check_answers
from reference_graph import ReferenceGraph

from kgr1.graph.api import KnowledgeGraph
from kgr1.types import ErrorCode, Observation, Operation, Query

EVENTS = [
    ("Rome", "makes war on", "Carthage", "-0263/-0240"),
    ("Rome", "makes war on", "Carthage", "-0217/-0200"),
    ("Rome", "makes war on", "Veii", "-0395"),
    ("Rome", "makes war on", "Parthia", ""),
    ("Pompey", "meets", "Caesar", "-0055-04-17"),
    ("Pompey", "meets", "Crassus", "-0055-04"),
    ("Pompey", "meets", "Cicero", "-0057/"),
    ("Caesar", "rules", "Rome", "/-0043-03-15"),
]


class DatedContract:
    """For backends with dates."""

    def make_dated(self, facts: Sequence[tuple[str, str, str, str]]) -> KnowledgeGraph:
        """A graph of these triples with the text of their span, empty for a fact without dates."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def events(cls) -> Iterator[KnowledgeGraph]:
        graph = cls().make_dated(EVENTS)
        yield graph
        graph.close()

    @staticmethod
    def during(
        graph: KnowledgeGraph, operation: Operation, entity: str, relation: str, time: str | None
    ) -> Observation:
        query = Query(operation=operation, entity=entity, relation=relation, time=time)
        (observation,) = graph.execute([query])
        check_answers(observation, query)
        return observation

    def test_results_carry_their_dates(self, events: KnowledgeGraph) -> None:
        observation = self.during(events, TAIL_ENTITIES, "Rome", "makes war on", None)
        assert observation.names == ("Carthage", "Parthia", "Veii")
        assert observation.times == (("-0263/-0240", "-0217/-0200"), (), ("-0395",))
        assert observation.total == 3
        observation = self.during(events, HEAD_ENTITIES, "Rome", "rules", None)
        assert (observation.names, observation.times) == (("Caesar",), (("/-0043-03-15",),))
        assert ask(events, TAIL_RELATIONS, "Pompey").times == ()

    @pytest.mark.parametrize(
        ("time", "names", "times"),
        [
            ("-0250", ["Carthage"], [("-0263/-0240",)]),
            ("-0240/-0217", ["Carthage"], [("-0263/-0240", "-0217/-0200")]),
            ("-0217-01-01", ["Carthage"], [("-0217/-0200",)]),
            ("before -0240", ["Veii"], [("-0395",)]),
            ("after -0264", ["Carthage"], [("-0263/-0240", "-0217/-0200")]),
        ],
    )
    def test_a_time_keeps_the_facts_of_that_time(
        self, events: KnowledgeGraph, time: str, names: list[str], times: list[tuple[str, ...]]
    ) -> None:
        observation = self.during(events, TAIL_ENTITIES, "Rome", "makes war on", time)
        assert list(observation.names) == names
        assert list(observation.times) == times
        assert observation.total == len(names)

    def test_open_ends_reach_on(self, events: KnowledgeGraph) -> None:
        assert self.during(events, TAIL_ENTITIES, "Pompey", "meets", "2014").names == ("Cicero",)
        assert self.during(events, TAIL_ENTITIES, "Caesar", "rules", "-9000").names == ("Rome",)
        assert self.during(events, TAIL_ENTITIES, "Pompey", "meets", "-0055-04-17").names == (
            "Caesar",
            "Cicero",
            "Crassus",
        )

    def test_nothing_at_that_time(self, events: KnowledgeGraph) -> None:
        observation = self.during(events, TAIL_ENTITIES, "Rome", "makes war on", "1900")
        assert observation.error is ErrorCode.NO_RESULTS
        assert "-0395" in observation.message
        assert "-0200" in observation.message

    @pytest.mark.parametrize("time", ["", "yesterday", "2014-13", "2014-02-30", "before", "2015/2014", "/", "1e3"])
    def test_a_time_that_is_none(self, events: KnowledgeGraph, time: str) -> None:
        observation = self.during(events, TAIL_ENTITIES, "Rome", "makes war on", time)
        assert observation.error is ErrorCode.FORMAT_ERROR
        assert "before 2014" in observation.message

    def test_relations_take_no_time(self, events: KnowledgeGraph) -> None:
        (observation,) = events.execute([Query(operation=TAIL_RELATIONS, entity="Rome", time="2014")])
        assert observation.error is ErrorCode.FORMAT_ERROR

    def test_pages_of_dated_results(self, events: KnowledgeGraph) -> None:
        query = Query(operation=TAIL_ENTITIES, entity="Rome", relation="makes war on", offset=1, limit=2)
        (observation,) = events.execute([query])
        assert (observation.names, observation.times) == (("Parthia", "Veii"), ((), ("-0395",)))
        assert observation.total == 3

    def test_info_counts_dated_facts(self, events: KnowledgeGraph) -> None:
        info = events.info()
        assert (info.triples, info.dated) == (8, 7)

    def test_agrees_with_a_scan_of_all_facts(self) -> None:
        draw = random.Random(11)
        years = ["", *(f"{y:04}" for y in range(1990, 2000)), "1992-05", "1992-05-17", "1991/1995", "1993/", "/1994-02"]
        names = [f"n{i}" for i in range(8)]
        facts = [
            (draw.choice(names), f"r{draw.randrange(2)}", draw.choice(names), draw.choice(years)) for _ in range(200)
        ]
        times = [None, "1992", "1992-05", "1992-05-16", "1994/1996", "before 1994", "after 1993-06", "1850"]
        reference = ReferenceGraph([fact[:3] for fact in facts], spans=[fact[3] for fact in facts])
        queries = [
            Query(operation=operation, entity=entity, relation=f"r{i}", time=time)
            for operation in (TAIL_ENTITIES, HEAD_ENTITIES)
            for entity in names
            for i in range(2)
            for time in times
        ]
        graph = self.make_dated(facts)
        for observation, expected in zip(graph.execute(queries), reference.execute(queries), strict=True):
            assert observation.model_dump(exclude={"message"}) == expected.model_dump(exclude={"message"})
        graph.close()
