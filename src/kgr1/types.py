"""The vocabulary that every other module shares.

All records are frozen pydantic models: they refuse unknown fields, compare by value and turn into one JSON
line with ``model_dump_json()`` and back with ``model_validate_json()``. An :class:`Episode` is the one record
of a run of the agent: it can be replayed, rescored and drawn without the model or the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

SCHEMA_VERSION = 1

FOUND = "*"
"""Stands for all that was found, in queries and answers of an agent that can (:mod:`kgr1.agent.found`)."""


DirectedRelation = tuple[bool, str]
"""Whether a relation is walked from head to tail, and its name."""


class Record(BaseModel):
    """Base of all records: immutable, strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Operation(StrEnum):
    """The retrieval operations (SPEC section 2). ``e`` is the subject of *tail*, the object of *head*."""

    GET_TAIL_RELATIONS = "get_tail_relations"
    GET_HEAD_RELATIONS = "get_head_relations"
    GET_TAIL_ENTITIES = "get_tail_entities"
    GET_HEAD_ENTITIES = "get_head_entities"

    @property
    def takes_relation(self) -> bool:
        """True for the two operations that return entities."""
        return self in (Operation.GET_TAIL_ENTITIES, Operation.GET_HEAD_ENTITIES)

    @property
    def returns_entities(self) -> bool:
        """True if results are entities, False if they are relations."""
        return self.takes_relation

    @property
    def outgoing(self) -> bool:
        """True if the queried entity stands as the subject of the matching triples."""
        return self in (Operation.GET_TAIL_RELATIONS, Operation.GET_TAIL_ENTITIES)


STEP = {True: Operation.GET_TAIL_ENTITIES, False: Operation.GET_HEAD_ENTITIES}
"""The operation that follows a relation from head to tail, and from tail to head."""

OPERATION_ALIASES: dict[str, Operation] = {
    "get_relations_out": Operation.GET_TAIL_RELATIONS,
    "get_relations_in": Operation.GET_HEAD_RELATIONS,
    "get_entities_out": Operation.GET_TAIL_ENTITIES,
    "get_entities_in": Operation.GET_HEAD_ENTITIES,
}
"""Names that published checkpoints use for the same operations."""


class ErrorCode(StrEnum):
    """What a query can be answered with instead of a result (SPEC section 2)."""

    SERVER_ERROR = "KG_SERVER_ERROR"
    FORMAT_ERROR = "KG_FORMAT_ERROR"
    SAMPLE_NOT_FOUND = "KG_SAMPLE_NOT_FOUND"
    ENTITY_NOT_FOUND = "KG_ENTITY_NOT_FOUND"
    RELATION_NOT_FOUND = "KG_RELATION_NOT_FOUND"
    NO_RESULTS = "KG_NO_RESULTS"


class StopReason(StrEnum):
    """Why an episode ended."""

    ANSWERED = "answered"  # a well-formed answer action
    MAX_TURNS = "max_turns"  # H turns without an answer
    CONTEXT_FULL = "context_full"  # the next turn would not fit the model's context
    POLICY_ERROR = "policy_error"  # the model server failed
    GRAPH_ERROR = "graph_error"  # the graph server failed


class FinishReason(StrEnum):
    """Why the engine stopped sampling a turn."""

    STOP = "stop"  # an action was completed
    EOS = "eos"  # the model ended its message
    LENGTH = "length"  # the token limit of the turn


class Outcome(NamedTuple):
    """What a hop leads to: its results in the order of their names, or the first of them, and how many there are.

    ``back`` says that all of them were met on the way.
    """

    hop: DirectedRelation
    names: tuple[str, ...]
    total: int
    back: bool = False


class Triple(NamedTuple):
    """One fact, by display names."""

    head: str
    relation: str
    tail: str


