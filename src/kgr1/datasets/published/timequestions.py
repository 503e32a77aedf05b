"""TimeQuestions (Jia et al., CIKM 2021): questions about time on Wikidata."""

from __future__ import annotations

import re

from kgr1.datasets.published.card import NOT_STATED, Card, Count
from kgr1.datasets.published.format import Item, Reading, RowFormat, SourceFile
from kgr1.datasets.published.gold import entity, literal, unique
from kgr1.datasets.published.rows import Row
from kgr1.types import GoldAnswer, Question

_TYPES = ("Temporal question type", "Type")  # the name of the field changed between releases
_QID = re.compile(r"Q\d+")


def _item(row: Row, file: SourceFile, reading: Reading) -> Item:
    kinds = next((row.texts(key) for key in _TYPES if key in row), ())
    return Item(
        Question(
            id=row.text("Id"),
            text=row.text("Question"),
            topics=(),
            answers=unique(_answer(answer) for answer in row.rows("Answer")),
            dataset=file.dataset,
            split=file.split,
            kind=", ".join(kinds),
        )
    )


def _answer(answer: Row) -> GoldAnswer:
    identifier = answer.optional("WikidataQid")
    if _QID.fullmatch(identifier):
        return entity(identifier, answer.optional("WikidataLabel"))
    value = answer.optional("AnswerArgument") or answer.optional("WikidataLabel") or identifier
    if not value:
        answer.bad("an answer has neither 'WikidataQid' nor 'AnswerArgument'")
    return literal(value)


OFFICIAL = RowFormat(
    name="official JSON",
    what="{train,dev,test}.json: Id, Question, Temporal signal, Type, Answer (by Wikidata id, or a value)",
    files=("train.json", "dev.json", "test.json"),
    keys=frozenset({"Id", "Question", "Answer"}),
    question=_item,
)

CARD = Card(
    name="timequestions",
    title="TimeQuestions",
    what="Questions about time collected from other question sets, with answers on Wikidata",
    graph="Wikidata with dates",
    formats=(OFFICIAL,),
    counts=(Count("paper and files", {"train": 9708, "dev": 3236, "test": 3237}),),
    licence=f"{NOT_STATED} in the repository; Wikidata: CC0",
    homepage="https://github.com/zhenjia2017/EXAQT",
    citations=(
        "Jia, Pramanik, Saha Roy and Weikum: Complex Temporal Question Answering on Knowledge Graphs. CIKM 2021. "
        "https://arxiv.org/abs/2109.08935",
    ),
    notes=(
        "The files name no topics; find them in the text with --link.",
        "kind is the temporal type: Explicit, Implicit, Ordinal, Temp.Ans.",
    ),
)
