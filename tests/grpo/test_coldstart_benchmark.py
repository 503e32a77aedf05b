"""The benchmark of a cold start: both trainers learn the same, and ours computes less."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("trl")

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "coldstart.py"


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_both_trainers_learn_the_same_and_ours_computes_less(tmp_path: Path, dtype: str) -> None:
    from benchmark_runs import run_benchmark

    small = ["--batch", "3", "--steps", "2", "--rank", "2", "--threads", "1", "--dtype", dtype]
    results, printed = run_benchmark(SCRIPT, tmp_path, *small)
    own, peer = results["kgr1"], results["transformers"]
    assert own["tokens"] == peer["tokens"]
    assert own["computed"] < own["tokens"] < peer["computed"]
    for key in ("first_loss", "last_loss"):
        assert own[key] == pytest.approx(peer[key], rel=1e-4 if dtype == "float32" else 1e-2)
    assert own["last_loss"] != own["first_loss"]
    assert own["tokens_per_s"] * own["step_s"] == pytest.approx(own["tokens"])
    assert f"| tokens computed | {own['computed']:,.0f} | {peer['computed']:,.0f} |" in printed
