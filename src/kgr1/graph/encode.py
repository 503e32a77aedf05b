"""From triples of strings to the sorted arrays of a store.

:class:`TripleEncoder` takes rows as they come, replaces names by provisional numbers and, at the end, renumbers them in
the order of their display names, drops repeated triples and sorts the rest both ways. Names stay in memory until then,
triples cost 12 bytes each.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from kgr1.errors import GraphError
from kgr1.graph.name_index import INDEXED, GramIndex, distinct, pack_owners
from kgr1.graph.names import hash_name, lookup_key
from kgr1.graph.temporal import UNDATED, Span
from kgr1.graph.vocabulary import Array, Arrays, DisplayKind

Numbers = npt.NDArray[np.int64]
Row = tuple[str, str, str]


@dataclass(frozen=True)
class EncodedGraph:
    """Arrays of a store by file stem (``entity_ids...``, ``tail_...``, ``head_...``) and the counts of its header."""

    arrays: Arrays
    triples: int
    duplicates: int
    dated: int
    question_graphs: int
    entities: int
    relations: int
    ambiguous_names: int
    max_degree: int


class TripleEncoder:
    """Collects triples; :meth:`finish` gives the arrays."""

    def __init__(self) -> None:
        self._entities = _numbering()
        self._relations = _numbering()
        self._graphs = _numbering()
        self._parts: list[npt.NDArray[np.int32]] = []
        self.rows = 0

    def add(self, rows: Sequence[Row], *, spans: Sequence[Span] | None = None, graph: str | None = None) -> None:
        """Take a batch of rows whose names are valid (see :func:`check_name`).

        ``spans`` are their dates (:mod:`kgr1.graph.temporal`), ``graph`` is the question graph that they belong to.
        Raises :class:`GraphError` if there are not as many spans as rows.
        """
        if not rows:
            return
        if spans is not None and len(spans) != len(rows):
            raise GraphError(f"There are dates for {len(spans):,} of {len(rows):,} triples; give one span for each.")
        heads, relations, tails = zip(*rows, strict=True)
        part = np.empty((6, len(rows)), dtype=np.int32)
        part[0] = np.fromiter(map(self._entities.__getitem__, heads), np.int32, len(rows))
        part[1] = np.fromiter(map(self._relations.__getitem__, relations), np.int32, len(rows))
        part[2] = np.fromiter(map(self._entities.__getitem__, tails), np.int32, len(rows))
        part[3:5] = np.array(UNDATED)[:, None] if spans is None else np.array(spans).T
        part[5] = -1 if graph is None else self._graphs[graph]
        self._parts.append(part)
        self.rows += len(rows)

    def __contains__(self, name: object) -> bool:
        """True if the name stands for an entity or a relation of the rows so far."""
        return name in self._entities or name in self._relations

    def finish(
        self, labels: Mapping[str, str] | None = None, aliases: Mapping[str, Sequence[str]] | None = None
    ) -> EncodedGraph:
        """Number, sort and index everything. The encoder is empty afterwards.

        ``labels`` and ``aliases`` go by identifier. Raises :class:`GraphError` if there is no triple.
        """
        if not self.rows:
            raise GraphError("There is no triple to build a graph from; give at least one (head, relation, tail).")
        labels, aliases = labels or {}, aliases or {}
        entity_arrays, entity_ranks, ambiguous = encode_names(list(self._entities), labels, aliases)
        relation_arrays, relation_ranks, _ = encode_names(list(self._relations), labels, aliases)
        rows = np.concatenate(self._parts, axis=1).astype(np.int64)
        self._parts.clear()
        rows[0], rows[1], rows[2] = entity_ranks[rows[0]], relation_ranks[rows[1]], entity_ranks[rows[2]]
        arrays: Arrays = {f"entity_{key}": array for key, array in entity_arrays.items()}
        arrays |= {f"relation_{key}": array for key, array in relation_arrays.items()}
        entities, relations = len(self._entities), len(self._relations)
        facts, graphs = rows[:5], rows[5]
        facts = encode_edges(arrays, facts, graphs, list(self._graphs), entities, relations)
        for numbering in (self._entities, self._relations, self._graphs):
            numbering.clear()
        degrees = np.diff(arrays["tail_offsets"]) + np.diff(arrays["head_offsets"])
        return EncodedGraph(
            arrays=arrays,
            triples=facts.shape[1],
            duplicates=self.rows - facts.shape[1],
            dated=int(np.sum(facts[3] <= facts[4])),
            question_graphs=len(arrays["graph_id_offsets"]) - 1 if "graph_offsets" in arrays else 0,
            entities=entities,
            relations=relations,
            ambiguous_names=ambiguous,
            max_degree=int(degrees.max()),
        )


def _numbering() -> defaultdict[str, int]:
    """Numbers names 0, 1, 2, ... as they are asked for."""
    numbers: defaultdict[str, int] = defaultdict()
    numbers.default_factory = numbers.__len__
    return numbers


def encode_edges(
    arrays: Arrays, facts: Numbers, graphs: Numbers, graph_ids: Sequence[str], entities: int, relations: int
) -> Numbers:
    """Add the edges of ``facts``, rows (5, m) of head, relation, tail, start and end, and the question graphs.

    ``graphs``, (m,), numbers into ``graph_ids``, -1 for none. Returns the distinct facts in order, (5, k).
    """
    undated = bool((facts[3] > facts[4]).all())
    if not len(graph_ids) and undated:
        heads, edges, tails = _sort_unique(facts[0], facts[1], facts[2], entities, relations)
        arrays |= _adjacency("tail", heads, edges, tails, entities, relations)
        distinct = np.stack([heads, edges, tails, *np.broadcast_to(np.array(UNDATED)[:, None], (2, len(heads)))])
        tails, edges, heads = _sort_unique(tails, edges, heads, entities, relations)
        arrays |= _adjacency("head", tails, edges, heads, entities, relations)
        return distinct
    places, facts = _distinct_columns(facts)
    head_order = np.lexsort(facts[[4, 3, 0, 1, 2]])
    by_object = facts[:, head_order]
    spans = (None, None) if undated else (facts[3:], by_object[3:])
    arrays |= _adjacency("tail", facts[0], facts[1], facts[2], entities, relations, spans[0])
    arrays |= _adjacency("head", by_object[2], by_object[1], by_object[0], entities, relations, spans[1])
    if len(graph_ids):
        arrays |= _encode_question_graphs(places, graphs, head_order, graph_ids)
    return facts


def _distinct_columns(rows: Numbers) -> tuple[Numbers, Numbers]:
    """The distinct columns of (k, m) rows in lexicographic order, and for each column its place among them, (m,)."""
    order = np.lexsort(rows[::-1])
    ordered = rows[:, order]
    fresh = np.ones(rows.shape[1], dtype=bool)
    fresh[1:] = (ordered[:, 1:] != ordered[:, :-1]).any(axis=0)
    places = np.empty(rows.shape[1], dtype=np.int64)
    places[order] = np.cumsum(fresh) - 1
    return places, ordered[:, fresh]


def _encode_question_graphs(places: Numbers, graphs: Numbers, head_order: Numbers, graph_ids: Sequence[str]) -> Arrays:
    """``places``, (m,): where each row stands in the order by subject; ``head_order``: that order by object."""
    order = np.array(sorted(range(len(graph_ids)), key=graph_ids.__getitem__))
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order))
    member = graphs >= 0
    _, (owners, tail_edges) = _distinct_columns(np.stack([ranks[graphs[member]], places[member]]))
    in_head_order = np.empty(len(head_order), dtype=np.int64)
    in_head_order[head_order] = np.arange(len(head_order))
    head_edges = in_head_order[tail_edges]
    head_edges = head_edges[np.lexsort((head_edges, owners))]
    ids = [graph_ids[i] for i in order]
    hashes, hash_owners = _hash_table(ids, np.arange(len(ids)))
    dtype = "<i4" if len(head_order) < 2**31 else "<i8"
    arrays: Arrays = {
        "graph_offsets": np.searchsorted(owners, np.arange(len(ids) + 1)).astype("<i8"),
        "graph_tail_edges": tail_edges.astype(dtype),
        "graph_head_edges": head_edges.astype(dtype),
        "graph_hashes": hashes,
        "graph_hash_owners": hash_owners,
    }
    arrays["graph_id_bytes"], arrays["graph_id_offsets"] = _pack(ids)
    return arrays


def check_name(name: object) -> str | None:
    """What is wrong with a name of an entity or relation, or None."""
    if not isinstance(name, str):
        return f"a name must be a string, not {type(name).__name__}"
    if not name.strip():
        return "a name is empty"
    if not name.isascii():
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            return "a name holds a lone surrogate, which is not valid Unicode"
    return None


def _sort_unique(
    first: Numbers, second: Numbers, third: Numbers, entities: int, relations: int
) -> tuple[Numbers, Numbers, Numbers]:
    """The distinct rows (first, second, third) in lexicographic order; ``second`` numbers relations."""
    entity_bits, relation_bits = entities.bit_length(), relations.bit_length()
    if 2 * entity_bits + relation_bits <= 63:
        # One 64-bit number a triple sorts several times faster than three columns.
        packed = distinct((((first << relation_bits) | second) << entity_bits) | third)
        third = packed & ((1 << entity_bits) - 1)
        packed >>= entity_bits
        return packed >> relation_bits, packed & ((1 << relation_bits) - 1), third
    order = np.lexsort((third, second, first))
    first, second, third = first[order], second[order], third[order]
    fresh = np.ones(len(first), dtype=bool)
    fresh[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1]) | (third[1:] != third[:-1])
    return first[fresh], second[fresh], third[fresh]


def _adjacency(
    direction: str,
    entities: Numbers,
    relations: Numbers,
    neighbours: Numbers,
    entity_count: int,
    relation_count: int,
    spans: Numbers | None = None,
) -> Arrays:
    """Arrays of :class:`kgr1.graph.adjacency.Adjacency` for edges in order, (m,) each and (2, m) spans."""
    degrees = np.bincount(entities, minlength=entity_count)
    arrays: Arrays = {
        f"{direction}_offsets": np.concatenate(([0], np.cumsum(degrees))).astype("<i8"),
        f"{direction}_relations": relations.astype("<u2" if relation_count <= 2**16 else "<i4"),
        f"{direction}_neighbours": neighbours.astype("<i4"),
    }
    if spans is not None:
        arrays |= {f"{direction}_{key}": spans[i].astype("<i4") for i, key in enumerate(("starts", "ends"))}
    return arrays


def encode_names(
    ids: Sequence[str], labels: Mapping[str, str], aliases: Mapping[str, Sequence[str]]
) -> tuple[Arrays, Numbers, int]:
    """Arrays of a :class:`kgr1.graph.vocabulary.Vocabulary`.

    Returns the arrays, for each of ``ids`` its number in the vocabulary, (n,), and how many labels are shared.
    """
    if len(ids) >= 2**31:
        raise GraphError(f"{len(ids):,} names are more than a store can number (2,147,483,647).")
    own_labels = [labels.get(name) or name for name in ids]
    labelled = any(label != name for label, name in zip(own_labels, ids, strict=True))
    ambiguous = 0
    if labelled:
        kinds, ambiguous = _display_kinds(ids, own_labels)
        shown = [_display(*row) for row in zip(kinds, own_labels, ids, strict=True)]
    else:
        kinds, shown = [], list(ids)
    order = sorted(range(len(ids)), key=shown.__getitem__)
    del shown
    ranks = np.empty(len(ids), dtype=np.int64)
    ranks[order] = np.arange(len(ids))
    ids = [ids[i] for i in order]
    arrays: Arrays = {}
    arrays["id_bytes"], arrays["id_offsets"] = _pack(ids)
    if labelled:
        own_labels = [own_labels[i] for i in order]
        arrays["label_bytes"], arrays["label_offsets"] = _pack(own_labels)
        arrays["display_kinds"] = np.array([kinds[i] for i in order], dtype="<u1")
    else:
        own_labels = ids
    keys = [lookup_key(label) for label in own_labels]
    owned = [
        (symbol, alias)
        for symbol, (name, label) in enumerate(zip(ids, own_labels, strict=True))
        for alias in dict.fromkeys(aliases.get(name, ()))
        if alias not in (name, label)
    ]
    owners = np.array([symbol for symbol, _ in owned], dtype=np.int64)
    if owned:
        arrays["alias_bytes"], arrays["alias_offsets"] = _pack(alias for _, alias in owned)
        arrays["alias_owners"] = owners.astype("<i4")
    keys += [lookup_key(alias) for _, alias in owned]
    owners = np.concatenate((np.arange(len(ids)), owners))
    arrays["gram_offsets"], arrays["gram_symbols"] = _gram_index(keys, owners, len(ids))
    if labelled:
        keys += map(lookup_key, ids)
        owners = np.concatenate((owners, np.arange(len(ids))))
    arrays["hashes"], arrays["hash_owners"] = _hash_table(keys, owners)
    return arrays, ranks, ambiguous


def _display_kinds(ids: Sequence[str], labels: Sequence[str]) -> tuple[list[DisplayKind], int]:
    counts = Counter(labels)
    known = set(ids)
    kinds = []
    for name, label in zip(ids, labels, strict=True):
        if label == name or is_blank(label):
            kinds.append(DisplayKind.ID)
        elif counts[label] == 1 and label not in known:
            kinds.append(DisplayKind.LABEL)
        elif " [" in name or is_blank(name) or (composed := f"{label} [{name}]") in known or composed in counts:
            kinds.append(DisplayKind.ID)
        else:
            kinds.append(DisplayKind.LABEL_AND_ID)
    return kinds, sum(1 for count in counts.values() if count > 1)


def is_blank(text: str) -> bool:
    """True if nothing of the text can be seen, so that it could not be told from another such name."""
    return not text.isprintable() and not any(char.isprintable() and not char.isspace() for char in text)


def _display(kind: DisplayKind, label: str, name: str) -> str:
    if kind == DisplayKind.LABEL:
        return label
    return name if kind == DisplayKind.ID else f"{label} [{name}]"


def _pack(texts: Iterable[str]) -> tuple[npt.NDArray[np.uint8], Numbers]:
    encoded = [text.encode("utf-8") for text in texts]
    offsets = np.fromiter(accumulate(map(len, encoded), initial=0), "<i8", len(encoded) + 1)
    return np.frombuffer(b"".join(encoded), dtype="<u1"), offsets


def _hash_table(names: Sequence[str], owners: npt.NDArray[np.int64]) -> tuple[Array, Array]:
    """Sorted hashes of some names with the symbol of each, ``owners``, (k,); pairs are distinct."""
    table = distinct(pack_owners(np.fromiter(map(hash_name, names), np.uint32, len(names)), owners))
    return (table >> np.uint64(32)).astype("<u4"), table.astype("<u4").astype("<i4")


def _gram_index(keys: Sequence[str], owners: npt.NDArray[np.int64], count: int) -> tuple[Array, Array]:
    """Posting lists of the trigrams of ``count`` symbols; ``owners``, (k,), is the symbol of each key."""
    order = np.argsort(owners, kind="stable")
    index = GramIndex(count)
    index.add(*_pack(f" {keys[i][:INDEXED]} " for i in order.tolist()), owners[order])
    bounds, postings = index.finish()
    return bounds, np.concatenate(list(postings))
