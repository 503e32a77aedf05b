"""QALD-10 on Wikidata (Usbeck et al., 2023), in the JSON of the QALD challenges."""

from __future__ import annotations

import re
from collections.abc import Iterable

from kgr1.datasets.published.card import Card, Count
from kgr1.datasets.published.format import Item, Reading, RowFormat, SourceFile
from kgr1.datasets.published.gold import entity, literal, truth, unique
from kgr1.datasets.published.rows import Row
from kgr1.types import GoldAnswer, Question

LANGUAGE = "en"
_WIKIDATA = "http://www.wikidata.org/entity/"
_QID = re.compile(r"Q\d+")
_ENTITY = re.compile(r"\bwd:(Q\d+)\b")


def _official(row: Row, file: SourceFile, reading: Reading) -> Item | None:
    texts = [each.text("string") for each in row.rows("question") if each.text("language") == LANGUAGE]
    if not texts:  # asked in other languages only
        return None
    topics = dict.fromkeys(_ENTITY.findall(row.row("query").text("sparql")))
    return Item(
        Question(
            id=row.text("id"),
            text=texts[0],
            topics=tuple(reading.topic(each) for each in topics),
            answers=unique(answer for result in row.rows("answers") for answer in _answers(result, reading)),
            dataset=file.dataset,
            split=file.split,
            kind="aggregation" if row.fields.get("aggregation") is True else "",
        )
    )


def _answers(result: Row, reading: Reading) -> Iterable[GoldAnswer]:
    """The answers in a SPARQL result: the first variable of each binding, or a truth value."""
    value = result.fields.get("boolean")
    if isinstance(value, bool):
        return [truth(value)]
    names = result.row("head").texts("vars")
    bindings = result.row("results").rows("bindings")
    bound = [binding.row(name) for binding in bindings for name in names[:1] if name in binding]
    return [_answer(each, reading) for each in bound]


def _answer(value: Row, reading: Reading) -> GoldAnswer:
    text = value.text("value")
    if value.text("type") == "uri":
        identifier = text.removeprefix(_WIKIDATA)
        return entity(identifier, reading.label(identifier))
    return literal(text)


def _with_topics(row: Row, file: SourceFile, reading: Reading) -> Item:
    topics = (reading.topic(each, name) for each, name in row.names("topic_entity").items())
    answers = (
        entity(each, name) if _QID.fullmatch(each) else literal(each, [name])
        for each, name in row.names("answer").items()
    )
    return Item(
        Question(
            id=file.number(row.number),
            text=row.text("question"),
            topics=tuple(topics),
            answers=unique(answers),
            dataset=file.dataset,
            split=file.split,
        )
    )


OFFICIAL = RowFormat(
    name="QALD JSON",
    what="questions with a string for each language, a SPARQL query and its result; English is taken",
    files=("qald*.json",),
    keys=frozenset({"id", "question", "query", "answers"}),
    question=_official,
    split="test",
)
WITH_TOPICS = RowFormat(
    name="JSON with topics",
    what="the list that the ToG project publishes (qald_10-en.json): question, answer and topic_entity by Wikidata id",
    files=("qald*-en.json",),
    keys=frozenset({"question", "answer", "sparql", "topic_entity"}),
    question=_with_topics,
    split="test",
)

CARD = Card(
    name="qald10",
    title="QALD-10, English",
    what="Questions written by people in several languages, with SPARQL queries on Wikidata",
    graph="Wikidata",
    formats=(OFFICIAL, WITH_TOPICS),
    counts=(Count("files (test)", {"test": 394}), Count("ToG's qald_10-en.json", {"test": 333})),
    licence="MIT; Wikidata: CC0",
    homepage="https://github.com/KGQA/QALD_10",
    citations=(
        "Usbeck et al.: QALD-10 - The 10th Challenge on Question Answering over Linked Data. Semantic Web, 2023. "
        "https://github.com/KGQA/QALD_10",
    ),
    notes=(
        "ToG's 333 questions, on which most language model work reports, are the 394 without the 61 yes-or-no ones.",
        "132 gold answers of ToG's list are numbers, and some labels are not English.",
        "Its train part is another set: qald_9_plus_train_wikidata.json in the same repository, read just so.",
        "The files have no labels for answers and topics; names come with --names.",
    ),
)
