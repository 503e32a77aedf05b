"""docs/training.md lists every setting with its default, and nothing that is no setting."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from layers import ROOT
from pydantic import BaseModel

from kgr1.config import GUIDED_DEFAULTS, Settings

PAGE = ROOT / "docs" / "training.md"
ROW = re.compile(r"\|\s*`([a-z_]+\.[a-z_0-9]+)`\s*\|\s*`([^`]*)`\s*\|(.*)\|")


def settings() -> Iterator[tuple[str, object]]:
    """Every setting with its default, by the key that a settings file or an override uses."""
    for table, field in Settings.model_fields.items():
        record = field.annotation
        assert isinstance(record, type), table
        assert issubclass(record, BaseModel), table
        for name, setting in record.model_fields.items():
            yield f"{table}.{name}", setting.default


def documented(text: str) -> dict[str, tuple[str, str]]:
    """Setting -> (default, meaning) of the rows of all settings tables."""
    rows = [ROW.fullmatch(line.strip()) for line in text.splitlines()]
    return {row[1]: (row[2], row[3].strip()) for row in rows if row}


def same(written: str, default: object) -> bool:
    """Whether the text stands for the default; numbers may be written in any way."""
    if isinstance(default, int | float) and not isinstance(default, bool):
        try:
            return float(written) == float(default)
        except ValueError:
            return False
    return written == str(default)


@pytest.mark.parametrize(("key", "default"), list(settings()), ids=lambda value: str(value))
def test_every_setting_stands_in_the_docs_with_its_default(key: str, default: object) -> None:
    rows = documented(PAGE.read_text("utf-8"))
    assert key in rows, f"{key} is missing in {PAGE.name}"
    written, meaning = rows[key]
    assert same(written, default), f"{PAGE.name} says {key} = {written}; it is {default}"
    assert meaning, f"{PAGE.name} does not say what {key} is"


def test_the_docs_list_no_setting_that_is_gone() -> None:
    assert set(documented(PAGE.read_text("utf-8"))) <= {key for key, _ in settings()}


def test_the_docs_say_which_defaults_are_others_with_guided_turns() -> None:
    section = PAGE.read_text("utf-8").split("### Guided turns in GRPO\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| `")]
    told = {key: (usually, guided) for keys, usually, guided in rows for key in re.findall(r"`([^`]+)`", keys)}
    usual = dict(settings())
    others = {f"{table}.{name}": value for table, values in GUIDED_DEFAULTS.items() for name, value in values.items()}
    assert told.keys() == others.keys()
    for key, (usually, guided) in told.items():
        assert same(usually.strip("`"), usual[key]), key
        assert same(guided.split(",")[0].strip("`"), others[key]), key


def test_the_check_catches() -> None:
    page = "| `agent.max_turns` | `5` | turns |\n| `train.credit` | `turn` | |\n| other | `1` | no |"
    assert documented(page) == {"agent.max_turns": ("5", "turns"), "train.credit": ("turn", "")}
    assert [same("3e-4", 0.0003), same("5", 5), same("turn", "turn")] == [True] * 3
    assert [same("4", 5), same("five", 5), same("split", "turn")] == [False] * 3
