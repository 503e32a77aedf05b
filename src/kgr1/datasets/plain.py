"""The plain question format: one JSON object a line, read and written.

A line has ``id``, ``question``, ``topic_entities`` and ``answers`` (lists of node names); optional are ``hops``,
``split``, ``subset``, ``gold_path`` (relation names, a leading ``^`` walks from tail to head), ``kind`` or ``qtype``
or ``type``, ``answers_in_kg`` (the answers that are nodes), ``answer_labels`` (names where ``answers`` are node ids),
``aliases`` (a list of lists), ``parses`` (for a question with several readings, the ``answers`` of each) and
``graph_id``. Fields that nobody here knows are passed over, because published sets
carry many of them.
"""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kgr1.datasets.whole import whole_file
from kgr1.errors import DatasetError
from kgr1.types import GoldAnswer, Question

FILE_NAMES = ("questions.jsonl", "questions.jsonl.gz")


def load_questions(
    path: Path,
    *,
    split: str | None = None,
    subset: str | None = None,
    hops: int | None = None,
    limit: int | None = None,
    seed: int | None = None,
) -> list[Question]:
    """Read the questions of a file, or of a folder that holds ``questions.jsonl`` or ``questions.jsonl.gz``.

    ``split``, ``subset`` and ``hops`` keep the matching lines; ``seed`` shuffles (the same seed gives the same order)
    before ``limit`` cuts. Questions without topics or answers are kept: whether they count is the caller's choice.

    Raises :class:`DatasetError` for a missing or malformed file (details: ``path``, ``line`` 1-based, ``reason``) and
    for a split, subset or number of hops that the file does not have (the message lists those it has).
    """
    source = _question_file(Path(path))
    rows = list(_read_rows(source))
    rows = _select(rows, "subset", subset, source)
    rows = _select(rows, "hops", hops, source)
    rows = _select(rows, "split", split, source)
    questions = [_question(row, source, line) for line, row in rows]
    if seed is not None:
        random.Random(seed).shuffle(questions)
    if limit is not None:
        if limit < 0:
            raise DatasetError(f"The limit must be 0 or more, not {limit}.", limit=limit)
        questions = questions[:limit]
    return questions


def write_questions(path: Path, questions: Iterable[Question]) -> int:
    """Write questions as plain lines and return their number; gzip if the name ends in ``.gz``.

    The file appears whole or not at all, and the same questions give the same bytes. Reading it back with
    :func:`load_questions` gives equal records. Raises :class:`DatasetError` if it cannot be written.
    """
    count = 0
    with whole_file(path, "questions") as stream:
        for question in questions:
            stream.write(json.dumps(_row(question), ensure_ascii=False).encode("utf-8") + b"\n")
            count += 1
    return count


def _question_file(path: Path) -> Path:
    if path.is_file():
        return path
    for name in FILE_NAMES:
        if (path / name).is_file():
            return path / name
    if path.is_dir():
        raise DatasetError(f"The folder {path} holds neither {' nor '.join(FILE_NAMES)}.", path=str(path))
    raise DatasetError(f"There is no question file or folder at {path}; check the path.", path=str(path))


def _read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    line = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            for line, raw in enumerate(stream, start=1):
                if not raw.strip():
                    continue
                try:
                    row = json.loads(raw.decode("utf-8-sig" if line == 1 else "utf-8"))
                except UnicodeDecodeError as error:
                    raise _malformed(path, line, "not UTF-8; save the file as UTF-8") from error
                except (json.JSONDecodeError, RecursionError) as error:
                    raise _malformed(path, line, f"not JSON ({error})") from error
                if b"\\u" in raw and not _is_text(json.dumps(row, ensure_ascii=False)):
                    raise _malformed(path, line, "an escape stands for half a character (a lone surrogate)")
                if not isinstance(row, dict):
                    raise _malformed(path, line, f"a JSON object is expected, not {type(row).__name__}")
                yield line, row
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DatasetError(
            f"Cannot read {path} after line {line}: {reason}.", path=str(path), line=line, reason=reason
        ) from error


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _malformed(path: Path, line: int, reason: str) -> DatasetError:
    return DatasetError(
        f"{path}, line {line}: {reason}. Correct or remove this line.", path=str(path), line=line, reason=reason
    )


def _select(
    rows: list[tuple[int, dict[str, Any]]], field: str, wanted: str | int | None, path: Path
) -> list[tuple[int, dict[str, Any]]]:
    if wanted is None:
        return rows
    found = [item for item in rows if item[1].get(field) == wanted]
    if not found:
        available = sorted({str(row[field]) for _, row in rows if row.get(field)})
        listing = f"it has {', '.join(available)}" if available else f"its lines name no {field}"
        raise DatasetError(
            f"{path} has no {field} '{wanted}'; {listing}.", path=str(path), wanted=wanted, available=available
        )
    return found


