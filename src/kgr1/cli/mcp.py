"""``kgr1 mcp``: a graph as tools for agents that speak the Model Context Protocol."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from kgr1.cli.console import err, note, one_line, styled
from kgr1.cli.options import GraphSpec
from kgr1.cli.serve import TokenFile


def mcp(
    graph: GraphSpec,
    http: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Serve over HTTP at this address instead of stdin and stdout."),
    ] = None,
    token_file: TokenFile = None,
    budget: Annotated[int, typer.Option(min=50, help="About how many tokens the text of one result may have.")] = 2000,
) -> None:
    """Offer a graph to agents as MCP tools: the four operations and a search by name.

    Without --http the client starts this command itself and talks over stdin and stdout. Over HTTP, accepted tokens
    come from --token-file and the environment variable KGR1_TOKENS, as for 'kgr1 serve'.
    """
    from kgr1.cli.sources import open_graph
    from kgr1.server.gate import Gate
    from kgr1.server.mcp import McpSettings, create_mcp_server, http_app, run_stdio
    from kgr1.server.serve import serve_app
    from kgr1.server.tokens import Tokens
    from kgr1.server.wire import ServerLimits

    address = None if http is None else split_address(http)
    if address is None and token_file is not None:
        raise typer.BadParameter("tokens are for --http only.", param_hint="--token-file")
    logging.getLogger("mcp").setLevel(logging.ERROR)  # it warns of every request that it refuses
    with open_graph(graph) as opened:
        server = create_mcp_server(opened, McpSettings(budget_tokens=budget))
        if address is None:
            run_stdio(server)
            return
        host, port = address
        app = Gate(
            http_app(server, host), limits=ServerLimits(), tokens=Tokens.load(token_file), open_paths=frozenset()
        )

        def ready(url: str) -> None:
            err.print(styled(f"MCP tools of {one_line(opened.info().name)} on {url}/mcp (Ctrl-C stops)."))

        serve_app(app, host, port, ready, option="--http")
        note("Stopped.")


def split_address(text: str) -> tuple[str, int]:
    """``HOST:PORT`` as its parts, ``[::1]:PORT`` for IPv6."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdecimal():
        raise typer.BadParameter(f"'{one_line(text)}' is not of the form HOST:PORT.", param_hint="--http")
    return host.removeprefix("[").removesuffix("]"), int(port)
