"""``kgr1 data``: list, info, convert and audit, as typed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from kgr1.cli.main import app
from kgr1.datasets.published.card import Card
from kgr1.datasets.published.registry import CARDS, card
from kgr1.errors import DatasetError

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
    assert [line.split()[0] for line in lines[1:]] == [each.name for each in CARDS]
    assert "34,689" in next(line for line in lines if line.startswith("cwq"))
    assert "407,513" in next(line for line in lines if line.startswith("metaqa"))


@pytest.mark.parametrize("each", CARDS, ids=lambda each: each.name)
def test_a_set_is_described(run: Run, each: Card) -> None:
    text = run("info", each.name).stdout
    for part in (each.title, each.licence, each.homepage, *each.citations, *each.notes, each.formats[0].what):
        assert part in text
    for count in each.counts:
        assert count.where in text
        assert all(f"{number:,}" in text for number in count.splits.values())


def test_an_unknown_name(run: Run, tmp_path: Path) -> None:
    assert "did you mean grailqa?" in run("info", "grailq", code=1).stderr
    run("convert", "nonsense", tmp_path, tmp_path / "out", code=1)


def shards(folder: Path, stem: str, count: int, rows: int) -> list[Path]:
    """Files of a split as the hub names them, with ``rows`` questions in each."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{stem}-{number:05d}-of-{count:05d}.parquet" for number in range(count)]
    for place, path in enumerate(paths):
        made = [{**ROG, "id": f"{stem}{place}-{row}"} for row in range(rows)]
        pl.DataFrame(made, schema_overrides={"choices": pl.List(pl.Null)}).write_parquet(path)
    return paths


def test_a_missing_part_of_a_split_is_named(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "source"
    first, second = shards(source / "data", "test", 2, rows=3)
    shards(source / "data", "train", 1, rows=2)
    second.unlink()
    for more in ((), ("--split", "test")):
        told = " ".join(run("convert", "webqsp", source, tmp_path / "out", *more, code=1).stderr.split())
        assert f"{source} lacks data/test-00001-of-00002.parquet, by the names" in told
        assert not (tmp_path / "out" / "questions.jsonl").exists()
    # What was not asked for may be missing, and who names a file wants that one.
    assert "2" in run("convert", "webqsp", source, tmp_path / "train", "--split", "train").stdout
    assert "test" in run("convert", "webqsp", first, tmp_path / "first").stdout
    # The hub puts a hash into the names, which nobody knows of the missing one; some count from 1.
    first.rename(first.with_name("test-00002-of-00003-9ee8d68f7d951e1f.parquet"))
    told = " ".join(run("convert", "webqsp", source, tmp_path / "out", code=1).stderr.split())
    assert "lacks data/test-00000-of-00003*.parquet, data/test-00001-of-00003*.parquet, by" in told
    (source / "data" / "test-00002-of-00003-9ee8d68f7d951e1f.parquet").rename(source / "data" / "test-3-of-3.parquet")
    told = " ".join(run("convert", "webqsp", source, tmp_path / "out", code=1).stderr.split())
    assert "lacks data/test-1-of-3.parquet, data/test-2-of-3.parquet, by" in told


def test_a_conversion_that_fails_leaves_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "test-0.jsonl"
    source.write_text(json.dumps(ROG) + "\n" + '{"id": "cut off')
    out = tmp_path / "new" / "out"
    run("convert", "cwq", source, out, code=1)
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    run("convert", "cwq", source, tmp_path / "mine", code=1)
    assert list((tmp_path / "mine").iterdir()) == []  # who made it keeps it

    source.write_text(json.dumps(ROG) + "\n")
    run("convert", "cwq", source, tmp_path / "mine")
    before = {path.name: path.read_bytes() for path in (tmp_path / "mine").iterdir()}

    def broken(*_: object) -> None:
        raise DatasetError("The disk is full.")

    monkeypatch.setattr("kgr1.datasets.published.convert._described", broken)  # after the questions were written
    run("convert", "cwq", source, out, code=1)
    assert not (tmp_path / "new").exists()
    run("convert", "cwq", source, tmp_path / "mine", "--force", code=1)
    assert {path.name: path.read_bytes() for path in (tmp_path / "mine").iterdir()} == before


def test_all_parts_of_a_split_are_read(run: Run, tmp_path: Path) -> None:
    shards(tmp_path / "source", "test", 2, rows=814)
    done = run("convert", "webqsp", tmp_path / "source", tmp_path / "out")
    assert "published are" not in done.stderr  # 1,628
    assert len((tmp_path / "out" / "questions.jsonl").read_text().splitlines()) == 1628


def test_another_number_of_questions_than_published_is_told(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (file,) = shards(source, "test", 1, rows=300)
    told = " ".join(run("convert", "webqsp", source, tmp_path / "out").stderr.split())
    assert "Split test has 300 questions; published are 1,628 (rmanluo/RoG-webqsp) or 1,639 (paper)." in told
    assert "Split train" not in told
    for place, more in ((source, ("--split", "test")), (file, ())):
        assert "published are" not in run("convert", "webqsp", place, tmp_path / "out", "--force", *more).stderr


def test_counts_of_sets_with_parts_and_of_one_repository() -> None:
    web, films, paths = (card(name) for name in ("webqsp", "metaqa", "pathquestion"))
    assert web.stated("test", "rmanluo/RoG-webqsp") == {1628: "rmanluo/RoG-webqsp"}
    assert set(web.stated("test", "somebody/else")) == {1628, 1639}
    assert (web.stated("dev")[246], web.stated("other")) == ("rmanluo/RoG-webqsp", {})
    assert films.stated("test")[9947 + 14872] == "1 hop and 2 hops"
    assert 39093 in films.stated("test")
    assert 2 * 9947 not in films.stated("test")
    assert {1908, 5197, 5198, 1908 + 5197 + 1168 + 1031} <= set(paths.stated(""))
    assert 5197 + 5198 not in paths.stated("")  # two counts of one part


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
    assert "cannot be told" not in done.output
    # The shortest way is two facts long, as the label says: 0 % would say nothing.
    rows[0]["topic_entities"], rows[0]["answers"] = ["b"], ["d"]
    (tmp_path / "g.tsv").write_text("a\tr\tb\nb\tr\tc\nc\tr\td\n")
    (tmp_path / "questions.jsonl").write_text(json.dumps(rows[0]))
    told = run("audit", "-q", tmp_path / "questions.jsonl", "-g", tmp_path / "g.tsv").stdout
    assert "Short cuts cannot be told for 1 questions" in told
    assert "Short cuts: questions of several hops" not in told
    assert "0.0%" not in told


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
