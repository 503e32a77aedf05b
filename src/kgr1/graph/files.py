"""The directory of a store: a JSON header and one raw little-endian file per array.

``header.json`` names the format, its version, the counts, and for every array its type, length and checksums; it
carries one of itself. Array ``x`` stands in ``x.bin``. A directory is written whole or not at all: into a hidden
directory beside its place, flushed to the disk, then renamed.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from kgr1.errors import GraphError
from kgr1.graph import adjacency, question_graphs, vocabulary
from kgr1.graph.building.workspace import friendly_errors, workspace
from kgr1.graph.checksums import block_digests, first_difference
from kgr1.graph.vocabulary import Arrays
from kgr1.types import Record

FORMAT = "kgr1-graph"
VERSION = 2
HEADER = "header.json"

ARRAY_TYPES: dict[str, str] = {
    **{f"{side}_{key}": dtype for side in ("entity", "relation") for key, dtype in vocabulary.ARRAY_TYPES.items()},
    **{f"{side}_{key}": dtype for side in ("tail", "head") for key, dtype in adjacency.ARRAY_TYPES.items()},
    **{f"graph_{key}": dtype for key, dtype in question_graphs.ARRAY_TYPES.items()},
}
"""Type of every array of the format. ``tail_*`` holds the edges by subject, ``head_*`` by object."""

OPTIONAL_ARRAYS = frozenset(
    [
        *(f"{side}_{key}" for side in ("entity", "relation") for key in vocabulary.OPTIONAL_ARRAYS),
        *(f"{side}_{key}" for side in ("tail", "head") for key in adjacency.OPTIONAL_ARRAYS),
        *(f"graph_{key}" for key in question_graphs.ARRAY_TYPES),
    ]
)
_TOGETHER = (
    *({f"{side}_label_bytes", f"{side}_label_offsets", f"{side}_display_kinds"} for side in ("entity", "relation")),
    *({f"{side}_alias_bytes", f"{side}_alias_offsets", f"{side}_alias_owners"} for side in ("entity", "relation")),
    {"tail_starts", "tail_ends", "head_starts", "head_ends"},
    {f"graph_{key}" for key in question_graphs.ARRAY_TYPES},
)
OTHER_TYPES = {
    "tail_relations": "<u2",  # enough for most graphs
    "head_relations": "<u2",
    "graph_tail_edges": "<i8",  # needed by few
    "graph_head_edges": "<i8",
}
"""A second type that an array may have."""

_OFFSETS_INTO = {
    **{f"{s}_{key}_offsets": f"{s}_{key}_bytes" for s in ("entity", "relation") for key in ("id", "label", "alias")},
    **{f"{side}_gram_offsets": f"{side}_gram_symbols" for side in ("entity", "relation")},
    **{f"{side}_offsets": f"{side}_neighbours" for side in ("tail", "head")},
    "graph_id_offsets": "graph_id_bytes",
    "graph_offsets": "graph_tail_edges",
}
_NUMBERS_OF = {
    **{f"{side}_neighbours": "entities" for side in ("tail", "head")},
    **{f"{side}_relations": "relations" for side in ("tail", "head")},
    **{f"entity_{key}": "entities" for key in ("hash_owners", "gram_symbols", "alias_owners")},
    **{f"relation_{key}": "relations" for key in ("hash_owners", "gram_symbols", "alias_owners")},
    "graph_hash_owners": "question_graphs",
    "graph_tail_edges": "triples",
    "graph_head_edges": "triples",
}
"""Arrays of numbers below a count of the header."""


class ArrayEntry(Record):
    """One array of a store."""

    dtype: str
    length: int
    bytes: int
    sha256: tuple[str, ...]  # of its blocks, see kgr1.graph.checksums


class Header(Record):
    """What ``header.json`` holds."""

    format: str
    version: int
    name: str
    triples: int
    entities: int
    relations: int
    dated: int
    question_graphs: int
    ambiguous_names: int
    max_degree: int
    arrays: dict[str, ArrayEntry]

    @property
    def bytes(self) -> int:
        """Size of all arrays."""
        return sum(entry.bytes for entry in self.arrays.values())


def describe(array: np.ndarray[Any, Any], checksum: bool = True) -> ArrayEntry:
    """The header's entry for an array."""
    data = np.ascontiguousarray(array).data.cast("B") if array.size else b""
    sha256 = block_digests(data) if checksum else ()
    return ArrayEntry(dtype=array.dtype.str, length=len(array), bytes=array.nbytes, sha256=sha256)


