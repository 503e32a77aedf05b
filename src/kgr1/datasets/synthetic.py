"""Questions made from any graph by constrained random walks (SPEC section 6).

Two kinds: ``chain`` follows one to four hops from one topic; ``intersection`` asks for the entities that satisfy a
one-hop condition from each of two topics. Hops go along a relation or against it. Every question

- has at most ``max_answers`` answers, all of them reached by its ``gold_path`` (see :mod:`kgr1.datasets.expert` for
  the encoding), so the gold set is complete by construction;
- never comes back to a topic on the way;
- can be solved by the expert in ``max_turns`` turns, most of them in five.

Topics are divided among train, dev and test, so no topic stands in two splits.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from kgr1.datasets.paths import Hop, Path
from kgr1.datasets.walks import TripleIndex, encode, expert_turns, topic_split
from kgr1.errors import DatasetError
from kgr1.types import GoldAnswer, Question

KIND_WEIGHTS = {"chain": 4, "intersection": 1}
"""Kinds with how often they are drawn, relative to each other."""

KINDS = tuple(KIND_WEIGHTS)

SHORT_TURNS = 5
"""The default number of turns of an agent; most questions fit into it."""

TRIES = 100
"""Random walks for one question before another kind is drawn."""

PATIENCE = 20
"""Kinds drawn in a row without a new question before the graph counts as used up."""

Phrases = Mapping[str, Sequence[str]]
"""Relation -> [forward phrase, backward phrase], e.g. ``{"capital": ["the capital of {x}", "the country whose
capital is {x}"]}``; ``{x}`` is replaced."""

_FRAMES = ("What is {x}?", "Name {x}.", "Find {x}.", "Tell me {x}.", "Can you tell me {x}?", "I am looking for {x}.")
_BOTH_FRAMES = (
    "What is both {x} and {y}?",
    "Name everything that is {x} and {y}.",
    "Find what is at once {x} and {y}.",
    "I am looking for {x} that is also {y}.",
)
# Label forms of readable(): a noun ("capital"), a verb ("plays for"), a participle ("directed by").
_GENERIC: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "noun": (
        ("the {r} of {x}", "the {r} that {x} has"),
        ("the one whose {r} is {x}", "the one with {x} as its {r}", "the one that has the {r} {x}"),
    ),
    "verb": (("the one that {x} {r}",), ("the one that {r} {x}",)),
    "participle": (
        ("the one that {x} is {r}", "the one that {x} was {r}"),
        ("the one {r} {x}", "the one that is {r} {x}"),
    ),
}
_AUXILIARIES = frozenset(("is", "was", "are", "were", "has", "had"))
_PREPOSITIONS = frozenset(("by", "in", "of", "for", "to", "at", "from", "with", "on", "as", "under", "into"))


def generate_questions(
    triples: Iterable[tuple[str, str, str]],
    *,
    count: int,
    seed: int,
    hops: Sequence[int] = (1, 2, 3),
    kinds: Sequence[str] = KINDS,
    phrases: Phrases | None = None,
    max_answers: int = 20,
    max_turns: int = 7,
    long_share: float = 0.2,
    dataset: str = "synthetic",
    topics: Callable[[str], bool] | None = None,
) -> list[Question]:
    """Make up to ``count`` questions with distinct texts; the same arguments give the same questions.

    A share ``long_share`` may need more than five turns (up to ``max_turns``), which three hops always do; four hops
    need ``max_turns`` of nine. ``topics`` says which nodes may be topics (by default all). The result is shorter than
    ``count`` if the graph does not offer enough. Raises :class:`DatasetError` for an unknown kind, a number of hops
    outside 1 to 4, or a phrase without ``{x}``.
    """
    _check(hops, kinds, phrases or {})
    index = TripleIndex(triples)
    if not index.nodes:
        return []
    maker = _Maker(index, random.Random(seed), seed, phrases or {}, max_answers, dataset, topics)
    if not maker.topics:
        return []
    questions: dict[str, Question] = {}
    failures = 0
    while len(questions) < count and failures < PATIENCE:
        turns = max_turns if maker.rng.random() < long_share else min(SHORT_TURNS, max_turns)
        # One hop takes 3 turns, each further one at least 2 more.
        possible = [number for number in hops if 2 * number + 1 <= turns]
        drawn = [kind for kind in kinds if kind != "chain" or possible]
        if not drawn:
            failures += 1
            continue
        (kind,) = maker.rng.choices(drawn, [KIND_WEIGHTS[kind] for kind in drawn])
        length = maker.rng.choice(possible) if kind == "chain" else 1
        for _ in range(TRIES):
            question = maker.chain(length, turns) if kind == "chain" else maker.intersection(turns)
            if question is not None and question.text not in questions:
                questions[question.text] = question.model_copy(update={"id": f"{dataset}-{seed}-{len(questions)}"})
                failures = 0
                break
        else:
            failures += 1
    return list(questions.values())


def _check(hops: Sequence[int], kinds: Sequence[str], phrases: Phrases) -> None:
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise DatasetError(f"Unknown question kinds {unknown}; choose from {', '.join(KINDS)}.", kinds=list(kinds))
    if not hops or any(number not in (1, 2, 3, 4) for number in hops):
        raise DatasetError(f"The number of hops must be 1 to 4, not {list(hops)}.", hops=list(hops))
    for relation, pair in phrases.items():
        if len(pair) != 2 or not all("{x}" in phrase for phrase in pair):
            raise DatasetError(
                f"The phrases of '{relation}' must be [forward, backward], each with {{x}}.", relation=relation
            )


class _Maker:
    def __init__(
        self,
        index: TripleIndex,
        rng: random.Random,
        seed: int,
        phrases: Phrases,
        max_answers: int,
        dataset: str,
        topics: Callable[[str], bool] | None,
    ) -> None:
        self.index = index
        self.rng = rng
        self.seed = seed
        self.phrases = phrases
        self.max_answers = max_answers
        self.dataset = dataset
        self.may_ask = topics or (lambda node: True)
        self.topics = index.nodes if topics is None else [node for node in index.nodes if topics(node)]

    def chain(self, length: int, turns: int) -> Question | None:
        """One random walk; None if it runs into a limit."""
        topic = self.rng.choice(self.topics)
        path: Path = ()
        node = topic
        for _ in range(length):
            back = Hop(path[-1].relation, not path[-1].backward) if path else None
            options = [hop for hop in self.index.hops(node) if hop != back]
            if not options:
                return None
            path = (*path, self.rng.choice(options))
            node = self.rng.choice(self.index.take(node, path[-1]))
        frontiers = self.index.follow(topic, path)
        if any(topic in frontier for frontier in frontiers[1:]):
            return None
        if len(frontiers[-1]) > self.max_answers or expert_turns(frontiers) + 1 > turns:
            return None
        phrase = topic
        for hop in path:
            phrase = self._phrase(hop, phrase)
        text = fill(self.rng.choice(_FRAMES), x=phrase)
        return self._question(text, (topic,), (path,), frontiers[-1], "chain", length)

    def intersection(self, turns: int) -> Question | None:
        """Two conditions that one random entity satisfies, each of them needed; None if a limit is hit."""
        answer = self.rng.choice(self.index.nodes)
        options = self.index.hops(answer)
        if not options or turns < 5:
            return None
        topics, paths, ends = [], [], []
        for _ in range(2):
            hop = self.rng.choice(options)
            topics.append(self.rng.choice(self.index.take(answer, hop)))
            paths.append(Hop(hop.relation, not hop.backward))
            ends.append(set(self.index.take(topics[-1], paths[-1])))
        if not all(map(self.may_ask, topics)):
            return None
        common = ends[0] & ends[1]
        needed = len(common) < min(len(end) for end in ends)
        too_many = max(len(end) for end in ends) > 2 * self.max_answers or len(common) > self.max_answers
        revisits = any(topic in end for topic, end in zip(topics, ends, strict=True)) or common & set(topics)
        if topics[0] == topics[1] or not needed or too_many or revisits:
            return None
        if topic_split(topics[0], self.seed) != topic_split(topics[1], self.seed):
            return None
        first, second = (self._phrase(path, topic) for path, topic in zip(paths, topics, strict=True))
        text = fill(self.rng.choice(_BOTH_FRAMES), x=first, y=second)
        branches = tuple((path,) for path in paths)
        return self._question(text, tuple(topics), branches, tuple(sorted(common)), "intersection", 2)

    def _phrase(self, hop: Hop, inner: str) -> str:
        if hop.relation in self.phrases:
            return fill(self.phrases[hop.relation][hop.backward], x=inner)
        label = readable(hop.relation)
        return fill(self.rng.choice(_GENERIC[_form(label)][hop.backward]), x=inner, r=label)

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


def readable(relation: str) -> str:
    """A relation label as words: ``people.person.place_of_birth`` -> ``place of birth``, ``bornIn`` -> ``born in``.

    A leading "has" is dropped: "has genre" names the same thing as "genre".
    """
    last = re.split(r"[./#:]", relation.rstrip("./#:"))[-1] or relation
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", last).replace("_", " ").replace("-", " ").split()
    if len(words) > 1 and words[0].lower() == "has":
        words = words[1:]
    return " ".join(word if word.isupper() else word.lower() for word in words) or relation


def _form(label: str) -> str:
    words = label.split()
    if words[0] in _AUXILIARIES or (len(words) > 1 and words[0].endswith("s") and words[1] in _PREPOSITIONS):
        return "verb"
    if len(words) > 1 and words[-1] in _PREPOSITIONS and words[0].endswith(("ed", "en", "rn")):
        return "participle"
    return "noun"


def fill(template: str, **values: str) -> str:
    """Replace ``{key}`` in one pass, so that braces inside the values stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), template)
