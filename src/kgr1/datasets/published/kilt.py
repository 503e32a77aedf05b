"""T-REx and zero-shot relation extraction as slots to fill, in the format of KILT (Petroni et al., NAACL 2021)."""

from __future__ import annotations

from typing import Any

from kgr1.datasets.published.card import Card, Count, Hub
from kgr1.datasets.published.format import Item, Reading, RowFormat, SourceFile
from kgr1.datasets.published.gold import literal
from kgr1.datasets.published.rows import Row
from kgr1.types import GoldAnswer, Question

SEPARATOR = "[SEP]"


def _official(row: Row, file: SourceFile, reading: Reading) -> Item:
    """A slot; its outputs are ways to say one answer, or right answers that may stand for each other."""
    subject, relation = _slot(row)
    meta = row.fields.get("meta")
    surfaces = Row(meta, row.place, row.number) if isinstance(meta, dict) else Row({}, row.place, row.number)
    outputs = row.rows("output") if "output" in row else []
    answers = [output.text("answer") for output in outputs if output.fields.get("answer")]
    others = surfaces.texts("obj_surface") if "obj_surface" in surfaces else ()
    return _item(row, file, row.text("id"), (subject,), relation, [*answers, *others] if answers else [])


def _with_topics(row: Row, file: SourceFile, reading: Reading) -> Item:
    _, relation = _slot(row)
    topics = tuple(reading.topic(each, name) for each, name in row.names("topic_entity").items())
    aliases = row.texts("alias") if "alias" in row else ()
    return _item(row, file, file.number(row.number), topics, relation, [row.text("answer"), *aliases])


def _slot(row: Row) -> tuple[str, str]:
    subject, separator, relation = row.text("input").rpartition(SEPARATOR)
    if not separator or not subject.strip() or not relation.strip():
        row.bad(f"'input' must read 'subject {SEPARATOR} relation'")
    return subject.strip(), relation.strip()


def _item(
    row: Row, file: SourceFile, identifier: str, topics: tuple[str, ...], relation: str, names: list[Any]
) -> Item:
    answers: tuple[GoldAnswer, ...] = (literal(names[0], _dates(names[1:])),) if names else ()
    return Item(
        Question(
            id=identifier,
            text=row.text("input"),
            topics=topics,
            answers=answers,
            dataset=file.dataset,
            split=file.split,
            hops=1,
            gold_path=(relation,),
        )
    )


def _dates(names: list[str]) -> list[str]:
    """The names, and for dates all the ways to write them."""
    return [form for name in names for answer in (literal(name),) for form in (name, answer.label, *answer.aliases)]


def _formats(task: str, listed: str) -> tuple[RowFormat, RowFormat]:
    official = RowFormat(
        name="KILT",
        what=f"JSON lines ({task}-{{train,dev}}-kilt.jsonl) or Parquet with id, input, output and meta",
        files=(f"{task}-*-kilt.jsonl", f"{task}-*.jsonl", "*.parquet"),
        keys=frozenset({"id", "input", "output"}),
        question=_official,
    )
    with_topics = RowFormat(
        name="JSON with topics",
        what=f"the list that the ToG project publishes ({listed}): input, answer, alias and topic_entity",
        files=(listed,),
        keys=frozenset({"input", "answer", "topic_entity"}),
        question=_with_topics,
        split="dev",
    )
    return official, with_topics


_HUB_COMMIT = "1cad10cf9f9fd11636165a712988bccb9435be71"
_KILT = (
    "Petroni et al.: KILT: a Benchmark for Knowledge Intensive Language Tasks. NAACL 2021. "
    "https://arxiv.org/abs/2009.02252"
)
_NOTES = (
    "The question is the slot itself, 'subject [SEP] relation', as published work asks it.",
    "Several outputs are alternatives: naming one is right, so they are names of one gold answer here.",
    "The test answers are not public, so ToG's list, which has answers, is taken for the dev split.",
)

TREX = Card(
    name="trex",
    title="T-REx (KILT slots)",
    what="Slots (subject, relation) of Wikidata facts that a Wikipedia page states",
    graph="Wikidata",
    formats=_formats("trex", "trex.json"),
    counts=(
        Count("KILT", {"train": 2284168, "dev": 5000, "test": 5000}),
        Count("ToG's trex.json", {"dev": 5000}),
    ),
    licence="MIT (KILT); Wikidata: CC0",
    homepage="https://github.com/facebookresearch/KILT",
    citations=(
        "Elsahar et al.: T-REx: A Large Scale Alignment of Natural Language with Knowledge Base Triples. LREC 2018.",
        _KILT,
    ),
    notes=(*_NOTES, "The KILT files have no Wikidata ids; ToG's list has those of the subjects."),
    hub=Hub("facebook/kilt_tasks", _HUB_COMMIT, ("trex/*.parquet",)),
)
ZERO_SHOT = Card(
    name="zero-shot-re",
    title="Zero-shot relation extraction (KILT slots)",
    what="Slots (subject, relation) whose relations differ between train and test",
    graph="Wikidata",
    formats=_formats("structured_zeroshot", "zero_shot_re.json"),
    counts=(
        Count("KILT", {"train": 147909, "dev": 3724, "test": 4966}),
        Count("ToG's zero_shot_re.json", {"dev": 3724}),
    ),
    licence="MIT (KILT); Wikidata: CC0",
    homepage="https://github.com/facebookresearch/KILT",
    citations=(
        "Levy, Seo, Choi and Zettlemoyer: Zero-Shot Relation Extraction via Reading Comprehension. CoNLL 2017. "
        "https://arxiv.org/abs/1706.04115",
        _KILT,
    ),
    notes=_NOTES,
    hub=Hub("facebook/kilt_tasks", _HUB_COMMIT, ("structured_zeroshot/*.parquet",)),
)
