"""Why episodes are not right, and how their calls of the graph ended: both read off the record, without a model."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from kgr1.rewards.answer import normalise
from kgr1.rewards.outcome import answer_score, v_ret
from kgr1.rewards.turn import asked_before
from kgr1.types import Episode, StopReason


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
"""Outcomes of a turn that did not answer, besides the codes of :class:`kgr1.types.ErrorCode`."""


def call_outcomes(episode: Episode) -> Counter[str]:
    """How the turns that did not answer ended: with a result, a result asked for before, an error code, or no query."""
    counts: Counter[str] = Counter()
    for place, turn in enumerate(episode.turns):
        if turn.answer is not None:
            continue
        if turn.observation is None:
            counts["not a query"] += 1
        elif turn.observation.error is not None:
            counts[turn.observation.error.value] += 1
        else:
            counts["repeated" if asked_before(turn, episode.turns[:place]) else "result"] += 1
    return counts
