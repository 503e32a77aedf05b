"""What is said of runs that are not finished, of graphs that were built anew, and of questions on another graph."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_process import Run

from kgr1.cli.matching import mind_topics
from kgr1.cli.sources import open_graph
from kgr1.graph.family import GraphFamily
from kgr1.graph.store import GraphStore
from kgr1.types import Question

ORACLE = ("evaluate", "-g", "countries", "-q", "countries", "--policy", "oracle", "--limit", "8")
MISMATCH = "check that questions and graph belong together"


def cut(run: Path, count: int) -> None:
    """Leave the first ``count`` episodes of a run."""
    journal = run / "episodes.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:count]))


def test_a_run_that_is_not_finished(run: Run, tmp_path: Path) -> None:
    whole, part, page, table = (tmp_path / name for name in ("whole", "part", "r.html", "r.md"))
    run(*ORACLE, "--runs", "2", "--out", whole)
    run(*ORACLE, "--runs", "2", "--out", part)
    for words in (("rescore", whole), ("diff", whole, whole), ("grounding", whole), ("report", whole, "-o", page)):
        assert "not finished" not in run(*words).stderr
    assert "not finished" not in page.read_text()
    cut(part, 5)
    for words in (("rescore", part), ("diff", whole, part), ("grounding", part / "episodes.jsonl")):
        told = run(*words).stderr
        assert "has 5 of 16 episodes; the run is not finished" in told
        assert told.count("Warning") == 1
    assert "part: 5 of 16 episodes; the run is not finished" in run("report", whole, part, "-o", page).stderr
    assert "part: 5 of 16 episodes; the run is not finished" in page.read_text()
    run("report", part, "-o", table)
    assert "- part: 5 of 16 episodes; the run is not finished" in table.read_text()
    (tmp_path / "copy.jsonl").write_text((part / "episodes.jsonl").read_text())
    assert "not finished" not in run("rescore", tmp_path / "copy.jsonl").stderr  # nothing tells what was wanted
    run(*ORACLE, "--runs", "2", "--out", part)
    assert "not finished" not in run("rescore", part).stderr


def test_a_run_without_an_episode_has_no_numbers(run: Run, tmp_path: Path) -> None:
    whole, empty, page = tmp_path / "whole", tmp_path / "empty", tmp_path / "r.html"
    run(*ORACLE, "--out", whole)
    run(*ORACLE, "--out", empty)
    cut(empty, 0)
    for words in (("rescore", empty), ("diff", whole, empty), ("diff", empty, whole), ("report", empty, "-o", page)):
        assert "There is no finished episode in" in run(*words, code=1).stderr
    assert not page.exists()


def test_a_graph_that_was_built_anew_is_another_one(run: Run, tmp_path: Path, family: Path) -> None:
    out, built = tmp_path / "a", tmp_path / "g.kg"
    line = {"id": "1", "question": "Ada's children?", "topic_entities": ["Ada"], "answers": ["Ben", "Cleo"]}
    (tmp_path / "q.jsonl").write_text(json.dumps(line))
    words = ("evaluate", "-q", tmp_path / "q.jsonl", "--policy", "oracle", "--out", out, "--graph")
    run("graph", "build", family, built)
    run(*words, built)
    saved = json.loads((out / "run.json").read_text())
    assert len(saved["settings"]["graph"]["content"]) == 64
    run("graph", "build", family, built, "--force")
    run(*words, built)  # the same once more
    family.write_text(family.read_text().replace("Cleo\tlives in\tRome", "Cleo\tlives in\tOslo"))  # as many triples
    run("graph", "build", family, built, "--force")
    refused = run(*words, built, code=1).stderr
    assert "the graph was built anew since and holds something else" in refused
    assert "settings.graph" not in refused
    del saved["settings"]["graph"]["content"]  # as it was written before there was one
    (out / "run.json").write_text(json.dumps(saved))
    run(*words, built)
    saved["settings"]["graph"]["triples"] = 9
    (out / "run.json").write_text(json.dumps(saved))
    assert "settings.graph.triples is 9 there and 4 now" in run(*words, built, code=1).stderr


def test_the_hash_of_a_store(tmp_path: Path) -> None:
    rows = [("Ada", "parent of", "Ben"), ("Ben", "parent of", "Dan")]
    made = GraphStore.from_triples(rows)
    assert made.content_hash == ""
    made.save(tmp_path / "a")
    made.save(tmp_path / "b")
    GraphStore.from_triples([rows[0], ("Dan", "parent of", "Ben")]).save(tmp_path / "c")
    a, b, c = (GraphStore.open(tmp_path / name).content_hash for name in "abc")
    assert a == b != c


def test_questions_on_another_graph(run: Run, tmp_path: Path, family: Path) -> None:
    words = ("evaluate", "--policy", "oracle", "--limit", "12", "-q", "countries")
    told = run(*words, "-g", family, "--out", tmp_path / "a").stderr
    assert MISMATCH in told
    assert "none is in the graph 'family'" in told
    assert "Warning" not in run(*words, "-g", "countries", "--out", tmp_path / "b").stderr


def asked(*topics: str, graph_id: str | None = None) -> list[Question]:
    return [Question(id=t, text="Who?", topics=(t,), answers=(), graph_id=graph_id) for t in topics]


def test_when_topics_are_told_to_be_unknown(family: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(questions: list[Question], graph: object) -> str:
        mind_topics(questions, graph)  # type: ignore[arg-type]
        return " ".join(capsys.readouterr().err.split())

    with open_graph(str(family)) as graph:
        others = [f"X{number}" for number in range(10)]
        assert "Of 11 topics of the questions that were looked up, 1 is in the graph" in told(
            asked("Ada", *others), graph
        )
        assert told(asked("ada", "Ben", *others), graph) == ""
        assert told([], graph) == ""
        members = GraphFamily({"one": graph})  # has no index of names, and is asked instead
        assert MISMATCH in told(asked(*others, graph_id="one"), members)
        assert MISMATCH in told(asked("Ada", "Ben"), members)  # there is no such graph
        assert told(asked("Ada", "Dan", *others[:5], graph_id="one"), members) == ""
    assert told(asked(*others), graph) == ""  # a graph that is closed cannot say, which is no failure here
