"""The console script as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

Run = Callable[..., Result]
Spawn = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(cache: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key != "KGR1_DEBUG"}
    return kept | {"KGR1_CACHE": str(cache), "COLUMNS": "200"}


def command(without: tuple[str, ...] = ()) -> list[str]:
    """How to start the console script; modules in ``without`` cannot be imported there."""
    blocked = f"import sys; sys.modules.update(dict.fromkeys({without!r})); " if without else ""
    return [sys.executable, "-c", f"{blocked}from kgr1.cli.main import main; main()"]
