"""The outcome reward R = w_F1 F1(A_pred, A_q) + w_ret v_ret (SPEC section 4).

Departure from the released implementation: v_ret looks at the entity results that were shown to the model and compares
whole names or ids; relation names, error text, the prompt and substrings do not count.
"""

from __future__ import annotations

from itertools import zip_longest

from kgr1.config import RewardSettings
from kgr1.rewards.answer import AnswerScore, GoldIndex, score_answers
from kgr1.types import Episode, Record, StopReason


class Outcome(Record):
    """The outcome of one episode: the answer's score, v_ret and R (``total``)."""

    answer: AnswerScore
    retrieved: int  # v_ret
    total: float

    @property
    def f1(self) -> float:
        """F1 of the answer."""
        return self.answer.f1


def answer_score(episode: Episode) -> AnswerScore:
    """The score of the episode's answers; an episode that did not end with an answer predicts nothing."""
    if episode.stop is not StopReason.ANSWERED:
        return score_answers((), episode.question.answers)
    return score_answers(episode.answers, episode.question.answers, episode.answer_ids)


def v_ret(episode: Episode) -> int:
    """1 if any gold entity stands among the entity results shown to the model (SPEC section 4).

    >>> from kgr1.types import GoldAnswer, Observation, Operation, Query, Question, Turn
    >>> query = Query(operation=Operation.GET_TAIL_ENTITIES, entity="France", relation="city")
    >>> seen = Observation(query=query, names=("Lyon", "Paris"), ids=("Q456", "Q90"), total=2)
    >>> question = Question(id="1", text="?", topics=("France",), answers=(GoldAnswer(label="Paris"),))
    >>> def asked(shown):
    ...     turn = Turn(text="", query=query, observation=seen, shown=shown)
    ...     return Episode(question=question, turns=(turn,), stop=StopReason.MAX_TURNS)
    >>> v_ret(asked(shown=2)), v_ret(asked(shown=1))
    (1, 0)
    """
    gold = GoldIndex(episode.question.answers)
    for turn in episode.turns:
        for name, identifier in zip_longest(turn.shown_entities, turn.shown_entity_ids):
            if gold.matches(name or "", (identifier,)):
                return 1
    return 0


def outcome_reward(episode: Episode, settings: RewardSettings) -> Outcome:
    """F1 and retrieval reward of an episode (SPEC section 4).

    An episode that did not answer or that failed has F1 0 and keeps the retrieval reward it earned.
    """
    answer, retrieved = answer_score(episode), v_ret(episode)
    return Outcome(answer=answer, retrieved=retrieved, total=settings.w_f1 * answer.f1 + settings.w_ret * retrieved)
