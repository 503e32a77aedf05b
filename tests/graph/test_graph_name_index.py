"""Lookup keys, hashes and trigrams of many names at a time are those of one name at a time; equal hashes do no harm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from graph_strategies import TAIL_RELATIONS, ask
from hypothesis import given, settings
from hypothesis import strategies as st

from kgr1.graph import GraphStore, encode, name_index, vocabulary
from kgr1.graph.batches import Batch
from kgr1.graph.build import build_from_batches
from kgr1.graph.building import naming
from kgr1.graph.name_index import GramIndex, gram_texts, hash_texts, lookup_keys, text_bytes
from kgr1.graph.names import KEY_LIMIT, grams, hash_name, lookup_key

anything = st.lists(
    st.one_of(
        st.text(st.characters(codec="utf-8"), max_size=12),
        st.text(st.sampled_from("aB_ \t\u00a0\u200bÄ"), max_size=8),
        st.text(st.sampled_from("Ab_"), min_size=60, max_size=70),
        st.sampled_from(["x" * KEY_LIMIT, "Y_" * KEY_LIMIT, "é" * KEY_LIMIT]),
    ),
    max_size=20,
)


@given(anything)
@settings(deadline=None)
def test_many_at_a_time(texts: list[str]) -> None:
    series = pl.Series(texts, dtype=pl.String)
    assert lookup_keys(series).to_list() == [lookup_key(text) for text in texts]
    blob, offsets = text_bytes(series)
    assert [bytes(blob[offsets[i] : offsets[i + 1]]).decode() for i in range(len(texts))] == texts
    assert hash_texts(blob, offsets).tolist() == [hash_name(text) for text in texts]


def index_of(names: list[str], owners: list[int], step: int) -> dict[int, list[int]]:
    """Postings by bucket, from names given ``step`` at a time."""
    index = GramIndex(max(owners) + 1)
    for low in range(0, len(names), step):
        high = low + step
        index.add(*text_bytes(gram_texts(pl.Series(names[low:high]))), np.array(owners[low:high]))
    bounds, parts = index.finish(limit=5)
    postings = np.concatenate(list(parts)).tolist()
    return {b: postings[bounds[b] : bounds[b + 1]] for b in range(len(bounds) - 1) if bounds[b] < bounds[b + 1]}


@pytest.mark.parametrize("step", [1, 3, 100])
@pytest.mark.parametrize("chunk", [1, 40, 1 << 20])
def test_trigrams(monkeypatch: pytest.MonkeyPatch, step: int, chunk: int) -> None:
    monkeypatch.setattr(name_index, "_CHUNK_BYTES", chunk)
    names = [f"name {i * i}" for i in range(20)]
    owners = list(range(20))
    if step == 100:  # the names of one symbol must come together
        names += ["name 0", "other", "ärger"]
        owners += [19, 19, 20]
    shift = vocabulary.gram_shift(1 << max(6, (max(owners) + 1).bit_length() + 2))
    expected: dict[int, set[int]] = {}
    for name, owner in zip(names, owners, strict=True):
        for gram in grams(name):
            expected.setdefault(vocabulary.gram_bucket(gram, shift), set()).add(owner)
    assert index_of(names, owners, step) == {bucket: sorted(symbols) for bucket, symbols in expected.items()}
    monkeypatch.setattr(name_index, "BUCKET_LIMIT", 4)
    assert index_of(names, owners, step) == {bucket: sorted(symbols)[:4] for bucket, symbols in expected.items()}


def check_apart(graph: GraphStore, names: list[str]) -> None:
    for name in names:
        found = ask(graph, TAIL_RELATIONS, name)
        assert (found.query.entity, found.names) == (name, (f"of {name}",))


def rows_of(names: list[str]) -> list[tuple[str, str, str]]:
    return [(name, f"of {name}", "end") for name in names]


def test_names_with_the_same_hash_stay_apart(tmp_path: Path) -> None:
    letters = np.random.default_rng(0).integers(ord("a"), ord("z") + 1, (300_000, 9), dtype=np.uint8)
    texts = pl.Series([row.tobytes().decode() for row in letters])
    hashes = pl.DataFrame({"name": texts, "hash": hash_texts(*text_bytes(texts))})
    names = hashes.filter(pl.col("hash").is_duplicated()).sort("hash")["name"].to_list()[:2]
    assert hash_name(names[0]) == hash_name(names[1])
    check_apart(GraphStore.from_triples(rows_of(names)), names)
    facts = pl.DataFrame(rows_of(names), schema=["head", "relation", "tail"], orient="row")
    build_from_batches([Batch(facts=facts, labels=None, rows=2)], tmp_path / "graph")
    with GraphStore.open(tmp_path / "graph", verify=True) as graph:
        check_apart(graph, names)


def test_names_are_found_by_a_hash_that_is_the_same_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (encode, vocabulary):
        monkeypatch.setattr(module, "hash_name", lambda text: 7)
    monkeypatch.setattr(naming, "hash_texts", lambda blob, offsets: np.full(len(offsets) - 1, 7, dtype=np.uint32))
    names = [f"Name_{i}" for i in range(30)]
    check_apart(GraphStore.from_triples(rows_of(names)), names)
    facts = pl.DataFrame(rows_of(names), schema=["head", "relation", "tail"], orient="row")
    for memory_bytes in (1, 1 << 30):
        target = tmp_path / f"graph {memory_bytes}"
        build_from_batches([Batch(facts=facts, labels=None, rows=30)], target, memory_bytes=memory_bytes)
        with GraphStore.open(target, verify=True) as graph:
            check_apart(graph, names)
