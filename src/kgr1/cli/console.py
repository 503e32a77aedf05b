"""What the commands print with: results to stdout, everything else to stderr.

Names from graphs, data sets and models are not trusted. They never pass through Rich's markup, and characters that a
terminal would act on (escape sequences, bidirectional marks, carriage returns) are printed as escapes.
"""

from __future__ import annotations

import codecs
import io
import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

out = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)
"""Results."""

err = Console(stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=True)
"""Progress, notes and errors."""

_KEPT = "\n\t\u200c\u200d"  # the last two join letters in several scripts and in emoji


def escape_what_cannot_be_shown() -> None:
    """From now on, what the encoding of the terminal lacks is written as an escape; otherwise it ends the program."""
    codecs.register_error("kgr1-escape", _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="kgr1-escape")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    # As JSON writes it, so that results in JSON can still be read; Python's own handler would write \xfc for \u00fc.
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def clean(text: str) -> str:
    r"""The text with everything that a terminal would act on written as an escape.

    >>> clean("a\x1b[31mb\u202ec")
    'a\\x1b[31mb\\u202ec'
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in _KEPT else _escape(char) for char in text)


def one_line(text: str) -> str:
    r"""Like :func:`clean`, with line breaks and tabs as escapes too.

    >>> one_line("a\n\tb")
    'a\\n\\tb'
    """
    return clean(text).replace("\n", "\\n").replace("\t", "\\t")


def _escape(char: str) -> str:
    # Unassigned and private characters are not printable to Python but harmless to a terminal.
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def styled(text: str, style: str = "") -> Text:
    """Untrusted text in a trusted style."""
    return Text(clean(text), style=style)


def emit(line: str) -> None:
    """One line of a result for other programs to read: exactly these characters, no layout."""
    out.file.write(f"{line}\n")


def safe_json(value: object) -> str:
    r"""JSON in one line, readable in any script; what a terminal would act on is escaped.

    >>> safe_json(["Zürich", "\u202e"])
    '["Zürich", "\\u202e"]'
    """
    text = json.dumps(value, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in _KEPT else json.dumps(char)[1:-1] for char in text)


def note(text: str) -> None:
    """One line to stderr that is no result and no error."""
    err.print(styled(text, "dim"))


def warn(text: str) -> None:
    """One line to stderr about something that may be wrong."""
    err.print(Text.assemble(("Warning: ", "yellow"), styled(text)))


def facts(rows: Sequence[tuple[str, str]], title: str = "") -> Table:
    """A table of two columns, what and how much."""
    table = Table(title=title or None, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(justify="right", overflow="fold")
    for name, value in rows:
        table.add_row(Text(one_line(name)), Text(one_line(value)))
    return table


def size(count: int) -> str:
    """A number of bytes for people.

    >>> size(512), size(3_500_000)
    ('512 B', '3.3 MiB')
    """
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def duration(seconds: float) -> str:
    """A time span for people.

    >>> duration(0.25), duration(75), duration(7300)
    ('0.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
