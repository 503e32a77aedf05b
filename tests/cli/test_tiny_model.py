"""The tiny model of the tests behaves like any other model."""

from __future__ import annotations

import asyncio
from pathlib import Path

from kgr1.config import SamplingSettings


def test_the_tiny_model_loads_and_writes(tiny_model: Path) -> None:
    from kgr1.models.transformers import TransformersPolicy
    from kgr1.types import GoldAnswer, Question

    policy = TransformersPolicy.load(str(tiny_model), max_rows=2)
    question = Question(id="1", text="?", topics=("A",), answers=(GoldAnswer(label="B"),))

    async def write() -> tuple[int, ...]:
        session = await policy.open("Hello <|im_end|> Zürich", question, SamplingSettings(temperature=1.0, seed=1))
        ids = (await session.generate(8)).token_ids
        session.close()
        return ids

    assert asyncio.run(write()) == asyncio.run(write())
    assert policy.tokenizer.decode(policy.encode("a <|im_end|> Zürich 🙂")) == "a <|im_end|> Zürich 🙂"
    end = policy.tokenizer.eos_token_id
    assert end not in policy.encode("a <|im_end|>")
