"""Commands in the documents can be typed as they stand: targets, commands, arguments and options exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from layers import ROOT
from test_docs import DOCUMENTS, fences

from kgr1.cli.main import app

PAGES = [*DOCUMENTS, *sorted((ROOT / "recipes").glob("*.md"))]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


def commands(text: str, program: str) -> Iterator[list[str]]:
    """Arguments of every call of ``program`` in the shell blocks, comments left out."""
    for block in fences(text, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] == program:
                yield words[1:]


def problem(arguments: list[str]) -> str:
    """Why kgr1 would refuse these arguments before it starts to work; empty if it would not."""
    command: Any = typer.main.get_command(app)
    names = ["kgr1"]
    while hasattr(command, "commands") and arguments and not arguments[0].startswith("-"):
        if arguments[0] not in command.commands:
            return f"{' '.join(names)} has no command {arguments[0]}"
        names.append(arguments[0])
        command, arguments = command.commands[arguments[0]], arguments[1:]
    if arguments == ["--help"]:
        return ""
    try:
        command.make_context(" ".join(names), list(arguments))
    except Exception as error:  # click's, of which typer may carry a copy of its own
        return f"{' '.join(names)}: {getattr(error, 'message', error)}"
    return ""


def unknown_targets(text: str) -> set[str]:
    """Targets of make in the shell blocks that the Makefile lacks."""
    asked = {word for words in commands(text, "make") for word in words if "=" not in word}
    return asked - set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_the_documents_are_valid(page: Path) -> None:
    text = page.read_text("utf-8")
    assert [found for words in commands(text, "kgr1") if (found := problem(words))] == []
    assert unknown_targets(text) == set()


def test_there_are_commands_in_the_documents() -> None:
    assert sum(len(list(commands(page.read_text("utf-8"), "kgr1"))) for page in PAGES) > 15


def test_every_target_is_explained() -> None:
    targets = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert targets is not None
    assert set(targets[1].split()) == set(re.findall(r"^([a-z]+):.*## \S", MAKEFILE, re.MULTILINE))


def test_the_check_catches() -> None:
    text = "```sh\nmake demo ARGS='x y'  # fine\nmake nothing\nkgr1 graph info \\\n    x.kg --nothing\n```\n"
    assert unknown_targets(text) == {"nothing"}
    (found,) = commands(text, "kgr1")
    assert found == ["graph", "info", "x.kg", "--nothing"]
    assert "--nothing" in problem(found)
    assert problem(["graph", "build", "x.tsv", "x.kg"]) == ""
    assert "has no command" in problem(["graph", "ask"])
    assert problem(["diff", "only-one"]) != ""
