"""The agent's part played by a model of which only texts are known.

A server takes and gives texts, so the token ids of such an episode are unknown: it can be evaluated, shown and
replayed, but not trained on. An observation is a message of the user by default, which every chat model understands.
With ``continue_reply`` thoughts, queries and observations are one growing reply of the assistant, as in training; a
policy that was trained by kgr1 needs that, and the server must be able to continue a reply (vLLM and SGLang are).
"""

from __future__ import annotations

from kgr1.agent.policy import Generation, Grammar
from kgr1.agent.prompt import STOP_STRINGS
from kgr1.config import SamplingSettings
from kgr1.errors import ModelError
from kgr1.models.client import Message, ModelClient, Request
from kgr1.types import FinishReason, Question


class ChatPolicy:
    """A :class:`kgr1.agent.policy.Policy` on any model client."""

    def __init__(self, client: ModelClient, *, continue_reply: bool = False) -> None:
        self.client = client
        self.continue_reply = continue_reply

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.client.name

    def count_tokens(self, text: str) -> int:
        """Length of ``text`` as the client counts it."""
        return self.client.count_tokens(text)

    async def open(self, prompt: str, question: Question, sampling: SamplingSettings) -> ChatSession:
        """See :class:`kgr1.agent.policy.Policy`."""
        return ChatSession(self, prompt, sampling)


class ChatSession:
    """The chat of one episode; lengths are estimates until the server has counted."""

    def __init__(self, policy: ChatPolicy, prompt: str, sampling: SamplingSettings) -> None:
        self._policy, self._sampling = policy, sampling
        self._messages = [Message(role="user", content=prompt)]
        self._context = policy.count_tokens(prompt)
        self._turns = 0

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """Unknown."""
        return ()

    @property
    def context_tokens(self) -> int:
        """Length of the context so far."""
        return self._context

    @property
    def room(self) -> int:
        """Tokens that still fit."""
        return self._policy.client.max_context - self._context

    async def generate(self, max_new_tokens: int, grammar: Grammar | None = None) -> Generation:
        """Sample one turn; raises :class:`ModelError` for a grammar, which no common interface of servers takes."""
        if grammar is not None:
            raise ModelError("Only a model in this process can be guided; set agent.guided=false.")
        request = Request(
            messages=tuple(self._messages),
            max_new_tokens=max_new_tokens,
            temperature=self._sampling.temperature,
            top_p=self._sampling.top_p,
            seed=self._sampling.seed + self._turns,
            stop=STOP_STRINGS,
            continue_last=self._messages[-1].role == "assistant",
        )
        (reply,) = await self._policy.client.generate([request])
        self._turns += 1
        text, finish = with_stop(reply.text, reply.finishes[0])
        self._add("assistant", text)
        self._context = reply.prompt_tokens + reply.generated_tokens
        return Generation(text=text, finish=finish, counted=(reply.prompt_tokens, reply.generated_tokens))

    def append(self, text: str) -> tuple[int, ...]:
        """Add an observation."""
        self._add("assistant" if self._policy.continue_reply else "user", text)
        self._context += self._policy.count_tokens(text)
        return ()

    def close(self) -> None:
        """Nothing is held."""

    def _add(self, role: str, text: str) -> None:
        last = self._messages[-1]
        if role == last.role:
            self._messages[-1] = last.model_copy(update={"content": last.content + text})
        elif role == "assistant":
            self._messages.append(Message(role="assistant", content=text))
        else:
            self._messages.append(Message(role="user", content=text.strip()))


def with_stop(text: str, finish: FinishReason) -> tuple[str, FinishReason]:
    """The text of a turn with the closing tag that most servers leave out when it stopped them, and how it ended.

    Servers do not say which of their two kinds of stop it was, so an action that was opened last and not closed tells.

    >>> with_stop("<think>I know.</think><answer>[\\"Rome\\"]", FinishReason.EOS)[0]
    '<think>I know.</think><answer>["Rome"]</answer>'
    """
    if finish is FinishReason.LENGTH:
        return text, finish
    if text.endswith(STOP_STRINGS):
        return text, FinishReason.STOP
    opened = max(STOP_STRINGS, key=lambda stop: text.rfind(stop.replace("</", "<")))
    start = text.rfind(opened.replace("</", "<"))
    if start < 0 or opened in text[start:]:
        return text, finish
    return text + opened, FinishReason.STOP
