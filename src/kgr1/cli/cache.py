"""Graphs that were built on the way from triple files, kept for the next command.

A cached graph is locked for as long as it is open, so that no other process removes it: a server opens it again for
every worker that it starts.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kgr1.cli.console import duration, note, one_line
from kgr1.errors import GraphError

try:
    import fcntl
except ImportError:  # not on Windows, which does not remove files that are open
    fcntl = None  # type: ignore[assignment]

_BUSY_S = 0.2  # between looks at whether another process is done
_MOST_CHANGES = 3


@contextmanager
def built_graph(source: Path) -> Iterator[Path]:
    """The folder of the graph of a triple file, built or found built: the same content is built once.

    It stays where it is until the end of the context. Raises :class:`GraphError` if the file cannot be read.
    """
    _check_format(source)
    with _folder() as cache:
        place = hashlib.blake2b(str(source.resolve()).encode(), digest_size=6).hexdigest()
        target, lock = _open(source, cache / place)
        try:
            for older in cache.glob(f"{place}-*"):
                if older != target:
                    _remove(older)
            yield target
        finally:
            os.close(lock)


def _open(source: Path, stem: Path) -> tuple[Path, int]:
    """Build the graph of ``source`` unless it is there; its folder, ``stem`` with the content behind, and its lock.

    Raises :class:`GraphError` for a file that is never the same after it was read.
    """
    changes = 0
    while changes < _MOST_CHANGES:
        digest = _digest(source)
        target = stem.with_name(f"{stem.name}-{digest}")
        if (lock := _lock(target)) is not None:
            return target, lock
        _build(source, target)
        if _digest(source) != digest:  # changed meanwhile, so nobody knows of which content this is the graph
            _remove(target)
            changes += 1
    raise GraphError(f"{source} changes while it is read; copy it, and name the copy.", path=str(source))


def _build(source: Path, target: Path) -> None:
    """Build the graph of ``source``, or wait until another process has tried to."""
    from kgr1.graph.build import build_graph

    started = time.perf_counter()
    _remove(target)
    if target.exists() and not _is_whole(target):  # damaged, hence of no use to those who have it open
        shutil.rmtree(target, ignore_errors=True)
    try:
        report = build_graph([source], target, name=_graph_name(source))
    except GraphError as error:
        if error.details.get("busy"):
            time.sleep(_BUSY_S)  # another process builds the same
        elif not _is_whole(target):  # nor did another process build it meanwhile
            raise
        return
    seconds = time.perf_counter() - started
    if seconds > 1:
        note(f"Built a graph of {report.triples:,} triples from {source} in {duration(seconds)}.")


def _lock(store: Path) -> int | None:
    """A file descriptor that keeps others from removing a store until it is closed; None if there is no whole one."""
    from kgr1.graph.files import HEADER

    try:
        descriptor = os.open(store / HEADER, os.O_RDONLY)
    except OSError:
        return None
    if fcntl is not None:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # waits for one who is removing it just now
    if _is_whole(store) and _is_same(descriptor, store / HEADER):
        return descriptor
    os.close(descriptor)
    return None


def _remove(store: Path) -> None:
    """Remove a store unless somebody has it open."""
    from kgr1.graph.files import HEADER

    header = store / HEADER
    if fcntl is None or (store.exists() and not header.exists()):  # the rest of one whose removal was interrupted
        shutil.rmtree(store, ignore_errors=True)
        return
    with suppress(OSError), header.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_same(file.fileno(), header):
            shutil.rmtree(store, ignore_errors=True)


def _is_same(descriptor: int, path: Path) -> bool:
    """Whether the file at ``path`` is still the one that was opened."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _is_whole(store: Path) -> bool:
    from kgr1.graph.store import GraphStore

    try:
        GraphStore.open(store).close()
    except GraphError:
        return False
    return True


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder for built graphs: in the cache, or a temporary one where that cannot be written."""
    from kgr1.models.weights import cache_folder

    cache = cache_folder() / "graphs"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            pass
    except OSError:
        with tempfile.TemporaryDirectory(prefix="kgr1-graph-") as temporary:
            yield Path(temporary)
        return
    yield cache


def _check_format(source: Path) -> None:
    from kgr1.graph.readers.discover import SUFFIXES, format_of
    from kgr1.graph.readers.streams import COMPRESSIONS

    if format_of(source) is None:
        raise GraphError(
            f"{one_line(str(source))} is neither a built graph nor a triple file; name triple files "
            f"{', '.join(SUFFIXES)} ({', '.join(COMPRESSIONS)} may follow).",
            path=str(source),
        )


def _digest(source: Path) -> str:
    """Hash of all that is read and of what else decides the result: the format of the source and of the store."""
    from kgr1.graph.files import VERSION
    from kgr1.graph.readers.numbered import companions

    digest = hashlib.blake2b(f"{VERSION}:{_graph_name(source)}:{source.suffixes}".encode(), digest_size=10)
    for path in (source, *companions(source)):
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "blake2b")
        except OSError as error:
            raise GraphError(f"Cannot read {path}: {error.strerror}.", path=str(path)) from error
        digest.update(f":{'' if path == source else path.name}:".encode() + content.digest())
    return digest.hexdigest()


def _graph_name(path: Path) -> str:
    return path.name.split(".")[0] or path.name
