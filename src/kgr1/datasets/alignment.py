"""Which of several paths a question means, learned from all questions together.

Many questions have several paths that end at exactly their answers, and most of them by accident ("where did he study",
and what the university stands for). The accidents differ from question to question, while the path that is meant comes
back with the same words. This is what IBM Model 1 of word alignment learns (Brown et al., "The Mathematics of
Statistical Machine Translation", Computational Linguistics 1993), here with the path hidden as well:

    P(path, words) = prod_r p(r) * prod_w 1 / (n + 1) * (b(w) + sum_r t(w | r))

over the n relations r of a path and the words w of a question, fitted by expectation maximisation over all paths of all
questions. b is the share of a word among all words; t begins at b, with more for the words of a relation's own name.
p(r) of a relation that is walked from tail to head is lowered by :data:`AGAINST`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from kgr1.datasets.paths import BACKWARD, Solution
from kgr1.graph.contract import ACROSS, INVERSE
from kgr1.graph.words import word_stems
from kgr1.types import Question

ROUNDS = 12
"""Of expectation maximisation; hardly a choice changes after them."""

SMOOTHING = 2.0
"""Weight of the usual share of a word, in counts, against what was seen with a relation."""

AGAINST = 3.0
"""How much less likely, as a logarithm, a hop from tail to head is than its twin from head to tail. Many relations have
an inverse with another name; who always takes the way that the fact is written has to look at one list only."""

OWN_WORDS = 0.5
"""Counts that a relation has for each of its own words from the start."""


def choose(questions: Sequence[Question], candidates: Sequence[Sequence[Solution]]) -> list[Solution | None]:
    """The likeliest of the candidates of each question, the first of equals; None where there is none.

    Only question texts and relations are read, never answers.
    """
    cases = [
        _Case(_words(question), tuple(_relations(found) for found in each))
        for question, each in zip(questions, candidates, strict=True)
    ]
    alignment = _Alignment(cases)
    result: list[Solution | None] = []
    for case, each in zip(cases, candidates, strict=True):
        scores = [alignment.log_likelihood(case.words, path) for path in case.paths]
        result.append(each[scores.index(max(scores))] if scores else None)
    return result


class _Case(NamedTuple):
    """The words of a question and the relations of each of its candidates."""

    words: tuple[str, ...]
    paths: tuple[tuple[str, ...], ...]


class _Alignment:
    """The fitted model; relations are hops as written in a gold path, so that both directions differ."""

    def __init__(self, cases: Sequence[_Case]) -> None:
        counts = Counter(word for case in cases for word in case.words)
        self._usual = {word: count / counts.total() for word, count in counts.items()}
        # In a fixed order: sums that differ in their last digit would decide between equals.
        relations = sorted({relation for case in cases for path in case.paths for relation in path})
        self._own = {
            relation: dict.fromkeys(sorted(word_stems(relation) & counts.keys()), OWN_WORDS) for relation in relations
        }
        self._set(dict.fromkeys(relations, 1.0), self._own)
        for _ in range(ROUNDS):
            self._round(cases)

    def _set(self, relations: dict[str, float], words: dict[str, dict[str, float]]) -> None:
        """Expected counts of relations, and of words by the relation that they are aligned with."""
        self._relations, self._words = relations, words
        self._total = sum(relations.values())
        self._seen = {relation: sum(counts.values()) for relation, counts in words.items()}

    def log_likelihood(self, words: Sequence[str], path: Sequence[str]) -> float:
        """log P(path, words) up to a constant; larger is likelier."""
        value = sum(math.log(self._relations[relation] + 0.1) for relation in path)
        value -= len(path) * math.log(self._total + 1)
        value -= sum(map(_against, path))
        for word in words:
            shares = sum(self._share(word, relation) for relation in path)
            value += math.log((self._usual[word] + shares) / (len(path) + 1))
        return value

    def _share(self, word: str, relation: str) -> float:
        """t(w | r)."""
        return (self._words[relation].get(word, 0.0) + SMOOTHING * self._usual[word]) / (
            self._seen[relation] + SMOOTHING
        )

    def _round(self, cases: Sequence[_Case]) -> None:
        relations = dict.fromkeys(self._own, 0.0)
        words = {relation: dict(own) for relation, own in self._own.items()}
        for case in cases:
            scores = [self.log_likelihood(case.words, path) for path in case.paths]
            most = max(scores, default=0.0)
            weights = [math.exp(score - most) for score in scores]
            for path, weight in zip(case.paths, weights, strict=True):
                posterior = weight / sum(weights)
                if posterior < 1e-4:
                    continue
                for relation in set(path):
                    relations[relation] += posterior
                for word in case.words:
                    shares = {relation: self._share(word, relation) for relation in path}
                    everything = self._usual[word] + sum(shares.values())
                    for relation, share in shares.items():
                        words[relation][word] = words[relation].get(word, 0.0) + posterior * share / everything
        self._set(relations, words)


def _against(relation: str) -> float:
    """The penalty of a hop that goes against the way a fact is written, in whole or up to the node it goes through."""
    return AGAINST if relation.startswith(BACKWARD) else AGAINST / 2 * (INVERSE + ACROSS in relation)


def _words(question: Question) -> tuple[str, ...]:
    """Those of the question that are none of a topic's; "where" and "who" say much about a relation."""
    return tuple(sorted(word_stems(question.text) - word_stems(" ".join(question.topics).replace("_", " "))))


def _relations(solution: Solution) -> tuple[str, ...]:
    return tuple(str(hop) for path in solution.paths for hop in path)
