"""Questions about the demonstration graph: every pattern of the wording applied to every topic where it makes sense."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path

from kgr1.datasets.asking import fill
from kgr1.datasets.embedded.wording import (
    ASK,
    ASK_MANY,
    BOTH,
    IDENTIFY,
    IDENTIFY_MANY,
    SAME,
    WITH_ARTICLE,
)
from kgr1.datasets.paths import Hop, parse_path
from kgr1.datasets.walks import SPLITS, TripleIndex, encode, expert_turns, topic_split
from kgr1.errors import DatasetError
from kgr1.types import GoldAnswer, Question

DATASET = "countries"

SHARES: Mapping[tuple[str, int], int] = {
    ("chain", 1): 30,
    ("chain", 2): 45,
    ("chain", 3): 8,
    ("intersection", 2): 17,
}
"""Kind and hops -> weight, when a number of questions is asked for."""

MAX_ANSWERS = 20


def embedded_questions(
    split: str | None = None, *, count: int | None = None, seed: int = 0, max_turns: int = 7
) -> list[Question]:
    """Questions on the demonstration graph that the expert can solve in ``max_turns`` turns.

    ``split`` is train, dev or test (60, 10 and 30 % of the topics; no topic stands in two splits, whatever the seed).
    ``count`` draws that many, by the shares of :data:`SHARES` and evenly over the patterns; None gives all of them.
    ``seed`` decides the wording and the draw. Kinds are ``chain`` (1 to 3 hops) and ``intersection``; ``hops`` counts
    the relations of the gold path. Raises :class:`DatasetError` for an unknown split.
    """
    names = [name for name, _ in SPLITS]
    if split is not None and split not in names:
        raise DatasetError(
            f"The countries have no split '{split}'; they have {', '.join(names)}.", wanted=split, available=names
        )
    pool = [question for question in _pool(seed, max_turns) if split is None or question.split == split]
    return pool if count is None else _draw(pool, count, random.Random(seed))


def _draw(pool: Sequence[Question], count: int, rng: random.Random) -> list[Question]:
    cells: dict[tuple[str, int], dict[tuple[str, ...], list[Question]]] = {}
    for question in pool:
        cell = cells.setdefault((question.kind, question.hops or 0), {})
        cell.setdefault(question.gold_path, []).append(question)
    for cell in cells.values():
        for group in cell.values():
            rng.shuffle(group)
    drawn: list[Question] = []
    while cells and len(drawn) < count:
        keys = sorted(cells)
        (key,) = rng.choices(keys, [SHARES[key] for key in keys])
        path = rng.choice(sorted(cells[key]))
        drawn.append(cells[key][path].pop())
        if not cells[key][path]:
            del cells[key][path]
        if not cells[key]:
            del cells[key]
    return drawn


@lru_cache(maxsize=4)
def _pool(seed: int, max_turns: int) -> tuple[Question, ...]:
    """All questions with distinct texts; kept, because making them takes about a second."""
    pool: dict[str, Question] = {}
    for question in _all(_index(), random.Random(seed), max_turns):
        pool.setdefault(question.text, question)
    return tuple(pool.values())


@cache
def _index() -> TripleIndex:
    lines = Path(__file__).with_name("countries.tsv").read_text("utf-8").splitlines()
    triples = [line.split("\t") for line in lines]
    return TripleIndex((head, relation, tail) for head, relation, tail in triples)


def _all(index: TripleIndex, rng: random.Random, max_turns: int) -> Iterator[Question]:
    for topic in index.nodes:
        for path, frames, same in _patterns(index, topic, rng):
            question = _chain(index, topic, path, rng.choice(frames), same, max_turns)
            if question is not None:
                yield question
    yield from _intersections(index, rng, max_turns)


def _patterns(index: TripleIndex, topic: str, rng: random.Random) -> Iterator[tuple[list[str], list[str], bool]]:
    """Path, question texts and whether the topic itself is left out, for everything one can ask about a topic."""
    name = _in_sentence(topic)
    for path, frames in ASK.items():
        yield [path], [fill(frame, x=_in_frame(path, topic)) for frame in frames], False
    for relation, frames in SAME.items():
        if len(index.take(topic, Hop(relation))) == 1:
            yield [relation, f"^{relation}"], [fill(frame, x=name) for frame in frames], True
    for first in sorted(IDENTIFY):
        ends = index.take(topic, Hop.parse(first))
        if len(ends) > 1 and first in IDENTIFY_MANY:
            phrase = fill(rng.choice(IDENTIFY_MANY[first]), x=_in_frame(first, topic))
            for relation, frames in ASK_MANY.items():
                yield [first, relation], [fill(frame, x=phrase) for frame in frames], False
        if len(ends) != 1:
            continue
        phrase = fill(rng.choice(IDENTIFY[first]), x=_in_frame(first, topic))
        for relation, frames in ASK.items():
            if not relation.startswith("^") and relation not in (first.lstrip("^"), "part of"):
                yield [first, relation], [fill(frame, x=phrase) for frame in frames], False
        if first != "borders":
            yield from _three_hops(index, first, ends[0], phrase, rng)


def _three_hops(
    index: TripleIndex, first: str, country: str, phrase: str, rng: random.Random
) -> Iterator[tuple[list[str], list[str], bool]]:
    """Questions that go on from a country that a phrase identifies."""
    if len(index.take(country, Hop("borders"))) == 1:
        further = fill(rng.choice(IDENTIFY["borders"]), x=phrase)
        for relation in ("capital", "currency", "official language", "internet domain"):
            yield [first, "borders", relation], [fill(frame, x=further) for frame in ASK[relation]], False
    for relation, text in (
        ("currency", "Which countries use the currency of {x}?"),
        ("official language", "Where is the official language of {x} official?"),
        ("located in", "Which countries are in the same part of the world as {x}, itself included?"),
    ):
        if len(index.take(country, Hop(relation))) == 1 and relation != first.lstrip("^"):
            yield [first, relation, f"^{relation}"], [fill(text, x=phrase)], False


def _chain(
    index: TripleIndex, topic: str, path: Sequence[str], text: str, same: bool, max_turns: int
) -> Question | None:
    hops = tuple(Hop.parse(item) for item in path)
    frontiers = index.follow(topic, hops)
    answers = tuple(name for name in frontiers[-1] if not (same and name == topic))
    if not 0 < len(answers) <= MAX_ANSWERS or expert_turns(frontiers) + 1 > max_turns:
        return None
    if any(topic in frontier for frontier in frontiers[1 : -1 if same else None]):
        return None
    return _question(text, (topic,), tuple(path), answers, "chain", len(path))


def _intersections(index: TripleIndex, rng: random.Random, max_turns: int) -> Iterator[Question]:
    if max_turns < 5:
        return
    for (first, second), frames in BOTH.items():
        hops = (Hop.parse(first), Hop.parse(second))
        ends = [{node: set(found) for node in index.nodes if (found := index.take(node, hop))} for hop in hops]
        for x, some in ends[0].items():
            for y, others in ends[1].items():
                common = some & others
                # Both conditions must be needed, and both lists short enough to be compared.
                if not common or len(common) == min(len(some), len(others)) or max(len(some), len(others)) > 30:
                    continue
                if x == y or (first == second and x > y) or topic_split(x) != topic_split(y) or common & {x, y}:
                    continue
                text = fill(rng.choice(frames), x=_in_frame(first, x), y=_in_frame(second, y))
                path = encode(parse_path((first, "&", second)))
                if len(common) <= MAX_ANSWERS:
                    yield _question(text, (x, y), path, tuple(sorted(common)), "intersection", 2)


def _question(
    text: str, topics: tuple[str, ...], path: tuple[str, ...], answers: Sequence[str], kind: str, hops: int
) -> Question:
    return Question(
        id=f"{DATASET}:{'+'.join(topics)}:{'/'.join(path)}".replace(" ", "_"),
        text=text[0].upper() + text[1:],
        topics=topics,
        answers=tuple(GoldAnswer(label=name, id=name) for name in answers),
        dataset=DATASET,
        split=topic_split(topics[0]),
        hops=hops,
        kind=kind,
        gold_path=path,
    )


def _in_frame(path: str, topic: str) -> str:
    """The frames of a currency bring their own article."""
    return topic if path == "^currency" else _in_sentence(topic)


def _in_sentence(name: str) -> str:
    return f"the {name}" if name in WITH_ARTICLE else name
