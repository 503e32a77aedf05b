"""A live episode of the engine, and the turn that is being sampled for it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np
import torch

from kgr1.config import SamplingSettings
from kgr1.models.guide import Guide
from kgr1.models.stops import StopStrings
from kgr1.types import FinishReason


@dataclass(eq=False)
class Row:
    """One live episode. ``ids`` is the whole context; the first ``cached`` of them are in the cache."""

    ids: list[int]
    sampling: SamplingSettings
    random: np.random.Generator
    index: int
    prompt_length: int
    stops: StopStrings
    cached: int = 0
    prompt_logits: torch.Tensor | None = None  # (V,), kept so that equal prompts need no forward pass
    request: Request | None = None
    weighed: tuple[list[int], list[list[int]], torch.Tensor] | None = None  # the last choice: context, texts, scores


@dataclass
class Request:
    """A turn being sampled."""

    future: asyncio.Future[FinishReason]
    limit: int  # most tokens that are chosen; those that are forced are as many as it takes
    space: int  # most tokens of any kind: what is left of the context
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    forced: int = 0  # tokens that the grammar, or a whole name chosen before, left no choice about
    guide: Guide | None = None

    @property
    def room(self) -> int:
        """How many tokens can still be chosen."""
        return min(self.limit - (len(self.ids) - self.forced), self.space - len(self.ids))
