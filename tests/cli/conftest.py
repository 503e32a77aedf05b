"""Running commands, in this process and in others."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cli_process import Run, Spawn, command, environment
from typer.testing import CliRunner, Result

from kgr1.cli.main import app


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process; no exception may get through."""
    monkeypatch.setenv("KGR1_CACHE", str(cache))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("KGR1_DEBUG", raising=False)

    def invoke(*arguments: str | Path, code: int = 0) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="kgr1")
        if result.exit_code != code:
            pytest.fail(f"exit code {result.exit_code}, not {code}:\n{result.output}\n{result.exception!r}")
        assert "Traceback" not in result.output
        return result

    return invoke


@pytest.fixture
def spawn(cache: Path) -> Spawn:
    """Run the console script in a process of its own, optionally without some modules."""

    def start(*arguments: str | Path, without: tuple[str, ...] = (), **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command(without), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environment(cache) | env,
        )

    return start


@pytest.fixture
def family(tmp_path: Path) -> Path:
    """A small triple file."""
    path = tmp_path / "family.tsv"
    path.write_text("Ada\tparent of\tBen\nAda\tparent of\tCleo\nBen\tparent of\tDan\nCleo\tlives in\tRome\n")
    return path
