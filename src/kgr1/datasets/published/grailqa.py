"""GrailQA (Gu et al., WWW 2021): questions on Freebase for three levels of generalisation."""

from __future__ import annotations

from kgr1.datasets.published.card import Card, Count
from kgr1.datasets.published.format import Item, Reading, RowFormat, SourceFile
from kgr1.datasets.published.gold import entity, literal, unique
from kgr1.datasets.published.rows import Row
from kgr1.types import GoldAnswer, Question


def _item(row: Row, file: SourceFile, reading: Reading) -> Item:
    return Item(
        Question(
            id=row.text("qid"),
            text=row.text("question"),
            topics=tuple(dict.fromkeys(_topics(row, reading))),
            answers=unique(map(_answer, row.rows("answer"))) if "answer" in row else (),
            dataset=file.dataset,
            # The list that carries topics is a part of dev.
            split=file.split or ("dev" if "topic_entity" in row else ""),
            kind=row.optional("level"),
        )
    )


def _topics(row: Row, reading: Reading) -> list[str]:
    if "topic_entity" in row:
        return [reading.topic(each, name) for each, name in row.names("topic_entity").items()]
    if "graph_query" not in row:  # the public test file
        return []
    nodes = [node for node in row.row("graph_query").rows("nodes") if node.text("node_type") == "entity"]
    # Ids that begin with g. are values and nodes without a name; lists of topics leave them out.
    return [reading.topic(node.text("id"), node.optional("friendly_name")) for node in nodes if _named(node)]


def _named(node: Row) -> bool:
    return not node.text("id").startswith("g.")


def _answer(answer: Row) -> GoldAnswer:
    value = answer.text("answer_argument")
    if answer.text("answer_type") == "Entity":
        return entity(value, answer.optional("entity_name"))
    return literal(value)


OFFICIAL = RowFormat(
    name="official JSON",
    what="grailqa_v1.0_{train,dev,test_public}.json, also with the topic_entity that the ToG project adds",
    files=("grailqa*.json",),
    keys=frozenset({"qid", "question"}),
    question=_item,
)

CARD = Card(
    name="grailqa",
    title="GrailQA 1.0",
    what="Questions made from queries and put into words by crowd workers, in three levels of generalisation",
    graph="Freebase",
    formats=(OFFICIAL,),
    counts=(
        Count("paper and files", {"train": 44337, "dev": 6763, "test": 13231}),
        Count("ToG's grailqa.json", {"dev": 1000}),
    ),
    licence="Apache 2.0 (repository); the card on the Hugging Face hub says unknown",
    homepage="https://dki-lab.github.io/GrailQA/",
    citations=(
        "Gu, Kase, Vanni, Sadler, Liang, Yan and Su: Beyond I.I.D.: Three Levels of Generalization for Question "
        "Answering on Knowledge Bases. WWW 2021. https://arxiv.org/abs/2011.07743",
    ),
    notes=(
        "The public test file has questions only, so results that others call test are on dev.",
        "kind is the level: i.i.d., compositional or zero-shot. Questions with a number as the answer need counting.",
    ),
)
