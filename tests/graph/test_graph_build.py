"""Building a store from files: formats, malformed sources, full disks, targets that exist."""

from __future__ import annotations

import errno
import gzip
import os
from pathlib import Path

import pytest
from graph_strategies import TAIL_ENTITIES, ask

from kgr1.errors import GraphError, GraphFormatError
from kgr1.graph import GraphStore, build_graph
from kgr1.graph.build import BuildProgress
from kgr1.graph.readers import streams
from kgr1.types import Triple

TSV = b"Alien\tdirected by\tRidley Scott\nAlien\tyear\t1979\nAlien\tyear\t1979\n"
FACTS = [Triple("Alien", "directed by", "Ridley Scott"), Triple("Alien", "year", "1979")]


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


def facts(path: Path) -> list[Triple]:
    with GraphStore.open(path, verify=True) as graph:
        return list(graph.triples())


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("kg.tsv", TSV),
        ("kg.txt", TSV),
        ("kg.TSV", TSV.replace(b"\n", b"\r\n")),
        ("kg.tsv.gz", TSV),
        ("kg.tsv", b"\xef\xbb\xbfhead\trelation\ttail\n" + TSV),
        ("kg.tsv", b"\n" + TSV.replace(b"\n", b"\n\n") + b"\n"),
        ("kg.tsv", TSV[:-1]),
        ("kg.csv", b"head,relation,tail\n" + TSV.replace(b"\t", b",")),
        ("kg.csv", b"\xef\xbb\xbfSubject,Predicate,Object\r\n" + TSV.replace(b"\t", b",").replace(b"\n", b"\r\n")),
        ("kg.csv", b'"Alien",directed by,"Ridley Scott"\n\nAlien,year,"1979"\n"Alien","year",1979'),
        ("kg.csv.gz", TSV.replace(b"\t", b",")),
        ("kg.2014.tsv", TSV),
    ],
)
def test_formats(tmp_path: Path, name: str, data: bytes) -> None:
    report = build_graph([write(tmp_path / name, data)], tmp_path / "graph")
    assert facts(tmp_path / "graph") == FACTS
    assert (report.triples, report.duplicates, report.entities, report.relations) == (2, 1, 3, 2)
    assert report.max_degree == 2
    assert report.bytes == GraphStore.open(tmp_path / "graph").info().bytes > 0


def test_csv_quoting(tmp_path: Path) -> None:
    data = b'"Scott, Ridley","said ""hi""","two\nlines"\n a ,b, c\n'
    build_graph([write(tmp_path / "kg.csv", data)], tmp_path / "graph")
    assert facts(tmp_path / "graph") == [(" a ", "b", " c"), ("Scott, Ridley", 'said "hi"', "two\nlines")]


def test_tsv_has_no_quoting(tmp_path: Path) -> None:
    build_graph([write(tmp_path / "kg.tsv", b'"Heroes"\tby\t"David\n')], tmp_path / "graph")
    assert facts(tmp_path / "graph") == [('"Heroes"', "by", '"David')]


def test_several_sources_and_progress(tmp_path: Path) -> None:
    sources = [write(tmp_path / "a.tsv", TSV), write(tmp_path / "b.csv", b"Alien,year,1979\nAliens,year,1986\n")]
    seen: list[BuildProgress] = []
    report = build_graph(sources, tmp_path / "new" / "graph", name="films", on_progress=seen.append)
    assert [progress.stage for progress in seen][-4:] == ["reading", "names", "facts", "saving"]
    assert [progress.rows for progress in seen] == sorted(progress.rows for progress in seen)
    assert seen[-1].rows == 5
    assert seen[-1].bytes_read == seen[-1].bytes_total == sum(source.stat().st_size for source in sources)
    assert (report.triples, report.duplicates) == (3, 2)
    assert GraphStore.open(tmp_path / "new" / "graph").info().name == "films"


def test_blocks_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(f"entité {i}", f"r{i % 3}", f"entité {i * 7 % 100}") for i in range(100)]
    source = write(tmp_path / "kg.tsv", "".join("\t".join(row) + "\n" for row in rows).encode())
    expected = sorted(rows)
    for block in (1, 7, 64):
        monkeypatch.setattr(streams, "BLOCK_BYTES", block)
        build_graph([source], tmp_path / "graph", force=True)
        assert facts(tmp_path / "graph") == expected


