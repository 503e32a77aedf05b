"""What the engine does with a grammar, apart from what stands in it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("llguidance")

from engine_parts import make_engine, sampled  # noqa: E402
from kgr1.config import SamplingSettings  # noqa: E402
from kgr1.errors import ModelError  # noqa: E402
from kgr1.models.engine import Engine  # noqa: E402
from kgr1.models.guide import Guides  # noqa: E402


class Words:
    """Some words, and which of them are left once one has been written."""

    def __init__(self, words: str, then: str | None = None) -> None:
        self.words, self.then = words, then

    def lark(self) -> str:
        return f"start: {self.words}\n"

    def after(self, text: str, room: int) -> str | None:
        return f"start: {self.then}\n" if self.then is not None and text.startswith("yes") else None


async def write(engine: Engine, jobs: list[tuple[Words | None, SamplingSettings]]) -> list[str]:
    rows = [await engine.open(engine.tokenizer.encode("Is it so?"), sampling) for _, sampling in jobs]
    grammars = [grammar for grammar, _ in jobs]
    requests = await asyncio.gather(
        *(engine.generate(row, 12, grammar) for row, grammar in zip(rows, grammars, strict=True))
    )
    for row in rows:
        engine.close(row)
    return [engine.tokenizer.decode(request.ids) for request in requests]


def test_a_row_without_a_grammar_writes_what_it_writes_alone(tiny_model: Path) -> None:
    jobs: list[tuple[Words | None, SamplingSettings]] = [(None, sampled(seed)) for seed in range(3)]
    alone = asyncio.run(write(make_engine(tiny_model), jobs))
    guided: list[tuple[Words | None, SamplingSettings]] = [(Words('"maybe not </answer>"'), sampled(9)), *jobs]
    together = asyncio.run(write(make_engine(tiny_model), guided))
    assert together[1:] == alone
    assert "maybe not </answer>".startswith(together[0])


def test_a_grammar_can_become_narrower(tiny_model: Path) -> None:
    words = Words('("yes" | "no") ("a" | "b")', then='"yesb"')
    texts = asyncio.run(write(make_engine(tiny_model, rows=12), [(words, sampled(seed)) for seed in range(12)]))
    assert {text[:4] for text in texts if text.startswith("yes")} == {"yesb"}
    assert {text[:3] for text in texts if text.startswith("no")} == {"noa", "nob"}


def test_a_guide_that_cannot_go_on_lets_go(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine(tiny_model)
    guide = engine._guide(Words('"yes"'), 8)
    assert guide.forbidden().any()
    broken: Any = guide
    monkeypatch.setattr(broken, "_matcher", NoToken())
    assert not guide.forbidden().any()
    guide.accept([5])
    assert not guide.forbidden().any()


class NoToken:
    """A matcher that allows nothing."""

    def unsafe_compute_mask_ptr(self, place: int, size: int) -> None:
        """The mask stays as it is, all zero."""


def test_what_cannot_be_guided_says_so(tiny_model: Path) -> None:
    engine = make_engine(tiny_model)
    with pytest.raises(ModelError, match="not valid"):
        engine._guide(Words('"open'), 8)
    with pytest.raises(ModelError, match=r"agent\.guided=false"):
        Guides(object(), 100)
