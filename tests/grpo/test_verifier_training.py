"""Training a verifier on cases whose rule is known, and what a case is made of."""

from __future__ import annotations

import errno
import math
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from kgr1.agent.prior import MOST_VERIFIED, Verdict  # noqa: E402
from kgr1.agent.scout import MOST_FOLLOWED  # noqa: E402
from kgr1.config import VerifierSettings  # noqa: E402
from kgr1.datasets.hops import Followed  # noqa: E402
from kgr1.errors import SettingsError  # noqa: E402
from kgr1.graph.store import GraphStore  # noqa: E402
from kgr1.grpo.verifier import Case, cases, right_shares, save_verifier, train_verifier  # noqa: E402
from kgr1.models.pretrained import VERIFIER_FILE  # noqa: E402
from kgr1.models.ranker import Ranker  # noqa: E402
from kgr1.models.verifier import LEAST_STD, Reading, Verifier  # noqa: E402
from kgr1.models.weights import LoadedModel, load_model  # noqa: E402
from kgr1.types import DirectedRelation, Outcome, Question  # noqa: E402

Rows = list[tuple[str, str, str]]

QUICK = VerifierSettings(epochs=8, batch_size=8, learning_rate=1e-2)


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> LoadedModel:
    return load_model(str(tiny_model))


@pytest.fixture(scope="module")
def ranker(loaded: LoadedModel) -> Ranker:
    torch.manual_seed(0)
    ranker = Ranker.new(loaded.model, loaded.tokenizer, met=())
    for parameter in ranker.network.parameters():  # all of them count, as after training
        parameter.data += torch.randn_like(parameter) * 0.1
    ranker.standardise([("What is it?", ()), ("Who was that?", ())], ["made of", "seen by", "near"])
    return ranker


# What a case is made of

WORDS = ("made of", "seen by", "near", "part of", "age", "colour", "kin", "owner", "price", "town", "sea", "maker")
MANY: Rows = [("Thing", word, f"{word} {number}") for word in WORDS for number in range(2)]


def followed_from(
    rows: Rows, *here: str, asked: Sequence[str], hop: DirectedRelation, before: Sequence[DirectedRelation] = ()
) -> Followed:
    """A hop that starts from ``here``."""
    outgoing = dict.fromkeys((True, relation) for head, relation, _ in rows if head in here)
    incoming = dict.fromkeys((False, relation) for _, relation, tail in rows if tail in here)
    question = Question(id="q", text="What is it?", topics=(asked[0],), answers=())
    known = frozenset(asked)
    return Followed(question, (tuple(before),), here, known, known, (*outgoing, *incoming), hop, goes_on=False)


def made(hop: Followed, rows: Rows, ranker: Ranker, seed: int = 0) -> Case:
    (case,) = cases([hop], GraphStore.from_triples(rows), ranker, seed)
    assert case.hop == hop
    assert case.question == hop.question
    assert case.outcomes[0].hop == hop.hop
    assert case.right[0] is True
    assert len(case.outcomes) == len(case.right) == len(case.scores) == len({found.hop for found in case.outcomes})
    assert all(list(found.names) == sorted(found.names) for found in case.outcomes)
    assert all(found.total == len(found.names) for found in case.outcomes)
    return case


def test_the_way_here_counts(ranker: Ranker) -> None:
    ways: list[list[DirectedRelation]] = [[], [(True, "owner"), (False, "kin")]]
    hops = [followed_from(MANY, "Thing", asked=["Thing"], hop=(True, "kin"), before=way) for way in ways]
    first, second = (made(hop, MANY, ranker) for hop in hops)
    assert first.scores[0] != pytest.approx(second.scores[0], abs=1e-2)


@pytest.mark.parametrize("before", [(), ((True, "owner"), (False, "kin"))])
def test_the_likeliest_relations_and_one_other_stand_beside_that_of_the_expert(
    ranker: Ranker, before: tuple[DirectedRelation, ...]
) -> None:
    hop = followed_from(MANY, "Thing", asked=["Thing"], hop=(True, "kin"), before=before)
    scores = ranker.scores("What is it?", ("Thing",), [name for _, name in before], hop.relations)
    liked = dict(zip(hop.relations, scores, strict=True))
    ranking = sorted(liked, key=lambda each: -liked[each])
    ranking.remove((True, "kin"))
    last = set()
    for seed in range(12):
        case = made(hop, MANY, ranker, seed)
        hops = [found.hop for found in case.outcomes]
        assert hops[1:-1] == ranking[: MOST_VERIFIED - 2]
        assert hops[-1] in ranking[MOST_VERIFIED - 2 :]
        assert case.scores == pytest.approx([liked[each] for each in hops])
        assert [found.names for found in case.outcomes] == [(f"{name} 0", f"{name} 1") for _, name in hops]
        assert made(hop, MANY, ranker, seed) == case
        last.add(hops[-1])
    assert len(last) > 1


