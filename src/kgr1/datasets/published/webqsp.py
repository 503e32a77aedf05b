"""WebQSP (Yih et al., ACL 2016): web queries with semantic parses on Freebase."""

from __future__ import annotations

from kgr1.datasets.published.card import Card, Count, Hub
from kgr1.datasets.published.format import Item, Reading, RowFormat, SourceFile
from kgr1.datasets.published.gold import entity, identity, literal, unique
from kgr1.datasets.published.numbered import NUMBERED
from kgr1.datasets.published.rog import WITH_GRAPH
from kgr1.datasets.published.rows import Row
from kgr1.types import GoldAnswer, Question


def _item(row: Row, file: SourceFile, reading: Reading) -> Item:
    """A question with the answers of all its parses, each of which counts as a right reading.

    Which answers belong to which parse is kept, for the official score, which takes the parse that suits a prediction
    best.
    """
    parses = row.rows("Parses")
    readings = [unique(_answer(answer) for answer in parse.rows("Answers")) for parse in parses]
    answers = unique(answer for reading in readings for answer in reading)
    places = {identity(answer): place for place, answer in enumerate(answers)}
    distinct = dict.fromkeys(tuple(sorted(places[identity(answer)] for answer in reading)) for reading in readings)
    topics = [
        reading.topic(parse.text("TopicEntityMid"), parse.optional("TopicEntityName"))
        for parse in parses
        if "TopicEntityMid" in parse
    ]
    first = next((parse for parse in parses if parse.fields.get("InferentialChain")), None)
    chain = first.texts("InferentialChain") if first is not None else ()
    constrained = first is not None and bool(first.fields.get("Constraints"))
    return Item(
        Question(
            id=row.text("QuestionId"),
            text=row.optional("RawQuestion") or row.text("ProcessedQuestion"),
            topics=tuple(dict.fromkeys(topics)),
            answers=answers,
            dataset=file.dataset,
            split=file.split,
            hops=len(chain) or None,
            gold_path=() if constrained else chain,
            parses=tuple(distinct) if len(distinct) > 1 else (),
        )
    )


def _answer(answer: Row) -> GoldAnswer:
    value = answer.text("AnswerArgument")
    if answer.text("AnswerType") == "Entity":
        return entity(value, answer.optional("EntityName"))
    return literal(value)


PARSES = RowFormat(
    name="official JSON",
    what="WebQSP.train.json and WebQSP.test.json: Questions with Parses and Answers",
    files=("WebQSP.*.json",),
    keys=frozenset({"QuestionId", "Parses"}),
    question=_item,
)

CARD = Card(
    name="webqsp",
    title="WebQuestionsSP",
    what="Questions that people typed into a search engine, with the relation chain that answers each",
    graph="Freebase; the RoG rows and the NSM files bring a graph for each question",
    formats=(WITH_GRAPH, NUMBERED, PARSES),
    counts=(
        Count("paper", {"train": 3098, "test": 1639}),
        Count("rmanluo/RoG-webqsp", {"train": 2826, "dev": 246, "test": 1628}),
        Count("ml1996/webqsp", {"train": 2848, "dev": 250, "test": 1639}),
    ),
    licence="Microsoft Research licence (questions and parses); Freebase: CC-BY",
    homepage="https://www.microsoft.com/en-us/download/details.aspx?id=52763",
    citations=(
        "Yih, Richardson, Meek, Chang and Suh: The Value of Semantic Parse Labeling for Knowledge Base Question "
        "Answering. ACL 2016. https://aclanthology.org/P16-2033",
        "RoG rows: Luo, Li, Haffari and Pan: Reasoning on Graphs. ICLR 2024. https://arxiv.org/abs/2310.01061",
        "NSM files: He, Lan, Jiang, Zhao and Wen: Improving Multi-hop Knowledge Base Question Answering by Learning "
        "Intermediate Supervision Signals. WSDM 2021. https://arxiv.org/abs/2101.03737",
    ),
    notes=(
        "The paper has no dev split; RoG cuts one out of train and leaves out questions whose graph has no answer "
        "or no topic, so its test set is 11 questions smaller.",
        "The official scorer takes the best of several parses: best_parse_f1 of 'kgr1 rescore'. Only the official JSON "
        "has them, and for all other numbers the gold set is the union of all parses.",
        "A topic may be a Freebase id, an answer may be absent from the graph of its question, and the list of "
        "answers may be empty.",
    ),
    hub=Hub("rmanluo/RoG-webqsp", "c063253", ("data/*.parquet",)),
)
