"""How commands end when something goes wrong: one sentence on stderr and an exit code, no traceback.

0 success, 1 something failed, 2 wrong usage, 130 interrupted. ``KGR1_DEBUG=1`` lets the traceback through.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import typer
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from kgr1.cli.console import err, one_line, styled
from kgr1.errors import KGR1Error

FAILED, INTERRUPTED = 1, 130

# Typer carries its own copy of click in some versions, so the class is found through one that is exported.
_USAGE_ERROR: type[Exception] = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")


class KGR1Group(TyperGroup):
    """The group of all commands, listed in the order of use; whatever they raise is told in one sentence."""

    order: ClassVar[Sequence[str]] = ()

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of all commands."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: self.order.index(name) if name in self.order else len(self.order))

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        with told():
            return super().invoke(ctx)


class SourcesThenOut(TyperCommand):
    """A command on any number of sources and one target, which stands last."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line; of one argument alone the parser would say that the sources are missing."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except _USAGE_ERROR as error:
            if getattr(getattr(error, "param", None), "name", "") == "sources":
                values = self.make_parser(ctx).parse_args(given)[0]
                if isinstance(values.get("target"), str):
                    vars(error)["param"] = next(param for param in self.params if param.name == "target")
            raise


@contextmanager
def told() -> Iterator[None]:
    """Turn every exception into one sentence on stderr and the matching exit code."""
    try:
        yield
    except (typer.Exit, typer.Abort, _USAGE_ERROR):
        raise
    except KeyboardInterrupt:
        if debugging():
            raise
        err.print("\nInterrupted; nothing was changed.")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of a pipe (head, less) has left; Python would complain again when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(FAILED) from None
    except Exception as error:
        if debugging():
            raise
        err.print(Text.assemble(("Error: ", "bold red"), styled(sentence(error))))
        raise typer.Exit(FAILED) from None


@contextmanager
def keeping(kept: Callable[[], str]) -> Iterator[None]:
    """Answer Ctrl-C with what was kept and how to go on; ``kept`` is asked when it happens."""
    try:
        yield
    except KeyboardInterrupt:
        if debugging():
            raise
        err.print(styled(f"\nInterrupted. {kept()}"))
        raise typer.Exit(INTERRUPTED) from None


def debugging() -> bool:
    """True if the user asked for tracebacks."""
    return os.environ.get("KGR1_DEBUG", "") not in ("", "0")


def sentence(error: Exception) -> str:
    """What the user reads about an exception."""
    if isinstance(error, KGR1Error):
        return one_line(error.message)
    if isinstance(error, OSError) and error.strerror:
        place = f" {error.filename}" if error.filename else ""
        return one_line(f"Cannot use{place}: {error.strerror}.")
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "There is not enough memory; use a smaller model, fewer concurrent episodes or smaller batches."
    reason = (str(error).strip().splitlines() or [""])[0]
    described = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    return one_line(f"Unexpected {described}. Set KGR1_DEBUG=1 to see where; this is likely a bug of kgr1.")
