"""What relations mean to a model: against one plain forward pass for each text."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from kgr1.models import meaning as module  # noqa: E402
from kgr1.models.meaning import EXAMPLES, NO_QUESTION, NOWHERE, Meaning  # noqa: E402
from kgr1.models.transformers import TransformersPolicy  # noqa: E402

HOPS = [(True, "film.film.directed_by"), (False, "film.film.directed_by"), (True, "bornIn"), (True, "+")]
ASKED = "".join(f"Question: {question}\nPath: {path}.\n\n" for question, path in EXAMPLES)
EXPLAINED = "".join(f"Path: {path}.\nQuestion: {question}\n\n" for question, path in EXAMPLES)
WORDS = [" directed by", " the thing whose directed by", " born in", " +"]


@pytest.fixture(scope="module")
def policy(tiny_model: Path) -> TransformersPolicy:
    return TransformersPolicy.load(str(tiny_model))


def likely(policy: TransformersPolicy, before: tuple[str, ...], name: str) -> float:
    """log p of ``name`` behind texts that are tokenised each on its own."""
    ids = [token for text in before for token in policy.encode(text)]
    wanted = policy.encode(name)
    with torch.no_grad():
        logits = policy.engine.model(input_ids=torch.tensor([[*ids, *wanted]])).logits[0]
    logprobs = logits.log_softmax(-1)[len(ids) - 1 : -1]
    return float(logprobs[torch.arange(len(wanted)), torch.tensor(wanted)].sum())


@pytest.mark.parametrize(
    ("before", "path"), [([], ""), ([(True, "actor"), (False, "is_in")], " actor, then the thing whose is in, then")]
)
def test_a_score_says_how_much_likelier_a_question_makes_a_name(
    policy: TransformersPolicy, before: list[tuple[bool, str]], path: str
) -> None:
    question = "Who made  it?\n\nQuestion: who?\nPath: nobody"  # it cannot bring an example of its own
    line = "Question: Who made it? Question: who? Path: nobody"
    expected = [
        likely(policy, (ASKED, line, f"\nPath:{path}"), name)
        - likely(policy, (ASKED, f"Question: {NO_QUESTION}", f"\nPath:{path}"), name)
        for name in WORDS
    ]
    meaning = policy.meaning
    assert meaning.scores(question, before, HOPS) == pytest.approx(expected, abs=1e-3)
    assert meaning.scores(question, before, HOPS[2:]) == pytest.approx(expected[2:], abs=1e-3)
    assert meaning.scores(NO_QUESTION, before, HOPS) == pytest.approx([0.0] * 4, abs=1e-3)
    assert meaning.scores(question, before, []) == []


def test_what_comes_after_a_name_is_not_part_of_it(policy: TransformersPolicy) -> None:
    longer = [(True, "born"), (True, "born in"), (True, "born in the")]
    scores = policy.meaning.scores("Where?", [], longer)
    assert scores == pytest.approx([policy.meaning.scores("Where?", [], [hop])[0] for hop in longer], abs=1e-3)


def explained(policy: TransformersPolicy, question: str, *words: str) -> float:
    path = ", then".join(f" {word}" for word in words)
    return likely(policy, (EXPLAINED, "Path:", f"{path}.\nQuestion:"), f" {question}\n")


def ended(policy: TransformersPolicy, question: str, *words: str) -> float:
    """How much likelier it is that a path goes on than that it ends."""
    path = ", then".join(f" {word}" for word in words)
    on, end = (likely(policy, (ASKED, f"Question: {question}", f"\nPath:{path}"), text) for text in (", then", "."))
    return on - end


def test_a_question_asks_for_more_as_far_as_that_explains_it(policy: TransformersPolicy) -> None:
    question, before = "Who made it?", [(True, "actor")]
    odds = ended(policy, question, "actor") - ended(policy, NO_QUESTION, "actor")
    so_far = explained(policy, question, "actor")
    meaning = policy.meaning
    onward = meaning.onward(question, before, HOPS[2:])
    best = max(explained(policy, question, "actor", word) for word in ("born in", "+"))
    assert onward == pytest.approx(best - so_far + odds, abs=1e-3)
    # Of many relations the best ones are tried.
    tried = sorted(zip(meaning.scores(question, before, HOPS), WORDS, strict=True), reverse=True)[:3]
    best = max(explained(policy, question, "actor", word.strip()) for _, word in tried)
    assert meaning.onward(question, before, HOPS) == pytest.approx(best - so_far + odds, abs=1e-3)
    assert meaning.onward(question, before, []) == NOWHERE


def test_of_a_long_question_the_end_is_read(policy: TransformersPolicy) -> None:
    end = "w " * 600
    meaning = policy.meaning
    assert meaning.scores(f"one thing {end}", [], HOPS) == pytest.approx(
        meaning.scores(f"another {end}", [], HOPS), abs=1e-3
    )


def test_names_behind_no_question_are_read_once(policy: TransformersPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    meaning = Meaning(policy.engine.model, policy.tokenizer)
    read: list[tuple[str, list[str]]] = []
    likely = Meaning._likely

    def counted(self: Meaning, question: str, path: str, texts: list[str]) -> list[float]:
        read.append((question, list(texts)))
        return likely(self, question, path, texts)

    monkeypatch.setattr(Meaning, "_likely", counted)
    first = meaning.scores("Who?", [], HOPS)
    assert meaning.scores("Who?", [], HOPS) == first
    meaning.scores("Who?", [HOPS[0]], HOPS[:1])
    usual = [names for question, names in read if question == NO_QUESTION]
    assert usual == [sorted(WORDS), [], [" directed by"]]
    monkeypatch.setattr(module, "MOST_NAMES", 2)
    assert meaning.scores("Who?", [], HOPS) == first
    assert len(meaning._usual) == len(HOPS)
