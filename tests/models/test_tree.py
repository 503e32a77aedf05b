"""The tree of token sequences."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

from kgr1.models.tree import build_tree

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=8)


@given(SEQUENCES)
def test_every_sequence_can_be_read_off_the_tree_and_nothing_is_there_twice(sequences: list[list[int]]) -> None:
    tree = build_tree(sequences)
    assert [[tree.ids[place] for place in places] for places in tree.places] == sequences
    assert all([tree.positions[p] for p in places] == list(range(len(places))) for places in tree.places)
    assert len(tree.ids) == len({tuple(s[:n]) for s in sequences for n in range(1, len(s) + 1)})


@given(SEQUENCES)
def test_the_way_down_to_a_token_is_what_stands_before_it(sequences: list[list[int]]) -> None:
    tree = build_tree(sequences)
    assert [place for node in tree.nodes for place in range(node.start, node.stop)] == list(range(len(tree.ids)))
    for places in tree.places:
        last = next(node for node in tree.nodes if node.start <= places[-1] < node.stop)
        way = [p for index in last.above for p in range(tree.nodes[index].start, tree.nodes[index].stop)]
        assert (*way, *range(last.start, places[-1] + 1)) == places
