"""What relations mean to a language model that reads them away from the agent's protocol.

A policy has learned which names to follow on the graphs of its training, and one that it has never seen says little to
it there. Its model knows more about the words: after a few examples of questions with the paths that they ask for,
"calling code" is far more likely behind *What number must I dial first?* than behind a question that says nothing. With
t(r) the words of a relation r, b those of the relations that led to where it starts, and q_0 the question
:data:`NO_QUESTION`,

    score(q, b, r) = log p(t(r) | examples, q, b) - log p(t(r) | examples, q_0, b)

which is their pointwise mutual information (Holtzman et al., "Surface Form Competition", 2021), so that a name that is
likely anyway, or short, gains nothing by that. Behind a first hop the model is asked the other way round as well, with
the examples turned (*Path: director, then spouse. Question: who is married to the director of Alien?*): how much better
the question is explained with r,

    explained(q, b, r) = log p(q | examples, b, r) - log p(q | examples, b)

is added to the score. A first hop alone explains little of a longer question, so there it is not. Scores count as far
as a ranker has not met the relations (``agent.meaning_weight``, :class:`kgr1.agent.prior.Prior`).

Whether a question asks for more than b (``agent.ahead_weight``) depends on both, too:

    onward(q, b) = max_r explained(q, b, r)
                   + log p(", then" | q, b) / p("." | q, b) - log p(", then" | q_0, b) / p("." | q_0, b)

is the logit of going on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kgr1.agent.rank import whole_words
from kgr1.models.choice import continuation_scores
from kgr1.models.kv_cache import RowCache
from kgr1.models.passes import read
from kgr1.models.tokens import encode_text
from kgr1.types import DirectedRelation

EXAMPLES = (
    ("when was IBM started?", "date of founding"),
    ("who is married to the director of Alien?", "director, then spouse"),
    ("what does Microsoft own?", "the thing whose owner"),
    ("where were the members of the Beatles born?", "members, then place of birth"),
)
"""Questions with their paths."""

NO_QUESTION = "what is it?"

MOST_TOKENS = 256
"""Of a question; what comes before them is not read."""

MOST_NAMES = 1 << 16
"""Texts of which it is kept how likely they are behind no question."""

MOST_TRIED = 8
"""Relations, the likeliest first, of which it is tried how well they explain a question."""

NOWHERE = -3.0
"""The logit of going on where there is no way on."""

_ENDS = (", then", ".")


class Meaning:
    """Scores relations with a language model; satisfies :class:`kgr1.agent.prior.Meaning`.

    The examples are read once, and then a question with all its relations in one pass. What was read is of the weights
    at that time: whoever trains the model needs another one afterwards.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        asked = self._encode("".join(f"Question: {question}\nPath: {path}.\n\n" for question, path in EXAMPLES))
        explained = self._encode("".join(f"Path: {path}.\nQuestion: {question}\n\n" for question, path in EXAMPLES))
        self._forth, self._back = _Examples(model, asked), _Examples(model, explained)
        self._usual: dict[tuple[str, str], float] = {}

    def scores(
        self, question: str, before: Sequence[DirectedRelation], relations: Sequence[DirectedRelation]
    ) -> list[float]:
        """The score of each relation, in natural logarithms. See :class:`kgr1.agent.prior.Meaning`."""
        path = "".join(f" {_in_words(*relation)}, then" for relation in before)
        gains = self._gains(question, path, [f" {_in_words(*relation)}" for relation in relations])
        if not before or not relations:
            return gains
        explained = self._explained(question, before, relations, gains)
        rest = min(explained.values())  # the others explain it no better, as far as anybody looked
        return [gain + explained.get(place, rest) for place, gain in enumerate(gains)]

    def onward(self, question: str, before: Sequence[DirectedRelation], relations: Sequence[DirectedRelation]) -> float:
        """The logit of going on. See :class:`kgr1.agent.prior.Meaning`."""
        if not relations:
            return NOWHERE
        path = _path(before)
        gains = self._gains(question, f"{path}{_ENDS[0]}", [f" {_in_words(*relation)}" for relation in relations])
        on, end = self._gains(question, path, _ENDS)
        return max(self._explained(question, before, relations, gains).values()) + on - end

    def _explained(
        self,
        question: str,
        before: Sequence[DirectedRelation],
        relations: Sequence[DirectedRelation],
        gains: Sequence[float],
    ) -> dict[int, float]:
        """Place of a relation -> how much better it explains the question; of those that gain most."""
        tried = sorted(range(len(relations)), key=gains.__getitem__, reverse=True)[:MOST_TRIED]
        so_far, *further = self._explains(question, [before, *([*before, relations[place]] for place in tried)])
        return {place: likely - so_far for place, likely in zip(tried, further, strict=True)}

    def _gains(self, question: str, path: str, texts: Sequence[str]) -> list[float]:
        """How much likelier a question makes each text behind the beginning of its path."""
        usual = self._usually(path, texts)
        return [likely - usual[text] for likely, text in zip(self._likely(question, path, texts), texts, strict=True)]

    def _usually(self, path: str, texts: Sequence[str]) -> dict[str, float]:
        """log p of each text behind no question."""
        if len(self._usual) > MOST_NAMES:
            self._usual.clear()
        new = sorted({text for text in texts if (path, text) not in self._usual})
        for text, likely in zip(new, self._likely(NO_QUESTION, path, new), strict=True):
            self._usual[path, text] = likely
        return {text: self._usual[path, text] for text in texts}

    def _likely(self, question: str, path: str, texts: Sequence[str]) -> list[float]:
        """log p of each text behind a question and the beginning of its path."""
        return self._forth.continued(
            [*self._question("Question:", question), *self._encode(f"\nPath:{path}")], list(map(self._encode, texts))
        )

    def _explains(self, question: str, paths: Sequence[Sequence[DirectedRelation]]) -> list[float]:
        """log p of a question behind each path."""
        asked = [*self._question("", question), *self._encode("\n")]
        begun = [self._encode(f"{_path(path)}.\nQuestion:") for path in paths]
        likely = self._back.continued(self._encode("Path:"), [*begun, *([*ids, *asked] for ids in begun)])
        return [whole - beginning for beginning, whole in zip(likely, likely[len(paths) :], strict=False)]

    def _question(self, before: str, question: str) -> list[int]:
        # One line, so that a question cannot bring examples of its own.
        return self._encode(f"{before} {' '.join(question.split())}")[-MOST_TOKENS:]

    def _encode(self, text: str) -> list[int]:
        return encode_text(self._tokenizer, text)


class _Examples:
    """Examples that a model reads once, before the first text behind them."""

    def __init__(self, model: Any, ids: Sequence[int]) -> None:
        self._model, self._ids = model, ids
        self._cache: RowCache | None = None

    def continued(self, before: Sequence[int], ways: Sequence[Sequence[int]]) -> list[float]:
        """log p of each of ``ways`` behind the examples and ``before``."""
        if not ways:
            return []
        if self._cache is None:
            weight = next(self._model.parameters())
            cache = RowCache(self._model.config, 1, weight.dtype, weight.device)
            read(self._model, cache, 0, self._ids)
            self._cache = cache
        return list(map(float, continuation_scores(self._model, self._cache, 0, len(self._ids), before, ways)))


def _path(relations: Sequence[DirectedRelation]) -> str:
    return ", then".join(f" {_in_words(*relation)}" for relation in relations)


def _in_words(outgoing: bool, relation: str) -> str:
    """A relation as the examples have it: ``film.film.directed_by`` is "directed by", the domain says little."""
    last = relation.rstrip("./#:").rsplit(".", 1)[-1]
    words = " ".join(whole_words(last) or whole_words(relation)) or " ".join(relation.split())
    return words if outgoing else f"the thing whose {words}"
