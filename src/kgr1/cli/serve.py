"""``kgr1 serve``: graphs over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kgr1.cli.console import note, one_line, out
from kgr1.errors import GraphError

if TYPE_CHECKING:
    from kgr1.server.wire import ServerLimits

TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="Serve only clients with one of these tokens, one a line."),
]


class LogFormat(StrEnum):
    """How log lines are written."""

    JSON = "json"
    TEXT = "text"


class LogLevel(StrEnum):
    """Levels of log lines."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def serve(
    graphs: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]GRAPH...",
            help="Built graphs or triple files; without NAME a graph is called like its folder or file.",
        ),
    ],
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for every one of this machine.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="The port to listen on; 0 for any free one.")] = 8765,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Server processes.")] = 1,
    limits: Annotated[
        list[str] | None,
        typer.Option("--limit", metavar="NAME=NUMBER", help="Change one limit, e.g. max_batch=512; repeatable."),
    ] = None,
    token_file: TokenFile = None,
    protect_metrics: Annotated[
        bool, typer.Option("--protect-metrics", help="Ask for a token at /metrics, too.")
    ] = False,
    log_format: Annotated[
        LogFormat | None, typer.Option(help="Write a line for every request to stderr, in this form.")
    ] = None,
    log_level: Annotated[LogLevel, typer.Option(help="The least level that --log-format writes.")] = LogLevel.INFO,
) -> None:
    """Serve graphs over HTTP until Ctrl-C.

    Accepted tokens come from --token-file and the environment variable KGR1_TOKENS; without any, everybody is served.
    """
    from kgr1.cli.sources import is_url, store_folder
    from kgr1.server.app import ServerOptions
    from kgr1.server.logs import LogSettings
    from kgr1.server.serve import serve as run_server
    from kgr1.server.tokens import Tokens

    options = ServerOptions(
        limits=read_limits(limits or ()),
        tokens=Tokens.load(token_file),
        protect_metrics=protect_metrics,
        logs=LogSettings(format=log_format.value if log_format else None, level=log_level.value),
    )
    with ExitStack() as stack:
        folders: dict[str, Path] = {}
        for spec in graphs:
            name, place = split_name(spec)
            if is_url(place) or is_url(spec):
                raise GraphError(f"{one_line(spec)} is a URL; serve takes built graphs and triple files only.")
            if name in folders:
                raise typer.BadParameter(f"two graphs are called '{one_line(name)}'; name them NAME=GRAPH.")
            folders[name] = stack.enter_context(store_folder(place))

        def ready(url: str) -> None:
            listing = ", ".join(one_line(name) for name in folders)
            out.print(f"Serving {listing} on {url} (Ctrl-C stops).")
            out.file.flush()

        run_server(folders, host, port, options=options, workers=workers, on_ready=ready)
        note("Stopped.")


def read_limits(changes: Sequence[str]) -> ServerLimits:
    """The limits of a server with these changes; raises :class:`kgr1.errors.SettingsError` for one that is none."""
    from kgr1.config import validate
    from kgr1.server.wire import ServerLimits

    values: dict[str, str] = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise typer.BadParameter(f"'{one_line(change)}' is not of the form NAME=NUMBER.", param_hint="--limit")
        values[name.strip()] = value.strip()
    return validate(ServerLimits, values, source="--limit")


def split_name(spec: str) -> tuple[str, str]:
    """``NAME=GRAPH`` as its parts; a path that exists and happens to hold ``=`` is a path."""
    name, equals, place = spec.partition("=")
    if equals and not Path(spec).expanduser().exists():
        if not name or not place:
            raise typer.BadParameter(f"'{one_line(spec)}' is not of the form NAME=GRAPH.")
        return name, place
    path = Path(spec).expanduser()
    return (path.resolve().name if path.is_dir() else path.name.split(".")[0]) or spec, spec
