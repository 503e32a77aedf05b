"""A policy on a transformers model in this process."""

from __future__ import annotations

from typing import Any

from kgr1.agent.policy import Generation, Grammar
from kgr1.agent.prompt import STOP_STRINGS
from kgr1.config import DEFAULT_MODEL, SamplingSettings
from kgr1.models.engine import Engine
from kgr1.models.meaning import Meaning
from kgr1.models.pretrained import policy_folder
from kgr1.models.ranker import Ranker
from kgr1.models.row import Row
from kgr1.models.tokens import encode_prompt, encode_text
from kgr1.models.verifier import Verifier
from kgr1.models.weights import load_model
from kgr1.types import FinishReason, Question


class TransformersPolicy:
    """Samples turns with an in-process engine; satisfies ``kgr1.agent.policy.Policy``."""

    def __init__(self, model: Any, tokenizer: Any, *, name: str, max_rows: int = 32, max_context: int = 4096) -> None:
        self.engine = Engine(model, tokenizer, stops=STOP_STRINGS, max_rows=max_rows, max_context=max_context)
        self.tokenizer = tokenizer
        self.ranker: Ranker | None = None
        """What the folder of the policy says about relations, if it does."""
        self.meaning = Meaning(model, tokenizer)
        """What relations mean to the model."""
        self.verifier: Verifier | None = None
        """What reads where relations lead, if there is one in the folder of the policy."""
        self._name = name

    @classmethod
    def load(
        cls, name: str = DEFAULT_MODEL, *, dtype: str = "float32", device: str = "cpu", max_rows: int = 32
    ) -> TransformersPolicy:
        """Load a model, folder or adapter by name (see ``kgr1.models.weights``)."""
        loaded = load_model(name, dtype=dtype)
        policy = cls(loaded.model.to(device), loaded.tokenizer, name=name, max_rows=max_rows)
        policy.ranker = Ranker.load(policy_folder(name), loaded.model, loaded.tokenizer)
        policy.verifier = Verifier.load(policy_folder(name), loaded.model, loaded.tokenizer)
        return policy

    @property
    def name(self) -> str:
        """Name or path of the model."""
        return self._name

    def count_tokens(self, text: str) -> int:
        """Length of ``text`` in the model's tokens."""
        return len(self.encode(text))

    def encode(self, text: str) -> list[int]:
        """Token ids of a piece of text that is appended to a context; no special tokens are added or recognised."""
        return encode_text(self.tokenizer, text)

    def encode_prompt(self, prompt: str) -> list[int]:
        """Token ids of the user message in the model's chat template, up to where the agent begins to write."""
        return encode_prompt(self.tokenizer, prompt)

    async def open(self, prompt: str, question: Question, sampling: SamplingSettings) -> TransformersSession:
        """See :class:`kgr1.agent.policy.Policy`."""
        ids = self.encode_prompt(prompt)
        return TransformersSession(self, await self.engine.open(ids, sampling))


class TransformersSession:
    """One episode in the engine."""

    def __init__(self, policy: TransformersPolicy, row: Row) -> None:
        self._policy, self._row = policy, row
        self._prompt_ids = tuple(row.ids)

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """Token ids of the prompt."""
        return self._prompt_ids

    @property
    def context_ids(self) -> tuple[int, ...]:
        """Every token id of the context so far: the prompt, sampled turns and observations."""
        return tuple(self._row.ids)

    @property
    def context_tokens(self) -> int:
        """Length of the context in tokens."""
        return len(self._row.ids)

    @property
    def room(self) -> int:
        """Tokens that still fit."""
        return self._policy.engine.max_context - len(self._row.ids)

    async def generate(self, max_new_tokens: int, grammar: Grammar | None = None) -> Generation:
        """Sample one turn."""
        request = await self._policy.engine.generate(self._row, max_new_tokens, grammar)
        finish = request.future.result()
        text_ids = request.ids[:-1] if finish is FinishReason.EOS else request.ids
        return Generation(
            text=self._policy.tokenizer.decode(text_ids),
            token_ids=tuple(request.ids),
            logprobs=tuple(request.logprobs),
            finish=finish,
            forced=request.forced,
        )

    def append(self, text: str) -> tuple[int, ...]:
        """Append an observation, tokenised on its own."""
        ids = self._policy.encode(text)
        self._row.ids.extend(ids)
        return tuple(ids)

    def close(self) -> None:
        """Give the row back."""
        self._policy.engine.close(self._row)
