"""Retrieval operations per second, in process: the graph store, a linear scan over the triples, and networkx.

    python benchmarks/operations.py [--triples 100000] [--queries 2000] [--graph FILE.tsv] [--seed 0]

All three answer the same queries in one process and one run, and their answers are compared before anything is timed.
The linear scan is what the released code of the method does for every query; networkx is the usual graph library of
Python. Rounds alternate between the systems and the median round counts, so that a busy machine hits all of them alike.
The numbers a second depend on the machine; the ratios are what the documentation may quote.

The store does more for an answer than the other two: it finds a name whatever its case and underscores, and returns
ids, counts, and an error that says how to go on. It also keeps recent results, so that the rounds after the first find
them ready, as the episodes of a group do; the last line is for a fresh store, asked every query once in random order.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import networkx as nx

from kgr1.graph import GraphStore
from kgr1.graph.readers import read_batches
from kgr1.types import Operation, Query

Triples = list[tuple[str, str, str]]
Answerer = Callable[[Query], list[str]]

ROUNDS = 5
SCAN_SECONDS = 1.0
"""The scan answers only as many queries a round as fit into about this time."""


def main() -> None:
    """Print operations per second of the three systems, and their ratios."""
    options = _options()
    triples = _read(options.graph) if options.graph else random_graph(options.triples, options.seed)
    started = time.perf_counter()
    store = GraphStore.from_triples(triples, name="benchmark")
    store_s = time.perf_counter() - started
    started = time.perf_counter()
    graph = nx.MultiDiGraph()
    graph.add_edges_from((head, tail, relation) for head, relation, tail in triples)
    networkx_s = time.perf_counter() - started
    info = store.info()
    print(f"{info.triples:,} triples, {info.entities:,} entities, {info.relations:,} relations, seed {options.seed}")
    print(f"made ready in {store_s:.1f} s (store) and {networkx_s:.1f} s (networkx)\n")
    systems: dict[str, Answerer] = {
        "store": lambda query: list(store.execute([query])[0].names),
        "networkx": lambda query: networkx_answer(graph, query),
        "scan": lambda query: scan_answer(triples, query),
    }
    print(
        f"{'operation':<20}{'store/s':>12}{'networkx/s':>12}{'scan/s':>12}{'store : networkx':>18}{'store : scan':>15}"
    )
    speeds: list[dict[str, float]] = []
    mixed: list[Query] = []
    for operation in Operation:
        queries = make_queries(triples, operation, options.queries, options.seed)
        check_equal(systems, queries)
        speeds.append(measure(systems, queries))
        mixed += queries
        print(_line(operation.value, speeds[-1]))
    print(_line("all four, equally", {name: statistics.harmonic_mean([s[name] for s in speeds]) for name in systems}))
    random.Random(options.seed).shuffle(mixed)
    fresh = GraphStore.from_triples(triples, name="benchmark")
    cold = speed_of(lambda query: list(fresh.execute([query])[0].names), mixed)
    against = speed_of(systems["networkx"], mixed)
    print(f"{'mixed, nothing kept':<20}{cold:>12,.0f}{against:>12,.0f}{'':>12}{cold / against:>18.2f}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triples", type=int, default=100_000, help="size of the random graph")
    parser.add_argument("--queries", type=int, default=2000, help="queries for each operation")
    parser.add_argument("--graph", type=Path, help="a file of triples instead of the random graph")
    parser.add_argument("--seed", type=int, default=0, help="of the graph and of the queries")
    return parser.parse_args()


def _read(path: Path) -> Triples:
    facts = (batch.facts for batch in read_batches([path]) if batch.facts is not None)
    return sorted({triple for frame in facts for triple in frame.rows()})


def _line(name: str, speed: dict[str, float]) -> str:
    against_networkx, against_scan = speed["store"] / speed["networkx"], speed["store"] / speed["scan"]
    numbers = "".join(f"{speed[system]:>12,.0f}" for system in ("store", "networkx", "scan"))
    return f"{name:<20}{numbers}{against_networkx:>18.2f}{against_scan:>15,.0f}"


def random_graph(count: int, seed: int) -> Triples:
    """Distinct triples whose entities and relations are used as unevenly as in real graphs (a few hubs)."""
    rng = random.Random(seed)
    entities, relations = max(10, count // 4), max(2, min(400, count // 100))
    triples: set[tuple[str, str, str]] = set()
    while len(triples) < count:
        head, relation, tail = (
            int(size * rng.random() ** power) for size, power in ((entities, 2), (relations, 3), (entities, 2))
        )
        triples.add((f"Entity {head}", f"relation_{relation}", f"Entity {tail}"))
    return sorted(triples)


def make_queries(triples: Triples, operation: Operation, count: int, seed: int) -> list[Query]:
    """Queries that have a result, drawn from the triples, so that hubs are asked as often as they occur."""
    rng = random.Random(f"{seed}:{operation}")
    queries = []
    for head, relation, tail in rng.choices(triples, k=count):
        entity = head if operation.outgoing else tail
        queries.append(
            Query(operation=operation, entity=entity, relation=relation if operation.takes_relation else None)
        )
    return queries


def scan_answer(triples: Triples, query: Query) -> list[str]:
    """One pass over all triples."""
    entity, relation = query.entity, query.relation
    match query.operation:
        case Operation.GET_TAIL_RELATIONS:
            return sorted({r for h, r, _ in triples if h == entity})
        case Operation.GET_HEAD_RELATIONS:
            return sorted({r for _, r, t in triples if t == entity})
        case Operation.GET_TAIL_ENTITIES:
            return sorted({t for h, r, t in triples if h == entity and r == relation})
        case Operation.GET_HEAD_ENTITIES:
            return sorted({h for h, r, t in triples if t == entity and r == relation})


def networkx_answer(graph: nx.MultiDiGraph, query: Query) -> list[str]:
    """The edges of one node of a multigraph whose edge keys are the relations."""
    entity, relation = query.entity, query.relation
    match query.operation:
        case Operation.GET_TAIL_RELATIONS:
            return sorted({r for _, _, r in graph.out_edges(entity, keys=True)})
        case Operation.GET_HEAD_RELATIONS:
            return sorted({r for _, _, r in graph.in_edges(entity, keys=True)})
        case Operation.GET_TAIL_ENTITIES:
            return sorted(t for t, keys in graph.succ[entity].items() if relation in keys)
        case Operation.GET_HEAD_ENTITIES:
            return sorted(h for h, keys in graph.pred[entity].items() if relation in keys)


def check_equal(systems: dict[str, Answerer], queries: Sequence[Query], sample: int = 50) -> None:
    """Stop unless all systems answer a sample of the queries alike."""
    for query in queries[:sample]:
        answers = {name: sorted(answer(query)) for name, answer in systems.items()}
        if len({tuple(names) for names in answers.values()}) != 1:
            raise SystemExit(f"The systems do not agree on {query.to_text()}: {answers}")


def measure(systems: dict[str, Answerer], queries: Sequence[Query]) -> dict[str, float]:
    """Median over rounds of the operations per second of each system."""
    budget = {name: len(queries) for name in systems}
    budget["scan"] = max(3, min(len(queries), int(speed_of(systems["scan"], queries[:1]) * SCAN_SECONDS / ROUNDS)))
    speeds: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(ROUNDS):
        for name, answer in systems.items():
            speeds[name].append(speed_of(answer, queries[: budget[name]]))
    return {name: statistics.median(values) for name, values in speeds.items()}


def speed_of(answer: Answerer, queries: Sequence[Query]) -> float:
    """Operations per second of one pass over the queries."""
    gc.collect()
    gc.disable()
    try:
        started = time.perf_counter()
        for query in queries:
            answer(query)
        return len(queries) / (time.perf_counter() - started)
    finally:
        gc.enable()


if __name__ == "__main__":
    main()
