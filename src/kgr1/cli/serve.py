"""``kgr1 serve``: graphs over HTTP."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from kgr1.cli.console import note, one_line, out


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
) -> None:
    """Serve graphs over HTTP until Ctrl-C."""
    from kgr1.cli.sources import store_folder
    from kgr1.server.serve import serve as run_server

    with ExitStack() as stack:
        folders: dict[str, Path] = {}
        for spec in graphs:
            name, place = split_name(spec)
            if name in folders:
                raise typer.BadParameter(f"two graphs are called '{one_line(name)}'; name them NAME=GRAPH.")
            folders[name] = stack.enter_context(store_folder(place))

        def ready(url: str) -> None:
            listing = ", ".join(one_line(name) for name in folders)
            out.print(f"Serving {listing} on {url} (Ctrl-C stops).")
            out.file.flush()

        run_server(folders, host, port, workers=workers, on_ready=ready)
        note("Stopped.")


def split_name(spec: str) -> tuple[str, str]:
    """``NAME=GRAPH`` as its parts; a path that exists and happens to hold ``=`` is a path."""
    name, equals, place = spec.partition("=")
    if equals and not Path(spec).expanduser().exists():
        if not name or not place:
            raise typer.BadParameter(f"'{one_line(spec)}' is not of the form NAME=GRAPH.")
        return name, place
    path = Path(spec).expanduser()
    return (path.resolve().name if path.is_dir() else path.name.split(".")[0]) or spec, spec
