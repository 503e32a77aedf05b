"""Files as streams of bytes: compression is told by its first bytes, damage is a sentence."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from kgr1.errors import GraphError
from kgr1.graph.readers.place import Place

BLOCK_BYTES = 8 << 20
MAX_LINE_BYTES = 64 << 20
STDIN = Path("-")
"""The path that stands for standard input."""

COMPRESSIONS = {".gz": "gzip", ".zst": "zst", ".bz2": "bz2", ".xz": "xz"}
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zst", b"\xfd7zXZ\x00": "xz"}
_BZ2_BLOCKS = (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")  # the first block, or the end where there is none
_ZST_INPUT = 4 << 10  # bytes at a time, so that a bomb of zeros cannot grow to more than some 100 MB
_DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, zstandard.ZstdError)


class _ZstdFile(io.RawIOBase):
    """Plain bytes of a zst stream; unlike the library's reader it notices a missing end."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._inner = self._new()
        self._rest = b""
        self._ready = b""
        self._begun = False

    def _new(self) -> zstandard.ZstdDecompressionObj:
        return zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        while not self._ready:
            data = self._rest or self._raw.read(_ZST_INPUT)
            self._rest = b""
            if not data:
                if self._begun:
                    raise EOFError("the end of the compressed stream is missing")
                return 0
            self._begun = True
            self._ready = self._inner.decompress(data)
            if self._inner.eof:
                self._rest = self._inner.unused_data
                self._inner, self._begun = self._new(), False
        count = min(len(view), len(self._ready))
        view[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count


def _plain(raw: io.BufferedReader) -> tuple[str, BinaryIO]:
    """Name of the compression (empty if none) and the stream of plain bytes."""
    start = raw.peek(10)[:10]
    kind = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), "")
    # What is longer must go on as bz2 does: "BZh" alone may begin a name.
    if re.match(rb"BZh[1-9]", start) and any(block.startswith(start[4:]) for block in _BZ2_BLOCKS):
        kind = "bz2"
    if kind == "gzip":
        return kind, cast("BinaryIO", gzip.GzipFile(fileobj=raw))
    if kind == "bz2":
        return kind, cast("BinaryIO", bz2.BZ2File(raw))
    if kind == "xz":
        return kind, cast("BinaryIO", lzma.LZMAFile(raw))
    if kind == "zst":
        return kind, cast("BinaryIO", io.BufferedReader(_ZstdFile(cast("BinaryIO", raw)), BLOCK_BYTES))
    return kind, cast("BinaryIO", raw)


class Progress:
    """Bytes read of all files opened so far, compressed as they are."""

    def __init__(self) -> None:
        self._done = 0
        self._raw: io.BufferedReader | None = None

    @property
    def bytes_read(self) -> int:
        """May be asked from another thread while a file is read."""
        raw = self._raw
        try:
            return self._done + (raw.tell() if raw is not None else 0)
        except (OSError, ValueError):  # standard input does not say; a file was closed meanwhile
            return self._done

    def add_file(self, path: Path) -> None:
        """Count a whole file."""
        self._raw = None
        if path.is_file():
            self._done += path.stat().st_size

    def begin(self, raw: io.BufferedReader) -> None:
        """Count what is read of a file from now on."""
        self._raw = raw


@contextmanager
def open_stream(path: Path, place: Place, progress: Progress | None = None) -> Iterator[BinaryIO]:
    """The plain bytes of a file, or of standard input.

    Damage that shows while the block runs raises :class:`GraphFormatError` with the lines read so far, anything else
    that the system refuses :class:`GraphError`.
    """
    kind = ""
    try:
        with _open(path) as raw:
            kind, stream = _plain(raw)
            if progress is not None:
                progress.begin(raw)
            yield stream
            if progress is not None:
                progress.add_file(path)
    except _DAMAGE as error:
        place.fail(place.line, _damaged(kind, error), cause=error)
    except OSError as error:
        if kind == "bz2" and error.errno is None:
            place.fail(place.line, _damaged(kind, error), cause=error)
        raise GraphError(f"Cannot read {place.path}: {error.strerror or error}.", path=place.path) from error


def _damaged(kind: str, error: BaseException) -> str:
    return f"the {kind} file is truncated or damaged after this line ({error})"


@contextmanager
def _open(path: Path) -> Iterator[io.BufferedReader]:
    if path == STDIN:
        yield cast("io.BufferedReader", sys.stdin.buffer)
    else:
        with path.open("rb") as raw:
            yield raw


def line_blocks(stream: BinaryIO, place: Place) -> Iterator[bytes]:
    """Blocks of whole lines, each ending with a newline; the last line gets one if it has none."""
    rest = b""
    while block := stream.read(BLOCK_BYTES):
        cut = block.rfind(b"\n") + 1
        if not cut:
            rest += block
            if len(rest) > MAX_LINE_BYTES:
                place.fail(place.line + 1, f"the line is longer than {MAX_LINE_BYTES >> 20} MiB")
            continue
        yield rest + block[:cut]
        rest = block[cut:]
    if rest:
        yield rest + b"\n"


def not_utf8(byte: int) -> str:
    """What is wrong with a file that has this byte where UTF-8 cannot have it, and what to do."""
    return f"invalid UTF-8 (byte 0x{byte:02x}); save the file as UTF-8, e.g. with 'iconv -f LATIN1 -t UTF-8'"


def decode(raw: bytes, line: int, place: Place) -> str | None:
    """The text of a line, or None (counted) where bad lines are skipped."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        place.bad(line, not_utf8(raw[error.start]), "invalid UTF-8", cause=error)
        return None
