"""What following one relation could give, if it were known which: a bound for questions of one hop, and for times.

    python tools/best_relation.py --graph GRAPH --questions QUESTIONS [--split test] [--subset NAME] [--limit N]

Every relation of every topic is followed in both directions. What it leads to is read as the agent reads it
(``kgr1.agent.timing``): of dated results those that the question means, or their dates if it asks for a time. Of the
answers that this gives, the best one counts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from kgr1.agent.timing import answers, dates, meant, moments_of, read_timing
from kgr1.cli.bars import StepBar
from kgr1.cli.console import out
from kgr1.cli.sources import load_question_set, open_graph
from kgr1.errors import KGR1Error
from kgr1.evaluation.bootstrap import estimate
from kgr1.evaluation.report import interval, shown
from kgr1.graph.api import KnowledgeGraph
from kgr1.graph.words import text_without_topics
from kgr1.rewards.answer import score_answers
from kgr1.types import STEP, Observation, Operation, Query, Question


def main() -> int:
    """Print the mean over the questions; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graph", required=True)
    parser.add_argument("--questions", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--subset")
    parser.add_argument("--limit", type=int)
    given = parser.parse_args()
    questions = load_question_set(given.questions, split=given.split, subset=given.subset, limit=given.limit)
    best: list[float] = []
    with StepBar("Following", "question") as bar, open_graph(given.graph) as graph:
        for question in questions:
            best.append(max((score(question, found) for found in follow(graph, question)), default=0.0))
            bar.update(len(best), len(questions), {})
    f1 = estimate({"f1": (np.array(best), np.ones(len(best)))})["f1"]
    out.print(f"{len(best)} questions, F1 (macro) of the best relation: {shown('f1', f1.value)} {interval('f1', f1)}")
    return 0


def follow(graph: KnowledgeGraph, question: Question) -> Sequence[Observation]:
    """What each relation of each topic leads to."""
    listings = [
        Query(operation=operation, entity=topic, graph_id=question.graph_id)
        for topic in question.topics
        for operation in (Operation.GET_TAIL_RELATIONS, Operation.GET_HEAD_RELATIONS)
    ]
    steps = [
        found.query.model_copy(update={"operation": STEP[found.query.operation.outgoing], "relation": relation})
        for found in graph.execute(listings)
        for relation in found.names
    ]
    return graph.execute(steps)


def score(question: Question, found: Observation) -> float:
    """F1 of what the question means of a result."""
    timing = read_timing(text_without_topics(question))
    others = [topic for topic in question.topics if topic != found.query.entity]
    moments = meant(question, timing, moments_of(found, found.names), others)
    names, when = [moment.name for moment in moments], dates(timing, moments) if timing.asks else []
    return score_answers(answers(timing, names, when) or found.names, question.answers).f1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KGR1Error as error:
        sys.exit(str(error))
