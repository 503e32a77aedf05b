"""The agent loop: one episode of a policy on a graph (SPEC section 3).

Every episode is a coroutine of its own. It goes on as soon as its own turn and its own answer from the graph are there;
nothing waits for the slowest episode of a batch. A policy or graph that fails ends the episode with a stop reason:
a bad rollout is data, not a crash.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from kgr1.agent.evidence import find_evidence
from kgr1.agent.found import Found, changes, find, find_for
from kgr1.agent.grammar import TurnGrammar
from kgr1.agent.ledger import Ledger
from kgr1.agent.observe import Asked, Observer, Shown
from kgr1.agent.parse import ParsedTurn, parse_turn, valid_unicode
from kgr1.agent.policy import Generation, Policy, Session
from kgr1.agent.prior import Prior, Ranked, likeliest
from kgr1.agent.prompt import build_prompt, format_information
from kgr1.agent.retrieve import Retriever
from kgr1.agent.scout import Scout
from kgr1.agent.set_grammar import SetGrammar
from kgr1.agent.thoughts import thoughts
from kgr1.config import ADDED_WEIGHTS, AgentSettings, SamplingSettings
from kgr1.errors import GraphError, ModelError
from kgr1.graph.api import KnowledgeGraph
from kgr1.graph.render import neutralise
from kgr1.rewards.answer import normalise
from kgr1.types import FOUND, Episode, Observation, Operation, Query, Question, StopReason, Turn

GOING_ON = 3
"""Turns of going on: the relations are listed, one is followed, and what it finds is the answer."""

MOST_AHEAD = 50
"""Relations of what was found, in each direction, that are looked at: about as many as a list of them shows."""

SURELY = 20.0
"""A logit that leaves no doubt."""

MIN_ROOM = 8
"""Tokens that must fit for another turn to be worth sampling."""


async def run_episode(
    question: Question,
    graph: KnowledgeGraph,
    policy: Policy,
    *,
    agent: AgentSettings,
    sampling: SamplingSettings,
    sample: int = 0,
) -> Episode:
    """Let ``policy`` answer one question on ``graph``; never raises for what the model or the graph did.

    ``sampling.seed`` seeds this episode alone: the caller derives one seed per episode.
    """
    started = time.perf_counter()
    loop = _Loop(question, graph, policy, agent, prompt=build_prompt(question, agent))
    try:
        session = await policy.open(loop.prompt, question, sampling)
    except ModelError as error:
        return loop.finish(StopReason.POLICY_ERROR, None, sampling, sample, started, str(error))
    try:
        stop, message = await loop.run(session)
    finally:
        session.close()
    return loop.finish(stop, session, sampling, sample, started, message)


async def run_episodes(
    questions: Sequence[Question],
    graph: KnowledgeGraph,
    policy: Policy,
    *,
    agent: AgentSettings,
    sampling: Sequence[SamplingSettings],
    samples: Sequence[int],
) -> list[Episode]:
    """Run one episode per entry of the three parallel sequences, concurrently; results in the same order."""
    jobs = zip(questions, sampling, samples, strict=True)
    return await asyncio.gather(*(run_episode(q, graph, policy, agent=agent, sampling=s, sample=n) for q, s, n in jobs))


@dataclass
class _Loop:
    """The state of one running episode."""

    question: Question
    graph: KnowledgeGraph
    policy: Policy
    agent: AgentSettings
    prompt: str
    turns: list[Turn] = field(default_factory=list)
    ids: dict[str, str] = field(default_factory=dict)  # of the entities shown, by name
    alike: dict[str, str] = field(default_factory=dict)  # the same by normalised name
    names: list[str] = field(default_factory=list)  # entity names shown so far, and the topics
    answers: tuple[str, ...] = ()
    onward: float = 0.0  # a logit for going on from what was found in the last turn
    expected: list[float | None] | None = None  # what is expected of the queries of the next turn
    ledger: Ledger = field(default_factory=Ledger)
    observer: Observer = field(init=False)
    scout: Scout = field(init=False)

    def __post_init__(self) -> None:
        self.observer = Observer(self.question, self.graph, self.agent, self.policy.count_tokens, self.ledger)
        self.scout = Scout(self.question, Retriever(self.graph, self.ledger), self.agent)

    async def run(self, session: Session) -> tuple[StopReason, str]:
        self.names.extend(self.question.topics)
        try:
            if self.agent.connection_weight and self.agent.guided and self.agent.sets and self._prior() is not None:
                await self.scout.begin()
        except GraphError as error:
            return StopReason.GRAPH_ERROR, str(error)
        except ModelError as error:
            return StopReason.POLICY_ERROR, str(error)
        for index in range(self.agent.max_turns):
            room = min(self.agent.max_new_tokens, session.room)
            if room < MIN_ROOM:
                return StopReason.CONTEXT_FULL, ""
            started = time.perf_counter()
            before = session.context_tokens
            try:
                generation = await session.generate(room, self._grammar())
            except ModelError as error:
                return StopReason.POLICY_ERROR, str(error)
            seconds = time.perf_counter() - started
            written = len(generation.token_ids) or session.context_tokens - before
            read, written = generation.counted or (before, written)
            self.ledger.model(read, written - generation.forced, forced_tokens=generation.forced)
            parsed = parse_turn(generation.text, self.names, self.question.graph_id, page_size=self.agent.page_size)
            if parsed.answer is not None:
                self.turns.append(_turn(generation, parsed, seconds))
                self.answers = self._answered(parsed.answer.names)
                return StopReason.ANSWERED, ""
            try:
                await self._observe(generation, parsed, seconds, session, last=index + 1 == self.agent.max_turns)
            except GraphError as error:
                self.turns.append(_turn(generation, parsed, seconds))
                return StopReason.GRAPH_ERROR, str(error)
            try:
                await self.scout.look_around(self.turns)
                await self._look_ahead(left=self.agent.max_turns - index - 1)
            except GraphError as error:  # the turn itself is over
                return StopReason.GRAPH_ERROR, str(error)
        return StopReason.MAX_TURNS, ""

    def _grammar(self) -> TurnGrammar | SetGrammar | None:
        if not self.agent.guided:
            return None
        if not self.agent.sets:
            return TurnGrammar(self.question.topics, self.turns, self.agent)
        said = thoughts(self.agent.sentences, self.question, self.turns)
        if self.onward:
            onward = thoughts(dict.fromkeys(self.agent.onward, 0.0), self.question, self.turns)
            said = {thought: logit + self.onward * (thought in onward) for thought, logit in said.items()}
        return SetGrammar(self.question.topics, self.turns, self.agent, self._prior(), said, self.expected)

    def _prior(self) -> Prior | None:
        """What others than the policy expect; policies that can have none, such as scripts, are never asked for it."""
        agent = self.agent
        if not any(getattr(agent, name) for name in ADDED_WEIGHTS) or not isinstance(self.policy, Ranked):
            return None
        if agent.ranker_weight and self.policy.ranker is None:
            raise ModelError(
                f"agent.ranker_weight is {agent.ranker_weight:g}, but '{self.policy.name}' has no ranker; "
                "make one with 'kgr1 ranker', or set agent.ranker_weight=0."
            )
        if (agent.verifier_weight or agent.verifier_onward) and self.policy.verifier is None:
            raise ModelError(
                f"'{self.policy.name}' has no verifier, which agent.verifier_weight and agent.verifier_onward ask for; "
                "make one with 'kgr1 verifier', or set agent.verifier_weight=0 and agent.verifier_onward=0."
            )
        return Prior(
            self.policy.ranker,
            agent.ranker_weight,
            self.question,
            agent.ranker_floor,
            self.policy.meaning,
            agent.meaning_weight,
            agent.ahead_weight,
            self.scout.connection,
            agent.connection_weight,
            self.policy.verifier,
            agent.verifier_weight,
            agent.verifier_onward,
        )

    def _answered(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The names of an answer as the graph has them, all that was found in the place of ``*``."""
        shown = {text: name for name in self.names if (text := neutralise(name)) != name}
        names = tuple(shown.get(name, name) for name in names)
        if not self.agent.sets or FOUND not in names:
            return names
        found = self.scout.answers(self.turns)
        unique: dict[str, str] = {}
        for name in names:
            for each in found if name == FOUND else (name,):
                unique.setdefault(normalise(each), each)
        return tuple(unique.values())

    async def _observe(
        self, generation: Generation, parsed: ParsedTurn, seconds: float, session: Session, *, last: bool
    ) -> None:
        """Execute the turn's query and show its result; after the last turn nobody would read it, so it is not shown.

        The query of the last turn is still executed, since whether it was valid is part of its reward.
        """
        before = self.ledger.graph_s
        asked: Asked | None = None
        seen = Shown("", 0)
        if parsed.query is not None:
            found = find_for(parsed.query, self.question.topics, self.turns) if self.agent.sets else Found()
            asked = await self.observer.ask(parsed.query, found)
        turn = _turn(generation, parsed, seconds)
        if not last and asked is None:
            seen = Shown(f"{parsed.error}: {parsed.message}", 0)
        elif not last and asked is not None:
            budget = min(self.agent.observation_tokens, max(16, session.room - self.agent.max_new_tokens))
            whole = _whole(turn, asked)
            links = await self.scout.links([*self.turns, whole]) if self.agent.sets and changes(whole) else []
            common = self._common(turn, asked, links)
            seen = await self.observer.show(asked, budget, common=common, links=links)
        ids = session.append(format_information(seen.text)) if not last else ()
        turn = turn.model_copy(
            update={
                "observation": None if asked is None else asked.observation,
                "shown": seen.shown,
                "expanded": seen.expanded,
                "linked": seen.linked,
                "information": seen.text,
                "information_ids": ids,
                "graph_s": self.ledger.graph_s - before,
            }
        )
        self.turns.append(turn)
        for name, entity in zip(turn.shown_entities, turn.shown_entity_ids, strict=True):
            self.ids.setdefault(name, entity)
            self.alike.setdefault(normalise(name), entity)
            self.names.append(name)

    async def _look_ahead(self, left: int) -> None:
        """Find out what the next turn is to be chosen with: whether to go on, or where the relations listed lead."""
        self.onward, self.expected = 0.0, None
        prior = self._prior() if self.agent.guided and self.agent.sets and left else None
        if prior is None or self.turns[-1].query is None:
            return
        if changes(self.turns[-1]):
            if self.agent.onward and self.agent.sentences and left >= GOING_ON:
                self.onward = await self._onward(prior)
            return
        grammar = self._grammar() if prior.verifies else None
        if isinstance(grammar, SetGrammar):
            expected = prior.of(grammar.steps, self.turns)
            outcomes = await self.scout.outcomes(likeliest(grammar.steps, expected), self.turns)
            self.expected = prior.verified(grammar.steps, expected, outcomes, self.turns)

    async def _onward(self, prior: Prior) -> float:
        """A logit for going on from what the last turn found."""
        names = find(self.question.topics, self.turns).names
        if self.scout.is_named(names):
            return SURELY  # nobody asks for what the question says
        if self.scout.is_settled(self.turns):
            return -SURELY  # a time is a part of the question, and nearly always its last
        if self.scout.told_apart and self.turns[-1].linked:
            return 0.0  # who compares wants to know which of them it is
        onward = prior.goes_on(names, self.turns)
        # What was singled out is what the question has a second reason for, which its path does not say.
        if self.turns[-1].linked or not prior.looks_ahead(self.turns):
            return onward
        query = Query(operation=Operation.GET_TAIL_RELATIONS, entity=FOUND, graph_id=self.question.graph_id)
        asked = await self.observer.ask(query, find_for(query, self.question.topics, self.turns))
        lists = [found for found in (asked.observation, *asked.beside) if found.ok]
        hops = [(found.query.operation.outgoing, name) for found in lists for name in found.names[:MOST_AHEAD]]
        return onward + prior.onward(hops, self.turns)

    def _common(self, turn: Turn, asked: Asked, links: Sequence[Observation]) -> tuple[str, ...]:
        """What the results from several topics have in common behind this one, all of which counts as shown."""
        whole = _whole(turn, asked, links)
        if not self.agent.sets or not changes(whole):
            return ()
        found = find(self.question.topics, [*self.turns, whole])
        return found.names if found.common else ()

    def finish(
        self,
        stop: StopReason,
        session: Session | None,
        sampling: SamplingSettings,
        sample: int,
        started: float,
        message: str,
    ) -> Episode:
        self.ledger.context_tokens = session.context_tokens if session is not None else 0
        return Episode(
            question=self.question,
            turns=tuple(self.turns),
            stop=stop,
            answers=self.answers,
            answer_ids=tuple(self.ids.get(answer, self.alike.get(normalise(answer))) for answer in self.answers),
            evidence=find_evidence(self.question.topics, self.answers, self.turns),
            prompt=self.prompt,
            prompt_ids=session.prompt_ids if session is not None else (),
            usage=self.ledger.usage(time.perf_counter() - started),
            policy=self.policy.name,
            seed=sampling.seed,
            sample=sample,
            max_turns=self.agent.max_turns,
            error=valid_unicode(message),
        )


def _whole(turn: Turn, asked: Asked, links: Sequence[Observation] = ()) -> Turn:
    """The turn if all results and ``links`` were shown."""
    count = len(asked.observation.names)
    return turn.model_copy(update={"observation": asked.observation, "shown": count, "linked": tuple(links)})


def _turn(generation: Generation, parsed: ParsedTurn, seconds: float) -> Turn:
    return Turn(
        text=valid_unicode(generation.text),
        token_ids=generation.token_ids,
        logprobs=generation.logprobs,
        forced=generation.forced,
        finish=generation.finish,
        query=parsed.query,
        answer=parsed.answer,
        well_formed=parsed.well_formed,
        generate_s=seconds,
    )
