"""Episodes with known scores."""

from __future__ import annotations

from collections.abc import Sequence

from kgr1.types import (
    Answer,
    Episode,
    ErrorCode,
    GoldAnswer,
    Observation,
    Operation,
    Query,
    Question,
    StopReason,
    Turn,
    Usage,
)


def question(number: int | str, gold: Sequence[str] = ("Paris",), **fields: object) -> Question:
    answers = tuple(GoldAnswer(label=name) for name in gold)
    return Question.model_validate(
        {"id": f"q{number}", "text": "?", "topics": ("France",), "answers": answers, **fields}
    )


def asked(*names: str, error: ErrorCode | None = None) -> Turn:
    query = Query(operation=Operation.GET_TAIL_ENTITIES, entity="France", relation="capital")
    observation = Observation(query=query, names=names, ids=names, total=len(names), error=error)
    return Turn(text="t", query=query, observation=observation, shown=len(names), well_formed=True)


def played(
    item: Question,
    answers: Sequence[str] | None = ("Paris",),
    *,
    sample: int = 0,
    turns: Sequence[Turn] = (),
    ids: Sequence[str | None] = (),
    stop: StopReason | None = None,
    tokens: int = 0,
) -> Episode:
    """An episode that ends with ``answers``, or without an answer for None."""
    end = () if answers is None else (Turn(text="a", answer=Answer(names=tuple(answers)), well_formed=True),)
    return Episode(
        question=item,
        turns=(*turns, *end),
        stop=stop or (StopReason.MAX_TURNS if answers is None else StopReason.ANSWERED),
        answers=tuple(answers or ()),
        answer_ids=tuple(ids),
        sample=sample,
        usage=Usage(
            generated_tokens=tokens,
            prompt_tokens=10 * tokens,
            context_tokens=3 * tokens,
            graph_calls=len(turns),
            model_calls=len(turns) + len(end),
            seconds=tokens / 4,
        ),
    )
