"""WebQuestions (Berant et al., EMNLP 2013): web queries with answers read off Freebase pages."""

from __future__ import annotations

import re

from kgr1.datasets.published.card import NOT_STATED, Card, Count, Hub
from kgr1.datasets.published.format import Item, Reading, RowFormat, SourceFile
from kgr1.datasets.published.gold import literal, unique
from kgr1.datasets.published.rows import Row
from kgr1.types import Question

_DESCRIPTION = re.compile(r'\(description (?:"((?:[^"\\]|\\.)*)"|([^()\s"]+))\)')


def descriptions(value: str) -> list[str]:
    r"""The answers in the list notation of the official files.

    >>> descriptions('(list (description "Jamaican English") (description 1972))')
    ['Jamaican English', '1972']
    """
    return [re.sub(r"\\(.)", r"\1", quoted) or bare for quoted, bare in _DESCRIPTION.findall(value)]


def _official(row: Row, file: SourceFile, reading: Reading) -> Item:
    value = row.text("targetValue")
    answers = descriptions(value)
    if not answers and value.strip() != "(list)":
        row.bad("'targetValue' must be a (list (description ...) ...)")
    return _item(row, file, row.text("utterance"), (_page(row),), answers)


def _with_answers(row: Row, file: SourceFile, reading: Reading) -> Item:
    topics: tuple[str, ...] = (_page(row),)
    if "topic_entity" in row:
        topics = tuple(reading.topic(each, name) for each, name in row.names("topic_entity").items())
    return _item(row, file, row.text("question"), topics, row.texts("answers"))


def _item(row: Row, file: SourceFile, text: str, topics: tuple[str, ...], answers: list[str] | tuple[str, ...]) -> Item:
    return Item(
        Question(
            id=file.number(row.number),
            text=text,
            topics=topics,
            answers=unique(map(literal, answers)),
            dataset=file.dataset,
            split=file.split,
        )
    )


def _page(row: Row) -> str:
    """What the address of the Freebase page calls the topic: ``.../view/en/justin_bieber``."""
    return row.text("url").rstrip("/").rpartition("/")[2].replace("_", " ")


OFFICIAL = RowFormat(
    name="official JSON",
    what="webquestions.examples.{train,test}.json: url, utterance, targetValue",
    files=("webquestions.examples.*.json",),
    keys=frozenset({"url", "utterance", "targetValue"}),
    question=_official,
)
WITH_ANSWERS = RowFormat(
    name="rows with answers",
    what="Parquet or JSON with url, question and answers; ToG's list adds topic_entity",
    files=("*.parquet", "webquestions.json"),
    keys=frozenset({"url", "question", "answers"}),
    question=_with_answers,
    split="test",
)

CARD = Card(
    name="webquestions",
    title="WebQuestions",
    what="Questions that people typed into a search engine; crowd workers picked answers from a Freebase page",
    graph="Freebase",
    formats=(OFFICIAL, WITH_ANSWERS),
    counts=(
        Count("paper and files", {"train": 3778, "test": 2032}),
        Count("ToG's webquestions.json", {"test": 2032}),
    ),
    licence=f"{NOT_STATED} in the files; the card on the Hugging Face hub says unknown",
    homepage="https://nlp.stanford.edu/software/sempre/",
    citations=(
        "Berant, Chou, Frostig and Liang: Semantic Parsing on Freebase from Question-Answer Pairs. EMNLP 2013. "
        "https://aclanthology.org/D13-1160",
    ),
    notes=(
        "Answers are names without identifiers. Topics are the names in page addresses, or ToG's topic entities.",
        "Most of its questions are in WebQSP too, with other ids.",
    ),
    hub=Hub("stanfordnlp/web_questions", "0e473cb", ("data/*.parquet",)),
)
