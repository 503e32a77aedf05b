"""How the questions about countries are worded.

A question is a frame for the property asked for (``ASK``), filled with a country: its name, or a phrase that
identifies it by another fact (``IDENTIFY``). ``{x}`` is what gets filled in. Relations: see ``countries.tsv``.
"""

from __future__ import annotations

from collections.abc import Mapping

EMBEDDED_PHRASES: Mapping[str, tuple[str, str]] = {
    "borders": ("a neighbour of {x}", "a neighbour of {x}"),
    "calling code": ("the calling code of {x}", "the country with the calling code {x}"),
    "capital": ("the capital of {x}", "the country whose capital is {x}"),
    "continent": ("the continent of {x}", "a country in {x}"),
    "currency": ("the currency of {x}", "a country that pays with the {x}"),
    "internet domain": ("the internet domain of {x}", "the country with the internet domain {x}"),
    "located in": ("the part of the world that {x} is in", "a country in {x}"),
    "official language": ("an official language of {x}", "a country where {x} is an official language"),
    "part of": ("the continent that {x} belongs to", "a part of {x}"),
}
"""Relation -> (forward, backward) phrase, for :func:`kgr1.datasets.synthetic.generate_questions`."""

ASK: Mapping[str, tuple[str, ...]] = {
    "borders": (
        "Which countries border {x}?",
        "What are the neighbours of {x}?",
        "Name all countries next to {x}.",
        "With which countries does {x} share a frontier?",
    ),
    "calling code": (
        "What is the calling code of {x}?",
        "Which prefix do I dial to phone someone in {x}?",
        "What number must I dial first for a phone call to {x}?",
    ),
    "capital": (
        "What is the capital of {x}?",
        "Which city is the capital of {x}?",
        "Name the capital city of {x}.",
        "What is the name of the capital of {x}?",
    ),
    "continent": (
        "On which continent is {x}?",
        "Which continent does {x} belong to?",
        "What continent do I travel to if I visit {x}?",
    ),
    "currency": (
        "What is the currency of {x}?",
        "Which money is used in {x}?",
        "What do people pay with in {x}?",
        "What money do I need for a trip to {x}?",
    ),
    "internet domain": (
        "What is the internet domain of {x}?",
        "What do web addresses in {x} end in?",
        "Which top-level domain belongs to {x}?",
    ),
    "located in": (
        "In which part of the world is {x}?",
        "Which subregion does {x} lie in?",
        "Where in the world is {x} located?",
    ),
    "official language": (
        "Which languages are official in {x}?",
        "What is spoken officially in {x}?",
        "What are the official languages of {x}?",
        "In which language are laws written in {x}?",
    ),
    "^calling code": (
        "Which country has the calling code {x}?",
        "A phone number starts with {x}. Which country is it from?",
        "Where do I end up when I dial {x}?",
    ),
    "^capital": (
        "Which country has {x} as its capital?",
        "Of which country is {x} the capital?",
        "{x} is the capital of which country?",
        "To which country does the capital {x} belong?",
    ),
    "^currency": (
        "Which countries use the {x}?",
        "Where can I pay with the {x}?",
        "In which countries is the {x} the money in use?",
    ),
    "^internet domain": (
        "Which country uses the internet domain {x}?",
        "Whose web addresses end in {x}?",
        "Which country does the top-level domain {x} stand for?",
    ),
    "^located in": (
        "Which countries are in {x}?",
        "Name the countries of {x}.",
        "What countries make up {x}?",
    ),
    "^official language": (
        "Where is {x} an official language?",
        "In which countries is {x} official?",
        "Which countries have {x} as an official language?",
        "Where do the authorities speak {x}?",
    ),
    "^part of": ("Which subregions does {x} have?", "Into which parts is {x} divided?"),
    "part of": ("Which continent is {x} a part of?", "On which continent does one find {x}?"),
}
"""Path of one hop -> frames."""

