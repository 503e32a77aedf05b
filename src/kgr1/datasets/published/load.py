"""From a file or folder of a published set to questions: which files, in which format, checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from kgr1.datasets.published.card import Card
from kgr1.datasets.published.format import Format, Item, Reading, SourceFile, split_of
from kgr1.datasets.published.registry import CARDS
from kgr1.datasets.published.rows import Row, is_text_file, read_lines, read_rows
from kgr1.errors import DatasetError
from kgr1.graph.readers.streams import COMPRESSIONS
from kgr1.types import Question

_KEYS_SHOWN = 8
_SHARD = re.compile(r"(?P<stem>.*?)-(?P<number>\d+)-of-(?P<total>\d+)(?P<rest>\D.*)?")


def find_files(card: Card, source: Path) -> list[tuple[SourceFile, Format]]:
    """The question files of a source with their formats, in order of their paths.

    Of a folder those count whose names one of the formats expects; a file that is named counts whatever its name.
    Raises :class:`DatasetError` if there is none, one is empty, or one is not in a format of the set (the message says
    which set it looks like).
    """
    paths = [source] if source.is_file() else _folder(card, source)
    return [(SourceFile(path, card.name, split_of(path)), _format(card, path)) for path in paths]


def read_published(
    card: Card,
    source: Path,
    reading: Reading | None = None,
    *,
    split: str | None = None,
    on_file: Callable[[SourceFile, Format], None] | None = None,
) -> Iterator[Item]:
    """The questions of a published file or folder, in its order; ``split`` keeps one of them.

    ``on_file`` is told every file before it is read. Raises :class:`DatasetError` for what :func:`find_files` raises,
    a folder in which a part of a split is missing, a row that cannot be read, an id that stands twice in a split, and a
    split that is not there.
    """
    reading = reading or Reading()
    seen: dict[int, Path] = {}  # by hash: a set may have millions of questions
    splits: set[str] = set()
    kept = 0
    found = find_files(card, Path(source))
    wanted = [pair for pair in found if split is None or pair[0].split in ("", split)]
    splits.update(file.split for file, _ in found if file.split)
    if Path(source).is_dir():  # who names one file wants no other
        _check_shards([file.path for file, _ in wanted], Path(source))
    for file, kind in wanted:
        if on_file is not None:
            on_file(file, kind)
        for item in kind.read(file, reading):
            question = item.question
            key = hash((question.dataset, question.split, question.id))
            if key in seen:
                raise DatasetError(
                    f"The id '{question.id}' stands twice, in {seen[key]} and {file.path}; if the folder holds the "
                    "same questions in two formats, name the files of one.",
                    id=question.id,
                )
            seen[key] = file.path
            splits.add(question.split)
            if split is None or question.split == split:
                kept += 1
                yield item
    if not kept:
        raise _nothing(source, split, splits)


def load_published(card: Card, source: Path, reading: Reading | None = None) -> list[Question]:
    """All questions of a published file or folder; see :func:`read_published`."""
    return [item.question for item in read_published(card, source, reading)]


def matches(path: Path, folder: Path, patterns: Iterable[str]) -> bool:
    """True if the end of a path below a folder fits one of the patterns, an ending of compression aside."""
    parts = list(path.relative_to(folder).parts)
    if path.suffix.lower() in COMPRESSIONS:
        parts[-1] = parts[-1][: -len(path.suffix)]
    # A pattern with a folder in it is compared with as many parts of the path.
    return any(fnmatchcase("/".join(parts[-1 - pattern.count("/") :]), pattern) for pattern in patterns)


def visible_files(folder: Path) -> list[Path]:
    """The files of a folder and its subfolders in order; hidden ones are passed over."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def _folder(card: Card, folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DatasetError(f"There is no file or folder at {folder}; check the path.", path=str(folder))
    patterns = list(dict.fromkeys(pattern for each in card.formats for pattern in each.files))
    found = [path for path in visible_files(folder) if matches(path, folder, patterns)]
    if not found:
        raise DatasetError(
            f"{folder} holds no file of {card.name}, such as {', '.join(patterns)}; name the file itself if it is "
            "called otherwise.",
            path=str(folder),
            expected=patterns,
        )
    return found


def _check_shards(paths: Sequence[Path], source: Path) -> None:
    """Raise :class:`DatasetError` if files say of how many they are one, as in ``test-00000-of-00002.parquet``, and
    some of these are not there: what is left would be taken for the whole split."""
    groups: dict[tuple[Path, str, str], list[re.Match[str]]] = {}
    for path in paths:
        match = _SHARD.fullmatch(path.name)
        if match is not None:
            groups.setdefault((path.parent, match["stem"], match["total"]), []).append(match)
    missing: list[str] = []
    for (folder, stem, total), shards in groups.items():
        there = {int(shard["number"]) for shard in shards}
        first = 1 if int(total) in there else 0  # some count from 1
        # The hub puts a hash behind the numbers, which nobody can know of a file that is not there.
        rest, width = re.sub(r"^-[^.]*", "*", shards[0]["rest"] or ""), len(shards[0]["number"])
        for number in sorted(set(range(first, first + int(total))) - there):
            name = folder / f"{stem}-{number:0{width}}-of-{total}{rest}"
            missing.append(name.relative_to(source).as_posix())
    if missing:
        more = f" and {len(missing) - _KEYS_SHOWN} more" if len(missing) > _KEYS_SHOWN else ""
        raise DatasetError(
            f"{source} lacks {', '.join(missing[:_KEYS_SHOWN])}{more}, by the names of the files beside it. Get "
            "what is missing, or name a single file to read that one alone.",
            path=str(source),
            missing=missing,
        )


def _format(card: Card, path: Path) -> Format:
    sample = _sample(path)
    found = _fitting(card.formats, path, sample)
    if found is not None:
        return found
    other = next((each for each in CARDS if _fitting(each.formats, path, sample)), None)
    if isinstance(sample, str):
        holds = f"begins with the line {sample[:60]!r}"
    else:
        keys = list(sample.fields)
        more = f" and {len(keys) - _KEYS_SHOWN} more" if len(keys) > _KEYS_SHOWN else ""
        holds = f"has rows of {', '.join(keys[:_KEYS_SHOWN])}{more}"
    hint = f"it looks like {other.name}" if other else f"expected is {'; or '.join(each.what for each in card.formats)}"
    raise DatasetError(f"{path} is not in a format of {card.name}: it {holds}; {hint}.", path=str(path))


def _fitting(formats: Sequence[Format], path: Path, sample: Row | str) -> Format | None:
    return next((each for each in formats if each.fits(path, sample)), None)


def _sample(path: Path) -> Row | str:
    """The first row or line of a file."""
    if is_text_file(path):
        line = next(read_lines(path), None)
        sample: Row | str | None = None if line is None else line[1]
    else:
        sample = next(read_rows(path), None)
    if sample is None:
        raise DatasetError(f"{path} is empty.", path=str(path))
    return sample


def _nothing(source: Path, split: str | None, splits: set[str]) -> DatasetError:
    there = sorted(splits - {""})
    if split is None or split in splits:
        return DatasetError(f"There is no question in {source}.", path=str(source))
    listing = f"it has {', '.join(there)}" if there else "its files name no split"
    return DatasetError(f"{source} has no split '{split}'; {listing}.", path=str(source), wanted=split, available=there)
