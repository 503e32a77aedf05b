"""What can be named as a graph or as questions."""

from __future__ import annotations

import gzip
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cli_process import Run, Spawn

from kgr1.cli.sources import load_question_set, open_graph, resolve_topics, store_folder
from kgr1.errors import DatasetError, GraphError, GraphServerError
from kgr1.graph import GraphStore
from kgr1.graph.build import BuildReport, build_graph
from kgr1.server.serve import BackgroundServer
from kgr1.types import Operation, Query


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KGR1_CACHE", str(tmp_path / "own cache"))
    return tmp_path / "own cache" / "graphs"


def test_a_triple_file_is_built_once_for_its_content(own_cache: Path, family: Path) -> None:
    with open_graph(str(family)) as graph:
        assert (graph.info().name, graph.info().triples) == ("family", 4)
    (first,) = own_cache.iterdir()
    made = first.stat().st_ctime_ns
    os.utime(family, (1, 1))
    with open_graph(str(family)):
        pass
    assert [path.stat().st_ctime_ns for path in own_cache.iterdir()] == [made]
    family.write_text(family.read_text() + "Dan\tlives in\tOslo\n")
    os.utime(family, (1, 1))
    with open_graph(str(family)) as graph:
        assert graph.info().triples == 5
    (second,) = own_cache.iterdir()
    assert second != first


def test_a_damaged_cache_is_built_again(own_cache: Path, family: Path) -> None:
    with open_graph(str(family)):
        pass
    (store,) = own_cache.iterdir()
    (store / "header.json").write_text("{")
    with open_graph(str(family)) as graph:
        assert graph.info().triples == 4


def test_a_cached_graph_stays_as_long_as_it_is_open(own_cache: Path, family: Path, spawn: Spawn) -> None:
    query = ("graph", "query", family, "get_tail_relations", "Dan")
    with store_folder(str(family)) as first:
        family.write_text(family.read_text() + "Dan\tlives in\tOslo\n")
        done = spawn(*query, KGR1_CACHE=str(own_cache.parent))
        assert (done.returncode, done.stdout) == (0, "lives in\n")
        with open_graph(str(family)) as graph:
            assert graph.info().triples == 5
        with closing(GraphStore.open(first, verify=True)) as store:
            assert store.info().triples == 4
    (own_cache / f"{first.name[:12]}-0123").mkdir()  # the rest of a removal that was interrupted
    with store_folder(str(family)) as second:
        assert list(own_cache.iterdir()) == [second]  # nobody has the first one open any more


@pytest.mark.parametrize("changes", [1, 9])
def test_a_file_that_changes_while_its_graph_is_built(
    own_cache: Path, family: Path, monkeypatch: pytest.MonkeyPatch, changes: int
) -> None:
    build, line = build_graph, "Dan\tlives in\tOslo\n"

    def build_and_change(*words: Any, **options: Any) -> BuildReport:
        report = build(*words, **options)
        if family.read_text().count(line) < changes:
            family.write_text(family.read_text() + line)
        return report

    monkeypatch.setattr("kgr1.graph.build.build_graph", build_and_change)
    if changes == 1:
        with open_graph(str(family)) as graph:
            assert graph.info().triples == 5
        assert len(list(own_cache.iterdir())) == 1
    else:
        with pytest.raises(GraphError, match="changes while it is read; copy it"), store_folder(str(family)):
            pass
        assert list(own_cache.iterdir()) == []


def test_a_damaged_cache_that_is_open_is_replaced(own_cache: Path, family: Path) -> None:
    with store_folder(str(family)) as folder:
        (folder / "header.json").write_text("{")
        with open_graph(str(family)) as graph:
            assert graph.info().triples == 4


def test_names_of_numbered_graphs_are_part_of_the_content(own_cache: Path, tmp_path: Path) -> None:
    numbered = tmp_path / "train_simple.json"
    numbered.write_text('{"id": "q1", "subgraph": {"tuples": [[0, 0, 1]]}}\n')
    (tmp_path / "relations.txt").write_text("r\n")
    (tmp_path / "entities.txt").write_text("Ada\nBen\n")
    query = Query(operation=Operation.GET_TAIL_ENTITIES, entity="Ada", relation="r")
    with open_graph(str(numbered)) as graph:
        assert graph.execute([query])[0].names == ("Ben",)
    (tmp_path / "entities.txt").write_text("Ada\nCleo\n")
    with open_graph(str(numbered)) as graph:
        assert graph.execute([query])[0].names == ("Cleo",)
    (tmp_path / "relations.txt").unlink()
    (tmp_path / "relations.txt.gz").write_bytes(gzip.compress(b"s\n"))
    with open_graph(str(numbered)) as graph:
        assert graph.execute([query.model_copy(update={"relation": "s"})])[0].names == ("Cleo",)
    assert len(list(own_cache.iterdir())) == 1


