"""MetaQA (Zhang et al., AAAI 2018): questions about films from templates, of one to three hops."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from kgr1.datasets.published.card import Card, Count, GraphTable
from kgr1.datasets.published.format import LineFormat, Reading, SourceFile
from kgr1.datasets.published.gold import entity, unique
from kgr1.datasets.published.rows import read_lines
from kgr1.errors import DatasetError
from kgr1.types import Question

_TOPIC = re.compile(r"\[([^\[\]]+)\]")
_HOPS = re.compile(r"([123])-?hop")
_FROM_FILM = {
    "director": "directed_by",
    "actor": "starred_actors",
    "writer": "written_by",
    "year": "release_year",
    "language": "in_language",
    "tags": "has_tags",
    "tag": "has_tags",
    "genre": "has_genre",
    "imdbrating": "has_imdb_rating",
    "imdbvotes": "has_imdb_votes",
}
"""Relation of a film by what a question type calls its object."""


def gold_path(kind: str) -> tuple[str, ...]:
    """The relations of a question type; every relation of the graph starts at a film.

    >>> gold_path("actor_to_movie_to_director")
    ('^starred_actors', 'directed_by')
    """
    steps = kind.split("_to_")
    path = []
    for start, end in pairwise(steps):
        relation = _FROM_FILM.get(end if start == "movie" else start)
        if relation is None:
            return ()
        path.append(relation if start == "movie" else f"^{relation}")
    return tuple(path)


def _questions(lines: Iterator[tuple[int, str]], file: SourceFile, reading: Reading) -> Iterator[Question]:
    hops = _hops(file.path)
    kinds = _kinds(file.path)
    for position, (number, line) in enumerate(lines):
        text, tab, answers = line.partition("\t")
        topic = _TOPIC.search(text)
        if not tab or topic is None:
            reason = "a question with its topic in [brackets], a tab and answers are expected"
            raise DatasetError(f"{file.path}, line {number}: {reason}.", path=str(file.path), line=number)
        if kinds and position >= len(kinds):
            raise DatasetError(f"{_kind_file(file.path)} has fewer lines than {file.path.name}.", path=str(file.path))
        kind = kinds[position] if kinds else ""
        yield Question(
            id="-".join(filter(None, (file.dataset, f"{hops}h" if hops else "", file.split, str(number)))),
            text=f"{text[: topic.start()]}{topic[1]}{text[topic.end() :]}".strip(),
            topics=(topic[1],),
            answers=unique(entity(name.strip()) for name in answers.split("|") if name.strip()),
            dataset=file.dataset,
            split=file.split,
            hops=hops,
            kind=kind,
            gold_path=gold_path(kind),
        )


def _hops(path: Path) -> int | None:
    """The hops that the folders of a file name, the innermost first."""
    found = [match for part in reversed(path.absolute().parts) for match in [_HOPS.search(part)] if match]
    return int(found[0][1]) if found else None


def _kind_file(path: Path) -> Path:
    """``1-hop/qa_test_qtype.txt`` beside the folder of ``1-hop/vanilla/qa_test.txt``."""
    stem, _, endings = path.name.partition(".")
    return path.parent.parent / f"{stem}_qtype.{endings}"


def _kinds(path: Path) -> list[str]:
    beside = _kind_file(path)
    return [line.strip() for _, line in read_lines(beside)] if beside.is_file() else []


def _fact(line: str) -> tuple[str, ...] | None:
    fields = line.split("|")
    return tuple(fields) if len(fields) == 3 else None


OFFICIAL = LineFormat(
    name="official text",
    what="N-hop/vanilla/qa_{train,dev,test}.txt (question with [topic], tab, answers by |), N-hop/qa_*_qtype.txt",
    files=("vanilla/qa_train.txt", "vanilla/qa_dev.txt", "vanilla/qa_test.txt"),
    looks=lambda line: "\t" in line and _TOPIC.search(line.partition("\t")[0]) is not None,
    questions=_questions,
)

CARD = Card(
    name="metaqa",
    title="MetaQA (vanilla text)",
    what="Questions about films from templates, of one, two and three hops, with their types",
    graph="kb.txt of the package: 134,741 facts of WikiMovies",
    formats=(OFFICIAL,),
    counts=(
        Count("1 hop", {"train": 96106, "dev": 9992, "test": 9947}),
        Count("2 hops", {"train": 118980, "dev": 14872, "test": 14872}),
        Count("3 hops", {"train": 114196, "dev": 14274, "test": 14274}),
    ),
    licence="a Creative Commons licence, a copy of which is in the download",
    homepage="https://github.com/yuyuz/MetaQA",
    citations=(
        "Zhang, Dai, Kozareva, Smola and Song: Variational Reasoning for Question Answering with Knowledge Graph. "
        "AAAI 2018. https://arxiv.org/abs/1709.04071",
    ),
    notes=(
        "Gold paths follow from the question types, which have files of their own.",
        "A path never comes back to its topic: films by the director of X leave out X.",
        "Films with the same name are one node.",
    ),
    parts=3,
    table=GraphTable(files=("kb.txt",), fact=_fact),
)
