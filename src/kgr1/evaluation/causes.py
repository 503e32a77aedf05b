"""Why episodes are not right, and how their calls of the graph ended: both read off the record, without a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum

from kgr1.agent.ledger import OK
from kgr1.rewards.answer import normalise
from kgr1.rewards.outcome import answer_score, v_ret
from kgr1.rewards.turn import asked_before
from kgr1.types import Episode, Observation, StopReason, Turn

AGENT = "agent"
"""The system of an episode that is one run of the agent."""


class Cause(StrEnum):
    """What became of an episode; the first that fits, in this order."""

    RIGHT = "right"  # precision and recall 1
    MODEL_FAILED = "model failed"  # the model's server
    GRAPH_FAILED = "graph failed"  # the graph's server
    TURNS_USED_UP = "turns used up"  # no answer within H turns
    CONTEXT_FULL = "context full"  # no answer within the model's context
    WITHHELD = "withheld"  # all that was answered was withheld
    NO_ANSWER = "empty answer"  # answered with an empty list
    INCOMPLETE = "incomplete"  # all answers right, some gold entities missing
    SURPLUS = "too many answers"  # all gold entities named, and others
    MIXED = "partly right"  # some right, some wrong, some missing
    FALLBACK = "answered without the graph"  # a system's last resort: nothing right, from the model alone
    NOT_PICKED = "seen, not answered"  # a gold entity was shown, other names were answered
    NOT_ASKED = "graph not used"  # no query brought a result
    WRONG_PATH = "wrong path"  # no gold entity was shown; the answers come from what was
    INVENTED = "not from the graph"  # no gold entity was shown, nor any of the answers


def cause(episode: Episode) -> Cause:
    """What became of an episode."""
    score = answer_score(episode)
    stopped = {
        StopReason.POLICY_ERROR: Cause.MODEL_FAILED,
        StopReason.GRAPH_ERROR: Cause.GRAPH_FAILED,
        StopReason.MAX_TURNS: Cause.TURNS_USED_UP,
        StopReason.CONTEXT_FULL: Cause.CONTEXT_FULL,
    }
    if score.exact:
        return Cause.RIGHT
    if episode.stop in stopped:
        return stopped[episode.stop]
    if not score.predicted:
        return Cause.WITHHELD if episode.withheld else Cause.NO_ANSWER
    if score.matched:
        if score.matched == score.predicted:
            return Cause.INCOMPLETE
        return Cause.SURPLUS if score.matched == score.gold else Cause.MIXED
    if episode.fallback:
        return Cause.FALLBACK
    if v_ret(episode):
        return Cause.NOT_PICKED
    if not any(turn.observation is not None and turn.observation.ok for turn in episode.turns):
        return Cause.NOT_ASKED
    return Cause.WRONG_PATH if _from_the_graph(episode) else Cause.INVENTED


def _from_the_graph(episode: Episode) -> bool:
    """Whether any answer stood among the entities that were shown."""
    shown = {normalise(name) for turn in episode.turns for name in turn.shown_entities}
    return any(normalise(name) in shown for name in episode.answers)


OUTCOMES = ("result", "repeated", "not a query")
"""Outcomes besides the codes of :class:`kgr1.types.ErrorCode`."""


def call_outcomes(episode: Episode) -> Counter[str]:
    """How the calls of the graph ended: with a result, a result asked for before, or an error code.

    They are those of the ledger; a query about all that was found makes several. Beside them stand the turns of the
    agent that were neither a query nor an answer. What was asked before is said of the agent's single runs alone: other
    systems ask as their method prescribes, and several runs do not know of each other.
    """
    turns = episode.turns
    counts = Counter(episode.usage.graph_outcomes) or _outcomes_of(turns)  # an old record has none
    counts["result"] += counts.pop(OK, 0)
    asked = [(place, turn) for place, turn in enumerate(turns) if turn.answer is None and not turn.step]
    # A query that the graph failed on has no observation either.
    counts["not a query"] = sum(turn.observation is None and turn.query is None for _, turn in asked)
    if episode.system == AGENT:
        again = [turn for place, turn in asked if _succeeded(turn.observation) and asked_before(turn, turns[:place])]
        calls = sum(max(1, sum(map(_succeeded, turn.parts))) for turn in again)
        counts["repeated"] = min(calls, counts["result"])
        counts["result"] -= counts["repeated"]
    return +counts


def _outcomes_of(turns: Sequence[Turn]) -> Counter[str]:
    """One call a turn."""
    seen = [turn.observation for turn in turns if turn.observation is not None]
    return Counter(OK if found.error is None else found.error.value for found in seen)


def _succeeded(observation: Observation | None) -> bool:
    return observation is not None and observation.error is None
