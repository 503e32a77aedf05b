"""Short ways to write episodes down."""

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
)

PARIS = GoldAnswer(label="Paris", id="Q90", aliases=("City of Light",))


def query_turn(
    names: Sequence[str] = (),
    *,
    operation: Operation = Operation.GET_TAIL_ENTITIES,
    entity: str = "France",
    relation: str | None = "capital",
    resolved: str | None = None,
    ids: Sequence[str] = (),
    shown: int | None = None,
    error: ErrorCode | None = None,
    well_formed: bool = True,
) -> Turn:
    """A turn that asks; ``resolved`` is the entity name that the graph understood."""
    query = Query(operation=operation, entity=entity, relation=relation if operation.takes_relation else None)
    understood = query.model_copy(update={"entity": resolved}) if resolved is not None else query
    observation = Observation(
        query=understood,
        names=tuple(names),
        ids=tuple(ids) or tuple(f"id:{name}" for name in names),
        total=len(names),
        error=error,
        message="Try another name." if error else "",
    )
    return Turn(
        text="<think>t</think>" + query.to_text(),
        query=query,
        observation=observation,
        shown=len(names) if shown is None else shown,
        well_formed=well_formed,
        information="Paris is mentioned here",
    )


def answer_turn(*names: str, well_formed: bool = True) -> Turn:
    return Turn(text="<think>t</think><answer>..</answer>", answer=Answer(names=names), well_formed=well_formed)


def episode(
    *turns: Turn,
    answers: Sequence[str] | None = None,
    ids: Sequence[str | None] = (),
    stop: StopReason | None = None,
    gold: Sequence[GoldAnswer] = (PARIS,),
) -> Episode:
    last = turns[-1].answer if turns else None
    if answers is None:
        answers = last.names if last else ()
    if stop is None:
        stop = StopReason.ANSWERED if last else StopReason.MAX_TURNS
    question = Question(id="q1", text="Paris?", topics=("France",), answers=tuple(gold))
    return Episode(
        question=question,
        turns=turns,
        stop=stop,
        answers=tuple(answers),
        answer_ids=tuple(ids),
        prompt="Which city, Paris or Lyon?",
    )