@pytest.mark.parametrize("label_suffix", ["names.tsv", "names.csv.gz"])
def test_names(tmp_path: Path, label_suffix: str) -> None:
    source = write(tmp_path / "kg.tsv", b"m.1\tr\tm.2\nm.3\tr\tm.2\n")
    comma = b"," if "csv" in label_suffix else b"\t"
    rows = [b"id,name", b"m.1,Denton", b"m.3,Denton", b"m.1,Other", b"m.9,Unknown", b"m.2,", b"r,rel"]
    labels = write(tmp_path / label_suffix, b"\n".join(row.replace(b",", comma) for row in rows))
    report = build_graph([source], tmp_path / "graph", names=labels)
    assert (report.ambiguous_names, report.repeated_names, report.unused_names) == (1, 1, 1)
    assert facts(tmp_path / "graph") == [("Denton [m.1]", "rel", "m.2"), ("Denton [m.3]", "rel", "m.2")]


SAVE_AS_UTF8 = "; save the file as UTF-8, e.g. with 'iconv -f LATIN1 -t UTF-8'"


@pytest.mark.parametrize(
    ("name", "data", "line", "reason"),
    [
        ("kg.tsv", b"a\tb\tc\na\tb\n", 2, "2 columns instead of 3 (head, relation, tail)"),
        ("kg.tsv", b"a\tb\tc\td\n", 1, "4 columns instead of 3 (head, relation, tail)"),
        ("kg.tsv", b"a\tb\tc\n\nonly\n", 3, "1 column instead of 3 (head, relation, tail)"),
        ("kg.tsv", b"a\tb\tc\na\t\tc\n", 2, "column 2 is empty"),
        ("kg.tsv", b"a\tb\tc\n\tb\tc\n", 2, "column 1 is empty"),
        ("kg.tsv", b"a\tb\tc\na\tb\t\n", 2, "column 3 is empty"),
        ("kg.tsv", b"a\tb\tc\na\tb\t\r\n", 2, "column 3 is empty"),
        ("kg.tsv", b"a\tb\tc\na\t \tc\n", 2, "column 2 is empty"),
        ("kg.tsv", b"a\tb\tc\nd\te\t\xff\n", 2, "invalid UTF-8 (byte 0xff)" + SAVE_AS_UTF8),
        ("kg.tsv.gz", b"a\tb\tc\nd\te\n", 2, "2 columns instead of 3 (head, relation, tail)"),
        ("kg.csv", b"a,b,c\n\"x\ny\",b,c\na,b\n", 4, "2 columns instead of 3 (head, relation, tail)"),
        ("kg.csv", b"a,b,c\na,,c\n", 2, "column 2 is empty"),
        ("kg.csv", b"a,b,c\nd,e,\xc3\n", 2, "invalid UTF-8 (byte 0xc3)" + SAVE_AS_UTF8),
        ("kg.csv", b"a,b,c\n\"a,b,c\n", 2, "malformed CSV (unexpected end of data)"),
    ],
)  # fmt: skip
def test_malformed_lines(tmp_path: Path, name: str, data: bytes, line: int, reason: str) -> None:
    source = write(tmp_path / name, data)
    with pytest.raises(GraphFormatError) as caught:
        build_graph([source], tmp_path / "graph")
    assert caught.value.details == {"path": str(source), "line": line, "reason": reason}
    assert str(caught.value) == f"{source}, line {line}: {reason}."
    assert list(tmp_path.iterdir()) == [source]


def test_malformed_line_deep_in_a_large_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BLOCK_BYTES", 4096)
    lines = [b"entity %d\tr\tentity %d" % (i, i + 1) for i in range(5000)]
    lines[4321] = b"broken"
    with pytest.raises(GraphFormatError) as caught:
        build_graph([write(tmp_path / "kg.tsv", b"\n".join(lines))], tmp_path / "graph")
    assert caught.value.details["line"] == 4322


