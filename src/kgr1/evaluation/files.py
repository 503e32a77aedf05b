"""The files of an evaluation run: a journal of episodes that survives a crash, and small files written whole.

The journal holds one episode a line. Each line is handed to the operating system at once and forced to disk every few
seconds, so an interrupted run loses at most the episodes that were still being played (or, after a power cut, the last
seconds). A line that was cut off is dropped when the journal is opened again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from kgr1.errors import EvaluationError
from kgr1.types import Episode

try:
    import fcntl
except ImportError:  # not on Windows; there two runs on one folder go unnoticed
    fcntl = None  # type: ignore[assignment]

SYNC_INTERVAL_S = 5.0
LOCK_FILE = ".lock"


def read_episodes(path: Path) -> Iterator[Episode]:
    """The episodes of a journal, in order; a last line that was cut off is left out.

    Raises :class:`EvaluationError` if the file cannot be read or a line in its middle is damaged.
    """
    for episode, _ in _read(path):
        yield episode


def _read(path: Path) -> Iterator[tuple[Episode, bytes]]:
    """Every whole episode with its line."""
    damage = ""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if damage:
                    raise EvaluationError(damage, path=str(path), line=number - 1)
                try:
                    episode = Episode.model_validate_json(line)
                except ValidationError as error:
                    # Only reported if a line follows: a crash can leave the last one in any state.
                    reason = error.errors()[0]["msg"]
                    damage = f"Line {number} of {path} is damaged ({reason}); delete it and its episode will run again."
                    continue
                if line.endswith(b"\n"):
                    yield episode, line
    except OSError as error:
        raise EvaluationError(f"Cannot read {path}: {error.strerror}.", path=str(path)) from error


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder against a second run; the lock goes with the process, however that ends."""
    if fcntl is None:
        yield
        return
    with (folder / LOCK_FILE).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EvaluationError(
                f"Another run is writing to {folder}; wait for it or choose another folder.", path=str(folder)
            ) from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP):  # some network file systems have no locks
                raise
        yield


def append_line(file: int, line: bytes, end: int, *, sync: bool = False) -> None:
    """Add a line to a file of ``end`` bytes, forced to disk with ``sync``; if that fails, it is cut back to ``end``."""
    try:
        rest = memoryview(line)
        while rest:  # a disk that fills up may take the beginning and say so only by the count
            rest = rest[os.write(file, rest) :]
        if sync:
            os.fsync(file)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(file, end)
        raise


class Journal:
    """The episodes of a run, appended one line at a time. Open it with :meth:`open` and close it."""

    def __init__(self, path: Path, file: int, end: int) -> None:
        self._path, self._file, self._end = path, file, end
        self._synced = time.monotonic()

    @classmethod
    def open(cls, path: Path, keep: Callable[[Episode], bool]) -> tuple[Journal, list[Episode]]:
        """Open or create a journal and return it with the light part of every episode in it.

        A last line that was cut off is dropped, and so are the episodes that ``keep`` refuses. The returned episodes
        have lost their turns and prompts, which for a long run would not fit into memory.
        """
        found: list[Episode] = []
        end, refused = 0, False
        if path.exists():
            for episode, line in _read(path):
                if keep(episode):
                    found.append(episode.model_copy(update={"turns": (), "prompt": "", "prompt_ids": ()}))
                    end += len(line)
                else:
                    refused = True
        if refused:
            _replace(path, (line for episode, line in _read(path) if keep(episode)))
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            if os.fstat(file).st_size > end:
                os.ftruncate(file, end)
        except OSError as error:
            raise EvaluationError(f"Cannot write {path}: {error.strerror}.", path=str(path)) from error
        return cls(path, file, end), found

    def append(self, episode: Episode) -> None:
        """Add one line; on failure the file is cut back to whole lines and :class:`EvaluationError` raised."""
        line = episode.model_dump_json().encode() + b"\n"
        due = time.monotonic() - self._synced >= SYNC_INTERVAL_S
        try:
            append_line(self._file, line, self._end, sync=due)
        except OSError as error:
            raise self._failure(error) from error
        self._end += len(line)
        if due:
            self._synced = time.monotonic()

    def close(self) -> None:
        """Force what was written to disk and close; raises :class:`EvaluationError` if that fails."""
        try:
            os.fsync(self._file)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # pipes and devices have nothing to force
                raise self._failure(error) from error
        finally:
            os.close(self._file)

    def _failure(self, error: OSError) -> EvaluationError:
        return EvaluationError(
            f"Cannot write {self._path}: {error.strerror}. The episodes finished so far are kept; "
            "make room and run the same command again to go on.",
            path=str(self._path),
        )


def write_whole(path: Path, text: str) -> None:
    """Write a file so that readers see the old or the new content and never a part of it.

    Raises :class:`EvaluationError` if it cannot be written; the old content then stays.
    """
    _replace(path, [text.encode()])


def _replace(path: Path, chunks: Iterable[bytes]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise EvaluationError(
            f"Cannot write {path}: {error.strerror}. Make room or choose another folder.", path=str(path)
        ) from error
