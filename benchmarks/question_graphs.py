"""Opening a store of many question graphs, against reading the same graphs from JSON.

    python benchmarks/question_graphs.py ROWS.jsonl.gz [--graphs 27000] [--seed 0] [--folder DIR] [--out RESULTS.json]

ROWS has one question a line, with its ``id`` and its ``graph``, a list of [head, relation, tail]. The first table row
is about these graphs. The second is about ``--graphs`` artificial ones: each is one of the real graphs with a third of
its triples exchanged for triples of another one, so that sizes, overlap and names are as in the real file.

Each number comes from a process of its own, which opens the file (or the store), answers one query in each of 100
graphs and reports seconds and memory: resident set at the end minus that after the imports.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from kgr1.graph import GraphStore
from kgr1.graph.batches import Batch
from kgr1.graph.build import build_from_batches
from kgr1.types import Operation, Query

ASKED = 100
GRAPHS_A_BATCH = 500


def main() -> None:
    """Measure the real file and the artificial one, and print a table."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]))
        return
    options = _options()
    with gzip.open(options.rows, "rt", encoding="utf-8") as file:
        real = [(row["id"], row["graph"]) for row in map(json.loads, file)]
    results = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        results.append(measure("real", lambda: iter(real), Path(folder)))
        if options.graphs:
            results.append(measure("artificial", lambda: artificial(real, options), Path(folder)))
    print(table(results))
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--graphs", type=int, default=27_000, help="artificial graphs; 0 leaves them out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where temporary files go")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


Graph = tuple[str, list[list[str]]]


def artificial(real: list[Graph], options: argparse.Namespace) -> Iterator[Graph]:
    """Graphs that are like the real ones and all different."""
    draw = random.Random(options.seed)
    for number in range(options.graphs):
        own, other = draw.choice(real)[1], draw.choice(real)[1]
        third = len(own) // 3
        yield f"q-{number}", own[third:] + draw.sample(other, min(third, len(other)))


def measure(name: str, graphs: Any, folder: Path) -> dict[str, Any]:
    """Write the graphs as JSON lines and as a store, then open both in fresh processes."""
    rows, store = folder / f"{name}.jsonl", folder / f"{name}.kg"
    count = triples = 0
    with rows.open("w", encoding="utf-8") as file:
        for graph_id, graph in graphs():
            file.write(json.dumps({"id": graph_id, "graph": graph}) + "\n")
            count += 1
            triples += len(graph)
    started = time.perf_counter()
    report = build_from_batches(batches(graphs()), store)
    built = time.perf_counter() - started
    result = {
        "name": name,
        "graphs": count,
        "rows": triples,
        "distinct triples": report.triples,
        "build_s": built,
        "json_bytes": rows.stat().st_size,
        "store_bytes": report.bytes,
    }
    for kind, path in (("json", rows), ("store", store)):
        output = subprocess.run(
            [sys.executable, __file__, "--child", kind, str(path)], check=True, capture_output=True, text=True
        )
        result[kind] = json.loads(output.stdout)
    rows.unlink()
    return result


def batches(graphs: Iterator[Graph]) -> Iterator[Batch]:
    """The graphs as a reader would give them."""
    read = 0
    part: list[Graph] = []

    def batch() -> Batch:
        columns = {
            key: [row[i] for _, graph in part for row in graph] for i, key in enumerate(("head", "relation", "tail"))
        }
        columns["graph"] = [graph_id for graph_id, graph in part for _ in graph]
        return Batch(facts=pl.DataFrame(columns), labels=None, rows=read, dropped={})

    for graph in graphs:
        part.append(graph)
        read += len(graph[1])
        if len(part) == GRAPHS_A_BATCH:
            yield batch()
            part = []
    if part:
        yield batch()


def child(kind: str, path: Path) -> None:
    """Open one file, ask it, print seconds and bytes as JSON."""
    before = resident()
    started = time.perf_counter()
    if kind == "json":
        with path.open(encoding="utf-8") as file:
            graphs = {row["id"]: row["graph"] for row in map(json.loads, file)}
        opened = time.perf_counter() - started
        for graph_id in list(graphs)[:: max(1, len(graphs) // ASKED)]:
            head = graphs[graph_id][0][0]
            assert {r for h, r, _ in graphs[graph_id] if h == head}
    else:
        store = GraphStore.open(path)
        opened = time.perf_counter() - started
        assert store.question_graphs is not None
        for number in range(0, len(store.question_graphs), max(1, len(store.question_graphs) // ASKED)):
            edges, _ = store.question_graphs.slices(number)
            name = store.entities.name(int(store.incoming.edge_neighbours[0]))
            query = Query(
                operation=Operation.GET_TAIL_RELATIONS, entity=name, graph_id=store.question_graphs.id(number)
            )
            assert store.execute([query])[0].query == query
            assert len(edges.all_positions())
    print(json.dumps({"open_s": opened, "memory_bytes": resident() - before}))


def resident() -> int:
    """Resident set of this process in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def table(results: list[dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines = [
        "| graphs | rows | store size | JSON size | opened: store | JSON | memory: store | JSON |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in results:
        own, peer = row["store"], row["json"]
        sizes = [f"{row[key] / 2**20:,.1f} MiB" for key in ("store_bytes", "json_bytes")]
        times = [f"{1000 * part['open_s']:,.1f} ms" for part in (own, peer)]
        memory = [f"{part['memory_bytes'] / 2**20:,.0f} MiB" for part in (own, peer)]
        lines.append(f"| {row['graphs']:,} | {row['rows']:,} | {' | '.join((*sizes, *times, *memory))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
