"""From a published set to a folder in the plain format: questions, graph, and a record of where they came from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from kgr1.datasets.plain import write_questions
from kgr1.datasets.published.card import Card, GraphTable
from kgr1.datasets.published.format import Format, Item, Reading, SourceFile
from kgr1.datasets.published.hub import FetchedFile, sha256
from kgr1.datasets.published.load import matches, read_published, visible_files
from kgr1.datasets.published.rows import read_lines
from kgr1.datasets.whole import whole_file
from kgr1.errors import DatasetError
from kgr1.types import Question, Record

QUESTIONS = "questions.jsonl"
SOURCE = "source.json"
GRAPHS = "graphs.jsonl.gz"
TABLE, DATED_TABLE = "kg.tsv.gz", "tkg.tsv.gz"
NAMES = "names.tsv"
_STATED_SHOWN = 3


class Converted(Record):
    """What ``source.json`` holds.

    ``splits`` counts questions, ``facts`` those of a graph table, ``graphs`` question graphs.
    """

    dataset: str
    licence: str
    formats: tuple[str, ...]
    files: tuple[FetchedFile, ...]
    splits: dict[str, int]
    questions: int
    without_topics: int
    without_answers: int
    graph: str | None = None  # name of the graph file
    facts: int = 0
    graphs: int = 0
    empty_graphs: int = 0
    skipped_lines: int = 0  # of a graph table
    repository: str | None = None
    commit: str | None = None


def convert(
    card: Card,
    source: Path,
    out: Path,
    reading: Reading | None = None,
    *,
    split: str | None = None,
    with_graph: bool = True,
    force: bool = False,
    fetched: tuple[str, str] | None = None,
    on_question: Callable[[int], None] | None = None,
) -> Converted:
    """Write the questions of a source, its graph where it has one, and ``source.json`` into the folder ``out``.

    Question graphs go to ``graphs.jsonl.gz``, a graph in a table to ``kg.tsv.gz`` or, with dates, ``tkg.tsv.gz``; the
    builder of graphs reads all of them. ``fetched`` is the repository and commit of a source from the hub. Every file
    appears whole or not at all, the record last. Raises :class:`DatasetError` for what cannot be read or written, and
    for a folder that holds questions already, unless ``force``. A folder that was not there before is then not there.
    """
    out, reading = Path(out), reading or Reading()
    if (out / QUESTIONS).exists() and not force:
        raise DatasetError(f"{out} holds {QUESTIONS} already; choose another folder or replace it with --force.")
    with _undone(out):
        return _write(
            card, Path(source), out, reading, split=split, with_graph=with_graph, fetched=fetched, told=on_question
        )


def _write(
    card: Card,
    source: Path,
    out: Path,
    reading: Reading,
    *,
    split: str | None,
    with_graph: bool,
    fetched: tuple[str, str] | None,
    told: Callable[[int], None] | None,
) -> Converted:
    formats: dict[str, None] = {}
    files: list[Path] = []

    def note(file: SourceFile, kind: Format) -> None:
        formats.setdefault(kind.name)
        files.append(file.path)

    items = read_published(card, source, reading, split=split, on_file=note)
    tally = _Tally(told)
    with ExitStack() as stack:
        graphs = _Graphs(stack, out / GRAPHS) if with_graph else None
        write_questions(out / QUESTIONS, tally.questions(items, graphs))
    table = _write_table(card.table, source, out) if with_graph and card.table is not None else None
    if reading.names and graphs is not None and graphs.written:
        _write_names(reading, out / NAMES)
    graph = GRAPHS if graphs is not None and graphs.written else table.name if table else None
    if with_graph:
        _remove_older(out, graph)
    converted = Converted(
        dataset=card.name,
        licence=card.licence,
        formats=tuple(formats),
        files=tuple(_described(path, source) for path in [*files, *(table.files if table else ())]),
        splits={name: tally.splits[name] for name in sorted(tally.splits)},
        questions=tally.splits.total(),
        without_topics=tally.without_topics,
        without_answers=tally.without_answers,
        graph=graph,
        facts=table.facts if table else 0,
        graphs=graphs.written if graphs else 0,
        empty_graphs=graphs.empty if graphs else 0,
        skipped_lines=table.skipped if table else 0,
        repository=fetched[0] if fetched else None,
        commit=fetched[1] if fetched else None,
    )
    with whole_file(out / SOURCE, "the record") as stream:
        stream.write(converted.model_dump_json(indent=2).encode() + b"\n")
    return converted


@contextmanager
def _undone(out: Path) -> Iterator[None]:
    """If the block fails, and the folder was not there before, remove it with what was written into it."""
    new = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        yield
    except BaseException:
        with suppress(OSError):  # somebody else put something there, or nothing could be made
            for name in (QUESTIONS, GRAPHS, TABLE, DATED_TABLE, NAMES, SOURCE) if new else ():
                (out / name).unlink(missing_ok=True)
            for folder in new:
                folder.rmdir()
        raise


def unexpected_counts(card: Card, converted: Converted) -> list[str]:
    """A sentence for each split of a whole set that has another number of questions than any place states for it.

    Splits that were not converted, or of which nothing is stated, are passed over.
    """
    told = []
    for split, count in converted.splits.items():
        stated = card.stated(split, converted.repository)
        if not stated or count in stated:
            continue
        numbers = sorted(sorted(stated, key=lambda number: abs(number - count))[:_STATED_SHOWN])
        told.append(
            f"{f'Split {split}' if split else 'The set'} has {count:,} questions; published are "
            f"{' or '.join(f'{number:,} ({stated[number]})' for number in numbers)}. Files may be missing, "
            "cut short or of another version."
        )
    return told


def _remove_older(out: Path, graph: str | None) -> None:
    """Remove what an earlier conversion left: it would be taken for the graph of these questions."""
    for name in (GRAPHS, TABLE, DATED_TABLE):
        if name != graph:
            (out / name).unlink(missing_ok=True)


class _Graphs:
    """Writes question graphs as they come; there is no file if none comes."""

    def __init__(self, stack: ExitStack, path: Path) -> None:
        self._stack, self._path = stack, path
        self._stream: IO[bytes] | None = None
        self.written = self.empty = 0

    def add(self, item: Item) -> None:
        if item.graph is None:
            return
        if not item.graph:
            self.empty += 1
            return
        if self._stream is None:
            self._stream = self._stack.enter_context(whole_file(self._path, "question graphs"))
        row = {"id": item.question.graph_id, "graph": item.graph}
        self._stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self.written += 1


class _Tally:
    """Counts questions on their way to the file."""

    def __init__(self, on_question: Callable[[int], None] | None) -> None:
        self._told = on_question
        self.splits: Counter[str] = Counter()
        self.without_topics = self.without_answers = 0

    def questions(self, items: Iterator[Item], graphs: _Graphs | None) -> Iterator[Question]:
        for number, item in enumerate(items, 1):
            if graphs is not None:
                graphs.add(item)
            self.splits[item.question.split] += 1
            self.without_topics += not item.question.topics
            self.without_answers += not item.question.answers
            if self._told is not None:
                self._told(number)
            yield item.question


class _Table:
    """What was written of a graph table."""

    def __init__(self, name: str, files: list[Path]) -> None:
        self.name, self.files = name, files
        self.facts = self.skipped = 0


def _write_table(table: GraphTable, source: Path, out: Path) -> _Table | None:
    """Copy the facts of a source, sorted and each once; None if it has no such file."""
    folder = source if source.is_dir() else source.parent
    files = [path for path in visible_files(folder) if matches(path, folder, table.files)]
    if not files or source.is_file():  # of a file that was named only the questions are wanted
        return None
    written = _Table(DATED_TABLE if table.dated else TABLE, files)
    facts: set[tuple[str, ...]] = set()
    for path in files:
        for _, line in read_lines(path):
            fact = table.fact(line)
            if fact is None or not all(part.strip() for part in fact):
                written.skipped += 1
            else:
                facts.add(fact)
    if not facts:
        raise DatasetError(f"There is no fact in {', '.join(map(str, files))}.", path=str(files[0]))
    with whole_file(out / written.name, "the graph") as stream:
        for fact in sorted(facts):
            stream.write("\t".join(fact).encode() + b"\n")
    written.facts = len(facts)
    return written


def _write_names(reading: Reading, path: Path) -> None:
    with whole_file(path, "names") as stream:
        for identifier, name in sorted(reading.names.items()):
            if not {"\t", "\n", "\r"} & {*identifier, *name}:
                stream.write(f"{identifier}\t{name}\n".encode())


def _described(path: Path, source: Path) -> FetchedFile:
    relative = path.relative_to(source) if source.is_dir() else Path(path.name)
    return FetchedFile(path=relative.as_posix(), bytes=path.stat().st_size, sha256=sha256(path))
