"""Access tokens: what the server compares and what the client sends. They are never printed, logged or repeated.

The server keeps digests only, so a token is in no memory dump, pickle or error message of it. A request carries its
token as ``Authorization: Bearer TOKEN``.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from kgr1.errors import GraphServerError

SERVER_VARIABLE = "KGR1_TOKENS"
"""Environment variable with the tokens that a server accepts, separated by commas or blanks."""

CLIENT_VARIABLE = "KGR1_TOKEN"
"""Environment variable with the token that clients send."""

MIN_CHARS = 16
_TOKEN = re.compile(r"[!-+\--~]+")  # visible ASCII but the comma, which separates tokens


class Tokens:
    """The tokens that a server accepts; empty if it accepts everybody."""

    def __init__(self, tokens: Iterable[str] = ()) -> None:
        """Raises :class:`GraphServerError` for a token that is short or cannot stand in a header."""
        self._digests = tuple(sorted({_digest(_checked(token, MIN_CHARS).encode()) for token in tokens}))

    @classmethod
    def load(cls, path: Path | None = None, environment: Mapping[str, str] | None = None) -> Tokens:
        """Tokens of a file (one a line, ``#`` begins a comment) and of the variable ``KGR1_TOKENS``.

        Raises :class:`GraphServerError` if the file cannot be read or a source holds no token: a server that was told
        to ask for tokens never starts without.
        """
        found: list[str] = []
        variable = (os.environ if environment is None else environment).get(SERVER_VARIABLE)
        if variable is not None:
            found += _some(re.split(r"[,\s]+", variable), f"The variable {SERVER_VARIABLE}")
        if path is not None:
            try:
                lines = path.read_text("utf-8").splitlines()
            except OSError as error:
                raise GraphServerError(f"Cannot read the token file {path}: {error.strerror}.") from error
            except UnicodeDecodeError as error:
                raise GraphServerError(f"The token file {path} is not text; write one token a line.") from error
            found += _some([line.partition("#")[0].strip() for line in lines], f"The token file {path}")
        return cls(found)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def __repr__(self) -> str:
        return f"<Tokens: {len(self._digests)}>"

    def accept(self, header: bytes | None) -> bool:
        """Whether an ``Authorization`` header carries one of the tokens; takes the same time for every wrong one."""
        scheme, _, presented = (header or b"").strip().partition(b" ")
        digest = _digest(presented.strip())
        known = False
        for accepted in self._digests:  # all of them, whatever is found: the time tells nothing
            known |= hmac.compare_digest(digest, accepted)
        return known and scheme.lower() == b"bearer"


class Secret:
    """A token on the way to a server. Its text form hides it."""

    def __init__(self, token: str) -> None:
        """Raises :class:`GraphServerError` if the token cannot stand in a header."""
        self._token = _checked(token, 1)

    @classmethod
    def choose(cls, token: str | Secret | None) -> Secret | None:
        """The given token, else the one of ``KGR1_TOKEN``, else none."""
        if isinstance(token, Secret):
            return token
        chosen = os.environ.get(CLIENT_VARIABLE, "").strip() if token is None else token
        return cls(chosen) if chosen else None

    @property
    def header(self) -> str:
        """The value of the ``Authorization`` header."""
        return f"Bearer {self._token}"

    def __repr__(self) -> str:
        return "<Secret>"


def _checked(token: str, least: int) -> str:
    if not _TOKEN.fullmatch(token):
        raise GraphServerError("A token is made of visible ASCII characters without blanks and commas; change it.")
    if len(token) < least:
        raise GraphServerError(f"A token has at least {least} characters; make a longer one.")
    return token


def _some(tokens: Iterable[str], source: str) -> list[str]:
    kept = [token for token in tokens if token]
    if not kept:
        raise GraphServerError(f"{source} holds no token; write one into it or leave it away.")
    return kept


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
