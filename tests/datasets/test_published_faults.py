"""Bad input of published sets: one sentence each, with the place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from kgr1.datasets.published.load import load_published, read_published
from kgr1.datasets.published.registry import CARDS, card
from kgr1.errors import DatasetError

GRAIL = {"qid": 1, "question": "which?", "answer": [{"answer_type": "Entity", "answer_argument": "m.1"}]}
ROG = {"id": "a", "question": "q?", "answer": ["y"], "q_entity": ["x"], "a_entity": ["y"], "graph": [["x", "r", "y"]]}
EVENT = {"quid": 1, "question": "q?", "answers": ["y"], "answer_type": "entity"}


def refused(name: str, path: Path, **options: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        list(read_published(card(name), path, **options))
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def test_an_unknown_set() -> None:
    with pytest.raises(DatasetError, match="did you mean webqsp"):
        card("webqps")
    with pytest.raises(DatasetError, match="there are webqsp, cwq"):
        card("zzz")
    assert card(" WebQSP ").name == "webqsp"


def test_names_of_sets_are_unique_and_cards_are_filled_in() -> None:
    assert len({each.name for each in CARDS}) == len(CARDS) == 13
    for each in CARDS:
        assert each.formats
        assert each.questions > 0
        assert all((each.what, each.graph, each.licence, each.citations))
        assert each.homepage.startswith("https://")
        assert not each.what.endswith(".")


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    assert "There is no file or folder at" in refused("webqsp", tmp_path / "nowhere")


def test_a_folder_without_its_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    message = refused("multitq", tmp_path)
    assert "holds no file of multitq, such as train.json, dev.json, test.json" in message


def test_the_wrong_format_says_which_set_it_looks_like(tmp_path: Path) -> None:
    path = tmp_path / "test.json"
    path.write_text(json.dumps([EVENT]))
    message = refused("grailqa", path)
    assert "is not in a format of grailqa: it has rows of quid, question, answers, answer_type" in message
    assert message.endswith("it looks like multitq.")
    path.write_text(json.dumps([{"foo": 1}]))
    assert "expected is {train,dev,test}.json" in refused("multitq", path)
    lines = tmp_path / "lines.txt"
    lines.write_text("Q1\tP1\tQ2\twho?\n")
    assert refused("simplequestions", lines).endswith("it looks like simplequestions-wikidata.")


def test_an_empty_file(tmp_path: Path) -> None:
    for name in ("test.json", "empty.txt"):
        (tmp_path / name).write_text("")
        assert "test.json" in (message := refused("multitq", tmp_path / name)) or "empty.txt is empty" in message
    (tmp_path / "test.json").write_text("[]")
    assert "test.json is empty" in refused("multitq", tmp_path / "test.json")


def test_json_that_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "test.json"
    whole = json.dumps([EVENT | {"quid": number} for number in range(50)], indent=1)
    path.write_text(whole[: len(whole) // 2])
    assert "test.json: not JSON, or cut off" in refused("multitq", path)
    path = tmp_path / "rows.jsonl"
    lines = "".join(json.dumps(ROG | {"id": str(number)}) + "\n" for number in range(9))
    path.write_text(lines[:-20])
    assert "rows.jsonl, line 9: not JSON, or cut off" in refused("webqsp", path)


def test_compressed_files_that_are_cut_off(tmp_path: Path) -> None:
    lines = "".join(json.dumps(ROG | {"id": str(number)}) + "\n" for number in range(2000)).encode()
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(lines)[:-30])
    assert "the gzip file is truncated or damaged after this line" in refused("webqsp", path)


def test_parquet_that_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "train-0.parquet"
    pl.DataFrame([ROG | {"id": str(number)} for number in range(50)]).write_parquet(path)
    assert len(load_published(card("webqsp"), path)) == 50
    path.write_bytes(path.read_bytes()[:-40])
    assert "train-0.parquet: not a whole Parquet file" in refused("webqsp", path)


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("webqsp", ROG | {"graph": [["x", "r"]]}, "item 1 of 'graph' is not [head, relation, tail]"),
        ("webqsp", ROG | {"graph": "x"}, "'graph' must be a list of [head, relation, tail]"),
        ("webqsp", ROG | {"answer": "y"}, "'answer' must be a list of texts"),
        ("webqsp", ROG | {"question": " "}, "'question' is empty"),
        ("webqsp", ROG | {"question": "half \ud800"}, "half a character"),
        ("webqsp", ROG | {"id": None}, "'id' must be text"),
        ("grailqa", GRAIL | {"answer": ["m.1"]}, "'answer' must be a list of objects"),
        ("grailqa", GRAIL | {"answer": [{"answer_type": "Entity"}]}, "'answer_argument' is missing"),
        ("multitq", EVENT | {"answer_type": None}, "'answer_type' must be text"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, name: str, row: dict[str, Any], reason: str) -> None:
    path = tmp_path / "test.json"
    good = {"webqsp": ROG, "grailqa": GRAIL, "multitq": EVENT}[name]
    path.write_text(json.dumps([good, row]))
    message = refused(name, path)
    assert "test.json, row 2: " in message
    assert reason in message


@pytest.mark.parametrize(
    ("name", "lines", "reason"),
    [
        ("simplequestions-wikidata", "Q1\tP1\tQ2\twho?\nQ1\tP1\tQ2\n", "line 2: item, property, item"),
        ("metaqa", "who made [X]\tY\nwho made X\tY\n", "line 2: a question with its topic in [brackets]"),
        ("pathquestion", "q ?\ty(y/)\tx#r#y\nq ?\ty\tx#r#y\n", "line 2: a question, answer(answers/)"),
    ],
)
def test_a_malformed_line_of_text_is_named(tmp_path: Path, name: str, lines: str, reason: str) -> None:
    (tmp_path / "qa.txt").write_text(lines)
    assert f"qa.txt, {reason}" in refused(name, tmp_path / "qa.txt")


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "qa.txt").write_bytes(b"who made [X]\tY\nwho \xff [X]\tY\n")
    assert "qa.txt, line 2: not UTF-8" in refused("metaqa", tmp_path / "qa.txt")


def test_types_that_do_not_belong_to_the_questions(tmp_path: Path) -> None:
    folder = tmp_path / "1-hop" / "vanilla"
    folder.mkdir(parents=True)
    (folder / "qa_dev.txt").write_text("who made [X]\tY\nwho made [Z]\tY\n")
    (tmp_path / "1-hop" / "qa_dev_qtype.txt").write_text("movie_to_director\n")
    assert "qa_dev_qtype.txt has fewer lines than qa_dev.txt" in refused("metaqa", tmp_path)


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    for split in ("train", "dev"):
        (tmp_path / f"{split}.json").write_text(json.dumps([EVENT]))
    assert refused("multitq", tmp_path, split="test").endswith("has no split 'test'; it has dev, train.")
    assert len(list(read_published(card("multitq"), tmp_path, split="dev"))) == 1
    (tmp_path / "x.jsonl").write_text(json.dumps(ROG))
    assert "its files name no split" in refused("webqsp", tmp_path / "x.jsonl", split="test")


def test_the_same_questions_twice(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(json.dumps(ROG))
    assert "The id 'a' stands twice" in refused("webqsp", tmp_path)


def test_numbers_without_what_they_stand_for(tmp_path: Path) -> None:
    row = {"id": "q", "question": "?", "entities": [9], "answers": [], "subgraph": {"tuples": [[0, 0, 1]]}}
    (tmp_path / "dev_simple.json").write_text(json.dumps(row) + "\n")
    assert "entities.txt, which says what they stand for, is not in its folder" in refused("cwq", tmp_path)
    (tmp_path / "entities.txt").write_text("m.0a\nm.0b\n")
    (tmp_path / "relations.txt").write_text("r\n")
    assert "9, which is no line of entities.txt" in refused("cwq", tmp_path)
    row["subgraph"] = {"tuples": [[0, 0, 7]]}
    (tmp_path / "dev_simple.json").write_text(json.dumps(row) + "\n")
    assert "number 7 is beyond the 2 lines of entities.txt" in refused("cwq", tmp_path)
