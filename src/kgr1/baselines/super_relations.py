"""Super-relations: named groups of relations (Wang et al., 2025).

A name with three dotted parts or more, as in Freebase, belongs to the group of its first two parts. Other vocabularies
have no such levels, so (*ours*) labels with the same head word are one group: the last word before the first
preposition, cut to five letters ("place of birth" and "birthPlace" both speak of a place). A group of that kind is
named by its medoid, the label that shares most words with the others. Which group a relation belongs to depends on its
label alone, so no backend has to know its whole vocabulary, and every run makes the same groups.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from kgr1.agent.rank import words_of

_PREPOSITIONS = frozenset(["about", "at", "by", "for", "from", "in", "into", "of", "on", "to", "with"])
_TYPED = re.compile(r"[^./\s]+\.[^./\s]+(?:\.[^./\s]+)+")


def group_of(relation: str) -> str:
    """The group that a relation belongs to.

    >>> group_of("people.person.children"), group_of("place of birth"), group_of("birthPlace")
    ('people.person', 'place', 'place')
    >>> group_of("http://example.org/ontology/isPartOf"), group_of("directed by")
    ('part', 'direc')
    """
    if _TYPED.fullmatch(relation):
        return ".".join(relation.split(".")[:2])
    words = _words(relation)
    stop = next((i for i, word in enumerate(words) if word in _PREPOSITIONS and i), len(words))
    return words[stop - 1] if words else relation


def _words(relation: str) -> list[str]:
    local = re.split(r"[/#]", relation.rstrip("/#"))[-1]  # of an IRI
    return words_of(local) or words_of(relation)


def name_of(group: str, members: Iterable[str]) -> str:
    """What a group is called: its own name for dotted vocabularies, else its medoid; ties go to the first by name.

    >>> name_of("place", ["place of birth", "birth place", "resting place"])
    'birth place'
    """
    labels = sorted(set(members))
    if not labels or _TYPED.fullmatch(labels[0]):
        return group
    words = {label: set(_words(label)) for label in labels}
    return max(labels, key=lambda label: (_likeness(label, words), [-ord(letter) for letter in label]))


def _likeness(label: str, words: dict[str, set[str]]) -> float:
    """The sum over the other labels of shared words by all words (Jaccard)."""
    own = words[label]
    return round(sum(len(own & other) / max(1, len(own | other)) for key, other in words.items() if key != label), 9)
