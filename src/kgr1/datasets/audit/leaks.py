"""What the splits of a question set share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from kgr1.graph.names import lookup_key
from kgr1.types import Question, Record

_ORDER = ("train", "dev", "test")


class Leak(Record):
    """What one split shares with an earlier one; counts are questions of ``split``."""

    split: str
    earlier: str
    questions: int
    same_text: int  # the same question, but for case and blanks
    same_topic: int
    same_topic_and_answer: int  # for some topic and some gold answer


def find_leaks(questions: Sequence[Question]) -> tuple[Leak, ...]:
    """Each pair of splits, train before dev before test before others; empty with fewer than two."""
    splits: dict[str, list[Question]] = {}
    for question in questions:
        splits.setdefault(question.split, []).append(question)
    splits.pop("", None)
    order = sorted(splits, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))
    return tuple(_leak(splits, earlier, later) for earlier, later in combinations(order, 2))


def _leak(splits: dict[str, list[Question]], earlier: str, later: str) -> Leak:
    before, after = splits[earlier], splits[later]
    texts = {lookup_key(question.text) for question in before}
    topics = {topic for question in before for topic in _topics(question)}
    pairs = {pair for question in before for pair in _pairs(question)}
    return Leak(
        split=later,
        earlier=earlier,
        questions=len(after),
        same_text=sum(lookup_key(question.text) in texts for question in after),
        same_topic=sum(not topics.isdisjoint(_topics(question)) for question in after),
        same_topic_and_answer=sum(not pairs.isdisjoint(_pairs(question)) for question in after),
    )


def _topics(question: Question) -> set[str]:
    return set(map(lookup_key, question.topics))


def _pairs(question: Question) -> Iterable[tuple[str, str]]:
    answers = [lookup_key(answer.id or answer.label) for answer in question.answers]
    return {(topic, answer) for topic in _topics(question) for answer in answers}
