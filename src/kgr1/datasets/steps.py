"""One turn of an expert."""

from __future__ import annotations

from kgr1.types import Answer, Query, Record


class Step(Record):
    """A thought and then either a query or the answer."""

    think: str
    query: Query | None = None
    answer: Answer | None = None
    mistake: bool = False  # a wrong turn, shown so that the recovery can be learned; not to be imitated


class GiveUpError(Exception):
    """The walk cannot go on: no turn left, a result cut short, or the plan does not apply."""
