"""``kgr1 rescore`` on a run of the expert."""

from __future__ import annotations

import json
from pathlib import Path

from cli_process import Run


def test_variants_on_a_saved_run(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "a"
    run("evaluate", "-g", "countries", "-q", "countries", "--policy", "oracle", "--limit", "12", "--out", out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    table = run("rescore", out).stdout
    assert "| RoG F1 (substring, capped at 1) | 100.0 % | [100.0, 100.0] |" in table
    assert "| F1 (macro) | 100.0 %" in table
    found = json.loads(run("rescore", out / "episodes.jsonl", "--metric", "tog_em", "--json").stdout)
    assert (found["questions"], list(found["metrics"])) == (12, ["tog_em"])
    assert found["metrics"]["tog_em"]["value"] == 1.0
    assert "no metric 'nonsense'" in run("rescore", out, "--metric", "nonsense", code=1).stderr
    assert "Cannot read" in run("rescore", tmp_path / "nothing", code=1).stderr
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
