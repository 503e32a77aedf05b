"""One SPARQL endpoint over HTTP: queries out, rows of terms in, and what can go wrong between.

Queries only read, so asking again is safe: lost connections, 429 and 5xx are retried with exponential backoff and
jitter, and a ``Retry-After`` is honoured. What is left is one of two errors: :class:`GraphServerError` if the endpoint
cannot be used, :class:`Refused` if it did not answer this query and may well answer a smaller one.
"""

from __future__ import annotations

import email.utils
import json
import random
import re
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx

from kgr1.errors import GraphServerError
from kgr1.graph.sparql.options import SparqlOptions
from kgr1.graph.sparql.terms import Term, from_binding

MAX_RESPONSE_BYTES = 128 * 2**20
MAX_WAIT_S = 60.0
"""An endpoint that asks for a longer pause than this is given up."""

_JSON = "application/sparql-results+json"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_BUSY = frozenset({429, 502, 503, 504})  # says nothing about the query; 500 and 4xx may be its fault
Row = tuple[Term | None, ...]


class Refused(Exception):  # noqa: N818 - it is an answer, which callers turn into an observation
    """The endpoint runs but did not answer this query: too slow, too large, or beyond what it supports."""


class Rows(list[Row]):
    """Rows of a result; ``cut`` is True if the endpoint says that there are more than it sent.

    ``last`` is the text of the first variable in the last row, also where it is no term; None for a blank node.
    """

    cut = False
    last: str | None = None


