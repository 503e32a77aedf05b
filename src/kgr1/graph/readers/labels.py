"""Which of several labels is shown, decided while they stream by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from kgr1.graph.readers.options import OTHERS

SCHEMA = {"id": pl.String, "label": pl.String, "alias": pl.Boolean}
_COMPACT = 1 << 20  # labels in other languages that are kept before only the best of each entity stay


class LabelChooser:
    """Labels in the most preferred language pass as they come; all others become aliases.

    For an entity without a label in that language the best of the others is given by :meth:`rest`. Kept are 8 bytes a
    label and one label for each of the entities that :meth:`rest` may have to name.
    """

    def __init__(self, languages: Sequence[str]) -> None:
        named = [language.lower() for language in languages if language != OTHERS]
        self._ranks = {language: rank for rank, language in enumerate(named)}
        self._untagged = len(named)
        self._others = len(named) + 1
        self._known: list[npt.NDArray[np.uint64]] = []
        self._waiting: list[pl.DataFrame] = []
        self._count = 0
        self._limit = _COMPACT

    def take(self, names: pl.DataFrame) -> pl.DataFrame:
        """Labels (id, label, alias) of names (id, label, language, alias)."""
        tag = pl.col("language").str.to_lowercase()
        rank = pl.coalesce(
            tag.replace_strict(self._ranks, default=None, return_dtype=pl.Int64),
            tag.str.split("-").list.first().replace_strict(self._ranks, default=None, return_dtype=pl.Int64),
            pl.when(tag.is_null()).then(self._untagged).otherwise(self._others),
        )
        best = 0 if self._ranks else self._untagged
        ranked = names.with_columns(rank.alias("rank"))
        sure = ~pl.col("alias") & (pl.col("rank") == best)
        first = ranked.filter(sure)
        if first.height:
            self._known.append(_hashes(first["id"]))
        maybe = ranked.filter(~pl.col("alias") & ~sure).select("id", "label", "rank")
        if maybe.height:
            self._waiting.append(maybe)
            self._count += maybe.height
            if self._count > self._limit:
                self._compact()
        return ranked.select("id", "label", (~sure).alias("alias"))

    def _compact(self) -> None:
        if len(self._known) > 1:
            self._known = [np.unique(np.concatenate(self._known))]
        if self._waiting:
            every = pl.concat(self._waiting)
            best = every.sort("rank", maintain_order=True).unique("id", keep="first", maintain_order=True)
            self._waiting = [best.filter(~self._has_best(best["id"]))]
            self._count = self._waiting[0].height
            self._limit = max(_COMPACT, 2 * self._count)

    def _has_best(self, ids: pl.Series) -> pl.Series:
        if not self._known:
            return pl.repeat(False, len(ids), eager=True)
        return pl.Series(np.isin(_hashes(ids), self._known[0]))

    def labelled(self, ids: pl.Series) -> pl.Series:
        """For each identifier, whether it has a label in any language."""
        self._compact()
        waiting = self._waiting[0]["id"] if self._waiting else pl.Series(dtype=pl.String)
        return self._has_best(ids) | ids.is_in(waiting.implode())

    def rest(self) -> pl.DataFrame:
        """The labels of entities that have none in the preferred language."""
        self._compact()
        if not self._waiting:
            return pl.DataFrame(schema=SCHEMA)
        return self._waiting[0].select("id", "label", pl.lit(False).alias("alias"))


def _hashes(ids: pl.Series) -> npt.NDArray[np.uint64]:
    return ids.hash(seed=0).to_numpy()