def _question(row: dict[str, Any], path: Path, line: int) -> Question:
    text = _text(row, "question", path, line)
    if not text.strip():
        raise _malformed(path, line, "'question' is empty")
    hops = row.get("hops")
    if hops is not None and (isinstance(hops, bool) or not isinstance(hops, int)):
        raise _malformed(path, line, "'hops' must be a whole number")
    answers = _answers(row, path, line)
    return Question(
        id=_text(row, "id", path, line),
        text=text,
        topics=_texts(row, "topic_entities", path, line),
        answers=answers,
        dataset=_optional(row, ("subset",), path, line) or "",
        split=_optional(row, ("split",), path, line) or "",
        graph_id=_optional(row, ("graph_id",), path, line),
        hops=hops,
        kind=_optional(row, ("kind", "qtype", "type"), path, line) or "",
        gold_path=_texts(row, "gold_path", path, line, required=False),
        parses=_parses(row, answers, path, line),
    )


def _parses(row: dict[str, Any], answers: Sequence[GoldAnswer], path: Path, line: int) -> tuple[tuple[int, ...], ...]:
    parses = row.get("parses") or []
    if not _is_list_of_lists(parses):
        raise _malformed(path, line, "'parses' must be a list of lists of strings")
    places = {_written(gold): place for place, gold in enumerate(answers)}
    unknown = next((name for parse in parses for name in parse if name not in places), None)
    if unknown is not None:
        raise _malformed(path, line, f"'parses' has '{unknown}', which is not among the answers")
    return tuple(tuple(places[name] for name in dict.fromkeys(parse)) for parse in parses)


def _written(gold: GoldAnswer) -> str:
    """What stands for a gold answer in the lists of a row."""
    return gold.label if gold.id is None else gold.id


def _answers(row: dict[str, Any], path: Path, line: int) -> tuple[GoldAnswer, ...]:
    ids = _texts(row, "answers", path, line)
    nodes = set(_texts(row, "answers_in_kg", path, line)) if row.get("answers_in_kg") is not None else set(ids)
    labels = _texts(row, "answer_labels", path, line, required=False) or ids
    aliases = row.get("aliases") or [[] for _ in ids]
    if len(labels) != len(ids):
        raise _malformed(path, line, "'answer_labels' must be as long as 'answers'")
    if not _is_list_of_lists(aliases) or len(aliases) != len(ids):
        raise _malformed(path, line, "'aliases' must be one list of strings for each answer")
    gold: dict[str, GoldAnswer] = {}
    for name, label, other in zip(ids, labels, aliases, strict=True):
        gold.setdefault(name, GoldAnswer(label=label, id=name if name in nodes else None, aliases=tuple(other)))
    return tuple(gold.values())


def _is_list_of_lists(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, list) and all(isinstance(text, str) for text in item) for item in value
    )


def _text(row: dict[str, Any], field: str, path: Path, line: int) -> str:
    value = row.get(field)
    if isinstance(value, int) and not isinstance(value, bool) and field == "id":
        return str(value)
    if not isinstance(value, str):
        raise _malformed(path, line, f"'{field}' must be a string" if field in row else f"'{field}' is missing")
    return value


def _optional(row: dict[str, Any], fields: tuple[str, ...], path: Path, line: int) -> str | None:
    for field in fields:
        if row.get(field) is not None:
            return _text(row, field, path, line)
    return None


def _texts(row: dict[str, Any], field: str, path: Path, line: int, *, required: bool = True) -> tuple[str, ...]:
    value = row.get(field)
    if value is None and not (required and field not in row):
        return ()
    if value is None:
        raise _malformed(path, line, f"'{field}' is missing")
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _malformed(path, line, f"'{field}' must be a list of strings")
    return tuple(value)


def _row(question: Question) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": question.id,
        "question": question.text,
        "topic_entities": list(question.topics),
        "answers": [_written(gold) for gold in question.answers],
    }
    if any(gold.id is None for gold in question.answers):
        row["answers_in_kg"] = [gold.id for gold in question.answers if gold.id is not None]
    if any(gold.id not in (None, gold.label) for gold in question.answers):
        row["answer_labels"] = [gold.label for gold in question.answers]
    if any(gold.aliases for gold in question.answers):
        row["aliases"] = [list(gold.aliases) for gold in question.answers]
    if question.parses:
        row["parses"] = [[_written(question.answers[place]) for place in parse] for parse in question.parses]
    optional = {
        "hops": question.hops,
        "kind": question.kind,
        "gold_path": list(question.gold_path),
        "graph_id": question.graph_id,
        "subset": question.dataset,
        "split": question.split,
    }
    row.update({field: value for field, value in optional.items() if value not in (None, "", [])})
    return row
