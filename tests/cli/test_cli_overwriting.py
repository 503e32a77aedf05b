"""Outputs that name an input are refused, and the input stays as it was."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from cli_process import Run

LOST = "is read by this command and would be lost"
READ_NEXT = "would be read as one of the sources"
LINE = {"id": "1", "question": "Ada's children?", "topic_entities": ["Ada"], "answers": ["Ben", "Cleo"]}


def refusal(run: Run, *arguments: str | Path) -> str:
    """What a command that is refused says, on one line."""
    return " ".join(run(*arguments, code=2).stderr.replace("│", " ").split())


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "questions.jsonl").write_text(json.dumps(LINE))
    return folder / "questions.jsonl"


def test_an_audit_keeps_what_it_reads(run: Run, tmp_path: Path, family: Path, questions: Path) -> None:
    run("graph", "build", family, tmp_path / "g.kg")
    (tmp_path / "link.json").symlink_to(questions)
    header = tmp_path / "g.kg" / "header.json"
    for given, graph, target in (
        (questions, family, questions),
        (questions, family, family),
        (questions, family, tmp_path / "link.json"),
        (questions.parent, family, questions),
        (questions, tmp_path / "g.kg", header),
    ):
        before = target.read_bytes()
        assert LOST in run("data", "audit", "-q", given, "-g", graph, "--json", target, code=2).stderr
        assert target.read_bytes() == before
    beside = questions.with_name("audit.json")
    for _ in range(2):  # what an earlier audit wrote is no input
        run("data", "audit", "-q", questions.parent, "-g", family, "--json", beside)
    assert json.loads(beside.read_text())["questions"] == 1


def test_graph_commands_keep_what_they_read(run: Run, tmp_path: Path, family: Path, questions: Path) -> None:
    cut = ("graph", "extract", family, tmp_path / "cut.kg", "-q", questions)
    assert LOST in run(*cut, "--write-questions", questions, code=2).stderr
    assert LOST in run(*cut, "--write-questions", family, code=2).stderr
    assert json.loads(questions.read_text()) == LINE
    assert not (tmp_path / "cut.kg").exists()
    run(*cut, "--write-questions", tmp_path / "cut.jsonl")
    again = ("graph", "extract", tmp_path / "cut.kg", tmp_path / "cut.kg", "-q", questions, "--force")
    assert LOST in run(*again, code=2).stderr
    before = family.read_bytes()
    assert LOST in run("graph", "contract", family, family, "--force", code=2).stderr
    assert family.read_bytes() == before


def test_members_of_sources_are_kept(run: Run, tmp_path: Path, family: Path) -> None:
    data = tmp_path / "data"
    (data / "more").mkdir(parents=True)
    facts = data / "more" / "facts.tsv"
    facts.write_bytes(family.read_bytes())
    (tmp_path / "link.tsv").symlink_to(facts)
    for source in (data, data / "*", data / "**" / "*.tsv", data / "more" / "f*"):
        for target in (facts, tmp_path / "link.tsv"):
            assert LOST in refusal(run, "graph", "contract", source, target, "--force")
    names = tmp_path / "names.tsv"
    names.write_text("Ada\tAda L.\n")
    assert LOST in refusal(run, "graph", "contract", facts, names, "--names", names, "--force")
    numbered, symbols = tmp_path / "train_simple.json", tmp_path / "entities.txt"
    numbered.write_text("{}")
    symbols.write_text("Ada\n")
    assert LOST in refusal(run, "graph", "contract", numbered, symbols, "--force")
    assert facts.read_bytes() == family.read_bytes()
    assert (names.read_text(), symbols.read_text()) == ("Ada\tAda L.\n", "Ada\n")


def test_what_lies_in_a_graph_is_not_replaced_with_it(run: Run, tmp_path: Path, family: Path) -> None:
    graph = tmp_path / "g.kg"
    run("graph", "build", family, graph)
    facts, questions = graph / "facts.tsv", graph / "questions.jsonl"
    facts.write_bytes(family.read_bytes())
    questions.write_text(json.dumps(LINE))
    inside = "lies in .*g.kg, is read by this command and would be lost"
    for arguments in (
        ("build", facts, graph),
        ("build", family, graph, "--names", facts),
        ("build", graph / "*.tsv", graph),
        ("extract", facts, graph, "-q", family),
        ("extract", family, graph, "-q", questions),
    ):
        assert re.search(inside, refusal(run, "graph", *arguments, "--force"))
    assert facts.read_bytes() == family.read_bytes()
    assert json.loads(questions.read_text()) == LINE


def test_no_output_becomes_a_source(run: Run, tmp_path: Path, family: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    (data / "more").mkdir(parents=True)
    for folder in (data, data / "more"):
        (folder / "facts.tsv").write_bytes(family.read_bytes())
    (tmp_path / "link").symlink_to(data)
    monkeypatch.chdir(data)
    for source, target in (
        (data, data / "out.tsv"),
        (data, data / "more" / "new" / "out.tsv.gz"),
        (data, tmp_path / "link" / "out.tsv"),
        (data, Path("out.tsv")),
        (data / "*", data / "out.tsv"),
        (Path("*.tsv"), data / "out.tsv"),
        (data / "**" / "*.tsv", data / "more" / "out.tsv"),
        (data / "*", data / "more" / "out.tsv"),
    ):
        assert READ_NEXT in refusal(run, "graph", "contract", source, target)
    for source in (data, data / "*", "."):
        assert READ_NEXT in refusal(run, "graph", "build", source, data / "g.kg")
    assert [path.name for path in sorted(data.iterdir())] == ["facts.tsv", "more"]
    for source, target in (  # none of these is found again
        (data, data / ".out.tsv"),
        (data / "*.tsv", data / "more" / "out.tsv"),
        (data / "f*.tsv", data / "out.tsv"),
    ):
        run("graph", "contract", source, target)
    run("graph", "build", data / "*.tsv", data / "g.kg")


def test_pictures_and_pages_replace_no_other_file(run: Run, tmp_path: Path, family: Path) -> None:
    out, before = tmp_path / "a", family.read_bytes()
    run("evaluate", "-g", "countries", "-q", "countries", "--policy", "oracle", "--limit", "3", "--out", out)
    refused = run("grounding", out, "--out", family, code=1)
    assert f"choose a name that ends in .png, not {family}" in refused.stderr
    assert refused.stdout == ""  # told before the work
    assert family.read_bytes() == before
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1, "f1": 0.5}\n')
    assert "ends in .png" in run("curve", log, "--out", log, code=1).stderr
    assert log.read_text() == '{"step": 1, "f1": 0.5}\n'
    for name, words in (("e.png", ("grounding",)), ("e.html", ("report",))):
        copy = tmp_path / name
        copy.write_bytes((out / "episodes.jsonl").read_bytes())
        assert LOST in run(*words, copy, "--out", copy, code=2).stderr
        assert copy.read_bytes() == (out / "episodes.jsonl").read_bytes()