def test_of_few_relations_all_are_followed(ranker: Ranker) -> None:
    few = [row for row in MANY if row[1] in WORDS[:MOST_VERIFIED]]
    for count in (2, MOST_VERIFIED - 1, MOST_VERIFIED):
        rows = [row for row in few if row[1] in WORDS[:count]]
        hop = followed_from(rows, "Thing", asked=["Thing"], hop=(True, "near" if count > 2 else "made of"))
        assert {found.hop for found in made(hop, rows, ranker).outcomes} == set(hop.relations)


def test_what_leads_to_the_same_is_right(ranker: Ranker) -> None:
    rows = [("A", "near", "B"), ("A", "near", "C"), ("B", "part of", "A"), ("C", "part of", "A"), ("A", "kin", "B")]
    rows += [("A", "age", "B"), ("A", "age", "C"), ("A", "age", "D")]
    case = made(followed_from(rows, "A", asked=["A"], hop=(True, "near")), rows, ranker)
    assert {found.hop: (found.names, right) for found, right in zip(case.outcomes, case.right, strict=True)} == {
        (True, "near"): (("B", "C"), True),
        (False, "part of"): (("B", "C"), True),
        (True, "kin"): (("B",), False),
        (True, "age"): (("B", "C", "D"), False),
    }


def test_what_was_asked_about_is_found_where_nothing_else_is(ranker: Ranker) -> None:
    rows = [("B", "near", "A"), ("B", "near", "C"), ("B", "near", "Z"), ("B", "kin", "A"), ("B", "kin", "Z")]
    rows += [("C", "near", "D"), ("C", "seen by", "B")]
    hop = followed_from(rows, "B", "C", asked=["A", "Z"], hop=(True, "near"), before=[(True, "kin")])
    outcomes = made(hop._replace(met=hop.asked | {"B"}), rows, ranker).outcomes
    assert {outcome.hop: (outcome.names, outcome.back) for outcome in outcomes} == {
        (True, "near"): (("C", "D"), False),
        (True, "kin"): (("A", "Z"), True),
        (True, "seen by"): (("B",), True),  # it is gone on from, but nobody named it
        (False, "near"): (("B",), True),
        (False, "seen by"): (("C",), False),
    }


def test_of_many_a_relation_is_followed_from_the_first(ranker: Ranker) -> None:
    names = [f"N{number:02}" for number in range(MOST_FOLLOWED + 2)]
    rows = [(name, relation, f"{relation} {name}") for name in names for relation in ("kin", "near")]
    case = made(followed_from(rows, *names, asked=["A"], hop=(True, "kin")), rows, ranker)
    assert [found.names for found in case.outcomes] == [
        tuple(f"{relation} {name}" for name in names[:MOST_FOLLOWED]) for relation in ("kin", "near")
    ]


def test_only_the_graph_of_a_question_counts(ranker: Ranker) -> None:
    rows = [("A", "kin", "B"), ("A", "near", "C"), ("A", "kin", "D")]
    graph = GraphStore.from_question_graphs({"one": rows[:2], "two": rows})
    hop = followed_from(rows, "A", asked=["A"], hop=(True, "kin"))
    for name, found in (("one", ("B",)), ("two", ("B", "D"))):
        question = hop.question.model_copy(update={"graph_id": name})
        (case,) = cases([hop._replace(question=question)], graph, ranker, 0)
        assert case.outcomes[0].names == found
    assert list(cases([], graph, ranker, 0)) == []


# Training


def material(ranker: Ranker, count: int = 60, seed: int = 0) -> list[Case]:
    """What is asked for is a town, and one of two relations leads to one; of a few towns the question asks for more."""
    rng = random.Random(seed)
    rows: Rows = []
    hops: list[tuple[str, DirectedRelation, bool]] = []
    for number in range(count):
        thing, goes_on = f"Thing{number}", rng.random() < 0.5
        relations = ["kp", "vx"]
        rng.shuffle(relations)
        towns = ["".join(rng.choices("aeioulmnrst", k=6)).capitalize() for _ in range(3 if goes_on else 1)]
        years = [str(rng.randrange(1000, 2000)) for _ in range(rng.choice((1, 3)))]
        rows += [(thing, relations[0], town) for town in towns] + [(thing, relations[1], year) for year in years]
        hops.append((thing, (True, relations[0]), goes_on))
    followed = [
        followed_from(rows, thing, asked=[thing], hop=hop)._replace(goes_on=goes_on) for thing, hop, goes_on in hops
    ]
    return list(cases(followed, GraphStore.from_triples(rows), ranker, seed))


