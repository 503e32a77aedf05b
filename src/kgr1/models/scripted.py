"""A model client that says what it is told to; for tests and replays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from kgr1.agent.policy import Policy, count_words
from kgr1.errors import ModelError
from kgr1.models.chat import ChatPolicy
from kgr1.models.client import Reply, Request
from kgr1.types import FinishReason


class ScriptedClient:
    """Gives the texts of a script one after the other, or those that a function makes of each request.

    Counts words as tokens, keeps every request in ``requests``, and raises :class:`ModelError` when its script is at
    its end. A text that is an exception is raised.
    """

    def __init__(
        self,
        script: Iterable[str | Exception] | Callable[[Request], str],
        *,
        name: str = "scripted",
        max_context: int = 1 << 20,
        has_beams: bool = True,
    ) -> None:
        self._make = script if callable(script) else None
        self._texts = iter(()) if callable(script) else iter(script)
        self.requests: list[Request] = []
        self.name = name
        self.max_context = max_context
        self.has_beams = has_beams

    @property
    def prompts(self) -> list[str]:
        """What stood in the last message of every request."""
        return [request.messages[-1].content if request.messages else request.prompt for request in self.requests]

    def count_tokens(self, text: str) -> int:
        """See :class:`kgr1.models.client.ModelClient`."""
        return count_words(text)

    async def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """See :class:`kgr1.models.client.ModelClient`."""
        return [self._reply(request) for request in requests]

    def _reply(self, request: Request) -> Reply:
        self.requests.append(request)
        texts = [self._make(request) if self._make is not None else self._next() for _ in range(request.n)]
        read = request.prompt or "\n".join(message.content for message in request.messages)
        return Reply(
            texts=tuple(texts),
            finishes=(FinishReason.EOS,) * len(texts),
            prompt_tokens=count_words(read),
            generated_tokens=sum(map(count_words, texts)),
        )

    def _next(self) -> str:
        text = next(self._texts, None)
        if text is None:
            raise ModelError("The script of the model is at its end.")
        if isinstance(text, Exception):
            raise text
        return text

    def policy(self) -> Policy:
        """See :class:`kgr1.models.client.ModelClient`."""
        return ChatPolicy(self)
