"""Retrieval against its peers in one run: a linear scan, pyoxigraph in memory, Virtuoso over HTTP.

    python benchmarks/peers.py NAME=TRIPLES.tsv.gz ... [--questions QUESTIONS.jsonl.gz --question-graphs 100]
        [--queries 2000] [--batches 300] [--seed 0] [--out RESULTS.json]

For every graph the four operations are drawn from its triples, so that hubs are asked as often as they occur, and all
systems answer the same queries; a sample of the answers is compared before anything is timed.

store            :class:`kgr1.graph.GraphStore` in this process, one query a call, each asked for the first time
store, again     the same for queries that were asked before, as the episodes of a group do
store, HTTP      ``kgr1 serve`` in a process of its own, batches of 64 from one client
scan             a pass over the list of triples for every query, as the method's released server does
pyoxigraph       ``Store.quads_for_pattern`` in memory in this process, its fastest way to do this
pyoxigraph, SPARQL    the same store asked with a SELECT
Virtuoso         one SELECT a query over HTTP on loopback with the connection kept, left out if it is not installed

With ``--questions`` the first graph is also cut into one graph a question: the triples around its topics, nearest
first, at most ``--ball`` of them. The scan then reads only the triples of that question.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import httpx
import pyoxigraph as ox
from numbers_file import save_numbers
from operations import scan_answer

from kgr1.graph import GraphStore
from kgr1.server.client import GraphClient
from kgr1.types import Operation, Query

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "graph"))

Triples = list[tuple[str, str, str]]
Graphs = dict[str | None, Triples]  # by the id of the question; None is the whole graph
Answerer = Callable[[Query], list[str]]

BATCH = 64
ROUND_S = 2.0
ROUNDS = 3
BASE = "http://example.org/"


class Setting(NamedTuple):
    """One graph to measure on."""

    name: str
    store: GraphStore
    graphs: Graphs


def main() -> None:
    """Measure every graph, print a table and save the numbers."""
    options = _options()
    results = []
    for setting in settings(options):
        results.append(measure(setting, options))
        print(table(results), flush=True)
        if options.out:
            save_numbers(options.out, results)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graphs", nargs="+", metavar="NAME=FILE", help="triples: TSV, also gzipped")
    parser.add_argument("--questions", type=Path, help="JSON lines with topic_entities, for question graphs")
    parser.add_argument("--question-graphs", type=int, default=100)
    parser.add_argument("--ball", type=int, default=4000, help="triples of a question graph")
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--batches", type=int, default=300, help="batches of 64 sent over HTTP")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def settings(options: argparse.Namespace) -> Iterator[Setting]:
    """The graphs to measure on, opened one after the other."""
    for number, argument in enumerate(options.graphs):
        name, _, path = argument.partition("=")
        with gzip.open(path, "rt", encoding="utf-8") as file:
            rows = {tuple(line.rstrip("\n").split("\t")[:3]) for line in file}
        triples = sorted((head, relation, tail) for head, relation, tail in rows)
        store = GraphStore.from_triples(triples, name=name)
        if number == 0 and options.questions:
            graphs = question_graphs(store, options)
            yield Setting(f"{name}, question graphs", GraphStore.from_question_graphs(graphs, name=name), {**graphs})
        yield Setting(name, store, {None: triples})


def question_graphs(store: GraphStore, options: argparse.Namespace) -> dict[str, Triples]:
    """The nearest ``ball`` triples around the topics of some questions; only full ones."""
    graphs: dict[str, Triples] = {}
    with gzip.open(options.questions, "rt", encoding="utf-8") as file:
        for line in file:
            question = json.loads(line)
            triples = _ball(store, question["topic_entities"], options.ball)
            if len(triples) == options.ball:
                graphs[str(question["id"])] = triples
            if len(graphs) == options.question_graphs:
                break
    return graphs


def _ball(store: GraphStore, topics: Sequence[str], count: int) -> Triples:
    reached = [entity for topic in topics for entity in store.entities.find(topic)]
    seen = set(reached)
    triples: dict[tuple[str, str, str], None] = {}
    name = store.entities.name
    for entity in reached:
        for edges, outgoing in ((store.outgoing, True), (store.incoming, False)):
            for relation in edges.relations(entity):
                label = store.relations.name(relation)
                for other in edges.neighbours(entity, relation):
                    ends = (name(entity), name(other)) if outgoing else (name(other), name(entity))
                    triples[(ends[0], label, ends[1])] = None
                    if len(triples) == count:
                        return sorted(triples)
                    if other not in seen:
                        seen.add(other)
                        reached.append(other)
    return sorted(triples)


def draw(graphs: Graphs, count: int, seed: int) -> list[Query]:
    """Queries with a result, of all four operations."""
    rng = random.Random(seed)
    ids = sorted(graphs, key=str)
    queries = []
    for number in range(count):
        operation = list(Operation)[number % 4]
        graph_id = rng.choice(ids)
        head, relation, tail = rng.choice(graphs[graph_id])
        queries.append(
            Query(
                operation=operation,
                entity=head if operation.outgoing else tail,
                relation=relation if operation.takes_relation else None,
                graph_id=graph_id,
            )
        )
    return queries


def measure(setting: Setting, options: argparse.Namespace) -> dict[str, Any]:
    """Operations per second of every system on one graph, and the latency of batches over HTTP."""
    queries = draw(setting.graphs, options.queries, options.seed)
    with ExitStack() as stack:
        systems: dict[str, Answerer] = {
            "store": lambda query: list(setting.store.execute([query])[0].names),
            "scan": lambda query: scan_answer(setting.graphs[query.graph_id], query),
        }
        oxigraph = ox.Store()
        oxigraph.bulk_extend(quads(setting.graphs))
        systems["pyoxigraph"] = lambda query: by_pattern(oxigraph, query)
        systems["pyoxigraph, SPARQL"] = lambda query: by_select(oxigraph, query)
        with suppress(FileNotFoundError):
            systems["Virtuoso"] = stack.enter_context(virtuoso(setting.graphs))
        for query in queries[:40]:
            answers = {name: sorted(answer(query)) for name, answer in systems.items()}
            if any(names != answers["store"] for names in answers.values()):
                raise SystemExit(f"The systems do not agree on {query.to_text()}: {answers}")
        # The store keeps recent results, so that only the first pass over distinct queries looks everything up.
        fresh = list(dict.fromkeys(draw(setting.graphs, 2 * options.queries, options.seed + 2)))
        first = speed(systems["store"], fresh)
        speeds: dict[str, list[float]] = {name: [] for name in systems}
        for _ in range(ROUNDS):
            for name, answer in systems.items():
                speeds[name].append(speed(answer, queries))
        medians = {name: statistics.median(values) for name, values in speeds.items()}
        medians["store, asked before"] = medians["store"]
        medians["store"] = first
        batches = http_batches(stack, setting, options)
    sizes = [len(triples) for triples in setting.graphs.values()]
    return {
        "graph": setting.name,
        "graphs": len(sizes),
        "triples": statistics.median(sizes),
        "operations_per_s": medians,
        "http": batches,
    }


def speed(answer: Answerer, queries: Sequence[Query]) -> float:
    """Operations per second, over at most about :data:`ROUND_S`."""
    started = time.perf_counter()
    done = 0
    for query in queries:
        answer(query)
        done += 1
        if time.perf_counter() - started > ROUND_S:
            break
    return done / (time.perf_counter() - started)


def http_batches(stack: ExitStack, setting: Setting, options: argparse.Namespace) -> dict[str, float]:
    """Send batches of 64 to a server in another process, one after the other."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    setting.store.save(folder / "graph")
    command = [str(Path(sys.executable).with_name("kgr1")), "serve", str(folder / "graph"), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    stack.callback(process.wait, 30)
    stack.callback(process.terminate)
    assert process.stdout is not None
    url = ""
    for line in process.stdout:
        url = next((word.rstrip(".,/") for word in line.split() if word.startswith("http://")), "")
        if url:
            break
    queries = draw(setting.graphs, BATCH * options.batches, options.seed + 1)
    gc.collect()
    gc.freeze()  # the peers and their triples live in this process, and a client's usually does not hold them
    with GraphClient(url) as client:
        client.execute(queries[:BATCH])
        seconds = []
        for start in range(0, len(queries), BATCH):
            began = time.perf_counter()
            client.execute(queries[start : start + BATCH])
            seconds.append(time.perf_counter() - began)
    return {
        "operations_per_s": len(queries) / sum(seconds),
        "p50_ms": 1000 * statistics.median(seconds),
        "p99_ms": 1000 * statistics.quantiles(seconds, n=100)[98],
    }


def node(name: str) -> ox.NamedNode:
    """A plain name as an IRI."""
    return ox.NamedNode(BASE + quote(name, safe=""))


def graph_node(graph_id: str | None) -> ox.NamedNode:
    """The named graph of a question."""
    return node(f"graph-{graph_id}")


def quads(graphs: Graphs) -> Iterator[ox.Quad]:
    """All triples in their named graphs."""
    for graph_id, triples in graphs.items():
        graph = graph_node(graph_id)
        for head, relation, tail in triples:
            yield ox.Quad(node(head), node(relation), node(tail), graph)


def by_pattern(store: ox.Store, query: Query) -> list[str]:
    """The four operations by pattern; names come back as pyoxigraph gives them, decoded."""
    entity = node(query.entity)
    relation = node(query.relation) if query.relation is not None else None
    subject, object_ = (entity, None) if query.operation.outgoing else (None, entity)
    found = store.quads_for_pattern(subject, relation, object_, graph_node(query.graph_id))
    if relation is None:
        return decode({quad.predicate.value for quad in found})
    if query.operation.outgoing:
        return decode({quad.object.value for quad in found})
    return decode({quad.subject.value for quad in found})


def select(query: Query) -> str:
    """The operation as SPARQL."""
    entity = node(query.entity)
    relation = node(query.relation) if query.relation is not None else None
    pattern = f"{entity} {relation or '?x'} " if query.operation.outgoing else ""
    if query.operation.outgoing:
        pattern += "?y" if relation is None else "?x"
    else:
        pattern = f"?y ?x {entity}" if relation is None else f"?x {relation} {entity}"
    return f"SELECT DISTINCT ?x WHERE {{ GRAPH {graph_node(query.graph_id)} {{ {pattern} }} }}"


def by_select(store: ox.Store, query: Query) -> list[str]:
    """The same with a SELECT."""
    return decode({solution["x"].value for solution in store.query(select(query))})


def decode(iris: set[str]) -> list[str]:
    """Names of IRIs, sorted."""
    return sorted(unquote(iri[len(BASE) :]) for iri in iris)


@contextmanager
def virtuoso(graphs: Graphs) -> Iterator[Answerer]:
    """A Virtuoso of our own on loopback, loaded with the graphs. Raises FileNotFoundError if it is not installed."""
    from sparql_servers import VIRTUOSO
    from sparql_servers import virtuoso as running

    if VIRTUOSO is None:
        raise FileNotFoundError("virtuoso-t")
    with running() as server, httpx.Client(timeout=60, trust_env=False) as client:
        for graph_id, triples in graphs.items():
            lines = (f"{node(h)} {node(r)} {node(t)} .\n" for h, r, t in triples)
            server.load(lines, graph_node(graph_id).value)

        def answer(query: Query) -> list[str]:
            response = client.post(
                server.url, data={"query": select(query)}, headers={"accept": "application/sparql-results+json"}
            )
            response.raise_for_status()
            return decode({row["x"]["value"] for row in response.json()["results"]["bindings"]})

        yield answer


def table(results: Sequence[dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines = [
        "| graph | triples | store ops/s | again | : scan | again | : pyoxigraph | : pyoxigraph SPARQL "
        "| HTTP ops/s | HTTP : Virtuoso | batch p50 | batch p99 |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in results:
        speeds, http = row["operations_per_s"], row["http"]

        def ratio(peer: str, own: float = speeds["store"], speeds: dict[str, float] = speeds) -> str:
            return f"{own / speeds[peer]:,.1f}" if peer in speeds else "-"

        lines.append(
            f"| {row['graph']} | {row['triples']:,.0f} | {speeds['store']:,.0f} "
            f"| {speeds['store, asked before']:,.0f} | {ratio('scan')} "
            f"| {ratio('scan', speeds['store, asked before'])} "
            f"| {ratio('pyoxigraph')} | {ratio('pyoxigraph, SPARQL')} "
            f"| {http['operations_per_s']:,.0f} | {ratio('Virtuoso', http['operations_per_s'])} "
            f"| {http['p50_ms']:.1f} ms | {http['p99_ms']:.1f} ms |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
