"""``kgr1 data``: list, info, convert and audit, as typed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kgr1.cli.main import app
from kgr1.datasets.published.registry import CARDS

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("KGR1_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("KGR1_DEBUG", raising=False)

    def invoke(*arguments: str | Path, code: int = 0) -> Result:
        result = CliRunner().invoke(app, ["data", *map(str, arguments)], prog_name="kgr1")
        assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
        return result

    return invoke


ROG = {
    "id": "q1",
    "question": "Who is the parent of Ben?",
    "answer": ["Ada"],
    "q_entity": ["Ben"],
    "a_entity": ["Ada"],
    "graph": [["Ada", "people.person.children", "Ben"]],
    "choices": [],
}


def test_all_sets_are_listed(run: Run) -> None:
    lines = run("list").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [card.name for card in CARDS]
    assert "34,689" in next(line for line in lines if line.startswith("cwq"))
    assert "407,513" in next(line for line in lines if line.startswith("metaqa"))


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_set_is_described(run: Run, card: object) -> None:
    from kgr1.datasets.published.card import Card

    assert isinstance(card, Card)
    text = run("info", card.name).stdout
    for part in (card.title, card.licence, card.homepage, *card.citations, *card.notes, card.formats[0].what):
        assert part in text
    for count in card.counts:
        assert count.where in text
        assert all(f"{number:,}" in text for number in count.splits.values())


def test_an_unknown_name(run: Run, tmp_path: Path) -> None:
    assert "did you mean grailqa?" in run("info", "grailq", code=1).stderr
    run("convert", "nonsense", tmp_path, tmp_path / "out", code=1)


def test_convert_build_audit_and_evaluate(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "test-0.jsonl.gz"
    source.write_bytes(gzip.compress((json.dumps(ROG) + "\n").encode()))
    out = tmp_path / "out"
    done = run("convert", "cwq", source, out)
    assert "question graphs" in done.stdout
    assert f"kgr1 graph build {out / 'graphs.jsonl.gz'} {out / 'graph.kg'}" in done.stderr.replace("\n", "")
    assert "already" in run("convert", "cwq", source, out, code=1).stderr
    run("convert", "cwq", source, out, "--force", "--no-graph")
    build = CliRunner().invoke(app, ["graph", "build", str(out / "graphs.jsonl.gz"), str(out / "graph.kg")])
    assert build.exit_code == 0, build.output
    audited = run("audit", "--questions", out, "--graph", out / "graph.kg", "--json", tmp_path / "audit.json")
    assert "100 / 100" in audited.stdout
    assert json.loads((tmp_path / "audit.json").read_text())["reach"][0]["reach"][0] == {"hops": 1, "some": 1, "all": 1}
    played = [
        "evaluate",
        "--questions",
        out,
        "--graph",
        out / "graph.kg",
        "--policy",
        "oracle",
        "--out",
        tmp_path / "r",
    ]
    evaluated = CliRunner().invoke(app, list(map(str, played)))
    assert evaluated.exit_code == 0, evaluated.output
    (episode,) = (tmp_path / "r" / "episodes.jsonl").read_text().splitlines()
    assert json.loads(episode)["answers"] == ["Ada"]


def test_what_the_audit_prints(run: Run, tmp_path: Path) -> None:
    (tmp_path / "g.tsv").write_text("a\tr\tb\nb\tr\tc\na\tr\tc\n")
    rows = [
        {"id": "1", "question": "x?", "topic_entities": ["a"], "answers": ["c"], "hops": 2, "split": "train"},
        {"id": "2", "question": "x?", "topic_entities": ["a"], "answers": ["\x1b[31mz"], "split": "test"},
        {"id": "3", "question": "y?", "topic_entities": ["q"], "answers": ["b"], "split": "test"},
    ]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run("audit", "-q", tmp_path / "questions.jsonl", "-g", tmp_path / "g.tsv", "--hops", "2")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["all", "3", "33.3", "/", "33.3", "33.3", "/", "33.3"] in lines
    assert ["2", "1", "1", "(100.0%)", "1", "(100.0%)"] in lines
    assert ["test", "train", "2", "1", "1", "0"] in lines
    assert "topics not in the graph: q" in done.stderr
    assert "\\x1b[31mz" in done.stderr
    assert "\x1b[31mz" not in done.output


def test_hubs_are_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "g.tsv").write_text("a\tr\thub\n" + "".join(f"hub\tr\tn{n}\n" for n in range(9)))
    row = {"id": "1", "question": "x?", "topic_entities": ["a"], "answers": ["n1"]}
    (tmp_path / "q.jsonl").write_text(json.dumps(row))
    done = run("audit", "-q", tmp_path / "q.jsonl", "-g", tmp_path / "g.tsv", "--hub-limit", "5")
    assert "1 searches ended early" in done.stderr.replace("\n", " ")


def test_names_and_topics_without_names(run: Run, tmp_path: Path) -> None:
    (tmp_path / "names.tsv").write_text("Q1\tAda\nQ2\tRome\n")
    source = tmp_path / "annotated_wd_data_valid.txt"
    source.write_text("Q1\tP19\tQ2\twhere was ada born\n")
    run("convert", "simplequestions-wikidata", source, tmp_path / "out", "--names", tmp_path / "names.tsv")
    row = json.loads((tmp_path / "out" / "questions.jsonl").read_text())
    assert (row["topic_entities"], row["answers"], row["answer_labels"]) == (["Ada"], ["Q2"], ["Rome"])
    run(
        "convert",
        "simplequestions-wikidata",
        source,
        tmp_path / "two",
        "--names",
        tmp_path / "names.tsv",
        "--topics-by-id",
    )
    assert json.loads((tmp_path / "two" / "questions.jsonl").read_text())["topic_entities"] == ["Q1"]
    event = {"quid": 1, "question": "q?", "answers": ["y"], "answer_type": "entity"}
    (tmp_path / "test.json").write_text(json.dumps([event]))
    done = run("convert", "multitq", tmp_path / "test.json", tmp_path / "three")
    assert "evaluate --link" in done.stderr.replace("\n", " ")
    message = run("convert", "multitq", tmp_path / "test.json", tmp_path / "four", "--split", "train", code=1).stderr
    assert "has no split 'train'; it has test." in message.replace("\n", " ")
