"""One question played by a system: its model calls and graph calls as turns of an episode.

Every system is a function (question, graph, client, settings, seed, sample) -> Episode. Inside it drives a
:class:`Run`, which enters every call in the ledger and the trace. What the model or the graph does wrong becomes the
episode's stop reason, as it does for the agent.

In the trace a call of the model is a turn with its text, and a graph call is a turn without one. An observation keeps
the names that were shown to the model, in front, and a few of the others: hubs would make records of any size.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from kgr1.agent.evidence import find_evidence
from kgr1.agent.ledger import Ledger
from kgr1.agent.parse import valid_unicode
from kgr1.agent.retrieve import Retriever
from kgr1.config import BaselineSettings, Settings
from kgr1.errors import GraphError, ModelError
from kgr1.graph.api import KnowledgeGraph
from kgr1.models.client import Message, ModelClient, Request
from kgr1.rewards.answer import normalise
from kgr1.types import Answer, Episode, FinishReason, Observation, Query, Question, StopReason, Triple, Turn

RETRIEVE = "retrieve"
"""The step of turns that are graph calls."""

TEMPLATE_TOKENS = 32
"""Room for what a chat template adds to a prompt."""

_UNSHOWN = 20  # names of an observation that are kept though the model was not shown them


class System(Protocol):
    """What every system is. ``seed`` seeds this episode alone; ``sample`` is its index among several."""

    async def __call__(
        self,
        question: Question,
        graph: KnowledgeGraph,
        client: ModelClient,
        settings: Settings,
        *,
        seed: int,
        sample: int = 0,
    ) -> Episode:
        """Play one question; never raises for what the model or the graph did."""
        ...


class Outcome(NamedTuple):
    """How a system ended: its answers, whether they were a JSON list, and whether they came without the graph."""

    answers: tuple[str, ...] = ()
    strict: bool = False
    fallback: bool = False


class ContextFullError(Exception):
    """A prompt and its reply do not fit into the model's context."""


@dataclass
class Run:
    """The state of one running episode."""

    question: Question
    graph: KnowledgeGraph
    client: ModelClient
    settings: BaselineSettings
    seed: int
    ledger: Ledger = field(default_factory=Ledger)
    turns: list[Turn] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    _shown: set[Triple] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._retriever = Retriever(self.graph, self.ledger)

    async def ask(
        self,
        step: str,
        prompt: str,
        *,
        tokens: int,
        temperature: float = 0.0,
        n: int = 1,
        beams: int = 0,
        client: ModelClient | None = None,
    ) -> list[str]:
        """``n`` texts of the model, one turn each; a beam search is one call, whatever it returns.

        Raises :class:`kgr1.errors.ModelError`, and :class:`ContextFullError` if the prompt leaves no room.
        """
        request = self._request(prompt, tokens, temperature).model_copy(update={"n": n, "beams": beams})
        return (await self._send(step, [request], client or self.client))[0]

    async def ask_all(self, step: str, prompts: Sequence[str], *, tokens: int, temperature: float = 0.0) -> list[str]:
        """One text for each prompt, sent together; raises as :meth:`ask` does."""
        requests = [self._request(prompt, tokens, temperature, number) for number, prompt in enumerate(prompts)]
        return [texts[0] for texts in await self._send(step, requests, self.client)] if requests else []

    def _request(self, prompt: str, tokens: int, temperature: float, number: int = 0) -> Request:
        return Request(
            messages=(Message(role="user", content=valid_unicode(prompt)),),
            max_new_tokens=tokens,
            temperature=temperature,
            seed=self.seed + self.ledger.model_calls + number,
        )

    async def _send(self, step: str, requests: Sequence[Request], client: ModelClient) -> list[list[str]]:
        for request in requests:
            prompt = request.messages[0].content
            if client.count_tokens(prompt) + TEMPLATE_TOKENS + request.max_new_tokens > client.max_context:
                raise ContextFullError
            self.prompts.append(prompt)
        started = time.perf_counter()
        replies = await client.generate(requests)
        seconds = time.perf_counter() - started
        written = sum(len(reply.texts) for reply in replies)
        result: list[list[str]] = []
        for request, reply in zip(requests, replies, strict=True):
            calls = 1 if request.beams else request.n
            self.ledger.model(reply.prompt_tokens, reply.generated_tokens, calls)
            self.ledger.context_tokens = reply.prompt_tokens + reply.generated_tokens
            result.append([valid_unicode(text) for text in reply.texts])
            for text, finish in zip(result[-1], reply.finishes, strict=True):
                self.turns.append(Turn(text=text, finish=finish, step=step, generate_s=seconds / written))
        return result

    async def fetch(self, queries: Sequence[Query]) -> list[Observation]:
        """The answers of the graph, one turn each; raises :class:`kgr1.errors.GraphError` if it gives none."""
        queries = [query.model_copy(update={"graph_id": self.question.graph_id}) for query in queries]
        before = self.ledger.graph_s
        answers = await self._retriever.execute(queries)
        seconds = self.ledger.graph_s - before
        self.turns += [
            Turn(text="", step=RETRIEVE, query=query, observation=answer, graph_s=seconds / len(queries))
            for query, answer in zip(queries, answers, strict=True)
        ]
        return answers

    def show(self, triples: Iterable[Triple]) -> None:
        """Note that these facts stood in a prompt."""
        self._shown.update(triples)

    def fitting(self, prompt: str, pieces: Sequence[str], tokens: int) -> int:
        """How many of the pieces, from the first one, fit into a prompt with the rest of it, one on a line.

        The bound is ``baseline.prompt_tokens``, and the model's context less ``tokens`` of the reply.
        """
        count = self.client.count_tokens
        room = min(self.settings.prompt_tokens, self.client.max_context - tokens - TEMPLATE_TOKENS) - count(prompt)
        for number, piece in enumerate(pieces):
            room -= count(f"{piece}\n")
            if room < 0:
                return number
        return len(pieces)

    def entity_ids(self) -> dict[str, str]:
        """Identifiers of the entities that were shown, by the normal form of their names."""
        known: dict[str, str] = {}
        for turn in self.trace():
            for name, identifier in zip(turn.shown_entities, turn.shown_entity_ids, strict=True):
                known.setdefault(normalise(name), identifier)
        return known

    def trace(self) -> list[Turn]:
        """The turns, with graph calls cut down to what was shown."""
        return [self._cut(turn) if turn.step == RETRIEVE else turn for turn in self.turns]

    def _cut(self, turn: Turn) -> Turn:
        seen = turn.observation
        if seen is None or not seen.ok or not seen.query.operation.returns_entities:
            return turn
        facts = seen.triples()
        shown = [i for i in range(len(facts)) if facts[i] in self._shown]
        order = [*shown, *(i for i in range(len(facts)) if facts[i] not in self._shown)][: max(len(shown), _UNSHOWN)]
        cut = seen.model_copy(
            update={
                "names": tuple(seen.names[i] for i in order),
                "ids": tuple(seen.ids[i] for i in order),
                "times": tuple(seen.times[i] for i in order) if seen.times else (),
            }
        )
        return turn.model_copy(update={"observation": cut, "shown": len(shown)})


