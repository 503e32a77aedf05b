"""What the client sends and receives: HTTP with retries, bounded replies, errors in one sentence.

Queries only read, so asking again is always safe: lost connections, time-outs and the statuses 429, 502, 503 and 504
are retried with exponential backoff and jitter, or after the pause that the server asks for.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import httpx
from pydantic import ValidationError

from kgr1.errors import GraphServerError
from kgr1.server import wire
from kgr1.server.tokens import Secret
from kgr1.server.wire import ErrorReply

RETRIED_STATUSES = frozenset({429, 502, 503, 504})
MAX_RESPONSE_BYTES = 256 * 2**20
MAX_PAUSE_S = 30.0
"""No server makes a client wait longer than this before the next attempt."""
KEEP_ALIVE_S = 30
"""Idle connections are dropped after this time, well before the server drops them."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class AttemptError(Exception):
    """An attempt that failed in a way that may pass: what happened, and the pause that the server asks for."""

    def __init__(self, failure: str, pause_s: float = 0.0) -> None:
        super().__init__(failure)
        self.pause_s = pause_s


class Transport:
    """One server address with its connections. Threads may share it.

    Its methods raise :class:`GraphServerError` when all attempts failed, or at once for what another attempt would not
    change.
    """

    def __init__(self, url: str, secret: Secret | None, *, timeout_s: float, retries: int, backoff_s: float) -> None:
        self.url = url.rstrip("/")
        self.secret = secret
        self.timeout_s = timeout_s
        self.retries = retries
        self.backoff_s = backoff_s
        host = _host(self.url)
        self._http = httpx.Client(
            timeout=timeout_s,
            headers={"authorization": secret.header} if secret else None,
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=64, keepalive_expiry=KEEP_ALIVE_S),
            trust_env=host not in LOOPBACK,  # a proxy cannot reach this machine's loopback
        )
        self._closed = False

    def request(self, method: str, path: str, body: bytes | None = None, params: dict[str, str] | None = None) -> bytes:
        """Send until there is a reply; returns the body of a 200."""
        attempt = 0
        while True:
            try:
                return self._attempt(method, path, body, params)
            except AttemptError as failed:
                self.pause(failed, attempt)
                attempt += 1

    def pause(self, failed: AttemptError, attempt: int) -> None:
        """Wait before the next attempt, ``attempt`` counted from 0; raises if there is none left."""
        if attempt >= self.retries:
            tries = "1 attempt" if self.retries == 0 else f"{self.retries + 1} attempts"
            raise GraphServerError(
                f"The graph server at {self.url} did not answer in {tries} ({str(failed).rstrip('.')}); "
                "check that it runs and that the address is right.",
                url=self.url,
            ) from failed
        wait = max(self.backoff_s * 2**attempt, failed.pause_s) * random.uniform(0.5, 1.5)  # clients come back apart
        time.sleep(min(wait, MAX_PAUSE_S))

    def _attempt(self, method: str, path: str, body: bytes | None, params: dict[str, str] | None) -> bytes:
        deadline = time.monotonic() + self.timeout_s
        headers = {"content-type": "application/json"} if body is not None else {}
        with (
            self._sending(),
            self._http.stream(method, self.url + path, content=body, headers=headers, params=params) as response,
        ):
            content = self._read(response, deadline)
            return self._accept(response, content)

    def lines(self, path: str, body: bytes, params: dict[str, str]) -> Generator[bytes, None, None]:
        """One attempt at a streamed reply: its lines as they arrive; raises :class:`AttemptError` if it breaks."""
        headers = {"content-type": "application/x-ndjson"}
        with (
            self._sending(),
            self._http.stream("POST", self.url + path, content=body, headers=headers, params=params) as response,
        ):
            if response.status_code != 200:
                self._accept(response, self._read(response, time.monotonic() + self.timeout_s))
            rest = b""
            for chunk in response.iter_bytes():
                *whole, rest = (rest + chunk).split(b"\n")
                if len(rest) > MAX_RESPONSE_BYTES:
                    raise self.nonsense(f"a line of more than {MAX_RESPONSE_BYTES} bytes")
                yield from whole
            if rest:
                yield rest

    @contextmanager
    def _sending(self) -> Iterator[None]:
        """Turn what httpx raises into :class:`AttemptError` or the final error."""
        self.require_open()
        try:
            yield
        except httpx.TimeoutException as error:
            raise AttemptError(f"no answer within {self.timeout_s:g} s") from error
        except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError) as error:
            raise AttemptError(str(error) or type(error).__name__) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self.nonsense(f"something that is not HTTP ({type(error).__name__})") from error
        except RuntimeError:  # httpx raises it for a client that another thread has closed meanwhile
            self.require_open()
            raise

    def _read(self, response: httpx.Response, deadline: float) -> bytes:
        size, chunks = 0, []
        for chunk in response.iter_bytes():
            size += len(chunk)
            if size > MAX_RESPONSE_BYTES:
                raise self.nonsense(f"more than {MAX_RESPONSE_BYTES} bytes")
            if time.monotonic() > deadline:  # httpx bounds each read, not their sum
                raise httpx.ReadTimeout("the answer is too slow")
            chunks.append(chunk)
        return b"".join(chunks)

    def _accept(self, response: httpx.Response, content: bytes) -> bytes:
        status = response.status_code
        if status == 200:
            return content
        sentence = _sentence(content)
        if status in RETRIED_STATUSES:
            raise AttemptError(sentence or f"status {status}", retry_after_s(response.headers.get("retry-after", "")))
        if sentence:
            raise GraphServerError(f"The graph server at {self.url} refused the request: {sentence}", status=status)
        raise self.nonsense(f"status {status}")

    def nonsense(self, what: str) -> GraphServerError:
        """The error for a reply that no graph server gives."""
        return GraphServerError(
            f"{self.url} answered with {what}; check that it is the address of a kgr1 graph server.", url=self.url
        )

    def wrong_version(self, version: object) -> GraphServerError:
        """The error for a server that speaks another protocol."""
        return GraphServerError(
            f"The graph server at {self.url} speaks protocol {version!s:.20}, this client {wire.PROTOCOL_VERSION}; "
            "install the same kgr1 version on both sides.",
            url=self.url,
        )

    def require_open(self) -> None:
        """Raise if the transport was closed."""
        if self._closed:
            raise GraphServerError(f"The client of {self.url} is closed; make a new one.", url=self.url)

    def close(self) -> None:
        """Drop the connections; calling it twice is fine."""
        self._closed = True
        self._http.close()


def error_of(line: bytes) -> ErrorReply | None:
    """The error that a line of a stream or a reply is, None if it is none."""
    try:
        return ErrorReply.model_validate_json(line)
    except ValidationError:
        return None


def _sentence(content: bytes) -> str:
    """The sentence of an error reply, empty if it is none."""
    error = error_of(content)
    return error.message if error else ""


def retry_after_s(text: str) -> float:
    """The number of seconds in a Retry-After header; 0 for none and for the form with a date."""
    return float(text) if re.fullmatch(r"\d{1,6}", text) else 0.0


def _host(url: str) -> str:
    """The host of a server address; refuses what is none."""
    try:
        parts = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        parts = httpx.URL()
    if parts.scheme not in ("http", "https") or not parts.host or re.search(r"[\s%?#]", url):
        raise GraphServerError(f"{url[:200]!r} is not a server address; give one such as http://127.0.0.1:8765.")
    return parts.host
