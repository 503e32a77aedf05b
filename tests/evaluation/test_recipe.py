"""Recipes of comparisons: what they say, and what they may not say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kgr1.errors import SettingsError
from kgr1.evaluation.recipe import CellRecord, DataSet, Recipe, SystemSpec, cell_record, cells, read_recipe

WHOLE = """
title = "T"
[settings.agent]
max_turns = 4
[datasets.films]
graph = "$KGR1_TEST_PLACE/films.kg"
questions = "films.jsonl"
limit = 5
[datasets.pets]
graph = "pets.kg"
questions = "pets.jsonl"
[systems.one]
kind = "agent"
model = "m"
[systems."one, 3 runs"]
kind = "agent"
model = "m"
runs = 3
seed = 7
settings.agent.layout = "tree"
"""


def write(tmp_path: Path, text: str = WHOLE) -> Path:
    path = tmp_path / "r.toml"
    path.write_text(text)
    return path


def test_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGR1_TEST_PLACE", "/data")
    recipe = read_recipe(write(tmp_path))
    assert recipe.datasets["films"].graph == "/data/films.kg"
    one, several = recipe.settings_of("one"), recipe.settings_of("one, 3 runs")
    assert (one.agent.max_turns, one.agent.layout, one.sampling.temperature, one.sampling.seed) == (4, "flat", 0, 0)
    assert (several.agent.max_turns, several.agent.layout) == (4, "tree")
    assert (several.sampling.temperature, several.sampling.seed) == (1.0, 7)
    names = [cell.name for cell in cells(recipe)]
    assert names == ["films/one", "pets/one", "films/one, 3 runs", "pets/one, 3 runs"]
    assert [c.name for c in cells(recipe, ["films/*"])] == ["films/one", "films/one, 3 runs"]
    assert [c.name for c in cells(recipe, ["one"])] == ["films/one", "pets/one"]
    assert [c.name for c in cells(recipe, ["pets", "films/one"])] == ["films/one", "pets/one", "pets/one, 3 runs"]
    with pytest.raises(SettingsError, match=r"No cell .* 'nothing'; the cells are films/one, pets/one"):
        cells(recipe, ["pets", "nothing"])
    first, *others = (cell_record(recipe, cell) for cell in cells(recipe))
    assert first not in others


SEEDS = """
[systems.settings]
kind = "agent"
settings.sampling.seed = 7
[systems.both]
kind = "agent"
seed = 0
settings.sampling.seed = 7
"""


def test_the_seed_of_the_sampling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the system, else that of its settings, else that of the recipe's, else 0."""
    monkeypatch.setenv("KGR1_TEST_PLACE", "/data")

    def seeds(text: str) -> list[int]:
        recipe = read_recipe(write(tmp_path, text))
        return [recipe.settings_of(system).sampling.seed for system in recipe.systems]

    assert seeds(WHOLE + SEEDS) == [0, 7, 7, 0]
    shared = "[settings.sampling]\nseed = 5\ntemperature = 0.5\n[datasets.films]"
    assert seeds((WHOLE + SEEDS).replace("[datasets.films]", shared)) == [5, 7, 7, 0]


def test_a_record_of_a_cell_holds_the_seed_that_was_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGR1_TEST_PLACE", "/data")
    recipe = read_recipe(write(tmp_path))
    record = cell_record(recipe, cells(recipe)[0])
    saved = record.model_dump(mode="json")
    assert (saved["system"]["seed"], saved["settings"]["sampling"]["seed"]) == (0, 0)
    assert CellRecord.model_validate(saved) == record


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('kind = "agent"\nmodel = "m"\n[', 'kind = "agent"\nmodle = "m"\n[', "unknown key 'systems.one.modle'"),
        ("max_turns = 4", "max_truns = 4", "unknown key 'agent.max_truns'"),
        ("max_turns = 4", "max_turns = 0", "'agent.max_turns'"),
        ("limit = 5", "limit = 0", "'datasets.films.limit'"),
        ("[datasets.films]", '[datasets."../films"]', "cannot be a name here"),
        ("[datasets.films]", '[datasets."films/x"]', "cannot be a name here"),
        ("[datasets.films]", '[datasets."films."]', "cannot be a name here"),
        ("[datasets.films]", '[datasets."<b>"]', "cannot be a name here"),
        ("[datasets.films]", '[datasets."PETS"]', "by case only"),
        ("runs = 3", "runs = 3\ntemperature = 0", "several runs at temperature 0"),
        ("$KGR1_TEST_PLACE", "$KGR1_NO_SUCH_PLACE", "KGR1_NO_SUCH_PLACE .* is not set"),
        ("[systems.one]", "[systems.one", "not valid TOML"),
    ],
)
def test_bad_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, problem: str) -> None:
    monkeypatch.setenv("KGR1_TEST_PLACE", "/data")
    assert old in WHOLE
    with pytest.raises(SettingsError, match=problem):
        read_recipe(write(tmp_path, WHOLE.replace(old, new, 1)))


ROOT = Path(__file__).resolve().parents[2]


def test_the_documented_recipes(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "comparing.md").read_text("utf-8")
    (shown,) = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    documented = read_recipe(write(tmp_path, shown))
    whole = read_recipe(ROOT / "recipes" / "compare-countries.toml")
    assert documented.datasets == whole.datasets
    assert {name: whole.systems[name] for name in documented.systems} == documented.systems
    keys = {key for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE) for key in re.findall(r"`([^`]+)`", row)}
    keys = {key.rpartition("NAME.")[2].partition(".")[0] for key in keys}
    for record in (DataSet, SystemSpec, Recipe):
        assert set(record.model_fields) - {"datasets", "systems"} <= keys


def test_the_model_of_a_recipe_may_be_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    path = ROOT / "recipes" / "compare-gemma.toml"
    monkeypatch.setenv("KGR1_DATA", "/data")
    monkeypatch.setenv("KGR1_GGUF", "/models/gemma.gguf")
    assert {spec.model for spec in read_recipe(path).systems.values()} == {"/models/gemma.gguf"}
    monkeypatch.delenv("KGR1_GGUF")
    with pytest.raises(SettingsError, match=r"variable .KGR1_GGUF .* is not set"):
        read_recipe(path)


def test_recipes_without_anything(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"'datasets'.*'systems'"):
        read_recipe(write(tmp_path, "title = 'x'"))
    with pytest.raises(SettingsError, match="Cannot read the recipe"):
        read_recipe(tmp_path / "nothing.toml")
    with pytest.raises(SettingsError, match="Cannot read the recipe"):
        read_recipe(tmp_path)
