"""The question sets that kgr1 knows, by name."""

from __future__ import annotations

from difflib import get_close_matches

from kgr1.datasets.published import (
    cwq,
    grailqa,
    kilt,
    metaqa,
    multitq,
    pathquestion,
    qald,
    simplequestions,
    timequestions,
    webqsp,
    webquestions,
)
from kgr1.datasets.published.card import Card
from kgr1.errors import DatasetError

CARDS: tuple[Card, ...] = (
    webqsp.CARD,
    cwq.CARD,
    simplequestions.CARD,
    simplequestions.WIKIDATA_CARD,
    grailqa.CARD,
    qald.CARD,
    kilt.TREX,
    kilt.ZERO_SHOT,
    webquestions.CARD,
    multitq.CARD,
    timequestions.CARD,
    metaqa.CARD,
    pathquestion.CARD,
)
"""All of them, in the order in which they are listed."""


def card(name: str) -> Card:
    """The set of this name, however it is capitalised. Raises :class:`DatasetError` with the closest names."""
    known = {each.name: each for each in CARDS}
    found = known.get(name.strip().lower())
    if found is None:
        close = get_close_matches(name.strip().lower(), known, 2, 0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}."
        raise DatasetError(f"There is no question set called '{name}'; {hint}", name=name, close=close)
    return found