ASK_MANY: Mapping[str, tuple[str, ...]] = {
    "capital": ("What are the capitals of {x}?", "Name the capital cities of {x}."),
    "currency": ("Which currencies are used in {x}?", "What money do people pay with in {x}?"),
    "internet domain": ("What are the internet domains of {x}?", "In what do web addresses end in {x}?"),
    "official language": ("Which languages are official in {x}?", "What are the official languages of {x}?"),
}
"""Relation -> frames for several countries at once."""

IDENTIFY: Mapping[str, tuple[str, ...]] = {
    "^calling code": ("the country with the calling code {x}", "the country whose phone numbers begin with {x}"),
    "^capital": (
        "the country whose capital is {x}",
        "the country that has {x} as its capital",
        "the country with the capital {x}",
    ),
    "^currency": ("the country that pays with the {x}", "the country whose currency is the {x}"),
    "^internet domain": ("the country with the internet domain {x}", "the country whose web addresses end in {x}"),
    "^official language": (
        "the only country where {x} is official",
        "the only country with {x} as an official language",
    ),
    "borders": ("the only neighbour of {x}", "the only country that borders {x}"),
}
"""Path of one hop -> phrases for the one country at its end."""

IDENTIFY_MANY: Mapping[str, tuple[str, ...]] = {
    "borders": ("the countries that border {x}", "the neighbours of {x}"),
    "^currency": ("the countries that pay with the {x}",),
    "^official language": ("the countries where {x} is an official language",),
}
"""Path of one hop -> phrases for several countries at its end."""

SAME: Mapping[str, tuple[str, ...]] = {
    "currency": (
        "Which other countries use the same currency as {x}?",
        "Where else can I pay with the money of {x}?",
    ),
    "located in": (
        "Which other countries are in the same part of the world as {x}?",
        "Name the other countries of the subregion of {x}.",
    ),
    "official language": (
        "Which other countries have the same official language as {x}?",
        "Where else is the language of {x} official?",
    ),
}
"""Relation -> frames for what shares its value with {x}, without {x} itself."""

BOTH: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("borders", "borders"): (
        "Which countries border both {x} and {y}?",
        "What are the common neighbours of {x} and {y}?",
        "Which countries lie next to {x} as well as {y}?",
    ),
    ("borders", "^currency"): (
        "Which neighbours of {x} pay with the {y}?",
        "In which countries next to {x} is the {y} used?",
    ),
    ("borders", "^located in"): (
        "Which neighbours of {x} are in {y}?",
        "Which countries of {y} share a frontier with {x}?",
    ),
    ("borders", "^official language"): (
        "In which neighbours of {x} is {y} an official language?",
        "Which countries that border {x} have {y} as an official language?",
    ),
    ("^currency", "^official language"): (
        "Which countries pay with the {x} and have {y} as an official language?",
        "Where is the {x} used and {y} official?",
    ),
    ("^located in", "^currency"): (
        "Which countries in {x} use the {y}?",
        "Where in {x} can I pay with the {y}?",
    ),
    ("^located in", "^official language"): (
        "Which countries in {x} have {y} as an official language?",
        "Where in {x} is {y} official?",
    ),
    ("^official language", "^official language"): (
        "Which countries have both {x} and {y} as official languages?",
        "Where are {x} and {y} official side by side?",
    ),
}
"""Two paths of one hop -> frames with both topics."""

WITH_ARTICLE = frozenset(
    (
        "Bahamas",
        "Caribbean",
        "Central African Republic",
        "Comoros",
        "Democratic Republic of the Congo",
        "Dominican Republic",
        "Federated States of Micronesia",
        "Gambia",
        "Maldives",
        "Marshall Islands",
        "Netherlands",
        "Philippines",
        "Republic of the Congo",
        "Seychelles",
        "Solomon Islands",
        "United Arab Emirates",
        "United Kingdom",
        "United States",
    )
)
"""Names that take "the" in a sentence."""