def write_store(header: Header, arrays: Arrays, out: Path, *, force: bool = False) -> None:
    """Write a store to the directory ``out``.

    Raises :class:`GraphError` if ``out`` exists (with ``force``: if it is anything but a store or an empty directory),
    if the disk is full or a file cannot be written; nothing is left behind then and an existing ``out`` is untouched.
    """
    check_target(out, force=force)
    with workspace(out) as place, friendly_errors(out):
        for key, array in arrays.items():
            _write_file(place.store / f"{key}.bin", array.data.cast("B") if array.size else b"")
        put_store(header, place.store, out, force=force)


def put_store(header: Header, building: Path, out: Path, *, force: bool = False) -> None:
    """Make the directory ``building``, which holds all arrays of a store, the store ``out``.

    The header comes last, so that a directory without all arrays is not a store. With ``force`` the store that stood
    at ``out`` is at ``building`` afterwards, for the caller to remove. Raises as :func:`write_store` does.
    """
    check_target(out, force=force)
    with friendly_errors(out):
        _write_file(building / HEADER, _dump(header))
        _sync_directory(building)
        _put_in_place(building, out)
        _sync_directory(out.parent)


def check_target(out: Path, *, force: bool) -> None:
    """Raise :class:`GraphError` unless a store may be written to ``out``."""
    if not os.path.lexists(out):
        return
    if not force:
        raise GraphError(f"{out} exists; choose another place, or replace it with --force.", path=str(out))
    if out.is_symlink() or not out.is_dir() or (any(out.iterdir()) and not _is_store(out)):
        raise GraphError(f"{out} exists and is not a graph store, so it will not be replaced.", path=str(out))