class Query(Record):
    """One retrieval operation on one graph.

    ``time`` keeps the facts of a dated graph that match a filter (:mod:`kgr1.graph.temporal`); only operations that
    return entities take one. ``offset`` and ``limit`` choose a page of the sorted result; the observation's ``total``
    counts all of it.
    """

    operation: Operation
    entity: str
    relation: str | None = None
    time: str | None = None  # "2014", "2014-05", "2014-05-17", "before 2014", "after 2014-05", "2012/2014"
    graph_id: str | None = None  # a question graph inside the store; None is the whole graph
    offset: int = Field(default=0, ge=0)
    limit: int | None = Field(default=None, ge=1)

    def to_text(self) -> str:
        """The calling form that the parser accepts, e.g. ``get_tail_entities("Paris", "country")``.

        A time filter is a third argument; a page after the first ends the call, as in ``..., page=2)``.
        """
        arguments = [quote(a) for a in (self.entity, self.relation, self.time) if a is not None]
        if self.limit and self.offset:
            arguments.append(f"page={self.offset // self.limit + 1}")
        return f"{self.operation.value}({', '.join(arguments)})"

    def continues(self, other: Query) -> bool:
        """True if this asks for another page, not the first one, of what ``other`` asks for."""
        return self.offset > 0 and self.model_copy(update={"offset": other.offset}) == other


def quote(text: str) -> str:
    """An argument of a query as it is written, with its quotation marks."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


class Observation(Record):
    """The graph's answer to one query: a sorted result, or an error code with a sentence.

    ``names`` are display names: unique within the graph and usable as arguments of the next query. ``ids`` runs
    parallel to ``names`` and holds the stable identifiers (for relations, the names again). ``times`` is empty, or runs
    parallel to ``names`` and holds the dates of the facts behind each (``2014-05-17``, ``2014``, ``1990/1994``, with an
    open end ``1990/``), ascending. ``total`` counts the results before any cut by the query or the backend; ``names``
    begins with number ``query.offset`` of them, counted from 0.
    """

    query: Query
    names: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    times: tuple[tuple[str, ...], ...] = ()
    total: int = 0
    error: ErrorCode | None = None
    message: str = ""  # one sentence for the model, only with an error

    @property
    def ok(self) -> bool:
        """True if there is at least one result."""
        return self.error is None and bool(self.names)

    def triples(self, shown: int | None = None) -> tuple[Triple, ...]:
        """The facts behind the first ``shown`` entity results (all of them if None; empty for relations)."""
        query = self.query
        if self.error is not None or not query.operation.returns_entities or query.relation is None:
            return ()
        if query.operation.outgoing:
            return tuple(Triple(query.entity, query.relation, n) for n in self.names[:shown])
        return tuple(Triple(n, query.relation, query.entity) for n in self.names[:shown])


class GoldAnswer(Record):
    """One gold entity. ``id`` is None where the data set only gives names."""

    label: str
    id: str | None = None
    aliases: tuple[str, ...] = ()

    @property
    def named(self) -> bool:
        """True if it is known by its label alone: there is no id, or the label stands in its place."""
        return not self.id or self.id == self.label


class Question(Record):
    """One KGQA item without its graph: (q, topics, A_q) of SPEC section 1.

    ``parses`` says which of the answers belong to each reading of an ambiguous question, as positions in ``answers``.
    It is empty for the usual question, which has one reading, and left out of JSON then.
    """

    id: str
    text: str
    topics: tuple[str, ...]
    answers: tuple[GoldAnswer, ...]
    dataset: str = ""
    split: str = ""
    graph_id: str | None = None
    hops: int | None = None
    kind: str = ""  # e.g. "chain", "intersection", or the data set's own question type
    gold_path: tuple[str, ...] = ()  # "^r" walks r from tail to head; see kgr1.datasets.expert
    parses: tuple[tuple[int, ...], ...] = Field(default=(), exclude_if=lambda parses: not parses)

    @field_validator("parses")
    @classmethod
    def _of_answers(cls, parses: tuple[tuple[int, ...], ...], info: ValidationInfo) -> tuple[tuple[int, ...], ...]:
        count = len(info.data.get("answers", ()))
        if any(not 0 <= place < count for parse in parses for place in parse):
            raise ValueError(f"parses must be positions among the {count} answers")
        return parses


class Answer(Record):
    """The answer action: the listed names in the model's order, without duplicates."""

    names: tuple[str, ...]


