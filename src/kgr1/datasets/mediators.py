"""Facts that take two steps, through a node without a name, and how a question asks for them in one.

In Freebase and Wikidata a fact of more than two parts stands in a node of its own: ``Alien -starring-> m.04j60kc``,
``m.04j60kc -actor-> Sigourney Weaver``. Nobody asks for such a node, called a mediator or compound value; people ask
for "the actor of Alien".
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from kgr1.datasets.asking import fill, readable
from kgr1.datasets.paths import Hop, Path
from kgr1.datasets.walks import TripleIndex
from kgr1.graph.names import is_identifier

_SHORT: Mapping[bool, tuple[str, ...]] = {
    False: ("the {s} of {x}", "the {s} that {x} has"),
    True: ("the one whose {r} is {x}", "the one with {x} as its {r}"),
}
"""Where one label is enough, by whether the second hop goes backward."""

_LONG: Mapping[tuple[bool, bool], tuple[str, ...]] = {
    (False, False): ("the {s} in the {r} of {x}", "the {s} that the {r} of {x} names"),
    (False, True): ("the one whose {s} is the {r} of {x}", "the one that has the {r} of {x} as its {s}"),
    (True, False): ("the {s} for the {r} {x}", "the {s} that goes with the {r} {x}"),
    (True, True): ("the one with {x} as the {r} in its {s}", "the one in whose {s} the {r} is {x}"),
}
"""Both labels, by whether the first and the second hop go backward; r is that of the first, s that of the second."""


_LOOKED_AT = 200
"""Ends of one relation; a node with more is asked about with both labels."""


def is_mediator(node: str) -> bool:
    """True for a node that is shown by an identifier that says nothing."""
    return is_identifier(node)


def mediated_walk(index: TripleIndex, topic: str, length: int, rng: random.Random) -> tuple[Path, int] | None:
    """A random walk of ``length`` relations that crosses exactly one mediator, and the number of the hop into it.

    All nodes but the mediator have names. A walk of two may turn round at it, to others that share the fact. None if
    the walk runs into a node that does not allow it.
    """
    place = rng.randrange(length - 1)
    path: Path = ()
    node = topic
    for number in range(length):
        back = path[-1].back if path and length > 2 else None
        reached = {hop: index.take(node, hop) for hop in index.hops(node) if hop != back}
        options = [
            (hop, fitting)
            for hop, ends in reached.items()
            if (fitting := [end for end in ends if is_mediator(end) == (number == place)])
        ]
        if not options:
            return None
        hop, ends = rng.choice(options)
        path = (*path, hop)
        node = rng.choice(ends)
    return path, place


def crosses_once(frontiers: Sequence[Sequence[str]], place: int) -> bool:
    """True if the walk is at mediators, and mediators only, after the hop ``place`` and nowhere else."""
    return all(
        all(is_mediator(node) == (number == place + 1) for node in frontier)
        for number, frontier in enumerate(frontiers)
        if number
    )


def mediated_phrase(
    index: TripleIndex, nodes: Sequence[str], first: Hop, second: Hop, inner: str, rng: random.Random
) -> str:
    """Two hops through a mediator as one, from ``nodes``, which ``inner`` says.

    One label is enough where no other fact of the nodes could be meant by it.
    """
    labels = {"x": inner, "r": readable(first.relation), "s": readable(second.relation)}
    if first.backward == second.backward and all(_is_only(index, node, first, second) for node in nodes):
        return fill(rng.choice(_SHORT[second.backward]), **labels)
    if not first.backward and second.backward and labels["r"] == labels["s"]:
        return fill("the one that shares the {r} with {x}", **labels)
    return fill(rng.choice(_LONG[first.backward, second.backward]), **labels)


def _is_only(index: TripleIndex, node: str, first: Hop, second: Hop) -> bool:
    """True if the short phrase for two hops of one direction stands for these hops alone."""
    backward = first.backward
    label = readable((first if backward else second).relation)
    meant: set[tuple[Hop, ...]] = set()
    for hop in index.hops(node):
        if hop.backward != backward:
            continue
        ends = index.take(node, hop)
        if len(ends) > _LOOKED_AT:
            return False
        if readable(hop.relation) == label and not all(map(is_mediator, ends)):
            meant.add((hop,))
        for end in filter(is_mediator, ends):
            further = [other for other in index.hops(end) if other.backward == backward]
            meant.update((hop, other) for other in further if readable((hop if backward else other).relation) == label)
    return meant == {(first, second)}
