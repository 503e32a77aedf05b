"""Every command explains itself, starts fast, and is what the documentation says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from cli_process import Run, Spawn

import kgr1
from kgr1.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
GROUP: Any = typer.main.get_command(app)


def commands(group: Any = GROUP, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


COMMANDS = dict(commands())
every_command = pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(path) or "kgr1")


@every_command
def test_every_command_has_help(run: Run, path: tuple[str, ...]) -> None:
    text = run(*path, "--help").stdout
    for parameter in COMMANDS[path].params:
        assert parameter.help, f"{parameter.name} has no help"
        for option in parameter.opts if parameter.param_type_name == "option" else []:
            assert option in text


@every_command
def test_an_unknown_option_is_wrong_usage(run: Run, path: tuple[str, ...]) -> None:
    assert "--nonsense" in run(*path, "--nonsense", code=2).stderr


def test_an_unknown_command_is_wrong_usage(run: Run) -> None:
    run("nonsense", code=2)


def test_version(run: Run) -> None:
    assert run("--version").stdout == f"kgr1 {kgr1.__version__}\n"


def test_the_console_script_is_installed() -> None:
    script = Path(sys.executable).with_name("kgr1")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, f"kgr1 {kgr1.__version__}\n")


def test_help_loads_nothing_that_takes_long() -> None:
    program = (
        "import sys, time\nimport kgr1.cli.main\n"
        "slow = {'torch', 'transformers', 'numpy', 'scipy', 'polars', 'fastapi', 'uvicorn', 'httpx', 'matplotlib'}\n"
        "print(sorted(slow & set(sys.modules)), time.process_time() < 1.0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.strip() == "[] True", done.stderr


def test_what_the_terminal_cannot_show_is_escaped(spawn: Spawn, tmp_path: Path) -> None:
    (tmp_path / "kg.tsv").write_text("Zürich\tr\tÖ \U0001f600\n", "utf-8")
    words = ("graph", "query", tmp_path / "kg.tsv", "get_tail_entities", "Zürich", "r")
    assert spawn(*words, PYTHONIOENCODING="utf-8", PYTHONUTF8="1").stdout == "Ö \U0001f600\n"
    done = spawn(*words, PYTHONIOENCODING="ascii", PYTHONUTF8="1")
    assert (done.returncode, done.stdout) == (0, "\\u00d6 \\ud83d\\ude00\n")


def test_an_interrupt_while_the_program_loads_is_one_sentence() -> None:
    program = (
        "import builtins, sys\nload = builtins.__import__\n"
        "def interrupted(name, *rest):\n"
        "    if name == 'kgr1.cli.bars': raise KeyboardInterrupt\n"
        "    return load(name, *rest)\n"
        "builtins.__import__ = interrupted\nimport kgr1.cli.main\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\nInterrupted; nothing was changed.\n")


def test_completion_is_offered(spawn: Spawn) -> None:
    done = spawn(_KGR1_COMPLETE="complete_bash", COMP_WORDS="kgr1 gr", COMP_CWORD="1")
    assert "graph" in done.stdout.split()


# The commands in the documentation

DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("recipes/*.*"))]
_CALL = re.compile(r"(?:^\s*(?:[$#]\s+)?|`)(kgr1 [^`\n]*)", re.MULTILINE)


def calls(text: str) -> list[str]:
    """Calls of kgr1 in a document: lines that start with it, alone or after a prompt, and code in backquotes."""
    return _CALL.findall(text.replace("\\\n", " "))


def problems(call: str) -> list[str]:
    """Commands and options of a call that do not exist."""
    try:
        words = shlex.split(call, comments=True)[1:]
    except ValueError as error:
        return [f"{call}: {error}"]
    path: tuple[str, ...] = ()
    while words and not words[0].startswith("-") and hasattr(COMMANDS[path], "commands"):
        if (*path, words[0]) not in COMMANDS:
            # "kgr1 graph|serve" and prose such as "kgr1 is" are no calls
            return [f"{call}: no command {words[0]}"] if words[0].isalpha() and len(words) > 1 else []
        path = (*path, words.pop(0))
    known = {"--help", *(option for p in COMMANDS[path].params for option in (*p.opts, *p.secondary_opts))}
    used = [word.partition("=")[0] for word in words if re.fullmatch(r"--?[A-Za-z][\w-]*(=.*)?", word)]
    return [f"{call}: no option {option}" for option in used if option not in known]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_call_what_exists(document: Path) -> None:
    text = document.read_text("utf-8")
    assert [problem for call in calls(text) for problem in problems(call)] == []


def test_the_document_check_catches() -> None:
    text = "Run `kgr1 serve G --prot 1` or\n\n```\n$ kgr1 graph bild a b\nkgr1 ask 'Q' \\\n  --graph g --topc x\n```\n"
    assert [problem.rpartition(": ")[2] for call in calls(text) for problem in problems(call)] == [
        "no option --prot",
        "no command bild",
        "no option --topc",
    ]
    assert problems("kgr1 ask 'Who -x?' --graph g -m NAME --set agent.max_turns=7") == []
