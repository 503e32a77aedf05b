"""What relations mean to a language model that reads them away from the agent's protocol.

A policy has learned which names to follow on the graphs of its training, and one that it has never seen says little to
it there. Its model knows more about the words: after a few examples of questions with the paths that they ask for,
"calling code" is far more likely behind *What number must I dial first?* than behind a question that says nothing. With
t(r) the words of a relation r, b those of the relations that led to where it starts, and q_0 the question
:data:`NO_QUESTION`,

    score(q, b, r) = log p(t(r) | examples, q, b) - log p(t(r) | examples, q_0, b)

which is their pointwise mutual information (Holtzman et al., "Surface Form Competition", 2021), so that a name that is
likely anyway, or short, gains nothing by that. It counts as far as a ranker has not met the relations
(``agent.meaning_weight``, :class:`kgr1.agent.prior.Prior`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kgr1.agent.rank import whole_words
from kgr1.models.choice import continuation_scores
from kgr1.models.kv_cache import RowCache
from kgr1.models.passes import read
from kgr1.types import DirectedRelation

EXAMPLES = """\
Question: when was IBM started?
Path: date of founding.

Question: who is married to the director of Alien?
Path: director, then spouse.

Question: what does Microsoft own?
Path: the thing whose owner.

Question: where were the members of the Beatles born?
Path: members, then place of birth.

"""

NO_QUESTION = "what is it?"

MOST_TOKENS = 256
"""Of a question; what comes before them is not read."""

MOST_NAMES = 1 << 16
"""Relations of which it is kept how likely they are behind no question."""


class Meaning:
    """Scores relations with a language model; satisfies :class:`kgr1.agent.prior.Meaning`.

    The examples are read once, and then a question with all its relations in one pass. What was read is of the weights
    at that time: whoever trains the model needs another one afterwards.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._cache: RowCache | None = None
        self._examples = self._encode(EXAMPLES)
        self._usual: dict[tuple[str, str], float] = {}

    def scores(
        self, question: str, before: Sequence[DirectedRelation], relations: Sequence[DirectedRelation]
    ) -> list[float]:
        """The score of each relation, in natural logarithms. See :class:`kgr1.agent.prior.Meaning`."""
        path = "".join(f" {_in_words(*relation)}, then" for relation in before)
        names = [_in_words(*relation) for relation in relations]
        usual = self._usually(path, names)
        return [likely - usual[name] for likely, name in zip(self._likely(question, path, names), names, strict=True)]

    def _usually(self, path: str, names: Sequence[str]) -> dict[str, float]:
        """log p of each name behind no question."""
        if len(self._usual) > MOST_NAMES:
            self._usual.clear()
        new = sorted({name for name in names if (path, name) not in self._usual})
        for name, likely in zip(new, self._likely(NO_QUESTION, path, new), strict=True):
            self._usual[path, name] = likely
        return {name: self._usual[path, name] for name in names}

    def _likely(self, question: str, path: str, names: Sequence[str]) -> list[float]:
        """log p of each name behind a question and the beginning of its path."""
        if not names:
            return []
        # One line, so that a question cannot bring examples of its own.
        asked = self._encode(f"Question: {' '.join(question.split())}")[-MOST_TOKENS:] + self._encode(f"\nPath:{path}")
        ways = [self._encode(f" {name}") for name in names]
        scores = continuation_scores(self._model, self._read(), 0, len(self._examples), asked, ways)
        return list(map(float, scores))

    def _read(self) -> RowCache:
        """A cache whose only row begins with the examples."""
        if self._cache is None:
            weight = next(self._model.parameters())
            cache = RowCache(self._model.config, 1, weight.dtype, weight.device)
            read(self._model, cache, 0, self._examples)
            self._cache = cache
        return self._cache

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return ids


def _in_words(outgoing: bool, relation: str) -> str:
    """A relation as the examples have it: ``film.film.directed_by`` is "directed by", the domain says little."""
    last = relation.rstrip("./#:").rsplit(".", 1)[-1]
    words = " ".join(whole_words(last) or whole_words(relation)) or " ".join(relation.split())
    return words if outgoing else f"the thing whose {words}"
