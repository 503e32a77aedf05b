"""The header of a GGUF file, read to say what the file is before anything is loaded from it.

A GGUF file holds one model: key-value metadata (the architecture, the tokenizer, perhaps a chat template), a table of
tensors, and their data, usually quantised. The layout is that of the specification in the repository of ggml,
``docs/gguf.md``, versions 2 and 3. transformers reads the tensors; this reader is here because a file that is damaged,
cut off or of another kind should be one sentence, and because it takes a fraction of a second.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from kgr1.errors import ModelError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
SUFFIX = ".gguf"
TOKENS = "tokenizer.ggml.tokens"
TEMPLATE = "tokenizer.chat_template"

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_ALIGNMENT = 32


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says about its model.

    ``metadata`` has the numbers, truth values and texts by their keys; of lists only ``tokens``, the vocabulary, is
    kept. ``end`` is the number of bytes that the file must have.
    """

    metadata: dict[str, Any]
    tokens: tuple[str, ...] = field(repr=False)
    tensors: int
    end: int

    @property
    def architecture(self) -> str:
        """Kind of model, as llama.cpp calls it."""
        return str(self.metadata["general.architecture"])

    @property
    def template(self) -> str | None:
        """The chat template in the file."""
        found = self.metadata.get(TEMPLATE)
        return found if isinstance(found, str) and found.strip() else None


def find_gguf(path: Path) -> Path | None:
    """The GGUF file that ``path`` stands for: itself, or the only one in a folder without a saved model; else None.

    Raises :class:`ModelError` for a folder with several and for a file called ``.gguf`` that is none.
    """
    if path.is_file():
        return path if path.suffix.lower() == SUFFIX or _begins_right(path) else None
    if not path.is_dir() or (path / "config.json").is_file():
        return None
    files = sorted(file for file in path.iterdir() if file.suffix.lower() == SUFFIX and file.is_file())
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:3]) + (", ..." if len(files) > 3 else "")
        raise ModelError(f"The folder {path} holds {len(files)} GGUF files ({names}); pass the path of one of them.")
    return files[0] if files else None


def read_header(path: Path) -> GgufHeader:
    """Read the header of a GGUF file.

    Raises :class:`ModelError` for a file that is no GGUF file, is damaged or cut off, or holds a part of a model.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise ModelError(f"{path} is not a GGUF file: it does not begin with the letters GGUF.")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                header, size = _Reader(data).header(path), len(data)
    except OSError as error:
        raise ModelError(f"Cannot read {path}: {error.strerror}.") from error
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise ModelError(f"The header of {path} is damaged or cut off; copy or download the file again.") from error
    if size < header.end:
        raise ModelError(
            f"{path} is cut off: it has {size:,} bytes, and its table of contents tells of {header.end:,}; "
            "copy or download it again."
        )
    parts = header.metadata.get("split.count", 0)
    if parts > 1:
        raise ModelError(
            f"{path} is one of {parts} parts of a model; join them first (llama-gguf-split --merge FIRST_PART TARGET)."
        )
    return header


def _begins_right(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


class _Reader:
    """A position in the bytes of a file; reading past their end raises ``struct.error`` or ``ValueError``."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._position = data, len(MAGIC)

    def header(self, path: Path) -> GgufHeader:
        version = self._take("I")
        if version not in VERSIONS:
            raise ModelError(f"{path} is a GGUF file of version {version}; versions 2 and 3 can be read.")
        tensors, entries = self._take("Q"), self._take("Q")
        metadata: dict[str, Any] = {}
        tokens: tuple[str, ...] = ()
        for _ in range(entries):
            key, kind = self._text(), self._take("I")
            value = self._value(kind, keep=key == TOKENS)
            if key == TOKENS:
                tokens = tuple(value or ())
            elif kind != _ARRAY:
                metadata[key] = value
        if not isinstance(metadata.get("general.architecture"), str):
            raise ValueError("no architecture")
        return GgufHeader(metadata, tokens, tensors, self._end(tensors, metadata.get("general.alignment", _ALIGNMENT)))

    def _end(self, tensors: int, alignment: int) -> int:
        """Size of the file by its table of tensors."""
        sizes = _block_sizes()
        ends = [0]
        for _ in range(tensors):
            self._text()
            shape = [self._take("Q") for _ in range(self._take("I"))]
            kind, offset = self._take("I"), self._take("Q")
            elements, size = sizes.get(kind, (1, 0))  # a kind that is not known here is left to who reads the data
            ends.append(offset + prod(shape) // elements * size)
        start = -(-self._position // alignment) * alignment
        return start + max(ends) if tensors else self._position

    def _take(self, kind: str) -> Any:
        (value,) = struct.unpack_from(f"<{kind}", self._data, self._position)
        self._position += struct.calcsize(f"<{kind}")
        return value

    def _skip(self, count: int) -> None:
        self._position += count
        if self._position > len(self._data):
            raise ValueError("past the end")

    def _text(self) -> str:
        length = self._take("Q")
        start = self._position
        self._skip(length)
        return self._data[start : self._position].decode("utf-8", errors="replace")

    def _value(self, kind: int, *, keep: bool) -> Any:
        """One value of the metadata; of a list only texts that are to be kept."""
        if kind in _SCALARS:
            return self._take(_SCALARS[kind])
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            raise ValueError(f"a value of kind {kind}")
        element, count = self._take("I"), self._take("Q")
        if element in _SCALARS:
            self._skip(count * struct.calcsize(f"<{_SCALARS[element]}"))
            return None
        texts = (self._value(element, keep=False) for _ in range(count))
        if keep and element == _STRING:
            return list(texts)
        for _ in texts:
            pass
        return None


def _block_sizes() -> dict[int, tuple[int, int]]:
    """For each kind of tensor data, the numbers in a block and its bytes."""
    from gguf import GGML_QUANT_SIZES

    return {int(kind): sizes for kind, sizes in GGML_QUANT_SIZES.items()}
