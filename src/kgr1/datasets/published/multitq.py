"""MultiTQ (Chen et al., ACL 2023): questions about dated events of ICEWS, by day, month and year."""

from __future__ import annotations

from kgr1.datasets.published.card import NOT_STATED, Card, Count, GraphTable, Hub
from kgr1.datasets.published.format import Item, Reading, RowFormat, SourceFile
from kgr1.datasets.published.gold import entity, literal, unique
from kgr1.datasets.published.rows import Row
from kgr1.types import Question


def spelled(name: str) -> str:
    """A name of the event files as answers and questions spell it: blanks for underscores."""
    return name.replace("_", " ").strip()


def _item(row: Row, file: SourceFile, reading: Reading) -> Item:
    of_time = row.text("answer_type") == "time"
    answers = (literal(name) if of_time else entity(spelled(name)) for name in row.texts("answers"))
    kind = row.optional("qtype")
    return Item(
        Question(
            id=row.text("quid"),
            text=row.text("question"),
            topics=tuple(map(spelled, row.texts("topic_entities"))) if "topic_entities" in row else (),
            answers=unique(answers),
            dataset=file.dataset,
            split=file.split,
            # What is asked for in time matters more than the type alone: a day is answered unlike an entity.
            kind=f"{kind}: {row.text('time_level')}" if of_time and "time_level" in row else kind,
        )
    )


def _fact(line: str) -> tuple[str, ...] | None:
    fields = line.split("\t")
    return (*map(spelled, fields[:3]), fields[3]) if len(fields) == 4 else None


OFFICIAL = RowFormat(
    name="official JSON",
    what="{train,dev,test}.json: quid, question, answers, answer_type, time_level, qtype, qlabel",
    files=("train.json", "dev.json", "test.json"),
    keys=frozenset({"quid", "question", "answers", "answer_type"}),
    question=_item,
)

CARD = Card(
    name="multitq",
    title="MultiTQ",
    what="Questions from templates, paraphrased, about who did what when, with answers in days, months and years",
    graph="ICEWS05-15, dated (data/Dataset.zip of the repository; not on the Hugging Face hub)",
    formats=(OFFICIAL,),
    counts=(
        Count("paper and files", {"train": 386787, "dev": 58979, "test": 54584}),
        Count("facts in full.txt", {"all": 461329}),
    ),
    licence=f"{NOT_STATED}; events: terms of the Harvard Dataverse",
    homepage="https://github.com/czy1999/MultiTQ",
    citations=(
        "Chen, Liao and Zhao: Multi-granularity Temporal Question Answering over Knowledge Graphs. ACL 2023. "
        "https://aclanthology.org/2023.acl-long.637",
    ),
    notes=(
        "The files name no topics and no ids; find topics in the text with --link.",
        "Names have underscores in the graph and blanks in the answers; both are read with blanks.",
        "Answers in time are dates, which are no nodes of the graph. Their kind ends in day, month or year.",
    ),
    hub=Hub(
        "chenziyang/MultiTQ",
        "34850e25454666eb89c26d7be5d391e0da05e0bf",
        ("train.json", "dev.json", "test.json"),
    ),
    table=GraphTable(files=("full.txt",), fact=_fact, dated=True),
)
