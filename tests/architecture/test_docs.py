"""The documents speak of files, modules and names that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from layers import LAYERS, ROOT, SOURCE
from source_tree import modules

DOCUMENTS = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])
ARCHITECTURE = ROOT / "docs" / "architecture.md"
FOLDERS = ("src", "tests", "docs", "recipes", "benchmarks", "tools")

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def fences(text: str, language: str) -> Iterator[str]:
    """The fenced blocks of one language."""
    for match in re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield match[1]


def code_spans(text: str) -> Iterator[str]:
    """What stands between single backticks, outside fenced blocks."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for match in re.finditer(r"`([^`\n]+)`", prose):
        yield match[1]


def missing_paths(text: str) -> list[str]:
    """Paths of this repository in code spans that lead nowhere."""
    pattern = rf"(?:{'|'.join(FOLDERS)})/[\w./*-]+"
    spans = {span for span in code_spans(text) if re.fullmatch(pattern, span)}
    return sorted(span for span in spans if not (any(ROOT.glob(span)) if "*" in span else (ROOT / span).exists()))


def missing_names(text: str) -> list[str]:
    """Dotted names of kgr1, in code spans and in the imports of Python blocks, that lead nowhere."""
    names = {span.removesuffix("()") for span in code_spans(text) if re.fullmatch(r"kgr1(\.\w+)+(\(\))?", span)}
    for block in fences(text, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "kgr1":
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names if alias.name.split(".")[0] == "kgr1"}
    return sorted(name for name in names if not exists(name))


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or something that a module or a class in it defines."""
    known = definitions()
    if name in known:
        return True
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module, rest = ".".join(parts[:cut]), ".".join(parts[cut:])
        if module in known:
            return rest in known[module]
    return False


@cache
def definitions() -> dict[str, frozenset[str]]:
    """For every module: its names and, for classes, the names inside."""
    return {module.name: frozenset(_defined(module.tree)) for module in modules()}


def _defined(node: ast.Module | ast.ClassDef) -> Iterator[str]:
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child.name
        elif isinstance(child, ast.ClassDef):
            yield child.name
            yield from (f"{child.name}.{name}" for name in _defined(child))
        elif isinstance(child, ast.Assign | ast.AnnAssign):
            targets = child.targets if isinstance(child, ast.Assign) else [child.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))
        elif isinstance(child, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name) for alias in child.names)


@every_document
def test_paths_exist(document: Path) -> None:
    assert missing_paths(document.read_text("utf-8")) == []


@every_document
def test_names_exist(document: Path) -> None:
    assert missing_names(document.read_text("utf-8")) == []


@every_document
def test_links_lead_to_files(document: Path) -> None:
    text = re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    local = [target for target in targets if not re.match(r"\w+:", target)]
    assert [target for target in local if not (document.parent / target).exists()] == []


def anchors(document: Path) -> set[str]:
    """What a link behind ``#`` can name: headings in lower case without punctuation, blanks as hyphens."""
    text = re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_document
def test_links_lead_to_headings(document: Path) -> None:
    text = re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)#\s:]*)#([^)\s]+)\)", text)
    wrong = [
        f"{target}#{anchor}"
        for target, anchor in links
        if anchor not in anchors((document.parent / target) if target else document)
    ]
    assert wrong == []


def test_the_architecture_page_lists_every_package() -> None:
    spans = set(code_spans(ARCHITECTURE.read_text("utf-8")))
    packages = {f"kgr1.{path.parent.name}" for path in SOURCE.glob("*/*.py")}
    assert packages - spans == set()


def test_the_architecture_page_shows_the_enforced_layers() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", ARCHITECTURE.read_text("utf-8"), re.MULTILINE)
    assert rows == [(str(number), ", ".join(parts)) for number, parts in enumerate(LAYERS)]


def test_the_checks_catch() -> None:
    text = """
See `src/kgr1/gone.py`, `src/kgr1/types.py`, `tests/architecture/*.py`, `docs/*.html`, `kgr1.types.Query`,
`kgr1.types.Query.to_text()`, `kgr1.types.Gone`, `kgr1.gone`, `kgr1.types.Query.gone`, `kgr1 serve`.
```python
from kgr1.types import Query, Missing
import kgr1.nowhere
```
"""
    assert missing_paths(text) == ["docs/*.html", "src/kgr1/gone.py"]
    assert missing_names(text) == [
        "kgr1.gone",
        "kgr1.nowhere",
        "kgr1.types.Gone",
        "kgr1.types.Missing",
        "kgr1.types.Query.gone",
    ]
