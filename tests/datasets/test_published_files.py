"""The published question files, each read in its own format: counts, splits, and a question checked by eye."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from kgr1.datasets.published.cwq import sparql_topics
from kgr1.datasets.published.format import Reading
from kgr1.datasets.published.load import find_files, load_published, read_published
from kgr1.datasets.published.registry import card
from kgr1.datasets.published.rows import read_rows
from kgr1.types import GoldAnswer, Question


@pytest.fixture(scope="module")
def raw(shared_data: Path) -> Path:
    return shared_data / "raw-questions"


@pytest.mark.parametrize(
    ("name", "file", "count", "split", "no_topics", "no_answers"),
    [
        ("cwq", "cwq_test.json.gz", 3531, "test", 11, 0),
        ("grailqa", "grailqa.json.gz", 362, "dev", 12, 0),
        ("simplequestions", "simpleqa.json.gz", 1000, "", 0, 0),
        ("simplequestions", "simplequestions_fb_valid.txt.gz", 10845, "dev", 0, 0),
        # One more than line breaks: the last line has none.
        ("simplequestions-wikidata", "simplequestions_wd_valid.txt.gz", 4867, "dev", 0, 0),
        ("simplequestions-wikidata", "simplequestions_wd_valid_answerable.txt.gz", 2821, "dev", 0, 0),
        ("qald10", "qald_10.official.json.gz", 394, "test", 0, 1),
        ("qald10", "qald_10-en.json.gz", 333, "test", 0, 1),
        ("trex", "trex.json.gz", 5000, "dev", 0, 0),
        ("zero-shot-re", "zero_shot_re.json.gz", 3724, "dev", 0, 0),
        ("webquestions", "webquestions.json.gz", 2032, "test", 0, 0),
    ],
)
def test_every_published_file_is_read_whole(
    raw: Path, name: str, file: str, count: int, split: str, no_topics: int, no_answers: int
) -> None:
    questions = load_published(card(name), raw / file)
    assert len(questions) == count == len({question.id for question in questions})
    assert {(question.dataset, question.split) for question in questions} == {(name, split)}
    assert sum(not question.topics for question in questions) == no_topics
    assert sum(not question.answers for question in questions) == no_answers
    stated = [each.splits.get(split or "all") for each in card(name).counts]
    if file not in ("grailqa.json.gz",):  # a part of that list only
        assert count in stated


def first(raw: Path, name: str, file: str, reading: Reading | None = None) -> Question:
    return next(read_published(card(name), raw / file, reading)).question


def test_what_a_question_becomes(raw: Path) -> None:
    assert first(raw, "simplequestions", "simplequestions_fb_valid.txt.gz") == Question(
        id="simplequestions-dev-1",
        text="Who was the trump ocean club international hotel and tower named after",
        topics=("m.0f3xg_",),
        answers=(GoldAnswer(label="m.0cqt90", id="m.0cqt90"),),
        dataset="simplequestions",
        split="dev",
        hops=1,
        gold_path=("symbols.namesake.named_after",),
    )
    grail = first(raw, "grailqa", "grailqa.json.gz")
    assert (grail.id, grail.topics, grail.kind) == ("2101960008000", ("The Illusion",), "i.i.d.")
    assert grail.answers == (GoldAnswer(label="The Illusion", id="m.0yrltsn"),)
    assert first(raw, "grailqa", "grailqa.json.gz", Reading(topics="id")).topics == ("m.0yrlqjm",)
    slot = first(raw, "trex", "trex.json.gz")
    assert (slot.text, slot.topics, slot.gold_path) == ("Cirith Ungol [SEP] genre", ("Cirith Ungol",), ("genre",))
    web = first(raw, "webquestions", "webquestions.json.gz")
    assert [answer.label for answer in web.answers] == ["Jamaican Creole English Language", "Jamaican English"]
    composed = first(raw, "cwq", "cwq_test.json.gz")
    assert (composed.topics, composed.kind) == (("Lou Seal",), "composition")
    assert composed.answers == (GoldAnswer(label="2014 World Series"),)


def test_names_of_identifiers_come_from_elsewhere(raw: Path) -> None:
    names = {"m.0f3xg_": "Trump Hotel", "m.0cqt90": "Donald Trump", "m.1": "Donald Trump"}
    question = first(raw, "simplequestions", "simplequestions_fb_valid.txt.gz", Reading(names=names))
    assert question.topics == ("Trump Hotel",)
    # As a graph shows a name that two entities share; the answer is scored by name and by id.
    assert Reading(names=names).topic("m.1") == "Donald Trump [m.1]"
    assert question.answers == (GoldAnswer(label="Donald Trump", id="m.0cqt90"),)


def test_backward_properties_of_wikidata(raw: Path) -> None:
    questions = load_published(card("simplequestions-wikidata"), raw / "simplequestions_wd_valid.txt.gz")
    film = next(q for q in questions if q.text == "What is a film directed by wiebke von carolsfeld?")
    assert (film.topics, film.gold_path, film.answers[0].id) == (("Q2568216",), ("^P57",), "Q14949730")
    assert sum(q.gold_path[0].startswith("^") for q in questions) > 500


def test_dates_numbers_and_truth_values_of_qald(raw: Path) -> None:
    official = load_published(card("qald10"), raw / "qald_10.official.json.gz")
    answers = [answer for question in official for answer in question.answers]
    truths = [answer for answer in answers if answer.label in ("true", "false") and answer.aliases]
    assert len(truths) == 61
    assert {answer.aliases for answer in truths} == {("yes",), ("no",)}
    assert GoldAnswer(label="100", aliases=("+100",)) in answers
    days = [answer for answer in answers if answer.id is None and len(answer.label) == 10 and answer.label[4] == "-"]
    assert len(days) >= 30
    assert all(len(answer.aliases) >= 2 for answer in days)
    assert Counter(question.kind for question in official) == {"": 292, "aggregation": 102}


def test_topics_read_off_queries_are_those_that_others_list(raw: Path) -> None:
    """The official files name no topics; the lists of the ToG project do, for the same questions."""
    listed = {q.text: q.topics for q in load_published(card("qald10"), raw / "qald_10-en.json.gz", Reading("id"))}
    official = load_published(card("qald10"), raw / "qald_10.official.json.gz")
    agree = [set(q.topics) == set(listed[q.text]) for q in official if q.text in listed]
    assert len(agree) == 333 == sum(agree)
    rows = list(read_rows(raw / "cwq_test.json.gz"))
    same = sum(set(sparql_topics(row.text("sparql"))) == set(row.names("topic_entity")) for row in rows)
    assert same >= 0.98 * len(rows)
    grail = list(read_rows(raw / "grailqa.json.gz"))
    for row in grail:
        row.fields = {key: value for key, value in row.fields.items() if key != "topic_entity"}
    parts = card("grailqa").formats[0]
    assert parts.fits(raw, grail[0])
    from kgr1.datasets.published import grailqa

    with_topics = load_published(card("grailqa"), raw / "grailqa.json.gz", Reading("id"))
    derived = [tuple(dict.fromkeys(grailqa._topics(row, Reading("id")))) for row in grail]
    assert [set(topics) for topics in derived] == [set(question.topics) for question in with_topics]


def test_alternatives_are_names_of_one_answer(raw: Path) -> None:
    questions = load_published(card("trex"), raw / "trex.json.gz")
    assert {len(question.answers) for question in questions} == {1}
    idaho = next(q for q in questions if q.text.startswith("Clearwater Mountains [SEP] located in"))
    assert idaho.answers == (GoldAnswer(label="Idaho", aliases=("Idaho County",)),)
    opened = next(
        q
        for q in load_published(card("zero-shot-re"), raw / "zero_shot_re.json.gz")
        if q.text == "Alexandria Museum of Art [SEP] date of official opening"
    )
    assert opened.answers[0].label == "1977"
    assert "1 January 1977" in opened.answers[0].aliases


def test_rows_with_a_graph(shared_data: Path) -> None:
    source = shared_data / "webqsp-cwq" / "rog-format-sample.jsonl.gz"
    items = list(read_published(card("webqsp"), source))
    assert len(items) == 500
    for item in items:
        assert item.graph
        assert item.question.graph_id == item.question.id
        nodes = {name for head, _, tail in item.graph for name in (head, tail)}
        assert {answer.id for answer in item.question.answers} <= nodes
    assert items[0].question.topics == ("John Steinbeck",)
    assert len(items[0].question.answers) == 4


def test_the_same_rows_as_parquet(shared_data: Path, tmp_path: Path) -> None:
    """The published files are Parquet; here the sample of their rows is written so, in two splits."""
    source = shared_data / "webqsp-cwq" / "rog-format-sample.jsonl.gz"
    rows = [dict(row.fields) for row in read_rows(source)][:240]
    for split, part in (("train", rows[:230]), ("validation", rows[230:])):
        frame = pl.DataFrame(part, schema_overrides={"choices": pl.List(pl.Null)})
        frame.write_parquet(tmp_path / f"{split}-00000-of-00001-abc.parquet")
    wanted = [item._replace(question=item.question) for item in read_published(card("cwq"), source)][:240]
    found = list(read_published(card("cwq"), tmp_path))
    assert [item.question.split for item in found] == ["train"] * 230 + ["dev"] * 10
    assert [item.graph for item in found] == [item.graph for item in wanted]
    assert [item.question.answers for item in found] == [item.question.answers for item in wanted]
    only = list(read_published(card("cwq"), tmp_path, split="dev"))
    assert [item.question.id for item in only] == [item.question.id for item in found[230:]]


def test_a_file_is_told_from_its_content_not_its_name(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "anything.jsonl").write_text(
        "\n".join(json.dumps(dict(row.fields)) for row in list(read_rows(raw / "grailqa.json.gz"))[:3])
    )
    ((file, kind),) = find_files(card("grailqa"), tmp_path / "anything.jsonl")
    assert (file.split, kind.name) == ("", "official JSON")
    assert len(load_published(card("grailqa"), tmp_path / "anything.jsonl")) == 3
