"""Fixtures that every test package shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the published question sets; they may not be shipped, so tests skip without them."""
    root = Path(os.environ.get("KGR1_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"needs the question sets in {root} (set KGR1_DATA)")
    return root


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random chat model; tests that need it skip without the ``train`` extra."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tiny import save_tiny_model

    return save_tiny_model(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture(scope="session")
def taught_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the tiny model after a cold start on the small world; at temperature 1 it succeeds now and then."""
    pytest.importorskip("trl")
    from small_world import teach

    return teach(tiny_model, tmp_path_factory.mktemp("taught"))
