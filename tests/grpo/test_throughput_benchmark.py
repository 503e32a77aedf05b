"""The benchmark of a training step: both loops play the same episodes, and the savings are there."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("trl")

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "throughput.py"


@pytest.mark.slow
def test_both_loops_play_the_same_and_ours_computes_less(tmp_path: Path) -> None:
    from benchmark_runs import run_benchmark

    small = ["--questions", "1", "--group", "2", "--steps", "1", "--rank", "2", "--threads", "1"]
    results, printed = run_benchmark(SCRIPT, tmp_path, *small)
    own, peer = results["kgr1"], results["trl"]
    # TRL's calls name their arguments, so they are longer; everything else that is written is the same.
    assert own["written"] < peer["written"] < 1.2 * own["written"]
    assert own["update_computed"] < own["episode_tokens"] <= peer["update_computed"]
    assert 2 * own["rollout_computed"] < peer["rollout_computed"]
    assert all(speed > 0 for speed in results["raw"].values())
    assert f"| tokens written | {own['written']:,.1f} | {peer['written']:,.1f} |" in printed
