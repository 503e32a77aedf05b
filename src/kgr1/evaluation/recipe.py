"""A comparison as a file: systems times data sets, with the settings of each.

::

    title = "Two agents on films"
    concurrency = 32

    [settings.agent]                 # for every system
    max_turns = 5

    [datasets.films]
    graph = "films.kg"
    questions = "films.jsonl"
    split = "test"
    limit = 200

    [systems.agent]
    kind = "agent"
    model = "runs/films/policy"

    [systems."agent, 3 runs"]
    kind = "agent"
    model = "runs/films/policy"
    runs = 3

    [systems.oracle]
    kind = "oracle"

``$NAME`` in graph, questions and model stands for an environment variable.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from kgr1.config import Settings, expand, read_toml, validate
from kgr1.errors import SettingsError
from kgr1.types import Record

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ,+_.()-]{0,62}[A-Za-z0-9)+])?")


class DataSet(Record):
    """Questions on a graph, named as on the command line."""

    graph: str
    questions: str
    subset: str | None = None
    hops: int | None = None
    split: str | None = None
    limit: int | None = Field(default=None, ge=1)
    seed: int = 0  # of the draw
    link: bool = Field(default=False, exclude_if=lambda link: not link)  # topics are found in the text


class SystemSpec(Record):
    """One row of the table: a kind of system with its model and settings.

    ``runs`` above 1 are drawn at temperature 1 unless one is named. ``temperature`` and ``seed``, where they are given,
    take the place of those in the settings. ``options`` belong to the kind. ``concurrency`` takes the place of that of
    the recipe; with 1, seconds are the latency of single questions.
    """

    kind: str
    model: str | None = None
    runs: int = Field(default=1, ge=1, le=1000)
    temperature: float | None = Field(default=None, ge=0)
    seed: int = 0  # of the sampling
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)
    concurrency: int | None = Field(default=None, ge=1, le=4096, exclude_if=lambda count: count is None)


class Recipe(Record):
    """A comparison. ``settings`` hold for every system that does not say otherwise."""

    title: str = ""
    concurrency: int = Field(default=32, ge=1, le=4096)
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    datasets: dict[str, DataSet] = Field(min_length=1)
    systems: dict[str, SystemSpec] = Field(min_length=1)

    @property
    def shared_settings(self) -> Settings:
        """What holds for every system that does not say otherwise; the questions are drawn by these."""
        return validate(Settings, self.settings, source="the recipe")

    def concurrency_of(self, system: str) -> int:
        """Episodes of a system that run at once."""
        return self.systems[system].concurrency or self.concurrency

    def settings_of(self, system: str) -> Settings:
        """The settings of one system; raises :class:`SettingsError` for a key that is no setting."""
        spec = self.systems[system]
        tables: dict[str, dict[str, Any]] = {name: dict(table) for name, table in self.settings.items()}
        for name, table in spec.settings.items():
            tables[name] = tables.get(name, {}) | table
        sampling = tables.setdefault("sampling", {})
        if "seed" in spec.model_fields_set:  # a record of a cell holds it as 0 where it was not given
            sampling["seed"] = spec.seed
        if spec.temperature is not None:
            sampling["temperature"] = spec.temperature
        if spec.runs > 1 and not sampling.get("temperature"):
            if spec.temperature is not None:
                raise SettingsError(f"System '{system}': several runs at temperature 0 are all the same.")
            sampling["temperature"] = 1.0
        return validate(Settings, tables, source=f"the recipe, system '{system}'")


class Cell(Record):
    """One system on one data set."""

    dataset: str
    system: str

    @property
    def name(self) -> str:
        """What tables, folders and ``--only`` call it."""
        return f"{self.dataset}/{self.system}"


class CellRecord(Record):
    """All that decides about the episodes of a cell; settings that a file of an earlier version lacks are the usual."""

    dataset: DataSet
    system: SystemSpec
    settings: Settings


def read_recipe(path: Path) -> Recipe:
    """Read a recipe; raises :class:`SettingsError` for a file that is none, or a name that cannot be a folder."""
    data = read_toml(path, "recipe")
    recipe = validate(Recipe, data, source=str(path))
    for names in (recipe.datasets, recipe.systems):
        _check_names(list(names), path)
    for system in recipe.systems:
        recipe.settings_of(system)
    datasets = {
        name: item.model_copy(update={"graph": expand(item.graph), "questions": expand(item.questions)})
        for name, item in recipe.datasets.items()
    }
    systems = {
        name: item.model_copy(update={"model": item.model and expand(item.model)})
        for name, item in recipe.systems.items()
    }
    return recipe.model_copy(update={"datasets": datasets, "systems": systems})


def _check_names(names: Sequence[str], path: Path) -> None:
    for name in names:
        if not _NAME.fullmatch(name):
            raise SettingsError(
                f"{path}: '{name}' cannot be a name here, since it names a folder; use up to 64 letters, digits, "
                "blanks and ,+_.()- beginning with a letter or digit."
            )
    folded = [name.casefold() for name in names]
    for name in names:
        if folded.count(name.casefold()) > 1:
            raise SettingsError(f"{path}: two names differ from '{name}' by case only; some disks keep one of them.")


def cells(recipe: Recipe, only: Sequence[str] = ()) -> list[Cell]:
    """The cells of a recipe, system by system; ``only`` keeps those that match a pattern.

    A pattern is the name of a data set, of a system, or ``DATASET/SYSTEM``, each with ``*`` for anything. Raises
    :class:`SettingsError` for a pattern that matches nothing.
    """
    every = [Cell(dataset=dataset, system=system) for system in recipe.systems for dataset in recipe.datasets]
    for pattern in only:
        if not any(_matches(cell, pattern) for cell in every):
            names = ", ".join(cell.name for cell in every)
            raise SettingsError(f"No cell of the recipe matches '{pattern}'; the cells are {names}.")
    return [cell for cell in every if not only or any(_matches(cell, pattern) for pattern in only)]


def _matches(cell: Cell, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in (cell.name, cell.dataset, cell.system))


def cell_record(recipe: Recipe, cell: Cell) -> CellRecord:
    """What the recipe says about a cell, as saved beside it: results of another recipe are not taken for its own."""
    return CellRecord(
        dataset=recipe.datasets[cell.dataset],
        system=recipe.systems[cell.system],
        settings=recipe.settings_of(cell.system),
    )
