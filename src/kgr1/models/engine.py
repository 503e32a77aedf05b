"""Batched sampling with the cache of every episode kept across turns (token in, token out).

The engine advances all episodes that wait for a turn by one token per step. When an episode's turn ends, its caller
goes on at once (asks the graph, appends the result) and joins the next step again; other episodes do not wait for it.
What begins as a live episode does, as all episodes of a GRPO group do up to where they part, copies its cache
instead of computing it: prompts, and observations after turns that are alike.

Each episode draws its random numbers from a generator of its own, so a result depends on its seed and not on which
other episodes happened to be in the batch (up to floating-point rounding of the batched matrix products).

Shapes: n live rows, V vocabulary, W width of the cache in use.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from kgr1.agent.policy import Grammar
from kgr1.config import SamplingSettings
from kgr1.errors import ModelError
from kgr1.models.choice import contenders, continuation_scores, forced_tokens, token_logprobs, with_expected
from kgr1.models.draw import draw
from kgr1.models.guide import Guide, Guides
from kgr1.models.kv_cache import context_limit
from kgr1.models.passes import PASS_TOKENS, Passes
from kgr1.models.row import Request, Row
from kgr1.models.stops import StopStrings
from kgr1.types import FinishReason


class Engine:
    """In-process sampling of many episodes at once on one transformers model."""

    def __init__(self, model: Any, tokenizer: Any, *, stops: Sequence[str], max_rows: int, max_context: int) -> None:
        self.model = model.eval()
        model.get_output_embeddings().register_forward_pre_hook(_own_memory)
        self.tokenizer = tokenizer
        self.max_context = min(max_context, context_limit(model.config))
        self._passes = Passes(model, max_rows)
        self.device = self._passes.device
        self._rows: list[Row] = []
        self._max_rows = max_rows
        self._default_stops = tuple(stops)
        self._stops: dict[tuple[str, ...], StopStrings] = {}  # making one looks at the whole vocabulary
        self.end_ids = _eos_ids(model, tokenizer)
        self._places: asyncio.Semaphore | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._guides: Guides | None = None
        self._driver: asyncio.Task[None] | None = None

    async def open(self, ids: Sequence[int], sampling: SamplingSettings, stops: Sequence[str] | None = None) -> Row:
        """Take a row for a context that starts with ``ids``; waits while all rows are taken.

        A turn of the row ends with one of ``stops``; None stands for those of the engine.
        """
        if not ids or len(ids) >= self.max_context:
            raise ModelError(f"The prompt has {len(ids)} tokens; the context holds {self.max_context}.")
        self._attach_loop()
        assert self._places is not None
        await self._places.acquire()
        row = Row(
            ids=list(ids),
            sampling=sampling,
            random=np.random.Generator(np.random.PCG64(sampling.seed % (1 << 64))),
            index=len(self._rows),
            prompt_length=len(ids),
            stops=self._stops_of(self._default_stops if stops is None else tuple(stops)),
        )
        self._rows.append(row)
        return row

    async def generate(self, row: Row, max_new_tokens: int, grammar: Grammar | None = None) -> Request:
        """Sample one turn for a row; the sampled ids are appended to its context.

        With a ``grammar`` tokens that it does not allow have no probability, and ``max_new_tokens`` are those that it
        leaves a choice about: a long name is written to its end.
        """
        assert row.request is None, "one turn at a time per episode"
        space = self.max_context - len(row.ids)
        if space <= 0:
            raise ModelError(f"The context of {self.max_context} tokens is full.")
        request = Request(asyncio.get_running_loop().create_future(), min(max_new_tokens, space), space)
        if grammar is not None:
            request.guide = self._guide(grammar)
        row.request = request
        if self._driver is None or self._driver.done():
            self._driver = asyncio.create_task(self._drive())
        await request.future
        return request

    def close(self, row: Row) -> None:
        """Give a row back; the last row moves into the hole."""
        if row.index < 0:
            return
        if row.request is not None and not row.request.future.done():
            row.request.future.cancel()
        last = self._rows.pop()
        if last is not row:
            self._passes.cache.copy(last.index, row.index, last.cached)
            self._rows[row.index] = last
            last.index = row.index
        row.index = -1
        if self._places is not None:
            self._places.release()

    def _guide(self, grammar: Grammar) -> Guide:
        if self._guides is None:
            self._guides = Guides(self.tokenizer, self.model.config.get_text_config().vocab_size)
        return self._guides.start(grammar)

    def _attach_loop(self) -> None:
        # A caller may use asyncio.run several times; asyncio primitives belong to one loop.
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._driver = loop, None
            self._places = asyncio.Semaphore(self._max_rows)
            self._rows.clear()

    async def _drive(self) -> None:
        """Advance all waiting rows until none is left; a failure is handed to every waiting episode."""
        try:
            while any(row.request is not None for row in self._rows):
                with torch.no_grad():
                    self._step()
                await asyncio.sleep(0)
        except Exception as error:  # whatever it is, an episode that is not told would wait for ever
            for row in self._rows:
                if row.request is not None and not row.request.future.done():
                    row.request.future.set_exception(ModelError(f"The model failed while sampling: {error}"))
                    row.request = None

    def _step(self) -> None:
        """One sampled token for every waiting row, after all that it has not read; most rows share one pass."""
        for row in self._rows:
            self._go_on(row)
        waiting = [row for row in self._rows if row.request is not None]
        started = [row for row in waiting if row.cached >= row.prompt_length]
        for row in waiting:
            if row.cached < row.prompt_length:
                self._accept([row], self._prefill(row)[None])
        for row in started:
            self._share(row)
        for together in self._passes.shared(started):
            self._accept(together, self._passes.advance(together, self._rows))

    def _prefill(self, row: Row) -> torch.Tensor:
        """Read all unread tokens of one row; returns the logits (V,) after the last."""
        if row.cached == 0:
            shared = self._share_prompt(row)
            if shared is not None:
                return shared
        self._borrow(row, len(row.ids) - 1)
        return self._passes.read(row, len(row.ids))

    def _share_prompt(self, row: Row) -> torch.Tensor | None:
        """Copy the longest prompt beginning that a live row has cached; the logits too if it is the whole prompt."""
        best, donor = 0, None
        for other in self._rows:
            if other is row or other.cached < other.prompt_length:
                continue
            shared = _common_prefix(row.ids, other.ids[: other.prompt_length])
            if shared > best:
                best, donor = shared, other
        if donor is None:
            return None
        whole = best == len(row.ids) == donor.prompt_length and donor.prompt_logits is not None
        row.cached = best if whole else min(best, len(row.ids) - 1)
        self._passes.cache.copy(donor.index, row.index, row.cached)
        if whole:
            row.prompt_logits = donor.prompt_logits
            return row.prompt_logits
        return None

    def _share(self, row: Row) -> None:
        """Read all but the last token of a row from the cache of a row that reads alike, or for those that do."""
        stop = len(row.ids) - 1
        if row.cached >= stop:
            return
        self._borrow(row, stop)
        text = row.ids[:stop]
        alike = sum(
            other.request is not None and other.cached < stop and other.ids[:stop] == text for other in self._rows
        )
        if (alike - 1) * (stop - row.cached) > PASS_TOKENS:
            self._passes.read(row, stop)

    def _borrow(self, row: Row, stop: int) -> None:
        """Copy what another row has read of the tokens before ``stop``, and go on from there."""
        best, donor = row.cached, None
        for other in self._rows:
            read = min(other.cached, stop)
            if other is not row and read > best and other.ids[best] == row.ids[best]:
                shared = min(_common_prefix(row.ids, other.ids), read)
                if shared > best:
                    best, donor = shared, other
        if donor is not None:
            self._passes.cache.copy(donor.index, row.index, best, start=row.cached)
            row.cached = best

    def _accept(self, rows: list[Row], logits: torch.Tensor) -> None:
        """Draw a token for each row from ``logits`` (len(rows), V) and end the turns that are complete."""
        ids, logprobs = draw(_guided(rows, logits), [row.sampling for row in rows], [row.random for row in rows])
        _check(logprobs)
        for row, token, logprob in zip(rows, ids, logprobs, strict=True):
            self._append(row, token, logprob)
            self._settle(row)

    def _append(self, row: Row, token: int, logprob: float, *, forced: bool = False) -> None:
        """Go on with ``token``."""
        request = row.request
        assert request is not None
        row.ids.append(token)
        request.ids.append(token)
        request.logprobs.append(logprob)
        request.forced += forced
        if request.guide is not None:
            request.guide.accept(request.ids, request.room, request.space - len(request.ids))

    def _settle(self, row: Row) -> None:
        """End the turn if it is complete."""
        request = row.request
        assert request is not None
        finish = self._finish(row, request)
        if finish is not None:
            row.request = None
            if not request.future.done():
                request.future.set_result(finish)

    def _go_on(self, row: Row) -> None:
        """Write what a guide leaves no choice about, unread for now, and what is chosen as a whole."""
        while (request := row.request) is not None and request.guide is not None:
            if request.guide.choices:
                self._choose(row, request.guide.choices, request.guide.expected)
                continue
            forced = request.guide.forced()
            if not forced:
                return
            for token in forced:
                self._append(row, token, 0.0, forced=True)
                self._settle(row)
                if row.request is None or request.guide.choices:
                    break

    def _choose(self, row: Row, choices: Sequence[Sequence[int]], expected: Sequence[float | None]) -> None:
        """Draw one of some continuations by the probability of the whole, and go on with all its tokens."""
        places = contenders(expected, len(choices))
        mine = torch.full((len(choices),), -torch.inf, device=self.device)
        mine[places] = self._weigh(row, [choices[place] for place in places])
        scores = with_expected(mine, expected)
        (chosen,), drawn = draw(scores[None], [row.sampling], [row.random])
        _check(drawn)
        tempered = scores.cpu() / (row.sampling.temperature or 1.0)
        logprobs = token_logprobs(tempered, choices, chosen)
        known = forced_tokens(choices, chosen)
        for token, logprob, forced in zip(choices[chosen], logprobs, known, strict=True):
            self._append(row, token, logprob, forced=forced)
        self._settle(row)

    def _weigh(self, row: Row, choices: Sequence[Sequence[int]]) -> torch.Tensor:
        """Log-probabilities (n,) of n choices; those of a row in the same place are taken over.

        A single choice has nothing to be weighed against.
        """
        if len(choices) == 1:
            return torch.zeros(1, device=self.device)
        wanted = [list(choice) for choice in choices]
        for other in self._rows:
            if other.weighed is not None and other.weighed[:2] == (row.ids, wanted):
                return other.weighed[2]
        stop = len(row.ids) - 1
        if row.cached < stop:  # read once, instead of once for every choice
            self._borrow(row, stop)
        if row.cached < stop:
            self._passes.read(row, stop)
        scores = continuation_scores(
            self.model, self._passes.cache, row.index, row.cached, row.ids[row.cached :], choices
        )
        row.weighed = list(row.ids), wanted, scores
        return scores

    def _stops_of(self, stops: tuple[str, ...]) -> StopStrings:
        if stops not in self._stops:
            self._stops[stops] = StopStrings(self.tokenizer, stops)
        return self._stops[stops]

    def _finish(self, row: Row, request: Request) -> FinishReason | None:
        if request.ids[-1] in self.end_ids:
            return FinishReason.EOS
        if row.stops.complete(request.ids):
            return FinishReason.STOP
        going_on = request.guide is not None and request.guide.going_on and len(request.ids) < request.space
        return FinishReason.LENGTH if request.room <= 0 and not going_on else None


def _check(logprobs: Sequence[float]) -> None:
    if not all(map(math.isfinite, logprobs)):
        raise ArithmeticError("its output is not a number; its weights are damaged, or training has diverged")


def _guided(rows: Sequence[Row], logits: torch.Tensor) -> torch.Tensor:
    """``logits`` (len(rows), V) without the tokens that the grammar of a row does not allow."""
    guides = [None if row.request is None else row.request.guide for row in rows]
    if not any(guides):
        return logits
    logits = logits.clone()  # those of a prompt are kept for other rows
    for place, guide in enumerate(guides):
        if guide is not None:
            logits[place].masked_fill_(guide.forbidden().to(logits.device), -torch.inf)
    return logits


def _common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    length = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        length += 1
    return length


def _own_memory(head: Any, arguments: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    """The hidden states as a tensor of its own.

    A slice of the last positions has the strides of the whole; multiplying it, torch 2.13 copies the matrix of the
    vocabulary first when no gradient is asked for (``matmul`` does not fold it), which takes longer than all else.
    """
    return (arguments[0].clone(memory_format=torch.contiguous_format),)


def _eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(int(i) for i in (*ids, tokenizer.eos_token_id) if i is not None)