class Turn(Record):
    """One turn: what the model wrote, what it meant, and what the graph said.

    ``token_ids`` are exactly the ids the engine wrote (T_turn) and ``logprobs`` their log-probabilities under the
    sampling distribution; both are empty for policies that write text. All of them were sampled, but for the ``forced``
    ones of a guided turn, which its grammar left no choice about. ``information`` is the text shown to the model
    and ``information_ids`` the ids that were appended to its context.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    forced: int = 0
    finish: FinishReason = FinishReason.STOP
    query: Query | None = None
    answer: Answer | None = None
    well_formed: bool = False  # exactly one think block, then exactly one action (v_fmt)
    observation: Observation | None = None
    shown: int = 0  # how many of the observation's names the model saw
    expanded: tuple[Observation, ...] = ()  # what else was shown: facts of nameless results, or parts of a whole
    linked: tuple[Observation, ...] = ()  # facts of other topics with some of the results, shown beside them
    information: str = ""
    information_ids: tuple[int, ...] = ()
    generate_s: float = 0.0
    graph_s: float = 0.0
    step: str = ""  # what a system other than the agent did here, such as "prune relations"; empty for the agent

    @property
    def retrieved(self) -> bool:
        """True for a step of a system other than the agent that asked the graph: no model wrote it."""
        return bool(self.step) and self.query is not None

    @property
    def shown_entities(self) -> tuple[str, ...]:
        """The entity results that the model saw in this turn, and the neighbours shown beside them."""
        return tuple(name for name, _ in self._shown())

    @property
    def shown_entity_ids(self) -> tuple[str, ...]:
        """Identifiers of :attr:`shown_entities`, in the same order."""
        return tuple(identifier for _, identifier in self._shown())

    def _shown(self) -> list[tuple[str, str]]:
        """Name and identifier of each of :attr:`shown_entities`, once."""
        found = self.observation
        if found is None or not found.query.operation.returns_entities:
            return []
        pairs = list(zip(found.names[: self.shown], found.ids, strict=False))
        for beside in (*self.expanded, *self.linked):
            pairs += zip(beside.names, beside.ids, strict=True)
        return list(dict.fromkeys(pairs))

    @property
    def parts(self) -> tuple[Observation, ...]:
        """Those of ``expanded`` that are part of the result: what a member of ``*`` has, or what a remark names."""
        if self.observation is None:
            return ()
        asked = self.observation.query
        same = (asked.operation, asked.relation)
        return tuple(found for found in self.expanded if (found.query.operation, found.query.relation) == same)

    def facts(self) -> list[tuple[Observation, int]]:
        """The observations whose facts the model saw, each with how many of its results; those of ``*`` by member."""
        found = self.observation
        beside = [(observation, len(observation.names)) for observation in (*self.expanded, *self.linked)]
        if found is None or (found.query.entity == FOUND and self.parts):
            return beside
        return [(found, self.shown), *beside]


def first_page(query: Query, turns: Sequence[Turn]) -> int | None:
    """The place in ``turns`` of the result that ``query`` asks for another page of; None if the last one is another."""
    place = None
    for index in reversed(range(len(turns))):
        other = turns[index].query
        if not turns[index].shown_entities:
            continue
        if other is None or not query.continues(other):
            break
        place = index
        if not other.offset:
            break
    return place


class Usage(Record):
    """The ledger of one episode. ``prompt_tokens`` sums the context length over all model calls.

    ``generated_tokens`` were sampled; ``forced_tokens`` were written without, where a grammar left no choice.

    ``graph_outcomes`` splits ``graph_calls`` by what came back: ``ok``, or the error code; empty in old records.
    """

    generated_tokens: int = 0
    forced_tokens: int = 0
    prompt_tokens: int = 0
    context_tokens: int = 0  # length of the final context
    model_calls: int = 0
    graph_calls: int = 0
    graph_outcomes: dict[str, int] = Field(default_factory=dict)
    seconds: float = 0.0


class Episode(Record):
    """The one record of a run of an agent, or of a system that it is compared with, on a question."""

    question: Question
    turns: tuple[Turn, ...]
    stop: StopReason
    answers: tuple[str, ...] = ()
    answer_ids: tuple[str | None, ...] = ()  # parallel to answers; None where the trace does not show the name
    evidence: tuple[Triple, ...] = ()  # facts shown to the model that connect a topic with an answer
    withheld: tuple[str, ...] = ()  # names that the model answered and the agent did not give out
    prompt: str = ""
    prompt_ids: tuple[int, ...] = ()
    usage: Usage = Field(default_factory=Usage)
    system: str = "agent"  # who played: the agent, or one of kgr1.baselines
    policy: str = ""
    fallback: bool = False  # a system that asks no graph, or got nothing useful from it, answered from the model alone
    seed: int = 0
    sample: int = 0  # index inside the group or among N runs
    max_turns: int = 0  # H
    error: str = ""  # message of a policy or graph failure
    schema_version: int = SCHEMA_VERSION
