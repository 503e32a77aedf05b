"""The one normaliser of answer names, and the set F1 with one-to-one matching (SPEC section 8).

Departures from the released implementation: a gold entity counts once however many of its names are listed and a
listed name counts for one gold entity at most, so precision, recall and F1 never exceed 1; the comparison is of whole
normalised names (or ids), never of substrings.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

from kgr1.types import GoldAnswer, Record

_ARTICLES = frozenset({"a", "an", "the"})
_PUNCTUATION = frozenset(string.punctuation) - {"_"}
_ASCII_TABLE = {**{ord(c): None for c in _PUNCTUATION}, ord("_"): " "}


@lru_cache(maxsize=1 << 16)
def normalise(text: str) -> str:
    """Bring a name into the form in which names are compared (SPEC section 8).

    NFKC, casefold, underscores to spaces, punctuation and invisible format characters removed, the articles *a, an,
    the* removed, whitespace collapsed. If nothing is left ("The The", "!!!") the folded original stands. Punctuation
    is removed, not replaced, as published scorers do; so "3.5" and "35" fall together.

    >>> normalise("Washington, D.C.")
    'washington dc'
    >>> normalise("The_Beatles"), normalise("The The"), normalise("Ｐａｒｉｓ！")
    ('beatles', 'the the', 'paris')
    """
    if text.isascii():
        words = text.translate(_ASCII_TABLE).lower().split()
    else:
        # Stripped before folding as well: NFKC takes the acute in "L´Aquila" apart into a space and an accent.
        words = unicodedata.normalize("NFKC", _strip(_fold(_strip(text)))).split()
    kept = [word for word in words if word not in _ARTICLES]
    if kept:
        return " ".join(kept)
    folded = " ".join(_fold(text).split())
    # Once more: folding can turn a lone accent sign into a combining accent, which is not stripped.
    return folded if folded == text else normalise(folded)


def _fold(text: str) -> str:
    """Compatibility caseless form (Unicode standard, definition D146), in NFKC."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", text).casefold())
    return unicodedata.normalize("NFKC", folded.casefold())


def _strip(text: str) -> str:
    return "".join(" " if c == "_" else c for c in text if not _is_dropped(c))


@lru_cache(maxsize=4096)
def _is_dropped(char: str) -> bool:
    if char == "_":
        return False
    category = unicodedata.category(char)
    return char in _PUNCTUATION or category[0] == "P" or category in ("Sk", "Cf")


class AnswerScore(Record):
    """How a list of predicted names compares with the gold entities of a question."""

    precision: float = 0.0
    recall: float = 0.0
    f1: float = 0.0
    hit1: bool = False  # the first listed answer is right
    hit_any: bool = False  # some listed answer is right
    exact: bool = False  # EM: P = R = 1
    matched: int = 0  # size of the maximum matching
    predicted: int = 0  # distinct predictions
    gold: int = 0  # distinct gold entities


class GoldIndex:
    """Gold entities of one question, found by normalised surface form or by id.

    Unique by id, or by normalised label where there is no id; an entity with neither is dropped. ``entities`` has the
    first mention of each, in the order of their numbers.
    """

    def __init__(self, gold: Iterable[GoldAnswer]) -> None:
        numbers: dict[tuple[str, str], int] = {}
        forms: dict[str, set[int]] = {}
        self._by_id: dict[str, int] = {}
        entities: list[GoldAnswer] = []
        for answer in gold:
            names = {normalise(name) for name in (answer.label, *answer.aliases)} - {""}
            label = normalise(answer.label)
            if not answer.id and not names:
                continue
            key = ("id", answer.id) if answer.id else ("label", label)
            number = numbers.setdefault(key, len(numbers))
            if number == len(entities):
                entities.append(answer)
            if answer.id:
                self._by_id[answer.id] = number
            for name in names:
                forms.setdefault(name, set()).add(number)
        self._by_form = {form: tuple(sorted(found)) for form, found in forms.items()}
        self._named = frozenset(number for number, entity in enumerate(entities) if entity.named)
        self.entities = tuple(entities)

    def __len__(self) -> int:
        return len(self.entities)

    def matches(self, name: str, ids: Iterable[str | None] = ()) -> set[int]:
        """Numbers of the gold entities that ``name`` (or one of its ``ids``) can stand for.

        A nameless entity is shown by its id, so a name that is literally a gold id matches too. Of several entities
        with one label each is shown as ``label [id]``, which matches a gold entity that is known by this label alone.
        """
        found = set(self._by_form.get(normalise(name), ()))
        for identifier in (name.strip(), *ids):
            if identifier is None:
                continue
            if identifier in self._by_id:
                found.add(self._by_id[identifier])
            label = name.strip().removesuffix(f" [{identifier}]")
            if label != name.strip():
                found.update(self._named.intersection(self._by_form.get(normalise(label), ())))
        return found


def score_answers(
    predicted: Sequence[str], gold: Sequence[GoldAnswer], predicted_ids: Sequence[str | None] = ()
) -> AnswerScore:
    """Set precision, recall and F1 with one-to-one matching, Hit@1, Hit@any and EM (SPEC section 8).

    With M the maximum matching between distinct predictions P and distinct gold entities A:
    precision |M|/|P|, recall |M|/|A|, F1 = 2|M| / (|P| + |A|). Predictions are distinct by normal form and blank ones
    are dropped. Without predictions or without gold entities every score is 0. ``predicted_ids`` is empty or parallel
    to ``predicted``; any other length raises :class:`ValueError`.

    >>> paris = GoldAnswer(label="Paris", id="Q90", aliases=("City of Light",))
    >>> score_answers(["paris", "City of Light"], [paris]).f1  # two names, one entity
    0.6666666666666666
    >>> score_answers(["Lutetia"], [paris], ["Q90"]).exact
    True
    """
    if predicted_ids and len(predicted_ids) != len(predicted):
        raise ValueError(f"{len(predicted_ids)} ids were given for {len(predicted)} predicted names; give one each.")
    index = GoldIndex(gold)
    found: dict[str, set[int]] = {}
    for position, name in enumerate(predicted):
        form = normalise(name)
        if form:
            identifiers = (predicted_ids[position],) if predicted_ids else ()
            found.setdefault(form, set()).update(index.matches(name, identifiers))
    candidates = list(found.values())
    if not candidates or not len(index):
        return AnswerScore(predicted=len(candidates), gold=len(index))
    matched = _matching_size(candidates, len(index))
    return AnswerScore(
        precision=matched / len(candidates),
        recall=matched / len(index),
        f1=2 * matched / (len(candidates) + len(index)),
        hit1=bool(candidates[0]),
        hit_any=matched > 0,
        exact=matched == len(candidates) == len(index),
        matched=matched,
        predicted=len(candidates),
        gold=len(index),
    )


def _matching_size(candidates: Sequence[set[int]], gold: int) -> int:
    """Size of the maximum matching; ``candidates[p]`` are the gold numbers (< ``gold``) prediction p may take."""
    if all(len(options) <= 1 for options in candidates):
        # Nothing to choose: every gold entity that is named at all takes one of its namers.
        return len(set().union(*candidates))
    import numpy as np  # scipy costs a noticeable import and most questions never come here
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    counts = [len(options) for options in candidates]
    columns = np.fromiter((g for options in candidates for g in sorted(options)), dtype=np.int32, count=sum(counts))
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
    edges = csr_array((np.ones(len(columns), dtype=np.int8), columns, offsets), shape=(len(candidates), gold))
    return int((maximum_bipartite_matching(edges, perm_type="column") >= 0).sum())
