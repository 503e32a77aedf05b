"""Spellings of names that graphs use, and questions rewritten to match.

Published graphs write one thing in many ways: ``Barack Obama``, ``barack_obama``, ``place_of_birth``,
``people.person.place_of_birth``, ``placeOfBirth``. A policy that has seen one of them copies names in that one. With
styles, one graph serves as many.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from kgr1.datasets.asking import readable
from kgr1.datasets.paths import AND, BACKWARD, is_time
from kgr1.errors import DatasetError
from kgr1.graph.names import is_identifier
from kgr1.graph.renaming import Renaming
from kgr1.types import GoldAnswer, Question

AS_IS = "as_is"
EXCHANGED = "exchanged"
"""Every entity bears the name of another one, so that nothing known about the world helps."""

Style = Callable[[str], str]


def _spaced(name: str) -> str:
    return " ".join(name.replace("_", " ").split())


def _snake(name: str) -> str:
    return "_".join(name.lower().split())


def _title(name: str) -> str:
    words = _spaced(name).split(" ")
    return " ".join(word[:1].upper() + word[1:] for word in words)


def _camel(relation: str) -> str:
    first, *rest = readable(relation).split(" ")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


ENTITY_STYLES: Mapping[str, Style] = {
    "spaced": _spaced,
    "snake": _snake,
    "title": _title,
    "lower": lambda name: _spaced(name).lower(),
    "upper": lambda name: _spaced(name).upper(),
}
"""Style of entity names -> how a name is written in it. Nodes without a letter keep their name."""

RELATION_STYLES: Mapping[str, Style] = {
    "spaced": readable,
    "snake": lambda relation: readable(relation).replace(" ", "_"),
    "camel": _camel,
    "upper": lambda relation: readable(relation).replace(" ", "_").upper(),
    "kebab": lambda relation: readable(relation).replace(" ", "-"),
}
"""Style of relation names -> how one is written in it; the part after the last dot, which says what it means."""

_LETTER = re.compile(r"[^\W\d_]")


def entity_renaming(style: str, names: Iterable[str], seed: int) -> Renaming:
    """The map of a style for these names; raises :class:`DatasetError` for an unknown style."""
    if style == AS_IS:
        return Renaming({})
    speaking = [name for name in names if _speaks(name)]
    if style == EXCHANGED:
        return Renaming.exchanged(speaking, seed)
    return Renaming.styled(names, _keep_nameless(_known(style, ENTITY_STYLES, "entity")))


def relation_renaming(style: str, names: Iterable[str]) -> Renaming:
    """The map of a style for these relations; raises :class:`DatasetError` for an unknown style."""
    if style == AS_IS:
        return Renaming({})
    return Renaming.styled(names, _known(style, RELATION_STYLES, "relation"))


def _known(style: str, styles: Mapping[str, Style], kind: str) -> Style:
    if style not in styles:
        extra = (AS_IS, EXCHANGED) if kind == "entity" else (AS_IS,)
        known = ", ".join([*extra, *styles])
        raise DatasetError(f"There is no style of {kind} names '{style}'; choose from {known}.", style=style)
    return styles[style]


def _keep_nameless(style: Style) -> Style:
    return lambda name: style(name) if _speaks(name) else name


def _speaks(name: str) -> bool:
    return bool(_LETTER.search(name)) and not is_identifier(name)


def restyle(question: Question, entities: Renaming, relations: Renaming, *, strict: bool = False) -> Question | None:
    """The question about the renamed graph: topics, answers, gold path, and the topics wherever the text names them.

    With ``strict`` the text must name every topic, and no answer: None if it does not. Names that are exchanged want
    it, since the text would otherwise speak of something else.
    """
    text, named = _rename(question.text, question.topics, entities)
    if strict and not named.issuperset(question.topics):
        return None
    if strict and any(_mentions(question.text, gold.label) for gold in question.answers):
        return None
    return question.model_copy(
        update={
            "text": text,
            "topics": tuple(entities(topic) for topic in question.topics),
            "answers": tuple(_restyle_gold(gold, entities) for gold in question.answers),
            "gold_path": tuple(_restyle_hop(hop, relations) for hop in question.gold_path),
        }
    )


def _restyle_gold(gold: GoldAnswer, entities: Renaming) -> GoldAnswer:
    identifier = None if gold.id is None else entities(gold.id)
    label = entities(gold.label)
    # Aliases of the old name would be wrong answers where names were exchanged.
    aliases = gold.aliases if label == gold.label else ()
    return GoldAnswer(label=label, id=identifier, aliases=aliases)


def _restyle_hop(hop: str, relations: Renaming) -> str:
    if hop == AND or is_time(hop):
        return hop
    if hop.startswith(BACKWARD):
        return BACKWARD + relations(hop[len(BACKWARD) :])
    return relations(hop)


def _rename(text: str, names: Iterable[str], renaming: Renaming) -> tuple[str, set[str]]:
    """The text with all mentions of these names replaced, and those of the names that it has.

    All in one pass, or the new name of one would be taken for a mention of another; the longest first, or "Lake Chad"
    would be taken for one of "Chad".
    """
    ordered = sorted((name for name in names if _pattern(name)), key=len, reverse=True)
    if not ordered:
        return text, set()
    named: set[str] = set()

    def renamed(match: re.Match[str]) -> str:
        alike = ordered[(match.lastindex or 1) - 1]
        # Names that differ in case only are told apart where the text does it.
        name = next((name for name in ordered if _spaced(name) == _spaced(match[0])), alike)
        named.add(name)
        return _like(renaming(name), match[0])

    groups = "|".join(f"({_pattern(name)})" for name in ordered)
    return re.sub(rf"(?<!\w)(?:{groups})(?!\w)", renamed, text, flags=re.IGNORECASE), named


def _mentions(text: str, name: str) -> bool:
    """Whether a text names something."""
    pattern = _pattern(name)
    return bool(pattern and re.search(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE))


def _pattern(name: str) -> str:
    """A name as a text may write it, with blanks for underscores; case is left to the search."""
    return "[ _]+".join(re.escape(word) for word in re.split(r"[\s_]+", name) if word)


def _like(name: str, mention: str) -> str:
    """A name in the case of the words that it replaces: people write questions in lower case."""
    return _spaced(name).lower() if mention.islower() and "_" not in mention else name
