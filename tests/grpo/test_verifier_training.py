"""Training a verifier on cases whose rule is known, and what a case is made of."""

from __future__ import annotations

import errno
import math
import os
import random
from collections.abc import Sequence
from pathlib import Path

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
from kgr1.grpo.verifier import Case, cases, read_cases, right_shares, save_verifier, train_verifier  # noqa: E402
from kgr1.models.pretrained import VERIFIER_FILE  # noqa: E402
from kgr1.models.ranker import Ranker  # noqa: E402
from kgr1.models.verifier import Verifier, VerifierNetwork  # noqa: E402
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
    return Followed(question, (tuple(before),), here, frozenset(asked), (*outgoing, *incoming), hop, goes_on=False)


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
    found = {outcome.hop: outcome.names for outcome in made(hop, rows, ranker).outcomes}
    assert found == {
        (True, "near"): ("C", "D"),
        (True, "kin"): ("A", "Z"),
        (True, "seen by"): ("B",),  # it is gone on from, but nobody named it
        (False, "near"): ("B",),
        (False, "seen by"): ("C",),
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
    train_verifier(verifier, found, read_cases(verifier, found), QUICK)
    return verifier


def test_a_rule_that_results_tell_is_found(loaded: LoadedModel, ranker: Ranker) -> None:
    seen, unseen = material(ranker), material(ranker, 40, seed=1)
    told: list[tuple[int, int, float]] = []
    torch.manual_seed(0)
    verifier = Verifier.new(loaded.model, loaded.tokenizer)
    features, others = read_cases(verifier, seen), read_cases(verifier, unseen)
    before = right_shares(verifier, unseen, others)
    train_verifier(verifier, seen, features, QUICK, on_step=lambda *step: told.append(step))
    assert [(step, steps) for step, steps, _ in told] == [(number, 64) for number in range(1, 65)]
    losses = [loss for _, _, loss in told]
    assert sum(losses[-5:]) < 0.2 * sum(losses[:5])
    shares = right_shares(verifier, unseen, others)  # other names
    assert 0.3 < shares["ranker alone"] == before["ranker alone"] < 0.7
    assert before["with the verifier"] < 0.8 < 0.95 < shares["with the verifier"]
    assert before["going on"] < 0.8 < 0.95 < shares["going on"]
    assert verdicts(verifier, unseen[0]) == verdicts(verifier, unseen[0])  # nothing is dropped any more
    right = sum(verdicts(verifier, case)[0].right > verdicts(verifier, case)[1].right for case in unseen)
    assert right > 0.95 * len(unseen)


def verdicts(verifier: Verifier, case: Case) -> Sequence[Verdict]:
    return verifier.verdicts(case.question.text, case.hop.branches, case.outcomes)


def case_of(scores: Sequence[float], right: Sequence[bool], goes_on: bool | None) -> Case:
    """A case whose features are made by hand."""
    hop = followed_from(MANY, "Thing", asked=["Thing"], hop=(True, "kin"))._replace(goes_on=goes_on)
    outcomes = tuple(Outcome(relation, (), 0) for relation in hop.relations[: len(scores)])
    return Case(hop, outcomes, tuple(right), tuple(scores))


def test_the_loss_is_that_of_the_formula(loaded: LoadedModel) -> None:
    torch.manual_seed(2)
    verifier = Verifier(VerifierNetwork(5, dropout=0.0), loaded.model, loaded.tokenizer)
    made = [
        case_of((1.0, 2.0, -1.0), (True, False, True), True),
        case_of((0.5, 3.0), (True, False), None),
        case_of((4.0, 3.0, 0.0, 1.0), (True, False, False, False), False),
    ]
    features = [torch.randn(len(case.outcomes), 5) for case in made]
    first, second = (layer for layer in verifier.network.head if isinstance(layer, torch.nn.Linear))
    weights = [tensor.detach().clone() for layer in (first, second) for tensor in (layer.weight, layer.bias)]
    every = torch.cat(features)
    expected = 0.0
    for case, given in zip(made, features, strict=True):
        x = (given - every.mean(0)) / every.std(0, correction=0)
        logits = torch.nn.functional.gelu(x @ weights[0].T + weights[1]) @ weights[2].T + weights[3]
        shares = logits[:, 0].exp()
        expected -= math.log(float(shares[torch.tensor(case.right)].sum() / shares.sum()))
        onward = 1 / (1 + math.exp(-float(logits[0, 1])))
        if case.hop.goes_on is not None:
            expected -= math.log(onward if case.hop.goes_on else 1 - onward)
    told: list[float] = []
    settings = VerifierSettings(epochs=2, batch_size=3)
    train_verifier(verifier, made, features, settings, on_step=lambda step, steps, loss: told.append(loss))
    assert told[0] == pytest.approx(expected / 3, rel=1e-4)
    assert told[1] < told[0]


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
        train_verifier(verifier, found, read_cases(verifier, found), settings)
        return verifier.to_bytes()

    first = content(0, 1)
    assert content(0, 2) == first
    assert content(1, 1) != first


def test_without_a_case_there_is_nothing_to_learn(loaded: LoadedModel) -> None:
    with pytest.raises(
        SettingsError, match=r"nothing to learn; take other questions, or raise coldstart\.trajectories"
    ):
        train(loaded, [])


def test_cases_are_read_once_and_kept_in_16_bits(loaded: LoadedModel, ranker: Ranker) -> None:
    found = material(ranker, 5)
    verifier = Verifier.new(loaded.model, loaded.tokenizer)
    told: list[tuple[int, int]] = []
    features = read_cases(verifier, found, on_read=lambda done, total: told.append((done, total)))
    assert told == [(number, 5) for number in range(1, 6)]
    for case, kept in zip(found, features, strict=True):
        assert kept.dtype == torch.float16
        read = verifier.features(case.question.text, case.hop.branches, case.outcomes)
        assert torch.allclose(kept.float(), read, rtol=1e-3, atol=1e-3)


def test_a_number_too_large_for_16_bits_is_cut(loaded: LoadedModel, ranker: Ranker) -> None:
    verifier = Verifier.new(loaded.model, loaded.tokenizer)
    loud = load_model(loaded.name)
    with torch.no_grad():
        loud.model.model.norm.weight *= 1e6  # the tiny model's last layer is the one that is read
    (features,) = read_cases(Verifier.new(loud.model, loud.tokenizer), material(ranker, 1))
    assert features.isfinite().all()
    assert features.abs().max() == torch.finfo(torch.float16).max
    assert features.sign().equal(read_cases(verifier, material(ranker, 1))[0].sign())


def echo(loaded: LoadedModel) -> Verifier:
    """A verifier whose logits rise with two features, from less than 0."""
    network = VerifierNetwork(2, width=2, dropout=0.0)
    with torch.no_grad():
        for layer in (layer for layer in network.head if isinstance(layer, torch.nn.Linear)):
            layer.weight.copy_(torch.eye(2))
            layer.bias.copy_(torch.tensor([0.0, -2.0]))
    return Verifier(network, loaded.model, loaded.tokenizer)


def test_the_shares_of_right_ones(loaded: LoadedModel) -> None:
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
    ]
    features = [torch.tensor(rows).half() for _, rows in kept]
    shares = right_shares(echo(loaded), [case for case, _ in kept], features)
    assert shares == {"ranker alone": 0.4, "with the verifier": 0.6, "going on": 0.5}
    assert set(right_shares(echo(loaded), [], []).values()) == {0.0}


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
