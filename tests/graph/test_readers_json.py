"""JSON lines and Parquet: facts, question graphs, numbered graphs."""

from __future__ import annotations

import gzip
import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from graph_strategies import names
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reading import UNDATED, Everything, read

from kgr1.errors import GraphError, GraphFormatError
from kgr1.graph.temporal import OPEN_END, OPEN_START

in_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
triples = st.lists(st.tuples(names, names, names), min_size=1, max_size=10)


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@in_folder
@given(triples, st.booleans(), st.booleans())
def test_round_trip(tmp_path: Path, rows: list[tuple[str, ...]], ascii_only: bool, words: bool) -> None:
    keys = ("subject", "predicate", "object") if words else ("head", "relation", "tail")
    values = [row if i % 2 else dict(zip(keys, row, strict=True)) for i, row in enumerate(rows)]
    text = "\n\n".join(json.dumps(value, ensure_ascii=ascii_only) for value in values)
    (tmp_path / "kg.jsonl").write_text(text, encoding="utf-8")
    assert read(tmp_path / "kg.jsonl").facts == rows


def test_dates_numbers_and_graphs(tmp_path: Path) -> None:
    source = write(
        tmp_path / "kg.jsonl",
        {"head": "a", "relation": "r", "tail": 1979, "time": "1970-01-02"},
        {"head": "a", "relation": "r", "tail": 1.5, "start": 1970, "end": None},
        {"head": "a", "relation": "r", "tail": "b", "start": "", "end": "1970", "graph": "q1", "weight": 3},
        ["a", "r", "c", "1970"],
        ["a", "r", "d", None, "1970"],
        {"head": "a", "relation": "r", "tail": "e"},
    )
    found = read(source)
    assert [fact[2] for fact in found.facts] == ["1979", "1.5", "b", "c", "d", "e"]
    year = (OPEN_START, 364)
    assert found.spans == [(1, 1), (0, OPEN_END), year, (0, 364), year, UNDATED]
    assert found.graphs == [None, None, "q1", None, None, None]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"head": "a", "relation": "r"}', "'tail' is missing"),
        ('{"head": "a", "relation": "r", "tail": ""}', "'tail' is empty"),
        ('{"head": "a", "relation": " ", "tail": "b"}', "'relation' is empty"),
        ('{"head": "a", "relation": "r", "tail": null}', "'tail' is missing"),
        ('{"head": "a", "relation": "r", "tail": ["b"]}', "'tail' must be text, not a list"),
        ('{"head": "a", "relation": "r", "tail": true}', "'tail' must be text, not true or false"),
        ('{"head": "a", "relation": "r", "tail": "\\ud800"}', "'tail': a name holds a lone surrogate"),
        ('{"head": "a", "relation": "r", "tail": "b", "object": "c"}', "the tail is given twice"),
        ('{"head": "a", "relation": "r", "tail": "b", "time": "soon"}', "'soon' is no date"),
        ('{"head": "a", "relation": "r", "tail": "b", "time": 2014, "start": 2014}', "there are both a time and"),
        ('["a", "r"]', "a list of 2 items instead of 3 (head, relation, tail)"),
        ('{"graph": [["a", "r", "b"]]}', "'id' is missing; it is what the question graph is called"),
        ('{"id": "q", "graph": [["a", "r"]]}', "item 1 of 'graph' is not [head, relation, tail]"),
        ('{"id": "q", "graph": [["a", "r", {}]]}', "item 1 of 'graph' must be text, not an object"),
        ("3", "an object or a list is expected, not a number"),
        ('{"head": ', "not JSON (Expecting value"),
        ("[" * 100_000, "not JSON ("),
        ('{"head": "a", "relation": "r", "tail": "\udcff"}', "invalid UTF-8 (byte 0xff)"),
    ],
)
def test_malformed_lines(tmp_path: Path, line: str, reason: str) -> None:
    source = tmp_path / "kg.jsonl"
    source.write_bytes(b'["a", "r", "b"]\n\n' + line.encode("utf-8", "surrogateescape") + b'\n["a", "r", "c"]')
    with pytest.raises(GraphFormatError) as caught:
        read(source)
    assert caught.value.details["line"] == 3
    assert str(caught.value.details["reason"]).startswith(reason)
    found = read(source, skip_bad_lines=True)
    assert [fact[2] for fact in found.facts] == ["b", "c"]
    assert sum(found.dropped.values()) == 1


QUESTIONS = [
    {"id": "q1", "question": "?", "graph": [["a", "r", "b"], ["b", "r", ""], ["b", "s", "c"]], "choices": []},
    {"id": "q2", "question": "?", "graph": []},
    {"id": "q3", "question": "?", "graph": [["a", "r", "b"]]},
]


def check_questions(found: Everything) -> None:
    assert found.facts == [("a", "r", "b"), ("b", "s", "c"), ("a", "r", "b")]
    assert found.graphs == ["q1", "q1", "q3"]
    assert found.rows == 3
    assert sum(found.dropped.values()) == 1


def test_question_graphs(tmp_path: Path) -> None:
    check_questions(read(write(tmp_path / "rows.jsonl", *QUESTIONS)))
    schema = {"id": pl.String, "question": pl.String, "graph": pl.List(pl.List(pl.String))}
    pl.DataFrame([{k: row[k] for k in schema} for row in QUESTIONS], schema=schema).write_parquet(
        tmp_path / "q.parquet"
    )
    check_questions(read(tmp_path / "q.parquet"))


