"""Asking a language model for text: one protocol for models in this process and behind HTTP.

The agent plays through :class:`kgr1.agent.policy.Policy`, which keeps its context token by token. Everything else asks
through a :class:`ModelClient`: chat messages (or a plain prompt) in; text, tokens and time out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from pydantic import Field, model_validator

from kgr1.agent.policy import Policy
from kgr1.types import FinishReason, Record


class Message(Record):
    """One message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


class Request(Record):
    """What a model is asked: ``messages`` of a chat, or a ``prompt`` that is continued without a chat template.

    ``n`` texts are sampled, the i-th (from 0) with the seed ``seed + i``. With ``beams`` above 0 they are the ``n``
    best of a beam search instead, best first. ``stop`` strings end a text and may or may not be part of it.
    ``continue_last`` goes on with the last message, which is the assistant's, instead of beginning another one.
    """

    messages: tuple[Message, ...] = ()
    prompt: str = ""
    max_new_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int = 0
    n: int = Field(default=1, ge=1)
    beams: int = Field(default=0, ge=0)
    stop: tuple[str, ...] = ()
    continue_last: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> Request:
        if bool(self.messages) == bool(self.prompt):
            raise ValueError("a request has either messages or a prompt")
        if self.continue_last and (not self.messages or self.messages[-1].role != "assistant"):
            raise ValueError("only a message of the assistant can be continued")
        if self.beams and self.n > self.beams:
            raise ValueError("a beam search returns at most as many texts as it has beams")
        return self

    @classmethod
    def ask(cls, text: str, *, max_new_tokens: int = 256, temperature: float = 0.0, seed: int = 0) -> Request:
        """A chat of one message of the user."""
        message = Message(role="user", content=text)
        return cls(messages=(message,), max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)


class Reply(Record):
    """What a model wrote: ``n`` texts, how each ended, and what it cost.

    ``prompt_tokens`` is the length of the prompt, counted once; ``generated_tokens`` the sum over all texts.
    """

    texts: tuple[str, ...]
    finishes: tuple[FinishReason, ...]
    prompt_tokens: int
    generated_tokens: int
    seconds: float = 0.0

    @property
    def text(self) -> str:
        """The first text."""
        return self.texts[0]


class ModelClient(Protocol):
    """A language model that answers requests.

    ``generate`` raises :class:`kgr1.errors.ModelError` if the model fails, or cannot do what a request asks for.
    """

    @property
    def name(self) -> str:
        """For the record in each episode."""
        ...

    @property
    def max_context(self) -> int:
        """Tokens that prompt and reply may have together."""
        ...

    @property
    def has_beams(self) -> bool:
        """Whether requests may ask for a beam search."""
        ...

    def count_tokens(self, text: str) -> int:
        """Length of ``text`` in tokens, as exactly as the client knows."""
        ...

    async def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """Answer a batch of requests, all at once; one reply each, in their order."""
        ...

    def policy(self) -> Policy:
        """The same model in the part of the agent."""
        ...
