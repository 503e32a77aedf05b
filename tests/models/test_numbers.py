"""Whether a processor is fast with bfloat16, and that a command says so where it is not."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch")

from kgr1.cli import loading
from kgr1.models import numbers


def test_the_cost_is_a_ratio() -> None:
    cost = numbers.bfloat16_cost()
    assert math.isfinite(cost)
    assert 0.05 < cost < 200


@pytest.mark.parametrize(
    ("dtype", "cost", "device", "said"),
    [
        ("bfloat16", 9.2, "cpu", True),
        ("bfloat16", 0.5, "cpu", False),
        ("bfloat16", 9.2, "cuda", False),
        ("float32", 9.2, "cpu", False),
        ("auto", 9.2, "cpu", False),
    ],
)
def test_slow_numbers_are_warned_of(
    dtype: str, cost: float, device: str, said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numbers, "bfloat16_cost", lambda: cost)
    monkeypatch.setattr(loading, "placement", lambda: (device, "float32"))
    warnings: list[str] = []
    monkeypatch.setattr(loading, "warn", warnings.append)
    loading.mind_numbers(dtype, "train.dtype")
    assert bool(warnings) is said
    if said:
        assert "9 times" in warnings[0]
        assert "--set train.dtype=float32" in warnings[0]
