"""Checksums of a file block by block, so that damage can be located.

The checksum of a file is the SHA-256 of each of its blocks of :data:`BLOCK_BYTES`, in order; an empty file has none.
"""

from __future__ import annotations

import hashlib
from typing import Any

BLOCK_BYTES = 4 << 20


class BlockDigest:
    """Checksum of bytes that come piece by piece."""

    def __init__(self) -> None:
        self._done: list[str] = []
        self._block = hashlib.sha256()
        self._room = BLOCK_BYTES

    def update(self, data: Any) -> None:
        """Take the next bytes, of any length."""
        rest = memoryview(data)
        while rest:
            part = rest[: self._room]
            self._block.update(part)
            self._room -= len(part)
            rest = rest[len(part) :]
            if not self._room:
                self._done.append(self._block.hexdigest())
                self._block = hashlib.sha256()
                self._room = BLOCK_BYTES

    def hexdigests(self) -> tuple[str, ...]:
        """One digest a block of what came so far, the last one possibly of a shorter block."""
        last = () if self._room == BLOCK_BYTES else (self._block.hexdigest(),)
        return (*self._done, *last)


def block_digests(data: Any) -> tuple[str, ...]:
    """The digests of some bytes.

    >>> len(block_digests(b"")), len(block_digests(b"a")), len(block_digests(bytes(BLOCK_BYTES + 1)))
    (0, 1, 2)
    """
    digest = BlockDigest()
    digest.update(data)
    return digest.hexdigests()


def first_difference(found: tuple[str, ...], expected: tuple[str, ...], size: int) -> tuple[int, int] | None:
    """The bytes [start, end) of the first block that is not as it was written, None if all are."""
    if found == expected:
        return None
    pairs = zip(found, expected, strict=False)
    block = next((number for number, (one, other) in enumerate(pairs) if one != other), min(len(found), len(expected)))
    return block * BLOCK_BYTES, min((block + 1) * BLOCK_BYTES, size)
