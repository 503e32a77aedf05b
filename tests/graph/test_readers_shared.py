"""The published graphs, read as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from reading import UNDATED, read

from kgr1.graph.readers.dates import REVERSED


@pytest.mark.parametrize(
    ("name", "facts", "dated", "dropped"),
    [
        ("icews14/tkg.tsv.gz", 90_730, 90_730, {}),
        ("multitq-sample/tkg.tsv.gz", 166_210, 166_210, {}),
        ("timequestions/tkg.tsv.gz", 22_204, 14_285, {REVERSED: 13}),
    ],
)
def test_dated_graphs_need_no_option(
    shared_data: Path, name: str, facts: int, dated: int, dropped: dict[str, int]
) -> None:
    found = read(shared_data / name)
    assert len(found.facts) == len(found.spans) == facts
    assert sum(span != UNDATED for span in found.spans) == dated
    assert found.dropped == dropped


def test_question_graphs(shared_data: Path) -> None:
    found = read(shared_data / "webqsp-cwq" / "rog-format-sample.jsonl.gz")
    assert found.rows == len(set(found.graphs)) == 500
    assert len(found.facts) == 146_074
    assert not found.dropped
