"""The working directory of a build: one builder at a time, and nothing of it left behind.

It is a hidden directory beside the target, ``.NAME.building``, with the arrays of the store to be in ``store``, what is
sorted out of core in ``spill``, and a file whose lock says that its builder is alive. The lock goes with the process,
so whatever a killed builder left is recognised and removed by the next one.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kgr1.errors import GraphError
from kgr1.graph.checksums import BlockDigest

try:
    import fcntl
except ImportError:  # not on Windows; two builders at once are not noticed there
    fcntl = None  # type: ignore[assignment]

_LOCK = "lock"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Workspace:
    """Folders of one build: ``store`` becomes the graph, ``spill`` is thrown away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.spill = folder / "spill"
        self._numbers: dict[str, int] = {}

    def new_file(self, stem: str, suffix: str = ".bin") -> Path:
        """A path in ``spill`` that was not given out before."""
        number = self._numbers.get(stem, 0)
        self._numbers[stem] = number + 1
        return self.spill / f"{stem}.{number}{suffix}"


@contextmanager
def friendly_errors(out: Path) -> Iterator[None]:
    """Errors of the file system become a :class:`GraphError` that says why ``out`` was not written."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL or any(os.strerror(code) in str(error) for code in _FULL):  # polars gives no number
            message = f"The disk is full: {out} was not written; free some space or choose another place."
        else:
            message = f"Cannot write {out}: {error.strerror or error}."
        raise GraphError(message, path=str(out)) from error


@contextmanager
def workspace(out: Path) -> Iterator[Workspace]:
    """The working directory for the target ``out``, removed at the end.

    Raises :class:`GraphError` if another process is building ``out`` (``details["busy"]`` is true then), or the
    directory cannot be made.
    """
    folder = out.parent / f".{out.name}.building"
    with friendly_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _lock(folder, out)
    try:
        place = Workspace(folder)
        with friendly_errors(out):
            for left in folder.iterdir():
                if left.name != _LOCK:
                    shutil.rmtree(left)
            place.store.mkdir()
            place.spill.mkdir()
        yield place
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _lock(folder: Path, out: Path) -> int:
    """Take the lock of the folder, made if need be; returns its file descriptor."""
    while True:
        folder.mkdir(exist_ok=True)
        try:
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # its builder removed the folder just now
            continue
        except OSError:
            with suppress(OSError):  # somebody else may work in it
                folder.rmdir()
            raise
        taken = _try_lock(descriptor)
        if not taken:
            os.close(descriptor)
            message = f"Another process is building {out}; wait until it is done or choose another place."
            raise GraphError(message, path=str(out), busy=True)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(folder / _LOCK)):
                return descriptor
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def append(path: Path, values: npt.NDArray[Any]) -> None:
    """Append numbers to a file. (What numpy's own ``tofile`` raises does not say why.)"""
    if values.size:
        with path.open("ab", buffering=0) as file:
            write_all(file, np.ascontiguousarray(values).data.cast("B"))


def new_numbers(path: Path, count: int) -> npt.NDArray[np.int32]:
    """``count`` numbers in a file of their own, to be set in any order.

    The disk gives the room at once: if it were full when a page of the memory map is written, the process would be
    killed by SIGBUS.
    """
    if not count:
        return np.empty(0, dtype=np.int32)
    with path.open("xb", buffering=0) as file:
        _reserve(file, count * np.dtype(np.int32).itemsize)
    return np.memmap(path, np.int32, "r+", shape=(count,))


def _reserve(file: FileIO, size: int) -> None:
    """Give an empty file its size, and the room for it; by writing it where the system cannot do that."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
        else:
            return
    zeros = memoryview(bytes(1 << 20))
    for start in range(0, size, len(zeros)):
        write_all(file, zeros[: size - start])


def write_all(file: FileIO, data: memoryview) -> None:
    """Write to a file without a buffer, so that nothing is left to be written when it is closed."""
    while data:
        data = data[file.write(data) :]


class ArrayWriter:
    """Writes one array of a store piece by piece, with its checksum.

    ::

        writer = ArrayWriter(folder / "tail_neighbours.bin", "<i4")
        writer.write(part)
        writer.close()
    """

    def __init__(self, path: Path, dtype: str) -> None:
        self.dtype = np.dtype(dtype)
        self.length = 0
        self._digest = BlockDigest()
        self._file = path.open("xb", buffering=0)

    def write(self, part: npt.NDArray[Any]) -> None:
        """Append a part, converted to the type of the array."""
        if part.size:
            data = np.ascontiguousarray(part, dtype=self.dtype).data.cast("B")
            write_all(self._file, data)
            self._digest.update(data)
            self.length += len(part)

    def close(self) -> None:
        """Flush the file to the disk."""
        with self._file:
            os.fsync(self._file.fileno())

    def abandon(self) -> None:
        """Close the file as it is."""
        self._file.close()

    @property
    def sha256(self) -> tuple[str, ...]:
        """Checksums of what was written."""
        return self._digest.hexdigests()


class StoreArrays:
    """The arrays of the store that is being built."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.writers: dict[str, ArrayWriter] = {}

    def open(self, key: str, dtype: str) -> ArrayWriter:
        """Begin an array."""
        writer = self.writers[key] = ArrayWriter(self._folder / f"{key}.bin", dtype)
        return writer

    def write(self, key: str, array: npt.NDArray[Any]) -> None:
        """Write an array as a whole, in its own type."""
        self.open(key, array.dtype.str).write(array)
        self.close(key)

    def close(self, *keys: str) -> None:
        """End some arrays."""
        for key in keys:
            self.writers[key].close()

    def abandon(self) -> None:
        """Close all files, whatever is in them."""
        for writer in self.writers.values():
            writer.abandon()
