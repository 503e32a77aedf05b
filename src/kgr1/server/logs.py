"""Logs of a server process: to stderr, one line a record, for people or for machines.

Records may carry a dictionary ``fields`` (``extra={"fields": ...}``). What a client sends stands in a line only in
escaped form, so that nobody can forge lines, and texts of queries do not stand in it at all.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Literal

from kgr1.types import Record

Format = Literal["json", "text"]
Level = Literal["debug", "info", "warning", "error"]


class LogSettings(Record):
    """What a server process logs. ``format`` None leaves logging as the program has set it."""

    format: Format | None = None
    level: Level = "info"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time`` (UTC), ``level``, ``logger``, ``message``, the fields, ``error``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """``time LEVEL logger: message key=value ...``; a traceback follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = "".join(f" {key}={_shown(value)}" for key, value in getattr(record, "fields", {}).items())
        line = f"{moment} {record.levelname} {record.name}: {_one_line(record.getMessage())}{fields}"
        if record.exc_info:
            line += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return line


def configure(settings: LogSettings) -> None:
    """Send the logs of kgr1 and of the HTTP server to stderr in the chosen format; calling it again replaces that."""
    if settings.format is None:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.format == "json" else TextFormatter())
    for name, level in (("kgr1", settings.level.upper()), ("uvicorn", "WARNING")):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False


def _shown(value: object) -> str:
    text = str(value)
    return text if text and text.isascii() and text.isprintable() and " " not in text else json.dumps(text)


def _one_line(text: str) -> str:
    return text if text.isprintable() else json.dumps(text)[1:-1]
