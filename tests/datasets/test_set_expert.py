"""The expert that asks about all that was found: its steps, played by the agent that can, end in the answers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from small_graphs import FAMILY

from kgr1.agent.policy import OraclePolicy
from kgr1.agent.rollout import run_episode
from kgr1.agent.set_grammar import SetGrammar
from kgr1.config import AgentSettings, SamplingSettings
from kgr1.datasets.cues import Cues
from kgr1.datasets.embedded import embedded_graph_path
from kgr1.datasets.expert import Habits, expert_dataset, expert_steps
from kgr1.datasets.paths import Hop, parse_path
from kgr1.datasets.set_expert import MAX_MEMBERS, SetWalk
from kgr1.datasets.steps import Step
from kgr1.graph.api import KnowledgeGraph
from kgr1.graph.render import neutralise
from kgr1.graph.store import GraphStore
from kgr1.graph.temporal import UNDATED, parse_span
from kgr1.rewards.outcome import answer_score
from kgr1.types import Answer, Episode, GoldAnswer, Question, StopReason

SETS = Habits(thoughts="brief", sets=True)
Rows = list[tuple[str, str, str]]


def ask(path: Sequence[str], answers: Sequence[str], topics: Sequence[str] = ("Ada",), **more: object) -> Question:
    gold = tuple(GoldAnswer(label=name, id=name) for name in answers)
    question = Question(id="q", text="Which nation is it?", topics=tuple(topics), answers=gold, gold_path=tuple(path))
    return question.model_copy(update=more)


def solve(
    question: Question, graph: KnowledgeGraph, max_turns: int = 7, seed: int = 0, **more: bool
) -> list[Step] | None:
    return expert_steps(question, graph, random.Random(seed), max_turns=max_turns, habits=SETS, **more)


def calls(steps: list[Step] | None) -> list[str]:
    assert steps is not None
    return [step.query.to_text() for step in steps if step.query is not None]


def replay(question: Question, steps: Sequence[Step], graph: KnowledgeGraph, **agent: object) -> Episode:
    """The episode of the steps, each of which a guided turn could have written; it ends with exactly the answers."""
    settings = AgentSettings.model_validate({"max_turns": 9, "observation_tokens": 5000, "sets": True, **agent})
    plan = [(step.think, step.query or step.answer or Answer(names=())) for step in steps]
    policy = OraclePolicy(lambda _question: plan)
    episode = asyncio.run(run_episode(question, graph, policy, agent=settings, sampling=SamplingSettings()))
    assert episode.stop is StopReason.ANSWERED
    assert answer_score(episode).exact
    for place, turn in enumerate(episode.turns[:-1]):
        assert turn.query is not None
        text = neutralise(turn.query.model_copy(update={"time": None, "graph_id": None}).to_text())
        assert text in SetGrammar(question.topics, episode.turns[:place], settings).queries
    return episode


def test_every_hop_takes_two_turns_however_many_there_are(family: GraphStore) -> None:
    question = ask(("parent", "nationality"), ("England", "Scotland"))
    steps = solve(question, family, max_turns=5)
    assert calls(steps) == [
        'get_tail_relations("Ada")',
        'get_tail_entities("Ada", "parent")',
        'get_tail_relations("*")',
        'get_tail_entities("*", "nationality")',
    ]
    assert steps is not None
    assert steps[-1].answer == Answer(names=("*",))
    assert [step.think for step in steps] == [
        "I list the relations first.",
        "One of these fits.",
        "The question goes on.",
        "One of these fits.",
        "That was asked.",
    ]
    assert not any(step.mistake for step in steps)
    episode = replay(question, steps, family)
    assert episode.answers == ("England", "Scotland")
    assert solve(question, family, max_turns=4) is None


def test_against_the_arrow_and_to_other_things_than_the_topic(family: GraphStore) -> None:
    back = ask(("^about", "^wrote"), ("Ada", "Luigi"), ("Engine",))
    steps = solve(back, family)
    assert calls(steps) == [
        'get_tail_relations("Engine")',  # the one listing there is
        'get_head_entities("Engine", "about")',
        'get_tail_relations("*")',
        'get_head_entities("*", "wrote")',
    ]
    assert steps is not None
    replay(back, steps, family)
    others = ask(("about", "^about"), ("Sketch",), ("Notes",))
    steps = solve(others, family)
    assert steps is not None
    replay(others, steps, family)
    assert solve(ask(("about", "^about"), ("Sketch", "Notes"), ("Notes",)), family) is None


def test_what_two_topics_share(family: GraphStore) -> None:
    question = ask(("^nationality", "&", "parent"), ("George",), ("England", "Ada"))
    steps = solve(question, family)
    assert calls(steps) == [
        'get_tail_relations("England")',
        'get_head_entities("England", "nationality")',
        'get_tail_relations("Ada")',
        'get_tail_entities("Ada", "parent")',
    ]
    assert steps is not None
    assert [step.think for step in steps[2::2]] == ["There is a second topic.", "I keep what is in both."]
    replay(question, steps, family)
    # Two hops from the second topic, which meet the first only at their end.
    longer = ask(("^nationality", "&", "^about", "^wrote", "parent"), ("George",), ("England", "Engine"))
    steps = solve(longer, family, max_turns=9)
    assert steps is not None
    assert len(steps) == 9
    replay(longer, steps, family)


def test_a_way_that_the_agent_could_not_go_is_given_up() -> None:
    # After "s" of B, what is found is C alone, which A has as well; the way to E goes on from D.
    rows = [("A", "r", "C"), ("A", "r", "E"), ("B", "s", "C"), ("B", "s", "D"), ("D", "t", "E"), ("C", "t", "F")]
    graph = GraphStore.from_triples(rows)
    assert solve(ask(("r", "&", "s", "t"), ("E",), ("A", "B")), graph, max_turns=9) is None
    assert solve(ask(("s", "t", "&", "r"), ("E",), ("B", "A")), graph, max_turns=9) is not None
    # A topic of an earlier branch is not found either.
    rows = [("A", "r", "E"), ("B", "s", "A"), ("B", "s", "D"), ("A", "t", "E"), ("D", "t", "F")]
    graph = GraphStore.from_triples(rows)
    assert solve(ask(("r", "&", "s", "t"), ("E",), ("A", "B")), graph, max_turns=9) is None
    # To the agent one topic is one branch.
    assert solve(ask(("r", "&", "r"), ("E",), ("A", "A")), graph, max_turns=9) is None


def test_a_topic_may_be_called_by_its_identifier() -> None:
    rows = [("Q1", "directed by", "Q2"), ("Q3", "directed by", "Q2")]
    graph = GraphStore.from_triples(rows, labels={"Q1": "Alien", "Q2": "Scott", "Q3": "Legend"})
    question = ask(("directed by", "^directed by"), ("Q3",), ("Q1",))
    steps = solve(question, graph)
    assert steps is not None
    assert replay(question, steps, graph).answers == ("Legend",)


def test_too_many_or_cut_results_are_given_up() -> None:
    def fan(count: int, **more: int) -> GraphStore:
        rows = [("A", "r", f"n{number}") for number in range(count)] + [
            (f"n{number}", "s", "end") for number in range(count)
        ]
        return GraphStore.from_triples(rows, **more)

    question = ask(("r", "s"), ("end",), ("A",))
    assert solve(question, fan(MAX_MEMBERS)) is not None
    assert solve(question, fan(MAX_MEMBERS + 1)) is None
    assert solve(question, fan(10, max_results=9)) is None
    assert solve(question, fan(10, max_results=10)) is not None


def test_times_question_graphs_and_nameless_nodes() -> None:
    rows = [("A", "r", "m.0x1"), ("A", "r", "m.0x2"), ("m.0x1", "s", "B"), ("m.0x2", "s", "C")]
    dates = [parse_span(year) or UNDATED for year in ("1990", "2001")]
    dated = GraphStore.from_triples(rows, spans=[*dates, UNDATED, UNDATED])
    question = ask(("r", "@before 1995", "s"), ("B",), ("A",))
    steps = solve(question, dated)
    assert calls(steps)[1] == 'get_tail_entities("A", "r", "before 1995")'
    assert steps is not None
    assert [steps[place].think for place in (1, 2)] == ['Only "before 1995" counts.', "This has no name, so I go on."]
    replay(question, steps, dated, time_filter=True)
    both = GraphStore.from_question_graphs({"one": rows[:3], "two": rows})
    for name, answers in (("one", ("B",)), ("two", ("B", "C"))):
        inside = ask(("r", "s"), answers, ("A",), graph_id=name)
        steps = solve(inside, both)
        assert steps is not None
        replay(inside, steps, both)


def test_a_mistake_is_followed_by_its_recovery(family: GraphStore) -> None:
    question = ask(("parent", "nationality"), ("England", "Scotland"))
    for seed in range(10):
        steps = solve(question, family, seed=seed, recovery=True)
        assert steps is not None
        (mistake,) = [place for place, step in enumerate(steps) if step.mistake]
        assert mistake == 1
        assert calls(steps)[1] in ('get_tail_entities("Ada", "spouse")', 'get_tail_entities("Ada", "wrote")')
        assert steps[2].think == "That does not fit, so I go back."
        replay(question, steps, family)
    assert solve(question, family, max_turns=5, recovery=True) is None
    # Another way to the answers is no mistake, and with one relation there is none to make.
    rows = [("A", "r", "B"), ("A", "s", "B")]
    assert solve(ask(("r",), ("B",), ("A",)), GraphStore.from_triples(rows), recovery=True) is None
    assert solve(ask(("r",), ("B",), ("A",)), GraphStore.from_triples(rows[:1]), recovery=True) is None
    shared = ask(("^nationality", "&", "parent"), ("George",), ("England", "Ada"))
    made = [solve(shared, family, seed=seed, recovery=True) for seed in range(20)]
    places = {[step.mistake for step in steps].index(True) for steps in made if steps is not None}
    assert places == {3}  # nothing else leads to England
    for steps in made:
        if steps is not None:
            replay(shared, steps, family)


def test_a_set_of_questions_is_walked_like_this(family: GraphStore) -> None:
    questions = [
        ask((), ("Luigi", "Ada"), ("Engine",), id="a"),
        ask((), ("England", "Scotland"), id="b", text="Which nations do the parents come from?"),
        ask(("spouse",), ("William",), id="c"),
    ]
    made = expert_dataset(questions, family, count=9, seed=0, max_turns=5, recovery_share=0.0, habits=SETS)
    assert sorted(question.id for question, _ in made) == ["a", "b", "c"]
    for question, steps in made:
        replay(question, steps, family)
        assert any('"*"' in call for call in calls(steps)) == (question.id != "c")


ENTITIES = ("A", "B", "C", "D, E", "<think>", "m.0x1")
RELATIONS = ("r", "s", "t")


@given(st.data())
def test_what_the_expert_does_the_agent_can_do(data: st.DataObject) -> None:
    """Any graph, one or two walks on it: if the expert has a way, played it gives the answers and nothing else."""
    entity, relation = st.sampled_from(ENTITIES), st.sampled_from(RELATIONS)
    rows: Rows = data.draw(st.lists(st.tuples(entity, relation, entity), min_size=1, max_size=20))
    graph = GraphStore.from_triples(rows)
    there = sorted({name for head, _, tail in rows for name in (head, tail)})
    topics = data.draw(st.lists(st.sampled_from(there), min_size=1, max_size=2))
    paths: list[list[str]] = []
    ends: list[set[str]] = []
    for topic in topics:
        place, path, frontier = topic, list[str](), {topic}
        for _ in range(data.draw(st.integers(1, 3))):
            steps = [(r, t) for h, r, t in rows if h == place] + [(f"^{r}", h) for h, r, t in rows if t == place]
            hop, place = data.draw(st.sampled_from(steps))
            path.append(hop)
            pairs = [(t, h) if hop.startswith("^") else (h, t) for h, r, t in rows if r == hop.removeprefix("^")]
            frontier = {end for start, end in pairs if start in frontier}
            frontier = frontier - {topic} or frontier
        paths.append(path)
        ends.append(frontier)
    gold = set.intersection(*ends)
    gold = gold - set(topics) or gold
    question = ask(" & ".join(" ".join(path) for path in paths).split(), sorted(gold), topics)
    assert [len(path) for path in parse_path(question.gold_path)] == [len(path) for path in paths]
    steps = solve(question, graph, max_turns=20)
    if len(topics) == 1 and gold:
        assert steps is not None
    if steps is not None:
        assert len(steps) == 2 * sum(map(len, paths)) + 1
        replay(question, steps, graph, max_turns=20)


def test_words_of_the_question_are_quoted_once(family: GraphStore) -> None:
    question = ask(("parent", "nationality"), ("England", "Scotland")).model_copy(
        update={"text": "What is the nationality of the parents of Ada?"}
    )
    walk = SetWalk(question, family, random.Random(0), 7, None, Cues([question]), "brief")
    steps = walk.run([("Ada", (Hop("parent"), Hop("nationality")))])
    assert steps is not None
    assert [step.think for step in steps][1:4] == [
        'The question asks for "parents".',
        'The question goes on to "nationality".',
        'The question asks for "nationality".',
    ]


def test_the_trace_in_the_documents_is_what_it_does() -> None:
    lines = embedded_graph_path().read_text("utf-8").splitlines()
    countries = GraphStore.from_triples(tuple(line.split("\t")) for line in lines)  # type: ignore[misc]
    question = ask(("borders", "official language"), ("Aymara", "Guarani", "Quechua", "Spanish"), ("Chile",))
    steps = expert_steps(question, countries, random.Random("0:1"), max_turns=5, habits=Habits(sets=True))
    assert steps is not None
    episode = replay(question, steps, countries)
    shown = [f"\n<information>{turn.information}</information>" for turn in episode.turns[:-1]]
    texts = [turn.text + after for turn, after in zip(episode.turns, [*shown, ""], strict=True)]
    trace = "".join(f"    {line}\n" for text in texts for line in text.split("\n"))
    assert trace in (Path(__file__).parents[2] / "docs" / "protocol.md").read_text("utf-8")
    one_by_one = expert_steps(question, countries, random.Random("0:1"), max_turns=7, reuse_relations=True)
    assert one_by_one is not None
    assert (len(steps), len(one_by_one)) == (5, 7)


def test_the_family_is_the_one_of_the_examples(family: GraphStore) -> None:
    assert [tuple(triple) for triple in family.triples()] == sorted(FAMILY)
