"""A model server on loopback that judges by a rule, and can fail in the ways that servers do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Verdict = Callable[[dict[str, Any]], str]


def same_name(asked: dict[str, Any]) -> str:
    """One digit for each gold entity: some predicted name is one of its names, in any case."""
    said = {name.casefold() for name in asked["predicted"]}
    return "".join(str(int(bool({n.casefold() for n in (g["name"], *g["other_names"])} & said))) for g in asked["gold"])


class JudgeServer:
    """What the server was asked, and what it does: ``fail_after`` requests it drops every connection."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict
        self.fail_after = 10**9
        self.statuses: list[int] = []  # sent first, before any verdict
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.lock = threading.Lock()
        self.url = ""

    def reply(self, body: dict[str, Any], key: str | None) -> tuple[int, bytes] | None:
        """Status and body, or None to hang up."""
        with self.lock:
            if len(self.requests) >= self.fail_after:
                return None
            if self.statuses:
                return self.statuses.pop(0), b'{"error": {"message": "not now"}}'
            self.requests.append(body)
            self.keys.append(key)
        text = self.verdict(json.loads(body["messages"][1]["content"]))
        return 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


@contextmanager
def judge_server(verdict: Verdict = same_name) -> Iterator[JudgeServer]:
    """A server that runs until the block ends."""
    state = JudgeServer(verdict)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            known = self.path == "/v1/chat/completions"
            answer = state.reply(body, self.headers.get("authorization")) if known else (404, b"{}")
            if answer is None:
                self.connection.close()
                return
            self.send_response(answer[0])
            self.send_header("content-length", str(len(answer[1])))
            self.end_headers()
            self.wfile.write(answer[1])

        def log_message(self, *_: object) -> None:
            return

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:  # the client has left, or was left
                return

        def finish(self) -> None:
            try:
                super().finish()
            except (OSError, ValueError):
                return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
