"""From the names of the rows to the vocabulary of a store: one number a name, in the order of what is shown.

The steps, for entities and relations alike: names that several runs of a dictionary share become one
(:func:`merge_runs`), labels find their identifiers (:mod:`kgr1.graph.building.labels`), every symbol gets its display
kind, all are sorted by what is shown and written (:func:`write_vocabulary`). Tables are spread over parts by the hash
of a text, so that equal texts meet, and over ranges by the text itself, so that sorted parts follow each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from kgr1.graph.building.dictionary import Dictionary, read_frame
from kgr1.graph.building.frames import Frames
from kgr1.graph.building.keys import KeySorter
from kgr1.graph.building.workspace import StoreArrays, Workspace, new_numbers
from kgr1.graph.encode import is_blank
from kgr1.graph.name_index import GramIndex, gram_texts, hash_texts, lookup_keys, pack_owners, text_bytes
from kgr1.graph.vocabulary import DisplayKind

_STEP = 500_000  # names written at a time
_SAMPLE = 1024  # texts of a part that say where ranges begin

IDS: dict[str, pl.DataType] = {"symbol": pl.Int64(), "id": pl.String()}
NAMES: dict[str, pl.DataType] = {**IDS, "label": pl.String()}
SHOWN: dict[str, pl.DataType] = {**NAMES, "kind": pl.UInt8(), "shown": pl.String()}
ALIASES: dict[str, pl.DataType] = {"symbol": pl.Int64(), "alias": pl.String(), "row": pl.Int64()}

Numbers = npt.NDArray[np.int32]


@dataclass
class Symbols:
    """The distinct names of entities or relations, before they have their final numbers.

    ``ids`` are spread by identifier. ``maps`` gives for each run of the dictionary the symbol of each of its names, (n
    names of the run,); None stands for their own numbers.
    """

    side: str
    count: int
    ids: Frames
    maps: list[Numbers | None]


def merge_runs(place: Workspace, side: str, names: Dictionary, parts: int) -> Symbols:
    """Number the distinct names of all runs."""
    runs = [run for run in names.runs if run.count]
    ids = Frames(place, f"{side}-ids", parts, IDS)
    if len(runs) == 1:
        for frame, first in _numbered(runs[0].files):
            ids.add(frame.with_columns(pl.int_range(first, first + frame.height).alias("symbol")), key="id")
        return Symbols(side, runs[0].count, ids, [None])
    schema: dict[str, pl.DataType] = {"run": pl.Int32(), "code": pl.Int64(), "id": pl.String()}
    spread = Frames(place, f"{side}-runs", parts, schema)
    maps: list[Numbers | None] = []
    for number, run in enumerate(runs):
        for frame, first in _numbered(run.files):
            code = pl.int_range(first, first + frame.height)
            spread.add(frame.with_columns(code.alias("code"), pl.lit(number, pl.Int32).alias("run")), key="id")
        maps.append(new_numbers(place.new_file(f"{side}-map"), run.count))
    count = 0
    for frame in spread.take():
        own = frame.select("id").unique(maintain_order=True)
        own = own.with_columns(pl.int_range(count, count + own.height).alias("symbol"))
        found = frame.join(own, on="id", how="left")
        for number in range(len(runs)):
            members = found.filter(pl.col("run") == number)
            part = maps[number]
            assert part is not None
            part[members["code"].to_numpy()] = members["symbol"].to_numpy()
        count += own.height
        ids.add(own, key="id")
    return Symbols(side, count, ids, maps)


def _numbered(files: Sequence[object]) -> Iterator[tuple[pl.DataFrame, int]]:
    first = 0
    for path in files:
        frame = read_frame(path)  # type: ignore[arg-type]
        yield frame, first
        first += frame.height


@dataclass(frozen=True)
class Vocabulary:
    """What :func:`write_vocabulary` did: ``ranks`` (n,) is the final number of each symbol."""

    ranks: Numbers
    ambiguous: int
    aliases: int


def write_vocabulary(
    place: Workspace, arrays: StoreArrays, symbols: Symbols, names: Frames, aliases: Frames, memory_bytes: int
) -> Vocabulary:
    """Write the arrays of one :class:`kgr1.graph.vocabulary.Vocabulary`.

    ``names`` are the symbols with their labels (null without), spread by identifier; ``aliases`` are distinct.
    """
    labelled = any(names.read(part)["label"].count() for part in range(names.parts))
    ambiguous = 0
    if labelled:
        shown, ambiguous = _show(place, symbols, names)
    else:
        shown = Frames(place, f"{symbols.side}-shown", names.parts, SHOWN)
        for part in names.take():
            kind = pl.lit(DisplayKind.ID, pl.UInt8).alias("kind")
            shown.add(part.with_columns(pl.col("id").alias("label"), kind, pl.col("id").alias("shown")), key="id")
    ranges = _into_ranges(place, symbols.side, shown)
    writer = _Writer(place, arrays, symbols, labelled, memory_bytes)
    has_aliases = any(aliases.read(part).height for part in range(aliases.parts))
    for part in ranges.take():
        writer.write_names(part.sort("shown"), keep_keys=has_aliases)
    count = writer.write_aliases(aliases) if has_aliases else 0
    writer.finish()
    return Vocabulary(writer.ranks, ambiguous, count)


def _show(place: Workspace, symbols: Symbols, names: Frames) -> tuple[Frames, int]:
    """How each symbol is shown (as ``_display_kinds`` of :mod:`kgr1.graph.encode`), and how many labels are shared."""
    parts = names.parts
    by_label = Frames(place, f"{symbols.side}-labels", parts, NAMES)
    for frame in names.take():
        by_label.add(frame.with_columns(pl.coalesce("label", "id").alias("label")), key="label")
    shown = Frames(place, f"{symbols.side}-shown", parts, SHOWN)
    composed = Frames(place, f"{symbols.side}-composed", parts, {**NAMES, "shown": pl.String()})
    ambiguous = 0
    for part in range(parts):
        frame = by_label.read(part)
        frame = frame.with_columns(
            pl.len().over("label").alias("sharing"),
            _blank(frame["label"]),
            _known("label", symbols.ids.read(part)["id"]).alias("known"),
        )
        ambiguous += frame.filter(pl.col("sharing") > 1)["label"].n_unique()
        plain = (pl.col("label") == pl.col("id")) | pl.col("blank")
        alone = (pl.col("sharing") == 1) & ~pl.col("known")
        _keep(shown, frame.filter(plain), DisplayKind.ID)
        _keep(shown, frame.filter(~plain & alone), DisplayKind.LABEL)
        rest = frame.filter(~plain & ~alone)
        rest = rest.with_columns(_blank(rest["id"]))
        unfit = pl.col("blank") | pl.col("id").str.contains(" [", literal=True)
        _keep(shown, rest.filter(unfit), DisplayKind.ID)
        rest = rest.filter(~unfit)
        text = pl.concat_str("label", pl.lit(" ["), "id", pl.lit("]")).alias("shown")
        composed.add(rest.with_columns(text), key="shown")
    for part in range(parts):
        frame = composed.read(part, drop=True)
        taken = _known("shown", symbols.ids.read(part)["id"]) | _known("shown", by_label.read(part, drop=True)["label"])
        frame = frame.with_columns(taken.alias("taken"))
        _keep(shown, frame.filter("taken"), DisplayKind.ID)
        _keep(shown, frame.filter(~pl.col("taken")), DisplayKind.LABEL_AND_ID)
    return shown, ambiguous


def _known(column: str, texts: pl.Series) -> pl.Expr:
    return pl.col(column).is_in(texts.implode())


def _blank(texts: pl.Series) -> pl.Series:
    """True for texts of which nothing can be seen; few need a look in Python."""
    odd = texts.str.contains(r"[^\x20-\x7e]").arg_true()
    blank = np.zeros(len(texts), dtype=bool)
    blank[odd.to_numpy()] = [is_blank(text) for text in texts.gather(odd).to_list()]
    return pl.Series("blank", blank)


def _keep(shown: Frames, frame: pl.DataFrame, kind: DisplayKind) -> None:
    if kind != DisplayKind.LABEL_AND_ID:
        frame = frame.with_columns(pl.col("label" if kind == DisplayKind.LABEL else "id").alias("shown"))
    shown.add(frame.with_columns(pl.lit(kind, pl.UInt8).alias("kind")), key="id")


def _into_ranges(place: Workspace, side: str, shown: Frames) -> Frames:
    """The same rows in as many parts, each of which holds a range of what is shown."""
    if shown.parts == 1:
        return shown
    samples = []
    for part in range(shown.parts):
        texts = shown.read(part)["shown"]
        samples.append(texts.gather_every(max(1, len(texts) // _SAMPLE)))
    sample = pl.concat(samples).sort()
    borders = sample.gather([len(sample) * i // shown.parts for i in range(1, shown.parts)])
    ranges = Frames(place, f"{side}-ranges", shown.parts, SHOWN)
    for frame in shown.take():
        numbers = borders.search_sorted(frame["shown"], side="right")
        ranges.add(frame, numbers=numbers.cast(pl.Int64).to_numpy())
    return ranges


class _Writer:
    """Writes names in their order, and the tables that find them."""

    def __init__(
        self, place: Workspace, arrays: StoreArrays, symbols: Symbols, labelled: bool, memory_bytes: int
    ) -> None:
        self._place = place
        self._arrays = arrays
        self._side = symbols.side
        self._labelled = labelled
        self._memory = memory_bytes
        self.ranks: Numbers = np.empty(symbols.count, dtype=np.int32)
        self._written = 0
        self._texts = {"id": _TextWriter(arrays, f"{self._side}_id")}
        if labelled:
            self._texts["label"] = _TextWriter(arrays, f"{self._side}_label")
            self._kinds = arrays.open(f"{self._side}_display_kinds", "<u1")
        self._hashes = KeySorter(place, f"{self._side}-hashes", 64, 2 * symbols.count, memory_bytes)
        self._grams = GramIndex(symbols.count, place.new_file)
        self._keys: list[pl.DataFrame] = []

    def write_names(self, frame: pl.DataFrame, *, keep_keys: bool) -> None:
        """Write the next names, whose rows are in order."""
        for part in frame.iter_slices(_STEP):
            numbers = np.arange(self._written, self._written + part.height)
            self.ranks[part["symbol"].to_numpy()] = numbers
            self._texts["id"].write(part["id"])
            if self._labelled:
                self._texts["label"].write(part["label"])
                self._kinds.write(part["kind"].to_numpy())
            keys = lookup_keys(part["label"])
            self._add_hashes(keys, numbers)
            if self._labelled:
                self._add_hashes(lookup_keys(part["id"]), numbers)
            if keep_keys:
                self._keys.append(pl.DataFrame({"key": keys, "owner": pl.Series(numbers)}))
            else:
                self._grams.add(*text_bytes(gram_texts(keys)), numbers)
            self._written += part.height

    def _add_hashes(self, keys: pl.Series, owners: npt.NDArray[np.int64]) -> None:
        self._hashes.add(pack_owners(hash_texts(*text_bytes(keys)), owners))

    def write_aliases(self, aliases: Frames) -> int:
        """Write the aliases of all symbols, by number and as they came; returns how many there are."""
        found = pl.concat(list(aliases.take()))
        found = found.with_columns(pl.Series("owner", self.ranks[found["symbol"].to_numpy()].astype(np.int64)))
        found = found.sort("owner", "row")
        texts = _TextWriter(self._arrays, f"{self._side}_alias")
        texts.write(found["alias"])
        texts.close()
        self._arrays.write(f"{self._side}_alias_owners", found["owner"].to_numpy().astype("<i4"))
        keys = lookup_keys(found["alias"]).alias("key")
        self._add_hashes(keys, found["owner"].to_numpy())
        found = found.select(keys, "owner")
        first = 0
        for own in self._keys:
            last = int(own["owner"][-1])
            end = int(found["owner"].search_sorted(last, side="right"))
            both = pl.concat([own, found[first:end]]).sort("owner", maintain_order=True)
            self._grams.add(*text_bytes(gram_texts(both["key"])), both["owner"].to_numpy())
            first = end
        return found.height

    def finish(self) -> None:
        """Write the tables, and end all arrays."""
        side, arrays = self._side, self._arrays
        for texts in self._texts.values():
            texts.close()
        if self._labelled:
            arrays.close(f"{side}_display_kinds")
        hashes, owners = arrays.open(f"{side}_hashes", "<u4"), arrays.open(f"{side}_hash_owners", "<i4")
        for packed in self._hashes.sorted():
            hashes.write((packed >> np.uint64(32)).astype(np.uint32))
            owners.write(packed.astype(np.uint32))
        bounds, postings = self._grams.finish(self._memory // 16)
        arrays.write(f"{side}_gram_offsets", bounds)
        symbols = arrays.open(f"{side}_gram_symbols", "<i4")
        for part in postings:
            symbols.write(part)
        arrays.close(f"{side}_hashes", f"{side}_hash_owners", f"{side}_gram_symbols")


class _TextWriter:
    """Writes texts as bytes and offsets."""

    def __init__(self, arrays: StoreArrays, key: str) -> None:
        self._arrays = arrays
        self._key = key
        self._bytes = arrays.open(f"{key}_bytes", "<u1")
        self._offsets = arrays.open(f"{key}_offsets", "<i8")
        self._offsets.write(np.zeros(1, dtype=np.int64))

    def write(self, texts: pl.Series) -> None:
        for part in (texts[i : i + _STEP] for i in range(0, len(texts), _STEP)):
            blob, offsets = text_bytes(part)
            self._offsets.write(offsets[1:] + self._bytes.length)
            self._bytes.write(blob)

    def close(self) -> None:
        self._arrays.close(f"{self._key}_bytes", f"{self._key}_offsets")
