"""Relations that say the same, found by the facts that they share, and unified: one relation for each direction.

Freebase and graphs like it state a fact by several relations: by one for each direction (``film.film.directed_by`` and
``film.director.film``), and, once nodes without a name are contracted, by one for each way through such a node. A part
of such a graph often holds only some of these statements. Then no relation leads to all answers, and who reads the
graph has to choose between several that mean the same. Akrami et al. (SIGMOD 2020, section 4) call them reverse,
duplicate and reverse duplicate relations and measure how many there are in the usual benchmarks.

:func:`unify` gives every group of such relations the facts of all of them and keeps at most two of its names, one for
each direction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from kgr1.graph.readers.tables import FACT

LEAST_SHARED = 3
"""Facts that two relations have to share before they are taken to say the same."""

LEAST_PART = 0.4
"""The part of the smaller relation that has to be shared."""

LEAST_JACCARD = 0.25
"""The part of all facts of both that has to be shared, by two relations and by what has been unified so far."""

LEAST_SYMMETRIC = 0.6
"""The part of a relation's facts that has to be found turned around before all of them are taken to hold so."""

PART, MOST_JACCARD = 0.95, 0.5
"""A relation is a narrower one if another one, twice as large or more, has this part of its facts as they stand."""

Pairs = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Group:
    """Relations that say the same: those whose arrow is that of the first, and those with the opposite one."""

    along: tuple[str, ...]  # from the one with most facts to the one with fewest
    against: tuple[str, ...]
    symmetric: bool  # whether the facts hold in both directions, as those of *married to*
    pairs: Pairs  # of nodes, in the direction of ``along``


@dataclass(frozen=True)
class Unified:
    """What :func:`unify` gives."""

    facts: pl.DataFrame  # String columns head, relation, tail; distinct and sorted
    groups: tuple[Group, ...]  # by the name of the first relation


def unify(
    facts: pl.DataFrame,
    *,
    least_shared: int = LEAST_SHARED,
    least_part: float = LEAST_PART,
    least_jaccard: float = LEAST_JACCARD,
) -> Unified:
    """Unify the relations of ``facts``, a frame with the String columns head, relation and tail, that say the same.

    In every group (:func:`redundant_relations`) the relation with most facts stays, and of those in the opposite
    direction, if there are any, the one with most of them; of equals the first by name. They get the facts of the whole
    group, each in its direction. A symmetric group keeps one relation, with every fact in both directions. All other
    relations of the group go, but for facts from a node to itself, which stay as they are.

    >>> rows = [("Alien", "directed by", "Scott"), *(("Scott", "director of", film) for film in ("Alien", "Legend"))]
    >>> facts = pl.DataFrame(rows, schema=["head", "relation", "tail"], orient="row")
    >>> unify(facts, least_shared=1).facts.filter(relation="directed by")["head"].to_list()
    ['Alien', 'Legend']
    """
    facts = facts.select(FACT).unique()
    groups = redundant_relations(facts, least_shared=least_shared, least_part=least_part, least_jaccard=least_jaccard)
    old = [name for group in groups for name in (*group.along, *group.against)]
    loops = pl.col("head") == pl.col("tail")
    parts = [facts.filter(loops | ~pl.col("relation").is_in(old))]
    for group in groups:
        there = pl.DataFrame(sorted(group.pairs), schema=["head", "tail"], orient="row")
        back = there.select(pl.col("tail").alias("head"), pl.col("head").alias("tail"))
        parts.append(_named(pl.concat([there, back]) if group.symmetric else there, group.along[0]))
        if group.against and not group.symmetric:
            parts.append(_named(back, group.against[0]))
    return Unified(pl.concat(parts).unique().sort(FACT), groups)


def _named(pairs: pl.DataFrame, relation: str) -> pl.DataFrame:
    return pairs.select("head", pl.lit(relation).alias("relation"), "tail")


def redundant_relations(
    facts: pl.DataFrame,
    *,
    least_shared: int = LEAST_SHARED,
    least_part: float = LEAST_PART,
    least_jaccard: float = LEAST_JACCARD,
) -> tuple[Group, ...]:
    """Groups of relations of ``facts`` that say the same; a symmetric relation can be a group of its own.

    Two relations share the facts that both have, or that one has and the other one turned around. They say the same if
    they share ``least_shared`` facts, a part of ``least_part`` of the smaller one and of ``least_jaccard`` of all facts
    of both (the Jaccard index). From the most alike on, what says the same is joined, as long as the Jaccard index of
    what has been joined by then is ``least_jaccard`` as well, so that no chain of relations leads from one meaning to
    another. A relation is in no group with one that is narrower: nearly all of its facts (:data:`PART`) are facts of
    the other one as they stand, which has far more (a Jaccard index of :data:`MOST_JACCARD` or less). That is so, too,
    where both are alike to a third one in the opposite direction. A group is symmetric
    if :data:`LEAST_SYMMETRIC` of its facts are found turned around as well, and what is symmetric is no group with what
    is not. Facts from a node to itself do not count.
    """
    facts = facts.select(FACT).unique().filter(pl.col("head") != pl.col("tail"))
    alike = _alike(facts, least_shared, least_part, least_jaccard)
    names = {*alike["one"], *alike["other"]}
    chosen = facts.filter(pl.col("relation").is_in(sorted(names)))
    pairs = {
        str(name): frozenset(zip(frame["head"], frame["tail"], strict=True))
        for (name,), frame in chosen.partition_by("relation", as_dict=True).items()
    }
    joining = _Joining(pairs)
    for one, other, turned in alike.filter(pl.col("one") != pl.col("other")).select("one", "other", "turned").rows():
        joining.join(one, other, turned=turned, least_jaccard=least_jaccard)
    return tuple(sorted(joining.groups(), key=lambda group: group.along[0]))


