"""Training a ranker of relations on choices whose rule is known."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from kgr1.config import RankerSettings  # noqa: E402
from kgr1.datasets.hops import Choice  # noqa: E402
from kgr1.errors import SettingsError  # noqa: E402
from kgr1.grpo import ranker as training  # noqa: E402
from kgr1.grpo.ranker import right_share, save_ranker, train_ranker, untrained_ranker  # noqa: E402
from kgr1.models.pretrained import RANKER_FILE  # noqa: E402
from kgr1.models.ranker import Ranker  # noqa: E402
from kgr1.models.weights import LoadedModel, load_model  # noqa: E402
from kgr1.types import DirectedRelation, Question  # noqa: E402

RULE = {"mother": "kin.one", "town": "place.two", "price": "deal.three", "colour": "look.four"}
"""Word of the question -> relation; they have no word in common."""

QUICK = RankerSettings(epochs=12, batch_size=8, learning_rate=1e-2)


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> LoadedModel:
    return load_model(str(tiny_model))


def material(count: int = 40, seed: int = 0) -> list[Choice]:
    """Each question is about one of the words; the relations come in any order."""
    rng = random.Random(seed)
    result = []
    for number in range(count):
        word = rng.choice(list(RULE))
        relations: list[DirectedRelation] = [(True, name) for name in RULE.values()]
        rng.shuffle(relations)
        topic = f"Thing{number}"
        question = Question(id=str(number), text=f"What is the {word} of {topic}?", topics=(topic,), answers=())
        result.append(Choice(question, (), tuple(relations), relations.index((True, RULE[word]))))
    return result


def train(loaded: LoadedModel, choices: Sequence[Choice], settings: RankerSettings = QUICK) -> Ranker:
    ranker = untrained_ranker(loaded.model, loaded.tokenizer, choices, seed=settings.seed)
    train_ranker(ranker, choices, settings)
    return ranker


def test_a_rule_is_found(loaded: LoadedModel) -> None:
    choices = material()
    torch.manual_seed(0)
    assert right_share(Ranker.new(loaded.model, loaded.tokenizer, met=()), choices) < 0.7
    told: list[tuple[int, int, float]] = []
    read: list[tuple[int, int]] = []
    trained = untrained_ranker(
        loaded.model, loaded.tokenizer, choices, seed=0, on_read=lambda done, total: read.append((done, total))
    )
    texts = len({choice.question.text.replace(choice.question.topics[0], "") for choice in choices}) + len(RULE)
    assert read[-1] == (texts, texts)
    train_ranker(trained, choices, QUICK, on_step=lambda step, steps, loss: told.append((step, steps, loss)))
    losses = [loss for _, _, loss in told]
    assert [(step, steps) for step, steps, _ in told] == [(number, 60) for number in range(1, 61)]
    assert sum(losses[-5:]) < 0.2 * sum(losses[:5])
    assert right_share(trained, choices) == 1.0
    assert right_share(trained, material(seed=1)) == 1.0  # other topics, other orders
    right = {choice.relations[choice.chosen] for choice in choices}
    listed = {relation for choice in choices for relation in choice.relations}
    assert all(trained.familiarity([relation]) == (relation in right) for relation in listed | {(True, "unheard of")})


def test_the_way_here_can_decide(loaded: LoadedModel) -> None:
    question = Question(id="q", text="What is it?", topics=(), answers=())
    relations: tuple[DirectedRelation, ...] = ((True, "kin.one"), (False, "place.two"))
    choices = [Choice(question, before, relations, chosen) for before, chosen in (((), 0), (("deal",), 1))]
    assert right_share(train(loaded, choices * 8), choices) == 1.0


def test_the_model_itself_stays_as_it_is(loaded: LoadedModel) -> None:
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    train(loaded, material(4))
    assert all(torch.equal(value, before[name]) for name, value in loaded.model.state_dict().items())
    assert all(value.grad is None for value in loaded.model.parameters())


def test_the_result_depends_on_the_seed_alone(loaded: LoadedModel) -> None:
    def content(seed: int, noise: int) -> bytes:
        torch.manual_seed(noise)  # whatever happened before in the process
        return train(loaded, material(10), QUICK.model_copy(update={"epochs": 2, "seed": seed})).to_bytes()

    first = content(0, 1)
    assert content(0, 2) == first
    assert content(1, 1) != first


def test_without_a_choice_there_is_nothing_to_learn(loaded: LoadedModel) -> None:
    with pytest.raises(SettingsError, match="every hop of these questions has one relation"):
        train(loaded, [])


def test_of_many_relations_some_are_compared(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "MOST", 3)
    choices = material()
    for choice in choices:
        few = training._few(choice, random.Random(0))
        assert len(few.relations) == len(set(few.relations)) == 3
        assert set(few.relations) <= set(choice.relations)
        assert few.relations[few.chosen] == choice.relations[choice.chosen]
        assert (few.question, few.before) == (choice.question, choice.before)
    left_out = {
        set(choice.relations).difference(training._few(choice, random.Random(n)).relations).pop()
        for choice in choices
        for n in range(4)
    }
    assert left_out == {(True, name) for name in RULE.values()}
    assert right_share(train(loaded, choices), choices) == 1.0
    monkeypatch.setattr(training, "MOST", 4)
    assert training._few(choices[0], random.Random(0)) is choices[0]


class Fixed:
    """A ranker with the same opinion of the first, second, ... relation, whatever they are."""

    def scores(
        self, question: str, topics: Sequence[str], before: Sequence[str], relations: Sequence[DirectedRelation]
    ) -> list[float]:
        return [3.0, 1.0, 2.0, 0.0][: len(relations)]


def test_the_share_of_right_ones() -> None:
    question = Question(id="q", text="?", topics=(), answers=())
    relations = tuple((True, name) for name in RULE.values())
    choices = [Choice(question, (), relations, chosen) for chosen in (0, 0, 1, 2, 3)]
    ranker = Fixed()
    shares = [right_share(ranker, choices, most) for most in (1, 2, 3, 4)]  # type: ignore[arg-type]
    assert shares == [0.4, 0.6, 0.8, 1.0]
    assert right_share(ranker, []) == 0.0  # type: ignore[arg-type]


def test_a_file_is_whole_or_absent(loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "runs" / "policy"
    torch.manual_seed(0)
    first, second = (Ranker.new(loaded.model, loaded.tokenizer, met=()) for _ in range(2))
    assert first.to_bytes() != second.to_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_ranker(first, folder)
    assert list(folder.iterdir()) == []
    monkeypatch.undo()
    assert save_ranker(first, folder) == folder / RANKER_FILE
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_ranker(second, folder)
    assert list(folder.iterdir()) == [folder / RANKER_FILE]
    assert (folder / RANKER_FILE).read_bytes() == first.to_bytes()
    monkeypatch.undo()
    save_ranker(second, folder)
    assert (folder / RANKER_FILE).read_bytes() == second.to_bytes()
