"""The recipes can be read, and those that say so hold the settings of the package."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from kgr1.config import DEFAULT_AGENT, GUIDED_DEFAULTS, load_settings
from kgr1.datasets.mixture import load_recipe
from kgr1.evaluation.recipe import read_recipe
from kgr1.models.pretrained import agent_settings, learning_settings

RECIPES = Path(__file__).parents[2] / "recipes"
FILES = sorted(RECIPES.glob("*.toml"))
TABLES = {path.name: tomllib.loads(path.read_text("utf-8")) for path in FILES}


def having(key: str) -> list[Path]:
    return [path for path in FILES if key in TABLES[path.name]]


def shipped() -> dict[str, Any]:
    """How the package asks. No recipe withholds answers: with guided turns there are none without a fact."""
    return {key: value for key, value in agent_settings(DEFAULT_AGENT).items() if key != "abstain"}


@pytest.mark.parametrize("path", having("systems"), ids=lambda path: path.stem)
def test_a_comparison_can_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGR1_DATA", "data")
    monkeypatch.setenv("KGR1_GGUF", "model.gguf")
    recipe = read_recipe(path)
    for system in recipe.systems:
        recipe.settings_of(system)


@pytest.mark.parametrize("path", having("part"), ids=lambda path: path.stem)
def test_a_mixture_can_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGR1_DATA", "data")
    assert len(load_recipe(path).part) > 1


SETTINGS = [path for path in FILES if not {"systems", "part"} & TABLES[path.name].keys()]


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.stem)
def test_settings_can_be_read(path: Path) -> None:
    assert TABLES[path.name]
    load_settings(path)


@pytest.mark.parametrize(
    ("recipe", "system"),
    [
        ("compare-agent", "KG-R1"),
        ("compare-135m", "KG-R1"),
        ("compare-135m", "KG-R1, 3 runs"),
        ("latency", "KG-R1"),
    ],
)
def test_the_agent_of_the_package_is_asked_as_in_the_package(
    recipe: str, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KGR1_DATA", "data")
    agent = read_recipe(RECIPES / f"{recipe}.toml").settings_of(system).agent
    assert agent == load_settings(usual={"agent": shipped()}).agent


def test_what_was_measured_are_the_defaults_of_guided_training() -> None:
    tables = TABLES["adapt-grpo.toml"]
    learning = {key: value for key, value in learning_settings(DEFAULT_AGENT).items() if key != "abstain"}
    assert tables["agent"] == learning
    assert tables["reward"] == GUIDED_DEFAULTS["reward"]
    assert tables["train"].items() >= GUIDED_DEFAULTS["train"].items()
