"""The store on disk and in memory: opening, damage, pickling, closing."""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import pickle
from pathlib import Path

import pytest
from graph_strategies import HEAD_ENTITIES, TAIL_ENTITIES, TAIL_RELATIONS, ask

from kgr1.errors import GraphError, GraphServerError
from kgr1.graph import GraphStore, KnowledgeGraph, checksums
from kgr1.graph.encode import TripleEncoder
from kgr1.graph.files import ARRAY_TYPES
from kgr1.graph.store import make_header
from kgr1.graph.temporal import UNDATED
from kgr1.types import Query

ROWS = [(f"m.{i}", f"relation {i % 4}", f"m.{i * i % 50}") for i in range(50)]
SPANS = [(i, i + 30) if i % 3 else UNDATED for i in range(50)]
ALIASES = {"m.2": ["second", "zwei"], "relation 1": ["one"]}
LABELS = {"relation 0": "first relation"} | {f"m.{i}": f"name {i % 40}" for i in range(0, 50, 2)}


def sample(order: int = 1, max_results: int | None = None) -> GraphStore:
    """A store with every kind of array: labels, aliases, dates, question graphs."""
    encoder = TripleEncoder()
    for start in (0, 20, 40)[::order]:
        rows, spans = ROWS[start : start + 20][::order], SPANS[start : start + 20][::order]
        encoder.add(rows, spans=spans, graph=f"question {start % 40}")
    encoded = encoder.finish(dict(list(LABELS.items())[::order]), ALIASES)
    return GraphStore(make_header(encoded, "sample", checksums=False), encoded.arrays, max_results=max_results)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    sample().save(tmp_path / "graph")
    return tmp_path / "graph"


def observe(graph: KnowledgeGraph) -> list[str]:
    queries = [
        Query(operation=operation, entity=entity, relation=f"relation {i % 4}")
        for i, (entity, _, _) in enumerate(ROWS)
        for operation in (TAIL_ENTITIES, HEAD_ENTITIES)
    ]
    return [observation.model_dump_json() for observation in graph.execute(queries)]


def test_disk_and_memory_are_the_same(path: Path) -> None:
    memory, disk = sample(), GraphStore.open(path, verify=True)
    assert observe(memory) == observe(disk)
    assert disk.info() == memory.info().model_copy(update={"bytes": disk.info().bytes})
    assert disk.info().bytes == sum(file.stat().st_size for file in path.glob("*.bin"))
    assert {file.stem for file in path.glob("*.bin")} == set(ARRAY_TYPES)
    assert isinstance(disk, KnowledgeGraph)


def test_the_same_triples_give_the_same_bytes(path: Path, tmp_path: Path) -> None:
    sample(order=-1).save(tmp_path / "again")
    for file in path.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name


@pytest.mark.parametrize("name", sorted(ARRAY_TYPES))
def test_truncated_and_missing_files_are_named(path: Path, name: str) -> None:
    file = path / f"{name}.bin"
    data = file.read_bytes()
    for damage in (data[:-1], data + b"\0", b""):
        file.write_bytes(damage)
        with pytest.raises(GraphError, match=f"{name}.bin"):
            GraphStore.open(path)
    file.unlink()
    with pytest.raises(GraphError, match=f"{name}.bin"):
        GraphStore.open(path)


@pytest.mark.parametrize("name", sorted(ARRAY_TYPES))
def test_flipped_bits_are_found_by_verifying_and_never_crash(path: Path, name: str) -> None:
    file = path / f"{name}.bin"
    data = bytearray(file.read_bytes())
    for position in {0, len(data) // 2, len(data) - 1}:
        damaged = data.copy()
        damaged[position] ^= 0x80
        file.write_bytes(damaged)
        with pytest.raises(GraphError, match=f"{name}.bin does not match its checksum"):
            GraphStore.open(path, verify=True)
        graph = GraphStore.open(path)
        try:
            observe(graph)
        except GraphServerError as error:
            assert "damaged" in str(error)  # noqa: PT017


def test_damage_is_located(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checksums, "BLOCK_BYTES", 64)
    sample().save(tmp_path / "blocks")
    file = tmp_path / "blocks" / "tail_neighbours.bin"
    data = bytearray(file.read_bytes())
    data[130] ^= 1
    file.write_bytes(data)
    with pytest.raises(GraphError, match="bytes 128 to 191") as caught:
        GraphStore.open(tmp_path / "blocks", verify=True)
    assert caught.value.details["offset"] == 128


def test_a_digest_does_not_depend_on_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "BLOCK_BYTES", 7)
    whole = bytes(range(50))
    for pieces in ([50], [1] * 50, [7, 7, 36], [6, 2, 42], [0, 49, 1]):
        digest, rest = checksums.BlockDigest(), whole
        for piece in pieces:
            digest.update(rest[:piece])
            rest = rest[piece:]
        assert digest.hexdigests() == checksums.block_digests(whole)
        assert len(digest.hexdigests()) == 8
    changed = checksums.block_digests(whole[:20] + b"x" + whole[21:])
    assert checksums.first_difference(changed, checksums.block_digests(whole), 50) == (14, 21)
    assert checksums.first_difference(changed, changed, 50) is None


