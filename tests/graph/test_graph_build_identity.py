"""A build in many small parts gives the same bytes as encoding in memory."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import polars as pl
import pytest
from graph_strategies import Rows, graphs, names
from hypothesis import given, settings
from hypothesis import strategies as st

from kgr1.graph import GraphStore
from kgr1.graph.batches import Batch
from kgr1.graph.build import build_from_batches
from kgr1.graph.building import builder, dictionary, edges, keys, naming
from kgr1.graph.encode import EncodedGraph, TripleEncoder
from kgr1.graph.files import write_store
from kgr1.graph.store import make_header
from kgr1.graph.temporal import UNDATED, Span


class Source(NamedTuple):
    """Rows with their dates and question graphs, and labels in order: (identifier, label, alias)."""

    rows: Rows
    spans: list[Span] | None
    graphs: list[str | None] | None
    labels: list[tuple[str, str, bool]]


spans = st.one_of(
    st.just(UNDATED),
    st.tuples(st.integers(-3, 3), st.integers(0, 3)).map(lambda pair: (pair[0], pair[0] + pair[1])),
    st.sampled_from([(-(2**31), 5), (5, 2**31 - 1), (-(2**31), 2**31 - 1)]),
)


@st.composite
def sources(draw: st.DrawFn) -> Source:
    rows = draw(graphs())
    known = sorted({name for row in rows for name in row})
    labels = st.tuples(
        st.sampled_from([*known, "unknown"]),
        st.one_of(st.sampled_from([*known, "Same", "same", "", " ", "\u200b", f"Same [{known[0]}]"]), names),
        st.booleans(),
    )
    size = len(rows)
    dated = draw(st.one_of(st.none(), st.lists(spans, min_size=size, max_size=size)))
    ids = st.one_of(st.none(), st.sampled_from(["q1", "Q2", "q 10", "ü"]))
    members = draw(st.one_of(st.none(), st.lists(ids, min_size=size, max_size=size)))
    return Source(rows, dated, members, draw(st.lists(labels, max_size=12)))


def in_memory(source: Source) -> EncodedGraph:
    """What the encoder makes of it, labels chosen as a build chooses them."""
    encoder = TripleEncoder()
    for i, row in enumerate(source.rows):
        span = None if source.spans is None else [source.spans[i]]
        encoder.add([row], spans=span, graph=None if source.graphs is None else source.graphs[i])
    labels: dict[str, str] = {}
    for identifier, label, alias in source.labels:
        if label.strip() and not alias:
            labels.setdefault(identifier, label)
    others: defaultdict[str, list[str]] = defaultdict(list)
    for identifier, label, _ in source.labels:
        if label.strip() and label != labels.get(identifier):
            others[identifier].append(label)
    return encoder.finish(labels, others)


def batches(source: Source, size: int) -> list[Batch]:
    """The source in batches of ``size`` rows, its labels in between."""
    found = []
    for low in range(0, len(source.rows), size):
        chosen = slice(low, low + size)
        facts = pl.DataFrame(source.rows[chosen], schema=["head", "relation", "tail"], orient="row")
        if source.spans is not None:
            starts, ends = zip(*source.spans[chosen], strict=True)
            facts = facts.with_columns(
                pl.Series("start", starts, dtype=pl.Int32), pl.Series("end", ends, dtype=pl.Int32)
            )
        if source.graphs is not None:
            facts = facts.with_columns(pl.Series("graph", source.graphs[chosen], dtype=pl.String))
        found.append(Batch(facts=facts, labels=None, rows=low + size))
    schema = {"id": pl.String, "label": pl.String, "alias": pl.Boolean}
    for low in range(0, len(source.labels), size):
        labels = pl.DataFrame(source.labels[low : low + size], schema=schema, orient="row")
        found.insert(min(low, len(found)), Batch(facts=None, labels=labels, rows=0))
    return found


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def check_same(source: Source, memory_bytes: int, size: int) -> None:
    with TemporaryDirectory() as folder:
        built, saved = Path(folder) / "built", Path(folder) / "saved"
        report = build_from_batches(batches(source, size), built, name="graph", memory_bytes=memory_bytes)
        encoded = in_memory(source)
        write_store(make_header(encoded, "graph", checksums=True), encoded.arrays, saved)
        found, expected = content(built), content(saved)
        assert sorted(found) == sorted(expected)
        for name in sorted(found):
            assert found[name] == expected[name], name
        assert (report.triples, report.duplicates) == (encoded.triples, encoded.duplicates)
        assert (report.dated, report.question_graphs) == (encoded.dated, encoded.question_graphs)
        assert (report.entities, report.relations) == (encoded.entities, encoded.relations)
        assert (report.max_degree, report.ambiguous_names) == (encoded.max_degree, encoded.ambiguous_names)
        GraphStore.open(built, verify=True).close()


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of a few rows, so that their borders are met; few parts, as each costs time."""
    monkeypatch.setattr(builder, "_BATCH_ROWS", 5)
    monkeypatch.setattr(builder, "_MOST_PARTS", 4)
    monkeypatch.setattr(dictionary, "_FEW", 4)
    monkeypatch.setattr(edges, "_STEP", 7)
    monkeypatch.setattr(edges, "_MOST_PARTS", 5)
    monkeypatch.setattr(keys, "_STEP", 6)
    monkeypatch.setattr(keys, "_MOST_PARTS", 4)
    monkeypatch.setattr(naming, "_STEP", 3)


@given(sources(), st.sampled_from([1, 1500, 6000, 1 << 30]), st.integers(1, 40))
@settings(deadline=None, max_examples=60)
def test_building_out_of_core_gives_the_same_bytes(source: Source, memory_bytes: int, size: int) -> None:
    check_same(source, memory_bytes, size)


@given(sources(), st.sampled_from([1, 1 << 30]))
@settings(deadline=None, max_examples=20)
def test_facts_that_do_not_fit_one_number(source: Source, memory_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edges, "_PACKED_BITS", 1)
        check_same(source, memory_bytes, 9)


def test_a_larger_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hubs, thousands of names, many runs and ranges."""
    for module, name, value in ((builder, "_BATCH_ROWS", 500), (edges, "_STEP", 999), (naming, "_STEP", 100)):
        monkeypatch.setattr(module, name, value)
    rows = [(f"e {i * i % 997}", f"r{i % 7}", f"e {i * 31 % 1501}" if i % 3 else "hub") for i in range(4000)]
    labels = [(f"e {i}", f"Label {i % 600}", i % 5 == 0) for i in range(0, 1500, 2)]
    check_same(Source(rows, None, None, labels), 1 << 30, 700)  # one run, numbered by several threads
    check_same(Source(rows, None, None, labels), 60_000, 700)
    check_same(Source(rows, [(i % 50, i % 50 + 3) for i in range(4000)], ["a", "b"] * 2000, labels), 60_000, 700)