@pytest.mark.parametrize("name", ["kg.tsv.gz", "kg.csv.gz"])
def test_truncated_gzip(tmp_path: Path, name: str) -> None:
    rows = b"".join(b"%d,r,%d\n" % (i, i * i) for i in range(20_000))
    source = write(tmp_path / name, rows if "csv" in name else rows.replace(b",", b"\t"))
    source.write_bytes(source.read_bytes()[:-2000])
    with pytest.raises(GraphFormatError, match="truncated or damaged") as caught:
        build_graph([source], tmp_path / "graph")
    assert caught.value.details["path"] == str(source)
    assert list(tmp_path.iterdir()) == [source]


def test_damaged_gzip(tmp_path: Path) -> None:
    source = write(tmp_path / "kg.tsv.gz", TSV * 1000)
    data = bytearray(source.read_bytes())
    data[len(data) // 2] ^= 0xFF
    source.write_bytes(data)
    with pytest.raises(GraphFormatError):
        build_graph([source], tmp_path / "graph")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [("kg.tsv", b"", "no triple"), ("kg.csv", b"head,relation,tail\n", "no triple"), ("kg.xml", TSV, "format of")],
)
def test_sources_without_triples(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        build_graph([write(tmp_path / name, data)], tmp_path / "graph")
    assert not (tmp_path / "graph").exists()


def test_missing_source(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"Cannot read .*nowhere\.tsv: No such file"):
        build_graph([tmp_path / "nowhere.tsv"], tmp_path / "graph")
    with pytest.raises(GraphError, match="at least one file"):
        build_graph([], tmp_path / "graph")


def test_existing_store_is_kept_without_force_and_replaced_with_it(tmp_path: Path) -> None:
    out = tmp_path / "graph"
    build_graph([write(tmp_path / "a.tsv", TSV)], out)
    before = GraphStore.open(out)
    other = write(tmp_path / "b.tsv", b"x\ty\tz\n")
    with pytest.raises(GraphError, match="exists"):
        build_graph([other], out)
    assert facts(out) == FACTS
    build_graph([other], out, force=True)
    assert facts(out) == [("x", "y", "z")]
    assert ask(before, TAIL_ENTITIES, "Alien", "year").names == ("1979",), "open stores go on reading the old files"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tsv", "b.tsv", "graph"]


def test_force_replaces_stores_only(tmp_path: Path) -> None:
    source = write(tmp_path / "a.tsv", TSV)
    home = tmp_path / "home"
    home.mkdir()
    precious = write(home / "thesis.txt", b"years of work")
    for out in (home, precious):
        with pytest.raises(GraphError, match="not a graph store"):
            build_graph([source], out, force=True)
    assert precious.read_bytes() == b"years of work"
    empty = tmp_path / "empty"
    empty.mkdir()
    build_graph([source], empty, force=True)
    assert facts(empty) == FACTS


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("after", [0, 3, 12])
def test_full_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool, after: int
) -> None:
    source, out = write(tmp_path / "a.tsv", TSV), tmp_path / "graph"
    if existing:
        GraphStore.from_triples([("x", "y", "z")]).save(out)
    calls = iter(range(100))

    def fsync(descriptor: int) -> None:
        if next(calls) >= after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(GraphError, match="disk is full"):
        build_graph([source], out, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == (["a.tsv", "graph"] if existing else ["a.tsv"])
    if existing:
        assert facts(out) == [("x", "y", "z")]


def test_replacing_without_an_atomic_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kgr1.graph.files._exchange", lambda first, second: False)
    GraphStore.from_triples([("x", "y", "z")]).save(tmp_path / "graph")
    build_graph([write(tmp_path / "a.tsv", TSV)], tmp_path / "graph", force=True)
    assert facts(tmp_path / "graph") == FACTS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tsv", "graph"]


def test_an_interrupted_build_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupt(progress: BuildProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_graph([write(tmp_path / "a.tsv", TSV)], tmp_path / "graph", on_progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tsv"]


def test_published_graph_with_names(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "fb15k237"
    report = build_graph([folder / "kg.tsv.gz"], tmp_path / "graph", names=folder / "names.tsv.gz")
    assert (report.triples, report.duplicates, report.entities, report.relations) == (310_116, 0, 14_541, 237)
    assert report.ambiguous_names == 223
    graph = GraphStore.open(tmp_path / "graph", verify=True)
    observation = ask(graph, TAIL_ENTITIES, "marshall", "location.hud_county_place.place")
    assert observation.ok
    assert graph.entities.find(graph.entities.name(7)) == (7,)
