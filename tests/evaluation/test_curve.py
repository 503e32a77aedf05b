"""Training curves."""

from __future__ import annotations

import doctest
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from kgr1.errors import EvaluationError, MissingExtraError
from kgr1.evaluation import curve
from kgr1.evaluation.curve import moving_average, plot_curves, plot_shares, read_log


def write_log(path: Path, rows: list[object], tail: str = "") -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail, "utf-8")
    return path


def test_read_log(tmp_path: Path) -> None:
    log = read_log(
        write_log(
            tmp_path / "log.jsonl",
            [
                {"step": 2, "f1": 0.5, "note": "warm", "kl": float("nan")},
                {"step": 1, "f1": 0.25},
                {"step": 3, "f1": 0.9, "kl": 0.01},
                {"step": 3, "f1": 1},
            ],
            tail='\n{"step": 4, "f',
        )
    )
    assert set(log) == {"f1", "kl"}
    steps, values = log["f1"]
    assert steps.tolist() == [1, 2, 3]
    assert values.tolist() == [0.25, 0.5, 1.0]
    assert log["kl"][0].tolist() == [3]


@pytest.mark.parametrize("row", [{"f1": 1}, [1, 2], 7, {"step": "x"}, {"step": None}])
def test_rows_that_are_no_rows(tmp_path: Path, row: object) -> None:
    with pytest.raises(EvaluationError, match=r"Line 2 of .* is not a JSON object with an integer 'step'"):
        read_log(write_log(tmp_path / "log.jsonl", [{"step": 1}, row, {"step": 2}]))


def test_moving_average_equals_a_loop() -> None:
    values = np.random.default_rng(0).random(30)
    for window in (1, 4, 30, 99):
        expected = [values[max(0, n + 1 - window) : n + 1].mean() for n in range(30)]
        np.testing.assert_allclose(moving_average(values, window), expected)
    assert moving_average(np.array([]), 3).tolist() == []


def test_plot_of_several_runs(tmp_path: Path) -> None:
    image = pytest.importorskip("matplotlib.image")
    one = write_log(tmp_path / "1.jsonl", [{"step": s, "f1": s / 20, "reward": 1.0, "kl": s / 1e3} for s in range(20)])
    two = write_log(tmp_path / "2.jsonl", [{"step": s, "f1": 0.4} for s in range(5)])
    runs = [("turn $x", one), ("_trajectory", two)]
    out = plot_curves(runs, tmp_path / "plots" / "curve.png")
    assert [path.name for path in out.parent.iterdir()] == ["curve.png"]
    full = image.imread(out)
    assert full.shape[0] > 300
    assert full.shape[1] > 600
    assert len(np.unique(full[..., :3].reshape(-1, 3), axis=0)) > 10  # something was drawn
    first = out.read_bytes()
    small = image.imread(plot_curves(runs, out, metrics=["f1", "absent"]))  # replaces the file
    assert small.shape[1] < full.shape[1]  # one panel instead of two columns
    assert out.read_bytes() != first


def test_nothing_to_draw(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    log = write_log(tmp_path / "log.jsonl", [{"step": 1, "loss": 2.0}])
    with pytest.raises(EvaluationError, match="None of the logs has f1, kl; they have loss"):
        plot_curves([("a", log)], tmp_path / "x.png", metrics=["f1", "kl"])
    with pytest.raises(EvaluationError, match="Cannot read the training log"):
        plot_curves([("a", tmp_path / "none.jsonl")], tmp_path / "x.png")
    with pytest.raises(EvaluationError, match="at least 1"):
        plot_curves([("a", log)], tmp_path / "x.png", window=0)
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(EvaluationError, match="Cannot write"):
        plot_curves([("a", log)], tmp_path / "file" / "x.png", metrics=["loss"])


def test_plot_of_shares(tmp_path: Path) -> None:
    image = pytest.importorskip("matplotlib.image")
    lines = [("all $x", [0.1, 0.5], [1.0, 0.8]), ("_some", [], [])]
    out = plot_shares(lines, tmp_path / "plots" / "shares.png", x="coverage", y="precision", title="a_$b")
    assert [path.name for path in out.parent.iterdir()] == ["shares.png"]
    assert len(np.unique(image.imread(out)[..., :3].reshape(-1, 3), axis=0)) > 10  # something was drawn
    with pytest.raises(EvaluationError, match="no point to draw"):
        plot_shares([("a", [], [])], tmp_path / "x.png", x="x", y="y")


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'kgr1\[train\]'"):
        plot_curves([], tmp_path / "x.png")
    with pytest.raises(MissingExtraError, match=r"pip install 'kgr1\[train\]'"):
        plot_shares([], tmp_path / "x.png", x="x", y="y")


def test_examples_in_docstrings() -> None:
    found = doctest.testmod(curve)
    assert found.attempted > 0
    assert found.failed == 0
