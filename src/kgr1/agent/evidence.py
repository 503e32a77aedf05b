"""Which of the facts that the model was shown carry an answer."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence

from kgr1.rewards.answer import normalise
from kgr1.types import Triple, Turn


def shown_triples(turns: Iterable[Turn]) -> list[Triple]:
    """Every fact that stood in an observation, in order, without duplicates."""
    seen: dict[Triple, None] = {}
    for turn in turns:
        if turn.observation is not None:
            for triple in turn.observation.triples(turn.shown):
                seen.setdefault(triple)
        for observation in turn.expanded:
            for triple in observation.triples():
                seen.setdefault(triple)
    return list(seen)


def find_evidence(topics: Sequence[str], answers: Sequence[str], turns: Sequence[Turn]) -> tuple[Triple, ...]:
    """The shown facts on a shortest path from any topic to each answer, in the order they were shown.

    An answer that no chain of shown facts connects with a topic has no evidence and adds nothing.
    """
    triples = shown_triples(turns)
    neighbours: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for index, triple in enumerate(triples):
        head, tail = normalise(triple.head), normalise(triple.tail)
        neighbours[head].append((tail, index))
        neighbours[tail].append((head, index))
    reached: dict[str, tuple[str, int] | None] = {normalise(topic): None for topic in topics}
    queue = deque(reached)
    while queue:
        node = queue.popleft()
        for other, index in neighbours[node]:
            if other not in reached:
                reached[other] = (node, index)
                queue.append(other)
    used: set[int] = set()
    for answer in answers:
        step = reached.get(normalise(answer))
        while step is not None:
            used.add(step[1])
            step = reached[step[0]]
    return tuple(triples[index] for index in sorted(used))
