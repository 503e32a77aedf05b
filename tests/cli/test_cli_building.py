"""``kgr1 graph build`` with options of the readers, and ``kgr1 graph extract``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

from cli_process import Run

from kgr1.cli import building
from kgr1.graph.readers import options


def test_the_help_knows_what_the_readers_know() -> None:
    assert get_args(options.Format) == building.FORMATS
    assert get_args(options.Profile) == building.PROFILES
    assert get_args(options.Literals) == building.LITERALS


def test_options_of_the_readers(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "dump"
    source.write_text('<e:a> <e:r> <e:b> .\nnonsense\n<e:a> <e:s> "x"@de .\n<e:a> <e:t> <e:c> .\n')
    assert "--format" in run("graph", "build", source, tmp_path / "g", code=1).stderr
    words = ("graph", "build", source, tmp_path / "g", "--format", "nt")
    assert "line 2" in run(*words, code=1).stderr
    shown = run(*words, "--skip-bad-lines", "--languages", "EN", "--drop", "t").stdout
    left_out = {line.split("left out: ")[1].rstrip() for line in shown.splitlines() if "left out: " in line}
    assert {" ".join(line.split()) for line in left_out} == {
        "not N-Triples 1",
        "text in other languages 1",
        "relations that are not wanted 1",
    }
    assert run("graph", "query", tmp_path / "g", "get_tail_entities", "a", "r", "--ids").stdout == "b\te:b\n"
    assert "none of tsv, csv" in run(*words[:-1], "docx", code=2).stderr


def test_extract(run: Run, tmp_path: Path) -> None:
    (tmp_path / "kg.tsv").write_text("a\tr\tb\nb\tr\tc\nc\tr\td\n")
    line = '{"id": "q1", "question": "?", "topic_entities": ["a"], "answers": ["d"]}\n'
    (tmp_path / "questions.jsonl").write_text(line)
    words = ("graph", "extract", tmp_path / "kg.tsv", tmp_path / "cut", "--questions", tmp_path / "questions.jsonl")
    shown = run(*words, "--hops", "1", "--write-questions", tmp_path / "cut.jsonl")
    assert ["triples", "1"] in [row.split() for row in shown.stdout.splitlines()]
    assert '"graph_id": "q1"' in (tmp_path / "cut.jsonl").read_text()
    shown = run(*words, "--hops", "1", "--include-answers", "--force")
    assert ["triples", "2"] in [row.split() for row in shown.stdout.splitlines()]
    assert "not comparable with honest ones" in " ".join(shown.stderr.split())


def test_extracted_questions_name_the_graphs_that_there_are(run: Run, tmp_path: Path) -> None:
    (tmp_path / "kg.tsv").write_text("a\tr\tb\n")
    questions, written = tmp_path / "questions.jsonl", tmp_path / "cut.jsonl"
    rows = [{"id": f"q{name}", "question": "?", "topic_entities": [name], "answers": ["b"]} for name in "ax"]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("graph", "extract", tmp_path / "kg.tsv", tmp_path / "cut", "--questions", questions, "--force")

    def graph_ids() -> list[str | None]:
        return [json.loads(line).get("graph_id") for line in written.read_text().splitlines()]

    shown = run(*words, "--write-questions", written).stderr
    assert graph_ids() == ["qa", None]
    assert "1 of 2 questions have no topic in the graph" in " ".join(shown.split())
    shown = run(*words, "--write-questions", written, "--plain").stderr
    assert graph_ids() == [None, None]
    assert "have no topic" not in " ".join(shown.split())


def test_contract(run: Run, tmp_path: Path) -> None:
    source, out = tmp_path / "kg.tsv", tmp_path / "out.tsv.gz"
    source.write_text("A\tx.in\tm.0x\nm.0x\tx.to\tB\nA\tr\tm.0y\nnonsense\n")
    assert "line 4" in run("graph", "contract", source, out, code=1).stderr
    shown = run("graph", "contract", source, out, "--skip-bad-lines").stdout
    counts = {" ".join(row.split()[:-1]): row.split()[-1] for row in shown.splitlines()[1:]}
    assert counts["facts read"] == "3"
    assert counts["nodes contracted"] == counts["nodes without a name left"] == "1"
    assert counts["facts written"] == counts["relations"] == "2"
    assert run("graph", "query", out, "get_tail_entities", "A", "x.in/to").stdout == "B\n"
    assert "replace it with --force" in run("graph", "contract", source, out, "--skip-bad-lines", code=1).stderr
    assert "Missing argument 'OUT'" in run("graph", "contract", source, "--force", code=2).stderr
    run("graph", "contract", source, out, "--skip-bad-lines", "--force")
    assert "name it .tsv or .txt" in run("graph", "contract", source, tmp_path / "out.kg", code=1).stderr
    assert "none of tsv, csv" in run("graph", "contract", source, out, "--format", "docx", code=2).stderr
    (tmp_path / "names.tsv").write_text("m.0x\tMeeting\n")
    shown = run("graph", "contract", source, out, "--skip-bad-lines", "--force", "--names", tmp_path / "names.tsv")
    assert "nodes contracted 0" in " ".join(shown.stdout.split())
    shown = run("graph", "contract", source, out, "--skip-bad-lines", "--force", "--drop-ends")
    assert "dead ends left out 1 nodes without a name left 0 facts written 1" in " ".join(shown.stdout.split())


def test_contract_unifies_relations_that_say_the_same(run: Run, tmp_path: Path) -> None:
    source, out = tmp_path / "kg.tsv", tmp_path / "unified.tsv"
    there = [f"Film {n}\tdirected by\tDirector {n}\n" for n in range(5)]
    back = [f"Director {n}\tdirector of\tFilm {n}\n" for n in range(2, 6)]
    source.write_text("".join([*there, *back]))
    shown = " ".join(run("graph", "contract", source, out, "--unify").stdout.split())
    assert "facts written 12" in shown
    assert "groups of relations unified 1 relations 2" in shown
    assert run("graph", "query", out, "get_tail_entities", "Director 0", "director of").stdout == "Film 0\n"
    assert run("graph", "query", out, "get_head_entities", "Director 5", "directed by").stdout == "Film 5\n"
    plain = run("graph", "contract", source, out, "--force").stdout
    assert "unified" not in plain.replace(str(out), "").replace(out.name, "")
