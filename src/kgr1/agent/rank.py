"""Relations in the order of their likeness to the question, by BM25.

A departure from the paper, which shows relations sorted by name, and off unless ``agent.rank_relations`` is ``bm25``.
With a token budget, the end of a long list is cut: ranked, the cut falls on the relations that share no word with the
question.

The score is Okapi BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009),
with the question as the query and each relation name as a document of the collection that is the result:

    score(q, r) = sum_{w in q} idf(w) * f(w, r) (k1 + 1) / (f(w, r) + k1 (1 - b + b |r| / avg|r|))
    idf(w) = ln(1 + (N - n(w) + 0.5) / (n(w) + 0.5))

where f counts w in r, n(w) the relations that hold w, and N all of them. Words are cut to :data:`STEM` letters, so that
"directed" and "director" are the same.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

K1 = 1.2
B = 0.75
STEM = 5

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """Words of a relation name or a question, cut to :data:`STEM` letters: apart at dots, underscores and camel case.

    >>> words_of("people.person.place_of_birth")
    ['peopl', 'perso', 'place', 'of', 'birth']
    >>> words_of("birthPlace"), words_of("isPartOfHTTPServer")
    (['birth', 'place'], ['is', 'part', 'of', 'http', 'serve'])
    """
    return [word[:STEM] for word in whole_words(text)]


def whole_words(text: str) -> list[str]:
    """Words of a relation name or a question in small letters, apart as in :func:`words_of`.

    >>> whole_words("people.person.place_of_birth")
    ['people', 'person', 'place', 'of', 'birth']
    """
    return [word.casefold() for word in _WORD.findall(_CAMEL.sub(" ", text))]


def bm25(question: str, names: Sequence[str]) -> list[float]:
    """The score of every name against the question; 0 for a name without a word of it.

    >>> [score > 0 for score in bm25("Who directed Alien?", ["film.directed_by", "film.genre"])]
    [True, False]
    """
    documents = [Counter(words_of(name)) for name in names]
    lengths = [sum(document.values()) for document in documents]
    average = sum(lengths) / max(len(lengths), 1) or 1.0
    holding = Counter(word for document in documents for word in document)
    query = sorted(set(words_of(question)))
    scores = []
    for document, length in zip(documents, lengths, strict=True):
        score = 0.0
        for word in query:
            count = document.get(word, 0)
            if count:
                idf = math.log(1 + (len(documents) - holding[word] + 0.5) / (holding[word] + 0.5))
                score += idf * count * (K1 + 1) / (count + K1 * (1 - B + B * length / average))
        scores.append(score)
    return scores


def rank_relations(question: str, names: Sequence[str]) -> list[int]:
    """Positions of the names, best first; names with the same score keep their order.

    >>> names = ["award.winner", "film.film.genre", "film.film.directed_by", "film.film.starring"]
    >>> [names[i] for i in rank_relations("who is the director of the film Alien", names)]
    ['film.film.directed_by', 'film.film.genre', 'film.film.starring', 'award.winner']
    """
    scores = bm25(question, names)
    return sorted(range(len(names)), key=lambda i: (-round(scores[i], 9), i))
