"""Files that appear whole or not at all."""

from __future__ import annotations

import gzip
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from kgr1.errors import DatasetError

_LEVEL = 6  # of gzip: the higher ones cost much time for little


@contextmanager
def whole_file(path: Path, what: str = "the file") -> Iterator[IO[bytes]]:
    """A stream whose bytes stand at ``path`` once the block has ended well; gzip if the name ends in ``.gz``.

    The same content gives the same bytes. Until then, and if the block raises, the old file stays. Raises
    :class:`DatasetError`, which calls the file ``what``, if it cannot be written.
    """
    path = Path(path)
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(descriptor, "wb") as stream:
            if path.suffix == ".gz":
                # A fixed time and no name keep the bytes stable.
                with gzip.GzipFile("", "wb", _LEVEL, stream, mtime=0) as packed:
                    yield cast("IO[bytes]", packed)
            else:
                yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise DatasetError(f"Cannot write {what} to {path}: {error.strerror or error}.", path=str(path)) from error
    finally:
        with suppress(OSError):
            if temporary:
                Path(temporary).unlink(missing_ok=True)
