"""The weights of the evidence in :mod:`kgr1.agent.link`, fitted by logistic regression on training splits.

    python benchmarks/linking_weights.py FOLDER [FOLDER ...] [--limit 240] [--seed 1]

Folders are those of ``benchmarks/linking.py``. Every name found in a question is one example, right if it is one of the
given topics; names inside a right one are left out, since the longer name wins anyway. To a question as written come a
third as many with a typing error, and a third as many in lower case. Each folder counts the same. Prints the weights,
the rate of right decisions on each folder, and that rate for weights that were fitted without the folder. The rounded
weights stand in the module; those of rare evidence (quotation marks, function words) were set by hand.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
import numpy.typing as npt
from linking import changed, read_graph
from scipy.optimize import minimize

from kgr1.agent.link import WEIGHTS, scored_mentions
from kgr1.datasets.plain import load_questions
from kgr1.graph import GraphStore
from kgr1.graph.names import lookup_key

Floats = npt.NDArray[np.float64]
RIDGE = 1e-3


def main() -> None:
    """Print the weights and how well they decide."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders with questions and a graph")
    parser.add_argument("--limit", type=int, default=240, help="questions of each folder as they are written")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    parts = [examples(folder, options.limit, options.seed) for folder in options.folders]
    whole = fit(parts)
    for name, weight in zip(WEIGHTS, whole, strict=True):
        print(f"{name:<30}{weight:>8.2f}")
    for number, (folder, part) in enumerate(zip(options.folders, parts, strict=True)):
        line = f"{folder.name:<20}{len(part[1]):>7,} names, right {rate(whole, part):.3f}"
        if len(parts) > 1:
            line += f", fitted without it {rate(fit(parts[:number] + parts[number + 1 :]), part):.3f}"
        print(line)


def examples(folder: Path, limit: int, seed: int) -> tuple[Floats, Floats]:
    """Evidence (n, len(WEIGHTS)) and whether the name is a topic (n,) for the names in the questions of a folder."""
    graph = GraphStore.from_triples(read_graph(folder), name=folder.name)
    questions = [question for question in load_questions(folder, split="train", seed=seed) if question.topics]
    third, rng = limit // 3, random.Random(seed)
    asked = questions[:limit]
    asked += [changed(question, "typo", rng) for question in questions[limit : limit + third]]
    asked += [changed(question, "lower", rng) for question in questions[limit + third : limit + 2 * third]]
    rows, right = [], []
    for question in asked:
        wanted = {lookup_key(topic) for topic in question.topics}
        found = [(m, lookup_key(m.bearers[0].name) in wanted) for m in scored_mentions(question.text, graph)]
        taken = [m.span for m, is_topic in found if is_topic]
        for mention, is_topic in found:
            span = mention.span
            if is_topic or not any(t.first <= span.first and span.last <= t.last for t in taken):
                rows.append([mention.features[name] for name in WEIGHTS])
                right.append(float(is_topic))
    return np.array(rows), np.array(right)


def fit(parts: list[tuple[Floats, Floats]]) -> Floats:
    """Weights of least cross-entropy, each part counting the same, with a small penalty on their squares."""
    x = np.concatenate([rows for rows, _ in parts])
    y = np.concatenate([right for _, right in parts])
    share = np.concatenate([np.full(len(right), 1 / len(right) / len(parts)) for _, right in parts])

    def loss(weights: Floats) -> tuple[float, Floats]:
        z = x @ weights
        cross = np.logaddexp(0, -z) * y + np.logaddexp(0, z) * (1 - y)
        slope = x.T @ (share * (1 / (1 + np.exp(-z)) - y))
        penalty = np.concatenate([[0.0], weights[1:]])
        return float(share @ cross + RIDGE * penalty @ penalty), slope + 2 * RIDGE * penalty

    found: Floats = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x
    return found


def rate(weights: Floats, part: tuple[Floats, Floats]) -> float:
    """Share of names that are rightly taken or left."""
    return float(np.mean((part[0] @ weights > 0) == (part[1] > 0)))


if __name__ == "__main__":
    main()
