"""Fixtures of the agent tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kgr1.agent.policy import Grammar


@pytest.fixture(scope="session")
def reader(tiny_model: Path) -> Any:
    """Says whether a text is one of a grammar: as the engine does, token by token."""
    pytest.importorskip("llguidance")
    from kgr1.models.guide import Guides
    from kgr1.models.weights import load_model

    loaded = load_model(str(tiny_model))
    guides = Guides(loaded.tokenizer, loaded.model.config.vocab_size)

    def encode(text: str) -> list[int]:
        ids: list[int] = loaded.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return ids

    def reads(grammar: Grammar, text: str, room: int = 2000) -> bool:
        """``room`` is what there is for the action, behind the thought."""
        guide = guides.start(grammar)
        ids, thought = encode(text), len(encode(text[: text.find("</think>")]))
        for place, token in enumerate(ids):
            if guide.forbidden()[token]:
                return False
            left = 2000 if place < thought else room - (place - thought)
            guide.accept(ids[: place + 1], left, left)
        return bool(guide.complete)

    return reads
