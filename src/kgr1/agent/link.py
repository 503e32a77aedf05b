"""Topic entities in free text: which parts of a question are names of entities.

1. Every run of words is looked up (:mod:`kgr1.agent.spans`, :mod:`kgr1.agent.names`), in several spellings. A name that
   several entities bear gives all of them.
2. Each hit gets a score between 0 and 1 from what speaks for a name: its length, letter case, quotation marks,
   relations that share words with the rest of the question, its degree. Function words, common words and words that
   the graph uses in its relations speak against it.
3. Where nothing convincing was found, the closest names in the graph are compared with the runs of words that are left:
   the same words without accents and punctuation, a part of a longer name, or a typing error. At most :data:`MAX_FUZZY`
   runs are tried.
4. Of names that overlap, the set that covers the question best is kept; long names count more than their parts.

The weights of the evidence come from a logistic regression on the training splits of published question sets, each
counting the same (``benchmarks/linking_weights.py``). No language is assumed beyond two lists of English words, which
other languages simply do not match.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from typing import Literal

from kgr1.agent.names import Names
from kgr1.agent.rank import words_of
from kgr1.agent.spans import (
    Piece,
    Span,
    fold,
    forms_of,
    is_common_word,
    is_date_part,
    is_function_word,
    is_quoted,
    pieces_of,
    spans_of,
    without_bracket,
    without_possessive,
)
from kgr1.graph.api import KnowledgeGraph, NameMatch
from kgr1.types import Record

MAX_FUZZY = 24
"""Runs of words compared with the closest names of the graph for one question."""

MIN_SCORE = 0.2
"""A name with a lower score is not taken for a topic."""

_LOWEST = 0.15  # with this score a name is a topic if there is no other
_CONVINCING = 0.8  # no closest names are looked for inside or around such a name
_GAP = 0.2  # a topic scores at most this much less than the best one
_OBSCURE = 20  # facts below which a name may be meant as a part of a longer one
_KNOWN = 20  # times as many facts the longer one has
_CLOSEST = 8  # names compared for one run of words
_TYPO = 0.84  # likeness from which two names are the same with a typing error
_WEIGHED = 16  # entities whose relations are read for one question
_COVER_POWER = 1.5  # above 1: one long name covers more than two names of half its length


WEIGHTS = {
    "bias": -1.9,
    "words": 0.75,
    "letters": 0.8,
    "other spelling": -0.4,
    "folded": -0.3,
    "part": -0.9,
    "missing part": -0.8,
    "unlike": -1.1,
    "quoted": 1.0,
    "underscore": 1.9,
    "function words": -2.0,
    "date": -1.9,
    "capitals": 1.0,
    "no capital": -1.9,
    "relation words": -1.6,
    "common words": -1.9,
    "lower-case name": -0.5,
    "begins with a function word": -0.5,
    "after an article": -0.7,
    "facts": 0.3,
    "asked of it": 0.7,
    "facts of one kind": -0.5,
}
"""What each kind of evidence adds to the log-odds that a name is a topic."""


class Link(Record):
    """A part of a question and the entity it names.

    ``text`` is ``question[start:end]``. ``exact`` is False if only a similar name was found. ``others`` are further
    bearers of the same name, the likeliest first.
    """

    name: str
    id: str
    text: str
    start: int
    end: int
    score: float
    exact: bool = True
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Mention:
    """A span with the entities it may stand for, the likeliest first."""

    span: Span
    bearers: tuple[NameMatch, ...]
    distance: float = 0.0  # in its kind; 0: as near as can be
    kind: Literal["exact", "folded", "part", "typo"] = "exact"
    score: float = 0.0
    features: Mapping[str, float] = field(default_factory=dict)


def link(question: str, graph: KnowledgeGraph, *, limit: int = 3, graph_id: str | None = None) -> tuple[Link, ...]:
    """The topic entities of a question, at most ``limit``, the most convincing first; empty if nothing is found.

    ``graph_id`` looks in one question graph of a store. Raises :class:`kgr1.errors.GraphServerError` if the graph does
    not answer.
    """
    best: dict[str, Link] = {}
    for each in find_links(question, graph, graph_id=graph_id):
        best.setdefault(each.name, each)
    found = tuple(best.values())
    if not found:
        return ()
    bar = max(MIN_SCORE, found[0].score - _GAP)
    topics = tuple(each for each in found if each.score >= bar)[:limit]
    # A number that is the name of something is one if nothing else is.
    numbers = (each for each in found if each.exact and any(map(str.isdigit, each.text)))
    return topics or found[: int(found[0].score >= _LOWEST)] or tuple(numbers)[:1]


def find_links(question: str, graph: KnowledgeGraph, *, graph_id: str | None = None) -> tuple[Link, ...]:
    """All names in a question that do not overlap, by descending score, doubtful ones included.

    Raises what :func:`link` does.
    """
    kept = _cover(scored_mentions(question, graph, graph_id))
    kept.sort(key=lambda mention: (-mention.score, mention.span.start))
    return tuple(_as_link(mention) for mention in kept)


def scored_mentions(question: str, graph: KnowledgeGraph, graph_id: str | None = None) -> list[_Mention]:
    """Every name in a question with its features and score, overlapping ones included."""
    names = Names(graph, graph_id)
    pieces = pieces_of(question)
    text = _Text(question, pieces)
    scored = text.score(list(_exact(question, pieces, names)), names)
    return scored + text.score(_fuzzy(text, scored, names), names)


def _as_link(mention: _Mention) -> Link:
    best, *others = mention.bearers
    return Link(
        name=best.name,
        id=best.id,
        text=mention.span.text,
        start=mention.span.start,
        end=mention.span.end,
        score=round(mention.score, 4),
        exact=mention.kind == "exact",
        others=tuple(other.name for other in others),
    )


def _exact(question: str, pieces: Sequence[Piece], names: Names) -> Iterable[_Mention]:
    """Spans that are names as they stand, or in another spelling of the same name."""
    forms = {span: forms_of(span.text) for span in spans_of(question, pieces)}
    found = names.find([form.text for spellings in forms.values() for form in spellings])
    for span, spellings in forms.items():
        hits = [form for form in spellings if form.text in found]
        if hits:
            nearest = min(form.distance for form in hits)
            bearers = [match for form in hits if form.distance == nearest for match in found[form.text]]
            yield _Mention(span, tuple(dict.fromkeys(bearers)), float(nearest))


class _Text:
    """A question and what its words say about the names in it."""

    def __init__(self, question: str, pieces: Sequence[Piece]) -> None:
        self.question = question
        self.pieces = pieces
        words = [piece.text for piece in pieces if piece.is_word and piece.text[0].isalpha()]
        capitals = sum(word[0].isupper() for word in words[1:])
        # Casing tells something only where some words have a capital and others have none.
        self.cased = 0 < capitals < len(words) - 1
        self.relation_words: set[str] = set()

    def words(self, span: Span) -> list[str]:
        """The words of a span."""
        return [piece.text for piece in self.pieces[span.first : span.last + 1] if piece.is_word]

    def rest(self, span: Span) -> set[str]:
        """Stems of the telling words outside a span."""
        outside = [*self.pieces[: span.first], *self.pieces[span.last + 1 :]]
        words = [piece.text for piece in outside if piece.is_word and not is_function_word(piece.text)]
        return {stem for word in words for stem in words_of(word) if len(stem) > 2}

    def score(self, mentions: Sequence[_Mention], names: Names) -> list[_Mention]:
        """The mentions with their scores, and their bearers by what the question asks of them."""
        letters = {mention.span: sum(map(str.isalnum, mention.span.text)) for mention in mentions}
        rough = sorted(mentions, key=lambda m: (m.distance - letters[m.span], m.span.start))
        looked_at = dict.fromkeys(match.name for mention in rough for match in mention.bearers[:4])
        relations = names.relations(list(looked_at)[:_WEIGHED])
        stems = {name: {stem for r in found for stem in words_of(r)} for name, found in relations.items()}
        self.relation_words |= {stem for found in stems.values() for stem in found if len(stem) > 2}
        scored = []
        for mention in mentions:
            rest = self.rest(mention.span)

            def fits(match: NameMatch, rest: set[str] = rest) -> int:
                return min(len(rest & stems.get(match.name, set())), 3)

            bearers = sorted(mention.bearers, key=lambda m: (-fits(m), -m.degree, m.name))
            best = bearers[0]
            features = self.features(replace(mention, bearers=tuple(bearers)))
            features["asked of it"] = float(fits(best))
            spread = best.degree / max(len(relations.get(best.name, ())), 1)
            features["facts of one kind"] = min(math.log2(1 + spread), 8)
            z = sum(WEIGHTS[name] * value for name, value in features.items())
            scored.append(replace(mention, bearers=tuple(bearers), score=1 / (1 + math.exp(-z)), features=features))
        return scored

    def features(self, mention: _Mention) -> dict[str, float]:
        """What speaks for and against a name, apart from its relations; each is weighed by :data:`WEIGHTS`."""
        span, best = mention.span, mention.bearers[0]
        words = self.words(span)
        telling = [word for word in words if not is_function_word(word)]
        capital = [word[0].isupper() or not word[0].isalpha() for word in telling or words]
        first = span.first == 0 and len(words) == 1  # the first word has a capital anyway
        relational = [all(stem in self.relation_words for stem in words_of(word)) for word in telling]
        common = [is_common_word(word) for word in telling]
        before = self.pieces[span.first - 1].text.casefold() if span.first else ""
        return {
            "bias": 1.0,
            "words": min(len(telling), 4),
            "letters": min(sum(map(len, telling)), 16) / 4,
            "other spelling": mention.distance if mention.kind == "exact" else 0.0,
            "folded": float(mention.kind == "folded"),
            "part": float(mention.kind == "part"),
            "missing part": mention.distance if mention.kind == "part" else 0.0,
            "unlike": 10 * mention.distance if mention.kind == "typo" else 0.0,
            "quoted": float(is_quoted(self.question, span)),
            "underscore": float("_" in span.text),
            "function words": float(not telling),
            "date": float(all(is_date_part(word) for word in words)),
            "capitals": float(self.cased and all(capital) and not first),
            "no capital": float(self.cased and not any(capital) and not first),
            "relation words": sum(relational) / max(len(telling), 1),
            "common words": sum(common) / max(len(telling), 1),
            "lower-case name": float(best.name.islower() and "_" not in best.name),
            "begins with a function word": float(bool(telling) and is_function_word(words[0])),
            "after an article": float(before in ("the", "a", "an")),
            "facts": min(math.log2(1 + best.degree), 10),
        }


def _fuzzy(text: _Text, found: Sequence[_Mention], names: Names) -> list[_Mention]:
    """Mentions by similar names, in the parts of a question where no convincing name stands."""
    convincing = [m.span for m in _cover(found) if m.score >= _CONVINCING]
    taken = {(m.span.first, m.span.last) for m in found if m.score >= MIN_SCORE}
    tries = []
    for span in spans_of(text.question, text.pieces):
        ends = text.pieces[span.first], text.pieces[span.last]
        words = text.words(span)
        if len(words) > 8 or not all(end.is_word for end in ends) or (span.first, span.last) in taken:
            continue
        if (is_function_word(ends[0].text) and ends[0].text.casefold() != "the") or is_function_word(ends[1].text):
            continue
        if all(is_common_word(word) or is_date_part(word) for word in words):
            continue
        if sum(len(word) for word in words) < 4 or any(_within(span, other) for other in convincing):
            continue
        overlapping = any(_overlap(span, other) for other in convincing)
        common = sum(map(is_common_word, words))
        small = sum(word[0].islower() for word in words if not is_common_word(word)) if text.cased else 0
        tries.append((overlapping, common + small, -len(words), span.first, span))
    tries.sort()
    similar = [_similar(span, names, words_only=overlapping) for overlapping, *_, span in tries[:MAX_FUZZY]]
    return [mention for mention in (*similar, *_longer(found, names)) if mention is not None]


def _longer(found: Sequence[_Mention], names: Names) -> Iterable[_Mention | None]:
    """Well-known entities whose names begin with an obscure one that was found: "United States" of America."""
    for mention in sorted(_cover(found), key=lambda m: -m.score)[:3]:
        best = mention.bearers[0]
        if best.degree < _OBSCURE and mention.kind == "exact":
            similar = _similar(mention.span, names, words_only=False)
            if similar is not None and similar.bearers[0].degree >= _KNOWN * max(best.degree, 1):
                yield similar


def _similar(span: Span, names: Names, *, words_only: bool) -> _Mention | None:
    """The entities with the name most like a span; with ``words_only`` only those of the same words."""
    asked = without_possessive(span.text)
    exact = {match.name for match in names.find([span.text]).get(span.text, ())}
    found = []
    for match in names.closest(asked, _CLOSEST):
        mention = None if match.name in exact else _compare(span, fold(asked), match)
        if mention is not None and (mention.kind == "folded" or not words_only):
            found.append(mention)
    if not found:
        return None
    best = min(found, key=_strangeness)
    bearers = [m.bearers[0] for m in found if (m.kind, m.distance) == (best.kind, best.distance)]
    bearers.sort(key=lambda match: (-match.degree, match.name))
    return replace(best, bearers=tuple(dict.fromkeys(bearers)))


def _strangeness(mention: _Mention) -> float:
    """How unlikely it is that this similar name is meant; of longer names, well-known ones rather than short ones."""
    known = 0.25 * math.log2(1 + mention.bearers[0].degree)
    return {"folded": 0.0, "typo": 2.0 + mention.distance, "part": 4.0 + 1.5 * mention.distance - known}[mention.kind]


def _compare(span: Span, asked: str, match: NameMatch) -> _Mention | None:
    """What a name has to do with the words asked for (both without case and accents), None if nothing."""
    plain = fold(without_bracket(match.name))
    if asked in (fold(match.name), plain):
        return _Mention(span, (match,), 0.0, "folded")
    if not asked or not plain:
        return None
    short, long = asked.removeprefix("the ").split(), plain.split()
    if any(long[i : i + len(short)] == short for i in range(len(long) - len(short) + 1)):
        return _Mention(span, (match,), 1 - len(" ".join(short)) / len(plain), "part")
    matcher = SequenceMatcher(None, asked, plain, autojunk=False)
    if len(asked) >= 4 and matcher.quick_ratio() >= _TYPO and (ratio := matcher.ratio()) >= _TYPO:
        return _Mention(span, (match,), 1 - ratio, "typo")
    return None


def _within(span: Span, other: Span) -> bool:
    return other.first <= span.first and span.last <= other.last


def _overlap(span: Span, other: Span) -> bool:
    return span.first <= other.last and other.first <= span.last


def _cover(mentions: Sequence[_Mention]) -> list[_Mention]:
    """The mentions that do not overlap and together cover most, by dynamic programming over their ends."""
    ordered = sorted(mentions, key=lambda m: (m.span.last, -m.span.first, -m.score))
    best: list[tuple[float, int, int]] = [(0.0, -1, -1)]  # weight, mention taken, state before it
    ends: list[int] = [-1]
    for number, mention in enumerate(ordered):
        before = max(i for i, end in enumerate(ends) if end < mention.span.first)
        weight = best[before][0] + _weight(mention)
        if weight > best[-1][0]:
            best.append((weight, number, before))
            ends.append(mention.span.last)
    kept = []
    state = len(best) - 1
    while state > 0:
        _, number, state = best[state]
        kept.append(ordered[number])
    return kept[::-1]


def _weight(mention: _Mention) -> float:
    letters = sum(map(str.isalnum, mention.span.text))
    return mention.score * math.pow(letters, _COVER_POWER)
