"""The examples in docstrings are run."""

from __future__ import annotations

import doctest
import importlib

import pytest
from layers import SOURCE

MODULES = sorted(
    "kgr1." + ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    for path in SOURCE.rglob("*.py")
    if ">>> " in path.read_text("utf-8")
)


def test_there_are_examples() -> None:
    assert {"kgr1.rewards.turn", "kgr1.agent.parse", "kgr1.grpo.advantage"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
