from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from kgr1.datasets.plain import load_questions, write_questions
from kgr1.errors import DatasetError
from kgr1.types import GoldAnswer, Question

ROW = {"id": "a", "question": "Who?", "topic_entities": ["X"], "answers": ["Y"]}


def write_lines(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return path


def test_every_documented_field_arrives(tmp_path: Path) -> None:
    row = ROW | {
        "answers": ["Y", "Z", "Y"],
        "answers_in_kg": ["Y"],
        "qtype": "a_to_b",
        "gold_path": ["^r", "s"],
        "hops": 2,
        "split": "dev",
        "subset": "tiny",
        "graph_id": "g1",
        "nobody_knows": {"this": 1},
    }
    (question,) = load_questions(write_lines(tmp_path / "questions.jsonl", row))
    assert question == Question(
        id="a",
        text="Who?",
        topics=("X",),
        answers=(GoldAnswer(label="Y", id="Y"), GoldAnswer(label="Z")),
        dataset="tiny",
        split="dev",
        graph_id="g1",
        hops=2,
        kind="a_to_b",
        gold_path=("^r", "s"),
    )


def test_parses_come_back_as_they_were_written(tmp_path: Path) -> None:
    gold = (GoldAnswer(label="Ada", id="m.1"), GoldAnswer(label="1815"), GoldAnswer(label="Ben", id="m.2"))
    asked = Question(id="a", text="Who?", topics=("X",), answers=gold, parses=((2, 0), (1,), ()))
    write_questions(tmp_path / "q.jsonl", [asked])
    assert json.loads((tmp_path / "q.jsonl").read_text())["parses"] == [["m.2", "m.1"], ["1815"], []]
    assert load_questions(tmp_path / "q.jsonl") == [asked]


def test_a_folder_with_a_packed_file_reads_like_the_file(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "questions.jsonl.gz", "wt", encoding="utf-8") as stream:
        stream.write("\n" + json.dumps(ROW) + "\n")
    assert load_questions(tmp_path) == load_questions(tmp_path / "questions.jsonl.gz")
    assert len(load_questions(tmp_path)) == 1


def test_questions_without_topics_or_answers_are_kept(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "q.jsonl", ROW | {"topic_entities": [], "answers": []})
    assert load_questions(path)[0].answers == ()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{not json", "not JSON"),
        ("[1]", "a JSON object is expected"),
        ({"id": "a"}, "'question' is missing"),
        (ROW | {"question": " "}, "'question' is empty"),
        (ROW | {"question": "half \ud800 of a pair"}, "half a character"),
        (ROW | {"answers": "Y"}, "'answers' must be a list of strings"),
        (ROW | {"answers": [1]}, "'answers' must be a list of strings"),
        ({k: v for k, v in ROW.items() if k != "answers"}, "'answers' is missing"),
        (ROW | {"hops": "two"}, "'hops' must be a whole number"),
        (ROW | {"aliases": [["b"], ["c"]]}, "'aliases'"),
        (ROW | {"answer_labels": ["b", "c"]}, "'answer_labels'"),
        (ROW | {"parses": ["Y"]}, "'parses' must be a list of lists"),
        (ROW | {"parses": [["Y"], ["Q"]]}, "'parses' has 'Q', which is not among the answers"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: object, reason: str) -> None:
    path = write_lines(tmp_path / "q.jsonl", ROW, line)
    with pytest.raises(DatasetError) as caught:
        load_questions(path)
    assert caught.value.details["path"] == str(path)
    assert caught.value.details["line"] == 2
    assert reason in caught.value.details["reason"]
    assert f"{path}, line 2" in str(caught.value)


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(json.dumps(ROW).encode() + b"\n\xff\xfe\n")
    with pytest.raises(DatasetError, match="line 2: not UTF-8"):
        load_questions(path)


def test_a_cut_off_packed_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl.gz"
    write_questions(path, load_questions(write_lines(tmp_path / "q.jsonl", *[ROW | {"id": str(i)} for i in range(99)])))
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DatasetError, match="Cannot read"):
        load_questions(path)


@pytest.mark.parametrize("name", ["missing", "empty_folder"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty_folder").mkdir()
    with pytest.raises(DatasetError, match=name):
        load_questions(tmp_path / name)


def test_an_unknown_split_or_subset_lists_those_that_exist(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "q.jsonl", *[ROW | {"split": s, "subset": "one"} for s in ("train", "dev")])
    assert len(load_questions(path, split="dev")) == 1
    with pytest.raises(DatasetError, match="dev, train"):
        load_questions(path, split="validation")
    with pytest.raises(DatasetError, match="it has one"):
        load_questions(path, subset="two")


def test_questions_can_be_chosen_by_hops(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "q.jsonl", *[ROW | {"id": str(i), "hops": 1 + i % 3} for i in range(9)])
    assert [question.id for question in load_questions(path, hops=2)] == ["1", "4", "7"]
    with pytest.raises(DatasetError, match="it has 1, 2, 3"):
        load_questions(path, hops=4)


def test_a_seed_shuffles_before_the_limit(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "q.jsonl", *[ROW | {"id": str(i)} for i in range(50)])
    ids = [[q.id for q in load_questions(path, limit=10, seed=seed)] for seed in (3, 3, 4, None)]
    assert ids[0] == ids[1] != ids[2]
    assert ids[3] == [str(i) for i in range(10)]
    assert any(int(i) >= 10 for i in ids[0])
    with pytest.raises(DatasetError, match="limit"):
        load_questions(path, limit=-1)


@pytest.mark.parametrize("name", ["out/q.jsonl", "out/q.jsonl.gz"])
def test_written_questions_read_back_equal_and_byte_stable(tmp_path: Path, name: str) -> None:
    rich = Question(
        id="b",
        text='Où?\u2028 "quoted"\n',
        topics=("X", "Z"),
        answers=(GoldAnswer(label="Y", id="m.1", aliases=("why",)), GoldAnswer(label="free text")),
        hops=0,
        gold_path=("r", "&", "^r"),
    )
    questions = [rich, *load_questions(write_lines(tmp_path / "in.jsonl", ROW))]
    path = tmp_path / name
    assert write_questions(path, questions) == 2
    first = path.read_bytes()
    assert load_questions(path) == questions
    write_questions(path, questions)
    assert path.read_bytes() == first
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.mkdir()  # a folder of that name cannot be replaced by a file
    with pytest.raises(DatasetError, match="Cannot write"):
        write_questions(path, [])
    assert [p.name for p in tmp_path.iterdir()] == ["q.jsonl"]


@pytest.mark.parametrize(
    ("name", "splits"),
    [
        ("webqsp-cwq", (2929, 489, 1464)),
        ("timequestions", (906, 152, 455)),
        ("wikidata-simple", (2298, 383, 1149)),
        ("metaqa", (12000, 2000, 6000)),
        ("pathquestion", (4962, 830, 2481)),
        ("worldcup2014", (3348, 558, 1674)),
        ("multitq-sample", (0, 0, 300)),
        ("wikidata-simple/trex-slots.jsonl.gz", (0, 0, 5000)),
    ],
)
def test_published_sets_load_whole(shared_data: Path, name: str, splits: tuple[int, int, int]) -> None:
    questions = load_questions(shared_data / name)
    counts = Counter(question.split for question in questions)
    assert tuple(counts[split] for split in ("train", "dev", "test")) == splits
    assert len({question.id for question in questions}) == len(questions) == sum(splits)


@pytest.mark.parametrize(
    ("name", "subset", "count"),
    [
        ("webqsp-cwq", "webqsp", 1560),
        ("webqsp-cwq", "cwq", 3322),
        ("pathquestion", "pq-2h", 1908),
        ("pathquestion", "pq-3h", 5197),
        ("pathquestion", "pql-2h", 1168),
        ("worldcup2014", "wc-p1", 4725),
        ("worldcup2014", "wc-p2", 855),
    ],
)
def test_subsets_of_published_sets(shared_data: Path, name: str, subset: str, count: int) -> None:
    questions = load_questions(shared_data / name, subset=subset)
    assert len(questions) == count
    assert {question.dataset for question in questions} == {subset}
