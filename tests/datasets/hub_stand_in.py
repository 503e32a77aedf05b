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
    """Files of one repository at one commit; ``stated`` replaces the hash that is stated for a file."""

    repository: str
    commit: str
    files: dict[str, bytes]
    stated: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    url: str = ""

    def listing(self) -> dict[str, object]:
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
            for name, content in self.files.items()
        ]
        return {"id": self.repository, "sha": self.commit, "siblings": siblings, "tags": [], "downloads": 0}


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
            if path.startswith(f"/api/datasets/{hub.repository}/revision/"):
                self._send(json.dumps(hub.listing()).encode(), {"Content-Type": "application/json"}, body)
                return
            name = path.removeprefix(f"/datasets/{hub.repository}/resolve/{hub.commit}/")
            if name not in hub.files:
                self.send_error(404)
                return
            content = hub.files[name]
            tag = hashlib.sha256(content).hexdigest()
            self._send(content, {"X-Repo-Commit": hub.commit, "ETag": f'"{tag}"', "Accept-Ranges": "bytes"}, body)

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
