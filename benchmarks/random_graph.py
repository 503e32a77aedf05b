"""Random graphs of any size, a chunk at a time: entities and relations are used as unevenly as in real graphs.

Subjects and objects follow Zipf's law (exponents 0.4 and 0.75), as do the relations; there are ten triples an entity.
The same seed gives the same graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

RELATIONS = 600
TRIPLES_AN_ENTITY = 10
CHUNK = 500_000
"""Triples that are made at a time."""


def words(count: int, rng: np.random.Generator) -> pl.Series:
    """Distinct words of two to four syllables."""
    onsets = np.array(
        [
            "b",
            "c",
            "d",
            "f",
            "g",
            "h",
            "j",
            "k",
            "l",
            "m",
            "n",
            "p",
            "r",
            "s",
            "t",
            "v",
            "w",
            "z",
            "br",
            "ch",
            "cr",
            "dr",
            "fr",
            "gr",
            "kr",
            "pl",
            "pr",
            "sh",
            "sl",
            "st",
            "tr",
            "th",
        ]
    )
    vowels = np.array(["a", "e", "i", "o", "u", "a", "e", "o", "ai", "ea", "ie", "ou"])
    codas = np.array(["", "", "", "n", "r", "s", "l", "t", "m", "nd", "ck", "rt"])
    found = pl.Series([], dtype=pl.String)
    while len(found) < count:
        syllables = [
            pl.Series(np.char.add(np.char.add(rng.choice(onsets, count), rng.choice(vowels, count)), coda))
            for coda in (rng.choice(codas, count) for _ in range(3))
        ]
        last = pl.Series(rng.random(count) < 0.4)
        frame = pl.DataFrame(syllables, schema=["a", "b", "c"]).with_columns(last=last)
        made = frame.select(pl.concat_str("a", "b", pl.when("last").then("c").otherwise(pl.lit("")))).to_series()
        found = pl.concat([found, made.rename("")]).unique(maintain_order=True)
    return found[:count].str.to_titlecase()


class Names:
    """A name for every number: two words, some with a third part; 8 to 30 characters, all different."""

    def __init__(self, count: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._words = words(4200, rng)
        tails = words(300, rng).to_list()
        self._parts = pl.Series([""] * 500 + [f" of {word}" for word in tails] + [" (film)", " Jr.", " II"] * 60)
        self._bits = max(22, int(count).bit_length())

    def __call__(self, numbers: np.ndarray[Any, Any]) -> pl.Series:
        """Names of some numbers, (n,)."""
        mixed = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) & np.uint64((1 << self._bits) - 1)
        pool = np.uint64(len(self._words))
        pieces: list[Any] = [self._words.gather(mixed % pool), pl.lit(" "), self._words.gather(mixed // pool % pool)]
        third = mixed // pool // pool
        if third.any():
            pieces += [pl.lit(" "), pl.Series(third)]
        spread = mixed * np.uint64(0xC2B2AE3D27D4EB4F) >> np.uint64(33)
        pieces.append(self._parts.gather(spread % np.uint64(len(self._parts))))
        return pl.select(pl.concat_str(*pieces)).to_series()


def zipf(rng: np.random.Generator, size: int, count: int, exponent: float) -> np.ndarray[Any, Any]:
    """(count,) numbers below ``size``, the k-th used in proportion to k^-exponent."""
    return (size * rng.random(count) ** (1 / (1 - exponent))).astype(np.int64)


def entity_count(size: int) -> int:
    """Entities of a graph of ``size`` triples."""
    return max(size // TRIPLES_AN_ENTITY, 10)


def entity_names(numbers: np.ndarray[Any, Any], names: Names, labels: float) -> pl.Series:
    """What stands for the entities in the triples."""
    return names(numbers) if not labels else pl.select(pl.concat_str(pl.lit("Q"), pl.Series(numbers))).to_series()


def facts(size: int, seed: int, labels: float, start: int) -> pl.DataFrame:
    """A chunk of the graph."""
    rng = np.random.default_rng([seed, start])
    count, entities = min(CHUNK, size - start), entity_count(size)
    names = Names(entities, seed)
    relations = pl.concat_str(words(RELATIONS, np.random.default_rng(seed)).str.to_lowercase(), pl.lit(".relation"))
    # Hubs by number would stand together in the file of names.
    numbers = [zipf(rng, entities, count, exponent) * 7_368_787 % entities for exponent in (0.4, 0.75)]
    return pl.DataFrame(
        {
            "head": entity_names(numbers[0], names, labels),
            "relation": pl.select(relations).to_series().gather(zipf(rng, RELATIONS, count, 0.75)),
            "tail": entity_names(numbers[1], names, labels),
        }
    )


def label_names(size: int, seed: int, labels: float, start: int) -> pl.DataFrame:
    """Identifiers and names of the entities from ``start`` on that have a label."""
    numbers = np.arange(start, min(start + CHUNK, entity_count(size)))
    numbers = numbers[np.random.default_rng([seed, start]).random(len(numbers)) < labels]
    names = Names(entity_count(size), seed)
    return pl.DataFrame({"id": entity_names(numbers, names, labels), "name": names(numbers)})
