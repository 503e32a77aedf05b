"""How fast this processor is with a number type, found by trying: no list of instruction sets is complete."""

from __future__ import annotations

import time
from functools import cache

ROWS, WIDTH = 48, 512
"""Of the product that is timed: about what a layer of a small model computes for the rows of one pass."""


@cache
def bfloat16_cost() -> float:
    """How many times as long a product of matrices takes in bfloat16 as in float32 on the processor; about 0.1 s.

    Processors without instructions for bfloat16 emulate it and take ten times as long; those with them take half.
    """
    import torch

    def seconds(dtype: torch.dtype) -> float:
        rows, weights = torch.ones(ROWS, WIDTH, dtype=dtype), torch.ones(WIDTH, WIDTH, dtype=dtype)
        timings = []
        for _ in range(8):  # the first ones also set something up, and another process can come between
            started = time.perf_counter()
            torch.nn.functional.linear(rows, weights)
            timings.append(time.perf_counter() - started)
        return min(timings)

    return seconds(torch.bfloat16) / seconds(torch.float32)
