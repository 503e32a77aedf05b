"""ComplexWebQuestions 1.1 (Talmor and Berant, NAACL 2018): compositions of WebQSP questions on Freebase."""

from __future__ import annotations

import re

from kgr1.datasets.published.card import Card, Count, Hub
from kgr1.datasets.published.format import Item, Reading, RowFormat, SourceFile
from kgr1.datasets.published.gold import entity, literal, unique
from kgr1.datasets.published.numbered import NUMBERED
from kgr1.datasets.published.rog import WITH_GRAPH
from kgr1.datasets.published.rows import Row
from kgr1.types import GoldAnswer, Question

_TYPES = re.compile(r"ns:common\.topic\.notable_types\s+ns:[mg]\.\w+")
_ENTITY = re.compile(r"ns:(m\.\w+)")
_MID = re.compile(r"[mg]\.\w+")


def sparql_topics(sparql: str) -> tuple[str, ...]:
    """The entities that a query names, without those that only say of what type the answer is.

    >>> sparql_topics("?c ns:a.b ns:m.03_dwn . ?x ns:common.topic.notable_types ns:m.01y2hnl .")
    ('m.03_dwn',)
    """
    return tuple(dict.fromkeys(_ENTITY.findall(_TYPES.sub("", sparql))))


def _official(row: Row, file: SourceFile, reading: Reading) -> Item:
    # In the public test file answers may be absent.
    answers = row.rows("answers") if "answers" in row else []
    topics = (reading.topic(each) for each in sparql_topics(row.text("sparql")))
    return Item(_question(row, file, tuple(topics), unique(map(_answer, answers))))


def _answer(answer: Row) -> GoldAnswer:
    identifier, name = answer.optional("answer_id"), answer.optional("answer")
    aliases = answer.texts("aliases") if "aliases" in answer else ()
    if _MID.fullmatch(identifier):
        return entity(identifier, name, aliases)
    if not (name or identifier):
        answer.bad("an answer has neither 'answer' nor 'answer_id'")
    return literal(name or identifier, aliases)


def _with_topics(row: Row, file: SourceFile, reading: Reading) -> Item:
    topics = (reading.topic(each, name) for each, name in row.names("topic_entity").items())
    return Item(_question(row, file, tuple(topics), (literal(row.text("answer")),)))


def _question(row: Row, file: SourceFile, topics: tuple[str, ...], answers: tuple[GoldAnswer, ...]) -> Question:
    return Question(
        id=row.text("ID"),
        text=row.text("question"),
        topics=tuple(dict.fromkeys(topics)),
        answers=answers,
        dataset=file.dataset,
        split=file.split,
        kind=row.optional("compositionality_type"),
    )


OFFICIAL = RowFormat(
    name="official JSON",
    what="ComplexWebQuestions_{train,dev,test}.json: ID, question, sparql and answers with ids and aliases",
    files=("ComplexWebQuestions_*.json",),
    keys=frozenset({"ID", "question", "sparql", "answers"}),
    question=_official,
)
WITH_TOPICS = RowFormat(
    name="JSON with topics",
    what="the list that the ToG project publishes: official fields, one answer as text, topic_entity",
    files=("cwq*.json",),
    keys=frozenset({"ID", "question", "answer", "topic_entity"}),
    question=_with_topics,
)

CARD = Card(
    name="cwq",
    title="ComplexWebQuestions 1.1",
    what="Questions composed from those of WebQSP by machine and put into words by crowd workers",
    graph="Freebase; the RoG rows and the NSM files bring a graph for each question",
    formats=(WITH_GRAPH, NUMBERED, OFFICIAL, WITH_TOPICS),
    counts=(
        Count("README of the package", {"train": 27734, "dev": 3480, "test": 3475}),
        Count("files of the package", {"train": 27639, "dev": 3519, "test": 3531}),
        Count("rmanluo/RoG-cwq", {"train": 27639, "dev": 3519, "test": 3531}),
        Count("ToG's cwq.json", {"test": 3531}),
    ),
    licence="not stated; Freebase: CC-BY",
    homepage="https://www.tau-nlp.sites.tau.ac.il/compwebq",
    citations=(
        "Talmor and Berant: The Web as a Knowledge-Base for Answering Complex Questions. NAACL 2018. "
        "https://arxiv.org/abs/1803.06643",
        "RoG rows: Luo, Li, Haffari and Pan: Reasoning on Graphs. ICLR 2024. https://arxiv.org/abs/2310.01061",
    ),
    notes=(
        "The README inside the package and the files beside it count differently in every split; the files count.",
        "ToG's list keeps one answer of several, and 11 of its rows have no topic.",
        "The official files name no topics: the entities in the SPARQL query are taken, without those that only say "
        "of what type the answer is.",
    ),
    hub=Hub("rmanluo/RoG-cwq", "b0f6275586286312c4e99ef4b0adc65463c91f8e", ("data/*.parquet",)),
)
