"""Questions about a time: the filter they need, the words for it, and the expert that uses it."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_graphs import load_rows

from kgr1.datasets.cues import Cues
from kgr1.datasets.expert import Step, expert_dataset, expert_steps
from kgr1.datasets.paths import Hop, hops_of, parse_path
from kgr1.datasets.styles import entity_renaming, relation_renaming, restyle
from kgr1.datasets.synthetic import generate_questions
from kgr1.datasets.times import FORMS, draw_filter, in_words
from kgr1.datasets.walks import TripleIndex, encode
from kgr1.errors import DatasetError
from kgr1.graph.renaming import RenamedGraph
from kgr1.graph.store import GraphStore
from kgr1.graph.temporal import UNDATED, Span, format_span, parse_filter, parse_span
from kgr1.types import GoldAnswer, Question, Triple

Fact = tuple[str, str, str, str]

AWARDS: list[Fact] = [
    ("Ada", "award received", "Medal", "1990"),
    ("Ada", "award received", "Medal", "2001"),
    ("Ada", "award received", "Cup", "1995"),
    ("Ada", "award received", "Ribbon", "2003-05"),
    ("Ada", "member of", "Club", "1990/1994"),
    ("Ada", "member of", "Guild", "1993/"),
    ("Ada", "born in", "Town", ""),
    ("Bob", "award received", "Cup", "1999-12-31"),
    ("Cup", "part of", "Games", ""),
    ("Ribbon", "part of", "Fair", ""),
    ("Medal", "part of", "Games", ""),
]


def span_of(text: str) -> Span:
    span = parse_span(text) if text else UNDATED
    assert span is not None, text
    return span


def store(facts: list[Fact]) -> GraphStore:
    return GraphStore.from_triples([fact[:3] for fact in facts], spans=[span_of(fact[3]) for fact in facts])


def made(graph: GraphStore, count: int, **more: object) -> list[Question]:
    triples, spans = zip(*graph.dated_triples(), strict=True)
    settings = {"kinds": ["temporal"], "hops": [1, 2], "seed": 0} | more
    return generate_questions(triples, spans=spans, count=count, **settings)  # type: ignore[arg-type]


def ask(path: tuple[str, ...], *answers: str, topic: str = "Ada") -> Question:
    gold = tuple(GoldAnswer(label=name, id=name) for name in answers)
    return Question(id="q", text=f"What did {topic} get?", topics=(topic,), answers=gold, gold_path=path)


def scan(question: Question, facts: list[tuple[Triple, Span]], *, timeless: bool = False) -> set[str]:
    """Follow the gold path by scanning all facts, and judge dates as text where both are of one unit."""
    (branch,) = parse_path(question.gold_path)
    frontier = set(question.topics)
    for relation, backward, time in branch:
        found = set()
        for triple, span in facts:
            start, end = (triple.tail, triple.head) if backward else (triple.head, triple.tail)
            if triple.relation == relation and start in frontier and (time is None or timeless or holds(span, time)):
                found.add(end)
        frontier = found
    return frontier


def holds(span: Span, time: str) -> bool:
    """Another way to apply a filter: day by day in ISO texts, for spans without open ends."""
    if span == UNDATED:
        return False
    first, last = days(format_span(*span))
    word, _, date = time.rpartition(" ")
    low, high = days(date)
    if word == "before":
        return last < low
    if word == "after":
        return first > high
    return first <= high and last >= low


def days(text: str) -> tuple[str, str]:
    """First and last day as ISO texts, which sort as the days do."""
    start, slash, end = text.partition("/")
    end = end if slash else start
    fill = {4: ("-01-01", "-12-31"), 7: ("-01", "-31"), 10: ("", ""), 0: ("0000", "9999")}
    return start + fill[len(start)][0], end + fill[len(end)][1]


def test_a_time_stands_behind_its_relation_in_a_gold_path() -> None:
    path = ("^award received", "@before 1990", "part of", "&", "@type", "@2014-02")
    branches = parse_path(path)
    assert branches == [
        (Hop("award received", True, "before 1990"), Hop("part of")),
        (Hop("@type", time="2014-02"),),  # a relation may begin with the sign
    ]
    assert encode(branches) == path
    assert hops_of(path) == ["^award received", "part of", "@type"]
    assert parse_path(("@2014", "r")) == []
    query = branches[0][0].entities("Cup")
    assert query.to_text() == 'get_head_entities("Cup", "award received", "before 1990")'
    assert branches[0][0].relations("Cup").time is None


def test_an_index_with_dates_filters_as_the_store_does() -> None:
    graph = store(AWARDS)
    triples, spans = zip(*graph.dated_triples(), strict=True)
    index = TripleIndex(triples, spans)
    for time in ("1990", "2003", "2003-05-02", "1993/1996", "before 1995", "after 1994", "after 1999-12-30", "1800"):
        for node in ("Ada", "Cup", "Guild"):
            for hop in index.hops(node):
                limited = hop._replace(time=time)
                (observation,) = graph.execute([limited.entities(node)])
                assert index.take(node, limited) == observation.names
    assert index.take("Ada", Hop("born in", time="1990")) == ()
    assert index.spans("Ada", Hop("born in")) == []
    with pytest.raises(ValueError, match="shorter"):
        TripleIndex(triples, spans[:-1])


def test_dated_triples_give_back_what_the_store_was_made_of() -> None:
    rows = sorted((Triple(*fact[:3]), span_of(fact[3])) for fact in AWARDS)
    assert sorted(store(AWARDS).dated_triples()) == rows
    undated = GraphStore.from_triples([fact[:3] for fact in AWARDS])
    assert list(undated.dated_triples()) == [(triple, UNDATED) for triple in undated.triples()]


@given(
    days=st.lists(st.tuples(st.integers(-800_000, 40_000), st.integers(0, 5_000)), min_size=1, max_size=4),
    form=st.sampled_from(FORMS),
    seed=st.integers(0, 999),
)
def test_any_filter_can_be_read_and_said(days: list[tuple[int, int]], form: str, seed: int) -> None:
    rng = random.Random(seed)
    time = draw_filter([(start, start + length) for start, length in days], form, rng)
    if time is not None:
        assert parse_filter(time) is not None
        words = in_words(time, rng)
        assert re.fullmatch(r"(in|on|between|from|before|after) [A-Za-z0-9 ]+", words)
        assert ("/" in time) == (form == "between") == bool({"and", "to"} & set(words.split()))


@pytest.mark.parametrize(
    ("time", "words"),
    [
        ("2014", {"in 2014"}),
        ("0987", {"in 987"}),
        ("2014-02", {"in February 2014"}),
        ("2014-12-01", {"on 1 December 2014"}),
        ("2012/2014", {"between 2012 and 2014", "from 2012 to 2014"}),
        ("before 2014-02-16", {"before 16 February 2014"}),
        ("after 2014", {"after 2014"}),
    ],
)
def test_filters_are_said_as_people_do(time: str, words: set[str]) -> None:
    assert {in_words(time, random.Random(seed)) for seed in range(30)} == words


def test_nothing_is_made_of_dates_that_are_not_there() -> None:
    for spans in ([], [UNDATED], [span_of("-0043")]):
        assert {draw_filter(spans, form, random.Random(0)) for form in FORMS} == {None}
    with pytest.raises(DatasetError, match="dates"):
        generate_questions([fact[:3] for fact in AWARDS], count=1, seed=0, kinds=["temporal"])


def test_a_question_needs_its_time_and_has_all_its_answers() -> None:
    graph = store(AWARDS)
    facts = list(graph.dated_triples())
    questions = made(graph, 60)
    assert len(questions) > 20
    for question in questions:
        gold = {answer.label for answer in question.answers}
        assert question.kind == "temporal"
        assert gold == scan(question, facts)
        assert gold != scan(question, facts, timeless=True)
        (branch,) = parse_path(question.gold_path)
        assert branch[0].time is not None
        assert [hop.time for hop in branch[1:]] == [None] * (len(branch) - 1)
        assert question.hops == len(branch)
    assert {question.hops for question in questions} == {1, 2}


@settings(max_examples=30, deadline=None)
@given(
    facts=st.lists(
        st.tuples(
            st.sampled_from("abcdef"),
            st.sampled_from("rs"),
            st.sampled_from("abcdef"),
            st.sampled_from(["", "1990", "1991", "1990-06", "1990-06-30", "1990/1992", "1991-02/"]),
        ),
        min_size=1,
        max_size=30,
        unique=True,
    ),
    seed=st.integers(0, 99),
)
def test_the_expert_solves_what_is_made_of_any_dated_graph(facts: list[Fact], seed: int) -> None:
    graph = store(facts)
    rows = list(graph.dated_triples())
    for question in made(graph, 5, seed=seed):
        assert {answer.label for answer in question.answers} == scan(question, rows)
        assert expert_steps(question, graph, random.Random(0), max_turns=7) is not None


def calls(steps: list[Step] | None) -> list[str]:
    assert steps is not None
    return [step.query.to_text() for step in steps if step.query is not None]


def test_the_expert_limits_the_hop_to_its_time_and_says_so() -> None:
    graph = store(AWARDS)
    question = ask(("award received", "@after 1995", "part of"), "Games", "Fair")
    steps = expert_steps(question, graph, random.Random(0), max_turns=6)
    assert calls(steps) == [
        'get_tail_relations("Ada")',
        'get_tail_entities("Ada", "award received", "after 1995")',
        'get_tail_relations("Medal")',
        'get_tail_entities("Medal", "part of")',
        'get_tail_entities("Ribbon", "part of")',
    ]
    assert steps is not None
    assert '"after 1995"' in steps[1].think
    assert expert_steps(ask(("award received", "@after 1995"), "Cup"), graph, random.Random(0), max_turns=6) is None


def test_to_forget_the_time_is_one_of_the_mistakes() -> None:
    graph = store(AWARDS)
    question = ask(("award received", "@1995"), "Cup")
    forgotten = 0
    for seed in range(40):
        steps = expert_steps(question, graph, random.Random(seed), max_turns=6, recovery=True)
        assert steps is not None
        (wrong,) = [number for number, step in enumerate(steps) if step.mistake]
        query, right = steps[wrong].query, steps[wrong + 1].query
        assert query is not None
        if query.relation == "award received" and query.time is None:
            assert right == query.model_copy(update={"time": "1995"})
            assert "1995" in steps[wrong + 1].think
            assert "1995" not in steps[wrong].think
            forgotten += 1
    assert 3 < forgotten < 37
    # Where the time changes nothing, to leave it out is no mistake.
    useless = ask(("born in",), "Town").model_copy(update={"gold_path": ("member of", "@1990"), "answers": ()})
    assert expert_steps(useless, graph, random.Random(0), max_turns=6, recovery=True) is None


def test_times_are_no_relations_to_cues_and_stay_as_they_are_in_another_spelling() -> None:
    question = ask(("award received", "@1995"), "Cup").model_copy(update={"text": "What prize did Ada get in 1995?"})
    cues = Cues([question] * 5 + [ask(("member of",), "Club")] * 5)
    assert cues.find(question, "award received", question.gold_path) == "prize"
    graph = store(AWARDS)
    names = {name for fact in AWARDS for name in (fact[0], fact[2])}
    entities = entity_renaming("upper", names, 0)
    relations = relation_renaming("camel", {fact[1] for fact in AWARDS})
    written = restyle(question, entities, relations)
    assert written is not None
    assert written.gold_path == ("awardReceived", "@1995")
    steps = expert_steps(written, RenamedGraph(graph, entities, relations), random.Random(0), max_turns=5)
    assert calls(steps)[1] == 'get_tail_entities("ADA", "awardReceived", "1995")'


@pytest.mark.parametrize(("folder", "hops"), [("icews14", (1, 2)), ("timequestions", (1,))])
def test_published_dated_graphs_give_questions_of_all_forms(
    folder: str, hops: tuple[int, ...], shared_data: Path
) -> None:
    rows = load_rows(shared_data / folder / "tkg.tsv.gz")
    spans = [parse_span(*row[3:]) or UNDATED for row in rows]
    graph = GraphStore.from_triples([row[:3] for row in rows], spans=spans)
    questions = made(graph, 60, hops=hops, max_turns=5)
    assert len(questions) == 60
    facts = list(graph.dated_triples())
    times = [item[1:] for question in questions for item in question.gold_path if item.startswith("@")]
    forms = Counter("between" if "/" in time else time.split()[0] if " " in time else "at" for time in times)
    assert set(forms) == {"at", "between", "before", "after"}
    for question in questions[:10]:
        gold = {answer.label for answer in question.answers}
        assert gold == scan(question, facts) != scan(question, facts, timeless=True)
    solved = expert_dataset(questions, graph, count=99, seed=0, max_turns=7, recovery_share=0.3)
    assert len(solved) == 60
    assert sum(any(step.mistake for step in steps) for _, steps in solved) > 10
    limited = [any(step.query is not None and step.query.time for step in steps) for _, steps in solved]
    assert all(limited)
