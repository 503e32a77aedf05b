"""What decides the next turn: the protocol that every model client satisfies, and policies that need no model.

A policy opens one :class:`Session` per episode. A session owns the context of its episode: what was sampled and what
was appended is never decoded and encoded again (token in, token out).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from kgr1.agent.prompt import format_turn
from kgr1.config import SamplingSettings
from kgr1.types import Answer, FinishReason, Query, Question


class Grammar(Protocol):
    """What a text may be; see :class:`kgr1.agent.grammar.TurnGrammar`."""

    def lark(self) -> str:
        """The grammar of the whole text."""
        ...

    def after(self, text: str, room: int) -> str | None:
        """The grammar of the whole text once it has begun with ``text``, if that allows less than before.

        ``room`` is the number of tokens that can still be chosen.
        """
        ...

    def choices(self, text: str) -> list[str]:
        """Texts of which one comes next, to be weighed as a whole, if ``text`` comes to such a place; else empty."""
        ...

    def expected(self, text: str) -> list[float | None]:
        """What else is known about the choices there: logits of those that have one. Empty if nothing is."""
        ...


@dataclass(frozen=True)
class Generation:
    """One sampled turn. ``token_ids`` and ``logprobs`` run parallel; both are empty for text-only policies.

    ``forced`` is the number of tokens that a grammar left no choice about. ``counted`` is the number of prompt tokens
    and of generated tokens, where a server reports them.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    finish: FinishReason = FinishReason.STOP
    forced: int = 0
    counted: tuple[int, int] | None = None


class Session(Protocol):
    """The context of one episode inside a policy."""

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """Token ids of the prompt; empty for text-only policies."""
        ...

    @property
    def context_tokens(self) -> int:
        """Length of the context so far, in tokens."""
        ...

    @property
    def room(self) -> int:
        """How many more tokens fit into the context."""
        ...

    async def generate(self, max_new_tokens: int, grammar: Grammar | None = None) -> Generation:
        """Sample one turn: up to the end of an action, the end of the message or ``max_new_tokens``.

        With a ``grammar`` nothing else can be sampled; a policy that cannot do that raises
        :class:`kgr1.errors.ModelError`.
        """
        ...

    def append(self, text: str) -> tuple[int, ...]:
        """Add an observation to the context, tokenised on its own; returns its ids."""
        ...

    def close(self) -> None:
        """Release what the session holds; calling it twice is fine."""
        ...


class Policy(Protocol):
    """Anything that can play the agent's part."""

    @property
    def name(self) -> str:
        """For the record in each episode."""
        ...

    def count_tokens(self, text: str) -> int:
        """Length of ``text`` in the policy's tokens; observation budgets are counted with it."""
        ...

    def open(self, prompt: str, question: Question, sampling: SamplingSettings) -> Awaitable[Session]:
        """Start an episode; waits while the policy is at its limit of concurrent episodes."""
        ...


_WORD = re.compile(r"\w+|[^\w\s]")


def count_words(text: str) -> int:
    """Token count for policies without a tokenizer: words and punctuation marks."""
    return len(_WORD.findall(text))


Script = Callable[[Question], Sequence[str]]


class ScriptedPolicy:
    """Writes given texts, one a turn; after the last one it writes nothing. For tests and replays."""

    def __init__(self, script: Script | Sequence[str], name: str = "scripted") -> None:
        self._script: Script = script if callable(script) else (lambda _question: script)
        self._name = name

    @property
    def name(self) -> str:
        """See :class:`Policy`."""
        return self._name

    def count_tokens(self, text: str) -> int:
        """See :class:`Policy`."""
        return count_words(text)

    async def open(self, prompt: str, question: Question, sampling: SamplingSettings) -> ScriptedSession:
        """See :class:`Policy`."""
        return ScriptedSession(prompt, list(self._script(question)))


class OraclePolicy(ScriptedPolicy):
    """Plays a plan of (think, action) pairs per question, such as an expert trajectory, in perfect form."""

    def __init__(self, plan: Callable[[Question], Sequence[tuple[str, Query | Answer]]], name: str = "oracle") -> None:
        super().__init__(lambda question: [format_turn(think, action) for think, action in plan(question)], name)


class ScriptedSession:
    """Session of a :class:`ScriptedPolicy`; counts words as tokens."""

    def __init__(self, prompt: str, texts: list[str]) -> None:
        self._texts = texts
        self._next = 0
        self._context = count_words(prompt)

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """See :class:`Session`."""
        return ()

    @property
    def context_tokens(self) -> int:
        """See :class:`Session`."""
        return self._context

    @property
    def room(self) -> int:
        """See :class:`Session`."""
        return 1 << 30

    async def generate(self, max_new_tokens: int, grammar: Grammar | None = None) -> Generation:
        """See :class:`Session`; a script is played as it is."""
        text = self._texts[self._next] if self._next < len(self._texts) else ""
        self._next += 1
        self._context += count_words(text)
        return Generation(text=text, finish=FinishReason.STOP if text else FinishReason.EOS)

    def append(self, text: str) -> tuple[int, ...]:
        """See :class:`Session`."""
        self._context += count_words(text)
        return ()

    def close(self) -> None:
        """See :class:`Session`."""
