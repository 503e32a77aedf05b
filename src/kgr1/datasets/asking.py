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

OWNED_SHARE = 0.5
"""How often "the mother of Ada" becomes "Ada's mother"."""

ASKED_SHARE = 0.3
"""How often a relation without words of its own is asked for in a question of its own, and not in a frame."""

_OF = re.compile(r"\bthe (\{r\}|\w+|\w+ \w+) of \{x\}")

# Label forms of readable(): a noun ("capital"), a verb ("plays for"), a participle ("directed by"), what events in the
# news are called ("make a visit").
_GENERIC: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "noun": (
        ("the {r} of {x}", "the {r} that {x} has"),
        (
            "the one whose {r} is {x}",
            "the one with {x} as its {r}",
            "the one that has the {r} {x}",
            "those whose {r} is {x}",
            "what has {x} as its {r}",
        ),
    ),
    "verb": (("the one that {x} {r}", "what {x} {r}"), ("the one that {r} {x}", "whoever {r} {x}")),
    "participle": (
        ("the one that {x} is {r}", "the one that {x} was {r}", "what {x} was {r}"),
        ("the one {r} {x}", "the one that is {r} {x}", "those {r} {x}", "what was {r} {x}"),
    ),
    "act": (
        ('the target of "{r}" by {x}', 'the one that "{r}" by {x} was aimed at'),
        ('the source of "{r}" towards {x}', 'the one that aimed "{r}" at {x}'),
    ),
}
# Whole questions for the last hop of a longer one, with and without a question word in front.
_ASKED: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "noun": (
        ("Which {r} does {x} have?", "What {r} does {x} have?", "{x} has which {r}?"),
        ("Whose {r} is {x}?", "What has {x} as its {r}?", "{x} is the {r} of what?"),
    ),
    "verb": (("What is it that {x} {r}?",), ("Who or what {r} {x}?", "Which one {r} {x}?")),
    "participle": (("{x} was {r} what?", "What was {x} {r}?"), ("What was {r} {x}?", "Which ones are {r} {x}?")),
    "act": ((), ()),
}

# What shares something with {x}: a relation and back, by the form of its label and the direction of the first hop.
_SHARED: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "noun": (
        ("the others with the same {r} as {x}", "those that share their {r} with {x}", "what has the {r} of {x}, too"),
        ("those that are {r} together with {x}", "the other {r} of what {x} is the {r} of", "the fellow {r} of {x}"),
    ),
    "verb": (("the others that {r} the same as {x}", "those that {r} what {x} {r}"), ()),
    "participle": (
        ("the others {r} the same as {x}", "those {r} whatever {x} was {r}"),
        ("what those {r} {x} were {r} as well",),
    ),
    "act": ((), ()),
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

_CLAUSES = ("the ", "those ", "what ", "whoever ")
"""How the phrases begin that nothing is said to belong to: not "the one that Ada knows's mother"."""

_SMALL = frozenset(re.findall(r"\w+", "a an as for in not of on or out the to up with"))


def phrase(hop: Hop, inner: str, phrases: Phrases, rng: random.Random) -> str:
    """A hop in words, from what ``inner`` says; without a phrase of its own by the form of the relation's label."""
    if hop.relation in phrases:
        return fill(phrases[hop.relation][hop.backward], x=inner)
    label = readable(hop.relation)
    wording = WORDINGS.get(label.lower())
    natural = wording.phrases(backward=hop.backward) if wording is not None else ()
    if not natural or rng.random() >= NATURAL_SHARE:
        natural = _GENERIC[_form(label)][hop.backward]
    return fill(_owned(rng.choice(natural), inner, rng), x=inner, r=label)


def shared_phrase(hop: Hop, inner: str, phrases: Phrases, rng: random.Random) -> str:
    """What a hop and the way back lead to, from what ``inner`` says: what shares something with it."""
    label = readable(hop.relation)
    templates = () if hop.relation in phrases else _SHARED[_form(label)][hop.backward]
    if not templates or rng.random() < 0.5:  # the film directed by the director of Alien
        return phrase(hop.back, phrase(hop, inner, phrases, rng), phrases, rng)
    return fill(rng.choice(templates), x=inner, r=label)


def sentence(hop: Hop, inner: str, phrases: Phrases, rng: random.Random) -> str:
    """A question for the last hop from what ``inner`` says: as people ask about such a relation, or a frame."""
    label = readable(hop.relation)
    wording = WORDINGS.get(label.lower())
    own: Sequence[str] = ()
    if hop.relation not in phrases:
        natural = wording.questions(backward=hop.backward) if wording is not None else ()
        if natural and rng.random() < NATURAL_SHARE:
            own = natural
        elif rng.random() < ASKED_SHARE:
            own = _ASKED[_form(label)][hop.backward]
    if own:
        return fill(_owned(rng.choice(own), inner, rng), x=inner, r=label)
    return fill(rng.choice(FRAMES), x=phrase(hop, inner, phrases, rng))


def _owned(template: str, inner: str, rng: random.Random) -> str:
    """The template with "{x}'s mother" for "the mother of {x}", sometimes, where ``inner`` is short enough to own."""
    if inner.startswith(_CLAUSES) or rng.random() >= OWNED_SHARE:
        return template
    return _OF.sub(r"{x}'s \1", template)


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
