"""Which word of a question stands for which relation, counted over a question set.

Questions rarely use the words of the graph ("other half" for ``spouse``). Where a question set has gold paths, words
that occur far more often with a relation than without it are its cues; the expert quotes them to say why it follows a
relation. Only question texts and gold paths are read, never answers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from kgr1.datasets.paths import hops_of
from kgr1.graph.words import question_words, word_stems
from kgr1.types import Question

MIN_COUNT = 3
"""A word seen less often with a relation proves nothing."""

MIN_RATIO = 3.0
"""How many times likelier a cue must be with the relation than without it."""


class Cues:
    """Counts of words and relations; hops with and without ``^`` count as different relations."""

    def __init__(self, questions: Iterable[Question]) -> None:
        self._questions = 0
        self._words: Counter[str] = Counter()
        self._relations: Counter[str] = Counter()
        self._pairs: Counter[tuple[str, str]] = Counter()
        for question in questions:
            relations = sorted(set(hops_of(question.gold_path)))
            if not relations:
                continue
            words = question_words(question)
            self._questions += 1
            self._words.update(words)
            self._relations.update(relations)
            self._pairs.update((relation, word) for relation in relations for word in words)

    def find(
        self, question: Question, relation: str, others: Sequence[str] = (), *, used: Collection[str] = ()
    ) -> str | None:
        """The word of the question that speaks most clearly for a relation of its path (written as in ``gold_path``).

        A word of the relation itself comes first. None if no word speaks for it, or only words that speak as clearly
        for one of the ``others`` on the path. Words in ``used`` are left out.
        """
        best, best_weight = None, 0.0
        stems = word_stems(relation)
        rivals = [other for other in hops_of(others) if other != relation]
        for word in question_words(question):
            if word in used:
                continue
            ratio, count = self.ratio(relation, word), self._pairs[relation, word]
            same = bool(word_stems(word) & stems)
            clearer = any(self.ratio(other, word) >= ratio for other in rivals)
            if not same and (count < MIN_COUNT or ratio < MIN_RATIO or clearer):
                continue
            weight = count * math.log(max(ratio, 1.0)) + (1e9 if same else 0.0)
            if weight > best_weight:
                best, best_weight = word, weight
        return best

    def ratio(self, relation: str, word: str) -> float:
        """P(word | relation) / P(word | no such relation), both with half a count added."""
        together, with_relation = self._pairs[relation, word], self._relations[relation]
        apart, without = self._words[word] - together, self._questions - with_relation
        return (together + 0.5) / (with_relation + 1) / ((apart + 0.5) / (without + 1))
