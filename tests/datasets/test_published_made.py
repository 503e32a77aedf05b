"""Formats of which no published file is at hand, on small files written exactly to the published descriptions.

The text formats of MetaQA and PathQuestion are also written from the questions of the plain sets, which were made from
the published files: reading them back must give the same topics, answers and paths.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kgr1.datasets.plain import load_questions
from kgr1.datasets.published.format import Item, Reading
from kgr1.datasets.published.load import load_published, read_published
from kgr1.datasets.published.registry import card
from kgr1.types import GoldAnswer, Question


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), "utf-8")
    return path


def lines(rows: Sequence[Any]) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def parse(answers: list[dict[str, Any]], chain: list[str] | None, constraints: list[Any] | None = None) -> Any:
    return {
        "Sparql": "SELECT ...",
        "TopicEntityName": "Jamaica",
        "TopicEntityMid": "m.03_r3",
        "InferentialChain": chain,
        "Constraints": constraints or [],
        "Answers": answers,
    }


PATOIS = {"AnswerType": "Entity", "AnswerArgument": "m.01428y", "EntityName": "Jamaican English"}
CREOLE = {"AnswerType": "Entity", "AnswerArgument": "m.04ygk0", "EntityName": "Jamaican Creole"}
YEAR = {"AnswerType": "Value", "AnswerArgument": "1962-08-06", "EntityName": None}


def test_parses_of_web_questions(tmp_path: Path) -> None:
    """Made to the description of WebQSP.test.json."""
    chain = ["location.country.languages_spoken"]
    rows = [
        {
            "QuestionId": "WebQTest-0",
            "RawQuestion": "what does jamaican people speak?",
            "ProcessedQuestion": "what does jamaican people speak",
            "Parses": [parse([PATOIS], chain), parse([PATOIS, CREOLE], chain)],
        },
        {
            "QuestionId": "WebQTest-1",
            "RawQuestion": "when?",
            "ProcessedQuestion": "when",
            "Parses": [parse([YEAR], None), parse([], ["a.b.c", "c.d.e"], [{"Operator": "Equal"}])],
        },
    ]
    write(tmp_path / "WebQSP.test.json", {"Version": "1.0", "FreebaseVersion": "2015", "Questions": rows})
    one, two = load_published(card("webqsp"), tmp_path)
    assert one == Question(
        id="WebQTest-0",
        text="what does jamaican people speak?",
        topics=("Jamaica",),
        answers=(
            GoldAnswer(label="Jamaican English", id="m.01428y"),
            GoldAnswer(label="Jamaican Creole", id="m.04ygk0"),
        ),
        dataset="webqsp",
        split="test",
        hops=1,
        gold_path=("location.country.languages_spoken",),
        parses=((0,), (0, 1)),
    )
    assert two.parses == ((0,), ())
    assert (two.answers[0].label, two.answers[0].id, two.hops, two.gold_path) == ("1962-08-06", None, 2, ())
    assert "6 August 1962" in two.answers[0].aliases
    by_id = load_published(card("webqsp"), tmp_path, Reading(topics="id"))
    assert by_id[0].topics == ("m.03_r3",)


def test_numbered_graphs(tmp_path: Path) -> None:
    """Made to the description of the NSM files: numbers, with entities.txt and relations.txt beside them."""
    write(tmp_path / "entities.txt", "m.0a\nm.0b\nm.0c\n1972\n")
    write(tmp_path / "relations.txt", "r.one\nr.two\n")
    graph = {"tuples": [[0, 0, 1], [1, 1, 3]], "entities": [0, 1, 3]}
    rows = [
        {"id": "Q-0", "entities": [0], "answers": [{"kb_id": "m.0b", "text": "Ben"}]},
        {"id": "Q-1", "entities": [2], "answers": [{"kb_id": 3, "text": "1972"}, {"kb_id": "m.0z", "text": None}]},
    ]
    write(tmp_path / "dev_simple.json", lines([row | {"question": "who ?", "subgraph": graph} for row in rows]))
    one, two = read_published(card("cwq"), tmp_path, Reading(names={"m.0a": "Ada"}))
    assert one == Item(
        Question(
            id="Q-0", text="who ?", topics=("Ada",), answers=(GoldAnswer(label="Ben", id="m.0b"),), dataset="cwq",
            split="dev", graph_id="Q-0",
        ),
        [("m.0a", "r.one", "m.0b"), ("m.0b", "r.two", "1972")],
    )  # fmt: skip
    assert two.question.topics == ("m.0c",)
    # What is no node of its graph has no id, and can still be scored by its name.
    assert two.question.answers == (GoldAnswer(label="1972", id="1972"), GoldAnswer(label="m.0z"))


def test_official_complex_web_questions(tmp_path: Path) -> None:
    """Made to the description of ComplexWebQuestions_dev.json."""
    answers = [
        {"answer": "Belmont University", "answer_id": "m.01wv24", "aliases": ["Belmont"]},
        {"answer": "1890", "answer_id": "1890", "aliases": []},
    ]
    row = {
        "ID": "WebQTrn-1_abc",
        "question": "Where?",
        "machine_question": "where",
        "webqsp_ID": "WebQTrn-1",
        "webqsp_question": "where",
        "sparql": "SELECT ?x WHERE { ?c ns:music.artist.concert_tours ns:m.010qhfmm . ns:m.010qhfmm ns:a.b ?x .\n"
        "?x ns:common.topic.notable_types ns:m.01y2hnl . }",
        "compositionality_type": "conjunction",
        "created": "2018-02-12T21:58:58",
        "composition_answer": "x",
        "answers": answers,
    }
    write(tmp_path / "ComplexWebQuestions_dev.json", [row])
    (question,) = load_published(card("cwq"), tmp_path)
    assert (question.topics, question.kind, question.split) == (("m.010qhfmm",), "conjunction", "dev")
    assert question.answers == (
        GoldAnswer(label="Belmont University", id="m.01wv24", aliases=("Belmont",)),
        GoldAnswer(label="1890"),
    )


def test_official_kilt_files(tmp_path: Path) -> None:
    """Made to the description of trex-dev-kilt.jsonl; the test file has no answers."""
    meta = {"template_questions": [], "subj_aliases": [], "obj_surface": ["Rome, Italy"], "left_context": ""}
    rows = [
        {
            "id": "a1",
            "input": "Ada [SEP] place of birth",
            "output": [
                {"answer": "Rome", "meta": {"score": 1}},
                {"answer": "Roma"},
                {"provenance": [{"title": "Ada"}]},
            ],
            "meta": meta,
        },
        {"id": "a2", "input": "Ben [SEP] born", "output": [{"answer": "1977-01-01"}], "meta": None},
    ]
    write(tmp_path / "trex-dev-kilt.jsonl", lines(rows))
    write(
        tmp_path / "trex-test_without_answers-kilt.jsonl",
        lines([{"id": "t1", "input": "Cleo [SEP] spouse", "output": []}]),
    )
    one, two, three = load_published(card("trex"), tmp_path)
    assert one.answers == (GoldAnswer(label="Rome", aliases=("Roma", "Rome, Italy")),)
    assert (one.topics, one.split, one.hops) == (("Ada",), "dev", 1)
    assert two.answers[0].aliases == ("1 January 1977", "January 1, 1977", "1977")
    assert (three.split, three.answers) == ("test", ())


def test_official_web_questions(tmp_path: Path) -> None:
    """Made to the description of webquestions.examples.train.json."""
    row = {
        "url": "http://www.freebase.com/view/en/justin_bieber",
        "utterance": 'who is his "brother"?',
        "targetValue": '(list (description "Jazmyn \\"J\\" Bieber") (description Jaxon))',
    }
    write(tmp_path / "webquestions.examples.train.json", [row])
    (question,) = load_published(card("webquestions"), tmp_path)
    assert [answer.label for answer in question.answers] == ['Jazmyn "J" Bieber', "Jaxon"]
    assert (question.topics, question.split) == (("justin bieber",), "train")


def test_time_questions(tmp_path: Path) -> None:
    """Made to the description of TimeQuestions; the field of the type has two names in its releases."""
    row = {
        "Id": 2603,
        "Question": "who is the monarch before elizabeth ii?",
        "Temporal signal": ["BEFORE"],
        "Type": ["Implicit"],
        "Answer": [{"AnswerType": "Entity", "WikidataQid": "Q280856", "WikidataLabel": "George VI"}],
        "Data source": "ComQA",
        "Question creation date": "2019-06-03",
    }
    later = {key: value for key, value in row.items() if key != "Type"} | {
        "Id": 2604,
        "Temporal question type": ["Temp.Ans", "Explicit"],
        "Answer": [{"AnswerType": "Value", "AnswerArgument": "1994-03-01T00:00:00Z"}],
    }
    write(tmp_path / "train.json", [row, later])
    one, two = load_published(card("timequestions"), tmp_path)
    assert (one.id, one.kind, one.answers) == ("2603", "Implicit", (GoldAnswer(label="George VI", id="Q280856"),))
    assert (two.kind, two.answers[0].label) == ("Temp.Ans, Explicit", "1994-03-01")


def test_dated_events(shared_data: Path, tmp_path: Path) -> None:
    """MultiTQ: the fields of the official file stand in the plain sample, which is written back without the others."""
    fields = ("quid", "question", "answers", "answer_type", "time_level", "qtype", "qlabel")
    with gzip.open(shared_data / "multitq-sample" / "questions.jsonl.gz", "rt", encoding="utf-8") as stream:
        rows = [{key: row[key] for key in fields} for row in map(json.loads, stream)]
    write(tmp_path / "test.json", rows)
    questions = load_published(card("multitq"), tmp_path)
    assert len(questions) == 300
    assert {question.split for question in questions} == {"test"}
    times = [(q, row) for q, row in zip(questions, rows, strict=True) if row["answer_type"] == "time"]
    assert len(times) == 300 - sum(row["answer_type"] == "entity" for row in rows) > 0
    for question, row in times:
        assert question.kind == f"{row['qtype']}: {row['time_level']}"
        assert [answer.label for answer in question.answers] == row["answers"]
        assert {answer.id for answer in question.answers} == {None}
    entities = [question for question in questions if ":" not in question.kind]
    assert all(answer.id == answer.label for question in entities for answer in question.answers)
    assert not any(question.topics for question in questions)


def test_films_are_what_the_plain_set_was_made_from(shared_data: Path, tmp_path: Path) -> None:
    """MetaQA: written in the official layout, with brackets around topics and types in files of their own."""
    plain = [q for q in load_questions(shared_data / "metaqa") if q.text.count(q.topics[0]) == 1][::40]
    assert {question.hops for question in plain} == {1, 2, 3}
    for hops in (1, 2, 3):
        part = [question for question in plain if question.hops == hops]
        texts = [
            f"{q.text.replace(q.topics[0], f'[{q.topics[0]}]')}\t{'|'.join(a.label for a in q.answers)}" for q in part
        ]
        write(tmp_path / f"{hops}-hop" / "vanilla" / "qa_dev.txt", lines(texts))
        write(tmp_path / f"{hops}-hop" / "ntm" / "qa_dev.txt", "not read\n")
        write(tmp_path / f"{hops}-hop" / "qa_dev_qtype.txt", lines([question.kind for question in part]))
    questions = load_published(card("metaqa"), tmp_path)
    ordered = sorted(plain, key=lambda question: question.hops or 0)

    def seen(question: Question) -> tuple[Any, ...]:
        return (question.text, question.topics, question.answers, question.hops, question.kind, question.gold_path)

    assert list(map(seen, questions)) == list(map(seen, ordered))
    assert questions[0].id == "metaqa-1h-dev-1"
    assert {question.split for question in questions} == {"dev"}


def test_paths_are_what_the_plain_set_was_made_from(shared_data: Path, tmp_path: Path) -> None:
    """PathQuestion: written in the official notation, the large part with a line for every answer."""
    with_nodes: dict[str, list[str]] = {}
    with gzip.open(shared_data / "pathquestion" / "questions.jsonl.gz", "rt", encoding="utf-8") as stream:
        for row in map(json.loads, stream):
            nodes, path = row["gold_entities"], row["gold_path"]
            large = row["subset"].startswith("pql")
            if large:
                path = [f"__{relation.replace('.', '__')}" for relation in path]
            for answer in row["answers"] if large else [nodes[-1]]:
                nodes[-1] = answer
                walk = "#".join(part for pair in zip(nodes, [*path, ""], strict=True) for part in pair)[:-1]
                end = "" if large else f"#<end>#{answer}"
                listed = "".join(f"{each}/" for each in row["answers"])
                text = f" {row['question']}" if large else row["question"]
                with_nodes.setdefault(row["subset"], []).append(f"{text}\t{answer}({listed})\t{walk}{end}")
    for subset, texts in with_nodes.items():
        write(tmp_path / f"{subset.upper()}.txt", lines(texts))
    found = load_published(card("pathquestion"), tmp_path)
    assert Counter(question.dataset for question in found) == {"pq-2h": 1908, "pq-3h": 5197, "pql-2h": 1168}
    plain = {(q.dataset, q.text.strip(), q.topics): q for q in load_questions(shared_data / "pathquestion")}
    for question in found:
        same = plain[question.dataset, question.text, question.topics]
        assert {a.label for a in question.answers} == {a.label for a in same.answers}
        assert (question.gold_path, question.hops, question.split) == (same.gold_path, same.hops, "")


@pytest.mark.parametrize("name", ["grailqa"])
def test_questions_without_answers(tmp_path: Path, name: str) -> None:
    """The public test file of GrailQA has nothing but ids and questions."""
    write(tmp_path / "grailqa_v1.0_test_public.json", [{"qid": 7, "question": "which?"}])
    (question,) = load_published(card(name), tmp_path)
    assert (question.id, question.topics, question.answers, question.split) == ("7", (), (), "test")
