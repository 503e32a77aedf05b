"""Choosing one of several continuations by the probability of the whole, as a guided turn does with relations.

Greedy decoding takes the most probable first token. Where many names begin alike, as all of ``people.person`` do, their
common beginning can win although another name, as a whole, is the most probable one.

The continuations go through the model as one tree, in which every beginning that several of them share is one.

Shapes: n continuations, N places of the tree, K of them that predict something, C tokens in the cache, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch

from kgr1.models.attention import masked_forward
from kgr1.models.kv_cache import RowCache
from kgr1.models.tree import TokenTree, build_tree

HOPELESS = 20.0
"""Logits by which less can be expected of a choice than of the best one, and the model's own opinion still counts."""

POSITIONS = 512
"""Most predictions of one forward pass: their logits take V x 4 bytes each, some 100 MB together."""


def continuation_scores(
    model: Any, cache: RowCache, row: int, cached: int, unread: Sequence[int], choices: Sequence[Sequence[int]]
) -> torch.Tensor:
    """Log-probability (n,) of each of ``choices``, token ids after ``unread``, after ``cached`` tokens of a row.

    ``unread`` and every choice have at least one token. The cache stays as it is.
    """
    scores = torch.empty(len(choices), dtype=torch.float32, device=cache.keys.device)
    for part in _parts(choices):
        scores[part] = _scores(model, cache, row, cached, unread, [choices[index] for index in part])
    return scores


def _parts(choices: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Indices of ``choices``, neighbours in alphabetical order, that make at most POSITIONS predictions together.

    A choice of more tokens than that is on its own.
    """
    part: list[int] = []
    size = 0
    for index in sorted(range(len(choices)), key=lambda index: tuple(choices[index])):
        # Every beginning but the whole choice predicts a token. Those that are known are known from the neighbour.
        more = len(choices[index]) - (_shared(choices[part[-1]], choices[index]) if part else 0)
        if part and size + more > POSITIONS:
            yield part
            part, size, more = [], 0, len(choices[index])
        part.append(index)
        size += more
    if part:
        yield part


def _shared(left: Sequence[int], right: Sequence[int]) -> int:
    """How many beginnings two choices have in common, the empty one included and whole choices not."""
    return min(_common(left, right) + 1, len(left), len(right))


def _scores(
    model: Any, cache: RowCache, row: int, cached: int, unread: Sequence[int], choices: Sequence[Sequence[int]]
) -> torch.Tensor:
    """Log-probability (n,) of each of ``choices`` in one forward pass."""
    device = cache.keys.device
    # The last token of a continuation predicts nothing, unless another one goes on from it.
    tree = build_tree([[*unread, *choice[:-1]] for choice in choices])
    first = len(unread) - 1  # what is unread comes first, and its last token predicts, as do all that follow
    positions = torch.tensor(tree.positions) + cached
    visible = torch.cat([torch.ones(len(tree.ids), cached, dtype=torch.bool), tree_mask(tree)], dim=1)
    output = masked_forward(
        model,
        visible[None, None].to(device),
        torch.cat([torch.arange(cached), positions]).to(device),
        input_ids=torch.tensor([tree.ids], device=device),
        position_ids=positions[None].to(device),
        past_key_values=cache.branch(row, cached),
        use_cache=True,
        logits_to_keep=len(tree.ids) - first,
    )
    logprobs = torch.log_softmax(output.logits[0, first - len(tree.ids) :].float(), dim=-1)  # (K, V)
    places = [place - first for way in tree.places for place in way[first:]]
    tokens = [token for choice in choices for token in choice]
    chosen = logprobs[torch.tensor(places, device=device), torch.tensor(tokens, device=device)]
    return torch.stack([part.sum() for part in torch.split(chosen, [len(choice) for choice in choices])])


def tree_mask(tree: TokenTree) -> torch.Tensor:
    """(N, N), True where the token of a column stands before that of the row in a sequence, or is that token."""
    visible = torch.zeros(len(tree.ids), len(tree.ids), dtype=torch.bool)
    for node in tree.nodes:
        for seen in (*(tree.nodes[index] for index in node.above), node):
            visible[node.start : node.stop, seen.start : seen.stop] = True
    return visible.tril()


def token_logprobs(scores: torch.Tensor, choices: Sequence[Sequence[int]], chosen: int) -> list[float]:
    """Log-probability of each token of ``choices[chosen]``, given that one of the choices (``scores``, (n,)) is made.

    Their sum is that of the whole choice.
    """
    masses = [torch.logsumexp(scores[alive], dim=0) for alive in _alive(choices, chosen)]
    return [min(float(after - before), 0.0) for before, after in pairwise(masses)]


def forced_tokens(choices: Sequence[Sequence[int]], chosen: int) -> list[bool]:
    """True for each token of ``choices[chosen]`` with which all choices that begin alike up to there go on."""
    counts = _alive(choices, chosen).sum(dim=1).tolist()
    return [before == after for before, after in pairwise(counts)]


def _alive(choices: Sequence[Sequence[int]], chosen: int) -> torch.Tensor:
    """(T + 1, n), True where a choice begins with the first t of the T tokens of the chosen one."""
    ids = choices[chosen]
    alike = torch.tensor([_common(ids, other) for other in choices])
    return alike >= torch.arange(len(ids) + 1)[:, None]


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two choices begin with alike."""
    length = min(len(left), len(right))
    return next((place for place in range(length) if left[place] != right[place]), length)


def contenders(expected: Sequence[float | None], count: int) -> list[int]:
    """Places of those of ``count`` choices that the model is worth asking about, in order.

    ``expected`` is as in :func:`with_expected`. The model would have to be surer by :data:`HOPELESS` logits of the
    others, and reading a long list of names takes most of the time of a turn. With choices of which nothing is expected
    all are, since these are weighed against what the others have together.
    """
    known = [value for value in expected if value is not None]
    if len(known) < count:
        return list(range(count))
    least = max(known) - HOPELESS
    return [place for place, value in enumerate(known) if value >= least]


def with_expected(scores: torch.Tensor, expected: Sequence[float | None]) -> torch.Tensor:
    """Log-probabilities (n,) of choices, those that something is expected of shared out anew among themselves.

    ``expected`` are logits to be added, or None for choices that keep theirs; empty changes nothing. What the choices
    with an expectation have together stays as it is: only the model says whether one of them comes at all.
    """
    places = torch.tensor([place for place, value in enumerate(expected) if value is not None], device=scores.device)
    if len(places) < 2:
        return scores
    added = scores.new_tensor([value for value in expected if value is not None])
    mine = scores[places] + added
    result = scores.clone()
    result[places] = mine + (torch.logsumexp(scores[places], dim=0) - torch.logsumexp(mine, dim=0))
    return result