Steps = Callable[[Run], Awaitable[Outcome]]
"""What a system does in a run."""


async def play(
    name: str,
    steps: Steps,
    question: Question,
    graph: KnowledgeGraph,
    client: ModelClient,
    settings: Settings,
    *,
    seed: int,
    sample: int = 0,
) -> Episode:
    """Let ``steps`` play one question, and make the episode of it."""
    started = time.perf_counter()
    run = Run(question, graph, client, settings.baseline, seed)
    outcome, stop, message = Outcome(), StopReason.ANSWERED, ""
    try:
        outcome = await steps(run)
    except ModelError as error:
        stop, message = StopReason.POLICY_ERROR, str(error)
    except GraphError as error:
        stop, message = StopReason.GRAPH_ERROR, str(error)
    except ContextFullError:
        stop = StopReason.CONTEXT_FULL
    turns = run.trace()
    if stop is StopReason.ANSWERED:
        turns = _with_answer(turns, outcome)
    known = run.entity_ids()
    return Episode(
        question=question,
        turns=tuple(turns),
        stop=stop,
        answers=outcome.answers,
        answer_ids=tuple(known.get(normalise(answer)) for answer in outcome.answers),
        evidence=() if outcome.fallback else find_evidence(question.topics, outcome.answers, turns),
        prompt=valid_unicode(run.prompts[0]) if run.prompts else "",
        usage=run.ledger.usage(time.perf_counter() - started),
        system=name,
        policy=client.name,
        fallback=outcome.fallback,
        seed=seed,
        sample=sample,
        error=valid_unicode(message),
    )


def _with_answer(turns: Sequence[Turn], outcome: Outcome) -> list[Turn]:
    """The turns with the answer in the last one that a model wrote, or in a turn of its own if none did at the end."""
    answer = Answer(names=outcome.answers)
    if turns and turns[-1].step != RETRIEVE:
        last = turns[-1].model_copy(update={"answer": answer, "well_formed": outcome.strict})
        return [*turns[:-1], last]
    return [*turns, Turn(text="", finish=FinishReason.STOP, answer=answer, well_formed=outcome.strict, step="answer")]