def _alike(facts: pl.DataFrame, least_shared: int, least_part: float, least_jaccard: float) -> pl.DataFrame:
    """Relations that say the same, one <= other, and whether one of them is turned around; the most alike first."""
    sizes = facts.group_by("relation").agg(pl.len().alias("size"))
    twice = facts.rename({"relation": "other"})
    around = twice.select(pl.col("tail").alias("head"), "other", pl.col("head").alias("tail"))
    counted = [
        facts.join(beside, on=["head", "tail"])
        .filter(pl.col("relation") <= pl.col("other"))
        .group_by("relation", "other")
        .agg(pl.len().alias("shared"))
        .with_columns(pl.lit(turned).alias("turned"))
        for beside, turned in ((twice, False), (around, True))
    ]
    shared = pl.concat(counted).filter((pl.col("relation") != pl.col("other")) | pl.col("turned"))
    shared = shared.join(sizes, on="relation").join(sizes.rename({"relation": "other", "size": "most"}), on="other")
    union = pl.col("size") + pl.col("most") - pl.col("shared")
    jaccard = pl.when(pl.col("relation") == pl.col("other")).then(pl.col("shared") / pl.col("size"))
    return (
        shared.with_columns(jaccard.otherwise(pl.col("shared") / union).alias("jaccard"))
        .filter(
            pl.col("shared") >= least_shared,
            pl.col("shared") >= least_part * pl.min_horizontal("size", "most"),
            pl.col("jaccard") >= least_jaccard,
        )
        .rename({"relation": "one"})
        .sort("jaccard", "shared", "one", "other", "turned", descending=[True, True, False, False, False])
    )


class _Joining:
    """Groups that grow: which group a relation is in, in which direction, and what the groups say."""

    def __init__(self, pairs: dict[str, Pairs]) -> None:
        self._own = pairs
        self._place = {name: (name, False) for name in pairs}  # the group's name, and whether turned around in it
        self._pairs = dict(pairs)

    def join(self, one: str, other: str, *, turned: bool, least_jaccard: float) -> None:
        """Join the groups of two relations, of which one is ``turned`` around, if together they are alike enough."""
        (group, first), (added, second) = self._place[one], self._place[other]
        if group == added:
            return
        turn = first ^ second ^ turned
        mine, theirs = self._pairs[group], self._pairs[added]
        theirs = frozenset(_turned(theirs)) if turn else theirs
        together = mine | theirs
        if len(mine & theirs) < least_jaccard * len(together) or _symmetric(mine) != _symmetric(theirs):
            return
        if self._narrower(group, added, turn=turn):
            return
        self._pairs[group] = together
        del self._pairs[added]
        for name, (place, way) in self._place.items():
            if place == added:
                self._place[name] = group, way ^ turn

    def _narrower(self, group: str, added: str, *, turn: bool) -> bool:
        """Whether a relation of one group is a narrower one than a relation of the other group with the same arrow."""
        mine, theirs = (
            [(self._own[name], way) for name, (place, way) in self._place.items() if place == wanted]
            for wanted in (group, added)
        )
        return any(
            _narrower(pairs, others) for pairs, way in mine for others, other_way in theirs if way == other_way ^ turn
        )

    def groups(self) -> Iterator[Group]:
        """All groups of several relations, and the symmetric relations."""
        members: dict[str, list[str]] = {}
        for name, (place, _) in self._place.items():
            members.setdefault(place, []).append(name)
        for place, names in members.items():
            pairs = self._pairs[place]
            both = _symmetric(pairs)
            if len(names) == 1 and not both:
                continue
            names.sort(key=lambda name: (-len(self._own[name]), name))
            way = self._place[names[0]][1]
            along = tuple(name for name in names if self._place[name][1] == way)
            against = tuple(name for name in names if self._place[name][1] != way)
            yield Group(along, against, both, frozenset(_turned(pairs)) if way else pairs)


def _narrower(pairs: Pairs, others: Pairs) -> bool:
    """Whether one of two relations says a part of what the other one says."""
    shared = len(pairs & others)
    return shared >= PART * min(len(pairs), len(others)) and shared <= MOST_JACCARD * len(pairs | others)


def _symmetric(pairs: Pairs) -> bool:
    return len(pairs.intersection(_turned(pairs))) >= LEAST_SYMMETRIC * len(pairs)


def _turned(pairs: Pairs) -> Iterator[tuple[str, str]]:
    return ((tail, head) for head, tail in pairs)
