"""Published sets in the plain format, and their graphs as the builder of graphs reads them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from kgr1.datasets.audit.audit import audit_questions
from kgr1.datasets.plain import load_questions
from kgr1.datasets.published.convert import GRAPHS, SOURCE, convert
from kgr1.datasets.published.format import Reading
from kgr1.datasets.published.hub import sha256
from kgr1.datasets.published.load import load_published
from kgr1.datasets.published.registry import card
from kgr1.errors import DatasetError
from kgr1.graph import GraphStore
from kgr1.graph.build import build_graph
from kgr1.types import Operation, Query


def test_rows_with_graphs_become_questions_and_a_store(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "webqsp-cwq" / "rog-format-sample.jsonl.gz"
    converted = convert(card("webqsp"), source, tmp_path / "out")
    assert (converted.questions, converted.graphs, converted.empty_graphs) == (500, 500, 0)
    assert load_questions(tmp_path / "out") == load_published(card("webqsp"), source)
    report = build_graph([tmp_path / "out" / GRAPHS], tmp_path / "graph.kg")
    same = build_graph([source], tmp_path / "same.kg")
    assert (report.question_graphs, report.triples) == (500, same.triples)
    questions = load_questions(tmp_path / "out")[::25]
    with GraphStore.open(tmp_path / "graph.kg") as graph:
        result = audit_questions(questions, graph)
    assert result.missing_topics.names == 0
    assert result.no_answer_in_graph == 0
    assert result.reach[0].reach[3].some == 1.0
    assert json.loads((tmp_path / "out" / SOURCE).read_text())["files"] == [
        {"path": source.name, "bytes": source.stat().st_size, "sha256": sha256(source)}
    ]


def test_the_same_source_gives_the_same_bytes(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "raw-questions" / "qald_10-en.json.gz"
    for name in ("one", "two"):
        convert(card("qald10"), source, tmp_path / name)
    assert (tmp_path / "one" / "questions.jsonl").read_bytes() == (tmp_path / "two" / "questions.jsonl").read_bytes()
    assert load_questions(tmp_path / "one", split="test") == load_published(card("qald10"), source)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cwq", "cwq_test.json.gz"),
        ("grailqa", "grailqa.json.gz"),
        ("qald10", "qald_10.official.json.gz"),
        ("zero-shot-re", "zero_shot_re.json.gz"),
        ("simplequestions-wikidata", "simplequestions_wd_valid_answerable.txt.gz"),
    ],
)
def test_what_is_written_reads_back_equal(shared_data: Path, tmp_path: Path, name: str, file: str) -> None:
    source = shared_data / "raw-questions" / file
    converted = convert(card(name), source, tmp_path)
    assert load_questions(tmp_path) == load_published(card(name), source)
    assert converted.graph is None


def test_tables_of_films_paths_and_events(tmp_path: Path) -> None:
    """Made to the descriptions of kb.txt, 2H-kb.txt and full.txt."""
    films = tmp_path / "films"
    (films / "1-hop" / "vanilla").mkdir(parents=True)
    (films / "1-hop" / "vanilla" / "qa_test.txt").write_text("who directed [Kismet]\tWilliam Dieterle\n")
    (films / "kb.txt").write_text("Kismet|directed_by|William Dieterle\nKismet|release_year|1944\nbroken line\n")
    converted = convert(card("metaqa"), films, tmp_path / "metaqa")
    assert (converted.facts, converted.skipped_lines, converted.graph) == (2, 1, "kg.tsv.gz")
    paths = tmp_path / "paths"
    paths.mkdir()
    (paths / "PQL-2H.txt").write_text(" what ?\tc(c/)\ta#__x__y__r#b#__x__y__s#c\n")
    (paths / "PQL2-KB.txt").write_text("a\t\t__x__y__r\tb\nb\t__x__y__s\tc\n")
    convert(card("pathquestion"), paths, tmp_path / "pathquestion")
    with gzip.open(tmp_path / "pathquestion" / "kg.tsv.gz", "rt") as stream:
        assert stream.read() == "a\tx.y.r\tb\nb\tx.y.s\tc\n"
    (question,) = load_questions(tmp_path / "pathquestion")
    assert question.gold_path == ("x.y.r", "x.y.s")
    events = tmp_path / "events" / "kg"
    events.mkdir(parents=True)
    (events / "full.txt").write_text("Barack_Obama\tMake_a_visit\tIraq\t2009-04-07\n")
    row = {"quid": 1, "question": "When?", "answers": ["2009-04"], "answer_type": "time", "time_level": "month"}
    (events.parent / "questions").mkdir()
    (events.parent / "questions" / "test.json").write_text(json.dumps([row | {"qtype": "equal"}]))
    convert(card("multitq"), events.parent, tmp_path / "multitq")
    build_graph([tmp_path / "multitq" / "tkg.tsv.gz"], tmp_path / "events.kg")
    with GraphStore.open(tmp_path / "events.kg") as graph:
        assert graph.info().dated == 1
        query = Query(operation=Operation.GET_TAIL_ENTITIES, entity="Barack Obama", relation="Make a visit")
        assert graph.execute([query])[0].times == (("2009-04-07",),)


def test_numbered_graphs_with_names(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "entities.txt").write_text("m.0a\nm.0b\n")
    (source / "relations.txt").write_text("people.person.parents\n")
    row = {"id": "q", "question": "?", "entities": [0], "answers": [{"kb_id": "m.0b", "text": "Ben"}]}
    (source / "test_simple.json").write_text(json.dumps(row | {"subgraph": {"tuples": [[0, 0, 1]]}}) + "\n")
    names = {"m.0a": "Ada", "m.0b": "Ben"}
    convert(card("webqsp"), source, tmp_path / "out", Reading(names=names))
    build_graph([tmp_path / "out" / GRAPHS], tmp_path / "g.kg", names=tmp_path / "out" / "names.tsv")
    (question,) = load_questions(tmp_path / "out", split="test")
    assert question.topics == ("Ada",)
    with GraphStore.open(tmp_path / "g.kg") as graph:
        query = Query(
            operation=Operation.GET_TAIL_ENTITIES, entity="Ada", relation="people.person.parents", graph_id="q"
        )
        (found,) = graph.execute([query])
    assert (found.names, found.ids) == (("Ben",), (question.answers[0].id,))


def test_a_folder_with_questions_is_not_overwritten(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "raw-questions" / "qald_10-en.json.gz"
    convert(card("qald10"), source, tmp_path)
    with pytest.raises(DatasetError, match="already; choose another folder or replace it with --force"):
        convert(card("qald10"), source, tmp_path)
    assert convert(card("qald10"), source, tmp_path, force=True).questions == 333


def test_damage_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    row = {"id": "a", "question": "q?", "answer": ["y"], "q_entity": ["x"], "graph": [["x", "r", "y"]]}
    source = tmp_path / "rows.jsonl"
    source.write_text(json.dumps(row) + "\n" + json.dumps(row | {"id": "b"})[:-5])
    with pytest.raises(DatasetError, match="line 2: not JSON, or cut off"):
        convert(card("webqsp"), source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_empty_graph_is_counted(tmp_path: Path) -> None:
    row = {"id": "a", "question": "q?", "answer": [], "q_entity": ["m.0x"], "graph": []}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    converted = convert(card("webqsp"), tmp_path / "rows.jsonl", tmp_path / "out")
    assert (converted.empty_graphs, converted.without_answers, converted.graph) == (1, 1, None)


def test_the_graph_of_an_earlier_conversion_goes(tmp_path: Path) -> None:
    row = {"id": "a", "question": "q?", "answer": ["y"], "q_entity": ["x"], "graph": [["x", "r", "y"]]}
    source = tmp_path / "rows.jsonl"
    source.write_text(json.dumps(row))
    convert(card("webqsp"), source, tmp_path / "out")
    assert (tmp_path / "out" / GRAPHS).exists()
    convert(card("webqsp"), source, tmp_path / "out", with_graph=False, force=True)
    assert (tmp_path / "out" / GRAPHS).exists()
    source.write_text(json.dumps(row | {"graph": []}))
    convert(card("webqsp"), source, tmp_path / "out", force=True)
    assert not (tmp_path / "out" / GRAPHS).exists()
