"""Rows in bounded pieces: batches that are split when they are too much, pages, and answers cut without a word.

Endpoints cap results silently (Virtuoso at ``ResultSetMaxRows``, often 10,000). A result with more rows than any that
was verified before is therefore counted once: if the count is larger, the endpoint's cap is known from then on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from kgr1.graph.sparql.endpoint import Endpoint, Refused, Row, Rows
from kgr1.graph.sparql.queries import Pattern
from kgr1.graph.sparql.terms import Term

UNCAPPED_ROWS = 100
"""No endpoint is expected to cut results as short as this."""
MAX_ROWS = 100_000
"""Rows in one answer, at most."""
PATIENCE = 2.5
"""Time limits after which a batch is not split any further."""
_SMALLEST_CAP = 10

K = TypeVar("K")


class Found(NamedTuple):
    """What belongs to one key: all terms; or None and their number if they are too many; or why there is no answer."""

    terms: list[Term] | None
    total: int = 0
    failure: str = ""


class TooManyRows(Exception):  # noqa: N818 - control flow inside this package
    """A result does not fit one answer of the endpoint."""


class Fetcher:
    """Fetches rows of patterns from one endpoint; threads may share it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        options = endpoint.options
        self._page_rows = options.page_rows
        self._cap: int | None = None  # rows that the endpoint sends at most, if it is known to have such a limit
        self._sort_rows = options.sort_rows
        self._batch = options.batch
        self._max_bytes = options.max_query_bytes
        self._verified = UNCAPPED_ROWS
        self._lock = threading.Lock()

    def count(self, pattern: Pattern, timeout_s: float | None = None) -> int:
        """The number of distinct rows."""
        return self.number(pattern.counted(), timeout_s)

    def number(self, query: str, timeout_s: float | None = None) -> int:
        """The value of ``?n`` in a query with one row."""
        rows = self.endpoint.select(query, ("n",), timeout_s=timeout_s)
        if len(rows) != 1 or rows[0][0] is None or not rows[0][0].value.isdecimal():
            raise Refused("a count that is no number")
        return int(rows[0][0].value)

    @property
    def page_rows(self) -> int:
        """Rows asked for at a time."""
        return self._limit(None)

    def _limit(self, wanted: int | None) -> int:
        return min(wanted or self._page_rows, self._cap or MAX_ROWS)

    def rows(self, pattern: Pattern, timeout_s: float | None = None, limit: int | None = None) -> Rows:
        """All distinct rows in one answer, which is verified to be whole; raises :class:`TooManyRows` if it is not."""
        limit = self._limit(limit)
        rows = self.endpoint.select(pattern.select(limit), pattern.variables, timeout_s=timeout_s)
        if rows.cut:
            self._learn_cap(len(rows))
        if rows.cut or len(rows) >= limit:
            raise TooManyRows
        if len(rows) > self._verified:
            if self.count(pattern, timeout_s) > len(rows):
                self._learn_cap(len(rows))
                raise TooManyRows
            with self._lock:
                self._verified = max(self._verified, len(rows))
        return rows

    def all_rows(self, pattern: Pattern, timeout_s: float | None = None, limit: int | None = None) -> Iterator[Row]:
        """All distinct rows, in one answer if they fit, else in pages by the text of the first variable."""
        try:
            yield from self.rows(pattern, timeout_s, limit)
        except TooManyRows:
            yield from self._pages(pattern, timeout_s, self._limit(limit))

    def _pages(self, pattern: Pattern, timeout_s: float | None, limit: int) -> Iterator[Row]:
        last: str | None = None
        seen: set[Row] = set()  # rows at the border, which the next page begins with
        while True:
            rows = self.endpoint.select(pattern.next_rows(limit, last), pattern.variables, timeout_s=timeout_s)
            if rows.cut:
                self._learn_cap(len(rows))
            if not rows:
                return
            fresh = [row for row in rows if row not in seen]
            yield from fresh
            border = rows.last  # what is no term has its place in the order, too
            if border is None or (len(rows) < limit and len(rows) <= self._verified):
                return
            if not fresh and border == last:
                if len(rows) < limit and rows[0][0] != rows[-1][0]:
                    return
                raise Refused(f"more than {len(rows)} rows with the same first value")
            if border != last:
                seen = set()
            last = border
            seen |= {row for row in rows if row[0] is None or row[0].value == last}

    def by_key(
        self, keys: Sequence[K], build: Callable[[Sequence[tuple[int, K]]], Pattern], timeout_s: float | None = None
    ) -> dict[K, Found]:
        """For every key the terms in the second variable of the pattern that ``build`` makes of numbered keys.

        Keys share requests. A request that the endpoint refuses is split; a key refused alone has a ``failure``.
        """
        found: dict[K, Found] = {}
        # An endpoint that is too slow for anything must not be asked for every key in turn.
        deadline = time.monotonic() + PATIENCE * (timeout_s or self.endpoint.options.timeout_s)
        pending = [list(keys[start : start + self._batch]) for start in range(0, len(keys), self._batch)]
        while pending:
            chunk = pending.pop()
            pattern = build(list(enumerate(chunk)))
            try:
                if len(chunk) > 1 and len(pattern.where) > self._max_bytes:
                    raise TooManyRows
                rows = self.rows(pattern, timeout_s)
            except TooManyRows:
                if len(chunk) == 1:
                    found[chunk[0]] = self._large(pattern, timeout_s)
                    continue
            except Refused as error:
                if len(chunk) == 1 or time.monotonic() > deadline:
                    found |= dict.fromkeys(chunk, Found([], failure=str(error)))
                    continue
            else:
                found |= _group(chunk, rows)
                continue
            middle = len(chunk) // 2
            pending += [chunk[:middle], chunk[middle:]]
        return found

    def _large(self, pattern: Pattern, timeout_s: float | None) -> Found:
        alone = Pattern(pattern.variables[1:], pattern.where)
        try:
            total = self.count(alone, timeout_s)
            if total > self._sort_rows:
                return Found(None, total)
            terms = [row[0] for row in self.all_rows(alone, timeout_s) if row[0] is not None]
        except Refused as error:
            return Found([], failure=str(error))
        terms = list(dict.fromkeys(terms))
        return Found(terms, len(terms))

    def _learn_cap(self, rows: int) -> None:
        if rows < _SMALLEST_CAP:
            raise Refused(f"results of no more than {rows} rows")
        with self._lock:
            self._cap = min(self._cap or rows, rows)


def _group(keys: Sequence[K], rows: Rows) -> dict[K, Found]:
    terms: list[dict[Term, None]] = [{} for _ in keys]
    for row in rows:
        if row[0] is not None and row[-1] is not None and row[0].value.isdecimal():
            number = int(row[0].value)
            if number < len(keys):
                terms[number][row[1 if len(row) > 1 else 0]] = None  # type: ignore[index]
    return {key: Found(list(found), len(found)) for key, found in zip(keys, terms, strict=True)}
