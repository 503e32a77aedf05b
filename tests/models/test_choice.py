"""Continuations scored as one tree against one plain forward pass for each of them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

from engine_parts import logprobs_of, make_engine, windowed_model  # noqa: E402
from kgr1.config import SamplingSettings  # noqa: E402
from kgr1.models import choice  # noqa: E402
from kgr1.models.choice import (  # noqa: E402
    HOPELESS,
    contenders,
    continuation_scores,
    forced_tokens,
    token_logprobs,
    with_expected,
)
from kgr1.models.kv_cache import RowCache, attention_mask  # noqa: E402

VOCABULARY = 50
CONTEXT = [*range(10, 40), *range(20, 45)]
ROW, ROWS = 1, 3
KINDS = ["every head its own", "grouped heads", "one head", "all layers", "some layers"]
"""Three with 4, 2 and 1 key-value heads, and two with a window of 16 tokens in all or in some layers."""
CHOICES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=7), min_size=1, max_size=9)
FAMILY = [[1, 2, 0, 4], [1, 2], [1, 2, 0, 5], [3], [1, 2, 0], [1], [3, 1, 2, 0], [1, 2]]
"""Some go on from others, one is there twice, one stands alone."""

LONG = [[first, *range(5, 28)] for first in (1, 2, 3)]
"""Longer than the window, and the second and the third of them begin far behind in the tree."""


@cache
def tiny(kind: str, attention: str = "sdpa", dtype: str = "float64") -> Any:
    if kind.endswith("layers"):
        model = windowed_model(kind, VOCABULARY)
    else:
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads={"every head its own": 4, "grouped heads": 2, "one head": 1}[kind],
        )
        model = LlamaForCausalLM(config)
        for parameter in model.parameters():  # what it says differs clearly from token to token
            parameter.data.mul_(3.0)
    model.set_attn_implementation(attention)
    return model.to(getattr(torch, dtype)).eval()


def filled(model: Any, context: Sequence[int]) -> RowCache:
    """A cache whose row ROW has read a context; other rows, and what comes after it, hold something else."""
    store = RowCache(model.config, ROWS, next(model.parameters()).dtype, torch.device("cpu"))
    store.keys.normal_()
    store.values.normal_()
    if not context:
        return store
    positions = torch.arange(len(context))
    with torch.no_grad():
        model(
            input_ids=torch.tensor([context]),
            attention_mask=attention_mask(model, (positions[:, None] >= positions)[None, None]),
            position_ids=positions[None],
            past_key_values=store.view(ROW, 1, positions[:1], len(context)),
            use_cache=True,
        )
    return store


def scored(model: Any, store: RowCache, context: Sequence[int], unread: int, choices: Sequence[Sequence[int]]) -> Any:
    """Scores (n,) of choices after a context, of which the cache holds all but the last ``unread`` tokens."""
    stop = len(context) - unread
    with torch.no_grad():
        return continuation_scores(model, store, ROW, stop, context[stop:], choices)


def separately(model: Any, context: Sequence[int], choices: Sequence[Sequence[int]]) -> Any:
    """The same (n,) without a cache, a mask or a tree."""
    return torch.stack([logprobs_of(model, [*context, *one])[len(context) - 1 :].sum() for one in choices]).float()


def beginnings(choices: Sequence[Sequence[int]]) -> set[tuple[int, ...]]:
    """What predicts a token, the empty beginning included."""
    return {tuple(one[:length]) for one in choices for length in range(len(one))}


@contextmanager
def at_most(limit: int) -> Iterator[None]:
    """Only so many predictions in a pass."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "POSITIONS", limit)
        yield


