"""``kgr1 mcp``: what it refuses, and what it says without the SDK."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from cli_process import Run, Spawn

from kgr1.cli.mcp import split_address


def test_wrong_arguments(run: Run, family: Path, tmp_path: Path) -> None:
    run("mcp", code=2)
    assert "HOST:PORT" in run("mcp", "--graph", family, "--http", "8766", code=2).stderr
    assert "HOST:PORT" in run("mcp", "--graph", family, "--http", "localhost:x", code=2).stderr
    assert "--http only" in run("mcp", "--graph", family, "--token-file", tmp_path / "t", code=2).stderr
    assert "There is no graph at" in run("mcp", "--graph", tmp_path / "none", code=1).stderr


def test_an_address_in_use_names_the_option_to_change(run: Run, family: Path) -> None:
    pytest.importorskip("mcp")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("mcp", "--graph", family, "--http", f"127.0.0.1:{port}", code=1)
    assert done.stderr == f"Error: Port {port} on 127.0.0.1 is in use; choose another with --http.\n"


def test_without_the_extra(spawn: Spawn, family: Path) -> None:
    done = spawn("mcp", "--graph", family, without=("mcp", "mcp_types"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install 'kgr1[mcp]'" in done.stderr


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:8766", ("::1", 8766)), ("localhost:0", ("localhost", 0))],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert split_address(text) == address
