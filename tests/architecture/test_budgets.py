"""Sizes, printing, names of data sets and docstrings: what keeps a file readable for the next person."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from layers import DATASET_NAMES, MAX_FILE_LINES, MAX_FUNCTION_LINES, ROOT
from source_tree import Module, modules

MODULES = modules()
PYTHON_FILES = sorted(
    path for folder in ("src", "tests", "benchmarks", "recipes") for path in (ROOT / folder).rglob("*.py")
)
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)

every_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
every_file = pytest.mark.parametrize("path", PYTHON_FILES, ids=lambda path: str(path.relative_to(ROOT)))


@every_file
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= MAX_FILE_LINES


@every_file
def test_functions_are_short(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    long = [
        f"{node.name} has {lines} lines"
        for node in ast.walk(tree)
        if isinstance(node, FUNCTION) and (lines := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert long == []


def prints(tree: ast.AST) -> list[int]:
    """Lines that print."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "pprint")
    ]


@every_module
def test_only_the_command_line_prints(module: Module) -> None:
    assert module.part == "cli" or prints(module.tree) == []


@every_module
def test_data_sets_are_named_in_their_package_only(module: Module) -> None:
    text = module.text.casefold()
    assert module.part == "datasets" or [name for name in DATASET_NAMES if name in text] == []


def undocumented(module: Module) -> Iterator[str]:
    """Public modules, classes, functions and methods without a docstring."""
    if not ast.get_docstring(module.tree):
        yield module.name
    yield from _undocumented(module.tree, module.name)


def _undocumented(node: ast.Module | ast.ClassDef, name: str) -> Iterator[str]:
    for child in node.body:
        if not isinstance(child, (*FUNCTION, ast.ClassDef)) or child.name.startswith("_"):
            continue
        if not ast.get_docstring(child) and not _inherits_docs(child, node):
            yield f"{name}.{child.name}"
        if isinstance(child, ast.ClassDef):
            yield from _undocumented(child, f"{name}.{child.name}")


def _inherits_docs(child: ast.stmt, parent: ast.AST) -> bool:
    """True for a method marked as overriding a documented one, or an overload of one."""
    if not isinstance(child, FUNCTION) or not isinstance(parent, ast.Module | ast.ClassDef):
        return False
    marks = {ast.unparse(mark).rpartition(".")[2] for mark in child.decorator_list}
    return bool(marks & {"override", "overload", "setter"})


@every_module
def test_what_is_public_is_documented(module: Module) -> None:
    assert list(undocumented(module)) == []


def test_the_checks_catch(tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_text("def f():\n    print(1)\nclass C:\n    '''Doc.'''\n    def m(self): ...\n    def _p(self): ...\n")
    module = Module(path, "kgr1.graph.m")
    assert prints(module.tree) == [2]
    assert list(undocumented(module)) == ["kgr1.graph.m", "kgr1.graph.m.f", "kgr1.graph.m.C.m"]
