"""What a reader hands to a builder: facts and labels, a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl


@dataclass(frozen=True)
class Batch:
    """A part of a source.

    ``facts`` has the String columns ``head``, ``relation`` and ``tail``; optional are the Int32 columns ``start`` and
    ``end`` (days since 1970-01-01, see :mod:`kgr1.graph.temporal`) and the String column ``graph`` (the
    question graph that the fact is in, null for none).
    ``labels`` has the String columns ``id`` and ``label`` and the Boolean column ``alias``: the first row of an
    identifier with ``alias`` false is what is shown for it, all others only lead to it. ``rows`` counts the rows of the
    sources consumed so far, ``dropped`` what this batch leaves out, by reason.
    """

    facts: pl.DataFrame | None
    labels: pl.DataFrame | None
    rows: int
    dropped: dict[str, int] = field(default_factory=dict)
