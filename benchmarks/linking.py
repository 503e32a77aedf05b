"""Topic entities found in the text of questions, against the topics that the question sets give.

    python benchmarks/linking.py FOLDER [FOLDER ...] [--limit 500] [--split test] [--change lower] [--show]

A folder holds ``questions.jsonl.gz`` (or ``questions.jsonl``) in the plain format and a graph as ``kg.tsv.gz`` or
``tkg.tsv.gz``, whose columns after the third (dates) are passed over. Questions without topics are left out. For each
folder:

- exact: the linked topics are the given topics, no more and no fewer (at most three are linked);
- any: at least one given topic is linked;
- R@1, R@3: the share of the given topics among the first one or three of all names found, by score;
- ms: CPU time for one question, median and 95th percentile, in one process.

``--change lower`` asks every question in lower case, ``--change typo`` with one letter of one given topic changed, left
out, doubled or swapped with the next (in names of five letters or more).

A linked name counts if it is the given one, or has the same lookup key.
"""

from __future__ import annotations

import argparse
import gzip
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kgr1.agent.link import find_links, link
from kgr1.datasets.plain import load_questions
from kgr1.graph import GraphStore
from kgr1.graph.names import lookup_key
from kgr1.types import Question


class Row(NamedTuple):
    """How well the topics of one question were found."""

    exact: bool
    any: bool
    recall_1: float
    recall_3: float
    seconds: float


def main() -> None:
    """Print one line a folder, and the questions that failed if asked to."""
    options = _options()
    print(f"{'folder':<20}{'questions':>10}{'exact':>8}{'any':>8}{'R@1':>8}{'R@3':>8}{'ms p50':>9}{'ms p95':>9}")
    means = []
    for folder in options.folders:
        graph = GraphStore.from_triples(read_graph(folder), name=folder.name)
        questions = load_questions(folder, split=options.split, seed=options.seed)
        asked = [question for question in questions if question.topics][: options.limit]
        rng = random.Random(options.seed)
        rows = [measure(changed(question, options.change, rng), graph, show=options.show) for question in asked]
        means.append(_print(folder.name, rows))
    if len(means) > 1:
        print(f"{'mean':<20}{'':>10}" + "".join(f"{statistics.mean(m):>8.3f}" for m in zip(*means, strict=True)))


def measure(question: Question, graph: GraphStore, *, show: bool = False) -> Row:
    """Link one question and compare."""
    wanted = {lookup_key(topic) for topic in question.topics}
    started = time.process_time()
    linked = link(question.text, graph)
    seconds = time.process_time() - started
    found = [lookup_key(each.name) for each in find_links(question.text, graph)]
    chosen = {lookup_key(each.name) for each in linked}
    if show and chosen != wanted:
        scores = ", ".join(f"{each.name} {each.score:.2f}" for each in linked)
        print(f"  {question.text} | {', '.join(question.topics)} | {scores}")
    return Row(
        exact=chosen == wanted,
        any=bool(chosen & wanted),
        recall_1=len(wanted & set(found[:1])) / len(wanted),
        recall_3=len(wanted & set(found[:3])) / len(wanted),
        seconds=seconds,
    )


def changed(question: Question, change: str, rng: random.Random) -> Question:
    """The question in lower case, or with a typing error in a topic, or as it is."""
    text = question.text.casefold() if change == "lower" else question.text
    lower = text.casefold()
    begins = [(lower.find(topic.casefold()), len(topic)) for topic in question.topics if len(topic) > 4]
    places = [begin + i for begin, length in begins if begin >= 0 for i in range(length - 1)]
    letters = [place for place in places if len(text[place : place + 2]) == 2 and text[place : place + 2].isalpha()]
    if change == "typo" and letters:
        place = rng.choice(letters)
        here, following = text[place], text[place + 1]
        error = rng.choice(
            [("a" if here == "e" else "e") + following, following, here * 2 + following, following + here]
        )
        text = text[:place] + error + text[place + 2 :]
    return question.model_copy(update={"text": text})


def read_graph(folder: Path) -> Iterator[tuple[str, str, str]]:
    """The triples of a folder without dates."""
    source = next((folder / name for name in ("kg.tsv.gz", "tkg.tsv.gz") if (folder / name).is_file()), None)
    if source is None:
        raise SystemExit(f"There is neither kg.tsv.gz nor tkg.tsv.gz in {folder}.")
    with gzip.open(source, "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            head, relation, tail = line.rstrip("\n").split("\t")[:3]
            yield head, relation, tail


def _print(name: str, rows: Sequence[Row]) -> tuple[float, float, float, float]:
    mean = (
        statistics.mean(row.exact for row in rows),
        statistics.mean(row.any for row in rows),
        statistics.mean(row.recall_1 for row in rows),
        statistics.mean(row.recall_3 for row in rows),
    )
    times = sorted(row.seconds * 1000 for row in rows)
    spread = f"{times[len(times) // 2]:>9.1f}{times[int(0.95 * (len(times) - 1))]:>9.1f}"
    print(f"{name:<20}{len(rows):>10,}" + "".join(f"{value:>8.3f}" for value in mean) + spread, flush=True)
    return mean


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders with questions and a graph")
    parser.add_argument("--split", help="only questions of this split")
    parser.add_argument("--limit", type=int, default=500, help="questions of each folder, drawn by the seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--change", choices=["none", "lower", "typo"], default="none", help="how questions are asked")
    parser.add_argument("--show", action="store_true", help="print the questions whose topics were not met exactly")
    return parser.parse_args()


if __name__ == "__main__":
    main()
