"""PathQuestion and PathQuestion-Large (Zhou et al., COLING 2018): relation paths on parts of Freebase."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kgr1.datasets.published.card import NOT_STATED, Card, Count, GraphTable
from kgr1.datasets.published.format import LineFormat, Reading, SourceFile
from kgr1.datasets.published.gold import entity, unique
from kgr1.errors import DatasetError
from kgr1.types import Question

_LINE = re.compile(r"(?P<text>[^\t]+)\t(?P<answers>[^\t]+\([^\t]+\))\t(?P<path>[^\t#]+(?:#[^\t#]+){2,})")
_END = "<end>"


def relation_name(name: str) -> str:
    """A relation as Freebase writes it; the large files write ``__film__film__director``.

    >>> relation_name("__film__film__director"), relation_name("spouse")
    ('film.film.director', 'spouse')
    """
    return name.removeprefix("__").replace("__", ".") if name.startswith("__") else name


def _questions(lines: Iterator[tuple[int, str]], file: SourceFile, reading: Reading) -> Iterator[Question]:
    """Each question once: the large files repeat one for every answer and path."""
    found: dict[tuple[str, str], Question] = {}
    subset = file.path.name.partition(".")[0].lower()
    for number, line in lines:
        match = _LINE.fullmatch(line)
        if match is None:
            reason = "a question, answer(answers/) and subject#relation#...#answer, apart by tabs, are expected"
            raise DatasetError(f"{file.path}, line {number}: {reason}.", path=str(file.path), line=number)
        path = match["path"].split("#")
        path = path[: path.index(_END)] if _END in path else path
        relations = tuple(map(relation_name, path[1::2]))
        names = _answers(match["answers"], path[-1])
        text, topic = match["text"].strip(), path[0]
        known = found.get((text, topic))
        if known is not None:
            answers = unique((*known.answers, *map(entity, names)))
            found[text, topic] = known.model_copy(update={"answers": answers})
            continue
        found[text, topic] = Question(
            id=f"{subset}-{number}",
            text=text,
            topics=(topic,),
            answers=unique(map(entity, names)),
            dataset=subset,
            split=file.split,
            hops=len(relations),
            gold_path=relations,
        )
    yield from found.values()


def _answers(text: str, end: str) -> list[str]:
    """The answers in ``one(one/another/)``. Names may hold brackets and slashes, so the end of the path helps."""
    one = end if text.startswith(f"{end}(") else text.partition("(")[0]
    rest = text[len(one) + 1 : -1]
    if f"/{one}/" in f"/{rest}":
        rest = f"/{rest}".replace(f"/{one}/", "/", 1)
    return [one, *filter(None, rest.split("/"))]


def _fact(line: str) -> tuple[str, ...] | None:
    fields = [field.strip() for field in line.split("\t") if field.strip()]  # the readme says one or two tabs
    return (fields[0], relation_name(fields[1]), fields[2]) if len(fields) == 3 else None


OFFICIAL = LineFormat(
    name="official text",
    what="PQ-{2,3}H.txt and PQL-{2,3}H.txt: question, answer(answers/), subject#relation#...#answer, apart by tabs",
    files=("PQ-?H.txt", "PQL-?H.txt"),
    looks=lambda line: _LINE.fullmatch(line) is not None,
    questions=_questions,
)

CARD = Card(
    name="pathquestion",
    title="PathQuestion and PathQuestion-Large",
    what="Questions from templates with paraphrased relation words, of two and three hops",
    graph="parts of Freebase in the same repository: 2H-kb.txt, 3H-kb.txt, PQL2-KB.txt, PQL3-KB.txt",
    formats=(OFFICIAL,),
    counts=(
        Count("PQ-2H, paper", {"all": 1908}),
        Count("PQ-3H, paper", {"all": 5198}),
        Count("PQL-2H, paper", {"all": 1594}),
        Count("PQL-3H, paper", {"all": 1031}),
        Count("PQ-2H, distinct", {"all": 1908}),
        Count("PQ-3H, distinct", {"all": 5197}),
        Count("PQL-2H, distinct", {"all": 1168}),
    ),
    licence=f"{NOT_STATED}; Freebase: CC-BY",
    homepage="https://github.com/zmtkeke/IRN",
    citations=(
        "Zhou, Huang and Zhu: An Interpretable Reasoning Network for Multi-Relation Question Answering. COLING 2018. "
        "https://arxiv.org/abs/1801.04726",
    ),
    notes=(
        "The papers count lines; the large files repeat a question for every answer, and here each question is one.",
        "The files have no splits.",
        "In PQL entities that share a name are one node, so that the topic is often among the answers.",
        "Relations written __film__film__director are read as film.film.director, in questions and graph.",
    ),
    parts=4,
    table=GraphTable(files=("?H-kb.txt", "PQL?-KB.txt", "exact_2mkb*.txt"), fact=_fact),
)
