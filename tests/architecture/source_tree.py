"""Reading the sources without running them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from layers import SOURCE


@dataclass(frozen=True)
class Import:
    """One imported module. ``target`` is its absolute dotted name, with the name taken from it if there is one."""

    target: str
    line: int
    top_level: bool  # runs when the module is imported; not inside a function, not under TYPE_CHECKING
    typing_only: bool  # under TYPE_CHECKING


@dataclass(frozen=True)
class Module:
    """One source file, parsed."""

    path: Path
    name: str  # "kgr1.graph.store"; a package is called without "__init__"

    @cached_property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, str(self.path))

    @property
    def part(self) -> str:
        """The top-level part of kgr1 that the module belongs to; empty for ``kgr1`` itself."""
        return self.name.split(".")[1] if "." in self.name else ""

    @property
    def package(self) -> str:
        """What a relative import of level 1 starts from."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]

    def imports(self) -> Iterator[Import]:
        """Every import statement, with relative ones resolved."""
        yield from _imports(self.tree, self.package, top_level=True, typing_only=False)


def modules(source: Path = SOURCE) -> list[Module]:
    """All modules below ``source``, the folder of the package kgr1."""
    found = []
    for path in sorted(source.rglob("*.py")):
        parts = [source.name, *path.relative_to(source).with_suffix("").parts]
        if parts[-1] == "__init__":
            parts.pop()
        found.append(Module(path, ".".join(parts)))
    return found


def _imports(node: ast.AST, package: str, *, top_level: bool, typing_only: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, top_level, typing_only)
        elif isinstance(child, ast.ImportFrom):
            base = _absolute(child, package)
            for alias in child.names:
                yield Import(f"{base}.{alias.name}", child.lineno, top_level, typing_only)
        elif isinstance(child, ast.If) and _is_type_checking(child.test):
            for part in child.body:
                yield from _imports(ast.Module([part], []), package, top_level=False, typing_only=True)
            for part in child.orelse:
                yield from _imports(ast.Module([part], []), package, top_level=top_level, typing_only=typing_only)
        elif isinstance(child, ast.Call) and _called(child) in ("import_module", "__import__"):
            if child.args and isinstance(child.args[0], ast.Constant) and isinstance(child.args[0].value, str):
                yield Import(child.args[0].value, child.lineno, top_level, typing_only)
            yield from _imports(child, package, top_level=top_level, typing_only=typing_only)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, package, top_level=top_level and not inside, typing_only=typing_only)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if node.level == 0:
        return node.module or ""
    parts = package.split(".")
    parts = parts[: len(parts) - (node.level - 1)]
    return ".".join([*parts, node.module] if node.module else parts)


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _called(node: ast.Call) -> str:
    function = node.func
    if isinstance(function, ast.Name):
        return function.id
    return function.attr if isinstance(function, ast.Attribute) else ""
