"""Questions made from any graph by constrained random walks (SPEC section 6).

Five kinds:

- ``chain`` follows one to four hops from one topic;
- ``shared`` is a chain whose second hop is the way back of its first, to what shares something with the topic;
- ``intersection`` asks for the entities that satisfy a one-hop condition from each of two topics;
- ``mediator`` is a chain with a fact in it that takes two hops, through a node without a name, and is asked for as one;
- ``temporal`` is a chain whose first hop is limited to a time: at, between, before or after some date of its facts.

Hops go along a relation or against it. Every question

- has at most ``max_answers`` answers, all of them reached by its ``gold_path`` (see :mod:`kgr1.datasets.expert` for
  the encoding), so the gold set is complete by construction;
- never comes back to a topic on the way, but in a ``shared`` question and at the end of a ``mediator`` question of one
  fact, which leave the topic out;
- needs its time, if it has one: without it there would be other entities;
- can be solved by the expert in ``max_turns`` turns, most of them in five (all that fit, with ``sets``);
- comes to nodes without a name as a ``mediator`` question only, and never ends there, unless no node has a name.

The walks are those of the whole graph, so what leads astray are the other relations and entities of real nodes. Topics
are divided among train, dev and test, so no topic stands in two splits.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from kgr1.datasets.asking import BOTH_FRAMES, FRAMES, Phrases, fill, phrase, sentence, shared_phrase
from kgr1.datasets.mediators import crosses_once, is_mediator, mediated_phrase, mediated_walk
from kgr1.datasets.paths import Hop, Path
from kgr1.datasets.set_expert import MAX_MEMBERS
from kgr1.datasets.times import FORMS, draw_filter, in_words
from kgr1.datasets.walks import TripleIndex, encode, expert_turns, topic_split
from kgr1.errors import DatasetError
from kgr1.graph.temporal import Span
from kgr1.types import GoldAnswer, Question

CHAIN, SHARED, INTERSECTION, MEDIATOR, TEMPORAL = "chain", "shared", "intersection", "mediator", "temporal"

KIND_WEIGHTS = {CHAIN: 4, SHARED: 1, INTERSECTION: 1, MEDIATOR: 2, TEMPORAL: 2}
"""Kinds with how often they are drawn, relative to each other."""

KINDS = (CHAIN, SHARED, INTERSECTION, MEDIATOR)
"""The kinds that are made unless others are asked for; ``temporal`` needs dates, and an agent that knows of them."""

SHORT_TURNS = 5
"""The default number of turns of an agent; most questions fit into it."""

TRIES = 100
"""Random walks for one question before another kind is drawn."""

PATIENCE = 20
"""Kinds drawn in a row without a new question before the graph counts as used up."""


def generate_questions(
    triples: Iterable[tuple[str, str, str]],
    *,
    count: int,
    seed: int,
    hops: Sequence[int] = (1, 2, 3),
    kinds: Sequence[str] = KINDS,
    spans: Iterable[Span] | None = None,
    phrases: Phrases | None = None,
    max_answers: int = 20,
    max_turns: int = 7,
    long_share: float = 0.2,
    sets: bool = False,
    dataset: str = "synthetic",
    topics: Callable[[str], bool] | None = None,
) -> list[Question]:
    """Make up to ``count`` questions with distinct texts; the same arguments give the same questions.

    A share ``long_share`` may need more than five turns (up to ``max_turns``), which three hops always do; four hops
    need ``max_turns`` of nine. With ``sets`` they are for an agent that asks about all that was found at once: a hop
    may start from up to :data:`~kgr1.datasets.set_expert.MAX_MEMBERS` entities, and chains have every number of hops
    that fits equally often. ``hops`` counts the relations that are walked, so a mediator question has at least two.
    ``spans`` runs parallel to ``triples`` and holds the dates of each, a fact coming once for each of its dates
    (:meth:`kgr1.graph.store.GraphStore.dated_triples`). ``topics`` says which nodes may be topics (by default those
    that have a name, or all if none has one). The result is shorter than ``count`` if the graph does not offer enough,
    and kinds that it does not have are left out. Raises :class:`DatasetError` for an unknown kind, ``temporal`` without
    ``spans``, a number of hops outside 1 to 4, or a phrase without ``{x}``.
    """
    _check(hops, kinds, phrases or {}, dated=spans is not None)
    index = TripleIndex(triples, spans)
    named = [node for node in index.nodes if not is_mediator(node)]
    names = [node for node in index.nodes if topics(node)] if topics is not None else named or index.nodes
    if not names:
        return []
    maker = _Maker(index, random.Random(seed), seed, phrases or {}, max_answers, sets, dataset, names)
    offered = [kind for kind in kinds if kind != MEDIATOR or 0 < len(named) < len(index.nodes)]
    questions: dict[str, Question] = {}
    failures = 0
    while len(questions) < count and failures < PATIENCE:
        turns = max_turns if sets or maker.rng.random() < long_share else min(SHORT_TURNS, max_turns)
        # One hop takes 3 turns, each further one at least 2 more.
        possible = [number for number in hops if 2 * number + 1 <= turns]
        drawn = [kind for kind in offered if _lengths(kind, possible)]
        if not drawn:
            failures += 1
            continue
        (kind,) = maker.rng.choices(drawn, [KIND_WEIGHTS[kind] for kind in drawn])
        length = maker.rng.choice(possible) if kind == CHAIN else 1
        if kind in (SHARED, MEDIATOR, TEMPORAL):
            length = maker.rng.choice(_lengths(kind, possible))
        attempt = maker.attempt(kind, length, turns)
        for _ in range(TRIES):
            question = attempt()
            if question is not None and question.text not in questions:
                questions[question.text] = question.model_copy(update={"id": f"{dataset}-{seed}-{len(questions)}"})
                failures = 0
                break
        else:
            failures += 1
    return list(questions.values())


def _lengths(kind: str, possible: Sequence[int]) -> list[int]:
    """The numbers of relations that a kind can have; an intersection always has one from each topic."""
    if kind == INTERSECTION:
        return [1]
    return [number for number in possible if number > 1 or kind not in (SHARED, MEDIATOR)]


def _check(hops: Sequence[int], kinds: Sequence[str], phrases: Phrases, *, dated: bool) -> None:
    unknown = [kind for kind in kinds if kind not in KIND_WEIGHTS]
    if unknown or not kinds:
        raise DatasetError(
            f"Unknown question kinds {unknown}; choose from {', '.join(KIND_WEIGHTS)}.", kinds=list(kinds)
        )
    if TEMPORAL in kinds and not dated:
        raise DatasetError("Temporal questions need a graph with dates; leave the kind out, or add the dates.")
    if not hops or any(number not in (1, 2, 3, 4) for number in hops):
        raise DatasetError(f"The number of hops must be 1 to 4, not {list(hops)}.", hops=list(hops))
    for relation, pair in phrases.items():
        if len(pair) != 2 or not all("{x}" in template for template in pair):
            raise DatasetError(
                f"The phrases of '{relation}' must be [forward, backward], each with {{x}}.", relation=relation
            )


@dataclass
class _Maker:
    index: TripleIndex
    rng: random.Random
    seed: int
    phrases: Phrases
    max_answers: int
    sets: bool
    dataset: str
    topics: Sequence[str]

    def __post_init__(self) -> None:
        self.may_ask = frozenset(self.topics)

    def attempt(self, kind: str, length: int, turns: int) -> Callable[[], Question | None]:
        """What makes a question of a kind, or None if it runs into a limit; to be tried several times."""
        if kind == INTERSECTION:
            return partial(self.intersection, turns)
        if kind == TEMPORAL:  # some forms fit more often than others, so the form is drawn first
            return partial(self.temporal, length, turns, self.rng.choice(FORMS))
        make = {CHAIN: self.chain, SHARED: self.shared, MEDIATOR: self.mediator}[kind]
        return partial(make, length, turns)

    def chain(self, length: int, turns: int) -> Question | None:
        """One random walk."""
        topic = self.rng.choice(self.topics)
        path = self._walk(topic, length)
        if path is None or not self._fits(topic, frontiers := self.index.follow(topic, path), turns):
            return None
        return self._asked(topic, path, self._sentence(path, topic), CHAIN, frontiers[-1])

    def shared(self, length: int, turns: int) -> Question | None:
        """A walk that turns round after its first hop, to others that lead there as well."""
        topic = self.rng.choice(self.topics)
        options = self.index.hops(topic)
        if not options:
            return None
        first = self.rng.choice(options)
        frontiers = self.index.follow(topic, (first, first.back))
        frontiers[-1] = tuple(end for end in frontiers[-1] if end != topic)
        if not frontiers[-1]:
            return None
        path = self._walk(self.rng.choice(frontiers[-1]), length, (first, first.back))
        if path is None:
            return None
        for hop in path[2:]:
            frontiers.append(self.index.follow_all(frontiers[-1], hop))
        if not self._fits(topic, frontiers, turns):
            return None
        inner = shared_phrase(first, topic, self.phrases, self.rng)
        return self._asked(topic, path, self._sentence(path[2:], inner), SHARED, frontiers[-1])

    def temporal(self, length: int, turns: int, form: str) -> Question | None:
        """One random walk with a time for the facts of the topic, which the facts of other times make needed."""
        topic = self.rng.choice(self.topics)
        walked = self._walk(topic, length)
        if walked is None:
            return None
        first, *rest = walked
        time = draw_filter(self.index.spans(topic, first), form, self.rng)
        if time is None:
            return None
        path = (first._replace(time=time), *rest)
        frontiers = self.index.follow(topic, path)
        if frontiers[-1] == self.index.follow(topic, walked)[-1] or not self._fits(topic, frontiers, turns):
            return None
        # The time stands behind the topic's own facts, where no other hop can be meant by it.
        inner = f"{phrase(first, topic, self.phrases, self.rng)} {in_words(time, self.rng)}"
        return self._asked(topic, path, self._sentence(rest, inner), TEMPORAL, frontiers[-1])

    def mediator(self, length: int, turns: int) -> Question | None:
        """One random walk across one node without a name; the hops into it and out of it are asked for as one."""
        topic = self.rng.choice(self.topics)
        if is_mediator(topic):
            return None
        found = mediated_walk(self.index, topic, length, self.rng)
        if found is None:
            return None
        path, place = found
        frontiers = self.index.follow(topic, path)
        # A fact that holds for both sides, such as a marriage, leads back as well. Nobody means that, but the topic is
        # all that the expert can leave out.
        if length == 2:
            frontiers[-1] = tuple(end for end in frontiers[-1] if end != topic)
        elif set(frontiers[place]) & set(frontiers[place + 2]):
            return None
        if not crosses_once(frontiers, place) or not self._fits(topic, frontiers, turns, crossing=True):
            return None
        before, (first, second), after = path[:place], path[place : place + 2], path[place + 2 :]
        inner = self._phrases(before, topic)
        inner = mediated_phrase(self.index, frontiers[place], first, second, inner, self.rng)
        return self._asked(topic, path, self._sentence(after, inner), MEDIATOR, frontiers[-1])

    def intersection(self, turns: int) -> Question | None:
        """Two conditions that one random entity satisfies, each of them needed; None if a limit is hit."""
        answer = self.rng.choice(self.index.nodes)
        options = self.index.hops(answer)
        if not options or turns < SHORT_TURNS:
            return None
        topics, paths, ends = [], [], []
        for _ in range(2):
            hop = self.rng.choice(options)
            topics.append(self.rng.choice(self.index.take(answer, hop)))
            paths.append(hop.back)
            ends.append(set(self.index.take(topics[-1], paths[-1])))
        if not self.may_ask.issuperset(topics):
            return None
        common = ends[0] & ends[1]
        needed = len(common) < min(len(end) for end in ends)
        too_many = max(len(end) for end in ends) > 2 * self.max_answers or len(common) > self.max_answers
        revisits = any(topic in end for topic, end in zip(topics, ends, strict=True)) or common & set(topics)
        if topics[0] == topics[1] or not needed or too_many or revisits:
            return None
        if topic_split(topics[0], self.seed) != topic_split(topics[1], self.seed):
            return None
        if not is_mediator(topics[0]) and any(map(is_mediator, common)):
            return None
        first, second = (self._phrases([hop], topic) for hop, topic in zip(paths, topics, strict=True))
        text = fill(self.rng.choice(BOTH_FRAMES), x=first, y=second)
        branches = tuple((hop,) for hop in paths)
        return self._question(text, tuple(topics), branches, tuple(sorted(common)), INTERSECTION, 2)

    def _walk(self, node: str, length: int, path: Path = ()) -> Path | None:
        """A random walk on from ``path``, which does not turn round; None if it comes to an end too early."""
        while len(path) < length:
            options = [hop for hop in self.index.hops(node) if not path or hop != path[-1].back]
            if not options:
                return None
            path = (*path, self.rng.choice(options))
            node = self.rng.choice(self.index.take(node, path[-1]))
        return path

    def _fits(self, topic: str, frontiers: Sequence[Sequence[str]], turns: int, *, crossing: bool = False) -> bool:
        """Whether a walk keeps to the limits: turns, answers, no way back, no node without a name but at a crossing."""
        if any(topic in frontier for frontier in frontiers[1:]):
            return False
        if not 0 < len(frontiers[-1]) <= self.max_answers or expert_turns(frontiers, sets=self.sets) + 1 > turns:
            return False
        if self.sets and any(len(frontier) > MAX_MEMBERS for frontier in frontiers):
            return False
        nodes = () if crossing or is_mediator(topic) else (node for frontier in frontiers[1:] for node in frontier)
        return not any(map(is_mediator, nodes))

    def _phrases(self, path: Sequence[Hop], inner: str) -> str:
        for hop in path:
            inner = phrase(hop, inner, self.phrases, self.rng)
        return inner

    def _sentence(self, path: Sequence[Hop], inner: str) -> str:
        """A question for the hops of ``path`` from what ``inner`` says, or for ``inner`` itself."""
        if not path:
            return fill(self.rng.choice(FRAMES), x=inner)
        return sentence(path[-1], self._phrases(path[:-1], inner), self.phrases, self.rng)

    def _asked(self, topic: str, path: Path, text: str, kind: str, ends: Sequence[str]) -> Question:
        return self._question(text, (topic,), (path,), ends, kind, len(path))

    def _question(
        self, text: str, topics: tuple[str, ...], branches: tuple[Path, ...], ends: Sequence[str], kind: str, hops: int
    ) -> Question:
        return Question(
            id="",
            text=text[0].upper() + text[1:],
            topics=topics,
            answers=tuple(GoldAnswer(label=name, id=name) for name in ends),
            dataset=self.dataset,
            split=topic_split(topics[0], self.seed),
            hops=hops,
            kind=kind,
            gold_path=encode(branches),
        )
