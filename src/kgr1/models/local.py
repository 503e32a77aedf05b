"""A model client on a transformers model in this process, with the engine that the agent samples with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from jinja2 import TemplateError

from kgr1.config import DEFAULT_MODEL, SamplingSettings
from kgr1.errors import ModelError
from kgr1.models.client import Reply, Request
from kgr1.models.transformers import TransformersPolicy
from kgr1.types import FinishReason

Text = tuple[str, FinishReason, int]
"""A text, how it ended, and its number of tokens."""


class LocalClient:
    """Satisfies :class:`kgr1.models.client.ModelClient`; requests of all callers are sampled together."""

    def __init__(self, policy: TransformersPolicy) -> None:
        self._policy = policy

    @classmethod
    def load(
        cls, name: str = DEFAULT_MODEL, *, dtype: str = "float32", device: str = "cpu", max_rows: int = 32
    ) -> LocalClient:
        """Load a model, folder or adapter by name (see ``kgr1.models.weights``)."""
        return cls(TransformersPolicy.load(name, dtype=dtype, device=device, max_rows=max_rows))

    @property
    def name(self) -> str:
        """Name or path of the model."""
        return self._policy.name

    @property
    def max_context(self) -> int:
        """Tokens that prompt and reply may have together."""
        return self._policy.engine.max_context

    @property
    def has_beams(self) -> bool:
        """Beam search is there, through ``generate`` of transformers."""
        return True

    def count_tokens(self, text: str) -> int:
        """Length of ``text`` in the model's tokens."""
        return self._policy.count_tokens(text)

    def policy(self) -> TransformersPolicy:
        """The same model, on the same engine, as the agent."""
        return self._policy

    async def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """See :class:`kgr1.models.client.ModelClient`."""
        return list(await asyncio.gather(*map(self._answer, requests)))

    async def _answer(self, request: Request) -> Reply:
        started = time.perf_counter()
        ids = self._encode(request)
        if request.beams:
            texts = self._search(ids, request)
        else:
            texts = list(await asyncio.gather(*(self._sample(ids, request, number) for number in range(request.n))))
        return Reply(
            texts=tuple(text for text, _, _ in texts),
            finishes=tuple(finish for _, finish, _ in texts),
            prompt_tokens=len(ids),
            generated_tokens=sum(tokens for _, _, tokens in texts),
            seconds=time.perf_counter() - started,
        )

    def _encode(self, request: Request) -> list[int]:
        if request.prompt:
            # Some models write nonsense unless a text begins with the token that begins texts.
            whole: list[int] = self._policy.tokenizer.encode(request.prompt, split_special_tokens=True)
            return whole
        # An empty reply has nothing to go on with, and templates drop it.
        going_on = request.continue_last and bool(request.messages[-1].content)
        lay_out = partial(
            self._policy.tokenizer.apply_chat_template,
            add_generation_prompt=not going_on,
            continue_final_message=going_on,
            return_dict=False,
        )
        messages = [message.model_dump() for message in request.messages]
        if not _takes_system(lay_out, messages):
            messages = _without_system(messages)
        try:
            ids: list[int] = lay_out(messages, tokenize=True)
        except TemplateError as error:
            raise ModelError(f"The chat template of '{self.name}' refuses these messages: {error}.") from error
        return ids

    async def _sample(self, ids: Sequence[int], request: Request, number: int) -> Text:
        sampling = SamplingSettings(temperature=request.temperature, top_p=request.top_p, seed=request.seed + number)
        engine = self._policy.engine
        row = await engine.open(ids, sampling, request.stop)
        try:
            turn = await engine.generate(row, request.max_new_tokens)
        finally:
            engine.close(row)
        finish = turn.future.result()
        text_ids = turn.ids[:-1] if finish is FinishReason.EOS else turn.ids
        return self._policy.tokenizer.decode(text_ids), finish, len(turn.ids)

    @torch.no_grad()
    def _search(self, ids: Sequence[int], request: Request) -> list[Text]:
        """The best texts of a beam search, best first; it runs alone, because its beams share one cache."""
        engine = self._policy.engine
        if len(ids) >= engine.max_context:
            raise ModelError(f"The prompt has {len(ids)} tokens; the context holds {engine.max_context}.")
        prompt = torch.tensor([list(ids)], device=engine.device)
        try:
            found = engine.model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=min(request.max_new_tokens, engine.max_context - len(ids)),
                num_beams=request.beams,
                num_return_sequences=request.n,
                do_sample=False,
                eos_token_id=sorted(engine.end_ids),
                pad_token_id=self._policy.tokenizer.pad_token_id,
            )
        except Exception as error:  # whatever it is, the caller gets to know it as a failure of the model
            raise ModelError(f"The model failed in a beam search: {error}") from error
        return [self._text(row.tolist()[len(ids) :], request.stop) for row in found]

    def _text(self, ids: list[int], stops: Sequence[str]) -> Text:
        """One beam: up to its end, or up to a stop string."""
        ends = self._policy.engine.end_ids
        length = next((position for position, token in enumerate(ids) if token in ends), None)
        text: Any = self._policy.tokenizer.decode(ids[:length])
        finish = FinishReason.LENGTH if length is None else FinishReason.EOS
        cuts = [text.find(stop) + len(stop) for stop in stops if stop in text]
        if cuts:
            text, finish = text[: min(cuts)], FinishReason.STOP
        return text, finish, len(ids) if length is None else length + 1


def _takes_system(lay_out: Callable[..., Any], messages: Sequence[dict[str, str]]) -> bool:
    """False if the template has no place for the system's message: some refuse it, others leave it out."""
    if messages[0]["role"] != "system":
        return True
    try:
        text: str = lay_out(messages, tokenize=False)
    except TemplateError:
        return False
    return messages[0]["content"].strip() in text


def _without_system(messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The system's message put before the first one of the user, which is where such models were taught to read it."""
    first, *rest = messages
    if not rest:
        return [first | {"role": "user"}]
    return [rest[0] | {"content": f"{first['content']}\n\n{rest[0]['content']}"}, *rest[1:]]
