"""Where a reader is, and what it does with a row that it cannot use."""

from __future__ import annotations

from collections import Counter
from typing import NoReturn

import polars as pl

from kgr1.errors import GraphFormatError
from kgr1.graph.batches import Batch

COLUMNS = ("head", "relation", "tail", "start", "end", "graph")


class Place:
    """Position in a source; refuses or counts malformed rows.

    ``path`` is how the source is called in messages, ``number`` counts the sources from 1, ``line`` the complete lines
    (or, where ``unit`` says so, rows) read.
    """

    def __init__(self, path: str, number: int = 1, *, skip: bool = False, unit: str = "line") -> None:
        self.path = path
        self.number = number
        self.skip = skip
        self.unit = unit
        self.line = 0
        self._dropped: Counter[str] = Counter()

    def fail(self, line: int, reason: str, cause: BaseException | None = None) -> NoReturn:
        """Raise :class:`GraphFormatError` for a line."""
        message = f"{self.path}, {self.unit} {line}: {reason}."
        raise GraphFormatError(message, path=self.path, line=line, reason=reason) from cause

    def fail_file(self, reason: str, cause: BaseException | None = None) -> NoReturn:
        """Raise :class:`GraphFormatError` for a file as a whole."""
        raise GraphFormatError(f"{self.path}: {reason}.", path=self.path, line=None, reason=reason) from cause

    def bad(self, line: int, reason: str, kind: str | None = None, cause: BaseException | None = None) -> None:
        """Refuse a line, or count it under ``kind`` (the reason if None) where bad lines are to be skipped."""
        if not self.skip:
            self.fail(line, reason, cause)
        self.drop(kind or reason)

    def drop(self, reason: str, count: int = 1) -> None:
        """Count what is left out."""
        if count:
            self._dropped[reason] += count

    def batch(self, facts: pl.DataFrame | None, labels: pl.DataFrame | None, rows: int) -> Batch:
        """A batch of ``rows`` source rows, with what was dropped since the last one."""
        dropped, self._dropped = dict(self._dropped), Counter()
        if facts is not None:
            facts = facts.select(column for column in COLUMNS if column in facts.columns)
        return Batch(
            facts=facts if facts is not None and facts.height else None,
            labels=labels if labels is not None and labels.height else None,
            rows=rows,
            dropped=dropped,
        )