def train(loaded: LoadedModel, found: Sequence[Case]) -> Verifier:
    torch.manual_seed(0)
    verifier = Verifier.new(loaded.model, loaded.tokenizer)
    train_verifier(verifier, found, QUICK)
    return verifier


def test_a_rule_that_results_tell_is_found(loaded: LoadedModel, ranker: Ranker) -> None:
    seen, unseen = material(ranker), material(ranker, 40, seed=1)
    told: list[tuple[int, int, float]] = []
    torch.manual_seed(0)
    verifier = Verifier.new(loaded.model, loaded.tokenizer)
    before = right_shares(verifier, unseen)
    train_verifier(verifier, seen, QUICK, on_step=lambda *step: told.append(step))
    assert [(step, steps) for step, steps, _ in told] == [(number, 64) for number in range(1, 65)]
    losses = [loss for _, _, loss in told]
    assert sum(losses[-5:]) < 0.2 * sum(losses[:5])
    read: list[tuple[int, int]] = []
    shares = right_shares(verifier, unseen, on_read=lambda *place: read.append(place))  # other names
    assert read == [(number, 40) for number in range(1, 41)]
    assert 0.3 < shares["ranker alone"] == before["ranker alone"] < 0.7
    assert before["with the verifier"] < 0.8 < 0.95 < shares["with the verifier"]
    assert before["going on"] < 0.8 < 0.95 < shares["going on"]
    assert verdicts(verifier, unseen[0]) == verdicts(verifier, unseen[0])  # nothing is dropped any more
    right = sum(verdicts(verifier, case)[0].right > verdicts(verifier, case)[1].right for case in unseen)
    assert right > 0.95 * len(unseen)


def verdicts(verifier: Verifier, case: Case) -> Sequence[Verdict]:
    return verifier.verdicts(case.question.text, case.hop.branches, case.outcomes)


def case_of(scores: Sequence[float], right: Sequence[bool], goes_on: bool | None) -> Case:
    hop = followed_from(MANY, "Thing", asked=["Thing"], hop=(True, "kin"))._replace(goes_on=goes_on)
    outcomes = tuple(Outcome(relation, (relation[1],), 1) for relation in hop.relations[: len(scores)])
    return Case(hop, outcomes, tuple(right), tuple(scores))


def test_the_loss_is_that_of_the_formula(loaded: LoadedModel) -> None:
    verifier = Verifier.new(loaded.model, loaded.tokenizer)
    for layer in verifier.network.head:
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    made = [
        case_of((1.0, 2.0, -1.0), (True, False, True), True),
        case_of((0.5, 3.0), (True, False), None),
        case_of((4.0, 3.0, 0.0, 1.0), (True, False, False, False), False),
        case_of((1.0,), (True,), True),  # no choice, but something to be said about going on
        case_of((1.0, 2.0), (False, True), False),
    ]
    features = [verifier.features(case.question.text, case.hop.branches, case.outcomes) for case in made]
    first, second = (layer for layer in verifier.network.head if isinstance(layer, torch.nn.Linear))
    weights = [tensor.detach().clone() for layer in (first, second) for tensor in (layer.weight, layer.bias)]
    every = torch.cat(features)
    expected = 0.0
    for case, given in zip(made, features, strict=True):
        x = (given - every.mean(0)) / every.std(0, correction=0).clamp(min=LEAST_STD)
        logits = torch.nn.functional.gelu(x @ weights[0].T + weights[1]) @ weights[2].T + weights[3]
        shares = logits[:, 0].exp()
        expected -= math.log(float(shares[torch.tensor(case.right)].sum() / shares.sum()))
        onward = 1 / (1 + math.exp(-float(logits[0, 1])))
        if case.hop.goes_on is not None:
            expected -= math.log(onward if case.hop.goes_on else 1 - onward)
    told: list[float] = []
    settings = VerifierSettings(epochs=2, batch_size=5)
    train_verifier(verifier, made, settings, on_step=lambda step, steps, loss: told.append(loss))
    assert told[0] == pytest.approx(expected / 5, rel=1e-2)
    assert told[1] < told[0]


