"""SimpleQuestions (Bordes et al., 2015): one fact a question, on Freebase or mapped to Wikidata."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kgr1.datasets.published.card import Card, Count
from kgr1.datasets.published.format import Item, LineFormat, Reading, RowFormat, SourceFile
from kgr1.datasets.published.gold import entity, literal
from kgr1.datasets.published.rows import Row
from kgr1.errors import DatasetError
from kgr1.types import Question

_SITE = "www.freebase.com/"
_FREEBASE = re.compile(rf"{re.escape(_SITE)}m/\w+\t{re.escape(_SITE)}\w+(/\w+)+\t{re.escape(_SITE)}m/\w+\t.*\S.*")
_WIKIDATA = re.compile(r"Q\d+\t[PR]\d+\tQ\d+\t.*\S.*")


def freebase_name(address: str) -> str:
    """The identifier in an address of Freebase.

    >>> freebase_name("www.freebase.com/people/person/gender"), freebase_name("www.freebase.com/m/0f3xg_")
    ('people.person.gender', 'm.0f3xg_')
    """
    return address.removeprefix(_SITE).replace("/", ".")


def _freebase(lines: Iterator[tuple[int, str]], file: SourceFile, reading: Reading) -> Iterator[Question]:
    for number, line in lines:
        if not _FREEBASE.fullmatch(line):
            raise _malformed(file, number, "subject, relation, object (www.freebase.com/...) and question, by tabs,")
        subject, relation, target, text = line.split("\t", 3)
        yield _question(
            number, (freebase_name(subject), freebase_name(relation), freebase_name(target)), text, file, reading
        )


def _wikidata(lines: Iterator[tuple[int, str]], file: SourceFile, reading: Reading) -> Iterator[Question]:
    for number, line in lines:
        if not _WIKIDATA.fullmatch(line):
            raise _malformed(file, number, "item, property, item (Q1, P1 or R1, Q2) and question, by tabs,")
        subject, relation, target, text = line.split("\t", 3)
        # R57 is P57 walked from the object to the subject.
        relation = f"^P{relation[1:]}" if relation.startswith("R") else relation
        yield _question(number, (subject, relation, target), text, file, reading)


def _malformed(file: SourceFile, number: int, expected: str) -> DatasetError:
    return DatasetError(f"{file.path}, line {number}: {expected} are expected.", path=str(file.path), line=number)


def _question(number: int, fact: tuple[str, str, str], text: str, file: SourceFile, reading: Reading) -> Question:
    subject, relation, target = fact
    return Question(
        id=file.number(number),
        text=text.strip(),
        topics=(reading.topic(subject),),
        answers=(entity(target, reading.label(target)),),
        dataset=file.dataset,
        split=file.split,
        hops=1,
        gold_path=(relation,),
    )


def _with_topics(row: Row, file: SourceFile, reading: Reading) -> Item:
    topics = (reading.topic(each, name) for each, name in row.names("topic_entity").items())
    return Item(
        Question(
            id=file.number(row.number),
            text=row.text("question"),
            topics=tuple(topics),
            answers=(literal(row.text("answer")),),
            dataset=file.dataset,
            split=file.split,
            hops=1,
        )
    )


FREEBASE = LineFormat(
    name="official text",
    what="annotated_fb_data_{train,valid,test}.txt: subject, relation, object, question, apart by tabs",
    files=("annotated_fb_data_*.txt",),
    looks=lambda line: _FREEBASE.fullmatch(line) is not None,
    questions=_freebase,
)
WITH_TOPICS = RowFormat(
    name="JSON with topics",
    what="the list that the ToG project publishes: question, answer, last part of the relation, topic_entity",
    files=("[Ss]imple[Qq][Aa]*.json",),
    keys=frozenset({"question", "answer", "relation", "topic_entity"}),
    question=_with_topics,
)
WIKIDATA = LineFormat(
    name="text on Wikidata",
    what="annotated_wd_data_{train,valid,test}[_answerable].txt: item, property, item, question, apart by tabs",
    files=("annotated_wd_data_*.txt",),
    looks=lambda line: _WIKIDATA.fullmatch(line) is not None,
    questions=_wikidata,
)

_PAPER = (
    "Bordes, Usunier, Chopra and Weston: Large-scale Simple Question Answering with Memory Networks. 2015. "
    "https://arxiv.org/abs/1506.02075"
)
CARD = Card(
    name="simplequestions",
    title="SimpleQuestions v2 (Freebase)",
    what="Questions that people wrote for one fact each",
    graph="Freebase (the package has the subsets FB2M and FB5M, without names)",
    formats=(FREEBASE, WITH_TOPICS),
    counts=(
        Count("paper and files", {"train": 75910, "dev": 10845, "test": 21687}),
        Count("ToG's simpleqa.json", {"all": 1000}),
    ),
    licence="Creative Commons (see the package)",
    homepage="https://research.facebook.com/downloads/babi/",
    citations=(_PAPER,),
    notes=(
        "The files have identifiers only; names come with --names.",
        "The gold answer is one object, even where the subject and the relation have several.",
        "simple_questions_v2 on the Hugging Face hub is a script, which current versions of its library refuse.",
        "ToG's list does not say which split its 1,000 questions are from.",
    ),
)
WIKIDATA_CARD = Card(
    name="simplequestions-wikidata",
    title="SimpleQuestions on Wikidata",
    what="The questions of SimpleQuestions whose fact could be mapped to Wikidata",
    graph="Wikidata",
    formats=(WIKIDATA,),
    counts=(Count("files", {"all": 49202}), Count("valid file", {"dev": 4867}), Count("answerable", {"dev": 2821})),
    licence="CC-BY-3.0; Wikidata: CC0",
    homepage="https://github.com/askplatypus/wikidata-simplequestions",
    citations=(
        "Diefenbach, Pellissier Tanon, Singh and Maret: Question Answering Benchmarks for Wikidata. ISWC 2017 "
        "(posters and demonstrations).",
        _PAPER,
    ),
    notes=(
        "R57 in a file is P57 walked from the object to the subject; the gold path writes it ^P57.",
        "Files named _answerable keep the questions whose fact Wikidata had at the time.",
    ),
)
