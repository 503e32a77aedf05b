"""Running a benchmark as a user does, with a tiny model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tiny import save_tiny_model


def run_benchmark(script: Path, folder: Path, *options: str) -> tuple[Any, str]:
    """The numbers that a benchmark saves, and what it prints; fails with its messages if it does."""
    model = save_tiny_model(folder / "model", context=8192)
    done = subprocess.run(
        [sys.executable, str(script), "--model", str(model), "--out", str(folder / "results.json"), *options],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((folder / "results.json").read_text()), done.stdout
