"""What sources may be: compressed, damaged, folders, patterns, standard input; and which files they lead to."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from reading import COMPRESS, Everything, lines, read

from kgr1.errors import GraphError, GraphFormatError
from kgr1.graph.readers import streams
from kgr1.graph.readers.discover import find_sources, format_of
from kgr1.graph.readers.options import ReadOptions

ROWS = [(f"entity {n}", f"r{n % 7}", f"entity {n * n % 1000}") for n in range(4000)]
NT = "".join(f"<e:a{n}> <e:r> <e:b{n}> .\n" for n in range(4000)).encode()
CONTENT = {
    "kg.tsv": lines(ROWS),
    "kg.csv": lines(ROWS, ","),
    "kg.jsonl": "".join(f'["{h}", "{r}", "{t}"]\n' for h, r, t in ROWS).encode(),
    "kg.nt": NT,
    "kg.ttl": NT,
}
by_compression = pytest.mark.parametrize("suffix", [suffix for suffix in COMPRESS if suffix])
by_format = pytest.mark.parametrize("name", sorted(CONTENT))


@by_compression
@by_format
def test_compressions(tmp_path: Path, name: str, suffix: str) -> None:
    (tmp_path / name).write_bytes(CONTENT[name])
    (tmp_path / (name + suffix)).write_bytes(COMPRESS[suffix](CONTENT[name]))
    assert read(tmp_path / (name + suffix)) == read(tmp_path / name)


@by_compression
def test_several_streams_in_one_file(tmp_path: Path, suffix: str) -> None:
    pack: Callable[[bytes], bytes] = COMPRESS[suffix]
    (tmp_path / "kg.tsv").write_bytes(pack(lines(ROWS[:1000])) + pack(lines(ROWS[1000:])))
    assert read(tmp_path / "kg.tsv").facts == ROWS


@by_compression
@by_format
def test_truncated(tmp_path: Path, name: str, suffix: str) -> None:
    source = tmp_path / (name + suffix)
    data = COMPRESS[suffix](CONTENT[name])
    for keep in (len(data) - 3, len(data) // 2, 30):
        source.write_bytes(data[:keep])
        with pytest.raises(GraphFormatError, match="file is truncated or damaged after this line") as caught:
            read(source)
        assert caught.value.details["path"] == str(source)


def outcome(source: Path) -> Everything | str:
    """What is read, or the path that an error names."""
    try:
        return read(source)
    except GraphFormatError as error:
        return str(error.details["path"])


@by_compression
@by_format
def test_flipped_bits_never_pass(tmp_path: Path, name: str, suffix: str) -> None:
    """A damaged file is an error, or (in parts of a header that mean nothing) no difference."""
    source = tmp_path / (name + suffix)
    whole = COMPRESS[suffix](CONTENT[name])
    (tmp_path / name).write_bytes(CONTENT[name])
    expected = read(tmp_path / name)
    for position in (8, len(whole) // 3, len(whole) // 2, len(whole) - 5):
        data = bytearray(whole)
        data[position] ^= 0x10
        source.write_bytes(data)
        assert outcome(source) in (expected, str(source))


@pytest.mark.parametrize("name", ["BZhou", "BZh", "BZh9", "BZh91AY", "BZh9 and more"])
def test_a_name_that_begins_as_a_compressed_file_does(tmp_path: Path, name: str) -> None:
    (tmp_path / "kg.tsv").write_text(f"{name}\tborn in\tChina\n")
    assert read(tmp_path / "kg.tsv").facts == [(name, "born in", "China")]


def test_a_compressed_file_that_ends_in_its_first_bytes(tmp_path: Path) -> None:
    data = COMPRESS[".bz2"](lines(ROWS))
    for keep in (4, 7, 10, 12):
        (tmp_path / "kg.tsv").write_bytes(data[:keep])
        with pytest.raises(GraphFormatError, match="bz2 file is truncated or damaged"):
            read(tmp_path / "kg.tsv")


def test_an_end_that_is_garbage(tmp_path: Path) -> None:
    for suffix in (".zst", ".gz"):
        (tmp_path / "kg.tsv").write_bytes(COMPRESS[suffix](lines(ROWS)) + b"garbage")
        with pytest.raises(GraphFormatError, match="truncated or damaged"):
            read(tmp_path / "kg.tsv")


@pytest.mark.parametrize("suffix", list(COMPRESS))
@by_format
def test_empty_files(tmp_path: Path, name: str, suffix: str) -> None:
    (tmp_path / (name + suffix)).write_bytes(COMPRESS[suffix](b""))
    found = read(tmp_path / (name + suffix))
    assert (found.facts, found.rows) == ([], 0)


def test_a_folder_with_mixed_formats(tmp_path: Path) -> None:
    for name, data in {
        "b.tsv": b"a\tr\tb\n",
        "c.csv.gz": COMPRESS[".gz"](b"a,r,c\n"),
        "deep/d.jsonl.zst": COMPRESS[".zst"](b'["a", "r", "d"]\n'),
        "deep/e.nt.bz2": COMPRESS[".bz2"](b"<e:a> <e:r> <e:e> .\n"),
        "f.ttl.xz": COMPRESS[".xz"](b"<e:a> <e:r> <e:f> ."),
        "README.md": b"# About this graph\n",
        ".hidden.tsv": b"not a triple\n",
        ".git/x.tsv": b"not a triple\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    pl.DataFrame({"head": ["a"], "relation": ["r"], "tail": ["g"]}).write_parquet(tmp_path / "g.parquet")
    assert [fact[2] for fact in read(tmp_path).facts] == ["b", "c", "d", "e:e", "e:f", "g"]
    assert [fact[2] for fact in read(tmp_path / "*.*v*").facts] == ["b", "c"]
    assert [fact[2] for fact in read(str(tmp_path / "**" / "*.zst"), tmp_path / "b.tsv").facts] == ["d", "b"]
    assert [fact[2] for fact in read(tmp_path, format="csv").facts] == ["c"]


def test_what_leads_nowhere(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"There is no file with one of the endings \.tsv, "):
        read(tmp_path)
    with pytest.raises(GraphError, match="There is no nt file in the folder"):
        read(tmp_path, format="nt")
    with pytest.raises(GraphError, match="No file matches"):
        read(tmp_path / "*.tsv")
    with pytest.raises(GraphError, match="No such file"):
        read(tmp_path / "kg.tsv")
    (tmp_path / "kg.gz").write_bytes(COMPRESS[".gz"](b"a\tr\tb\n"))
    with pytest.raises(GraphError, match=r"Cannot tell the format of .*kg\.gz; name it \.tsv, .* with --format"):
        read(tmp_path / "kg.gz")
    assert read(tmp_path / "kg.gz", format="tsv").facts == [("a", "r", "b")]


def test_a_name_with_the_signs_of_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "kg [1]*.tsv").write_bytes(b"a\tr\tb\n")
    assert read(tmp_path / "kg [1]*.tsv").facts == [("a", "r", "b")]


@pytest.mark.parametrize("suffix", list(COMPRESS))
def test_standard_input(monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    def give(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(data))))

    give(COMPRESS[suffix](CONTENT["kg.nt"]))
    found = read("-", format="nt")
    assert len(found.facts) == 4000
    give(COMPRESS[suffix](b"a\tr\n"))
    with pytest.raises(GraphFormatError, match="standard input, line 1: 2 columns"):
        read("-", format="tsv")
    with pytest.raises(GraphError, match="say which it is with --format"):
        read("-")
    with pytest.raises(GraphError, match="Parquet is read from its end"):
        read("-", format="parquet")


def test_a_bomb_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_LINE_BYTES", 1 << 20)
    for suffix in (".zst", ".gz", ".xz", ".bz2"):
        (tmp_path / "kg.tsv").write_bytes(COMPRESS[suffix](b"a" * (64 << 20)))
        with pytest.raises(GraphFormatError, match="line 1: the line is longer than 1 MiB"):
            read(tmp_path / "kg.tsv")


def test_formats_by_name() -> None:
    names = {"latest-truthy.nt.bz2": "nt", "KG.TSV.GZ": "tsv", "a.b.owl": "rdf", "kg.2014.json": "jsonl", "kg": None}
    assert {name: format_of(Path(name)) for name in names} == names


def test_a_given_format_outranks_the_name(tmp_path: Path) -> None:
    (tmp_path / "kg.txt").write_bytes(b"<e:a> <e:r> <e:b> .\n")
    (source,) = find_sources([tmp_path / "kg.txt"], ReadOptions(format="nt"))
    assert source.format == "nt"
    assert read(tmp_path / "kg.txt", format="nt").facts == [("e:a", "e:r", "e:b")]
