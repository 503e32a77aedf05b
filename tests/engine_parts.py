"""Ways to drive the engine, and to make a real model say, or fail at, what a test needs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kgr1.agent.prompt import STOP_STRINGS
from kgr1.config import SamplingSettings
from kgr1.models.engine import Engine
from kgr1.models.row import Row
from kgr1.models.weights import load_model
from kgr1.types import FinishReason

TEXTS = (
    "Which country borders Germany?",
    "Ann",
    "Question: who is the mayor of the capital of France, and where was she born? Think first.",
    "Which country borders Germany and France?",
)
OBSERVATIONS = ("\n<information>Paris, Lyon</information>\n", "\n<information>x</information>\n")


def make_engine(
    folder: Path, *, rows: int = 8, context: int = 512, dtype: str = "float64", attention: str = "sdpa"
) -> Engine:
    loaded = load_model(str(folder), dtype=dtype)
    loaded.model.set_attn_implementation(attention)
    return Engine(loaded.model, loaded.tokenizer, stops=STOP_STRINGS, max_rows=rows, max_context=context)


@dataclass
class Played:
    """What one row did: the ids of each turn, their log-probabilities, how they ended, and the whole context."""

    turns: list[list[int]]
    logprobs: list[list[float]]
    finishes: list[FinishReason]
    context: list[int]


async def play_row(
    engine: Engine,
    text: str,
    sampling: SamplingSettings,
    *,
    turns: int = 3,
    tokens: int = 12,
    wait: int = 0,
) -> Played:
    """Open a row, sample turns with an observation between them, close it. ``wait`` lets others go first."""
    for _ in range(wait):
        await asyncio.sleep(0)
    row = await engine.open(engine.tokenizer.encode(text), sampling)
    try:
        played = Played([], [], [], [])
        for turn in range(turns):
            request = await engine.generate(row, tokens)
            played.turns.append(list(request.ids))
            played.logprobs.append(list(request.logprobs))
            played.finishes.append(request.future.result())
            if turn + 1 < turns:
                row.ids.extend(engine.tokenizer.encode(OBSERVATIONS[turn % 2] * (1 + len(text) % 3)))
        played.context = list(row.ids)
        return played
    finally:
        engine.close(row)


def play_together(engine: Engine, jobs: Sequence[tuple[str, SamplingSettings]], **how: Any) -> list[Played]:
    async def run() -> list[Played]:
        return await asyncio.gather(*(play_row(engine, text, sampling, **how) for text, sampling in jobs))

    return asyncio.run(run())


def sampled(seed: int, temperature: float = 1.0, top_p: float = 1.0) -> SamplingSettings:
    return SamplingSettings(temperature=temperature, top_p=top_p, seed=seed)


def logprobs_of(model: Any, ids: Sequence[int], temperature: float = 1.0) -> torch.Tensor:
    """Log-probability (T - 1,) of every id after the first, in one plain forward pass without a cache."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([list(ids)])).logits[0, :-1].double() / temperature
    return torch.log_softmax(logits, dim=-1).gather(1, torch.tensor(list(ids)[1:])[:, None])[:, 0]


@contextmanager
def saying(engine: Engine, script: Mapping[int, int]) -> Iterator[None]:
    """Let the model, whatever it computes, be certain of the token ``script[position]`` at a context position."""

    def force(module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        for row, positions in enumerate(kwargs["position_ids"].expand(output.logits.shape[0], -1)):
            token = script.get(int(positions[-1]) + 1)
            if token is not None:
                output.logits[row, -1] = -1e9
                output.logits[row, -1, token] = 0
        return output

    handle = engine.model.register_forward_hook(force, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def failing(engine: Engine, calls: int, error: BaseException | None) -> Iterator[None]:
    """Let the model fail after some good calls: raise ``error``, or compute nothing but NaN if it is None."""
    left = calls

    def fail(module: Any, args: Any, output: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            if error is not None:
                raise error
            output.logits[:] = torch.nan
        return output

    handle = engine.model.register_forward_hook(fail)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def counting(engine: Engine) -> Iterator[list[int]]:
    """The number of tokens of every forward pass."""
    counts: list[int] = []

    def count(module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        counts.append(kwargs["input_ids"].numel())

    handle = engine.model.register_forward_hook(count, with_kwargs=True)
    try:
        yield counts
    finally:
        handle.remove()


async def open_rows(engine: Engine, texts: Sequence[str]) -> list[Row]:
    return [await engine.open(engine.tokenizer.encode(text), SamplingSettings()) for text in texts]


def windowed_model(kind: str, vocabulary: int) -> Any:
    """A model whose layers, or two of three, look back 15 tokens."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, Qwen2Config, Qwen2ForCausalLM

    sizes: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "sliding_window": 16,
    }
    torch.manual_seed(0)
    if kind == "all layers":
        return Qwen2ForCausalLM(Qwen2Config(**sizes, use_sliding_window=True, max_window_layers=0)).double()
    layers = ["sliding_attention", "full_attention", "sliding_attention"]
    return Gemma3ForCausalLM(Gemma3TextConfig(**sizes, head_dim=8, layer_types=layers, pad_token_id=0)).double()
