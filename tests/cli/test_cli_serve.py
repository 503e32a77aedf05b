"""``kgr1 serve`` as a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from cli_process import Run, Spawn, command, environment


@contextmanager
def serving(cache: Path, *arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [*command(), "serve", *map(str, arguments), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(cache),
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, line
        yield process, found[0]
    finally:
        process.kill()
        process.communicate()


def test_serve_and_ask_over_http(run: Run, cache: Path, family: Path) -> None:
    with serving(cache, family, "world=countries") as (process, url):
        assert run("graph", "query", f"{url}#family", "get_tail_entities", "Ada", "parent of").stdout == "Ben\nCleo\n"
        assert "2,095" in run("graph", "info", f"{url}#world").stdout
        told = run("graph", "info", url, code=1).stderr
        assert f"several graphs: family, world; name one behind the address, as in {url}#family." in told
        run("graph", "info", url, "--verify", code=2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (0, "Stopped.\n")


def test_a_port_in_use_is_one_sentence(spawn: Spawn, family: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = spawn("serve", family, "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: Port {port} on 127.0.0.1 is in use; choose another with --port.\n"


def test_wrong_arguments(run: Run, family: Path, tmp_path: Path) -> None:
    run("serve", code=2)
    run("serve", family, "--port", "http", code=2)
    assert "not a port" in run("serve", family, "--port", "70000", code=1).stderr
    assert "two graphs are called 'family'" in run("serve", family, f"family={family}", code=2).stderr
    assert "NAME=GRAPH" in run("serve", "=x", code=2).stderr
    assert "There is no graph at" in run("serve", tmp_path / "none", code=1).stderr
    for address in ("http://127.0.0.1:1", "x=https://127.0.0.1:1", "sparql+http://127.0.0.1:1/?query=1"):
        assert f"{address} is a URL; serve takes built graphs and triple files" in run("serve", address, code=1).stderr
    assert "not an address" in run("serve", family, "--host", "no.such.host.invalid", code=1).stderr


@pytest.mark.parametrize("name", ["a=b.tsv", "graph.tsv"])
def test_a_path_may_hold_an_equals_sign(cache: Path, tmp_path: Path, name: str) -> None:
    from kgr1.cli.serve import split_name

    (tmp_path / name).write_text("a\tr\tb\n")
    assert split_name(str(tmp_path / name)) == (name.split(".")[0], str(tmp_path / name))


def test_tokens_limits_logs_and_metrics_of_several_workers(run: Run, cache: Path, family: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-for-the-tests\n")
    options = ["--workers", "2", "--token-file", tokens, "--limit", "max_batch=3", "--log-format", "json"]
    query = {"operation": "get_tail_entities", "entity": "Ada", "relation": "parent of"}
    headers = {"Authorization": "Bearer a-token-for-the-tests"}
    with serving(cache, family, *options) as (process, url):
        assert httpx.get(f"{url}/v1/graphs").status_code == 401
        assert "set it in the environment variable KGR1_TOKEN," in run("graph", "info", url, code=1).stderr
        for _ in range(30):  # a connection each, so that both workers get some
            reply = httpx.post(f"{url}/v1/query", json={"queries": [query] * 3}, headers=headers)
            assert reply.json()["observations"][0]["names"] == ["Ben", "Cleo"]
        assert httpx.post(f"{url}/v1/query", json={"queries": [query] * 4}, headers=headers).status_code == 413
        for _ in range(5):
            page = httpx.get(f"{url}/metrics").text
            assert 'kgr1_requests_total{path="/v1/query",status="200"} 30.0' in page
            assert 'kgr1_queries_total{graph="family",operation="get_tail_entities",outcome="OK"} 90.0' in page
            assert "kgr1_requests_in_flight 1.0" in page
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    *lines, last = err.splitlines()
    assert last == "Stopped."
    logged = [json.loads(line) for line in lines]
    assert sum(line["queries"] for line in logged) == 90
    assert {line["status"] for line in logged} == {200, 401, 413}
    assert "a-token-for-the-tests" not in err


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tells the workers by /proc")
def test_workers_are_replaced_after_the_file_was_changed(run: Run, cache: Path, family: Path) -> None:
    query = {"operation": "get_tail_entities", "entity": "Ada", "relation": "parent of"}
    with serving(cache, family, "--workers", "2") as (process, url):
        family.write_text(family.read_text() + "Ada\tparent of\tEve\n")
        assert run("graph", "query", family, "get_tail_entities", "Ada", "parent of").stdout == "Ben\nCleo\nEve\n"
        first = workers_of(process)
        assert len(first) == 2
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        reply = httpx.post(f"{url}/v1/query", json={"queries": [query]}, timeout=30)  # waits for the new ones
        assert reply.json()["observations"][0]["names"] == ["Ben", "Cleo"]
        assert not set(workers_of(process)) & set(first)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 0, err


def test_a_server_without_its_tokens_does_not_start(run: Run, family: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("# none yet\n")
    assert "holds no token" in run("serve", family, "--token-file", tmp_path / "empty", code=1).stderr
    assert "Cannot read the token file" in run("serve", family, "--token-file", tmp_path / "none", code=1).stderr


def test_a_built_graph_is_called_like_its_folder(tmp_path: Path) -> None:
    """As docs/serving.md says."""
    from kgr1.cli.serve import split_name

    (tmp_path / "films.kg").mkdir()
    assert split_name(str(tmp_path / "films.kg"))[0] == "films.kg"


def test_limits_are_checked(run: Run, family: Path) -> None:
    assert "unknown key 'max_speed'" in run("serve", family, "--limit", "max_speed=3", code=1).stderr
    assert "'max_batch'" in run("serve", family, "--limit", "max_batch=none", code=1).stderr
    assert "NAME=NUMBER" in run("serve", family, "--limit", "max_batch", code=2).stderr
