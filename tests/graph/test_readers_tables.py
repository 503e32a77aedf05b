"""TSV and CSV: columns, headers, dates, and the fast way against the careful one."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reading import UNDATED, lines, read

from kgr1.errors import GraphFormatError
from kgr1.graph.readers import streams, tables
from kgr1.graph.temporal import OPEN_END, OPEN_START

fields = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6).filter(lambda text: bool(text.strip()))
plain = fields.filter(lambda text: not set(text) & set("\t\n") and not text.endswith("\r") and text[0] != "\ufeff")
in_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)


def headerless(rows: list[tuple[str, ...]]) -> bool:
    return tables.WORDS.get(rows[0][0].strip().lower()) is None


@in_folder
@given(st.lists(st.tuples(plain, plain, plain), min_size=1, max_size=12).filter(headerless), st.integers(1, 90))
def test_tsv_round_trip(tmp_path: Path, rows: list[tuple[str, ...]], block: int) -> None:
    source = tmp_path / "kg.tsv"
    source.write_bytes(lines(rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "BLOCK_BYTES", block)
        assert read(source).facts == rows


@in_folder
@given(st.lists(st.tuples(fields, fields, fields), min_size=1, max_size=12).filter(headerless), st.integers(1, 90))
def test_csv_round_trip(tmp_path: Path, rows: list[tuple[str, ...]], block: int) -> None:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    source = tmp_path / "kg.csv"
    source.write_bytes(b"\xef\xbb\xbf" + text.getvalue().encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "BLOCK_BYTES", block)
        assert read(source).facts == rows


noise = st.text(st.sampled_from("ab\t\t\n\n\r \"',é\ufeff\x0b\x1c0"), max_size=60)


@in_folder
@given(st.sampled_from(["kg.tsv", "kg.csv"]), st.lists(noise, max_size=4), st.booleans())
def test_the_fast_way_and_the_careful_one_agree(tmp_path: Path, name: str, parts: list[str], skip: bool) -> None:
    """Whatever stands in a file, both read the same or refuse the same line for the same reason."""
    glue = "a\tb\tc\n" if name.endswith("tsv") else "a,b,c\n"
    source = tmp_path / name
    source.write_bytes((glue + glue.join(parts)).encode())

    def outcome(fast: Callable[..., Any]) -> object:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tables._Table, "fast", fast)
            try:
                found = read(source, skip_bad_lines=skip)
            except GraphFormatError as error:
                return error.details
            return found.facts, found.dropped, found.rows

    assert outcome(tables._Table.fast) == outcome(lambda self, block: None)


@pytest.mark.parametrize(
    ("data", "facts", "spans"),
    [
        ("a\tr\tb\t2014-03-10\na\tr\tc\t2014\n", "b c", [(16139, 16139), (16071, 16435)]),
        ("a\tr\tb\t1970\t1971\na\tr\tc\t\t1970-01-02\na\tr\td\t1970\t\na\tr\te\t\t\n", "b c d e",
         [(0, 729), (OPEN_START, 1), (0, OPEN_END), UNDATED]),
        ("head\trelation\ttail\ttime\na\tr\tb\t1970-02\na\tr\tc\n", "b c", [(31, 58), UNDATED]),
        ("tail\tdate\thead\trelation\nb\t1970\ta\tr\n", "b", [(0, 364)]),
        ("subject\tpredicate\tobject\tstart_year\tend_year\na\tr\tb\t1970\t\n", "b", [(0, OPEN_END)]),
        ("subject\tpredicate\tobject\tend\na\tr\tb\t1970-01-01\n", "b", [(OPEN_START, 0)]),
        ("a\tr\tb\t1970/1971\na\tr\tc\t1970/\na\tr\td\t/1970\n", "b c d",
         [(0, 729), (0, OPEN_END), (OPEN_START, 364)]),
        ("a\tr\tb\t1970-01-03T12:30:00Z\n", "b", [(2, 2)]),
        ("a\tr\tb\t632\t634\na\tr\tc\t1970\t1970\na\tr\td\t1971\t1971\n", "b c d",
         [(-488695, -487600), (0, 364), (365, 729)]),
        ("a\tr\tb\t1994\t1990\na\tr\tc\t1970\t1970\n", "b c", [UNDATED, (0, 364)]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("separator", ["\t", ","])
def test_dates(tmp_path: Path, data: str, facts: str, spans: list[tuple[int, int]], separator: str) -> None:
    source = tmp_path / ("kg.tsv" if separator == "\t" else "kg.csv")
    source.write_text(data.replace("\t", separator))
    found = read(source)
    assert found.facts == [("a", "r", tail) for tail in facts.split()]
    assert found.spans == spans
    assert sum(found.dropped.values()) == ("1994\t1990" in data)


@pytest.mark.parametrize(
    ("data", "options", "line", "reason"),
    [
        ("a\tr\tb\t5\n", {}, 1, "4 columns instead of 3 (head, relation, tail)"),
        ("a\tr\tb\t2014\n", {"times": False}, 1, "4 columns instead of 3 (head, relation, tail)"),
        ("a\tr\tb\tsoon\n", {"times": True}, 1, "'soon' is no date; write 2014, 2014-05"),
        ("a\tr\tb\t2014-02-30\na\tr\tb\t2014\n", {"times": True}, 1, "'2014-02-30' is no date"),
        ("head\trelation\ttail\ttime\na\tr\tb\t2014\na\tr\tb\t2014-13\n", {}, 3, "'2014-13' is no date"),
        (
            "a\tr\tb\t2014\na\tr\tc\t2015\na\tr\td\t44 BC\n",
            {},
            3,
            "'44 BC' is no date; write 2014, 2014-05, 2014-05-17, 1990/1994, 1990/ or /1994, and -43 for 44 BC",
        ),
        ("a\tr\tb\na\tr\tc\t2015\na\tr\td\t2016\na\tr\te\tsoon\n", {}, 4, "'soon' is no date"),
        ("a\tr\tb\na\tr\tc\na\tr\td\t2016\n", {}, 3, "4 columns instead of 3 (head, relation, tail)"),
        ("a\tr\tb\t2014\t2015\na\tr\n", {}, 2, "2 columns instead of 5 (head, relation, tail, start, end)"),
        ("a\tr\tb\t2014\t2015\na\tr\tc\tx\ty\n", {"times": True}, 2, "'x' is no date; write 2014, 2014-05 or"),
        ("head\trelation\ttail\tweight\na\tr\tb\t1\n", {}, 1, "the header has the column 'weight'"),
        ("head\trelation\ttail\tobject\na\tr\tb\t1\n", {}, 1, "the header names the tail twice"),
        ("head\trelation\ttail\ttime\tstart\na\tr\tb\t1\t1\n", {}, 1, "the header has both a time and a start or end"),
    ],
)
def test_what_dates_and_headers_may_not_be(
    tmp_path: Path, data: str, options: dict[str, Any], line: int, reason: str
) -> None:
    for name, text in (("kg.tsv", data), ("kg.csv", data.replace("\t", ","))):
        (tmp_path / name).write_text(text)
        with pytest.raises(GraphFormatError) as caught:
            read(tmp_path / name, **options)
        assert caught.value.details["line"] == line
        assert str(caught.value.details["reason"]).startswith(reason)


@pytest.mark.parametrize("separator", ["\t", ","])
@pytest.mark.parametrize("rows", [["", "2014", "2015", "44 BC"], ["2014", "44 BC", "2015", ""], ["", "", "2014"]])
def test_one_row_does_not_decide_for_all(tmp_path: Path, rows: list[str], separator: str) -> None:
    """A date that is none costs its own row, and a row without a date is no reason to refuse those that have one."""
    source = tmp_path / ("kg.tsv" if separator == "\t" else "kg.csv")
    text = "".join(separator.join(["a", "r", str(n), *([date] if date else [])]) + "\n" for n, date in enumerate(rows))
    source.write_text(text)
    found = read(source, skip_bad_lines=True, times=True if rows.count("") > 1 else None)
    assert [fact[2] for fact in found.facts] == [str(n) for n, date in enumerate(rows) if date != "44 BC"]
    assert sum(span != UNDATED for span in found.spans) == rows.count("2014") + rows.count("2015")
    assert found.dropped == ({"unreadable dates": 1} if "44 BC" in rows else {})


@pytest.mark.parametrize("blank", ["\n", "\n\n\n", "\r\n", "\ufeff\n"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_blank_lines_before_the_first_row(tmp_path: Path, blank: str, quote: str) -> None:
    for name, separator in (("kg.tsv", "\t"), ("kg.csv", ",")):
        mark = quote if separator == "," else ""
        rows = [separator.join([f"{mark}head{mark}", "relation", "tail"]), separator.join("arb")]
        (tmp_path / name).write_text(blank + "\n".join([*rows, "bad", ""]), newline="")
        found = read(tmp_path / name, skip_bad_lines=True)
        assert (found.facts, found.rows) == ([("a", "r", "b")], 1)
        with pytest.raises(GraphFormatError) as caught:
            read(tmp_path / name)
        assert caught.value.details["line"] == blank.count("\n") + 3
        (tmp_path / name).write_text(blank + rows[0] + f"{separator}weight\n", newline="")
        with pytest.raises(GraphFormatError, match="the header has the column 'weight'") as caught:
            read(tmp_path / name)
        assert caught.value.details["line"] == blank.count("\n") + 1


@pytest.mark.parametrize("text", ["\n", "\n\n\n"])
def test_nothing_but_blank_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    for name in ("kg.tsv", "kg.csv"):
        (tmp_path / name).write_text(text)
        assert (read(tmp_path / name).facts, read(tmp_path / name).dropped) == ([], {})
    monkeypatch.setattr(streams, "BLOCK_BYTES", 2)
    (tmp_path / "kg.tsv").write_text(text + "head\trelation\ttail\na\tr\tb\n")
    assert read(tmp_path / "kg.tsv").facts == [("a", "r", "b")]


def test_question_graphs_in_a_column(tmp_path: Path) -> None:
    (tmp_path / "kg.csv").write_text("graph_id,head,relation,tail\nq1,a,r,b\nq2,a,r,b\n")
    found = read(tmp_path / "kg.csv")
    assert found.facts == [("a", "r", "b")] * 2
    assert found.graphs == ["q1", "q2"]


def test_bad_lines_are_counted_where_that_is_asked(tmp_path: Path) -> None:
    rows = [b"a\tr\tb", b"a\tr", b"a\t\tb", b"a\tr\t\xff\xfe", b"a\tr\tc", b"a\tr\tb\td", b""]
    (tmp_path / "kg.tsv").write_bytes(b"\n".join(rows))
    found = read(tmp_path / "kg.tsv", skip_bad_lines=True)
    assert found.facts == [("a", "r", "b"), ("a", "r", "c")]
    assert found.dropped == {
        "2 columns instead of 3 (head, relation, tail)": 1,
        "column 2 is empty": 1,
        "invalid UTF-8": 1,
        "4 columns instead of 3 (head, relation, tail)": 1,
    }
    (tmp_path / "kg.csv").write_bytes(b'a,r,b\nx,"y"z,w\na,r,c\n')
    found = read(tmp_path / "kg.csv", skip_bad_lines=True)
    assert found.facts == [("a", "r", "b"), ("a", "r", "c")]
    assert found.dropped == {"malformed CSV": 1}
    (tmp_path / "kg.csv").write_bytes(b'a,r,b\n"x,y,z\na,r,c\n')
    found = read(tmp_path / "kg.csv", skip_bad_lines=True)
    assert (found.facts, found.dropped) == ([("a", "r", "b")], {"malformed CSV": 2})


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "latin-1", "cp1252"])
def test_another_encoding_is_told(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "kg.tsv").write_bytes("Malmö\tligger i\tSverige\n".encode(encoding))
    with pytest.raises(GraphFormatError, match=r"kg\.tsv, line 1: invalid UTF-8 .*; save the file as UTF-8"):
        read(tmp_path / "kg.tsv")


def test_a_line_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BLOCK_BYTES", 1 << 10)
    monkeypatch.setattr(streams, "MAX_LINE_BYTES", 1 << 20)
    (tmp_path / "kg.tsv").write_bytes(b"a\tr\tb\n" + b"x" * (3 << 20))
    with pytest.raises(GraphFormatError, match="line 2: the line is longer than 1 MiB"):
        read(tmp_path / "kg.tsv")
    (tmp_path / "kg.tsv").write_bytes(b"a\tr\t" + b"x" * (1 << 19) + b"\n")
    assert len(read(tmp_path / "kg.tsv").facts[0][2]) == 1 << 19