@pytest.mark.parametrize("name", ["tail_neighbours", "entity_id_offsets", "head_relations", "entity_hash_owners"])
def test_a_header_that_was_made_to_match_does_not_deceive(path: Path, name: str) -> None:
    from kgr1.graph.files import Header, _dump, describe, read_store

    header, arrays = read_store(path)
    array = arrays[name].copy()
    array[len(array) // 2] = 60_000
    array.tofile(path / f"{name}.bin")
    entries = header.arrays | {name: describe(array)}
    forged = Header.model_validate(header.model_dump() | {"arrays": {k: e.model_dump() for k, e in entries.items()}})
    (path / "header.json").write_bytes(_dump(forged))
    with pytest.raises(GraphError, match=f"{name}.bin points outside"):
        GraphStore.open(path, verify=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 99}, "version 99"),
        ({"version": "1"}, "version '1'"),
        ({"format": "other"}, "not the header of a graph store"),
        ({"triples": 7}, "checksum"),
        ({"arrays": {}}, "checksum"),
        ({"name": "renamed"}, "checksum"),
        ({"entities": None}, "field is missing or wrong"),
    ],
)
def test_changed_headers(path: Path, change: dict[str, object], message: str) -> None:
    header = path / "header.json"
    header.write_text(json.dumps(json.loads(header.read_text()) | change))
    with pytest.raises(GraphError, match=message) as caught:
        GraphStore.open(path)
    assert "header.json" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_headers_that_are_not_json(path: Path, data: bytes) -> None:
    (path / "header.json").write_bytes(data)
    with pytest.raises(GraphError, match=r"header\.json"):
        GraphStore.open(path)


def test_places_without_a_store(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(GraphError, match="not a graph store"):
            GraphStore.open(place)


def test_pickle_by_path_and_by_content(path: Path) -> None:
    disk, memory = GraphStore.open(path, max_results=2), sample(max_results=2)
    expected = observe(memory)
    assert len(pickle.dumps(disk)) < 500
    for graph in (disk, memory):
        copy = pickle.loads(pickle.dumps(graph))
        assert observe(copy) == expected
        assert (copy.path, copy.max_results) == (graph.path, 2)


def test_worker_processes_and_threads_share_a_store(path: Path) -> None:
    graph = GraphStore.open(path)
    expected = observe(graph)
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        assert all(result == expected for result in threads.map(observe, [graph] * 8))
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
        assert processes.submit(observe, graph).result(timeout=60) == expected


def test_close(path: Path) -> None:
    graph, other = GraphStore.open(path), GraphStore.open(path)
    graph.close()
    graph.close()
    with pytest.raises(GraphServerError, match="closed"):
        graph.execute([])
    assert graph.info().triples == other.info().triples
    assert observe(other)
    with GraphStore.open(path) as third:
        assert observe(third)
    with pytest.raises(GraphServerError, match="closed"):
        third.save(path.parent / "copy")


def test_max_results_cuts_names_and_keeps_the_total() -> None:
    graph = GraphStore.from_triples([("a", f"r{i % 5}", f"b{i:02}") for i in range(60)], max_results=3)
    entities, relations = ask(graph, TAIL_ENTITIES, "a", "r0"), ask(graph, TAIL_RELATIONS, "a")
    assert (entities.names, entities.total) == (("b00", "b05", "b10"), 12)
    assert (relations.names, relations.total) == (("r0", "r1", "r2"), 5)


def test_wide_numbers_sort_like_narrow_ones() -> None:
    """Triples whose three numbers do not fit one 64-bit key take another way to the same order."""
    import numpy as np

    from kgr1.graph.encode import _sort_unique

    draw = np.random.default_rng(3)
    first, second, third = (draw.integers(0, 9, 500) for _ in range(3))
    packed = _sort_unique(first, second, third, 9, 9)
    columns = _sort_unique(first, second, third, 2**31 - 1, 2**20)
    assert len(packed[0]) < 500
    assert all((a == b).all() for a, b in zip(packed, columns, strict=True))
