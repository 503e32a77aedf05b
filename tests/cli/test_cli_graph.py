"""``kgr1 graph``."""

from __future__ import annotations

import gzip
import subprocess
from pathlib import Path

import pytest
from cli_process import Run, command, environment

from kgr1.graph import GraphStore

HOSTILE = "[bold red]x[/]\x1b]0;owned\x07\x1b[31m \u202eevil"


def test_build_info_query(run: Run, family: Path, tmp_path: Path) -> None:
    graph = tmp_path / "g"
    report = run("graph", "build", family, family, graph, "--name", "relatives").stdout
    assert "repeated triples left out" in report
    info = run("graph", "info", graph, "--verify").stdout
    assert "relatives" in info
    assert ["triples", "4"] in [line.split() for line in info.splitlines()]
    assert "all files are as they were written" in info
    assert run("graph", "query", graph, "get_tail_entities", "ada", "parent_of").stdout == "Ben\nCleo\n"
    assert run("graph", "query", graph, "get_relations_in", "Dan").stdout == "parent of\n"


def test_names_are_shown_for_identifiers(run: Run, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("Q1,P1,Q2\nQ1,P1,Q3\n")
    with gzip.open(tmp_path / "names.tsv.gz", "wt") as file:
        file.write("Q1\tAda\nQ2\tBen\nQ9\tnobody\n")
    graph = tmp_path / "g"
    report = run("graph", "build", tmp_path / "t.csv", graph, "--names", tmp_path / "names.tsv.gz").stdout
    assert ["not", "in", "the", "graph", "1"] in [line.split()[-5:] for line in report.splitlines()]
    shown = run("graph", "query", graph, "get_tail_entities", "Ada", "P1", "--ids").stdout
    assert sorted(shown.splitlines()) == ["Ben\tQ2", "Q3\tQ3"]


def test_a_graph_is_replaced_only_on_request(run: Run, family: Path, tmp_path: Path) -> None:
    run("graph", "build", family, tmp_path / "g")
    assert "exists" in run("graph", "build", family, tmp_path / "g", code=1).stderr
    run("graph", "build", family, tmp_path / "g", "--force")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("years of work")
    run("graph", "build", family, tmp_path / "other", "--force", code=1)
    assert (tmp_path / "other" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.tsv", b"a\tb\tc\nx\ty\n", "line 2"),
        ("a.csv", b'a,b,c\n"x,y\n', "line 2"),
        ("a.tsv", b"a\tb\t\xff\n", "UTF-8"),
        ("a.tsv", b"", "no triple"),
        ("a.tsv.gz", gzip.compress(b"a\tb\tc\n" * 99)[:-9], "gzip"),
        ("a.docx", b"a\tb\tc\n", ".tsv"),
    ],
)
def test_malformed_files_are_one_sentence(run: Run, tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    for words in (("graph", "build", tmp_path / name, tmp_path / "g"), ("graph", "info", tmp_path / name)):
        result = run(*words, code=1)
        assert says in result.stderr
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1
        assert result.stdout == ""
    assert not (tmp_path / "g").exists()


def test_damage_is_found(run: Run, family: Path, tmp_path: Path) -> None:
    run("graph", "build", family, tmp_path / "g")
    file = tmp_path / "g" / "tail_neighbours.bin"
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.write_bytes(data)
    run("graph", "info", tmp_path / "g")
    assert "tail_neighbours.bin" in run("graph", "info", tmp_path / "g", "--verify", code=1).stderr


def test_query_errors(run: Run, family: Path) -> None:
    assert '"Ada"' in run("graph", "query", family, "get_tail_relations", "Adda", code=1).stderr
    assert "KG_FORMAT_ERROR" in run("graph", "query", family, "get_tail_entities", "Ada", code=1).stderr
    assert "get_tail_entities" in run("graph", "query", family, "drop_tables", "Ada", code=2).stderr


def test_hostile_names_are_harmless(run: Run, tmp_path: Path) -> None:
    """Names with terminal commands, markup and direction marks come out as what they are."""
    (tmp_path / "t.tsv").write_text(f"{HOSTILE}\tr\tb\nb\tr\t{HOSTILE}\n", encoding="utf-8")
    shown = run("graph", "query", tmp_path / "t.tsv", "get_tail_entities", "b", "r").stdout
    assert shown == "[bold red]x[/]\\x1b]0;owned\\x07\\x1b[31m \\u202eevil\n"
    error = run("graph", "query", tmp_path / "t.tsv", "get_tail_entities", f"{HOSTILE}!", "r", code=1).stderr
    assert error.replace("\n", "").isprintable()


def test_a_reader_that_leaves_is_no_traceback(tmp_path: Path) -> None:
    big = tmp_path / "big.tsv"
    big.write_text("".join(f"a\tr\tnode {number}\n" for number in range(20_000)))
    process = subprocess.Popen(
        [*command(), "graph", "query", str(big), "get_tail_entities", "a", "r"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=30) == 1
    process.stderr.close()


def test_dates_pages_and_question_graphs(run: Run, tmp_path: Path) -> None:
    facts = [("Ada", "works in", f"Town {i}") for i in range(5)]
    GraphStore.from_triples(facts, spans=[(365 * i, 365 * i + 364) for i in range(5)]).save(tmp_path / "dated")
    asked = ("graph", "query", tmp_path / "dated", "get_tail_entities", "Ada", "works in")
    assert run(*asked, "--time", "1970").stdout == "Town 0\t1970\n"
    page = run(*asked, "--offset", "1", "--limit", "2", "--ids")
    assert [line.split("\t")[:2] for line in page.stdout.splitlines()] == [["Town 1", "Town 1"], ["Town 2", "Town 2"]]
    assert "... and 2 more" in page.stderr
    assert "before 2014" in run(*asked, "--time", "soon", code=1).stderr
    assert "triples with dates" in run("graph", "info", tmp_path / "dated").stdout
    GraphStore.from_question_graphs({"q1": facts[:2], "q2": facts[1:]}).save(tmp_path / "questions")
    asked = ("graph", "query", tmp_path / "questions", "get_tail_entities", "Ada", "works in", "--graph-id")
    assert run(*asked, "q1").stdout == "Town 0\nTown 1\n"
    assert "q1" in run(*asked, "q3", code=1).stderr
    assert "question graphs" in run("graph", "info", tmp_path / "questions").stdout
