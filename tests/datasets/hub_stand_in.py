"""A Hugging Face hub on this machine: what its client asks for when it lists and downloads a data set."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Hub:
    """Files of one repository at its newest commit; ``stated`` replaces the hash that is stated for a file.

    ``older`` has the files of earlier commits. ``history`` is False for a hub that does not list commits.
    """

    repository: str
    commit: str
    files: dict[str, bytes]
    stated: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    url: str = ""
    older: dict[str, dict[str, bytes]] = field(default_factory=dict)
    history: bool = True

    def files_of(self, revision: str) -> dict[str, bytes] | None:
        """The files of a branch or of a commit that is named by its whole hash, as on the real hub."""
        return self.files if revision in ("main", self.commit) else self.older.get(revision)

    def commits(self) -> list[dict[str, object]]:
        """The newest first."""
        rest = {"authors": [], "date": "2023-10-01T00:00:00.000Z", "title": "t", "message": ""}
        return [{"id": commit, **rest} for commit in (self.commit, *self.older)]

    def listing(self, revision: str = "main") -> dict[str, object]:
        files = self.files_of(revision) or {}
        siblings = [
            {
                "rfilename": name,
                "size": len(content),
                "blobId": hashlib.sha1(content).hexdigest(),
                "lfs": {
                    "sha256": self.stated.get(name, hashlib.sha256(content).hexdigest()),
                    "size": len(content),
                    "pointerSize": 130,
                },
            }
            for name, content in files.items()
        ]
        commit = self.commit if revision == "main" else revision
        return {"id": self.repository, "sha": commit, "siblings": siblings, "tags": [], "downloads": 0}


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Serve a hub on the loopback; its address is in ``url``."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            path = self.path.partition("?")[0]
            api = f"/api/datasets/{hub.repository}"
            if path == f"{api}/commits/main" and hub.history:
                self._send(json.dumps(hub.commits()).encode(), {"Content-Type": "application/json"}, body)
                return
            revision = path.removeprefix(f"{api}/revision/")
            if revision != path and hub.files_of(revision) is not None:
                self._send(json.dumps(hub.listing(revision)).encode(), {"Content-Type": "application/json"}, body)
                return
            if revision != path:
                self._not_there({"X-Error-Code": "RevisionNotFound"})
                return
            commit, _, name = path.removeprefix(f"/datasets/{hub.repository}/resolve/").partition("/")
            content = (hub.files_of(commit) or {}).get(name)
            if content is None or commit == "main":
                self._not_there({})
                return
            tag = hashlib.sha256(content).hexdigest()
            self._send(content, {"X-Repo-Commit": commit, "ETag": f'"{tag}"', "Accept-Ranges": "bytes"}, body)

        def _not_there(self, headers: dict[str, str]) -> None:
            self.send_response(404)
            for key, value in {**headers, "Content-Length": "0"}.items():
                self.send_header(key, value)
            self.end_headers()

        def _send(self, content: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(200)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
