"""Nothing imports upwards or sideways, and nothing heavy is loaded before the models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from layers import HEAVY, HEAVY_AT_TOP, HEAVY_FROM, LAYERS, SOURCE, layer_of
from source_tree import Module, modules

MODULES = modules()


def wrong_imports(module: Module) -> list[str]:
    """Imports of kgr1 parts that the layer of ``module`` may not see."""
    own = layer_of(module.part)
    problems = []
    for item in module.imports():
        names = item.target.split(".")
        if names[0] != "kgr1" or len(names) == 1:
            continue
        target = layer_of(names[1])
        if target is None:  # "from kgr1 import __version__" takes a value, not a part
            if not (SOURCE / names[1]).is_dir() and not (SOURCE / f"{names[1]}.py").exists():
                continue
            problems.append(f"{module.path.name}:{item.line}: {item.target} is in no layer")
        elif names[1] == module.part or (own == 0 and target == 0):
            continue  # the vocabulary is one package in three files
        elif own is None or target >= own:
            problems.append(f"{module.path}:{item.line}: {module.name} must not import {item.target}")
    return problems


def heavy_imports(module: Module) -> list[str]:
    """Imports of heavy libraries where they may not be: below the models nowhere, above them not on import."""
    layer = layer_of(module.part)
    lazy = layer is not None and layer >= HEAVY_FROM
    return [
        f"{module.path}:{item.line}: {module.name} must not import {item.target}"
        for item in module.imports()
        if item.target.split(".")[0] in HEAVY and not (lazy and (module.part in HEAVY_AT_TOP or not item.top_level))
    ]


def test_there_are_sources() -> None:
    assert {"kgr1.types", "kgr1.errors", "kgr1.config", "kgr1.graph.api"} <= {module.name for module in MODULES}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_imports_point_down(module: Module) -> None:
    assert wrong_imports(module) == []


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_nothing_heavy_below_the_models(module: Module) -> None:
    assert heavy_imports(module) == []


def test_every_part_has_a_layer() -> None:
    listed = {part for parts in LAYERS for part in parts}
    assert {module.part for module in MODULES if module.part} <= listed


def test_lower_layers_and_the_command_line_start_without_the_heavy_libraries() -> None:
    """Also what the parsed imports cannot show: a library that loads another one."""
    names = [m.name for m in MODULES if (layer_of(m.part) or 0) < HEAVY_FROM or m.name == "kgr1.cli.main"]
    program = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        f"print(sorted(set(sys.modules) & {set(HEAVY)!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("path", "text", "problems"),
    [
        ("graph/a.py", "from kgr1.types import Query", 0),
        ("graph/a.py", "from .api import GraphInfo", 0),
        ("graph/a.py", "from . import api", 0),
        ("graph/a.py", "import kgr1", 0),
        ("graph/a.py", "from kgr1 import __version__", 0),
        ("graph/a.py", "from kgr1.rewards import score", 1),
        ("graph/a.py", "from kgr1 import rewards", 1),
        ("graph/a.py", "import kgr1.cli.main", 1),
        ("graph/a.py", "from ..agent import prompt", 1),
        ("graph/a.py", "from .. import agent", 1),
        ("graph/a.py", "def f():\n    from ..agent.prompt import x", 1),
        ("graph/a.py", "import importlib\nimportlib.import_module('kgr1.cli.main')", 1),
        ("graph/__init__.py", "from .store import GraphStore", 0),
        ("graph/__init__.py", "from ..server import app", 1),
        ("types.py", "from kgr1.graph.api import GraphInfo", 1),
        ("config.py", "from kgr1.types import Record", 0),
        ("server/a.py", "from kgr1.agent import parse", 1),
        ("cli/a.py", "from kgr1.agent import parse\nfrom kgr1.explorer import page", 0),
    ],
)
def test_the_rule_catches(tmp_path: Path, path: str, text: str, problems: int) -> None:
    source = tmp_path / "kgr1"
    for folder in ("graph", "server", "cli"):
        (source / folder).mkdir(parents=True, exist_ok=True)
    (source / path).write_text(text)
    assert sum(len(wrong_imports(module)) for module in modules(source)) == problems


@pytest.mark.parametrize(
    ("path", "text", "problems"),
    [
        ("agent/a.py", "import torch", 1),
        ("agent/a.py", "def f():\n    import torch.nn", 1),
        ("agent/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from torch import Tensor", 1),
        ("agent/a.py", "try:\n    import trl\nexcept ImportError:\n    pass", 1),
        ("types.py", "from transformers import AutoModel", 1),
        ("models/a.py", "import torch", 0),
        ("cli/a.py", "def f():\n    import torch", 0),
        ("cli/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", 0),
        ("cli/a.py", "import torch", 1),
    ],
)
def test_the_heavy_rule_catches(tmp_path: Path, path: str, text: str, problems: int) -> None:
    source = tmp_path / "kgr1"
    for folder in ("agent", "models", "cli"):
        (source / folder).mkdir(parents=True, exist_ok=True)
    (source / path).write_text(text)
    assert sum(len(heavy_imports(module)) for module in modules(source)) == problems
