"""The one list of layers: what the import rule, the docs and the checks of heavy imports read.

A module imports only from its own package or from a layer with a smaller number. Packages of one layer do not know
each other.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "kgr1"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "types", "config"),
    ("graph", "rewards"),
    ("server", "agent", "datasets"),
    ("models",),
    ("grpo", "baselines"),
    ("evaluation", "explorer"),
    ("cli",),
)

HEAVY = frozenset({"torch", "transformers", "trl", "peft", "accelerate"})
"""Libraries that must not be loaded before the layer of ``models``."""

HEAVY_FROM = 3
"""The first layer that may import them, inside functions."""

HEAVY_AT_TOP = ("models", "grpo")
"""Packages that may load them when they are imported themselves."""

DATASET_NAMES = (
    "webqsp",
    "cwq",
    "complexwebquestions",
    "metaqa",
    "pathquestion",
    "grailqa",
    "simplequestions",
    "qald",
    "multitq",
    "timequestions",
    "fb15k",
    "icews",
    "worldcup2014",
)
"""Names of question sets, lower case; only ``datasets`` and recipes may know them."""

MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 60


def layer_of(part: str) -> int | None:
    """Layer of a top-level part of kgr1 (``graph``, ``types``, ...), None if it is not listed."""
    return next((number for number, parts in enumerate(LAYERS) if part in parts), None)
