"""The file with the numbers of a benchmark: it appears whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def save_numbers(path: Path, numbers: Any) -> None:
    """Write what a benchmark measured as JSON, in the place of an older file."""
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(numbers, indent=1) + "\n")
    temporary.replace(path)
