"""What a build tells while it runs."""

from __future__ import annotations

import pytest

from kgr1.cli import bars
from kgr1.cli.bars import BuildBar
from kgr1.graph.build import BuildProgress


def told(rows: int, bytes_read: int | None = None, bytes_total: int | None = None) -> BuildProgress:
    return BuildProgress(stage="reading", rows=rows, bytes_read=bytes_read, bytes_total=bytes_total)


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (told(2_000_000), "Reading: 2,000,000 rows, 200,000/s"),
        (told(10, bytes_read=25, bytes_total=100), "Reading: 10 rows, 1/s, 25%, 30.0 s left"),
        (told(10, bytes_read=0, bytes_total=100), "Reading: 10 rows, 1/s"),
        (told(10, bytes_read=9, bytes_total=None), "Reading: 10 rows, 1/s"),
        (BuildProgress(stage="names", rows=10), "Sorting the names"),
        (BuildProgress(stage="facts", rows=10), "Sorting the facts"),
        (BuildProgress(stage="saving", rows=10), "Saving"),
    ],
)  # fmt: skip
def test_what_a_build_tells(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, progress: BuildProgress, expected: str
) -> None:
    monkeypatch.setattr(bars, "LINE_EVERY_S", 0.0)
    clock = iter([0.0, 10.0])
    monkeypatch.setattr(bars.time, "monotonic", lambda: next(clock, 10.0))
    bar = BuildBar()
    bar.report(progress)
    assert capsys.readouterr().err.strip() == expected
