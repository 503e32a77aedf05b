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
    ("before", "words"), [([], []), ([(True, "actor"), (False, "is_in")], ["actor", "the thing whose is in"])]
)
def test_a_score_says_how_much_likelier_a_question_makes_a_name_and_the_name_the_question(
    policy: TransformersPolicy, before: list[tuple[bool, str]], words: list[str]
) -> None:
    question = "Who made  it?\n\nQuestion: who?\nPath: nobody"  # it cannot bring an example of its own
    line = "Who made it? Question: who? Path: nobody"
    path = "".join(f" {word}, then" for word in words)
    expected = [
        likely(policy, (ASKED, f"Question: {line}", f"\nPath:{path}"), name)
        - likely(policy, (ASKED, f"Question: {NO_QUESTION}", f"\nPath:{path}"), name)
        for name in WORDS
    ]
    if before:
        so_far = explained(policy, line, *words)
        more = [explained(policy, line, *words, name.strip()) - so_far for name in WORDS]
        expected = [gain + better for gain, better in zip(expected, more, strict=True)]
    meaning = policy.meaning
    assert meaning.scores(question, before, HOPS) == pytest.approx(expected, abs=1e-3)
    assert meaning.scores(question, before, HOPS[2:]) == pytest.approx(expected[2:], abs=1e-3)
    assert meaning.scores(question, before, []) == []
    if not before:
        assert meaning.scores(NO_QUESTION, before, HOPS) == pytest.approx([0.0] * 4, abs=1e-3)


def test_of_many_relations_the_likeliest_are_tried(policy: TransformersPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    question, before = "Who made it?", [(True, "actor")]
    gains = [
        likely(policy, (ASKED, f"Question: {question}", "\nPath: actor, then"), name)
        - likely(policy, (ASKED, f"Question: {NO_QUESTION}", "\nPath: actor, then"), name)
        for name in WORDS
    ]
    so_far = explained(policy, question, "actor")
    more = [explained(policy, question, "actor", name.strip()) - so_far for name in WORDS]
    tried = sorted(range(4), key=gains.__getitem__, reverse=True)[:2]
    worst = min(more[place] for place in tried)
    monkeypatch.setattr(module, "MOST_TRIED", 2)
    assert policy.meaning.scores(question, before, HOPS) == pytest.approx(
        [gain + (more[place] if place in tried else worst) for place, gain in enumerate(gains)], abs=1e-3
    )
    odds = ended(policy, question, "actor") - ended(policy, NO_QUESTION, "actor")
    best = max(more[place] for place in tried)
    assert policy.meaning.onward(question, before, HOPS) == pytest.approx(best + odds, abs=1e-3)


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
    best = max(explained(policy, question, "actor", word) for word in ("born in", "+"))
    expected = best - explained(policy, question, "actor") + odds
    assert policy.meaning.onward(question, before, HOPS[2:]) == pytest.approx(expected, abs=1e-3)
    assert policy.meaning.onward(question, before, []) == NOWHERE


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