def _is_store(path: Path) -> bool:
    try:
        header = json.loads((path / HEADER).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(header, dict) and header.get("format") == FORMAT


def _write_file(path: Path, data: Any) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    with suppress(OSError):  # not every file system can
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _put_in_place(building: Path, out: Path) -> None:
    """Rename ``building`` to ``out``; what stood at ``out`` ends up at ``building``, for the caller to remove."""
    if not out.exists():
        building.rename(out)
    elif not _exchange(building, out):
        # Without an atomic exchange there is an instant without `out`, and a way back.
        aside = building.with_suffix(".replaced")
        out.rename(aside)
        try:
            building.rename(out)
        except OSError:
            aside.rename(out)
            raise
        shutil.rmtree(aside, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two directories in one step (Linux); False where that cannot be done."""
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    at_fdcwd, rename_exchange = -100, 2
    return bool(renameat2(at_fdcwd, os.fsencode(first), at_fdcwd, os.fsencode(second), rename_exchange) == 0)


def _digest(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _dump(header: Header) -> bytes:
    fields = header.model_dump()
    return json.dumps({**fields, "sha256": _digest(fields)}, indent=1, sort_keys=True).encode()


def read_store(path: Path, *, verify: bool = False) -> tuple[Header, Arrays]:
    """Open the arrays of a store as read-only memory maps.

    Raises :class:`GraphError` naming the file if something is missing, of another version, truncated, or (with
    ``verify``, which reads everything) changed since it was written.
    """
    header = _read_header(path)
    arrays: Arrays = {}
    for key, entry in header.arrays.items():
        file = path / f"{key}.bin"
        try:
            size = file.stat().st_size
            if size != entry.bytes:
                raise GraphError(
                    f"{file} has {size:,} bytes instead of {entry.bytes:,}; it is truncated or from another graph, "
                    "so build the graph again.",
                    path=str(file),
                )
            array = np.memmap(file, dtype=entry.dtype, mode="r") if size else np.empty(0, entry.dtype)
        except OSError as error:
            raise GraphError(f"Cannot read {file}: {error.strerror}; build the graph again.", path=str(file)) from error
        damaged = first_difference(describe(array).sha256, entry.sha256, size) if verify else None
        if damaged is not None:
            start, end = damaged
            raise GraphError(
                f"{file} does not match its checksum: something in bytes {start:,} to {end - 1:,} has changed since it "
                "was written, so build the graph again.",
                path=str(file),
                offset=start,
            )
        # Lookups read through memoryviews, which know the machine's own byte order only.
        arrays[key] = array if sys.byteorder == "little" else array.astype(array.dtype.newbyteorder("="))
    if verify:
        _check_structure(path, header, arrays)
    return header, arrays


def _check_structure(path: Path, header: Header, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """A header can be made to match any file: check that every number points into the array it is meant for."""
    for key, array in arrays.items():
        if key in _OFFSETS_INTO:
            target = arrays[_OFFSETS_INTO[key]]
            sound = array[0] == 0 and array[-1] == len(target) and bool((array[1:] >= array[:-1]).all())
        elif key in _NUMBERS_OF:
            limit = getattr(header, _NUMBERS_OF[key])
            sound = len(array) == 0 or bool(array.min() >= 0 and array.max() < limit)
        else:
            continue
        if not sound:
            file = path / f"{key}.bin"
            raise GraphError(f"{file} points outside the graph; build the graph again.", path=str(file))


def _read_header(path: Path) -> Header:
    file = path / HEADER
    try:
        fields = json.loads(file.read_bytes())
    except OSError as error:
        raise GraphError(
            f"{path} is not a graph store: cannot read {file} ({error.strerror}).", path=str(file)
        ) from error
    except ValueError as error:
        raise GraphError(f"{file} is damaged: it is not valid JSON; build the graph again.", path=str(file)) from error
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise GraphError(f"{file} is not the header of a graph store.", path=str(file))
    if fields.get("version") != VERSION:
        raise GraphError(
            f"{file} has version {fields.get('version')!r}, not {VERSION}; build the graph again.",
            path=str(file),
        )
    digest = fields.pop("sha256", None)
    try:
        header = Header.model_validate(fields)
    except ValidationError as error:
        raise GraphError(
            f"{file} is damaged: a field is missing or wrong; build the graph again.", path=str(file)
        ) from error
    if digest != _digest(fields):
        raise GraphError(f"{file} does not match its checksum; build the graph again.", path=str(file))
    _check_arrays(header, file)
    return header


def _types(key: str) -> set[str]:
    return {np.dtype(types[key]).str for types in (ARRAY_TYPES, OTHER_TYPES) if key in types}


def _check_arrays(header: Header, file: Path) -> None:
    """The arrays must be those of the format, with the lengths that the counts call for."""
    expected = {
        "entity_id_offsets": header.entities + 1,
        "entity_label_offsets": header.entities + 1,
        "entity_display_kinds": header.entities,
        "relation_id_offsets": header.relations + 1,
        "relation_label_offsets": header.relations + 1,
        "relation_display_kinds": header.relations,
        "graph_id_offsets": header.question_graphs + 1,
        "graph_offsets": header.question_graphs + 1,
    }
    for side in ("tail", "head"):
        expected |= {f"{side}_offsets": header.entities + 1}
        expected |= {f"{side}_{key}": header.triples for key in ("relations", "neighbours", "starts", "ends")}
    present = set(header.arrays)
    sound = present <= set(ARRAY_TYPES) and set(ARRAY_TYPES) - OPTIONAL_ARRAYS <= present
    sound = sound and all(group <= present or not group & present for group in _TOGETHER)
    sound = sound and ("graph_offsets" in present) == bool(header.question_graphs)
    for key, entry in header.arrays.items():
        sound = sound and entry.dtype in _types(key)
        sound = sound and entry.bytes == entry.length * np.dtype(entry.dtype).itemsize
        sound = sound and entry.length == expected.get(key, entry.length)
    if not sound:
        raise GraphError(f"{file} does not describe a complete graph; build the graph again.", path=str(file))
