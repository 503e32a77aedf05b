"""Triples for the tests: a published file, or a graph small enough to check by eye."""

from __future__ import annotations

import gzip
from pathlib import Path


def load_triples(path: Path) -> list[tuple[str, str, str]]:
    """Triples of a packed ``head TAB relation TAB tail`` file."""
    return [(head, relation, tail) for head, relation, tail in load_rows(path)]


def load_rows(path: Path) -> list[tuple[str, ...]]:
    """Rows of a packed file with tabs between the columns."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [tuple(line.rstrip("\n").split("\t")) for line in stream]


FAMILY = [
    ("Ada", "spouse", "William"),
    ("Ada", "parent", "George"),
    ("Ada", "parent", "Anne"),
    ("William", "nationality", "England"),
    ("George", "nationality", "England"),
    ("Anne", "nationality", "Scotland"),
    ("Ada", "wrote", "Notes"),
    ("Luigi", "wrote", "Sketch"),
    ("Notes", "about", "Engine"),
    ("Sketch", "about", "Engine"),
    ("Charles", "built", "Engine"),
    ("George", "wrote", "Childe Harold"),
]