class Endpoint:
    """A SPARQL 1.1 query service. Nothing is sent before the first query; threads may share it."""

    def __init__(self, url: str, options: SparqlOptions) -> None:
        self.url = url
        self.options = options
        self.requests = 0  # sent so far, retries included
        try:
            urlsplit(url)  # refuses brackets that do not match
            parts = httpx.URL(url)
        except (httpx.InvalidURL, ValueError):
            parts = httpx.URL()
        if parts.scheme not in ("http", "https") or not parts.host or re.search(r"[\s#]", url):
            raise GraphServerError(f"{url[:200]!r} is not the address of a SPARQL endpoint; give one such as "
                                   "http://localhost:8890/sparql.")  # fmt: skip
        self._http = httpx.Client(
            timeout=options.timeout_s,
            limits=httpx.Limits(max_connections=16, max_keepalive_connections=16, keepalive_expiry=10),
            trust_env=parts.host not in _LOOPBACK,  # a proxy cannot reach this machine's loopback
            headers={"accept": _JSON, "user-agent": options.user_agent or "kgr1 (knowledge graph retrieval)"},
        )
        self._closed = threading.Event()

    def select(self, query: str, variables: Sequence[str], *, timeout_s: float | None = None) -> Rows:
        """The rows of a SELECT query, in the order of ``variables``; None for what :func:`from_binding` leaves out."""
        content = self._send(query, timeout_s or self.options.timeout_s, lambda reply: _rows(reply, variables))
        assert isinstance(content, Rows)
        return content

    def ask(self, query: str, *, timeout_s: float | None = None) -> bool:
        """The answer to an ASK query."""
        return bool(self._send(query, timeout_s or self.options.timeout_s, lambda reply: bool(reply["boolean"])))

    def alive(self) -> bool:
        """Whether the endpoint answers the smallest query there is. Raises :class:`GraphServerError` if it is gone."""
        try:
            self.ask("ASK {}")
        except Refused:
            return False
        return True

    def close(self) -> None:
        """Drop the connections; calling it twice is fine."""
        self._closed.set()
        self._http.close()

    def require_open(self) -> None:
        """Raises :class:`GraphServerError` after :meth:`close`."""
        if self._closed.is_set():
            raise GraphServerError(f"The graph at {self.url} was closed; open it again to query it.", url=self.url)

    def _send(self, query: str, timeout_s: float, read: Any) -> object:
        """Ask until there is an answer that ``read`` can make sense of."""
        attempt = 0
        while True:
            self.require_open()
            wait: float | None = None
            refused = False
            try:
                response, content = self._attempt(query, timeout_s)
                if response.status_code == 200:
                    return self._understand(response, content, read)
                failure = f"status {response.status_code}{_excerpt(content)}"
                if response.status_code not in _BUSY:
                    refused = True
                    self._require_query_fault(response, failure)
                wait = _retry_after(response)
            except httpx.ConnectTimeout:
                failure = "no connection in time"
            except httpx.TimeoutException as error:
                raise Refused(f"no answer within {timeout_s:g} s") from error
            except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError) as error:
                failure = str(error) or type(error).__name__
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise self._unusable(f"answered with something that is not HTTP ({type(error).__name__})") from error
            except ValueError as error:  # half an answer, or an error message after the beginning of one
                failure, refused = f"an answer that is not a result ({error})", True
            except RuntimeError:  # httpx raises it for a client that another thread has closed meanwhile
                self.require_open()
                raise
            final = refused and failure.startswith("status 4")
            if final or attempt == self.options.retries or (wait or 0) > MAX_WAIT_S:
                if refused:
                    raise Refused(failure)
                raise self._unusable(f"did not answer in {attempt + 1} attempt{'s' * (attempt > 0)} ({failure})")
            pause = self.options.backoff_s * 2**attempt * random.uniform(0.5, 1.5)  # jitter: clients come back apart
            self._closed.wait(pause if wait is None else max(wait, pause))
            attempt += 1

    def _attempt(self, query: str, timeout_s: float) -> tuple[httpx.Response, bytes]:
        deadline = time.monotonic() + timeout_s
        self.requests += 1
        with self._http.stream("POST", self.url, data={"query": query}, timeout=timeout_s) as response:
            size, chunks = 0, []
            for chunk in response.iter_bytes():
                size += len(chunk)
                if size > MAX_RESPONSE_BYTES:
                    raise Refused(f"more than {MAX_RESPONSE_BYTES >> 20} MiB")
                if time.monotonic() > deadline:  # httpx bounds each read, not their sum
                    raise Refused(f"no whole answer within {timeout_s:g} s")
                chunks.append(chunk)
            return response, b"".join(chunks)

    def _understand(self, response: httpx.Response, content: bytes, read: Any) -> object:
        """Raises ValueError for an answer that is not whole, :class:`Refused` for one that says it is partial."""
        kind = response.headers.get("content-type", "")
        if "json" not in kind.lower():
            raise self._unusable(
                f"answered with {kind.split(';')[0][:60] or 'no content type'} instead of SPARQL results as JSON"
            )
        if response.headers.get("x-sql-state"):  # Virtuoso ran out of time and sends what it had
            raise Refused(f"a partial answer ({response.headers.get('x-sql-message', '')[:100]})")
        reply = json.loads(content)
        try:
            result = read(reply)
            if _SURROGATE.search(content) and isinstance(result, Rows):
                _check_unicode(result)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"unexpected content: {type(error).__name__}") from error
        cap = response.headers.get("x-sparql-maxrows", "")
        if isinstance(result, Rows) and cap.isdecimal() and len(result) >= int(cap):
            result.cut = True
        return result

    def _require_query_fault(self, response: httpx.Response, failure: str) -> None:
        """Raises :class:`GraphServerError` for a status that every other query would get as well."""
        status = response.status_code
        if status in (301, 302, 303, 307, 308):
            place = response.headers.get("location", "")[:200]
            raise self._unusable(f"has moved to {place or 'another place'}; give that address")
        if status in (401, 403, 404, 405, 406, 407, 410, 415, 501):
            raise self._unusable(f"refused the query ({failure})")

    def _unusable(self, what: str) -> GraphServerError:
        hint = "" if "give that address" in what else "; check that it is the address of a SPARQL endpoint"
        return GraphServerError(f"{self.url} {what}{hint}.", url=self.url)


def _rows(reply: Mapping[str, Any], variables: Sequence[str]) -> Rows:
    """Every variable of our queries is always bound: what lacks one is not the answer to them."""
    rows = Rows()
    if not set(variables) <= set(reply["head"]["vars"]):
        raise ValueError("other variables")
    bindings = reply["results"]["bindings"]
    for binding in bindings:
        rows.append(tuple([from_binding(binding[name]) for name in variables]))
    if bindings and bindings[-1][variables[0]]["type"] != "bnode":
        rows.last = bindings[-1][variables[0]]["value"]
    return rows


def _check_unicode(rows: Rows) -> None:
    (rows.last or "").encode("utf-8")
    for row in rows:
        for term in row:
            if term is not None:
                term.value.encode("utf-8")


def _excerpt(content: bytes) -> str:
    """The beginning of an error page, one line without markup."""
    text = re.sub(r"<[^<>]{0,200}>|[^\x20-\x7e\xa0-\U0010ffff]", " ", content[:600].decode("utf-8", "replace"))
    text = " ".join(text.split())[:160]
    return f": {text}" if text else ""


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds that the endpoint asks to wait, None if it does not say."""
    value = response.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
