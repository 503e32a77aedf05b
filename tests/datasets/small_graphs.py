"""Triples for the tests: a published file, or a graph small enough to check by eye."""

from __future__ import annotations

import gzip
from pathlib import Path


def load_triples(path: Path) -> list[tuple[str, str, str]]:
    """Triples of a packed ``head TAB relation TAB tail`` file."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        rows = [line.rstrip("\n").split("\t") for line in stream]
    return [(head, relation, tail) for head, relation, tail in rows]


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
