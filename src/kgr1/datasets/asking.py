"""How made questions are worded: relations as words, phrases for hops, and the sentences around them."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

from kgr1.datasets.paths import Hop
from kgr1.datasets.wordings import WORDINGS

FRAMES = ("What is {x}?", "Name {x}.", "Find {x}.", "Tell me {x}.", "Can you tell me {x}?", "I am looking for {x}.")
BOTH_FRAMES = (
    "What is both {x} and {y}?",
    "Name everything that is {x} and {y}.",
    "Find what is at once {x} and {y}.",
    "I am looking for {x} that is also {y}.",
)
Phrases = Mapping[str, Sequence[str]]
"""Relation -> [forward phrase, backward phrase], e.g. ``{"capital": ["the capital of {x}", "the country whose
capital is {x}"]}``; ``{x}`` is replaced."""

NATURAL_SHARE = 0.6
"""How often a relation that people have their own words for (:mod:`kgr1.datasets.wordings`) is asked for in these."""

# Label forms of readable(): a noun ("capital"), a verb ("plays for"), a participle ("directed by"), what events in the
# news are called ("make a visit").
_GENERIC: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "noun": (
        ("the {r} of {x}", "the {r} that {x} has"),
        ("the one whose {r} is {x}", "the one with {x} as its {r}", "the one that has the {r} {x}"),
    ),
    "verb": (("the one that {x} {r}",), ("the one that {r} {x}",)),
    "participle": (
        ("the one that {x} is {r}", "the one that {x} was {r}"),
        ("the one {r} {x}", "the one that is {r} {x}"),
    ),
    "act": (
        ('the target of "{r}" by {x}', 'the one that "{r}" by {x} was aimed at'),
        ('the source of "{r}" towards {x}', 'the one that aimed "{r}" at {x}'),
    ),
}
_AUXILIARIES = frozenset(("is", "was", "are", "were", "has", "had"))
_PREPOSITIONS = frozenset(("by", "in", "of", "for", "to", "at", "from", "with", "on", "as", "under", "into"))

_ACTS = frozenset(
    re.findall(
        r"\w+",
        "accede accuse acknowledge abduct apologize arrest assassinate coerce complain confiscate consider consult "
        "cooperate criticize declare decline defend defy deny demobilize demonstrate destroy detonate discuss employ "
        "engage expel forgive give grant impose investigate kill make mediate meet mobilize negotiate obstruct occupy "
        "provide receive refuse reject seize threaten violate",
    )
)
"""Verbs that begin the name of an event and are hardly ever nouns."""

_ACTS_WITH_MORE = frozenset(
    re.findall(
        r"\w+",
        "appeal attempt ban bring carry conduct demand ease express fight halt host increase praise protest rally "
        "reduce retreat return share sign use veto yield",
    )
)
"""The same, if a word of :data:`_SMALL` follows: "host a visit", not "host country"."""

_SMALL = frozenset(re.findall(r"\w+", "a an as for in not of on or out the to up with"))


def phrase(hop: Hop, inner: str, phrases: Phrases, rng: random.Random) -> str:
    """A hop in words, from what ``inner`` says; without a phrase of its own by the form of the relation's label."""
    if hop.relation in phrases:
        return fill(phrases[hop.relation][hop.backward], x=inner)
    label = readable(hop.relation)
    wording = WORDINGS.get(label.lower())
    natural = wording.phrases(backward=hop.backward) if wording is not None else ()
    if natural and rng.random() < NATURAL_SHARE:
        return fill(rng.choice(natural), x=inner)
    return fill(rng.choice(_GENERIC[_form(label)][hop.backward]), x=inner, r=label)


def sentence(hop: Hop, inner: str, phrases: Phrases, rng: random.Random) -> str:
    """A question for the last hop from what ``inner`` says: as people ask about such a relation, or a frame."""
    wording = None if hop.relation in phrases else WORDINGS.get(readable(hop.relation).lower())
    natural = wording.questions(backward=hop.backward) if wording is not None else ()
    if natural and rng.random() < NATURAL_SHARE:
        return fill(rng.choice(natural), x=inner)
    return fill(rng.choice(FRAMES), x=phrase(hop, inner, phrases, rng))


def readable(relation: str) -> str:
    """A relation label as words: ``people.person.place_of_birth`` -> ``place of birth``, ``bornIn`` -> ``born in``.

    A leading "has" is dropped: "has genre" names the same thing as "genre".
    """
    last = re.split(r"[./#:]", relation.rstrip("./#:"))[-1] or relation
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", last).replace("_", " ").replace("-", " ").split()
    if len(words) > 1 and words[0].lower() == "has":
        words = words[1:]
    return " ".join(word if word.isupper() else word.lower() for word in words) or relation


def _form(label: str) -> str:
    words = label.split()
    if words[0] in _AUXILIARIES or (len(words) > 1 and words[0].endswith("s") and words[1] in _PREPOSITIONS):
        return "verb"
    if len(words) > 1 and words[-1] in _PREPOSITIONS and words[0].endswith(("ed", "en", "rn")):
        return "participle"
    first = words[0].rstrip(",")
    if first in _ACTS or (first in _ACTS_WITH_MORE and len(words) > 1 and words[1] in _SMALL):
        return "act"
    return "noun"


def fill(template: str, **values: str) -> str:
    """Replace ``{key}`` in one pass, so that braces inside the values stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), template)