def numbered(folder: Path, *rows: Any) -> Path:
    (folder / "entities.txt").write_text("m.a\nm.b\nm.c\n")
    with gzip.open(folder / "relations.txt.gz", "wt") as file:
        file.write("r.one\r\nr.two\r\n")
    return write(folder / "train_simple.json", *rows)


def test_numbered_graphs(tmp_path: Path) -> None:
    rows = [
        {"id": "q1", "subgraph": {"tuples": [[0, 0, 1], [1, 1, 2]], "entities": [0, 1, 2]}},
        {"id": 7, "subgraph": {"tuples": [[2, 0, 0]]}},
        {"id": "q3", "subgraph": {"tuples": []}},
    ]
    source = numbered(tmp_path, *rows)
    for found in (read(source), read(tmp_path)):
        assert found.facts == [("m.a", "r.one", "m.b"), ("m.b", "r.two", "m.c"), ("m.c", "r.one", "m.a")]
        assert found.graphs == ["q1", "q1", "7"]
        assert found.rows == 3


def test_numbers_without_meaning(tmp_path: Path) -> None:
    source = numbered(tmp_path, {"id": "q", "subgraph": {"tuples": [[0, 0, 3]]}})
    with pytest.raises(GraphFormatError, match=r"line 1: number 3 is beyond the 3 lines of entities\.txt"):
        read(source)
    numbered(tmp_path, {"id": "q", "subgraph": {"tuples": [[0, 0]]}})
    with pytest.raises(GraphFormatError, match="line 1: 'id' and a 'subgraph' with 'tuples' of three numbers"):
        read(source)
    (tmp_path / "entities.txt").unlink()
    with pytest.raises(GraphError, match=r"entities\.txt, which says what they stand for, is not in its folder"):
        read(source)


@in_folder
@given(triples)
def test_parquet_round_trip(tmp_path: Path, rows: list[tuple[str, ...]]) -> None:
    pl.DataFrame(rows, schema=["Subject", "predicate", "object"], orient="row").write_parquet(tmp_path / "kg.parquet")
    assert read(tmp_path / "kg.parquet").facts == rows


def test_parquet_columns(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "tail": ["b", "c"],
            "relation": ["r", "r"],
            "head": [1, 2],
            "start": [date(1970, 1, 2), None],
            "end": [datetime(1970, 1, 3, 12), None],
            "graph": ["q", None],
            "weight": [0.5, 1.0],
        }
    )
    frame.write_parquet(tmp_path / "kg.parquet")
    found = read(tmp_path / "kg.parquet")
    assert found.facts == [("1", "r", "b"), ("2", "r", "c")]
    assert found.spans == [(1, 2), UNDATED]
    assert found.graphs == ["q", None]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"head": ["a"], "relation": ["r"]}, "no column is called tail; it has head, relation"),
        ({"head": ["a"], "subject": ["a"], "relation": ["r"], "tail": ["b"]}, "two columns hold the head"),
        ({"head": [["a"]], "relation": ["r"], "tail": ["b"]}, "the column 'head' holds List"),
        ({"head": ["a", None], "relation": ["r", "r"], "tail": ["b", "b"]}, "row 2: the head is empty"),
        ({"head": ["a"], "relation": ["r"], "tail": ["b"], "time": ["soon"]}, "row 1: 'soon' is no date"),
        ({"graph": [[["a", "r", "b"]]]}, "the column 'id', which says what the question graphs are called, is missing"),
        ({"id": ["q"], "graph": [["a"]]}, "the column 'graph' holds List"),
        ({"id": ["p", "q"], "graph": [[], [["a", "r"]]]}, "row 2: a list of 'graph' is not"),
    ],
)
def test_parquet_that_is_no_graph(tmp_path: Path, columns: dict[str, list[Any]], reason: str) -> None:
    pl.DataFrame(columns).write_parquet(tmp_path / "kg.parquet")
    with pytest.raises(GraphFormatError) as caught:
        read(tmp_path / "kg.parquet")
    assert reason in str(caught.value)


@pytest.mark.parametrize("keep", [0, 3, 40, -1])
def test_truncated_parquet(tmp_path: Path, keep: int) -> None:
    pl.DataFrame({"head": ["a"], "relation": ["r"], "tail": ["b"]}).write_parquet(tmp_path / "kg.parquet")
    data = (tmp_path / "kg.parquet").read_bytes()
    (tmp_path / "kg.parquet").write_bytes(data[:keep])
    with pytest.raises(GraphFormatError, match=r"kg\.parquet: not a whole Parquet file"):
        read(tmp_path / "kg.parquet")


def test_bad_parquet_rows_are_counted_where_that_is_asked(tmp_path: Path) -> None:
    columns = {"head": ["a", None, "a"], "relation": ["r"] * 3, "tail": ["b", "c", "d"], "time": ["1970", "1970", "x"]}
    pl.DataFrame(columns).write_parquet(tmp_path / "kg.parquet")
    found = read(tmp_path / "kg.parquet", skip_bad_lines=True)
    assert found.facts == [("a", "r", "b")]
    assert found.dropped == {"the head is empty": 1, "unreadable dates": 1}
