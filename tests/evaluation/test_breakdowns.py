"""The tables behind the headline numbers."""

from __future__ import annotations

import pytest
from eval_episodes import asked, played, question

from kgr1.evaluation.breakdowns import breakdowns, overview
from kgr1.evaluation.costs import Session
from kgr1.evaluation.results import Table, difference_table, latex, markdown
from kgr1.evaluation.runs import Run
from kgr1.types import Episode, ErrorCode, Turn


def run_of(system: str, dataset: str, right: list[bool], **fields: object) -> Run:
    turns = [asked("Paris"), asked(error=ErrorCode.NO_RESULTS)]
    episodes = [
        played(question(n, hops=n % 2 + 1), ["Paris"] if hit else ["Rome"], turns=turns, tokens=8 * (n + 1))
        for n, hit in enumerate(right)
    ]
    return Run.of((episode.model_copy(update=fields) for episode in episodes), system=system, dataset=dataset)


def table(tables: list[Table], start: str) -> tuple[list[str], list[list[str]]]:
    ((_, header, rows),) = [one for one in tables if one[0].startswith(start)]
    return header, rows


def test_the_mean_of_an_overview_is_over_questions() -> None:
    runs = [run_of("a", "small", [True]), run_of("a", "large", [False] * 3), run_of("b", "small", [True])]
    _, header, rows = overview(runs)
    assert header[:5] == ["system", "runs", "small: F1 (macro)", "small: Hit@1", "small: generated tokens"]
    assert header[-2:] == ["all questions: F1 (macro)", "all questions: Hit@1"]
    assert rows[0] == ["a", "1", "100.0 %", "100.0 %", "8.00", "0.0 %", "0.0 %", "16.00", "25.0 %", "25.0 %"]
    assert rows[1] == ["b", "1", "100.0 %", "100.0 %", "8.00", "-", "-", "-", "-", "-"]
    assert len(overview(runs[:1])[1]) == 5  # one data set has no mean beside it


def test_several_runs_count_as_their_union() -> None:
    one = [played(question(1), [name], sample=n, tokens=10) for n, name in enumerate(("Paris", "Rome"))]
    _, _, rows = overview([Run.of(one, system="twice", dataset="d")])
    assert rows == [["twice", "2", "66.7 %", "100.0 %", "20.00"]]


def test_differences_and_hops_are_those_of_the_union_too() -> None:
    """Two runs, one of which is right, against one run that is wrong."""
    item = question(1, hops=2)
    twice = [played(item, [name], sample=n, tokens=10) for n, name in enumerate(("Paris", "Rome"))]
    runs = [Run.of([played(item, ["Rome"], tokens=5)], system="once", dataset="d")]
    runs += [Run.of(twice, system="twice", dataset="d")]
    _, header, rows = difference_table(runs)
    found = dict(zip(header, rows[0], strict=True))
    assert found["systems"] == "twice against once"
    assert found["F1 (macro)"].startswith("+66.7 points")
    assert found["generated tokens"].startswith("+15.00")
    assert table(breakdowns(runs), "F1 by hops")[1][1][4].startswith("66.7 % [")


def test_a_turn_is_what_a_model_wrote() -> None:
    """Each query of another system is a record of its own, and no turn."""
    wrote = Turn(text="prune", step="prune relations", generate_s=2.0)
    asks = asked("Paris").model_copy(update={"step": "retrieve", "graph_s": 0.5})
    episode = played(question(1), ["Paris"], turns=[asks, wrote, asks, asks])
    run = Run.of([episode.model_copy(update={"turns": episode.turns[:-1]})], system="tog", dataset="d")
    assert table(breakdowns([run]), "Mean seconds by turn")[1] == [["d", "tog", "1", "1", "2", "1.5"]]


@pytest.mark.parametrize(("concurrency", "shown"), [([1, 1], [["d", "s", "5", "5.9", "3"]]), ([1, 8], []), ([], [])])
def test_latency_is_that_of_questions_played_alone(concurrency: list[int], shown: list[list[str]]) -> None:
    run = run_of("s", "d", [True, True, False])
    run.seconds = [4.0, 5.0, 6.0]
    run.sessions = [Session(concurrency=n, episodes=3, generated_tokens=48, seconds=9) for n in concurrency]
    assert table(breakdowns([run]), "Latency of single questions")[1] == shown


def test_hops_turns_calls_and_causes() -> None:
    runs = [run_of("s", "d", [True, False, False]), run_of("alone", "d", [False] * 2, fallback=True, turns=())]
    tables = breakdowns(runs)
    header, rows = table(tables, "F1 by hops")
    assert [row[:4] for row in rows[:2]] == [["d", "s", "1", "2"], ["d", "s", "2", "1"]]
    assert rows[0][4].startswith("50.0 % [")
    header, rows = table(tables, "Mean seconds by turn")
    assert [row[2:4] for row in rows] == [["1", "3"], ["2", "3"], ["3", "3"]]
    header, rows = table(tables, "Graph calls")
    assert header == ["data set", "system", "result", "KG_NO_RESULTS"]
    assert rows == [["d", "s", "1.000", "1.000"], ["d", "alone", "0.000", "0.000"]]
    header, rows = table(tables, "What became")
    assert header[2:] == ["right", "answered without the graph", "seen, not answered"]
    assert rows == [["d", "s", "33.3 %", "0.0 %", "66.7 %"], ["d", "alone", "0.0 %", "100.0 %", "0.0 %"]]


def test_tokens_by_kind() -> None:
    text = "<think>abc</think><answer>x</answer>"
    episode = played(question(1), ["x"])
    turn = episode.turns[-1].model_copy(update={"text": text, "token_ids": tuple(range(36))})
    episode = Episode.model_validate(episode.model_dump() | {"turns": (turn,), "prompt_ids": (1, 2, 3)})
    tables = breakdowns([Run.of([episode], system="s", dataset="d")])
    assert "Tokens of an episode by kind" in [title for title, _, _ in tables]
    header, rows = table(tables, "Tokens")
    assert dict(zip(header, rows[0], strict=True))["system prompt"] == "3.0"
    assert float(rows[0][3]) + float(rows[0][4]) == pytest.approx(36)


def test_characters_are_called_characters() -> None:
    episode = played(question(1), ["x"]).model_copy(update={"prompt": "12345"})
    tables = breakdowns([Run.of([episode], system="by hand", dataset="d")])
    assert table(tables, "Tokens of an episode by kind, in characters for by hand")[1][0][2] == "5.0"


def test_they_can_be_written() -> None:
    tables = breakdowns([run_of("a_b", "d & e", [True, False])])
    text = markdown("", tables, ())
    assert "| d & e | a_b | right |" not in text
    assert "## What became of the episodes" in text
    assert "## Latency of single questions" not in text  # nobody was played alone
    assert r"a\_b" in latex(tables)