def test_without_a_cache_a_temporary_folder_does(family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KGR1_CACHE", str(tmp_path / "file"))
    with open_graph(str(family)) as graph:
        assert graph.info().triples == 4


def test_an_error_of_the_caller_passes_through(own_cache: Path, family: Path) -> None:
    with pytest.raises(GraphError, match="mine"), open_graph(str(family)):
        raise GraphError("mine")


def test_a_server_by_its_url(family: Path, own_cache: Path) -> None:
    store = GraphStore.from_triples([("a", "r", "b")], name="one")
    with BackgroundServer({"one": store, "two": store}) as server:
        with open_graph(f"{server.url}#two") as graph:
            assert graph.info().name == "two"
        with pytest.raises(GraphServerError, match="several graphs"), open_graph(server.url):
            pass
        with pytest.raises(GraphServerError, match="no graph 'three'"), open_graph(f"{server.url}#three"):
            pass


def test_nothing_there(run: Run, tmp_path: Path) -> None:
    assert "There is no graph at nowhere" in run("graph", "info", "nowhere", code=1).stderr
    assert "not a graph store" in run("graph", "info", tmp_path, code=1).stderr
    assert "not a server address" in run("graph", "info", "http://", code=1).stderr


def test_topics_as_the_graph_writes_them() -> None:
    store = GraphStore.from_triples([("New York", "r", "Albany")])
    assert resolve_topics(store, ["new_york", "NEW YORK", "albany"]) == ("New York", "Albany")
    with pytest.raises(GraphError, match=r'"New Yorck"; the closest is "New York"'):
        resolve_topics(store, ["Albany", "New Yorck"])


def test_embedded_questions() -> None:
    drawn = load_question_set("countries", split="dev", limit=5, seed=1)
    assert len(drawn) == 5
    assert {question.split for question in drawn} == {"dev"}
    assert load_question_set("countries", split="dev", limit=5, seed=1) == drawn
    with pytest.raises(DatasetError, match=r"raise agent\.max_turns"):
        load_question_set("countries", max_turns=2)
    with pytest.raises(DatasetError, match="no subsets"):
        load_question_set("countries", subset="x")


def test_question_files(tmp_path: Path) -> None:
    lines = [f'{{"id": "{n}", "question": "q{n}?", "topic_entities": ["a"], "answers": ["b"]}}' for n in range(9)]
    (tmp_path / "questions.jsonl").write_text("\n".join(lines))
    everything = load_question_set(str(tmp_path))
    assert [question.id for question in everything] == [str(n) for n in range(9)]
    assert len(load_question_set(str(tmp_path), limit=4, seed=3)) == 4
    with pytest.raises(DatasetError, match="no split 'test'"):
        load_question_set(str(tmp_path), split="test")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DatasetError, match="no question"):
        load_question_set(str(tmp_path / "empty.jsonl"))


def test_a_sparql_endpoint_by_its_url(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyoxigraph")
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "graph")
    from sparql_servers import oxigraph

    from kgr1.graph.sparql import to_ntriples

    with oxigraph() as server:
        namespace, graph = "http://kgr1.example/", "http://kgr1.example/graph"
        server.load(
            to_ntriples([("ada", "parent of", "Ben"), ("ada", "parent of", "Cleo")], namespace=namespace), graph
        )
        spec = f"sparql+{server.url}#graph={graph}&namespace={namespace}"
        with open_graph(spec) as opened:
            assert opened.info().triples == 2
        assert run("graph", "query", spec, "get_tail_entities", "Ada", "parent of").stdout == "Ben\nCleo\n"
        info = run("graph", "info", spec).stdout
        assert ["entities", "3"] in [line.split() for line in info.splitlines()]
        assert "not a server" in run("graph", "info", spec, "--verify", code=2).stderr
        (tmp_path / "options.toml").write_text(f'graph = "{graph}"\nnamespace = "{namespace}"\n', "utf-8")
        with open_graph(f"sparql+{server.url}#{tmp_path / 'options.toml'}") as opened:
            assert opened.info().relations == 1
        with pytest.raises(GraphError, match="'grap' is not an option"), open_graph(f"sparql+{server.url}#grap=x"):
            pass
    with pytest.raises(GraphServerError, match="did not answer"), open_graph(f"{spec}&retries=0"):
        pass
