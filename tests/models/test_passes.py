"""Several episodes in one forward pass, each with as many tokens as it has not read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from engine_parts import make_engine, sampled  # noqa: E402
from kgr1.models import attention  # noqa: E402
from kgr1.models import passes as module  # noqa: E402
from kgr1.models.attention import Packing, packs, product_attention  # noqa: E402
from kgr1.models.passes import Passes  # noqa: E402
from kgr1.models.row import Row  # noqa: E402
from kgr1.models.stops import StopStrings  # noqa: E402
from kgr1.models.weights import load_tokenizer  # noqa: E402


def rows_of(tiny_model: Path, lengths: list[int], size: int = 60) -> list[Row]:
    """Rows with other ids each, ``size`` tokens and their place more, of which the last ``lengths`` are not read."""
    random = np.random.default_rng(7)
    stops = StopStrings(load_tokenizer(str(tiny_model)), ())
    return [
        Row(random.integers(5, 90, size + place).tolist(), sampled(0), random, place, 10, stops, cached=0)
        for place, _ in enumerate(lengths)
    ]


@contextmanager
def counted(passes: Passes) -> Iterator[list[int]]:
    """The tokens that go through each pass."""
    counts: list[int] = []
    hook = passes._model.register_forward_pre_hook(
        lambda _, args, kwargs: counts.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    yield counts
    hook.remove()


@pytest.mark.parametrize("kind", ["sdpa", "eager"])
@pytest.mark.parametrize(
    "lengths",
    [[1, 1, 1], [1, 0, 1], [9, 0, 1, 1], [1, 9, 1], [20, 0, 30], [0, 1, 7, 0, 1], [5], [0, 1]],
    ids=str,
)
def test_logits_are_those_of_each_row_alone(tiny_model: Path, lengths: list[int], kind: str) -> None:
    engine = make_engine(tiny_model, attention=kind)
    rows = rows_of(tiny_model, lengths)
    together, alone = Passes(engine.model, len(rows)), Passes(engine.model, len(rows))
    wanted = {}
    for row, length in zip(rows, lengths, strict=True):
        wanted[row.index] = alone.read(row, len(row.ids))
        row.cached = 0
        if length < len(row.ids):
            together.read(row, len(row.ids) - length)
    waiting = [row for row, length in zip(rows, lengths, strict=True) if length]
    read = [row for row in rows if row not in waiting]
    before = [together.cache.keys[:, row.index, :, : row.cached].clone() for row in read]
    found = []
    for part in together.shared(waiting):
        logits = together.advance(part, rows)
        assert logits.shape[0] == len(part)
        found += list(zip(part, logits, strict=True))
    assert {row.index for row, _ in found} == {row.index for row in waiting}
    for row, logits in found:
        assert row.cached == len(row.ids)
        assert torch.allclose(logits, wanted[row.index], atol=1e-5)
        kept = together.cache.keys[:, row.index, :, : row.cached], alone.cache.keys[:, row.index, :, : row.cached]
        assert torch.allclose(*kept, atol=1e-5)
    for row, keys in zip(read, before, strict=True):  # what lies in between keeps what it has read
        assert torch.allclose(together.cache.keys[:, row.index, :, : row.cached], keys, atol=1e-5)


def test_a_pass_has_no_token_that_nobody_needs(tiny_model: Path) -> None:
    engine = make_engine(tiny_model)
    lengths = [1, 0, 30, 1, 0, 1]
    rows = rows_of(tiny_model, lengths)
    passes = Passes(engine.model, len(rows))
    for row, length in zip(rows, lengths, strict=True):
        passes.read(row, len(row.ids) - length)
    waiting = [row for row, length in zip(rows, lengths, strict=True) if length]
    with counted(passes) as counts:
        for part in passes.shared(waiting):
            passes.advance(part, rows)
    assert counts == [33]


def test_a_pass_stays_small(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TOKENS", 40)
    engine = make_engine(tiny_model)
    lengths = [30, 1, 1, 20, 50, 1, 40]
    rows = rows_of(tiny_model, lengths)
    passes = Passes(engine.model, len(rows))
    for row, length in zip(rows, lengths, strict=True):
        passes.read(row, len(row.ids) - length)
    parts = [[row.index for row in part] for part in passes.shared(rows)]
    assert parts == [[1, 2, 3, 5], [0], [6], [4]]


@pytest.mark.parametrize(
    ("unread", "parts"),
    [
        ([1, 1, 1], [[0, 1, 2]]),
        ([1, 1, 40], [[2], [0, 1]]),  # 3 x 40 tokens would cost more than one pass more
        ([30, 35], [[0, 1]]),
        ([7], [[0]]),
        ([1, 5, 6, 50], [[3], [0, 1, 2]]),
        ([], []),
    ],
)
def test_rows_are_filled_up_where_that_is_cheaper(tiny_model: Path, unread: list[int], parts: list[list[int]]) -> None:
    passes = Passes(make_engine(tiny_model, attention="eager").model, max(len(unread), 1))
    rows = rows_of(tiny_model, unread)
    for row, length in zip(rows, unread, strict=True):
        row.cached = len(row.ids) - length
    assert [[row.index for row in part] for part in passes.shared(rows)] == parts


@pytest.mark.parametrize("family", ["Nemotron", "Doge"])
def test_models_that_do_as_they_like_with_arguments_and_masks(tiny_model: Path, family: str) -> None:
    """Nemotron hands no arguments on to its attention, and Doge makes a mask of its own."""
    import transformers

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": 404,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
    }
    config = getattr(transformers, f"{family}Config")(**sizes)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    lengths = [1, 9, 1, 0, 4]
    rows = rows_of(tiny_model, lengths)
    together, alone = Passes(model, len(rows)), Passes(model, len(rows))
    assert packs(model)
    wanted = []
    for row, length in zip(rows, lengths, strict=True):
        wanted.append(alone.read(row, len(row.ids)))
        row.cached = 0
        together.read(row, len(row.ids) - length)
    waiting = [row for row, length in zip(rows, lengths, strict=True) if length]
    for _ in range(2):
        for part in list(together.shared(waiting)):
            for row, logits in zip(part, together.advance(part, rows), strict=True):
                assert torch.allclose(logits, wanted[row.index], atol=1e-5)
        for row, length in zip(rows, lengths, strict=True):  # and once more, as it is done from now on
            row.cached -= length
    assert together._packs is (family == "Nemotron")


def test_packed_attention_is_that_of_each_row() -> None:
    """Grouped heads, rows between, spans of several tokens, against the definition."""
    torch.manual_seed(0)
    heads, groups, size, rows, width = 6, 2, 4, 5, 12
    cached, stops, owners = [3, 7, 11], [4, 12, 12], [0, 2, 4]
    packing = Packing(owners, cached, stops)
    total = sum(stop - start for start, stop in zip(cached, stops, strict=True))
    query = torch.randn(1, heads, total, size, dtype=torch.float64)
    key, value = (torch.randn(rows, groups, width, size, dtype=torch.float64) for _ in range(2))
    positions = torch.cat([torch.arange(start, stop) for start, stop in zip(cached, stops, strict=True)])
    visible = torch.arange(width)[None, :] <= positions[:, None]
    mask = torch.zeros(visible.shape, dtype=torch.float64).masked_fill(~visible, torch.finfo(torch.float64).min)
    module_: Any = None
    token = attention._PACKING.set(packing)
    found, _ = product_attention(module_, query, key, value, mask[None, None])
    attention._PACKING.reset(token)
    assert found.shape == (1, total, heads, size)
    assert packing.owners.tolist() == [0, 2, 2, 2, 2, 2, 4]
    assert packing.last.tolist() == [0, 5, 6]
    for place, (row, position) in enumerate(zip(packing.owners.tolist(), positions.tolist(), strict=True)):
        for head in range(heads):
            group = head // (heads // groups)
            keys, values = key[row, group, : position + 1], value[row, group, : position + 1]
            weights = torch.softmax(keys @ query[0, head, place] / size**0.5, dim=0)
            assert torch.allclose(found[0, place, head], weights @ values)