def test_what_is_added_to_the_model_learns_with_the_head(loaded: LoadedModel, ranker: Ranker) -> None:
    verifier = Verifier.new(loaded.model, loaded.tokenizer)
    before = [matrix.clone() for matrix in verifier.network.low_rank.parameters()]
    train_verifier(verifier, material(ranker, 16), QUICK.model_copy(update={"epochs": 1}))
    after = list(verifier.network.low_rank.parameters())
    assert not any(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_the_model_itself_stays_as_it_is(loaded: LoadedModel, ranker: Ranker) -> None:
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    train(loaded, material(ranker, 4))
    assert all(torch.equal(value, before[name]) for name, value in loaded.model.state_dict().items())
    assert all(value.grad is None for value in loaded.model.parameters())


def test_the_result_depends_on_the_seed_alone(loaded: LoadedModel, ranker: Ranker) -> None:
    found = material(ranker, 10)

    def content(seed: int, noise: int) -> bytes:
        torch.manual_seed(5)
        verifier = Verifier.new(loaded.model, loaded.tokenizer)
        torch.manual_seed(noise)  # whatever happened since in the process
        settings = QUICK.model_copy(update={"epochs": 2, "seed": seed})
        train_verifier(verifier, found, settings)
        return verifier.to_bytes()

    first = content(0, 1)
    assert content(0, 2) == first
    assert content(1, 1) != first


def test_without_a_case_there_is_nothing_to_learn(loaded: LoadedModel) -> None:
    with pytest.raises(
        SettingsError, match=r"nothing to learn; take other questions, or raise coldstart\.trajectories"
    ):
        train(loaded, [])


class Echo:
    """Reads its features off a list, and has logits that rise with them."""

    def __init__(self, logits: Sequence[Sequence[Sequence[float]]]) -> None:
        self.rows = iter([row for case in logits for row in case])

    def read(self, asked: Sequence[Reading], *, gradient: bool = False) -> torch.Tensor:
        return torch.tensor([next(self.rows) for *_, outcomes in asked for _ in outcomes])

    def network(self, features: torch.Tensor) -> torch.Tensor:
        return features - torch.tensor([0.0, 2.0])


def test_the_shares_of_right_ones() -> None:
    kept: list[tuple[Case, list[list[float]]]] = [
        # to the ranker the best, and so it stays; it goes on, as is said of the first outcome
        (case_of((2.0, 1.0), (True, False), True), [[0.0, 9.0], [0.0, 0.0]]),
        # what is found outweighs the ranker
        (case_of((1.0, 4.0, 0.0), (True, False, False), False), [[9.0, 0.0], [0.0, 9.0], [0.0, 9.0]]),
        # another that is right, too; nobody knows whether it goes on
        (case_of((1.0, 4.0, 0.0), (True, False, True), None), [[0.0, 9.0], [0.0, 0.0], [9.0, 0.0]]),
        # led astray in both
        (case_of((2.0, 1.0), (True, False), True), [[0.0, 0.0], [9.0, 9.0]]),
        # not outweighed
        (case_of((0.0, 20.0), (True, False), False), [[9.0, 9.0], [0.0, 0.0]]),
        # no choice, and nothing to be right about but going on
        (case_of((0.0,), (True,), True), [[0.0, 0.0]]),
    ]
    verifier: Any = Echo([rows for _, rows in kept])
    shares = right_shares(verifier, [case for case, _ in kept])
    assert shares == {"ranker alone": 0.4, "with the verifier": 0.6, "going on": 0.4}
    assert set(right_shares(verifier, []).values()) == {0.0}


# Its file


def test_a_file_is_whole_or_absent(loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "runs" / "policy"
    first, second = (Verifier.new(loaded.model, loaded.tokenizer, seed=seed) for seed in range(2))
    assert first.to_bytes() != second.to_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_verifier(first, folder)
    assert list(folder.iterdir()) == []
    monkeypatch.undo()
    assert save_verifier(first, folder) == folder / VERIFIER_FILE
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_verifier(second, folder)
    assert list(folder.iterdir()) == [folder / VERIFIER_FILE]
    assert (folder / VERIFIER_FILE).read_bytes() == first.to_bytes()
    monkeypatch.undo()
    save_verifier(second, folder)
    assert (folder / VERIFIER_FILE).read_bytes() == second.to_bytes()