@contextmanager
def sizes(module: Any) -> Iterator[list[int]]:
    """How many tokens each call of a module reads."""
    seen: list[int] = []

    def count(_: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        tokens = keywords["input_ids"] if "input_ids" in keywords else arguments[0]
        seen.append(tokens.shape[0] * tokens.shape[1])

    handle = module.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(
    choices=CHOICES, unread=st.integers(1, 4), length=st.integers(4, len(CONTEXT)), limit=st.sampled_from([1, 4, 99])
)
@example(choices=FAMILY, unread=1, length=len(CONTEXT), limit=99)
@example(choices=FAMILY, unread=4, length=4, limit=99)  # nothing is in the cache
@example(choices=LONG, unread=2, length=9, limit=99)
@example(choices=[[2]], unread=1, length=9, limit=1)
def test_scores_are_those_of_separate_passes(
    kind: str, attention: str, choices: list[list[int]], unread: int, length: int, limit: int
) -> None:
    model, context = tiny(kind, attention), CONTEXT[:length]
    with at_most(limit):
        scores = scored(model, filled(model, context[: length - unread]), context, unread, choices)
    assert scores.shape == (len(choices),)
    assert torch.allclose(scores, separately(model, context, choices), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_is_enough(kind: str) -> None:
    scores = scored(tiny(kind, dtype="float32"), filled(tiny(kind, dtype="float32"), CONTEXT), CONTEXT, 2, FAMILY)
    assert torch.allclose(scores, separately(tiny(kind), CONTEXT, FAMILY), rtol=1e-4, atol=1e-4)


def test_a_choice_that_goes_on_from_another_is_less_probable_by_what_follows() -> None:
    model = tiny("grouped heads")
    short, long, other = scored(model, filled(model, CONTEXT), CONTEXT, 1, [[1, 2], [1, 2, 0], [1, 3]]).tolist()
    logprobs = logprobs_of(model, [*CONTEXT, 1, 2, 0])[-3:].tolist()
    assert short == pytest.approx(sum(logprobs[:2]), rel=1e-5)
    assert long - short == pytest.approx(logprobs[2], rel=1e-5)
    assert other == pytest.approx(float(logprobs_of(model, [*CONTEXT, 1, 3])[-2:].sum()), rel=1e-5)


@settings(max_examples=50, deadline=None)
@given(choices=CHOICES, unread=st.integers(1, 3))
def test_each_distinct_token_that_predicts_something_is_read_once(choices: list[list[int]], unread: int) -> None:
    model = tiny("grouped heads")
    store = filled(model, CONTEXT)
    with sizes(model) as read, sizes(model.lm_head) as predicted:
        scored(model, store, CONTEXT, unread, choices)
    assert read == [unread - 1 + len(beginnings(choices))]
    assert predicted == [len(beginnings(choices))]


@settings(max_examples=50, deadline=None)
@given(choices=CHOICES, limit=st.integers(1, 20))
def test_no_pass_predicts_more_than_it_may(choices: list[list[int]], limit: int) -> None:
    model = tiny("grouped heads")
    store = filled(model, CONTEXT)
    whole = scored(model, store, CONTEXT, 1, choices)
    with at_most(limit), sizes(model.lm_head) as predicted:
        scores = scored(model, store, CONTEXT, 1, choices)
        parts = list(choice._parts(choices))
    assert torch.allclose(scores, whole, rtol=1e-5, atol=1e-5)
    assert sorted(index for part in parts for index in part) == list(range(len(choices)))
    texts = [[choices[index] for index in part] for part in parts]
    assert predicted == [len(beginnings(part)) for part in texts]
    assert all(count <= limit or len(part) == 1 for count, part in zip(predicted, texts, strict=True))
    assert [one for part in texts for one in part] == sorted(choices)
    # One more than that would not have fitted.
    for part, following in pairwise(texts):
        assert len(beginnings([*part, following[0]])) > limit


@pytest.mark.parametrize("limit", [1, 99])
def test_the_cache_stays_as_it_is(limit: int) -> None:
    model = tiny("grouped heads")
    store = filled(model, CONTEXT)
    keys, values = store.keys, store.values
    before = keys.clone(), values.clone()
    with at_most(limit):
        first = scored(model, store, CONTEXT, 2, FAMILY)
        assert torch.equal(scored(model, store, CONTEXT, 2, FAMILY), first)
    assert store.keys is keys
    assert store.values is values
    assert torch.equal(keys, before[0])
    assert torch.equal(values, before[1])


@pytest.mark.parametrize("kind", ["all layers", "some layers"])
def test_a_window_counts_what_stands_before_a_token_and_not_its_neighbours(kind: str) -> None:
    """More places than a window is long: of sequences that fit into it nothing is hidden, of longer ones something."""
    model, free = tiny(kind), deepcopy(tiny(kind))
    free.config.sliding_window = None
    wide = [[first, second, 7] for first in range(5) for second in range(5)]
    for context, choices, hidden in ((CONTEXT[:5], wide, False), (CONTEXT, wide, True), (CONTEXT[:5], LONG, True)):
        scores, others = (scored(one, filled(one, context), context, 1, choices) for one in (model, free))
        assert torch.allclose(scores, others, rtol=1e-6) is not hidden


class AllLogits:
    """A model that does not know ``logits_to_keep``."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.config, self.parameters = model.config, model.parameters

    def __call__(self, logits_to_keep: int, **keywords: Any) -> Any:
        return self._model(**keywords)


def test_a_model_that_predicts_everywhere_gives_the_same() -> None:
    model = tiny("grouped heads")
    store = filled(model, CONTEXT)
    expected = scored(model, store, CONTEXT, 3, FAMILY)
    assert torch.allclose(scored(AllLogits(model), store, CONTEXT, 3, FAMILY), expected, rtol=1e-6)


def test_after_a_choice_was_weighed_a_row_goes_on_as_if_nothing_had_been(tiny_model: Path) -> None:
    engine = make_engine(tiny_model)

    async def turn(weigh: bool) -> list[int]:
        row = await engine.open(engine.tokenizer.encode("Is it so?"), SamplingSettings())
        first = await engine.generate(row, 4)
        if weigh:
            engine._weigh(row, [[5, 6, 7], [5, 6, 8, 9], [7]])
        second = await engine.generate(row, 8)
        engine.close(row)
        return [*first.ids, *second.ids]

    assert asyncio.run(turn(True)) == asyncio.run(turn(False))


@given(choices=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5), min_size=2, max_size=8, unique_by=tuple))
def test_the_tokens_of_a_choice_are_as_probable_as_the_whole(choices: list[list[int]]) -> None:
    scores = torch.linspace(-3.0, -1.0, len(choices), dtype=torch.float64)
    for chosen, ids in enumerate(choices):
        logprobs = token_logprobs(scores, choices, chosen)
        assert len(logprobs) == len(ids)
        going_on = [s for s, one in zip(scores, choices, strict=True) if one[: len(ids)] == ids]
        wanted = torch.logsumexp(torch.stack(going_on), dim=0) - torch.logsumexp(scores, dim=0)
        assert sum(logprobs) == pytest.approx(float(wanted), abs=1e-9)


@given(choices=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5), min_size=2, max_size=8, unique_by=tuple))
def test_a_token_is_forced_where_no_other_choice_would_go_on_otherwise(choices: list[list[int]]) -> None:
    for chosen, ids in enumerate(choices):
        others = [
            {tuple(one[: place + 1]) for one in choices if one[:place] == ids[:place]} for place in range(len(ids))
        ]
        assert forced_tokens(choices, chosen) == [len(ways) == 1 for ways in others]


# What else is expected of choices

LOGPROB = st.floats(-30, 0)
EXPECTED = st.one_of(st.none(), st.floats(-20, 20))


@given(st.lists(st.tuples(LOGPROB, EXPECTED), min_size=1, max_size=12))
def test_what_is_expected_of_some_is_shared_out_among_them(pairs: list[tuple[float, float | None]]) -> None:
    scores = torch.tensor([score for score, _ in pairs], dtype=torch.float64)
    before = scores.clone()
    result = with_expected(scores, [value for _, value in pairs])
    assert torch.equal(scores, before)
    assert result.shape == scores.shape
    known = [place for place, (_, value) in enumerate(pairs) if value is not None]
    for place in set(range(len(pairs))) - set(known):
        assert result[place] == scores[place]
    if known:
        masses = torch.logsumexp(result[known], dim=0), torch.logsumexp(scores[known], dim=0)
        assert float(masses[0]) == pytest.approx(float(masses[1]), abs=1e-9)
    for one, other in pairwise(known):
        change = float((result[one] - result[other]) - (scores[one] - scores[other]))
        assert change == pytest.approx((pairs[one][1] or 0.0) - (pairs[other][1] or 0.0), abs=1e-9)


@given(st.lists(LOGPROB, min_size=1, max_size=6), st.integers(0, 5), st.floats(-20, 20))
def test_to_expect_something_of_one_alone_changes_nothing(values: list[float], place: int, value: float) -> None:
    scores = torch.tensor(values)
    alone = [value if index == place % len(values) else None for index in range(len(values))]
    for expected in ([], [None] * len(values), alone):
        assert torch.equal(with_expected(scores, expected), scores)


def test_odds_by_hand() -> None:
    scores = torch.tensor([0.5, 0.25, 0.25]).log()
    shares = with_expected(scores, [None, math.log(3), 0.0]).exp().tolist()
    assert shares == pytest.approx([0.5, 0.375, 0.125])


@given(st.lists(st.floats(-60, 60), min_size=1, max_size=12))
def test_what_is_expected_to_be_far_behind_is_not_weighed(expected: list[float]) -> None:
    kept = contenders(expected, len(expected))
    assert kept == sorted(set(kept))
    for place, value in enumerate(expected):
        assert (place in kept) is (value >= max(expected) - HOPELESS)


@given(st.lists(st.floats(-60, 60), max_size=6), st.integers(1, 6))
def test_all_are_weighed_where_of_some_nothing_is_expected(expected: list[float], count: int) -> None:
    assert contenders([], count) == list(range(count))
    some = [*expected, None]
    assert contenders(some, len(some)) == list(range(len(some)))


@given(st.lists(st.tuples(st.floats(-HOPELESS / 2, 0), st.floats(-60, 60)), min_size=2, max_size=12))
def test_what_is_not_weighed_would_not_have_been_chosen(pairs: list[tuple[float, float]]) -> None:
    scores = torch.tensor([score for score, _ in pairs], dtype=torch.float64)
    expected = [value for _, value in pairs]
    kept = contenders(expected, len(pairs))
    some = torch.full_like(scores, -torch.inf)
    some[kept] = scores[kept]
    everything = with_expected(scores, expected)
    assert float(everything.max()) == float(everything[kept].max())
    best = int(with_expected(some, expected).argmax())
    assert float(everything[best]) == pytest.approx(float(everything.max()), abs=1e-9)
