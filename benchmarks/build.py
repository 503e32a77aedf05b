"""Building stores of growing size: rate, memory, bytes a triple, time to open, latency of lookups.

    python benchmarks/build.py [--sizes 1e6,1e7,1e8] [--folder DIR] [--oxigraph] [--virtuoso]

For each size a random graph is written as a gzipped TSV file, built in a process of its own, opened, checked and asked.
Without ``--labels`` names of entities stand in the triples; with ``--labels 0.5`` short codes do, and a names file
gives half of them a name (see random_graph.py).
``--oxigraph`` loads the same triples into pyoxigraph (as N-Triples, into a store on disk) beside it, within the limits
of time and memory, and ``--virtuoso`` into a Virtuoso of its own with its bulk loader. Every finished measurement is
kept in ``results.json``, so that a run that was stopped goes on where it was (``--again`` measures anew); table.md and
growth.png are drawn from it.

Cold lookups: after the system was asked to forget the pages of the store. Numbers depend on the machine and on what
else it does.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from random_graph import CHUNK, entity_count, facts, label_names

COLD, WARM = 200, 5000  # lookups measured
CHECKED = 500  # triples of a chunk that are looked for in the store

Result = dict[str, Any]


def main() -> None:
    """Measure all sizes and print the table."""
    options = _options()
    if options.step:
        print(json.dumps(STEPS[options.step](options)))
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    for size in options.sizes:
        measure(options, size)
    results = read_results(options.folder)
    table = markdown(results)
    (options.folder / "table.md").write_text(table + "\n")
    print(table)
    plot(results, options.folder / "growth.png")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=_sizes, default=_sizes("1e6,1e7,1e8"), help="triples, comma-separated")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark-build"), help="for files and results")
    parser.add_argument("--labels", type=float, default=0.0, help="share of the entities that have a label")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory-gb", type=float, default=6.0, help="limit for the peers")
    parser.add_argument("--limit-s", type=float, default=3600.0, help="limit for a peer")
    parser.add_argument("--oxigraph", action="store_true", help="load the same triples into pyoxigraph")
    parser.add_argument("--virtuoso", action="store_true", help="load them into Virtuoso (virtuoso-t)")
    parser.add_argument("--again", action="store_true", help="measure even if there is a result")
    parser.add_argument("--keep", action="store_true", help="keep sources and stores")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    return parser.parse_args()


def _sizes(text: str) -> list[int]:
    return [int(float(part)) for part in text.split(",")]


def measure(options: argparse.Namespace, size: int) -> None:
    """All steps of one size, each in a process of its own; what has a result is passed over."""
    folder = options.folder / f"{size}-{options.labels:g}"
    steps = ["generate", "build", "cold", "warm"] + [peer for peer in PEERS if getattr(options, peer)]
    for step in steps:
        done = read_results(options.folder).get(folder.name, {})
        source_gone = step != "generate" and not (folder / "kg.tsv.gz").exists()
        if step in done and not options.again and (step != "generate" or not _missing(done, steps)):
            continue
        if source_gone:
            _step(options, size, folder, "generate")
        if step in ("cold", "warm") and not (folder / "store").exists():
            _step(options, size, folder, "build")
        _step(options, size, folder, step)
    if not options.keep:
        shutil.rmtree(folder, ignore_errors=True)


def _missing(done: Result, steps: list[str]) -> bool:
    return any(step not in done for step in steps)


def _step(options: argparse.Namespace, size: int, folder: Path, step: str) -> None:
    folder.mkdir(exist_ok=True)
    print(f"{size:,} triples: {step} ...", file=sys.stderr, flush=True)
    arguments = ["--folder", folder, "--sizes", size, "--labels", options.labels, "--seed", options.seed]
    arguments += ["--memory-gb", options.memory_gb, "--limit-s", options.limit_s, "--step", step]
    limit = options.limit_s if step in PEERS else None
    started = time.perf_counter()
    result: Result
    try:
        done = subprocess.run(
            [sys.executable, __file__, *map(str, arguments)], stdout=subprocess.PIPE, timeout=limit, check=False
        )
        result = json.loads(done.stdout) if done.returncode == 0 else {"failed": f"exit status {done.returncode}"}
    except subprocess.TimeoutExpired:
        result = {"failed": f"not done after {limit:,.0f} s"}
    result["wall_s"] = time.perf_counter() - started
    results = read_results(options.folder)
    results.setdefault(folder.name, {"triples": size, "labels": options.labels})[step] = result
    temporary = options.folder / "results.json.new"
    temporary.write_text(json.dumps(results, indent=1))
    temporary.replace(options.folder / "results.json")
    if "failed" in result and step not in PEERS:
        raise SystemExit(f"{step} of {size:,} triples: {result['failed']}")


def read_results(folder: Path) -> dict[str, Result]:
    """What was measured so far, by size."""
    path = folder / "results.json"
    return json.loads(path.read_text()) if path.exists() else {}


# -- measurements


def write(path: Path, chunk: Callable[[int], tuple[int, bytes]], size: int) -> int:
    """Write gzipped chunks, two made at a time; returns the bytes of their text."""
    total = 0
    with path.open("wb") as file, ThreadPoolExecutor(2) as pool:
        for low in range(0, size, 4 * CHUNK):  # few at a time, so that memory stays small whatever the size
            for length, data in pool.map(chunk, range(low, min(low + 4 * CHUNK, size), CHUNK)):
                file.write(data)
                total += length
    return total


def generate(options: argparse.Namespace) -> Result:
    """Write ``kg.tsv.gz``, and ``names.tsv.gz`` if there are labels."""
    size = options.sizes[0]
    started = time.perf_counter()

    def tsv(frame: pl.DataFrame) -> tuple[int, bytes]:
        text = frame.write_csv(separator="\t", include_header=False, quote_style="never").encode()
        return len(text), gzip.compress(text, 4)

    def fact_chunk(start: int) -> tuple[int, bytes]:
        return tsv(facts(size, options.seed, options.labels, start))

    def label_chunk(start: int) -> tuple[int, bytes]:
        return tsv(label_names(size, options.seed, options.labels, start))

    path = options.folder / "kg.tsv.gz"
    text = write(path, fact_chunk, size)
    if options.labels:
        write(options.folder / "names.tsv.gz", label_chunk, entity_count(size))
    return {"seconds": time.perf_counter() - started, "text_bytes": text, "bytes": path.stat().st_size}


def build(options: argparse.Namespace) -> Result:
    """Build the store."""
    from kgr1.graph.build import BuildProgress, build_graph

    stages: dict[str, float] = {}
    started = time.perf_counter()

    def note(progress: BuildProgress) -> None:
        stages.setdefault(progress.stage, time.perf_counter() - started)

    names = options.folder / "names.tsv.gz"
    report = build_graph(
        [options.folder / "kg.tsv.gz"],
        options.folder / "store",
        names=names if names.exists() else None,
        on_progress=note,
        force=True,
    )
    used = os.times()
    return report.model_dump() | {"cpu_s": used.user + used.system, "stages": stages}


def _sample(folder: Path, count: int, seed: int) -> tuple[list[str], float]:
    """Display names of random entities, and the seconds that opening took."""
    from kgr1.graph import GraphStore

    started = time.perf_counter()
    with GraphStore.open(folder) as store:
        seconds = time.perf_counter() - started
        rng = np.random.default_rng(seed)
        numbers = rng.integers(0, len(store.entities), count)
        return [store.entities.name(int(number)) for number in numbers], seconds


def _ask(store: Any, names: list[str]) -> list[float]:
    """Seconds of a relation and an entity query for each name."""
    from kgr1.types import Operation, Query

    times = []
    for name in names:
        started = time.perf_counter()
        (found,) = store.execute([Query(operation=Operation.GET_TAIL_RELATIONS, entity=name)])
        if found.names:
            query = Query(operation=Operation.GET_TAIL_ENTITIES, entity=name, relation=found.names[0])
            store.execute([query])
        times.append(time.perf_counter() - started)
    return times


def _forget(folder: Path) -> None:
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def cold(options: argparse.Namespace) -> Result:
    """Opening, and the first lookups, when nothing of the store is in memory."""
    from kgr1.graph import GraphStore

    folder = options.folder / "store"
    names, _ = _sample(folder, COLD, options.seed)
    _forget(folder)
    started = time.perf_counter()
    with GraphStore.open(folder) as store:
        opened = time.perf_counter() - started
        times = _ask(store, names)
    return {"open_s": opened, "median_ms": statistics.median(times) * 1e3, "p99_ms": _p99(times)}


def warm(options: argparse.Namespace) -> Result:
    """Lookups of other names than were asked before, with the files in memory as far as they fit."""
    from kgr1.graph import GraphStore

    folder = options.folder / "store"
    for path in folder.iterdir():
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass
    names, _ = _sample(folder, 2 * WARM, options.seed)
    with GraphStore.open(folder) as store:
        _check(store, options)
        _ask(store, names[:WARM])
        times = _ask(store, names[WARM:])
    return {"median_ms": statistics.median(times) * 1e3, "p99_ms": _p99(times)}


def _check(store: Any, options: argparse.Namespace) -> None:
    """Stop unless the store holds what the source does: triples of its first and last chunk, by identifier."""
    from kgr1.types import Operation, Query

    size = options.sizes[0]
    for start in {0, (size - 1) // CHUNK * CHUNK}:
        for head, relation, tail in facts(size, options.seed, options.labels, start)[-CHECKED:].rows():
            query = Query(operation=Operation.GET_TAIL_ENTITIES, entity=head, relation=relation)
            (found,) = store.execute([query])
            if tail not in found.ids:
                raise SystemExit(f"The store lacks {(head, relation, tail)}.")


def _p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)] * 1e3


def oxigraph(options: argparse.Namespace) -> Result:
    """Bulk load of the same triples by pyoxigraph."""
    import pyoxigraph

    limit = int(options.memory_gb * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    size = options.sizes[0]
    path, store = options.folder / "kg.nt", options.folder / "oxigraph"
    shutil.rmtree(store, ignore_errors=True)
    _write_ntriples(path, options)
    started = time.perf_counter()
    graph = pyoxigraph.Store(str(store))
    graph.bulk_load(path=str(path), format=pyoxigraph.RdfFormat.N_TRIPLES)
    seconds = time.perf_counter() - started
    path.unlink()
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    size_on_disk = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
    return {"seconds": seconds, "peak_memory": used, "bytes": size_on_disk, "triples": size}


def virtuoso(options: argparse.Namespace) -> Result:
    """Bulk load of the same triples by a Virtuoso that may use two thirds of the memory limit for buffers."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "graph"))
    from sparql_servers import virtuoso as running

    buffers = int(options.memory_gb * 2**30 * 2 / 3 / 8_700)
    with running(buffers=buffers, parent=options.folder.resolve()) as server:
        _write_ntriples(server.folder / "kg.nt", options)
        started = time.perf_counter()
        loaded = server.load_in_bulk("kg.nt", "http://x/graph", options.limit_s)
        seconds = time.perf_counter() - started
        size_on_disk = (server.folder / "v.db").stat().st_size
        return {"seconds": seconds, "peak_memory": server.peak_memory(), "bytes": size_on_disk, "triples": loaded}


