"""The judge's verdicts on disk: one JSON line each, kept as they arrive and found again by the hash of the request."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from kgr1.errors import EvaluationError
from kgr1.evaluation.files import append_line

_SHOWN = 200  # characters of a reply that could not be read


class VerdictBook:
    """A file of verdicts. Use it in a ``with`` block; lines that a crash damaged are asked for again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bits: dict[str, str | None] = {}
        self._file = -1
        self._end = 0

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._read()
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            self._end = os.fstat(self._file).st_size
        except OSError as error:
            raise self._failure(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def __contains__(self, key: str) -> bool:
        return key in self._bits

    def __len__(self) -> int:
        return len(self._bits)

    def bits(self, key: str) -> str | None:
        """The digits of a verdict, None if the reply could not be read."""
        return self._bits[key]

    def keep(self, key: str, bits: str | None, reply: str) -> None:
        """Write down a verdict; raises :class:`EvaluationError` if the file cannot be written, and nothing is added."""
        row = {"key": key, "bits": bits} | ({"reply": reply[:_SHOWN]} if bits is None else {})
        line = json.dumps(row).encode() + b"\n"
        try:
            append_line(self._file, line, self._end)
        except OSError as error:
            raise self._failure(error) from error
        self._end += len(line)
        self._bits[key] = bits

    def _read(self) -> None:
        if not self._path.exists():
            return
        whole = 0
        with self._path.open("rb") as file:
            for line in file:
                whole += len(line) if line.endswith(b"\n") else 0
                try:
                    row = json.loads(line)
                    key, bits = row["key"], row["bits"]
                except (ValueError, KeyError, TypeError):
                    continue
                if line.endswith(b"\n") and isinstance(key, str) and (bits is None or isinstance(bits, str)):
                    self._bits[key] = bits
        if whole < self._path.stat().st_size:
            os.truncate(self._path, whole)  # a line that was cut off would swallow the next one

    def _failure(self, error: OSError) -> EvaluationError:
        return EvaluationError(
            f"Cannot write the verdicts to {self._path}: {error.strerror}. Make room or choose another file; the "
            "verdicts so far are kept.",
            path=str(self._path),
        )
