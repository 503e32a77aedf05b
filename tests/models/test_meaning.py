"""What relations mean to a model: against one plain forward pass for each text."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from kgr1.models import meaning as module  # noqa: E402
from kgr1.models.meaning import EXAMPLES, NO_QUESTION, Meaning  # noqa: E402
from kgr1.models.transformers import TransformersPolicy  # noqa: E402

HOPS = [(True, "film.film.directed_by"), (False, "film.film.directed_by"), (True, "bornIn"), (True, "+")]
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
        likely(policy, (EXAMPLES, line, f"\nPath:{path}"), name)
        - likely(policy, (EXAMPLES, f"Question: {NO_QUESTION}", f"\nPath:{path}"), name)
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

    def counted(self: Meaning, question: str, path: str, names: list[str]) -> list[float]:
        read.append((question, list(names)))
        return likely(self, question, path, names)

    monkeypatch.setattr(Meaning, "_likely", counted)
    first = meaning.scores("Who?", [], HOPS)
    assert meaning.scores("Who?", [], HOPS) == first
    meaning.scores("Who?", [HOPS[0]], HOPS[:1])
    usual = [names for question, names in read if question == NO_QUESTION]
    assert usual == [sorted(name.strip() for name in WORDS), [], ["directed by"]]
    monkeypatch.setattr(module, "MOST_NAMES", 2)
    assert meaning.scores("Who?", [], HOPS) == first
    assert len(meaning._usual) == len(HOPS)