def _write_ntriples(path: Path, options: argparse.Namespace) -> None:
    size = options.sizes[0]
    with path.open("wb") as file:
        for start in range(0, size, CHUNK):
            frame = facts(size, options.seed, options.labels, start)
            names = [pl.col(column).str.replace_all(" ", "_") for column in frame.columns]
            iris = [pl.concat_str(pl.lit("<http://x/"), name, pl.lit(">")) for name in names]
            lines = frame.select(pl.concat_str(*iris, pl.lit("."), separator=" "))
            lines.write_csv(file, include_header=False, quote_style="never")


STEPS = {"generate": generate, "build": build, "cold": cold, "warm": warm, "oxigraph": oxigraph, "virtuoso": virtuoso}
PEERS = ("oxigraph", "virtuoso")


# -- the table


def markdown(results: dict[str, Result]) -> str:
    """One row a size."""
    lines = [
        "| triples | labels | build, triples/s | CPU s | peak memory | bytes a triple | open "
        "| cold lookup, median (p99) | warm lookup, median (p99) | pyoxigraph bulk load | Virtuoso bulk load |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in sorted(results.values(), key=lambda result: (result["labels"], result["triples"])):
        if _missing(result, ["build", "cold", "warm"]) or any("failed" in result[s] for s in ("build", "cold", "warm")):
            continue
        made, first, later = result["build"], result["cold"], result["warm"]
        rows = made["triples"] + made["duplicates"]
        cells = [
            f"{result['triples']:,}",
            f"{result['labels']:.0%}",
            f"{rows / made['seconds']:,.0f}",
            f"{made['cpu_s']:,.0f}",
            f"{made['peak_memory'] / 2**30:.2f} GiB",
            f"{made['bytes'] / made['triples']:.1f}",
            f"{first['open_s'] * 1e3:.0f} ms",
            f"{first['median_ms']:.2f} ms ({first['p99_ms']:.1f})",
            f"{later['median_ms']:.3f} ms ({later['p99_ms']:.2f})",
            *(_peer(result.get(peer)) for peer in PEERS),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _peer(result: Result | None) -> str:
    if result is None:
        return "not run"
    if "failed" in result:
        return f"limit: {result['failed']}"
    rate, memory = result["triples"] / result["seconds"], result["peak_memory"] / 2**30
    return f"{rate:,.0f}/s, {memory:.2f} GiB, {result['bytes'] / result['triples']:.0f} bytes a triple"


def plot(results: dict[str, Result], path: Path) -> None:
    """Growth with size: rate of the build, memory, latency."""
    try:
        import matplotlib
    except ImportError:
        print("No plot: install matplotlib.", file=sys.stderr)
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    done = [r for r in results.values() if not _missing(r, ["build", "warm"])]
    done.sort(key=lambda result: result["triples"])
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.6), constrained_layout=True)
    panels = (
        ("triples built a second", lambda r: r["triples"] / r["build"]["seconds"]),
        ("peak memory of the build, GiB", lambda r: r["build"]["peak_memory"] / 2**30),
        ("warm lookup, median ms", lambda r: r["warm"]["median_ms"]),
    )
    for axis, (title, value) in zip(axes, panels, strict=True):
        for labels in sorted({result["labels"] for result in done}):
            chosen = [result for result in done if result["labels"] == labels]
            axis.plot([r["triples"] for r in chosen], [value(r) for r in chosen], "o-", label=f"{labels:.0%} labels")
        axis.set(xscale="log", xlabel="triples", title=title, ylim=(0, None))
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
