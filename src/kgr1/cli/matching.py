"""Whether questions and a graph belong together."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kgr1.cli.console import one_line, warn

if TYPE_CHECKING:
    from kgr1.graph.api import KnowledgeGraph
    from kgr1.types import Question

LOOKED_UP = 200
"""Topics that are looked up at most in a graph of this machine."""

ASKED = 20
"""Topics that are looked up at most by queries, which a server or an endpoint may take long for."""

HARDLY = 0.1
"""A smaller share of known topics is a reason for a warning."""


def mind_topics(questions: Sequence[Question], graph: KnowledgeGraph) -> None:
    """Say so if hardly any topic of the questions is a name in the graph; looks at a sample, and never fails."""
    from kgr1.errors import KGR1Error
    from kgr1.graph.api import NameIndex

    topics = sorted({(topic, question.graph_id or "") for question in questions for topic in question.topics})
    index = graph if isinstance(graph, NameIndex) else None
    drawn = random.Random(0).sample(topics, min(len(topics), ASKED if index is None else LOOKED_UP))
    try:
        if index is not None:  # a query would also look for names that are close
            unknown = [topic for topic, _ in drawn if not index.find_names(topic)]
        else:
            unknown = _unknown(drawn, graph)
        name = graph.info().name
    except KGR1Error:  # whoever plays will be told, and by what it really asks
        return
    known = len(drawn) - len(unknown)
    if unknown and known < HARDLY * len(drawn):
        found = f"{known or 'none'} {'is' if known < 2 else 'are'}"
        warn(
            f"Of {len(drawn)} topics of the questions that were looked up, {found} in the graph '{one_line(name)}' "
            f"(not there: '{one_line(unknown[0][:80])}'). "
            "Whoever asks this graph will find next to nothing: check that questions and graph belong together."
        )


def _unknown(topics: Sequence[tuple[str, str]], graph: KnowledgeGraph) -> list[str]:
    """The topics that the graph of their question does not know, as it answers queries."""
    from kgr1.types import ErrorCode, Operation, Query

    queries = [
        Query(operation=Operation.GET_TAIL_RELATIONS, entity=topic, graph_id=graph_id or None, limit=1)
        for topic, graph_id in topics
    ]
    found = graph.execute(queries)
    pairs = zip(topics, found, strict=True)
    return [topic for (topic, _), seen in pairs if seen.error not in (None, ErrorCode.NO_RESULTS)]
