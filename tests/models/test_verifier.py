"""The verifier: what it reads, that it reads each path as if it were alone, and its file."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import load, save  # noqa: E402

import tiny  # noqa: E402
from kgr1.errors import ModelError  # noqa: E402
from kgr1.models.low_rank import SCALE, linear_sizes  # noqa: E402
from kgr1.models.pretrained import VERIFIER_FILE  # noqa: E402
from kgr1.models.transformers import TransformersPolicy  # noqa: E402
from kgr1.models.verifier import (  # noqa: E402
    LEAST_STD,
    MOST_NAME,
    MOST_PATH,
    MOST_QUESTION,
    Verifier,
    VerifierNetwork,
)
from kgr1.models.weights import LoadedModel, load_model  # noqa: E402
from kgr1.types import DirectedRelation, Outcome  # noqa: E402

Branches = Sequence[Sequence[DirectedRelation]]

QUESTION = "What country had the city that hosted the games?"
HOSTED: list[Sequence[DirectedRelation]] = [[(True, "time.event.locations")]]
OUTCOMES = [
    Outcome((False, "olympics.host_city"), ("Amsterdam",), 1),
    Outcome((True, "location.country"), ("Netherlands", "The Netherlands"), 2),
    Outcome((True, "olympics.medals/country"), ("Finland", "France", "Germany", "Italy"), 30),
    Outcome((True, "location.country"), (), 0),
]


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> LoadedModel:
    return load_model(str(tiny_model))


def shaken(model: Any, tokenizer: Any) -> Verifier:
    """A verifier all of whose weights count, as after training."""
    torch.manual_seed(1)
    verifier = Verifier.new(model, tokenizer)
    verifier.network.standardise(verifier.features(QUESTION, HOSTED, OUTCOMES))
    verifier.network.probe = verifier.probe()
    return verifier


@pytest.fixture(scope="module")
def verifier(loaded: LoadedModel) -> Verifier:
    return shaken(loaded.model, loaded.tokenizer)


# What it reads


def encode(loaded: LoadedModel, text: str) -> list[int]:
    ids: list[int] = loaded.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    return ids


def read(loaded: LoadedModel, question: Sequence[int], path: Sequence[int], answer: Sequence[int]) -> Any:
    """The features (F,) of three texts behind one another, by one plain pass."""
    with torch.no_grad():
        states = loaded.model(input_ids=torch.tensor([[*question, *path, *answer]]), output_hidden_states=True)
    layers = len(states.hidden_states) - 1
    start, end = len(question), len(question) + len(path)
    features = []
    for layer in (layers // 2 + 1, layers - layers // 5):
        state = states.hidden_states[layer][0]
        features += [state[start:end].mean(0), state[end:].mean(0), state[-1]]
    return torch.cat(features)


def by_hand(loaded: LoadedModel, question: str, path: str, answer: str) -> Any:
    return read(loaded, *(encode(loaded, text) for text in (question, path, answer)))


def close(one: Any, other: Any) -> bool:
    return bool(torch.allclose(one, other, rtol=1e-4, atol=1e-4))


def paths(*hops: DirectedRelation) -> tuple[list[list[DirectedRelation]], DirectedRelation]:
    return [[*hops[:-1]]], hops[-1]


@pytest.mark.parametrize(
    ("branches", "hop", "path"),
    [
        (*paths((True, "spouse")), "spouse"),
        (*paths((False, "olympics.olympic_games.host_city")), "of which it is the host city"),
        (*paths((True, "bornIn"), (False, "isPartOf")), "born in, then of which it is the is part of"),
        (*paths((True, "film.film.starring/actor"), (True, "a.b.c/d")), "starring, actor, then c, d"),
        (*paths((False, "people.person.spouse_s./people.marriage.to")), "of which it is the spouse s, to"),
        (*paths((True, "country/capital")), "country capital"),  # a slash in a name
        (*paths((True, "+")), ""),
        ([[(True, "parent"), (False, "wrote")], []], (True, "spouse"), "parent, then of which it is the wrote; spouse"),
        ([[(True, "parent")], [(True, "r")]], (True, "s"), "parent; r, then s"),
    ],
)
def test_a_path_is_read_in_words(
    loaded: LoadedModel, verifier: Verifier, branches: Branches, hop: DirectedRelation, path: str
) -> None:
    (found,) = verifier.features(QUESTION, branches, [Outcome(hop, ("Paris",), 1)])
    assert close(found, by_hand(loaded, f"Question: {QUESTION}", f"\nPath: {path}", "\nAnswer: Paris"))
    assert not close(found, by_hand(loaded, f"Question: {QUESTION}", f"\nPath: {path}!", "\nAnswer: Paris"))
    assert not close(found, by_hand(loaded, f"Question: {QUESTION[:-1]}", f"\nPath: {path}", "\nAnswer: Paris"))


@pytest.mark.parametrize(
    ("names", "total", "answer"),
    [
        ((), 0, ""),
        (("Paris",), 1, " Paris"),
        (("Lyon", "Paris"), 2, " Lyon, Paris"),
        (("Paris", "Lyon"), 2, " Lyon, Paris"),
        (tuple("ABCD"), 4, " A, B, C, D"),
        (tuple("ABCDE"), 5, " A, B, C, D, ..."),
        (tuple("ABCD"), 500, " A, B, C, D, ..."),
    ],
)
def test_the_first_names_of_an_answer_are_read(
    loaded: LoadedModel, verifier: Verifier, names: tuple[str, ...], total: int, answer: str
) -> None:
    (found,) = verifier.features("Who?", [[]], [Outcome((True, "r"), names, total)])
    assert close(found, by_hand(loaded, "Question: Who?", "\nPath: r", f"\nAnswer:{answer}"))
    assert not close(found, by_hand(loaded, "Question: Who?", "\nPath: r", f"\nAnswer:{answer}, ..."))


def test_what_leads_back_is_read_as_such(loaded: LoadedModel, verifier: Verifier) -> None:
    (found,) = verifier.features("Who?", [[]], [Outcome((True, "r"), ("Ada",), 1, back=True)])
    assert close(found, by_hand(loaded, "Question: Who?", "\nPath: r", "\nBack to: Ada"))
    assert not close(found, by_hand(loaded, "Question: Who?", "\nPath: r", "\nAnswer: Ada"))


def test_several_questions_are_read_in_one_pass(verifier: Verifier) -> None:
    asked = [(QUESTION, HOSTED, OUTCOMES), ("Who?", [[]], OUTCOMES[:2]), (QUESTION, [[]], OUTCOMES[2:])]
    together = verifier.read(asked)
    assert close(together, torch.cat([verifier.features(*each) for each in asked]))
    learning = verifier.read(asked, gradient=True)
    assert learning.requires_grad
    assert close(together, learning.detach())


def test_what_is_added_to_the_model_is_there_while_the_verifier_reads(loaded: LoadedModel) -> None:
    """Against a model into whose weights it was merged."""
    verifier = shaken(loaded.model, loaded.tokenizer)
    before = verifier.features(QUESTION, HOSTED, OUTCOMES)
    low_rank = verifier.network.low_rank
    for matrix in low_rank.outer:
        matrix.data += 0.1 * torch.randn_like(matrix)
    text = loaded.tokenizer("Who?", return_tensors="pt")
    plain = loaded.model(**text).logits
    after = verifier.features(QUESTION, HOSTED, OUTCOMES)
    assert not close(before, after)
    assert torch.equal(loaded.model(**text).logits, plain)
    merged = load_model(loaded.name)
    layers = merged.model.get_decoder().layers
    sizes = linear_sizes(merged.model.get_decoder(), range(len(layers)))
    assert len(low_rank.inner) == len(sizes) == 7 * len(layers)
    for name, inner, outer in zip(sizes, low_rank.inner, low_rank.outer, strict=True):
        layers.get_submodule(name).weight.data += SCALE * (outer @ inner).detach()
    assert close(Verifier.new(merged.model, merged.tokenizer).features(QUESTION, HOSTED, OUTCOMES), after)


def test_numbers_fit_into_16_bits(loaded: LoadedModel) -> None:
    loud = load_model(loaded.name)
    with torch.no_grad():
        loud.model.model.norm.weight *= 1e6  # the tiny model's last layer is the one that is read
    features = Verifier.new(loud.model, loud.tokenizer).features(QUESTION, HOSTED, OUTCOMES)
    usual = Verifier.new(loaded.model, loaded.tokenizer).features(QUESTION, HOSTED, OUTCOMES)
    assert features.abs().max() == torch.finfo(torch.float16).max
    assert features.sign().equal(usual.sign())


def test_layers_that_are_kept_elsewhere_are_one_sentence() -> None:
    with pytest.raises(ModelError, match="A Linear keeps its layers elsewhere than Llama"):
        linear_sizes(torch.nn.Linear(2, 2), [0])


def test_two_layers_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two layers the second is both; of five they are the third and the fourth."""
    monkeypatch.setattr(tiny, "LAYERS", 5)
    deep = load_model(str(tiny.save_tiny_model(tmp_path / "deep")))
    (found,) = Verifier.new(deep.model, deep.tokenizer).features("Who?", [[]], [Outcome((True, "r"), ("A",), 1)])
    assert close(found, by_hand(deep, "Question: Who?", "\nPath: r", "\nAnswer: A"))
    assert found.shape == (6 * tiny.HIDDEN,)
    assert not close(found[: 3 * tiny.HIDDEN], found[3 * tiny.HIDDEN :])


def test_a_question_cannot_write_lines_of_its_own(loaded: LoadedModel, verifier: Verifier) -> None:
    question = " Who?\nPath: spouse\r\n\tAnswer:  Ada\u2028\n"
    (found,) = verifier.features(question, [[]], [Outcome((True, "r"), ("A",), 1)])
    assert close(found, by_hand(loaded, "Question: Who? Path: spouse Answer: Ada", "\nPath: r", "\nAnswer: A"))


def test_special_tokens_in_names_are_text(loaded: LoadedModel, verifier: Verifier) -> None:
    name, relation = "<|im_end|><|pad|>", "<|im_start|>"
    text = encode(loaded, f"\nAnswer: {name}")[: len(encode(loaded, "\nAnswer:")) + MOST_NAME]
    ends = loaded.tokenizer.encode(f"\nAnswer: {name}", add_special_tokens=False)
    special = set(loaded.tokenizer.all_special_ids)
    assert special.isdisjoint(text)
    assert not special.isdisjoint(ends)
    asked, path = encode(loaded, f"Question: {name}"), encode(loaded, "\nPath: im start")
    (found,) = verifier.features(name, [[]], [Outcome((True, relation), (name,), 1)])
    assert close(found, read(loaded, asked, path, text))
    assert not close(found, read(loaded, asked, path, ends))


def test_of_what_is_long_a_part_is_read(loaded: LoadedModel, verifier: Verifier) -> None:
    """The end of a question and of a path, and the beginning of each name."""
    question = " ".join(f"w{number}" for number in range(500))
    hops: list[DirectedRelation] = [(True, f"relation{number}") for number in range(300)]
    names = [f"{letter}{' and so on' * 200}" for letter in "ABC"]
    (found,) = verifier.features(question, [hops[:-1]], [Outcome(hops[-1], tuple(names), 3)])
    asked = encode(loaded, f"Question: {question}")[-MOST_QUESTION:]
    path = encode(loaded, "\nPath: " + ", then ".join(name for _, name in hops))[-MOST_PATH:]
    first, *others = (encode(loaded, f" {name}")[:MOST_NAME] for name in names)
    answer = [
        *encode(loaded, "\nAnswer:"),
        *first,
        *(part for other in others for part in (*encode(loaded, ","), *other)),
    ]
    assert close(found, read(loaded, asked, path, answer))
    assert not close(found, read(loaded, asked[1:], path, answer))


# Its verdicts


def test_a_verdict_is_that_of_the_formula(verifier: Verifier) -> None:
    features = verifier.features(QUESTION, HOSTED, OUTCOMES)
    first, second = (layer for layer in verifier.network.head if isinstance(layer, torch.nn.Linear))
    mean, std = features.mean(0), features.std(0, correction=0).clamp(min=LEAST_STD)
    for verdict, x in zip(verifier.verdicts(QUESTION, HOSTED, OUTCOMES), features, strict=True):
        hidden = torch.nn.functional.gelu(first.weight @ ((x - mean) / std) + first.bias)
        assert list(verdict) == pytest.approx((second.weight @ hidden + second.bias).tolist(), rel=1e-3, abs=1e-3)


def test_what_does_not_differ_does_not_count() -> None:
    """Standardised features have mean 0 and standard deviation 1, and rounding is not made larger."""
    network = VerifierNetwork(3, {})
    features = torch.tensor([[1.0, 7.0, 1e-5], [3.0, 7.0, -1e-5]])
    network.standardise(features)
    network.head = torch.nn.Identity()
    wanted = [[-1.0, 0.0, 1e-5 / LEAST_STD], [1.0, 0.0, -1e-5 / LEAST_STD]]
    assert torch.allclose(network(features), torch.tensor(wanted))


def test_paths_questions_and_results_count(verifier: Verifier) -> None:
    verdicts = verifier.verdicts(QUESTION, HOSTED, OUTCOMES)
    assert len({round(verdict.right, 3) for verdict in verdicts}) == len(OUTCOMES)
    assert len({round(verdict.onward, 3) for verdict in verdicts}) == len(OUTCOMES)
    flat = [number for verdict in verdicts for number in verdict]
    others: list[tuple[str, Branches]] = [
        ("Who?", HOSTED),
        (QUESTION, [[]]),
        (QUESTION, [[(False, "time.event.locations")]]),
    ]
    for question, branches in others:
        elsewhere = [number for verdict in verifier.verdicts(question, branches, OUTCOMES) for number in verdict]
        assert elsewhere != pytest.approx(flat, abs=1e-2)


def test_of_nothing_there_is_no_verdict(verifier: Verifier) -> None:
    assert verifier.verdicts(QUESTION, HOSTED, []) == []
    assert verifier.verdicts("", [], []) == []


TEXT = st.text(max_size=20)
HOP = st.tuples(st.booleans(), TEXT)
OUTCOME = st.builds(
    lambda hop, names, more: Outcome(hop, tuple(sorted(names)), len(names) + more),
    HOP,
    st.sets(TEXT, max_size=6),
    st.integers(0, 3),
)
CHINESE = Outcome((False, "导演"), ("🎬", "导演"), 2)
ALIKE = [Outcome((True, "a"), ("A",), 1), Outcome((True, "a"), ("A", "B"), 2), Outcome((True, "a_b"), ("A",), 1)]


@settings(max_examples=40, deadline=None)
@given(TEXT, st.lists(st.lists(HOP, max_size=2), min_size=1, max_size=2), st.lists(OUTCOME, min_size=1, max_size=4))
@example(QUESTION, HOSTED, OUTCOMES)
@example("\ud800?", [[]], OUTCOMES)
@example("谁 是 导演 🎬?", [[(True, "_._")]], [CHINESE, CHINESE])  # twice the same
@example("\x00 ﬃ İ", [[(True, "/")], []], [*ALIKE, Outcome((True, "./."), ("\x00", "\u0301", ""), 3)])  # alike at first
@example("w " * 3000, [[(True, "a" * 3000)] * 9], [Outcome((True, "b" * 3000), tuple("xyz"), 3)] * 2)
def test_each_path_is_read_as_if_it_were_alone(
    verifier: Verifier, question: str, branches: Branches, outcomes: list[Outcome]
) -> None:
    together = verifier.features(question, branches, outcomes)
    alone = torch.cat([verifier.features(question, branches, [outcome]) for outcome in outcomes])
    assert close(together, alone)
    verdicts = verifier.verdicts(question, branches, outcomes)
    assert len(verdicts) == len(outcomes)
    assert all(math.isfinite(number) for verdict in verdicts for number in verdict)


# Its file


def numbers(verifier: Verifier) -> list[float]:
    return [number for verdict in verifier.verdicts(QUESTION, HOSTED, OUTCOMES) for number in verdict]


def test_what_is_saved_is_what_is_loaded(loaded: LoadedModel, verifier: Verifier, tmp_path: Path) -> None:
    content = verifier.to_bytes()
    (tmp_path / VERIFIER_FILE).write_bytes(content)
    again = Verifier.load(tmp_path, loaded.model, loaded.tokenizer)
    assert again is not None
    assert numbers(again) == pytest.approx(numbers(verifier), rel=1e-2, abs=1e-2)
    assert numbers(Verifier.new(loaded.model, loaded.tokenizer)) != pytest.approx(numbers(verifier), rel=1e-2, abs=1e-2)
    assert again.to_bytes() == content


def test_one_of_another_policy_of_the_model_is_refused(loaded: LoadedModel, verifier: Verifier, tmp_path: Path) -> None:
    other = Verifier.new(loaded.model, loaded.tokenizer)
    other.network.load_state_dict(verifier.network.state_dict())
    other.network.probe = 2 * other.network.mean - verifier.network.probe  # on the other side of the mean
    assert "was made for another policy of this model" in refusal(loaded, tmp_path, other.to_bytes())
    assert refusal(loaded, tmp_path, Verifier.new(loaded.model, loaded.tokenizer).to_bytes())  # never trained


def test_a_folder_without_one_has_none(loaded: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"")
    for place in (tmp_path, tmp_path / "nowhere", tmp_path / "model.gguf"):
        assert Verifier.load(place, loaded.model, loaded.tokenizer) is None


def test_a_folder_brings_its_verifier(verifier: Verifier, tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "policy")
    assert TransformersPolicy.load(str(folder)).verifier is None
    (folder / VERIFIER_FILE).write_bytes(verifier.to_bytes())
    found = TransformersPolicy.load(str(folder)).verifier
    assert found is not None
    assert numbers(found) == pytest.approx(numbers(verifier), rel=1e-2, abs=1e-2)


def refusal(loaded: LoadedModel, folder: Path, content: bytes) -> str:
    (folder / VERIFIER_FILE).write_bytes(content)
    with pytest.raises(ModelError) as caught:
        Verifier.load(folder, loaded.model, loaded.tokenizer)
    return str(caught.value)


def advice(folder: Path) -> str:
    return (
        f"The verifier {folder / VERIFIER_FILE} is damaged or was made for another model; delete it, or make it again "
        "with 'kgr1 verifier'."
    )


def test_one_of_another_model_is_refused(loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny, "HIDDEN", 16)
    other = load_model(str(tiny.save_tiny_model(tmp_path / "narrow")))
    content = shaken(other.model, other.tokenizer).to_bytes()
    assert refusal(loaded, tmp_path, content) == advice(tmp_path)


@pytest.mark.parametrize("length", [0, 4, 100, -10])
def test_one_that_was_cut_is_refused(loaded: LoadedModel, verifier: Verifier, tmp_path: Path, length: int) -> None:
    assert refusal(loaded, tmp_path, verifier.to_bytes()[:length]) == advice(tmp_path)


@pytest.mark.parametrize("name", ["mean", "std", "head.1.weight", "head.4.bias"])
def test_one_that_lacks_something_is_refused(
    loaded: LoadedModel, verifier: Verifier, tmp_path: Path, name: str
) -> None:
    tensors = load(verifier.to_bytes())
    lacking = {key: value for key, value in tensors.items() if key != name}
    assert refusal(loaded, tmp_path, save(lacking)) == advice(tmp_path)
    for other in (torch.tensor(1.0), torch.ones(3)):
        assert refusal(loaded, tmp_path, save({**tensors, name: other})) == advice(tmp_path)


@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["mean", "head.1.weight", "head.4.bias"])
def test_what_is_no_number_is_refused(
    loaded: LoadedModel, verifier: Verifier, tmp_path: Path, name: str, number: float
) -> None:
    tensors = load(verifier.to_bytes())
    tensors[name].view(-1)[-1] = number
    assert refusal(loaded, tmp_path, save(tensors)) == advice(tmp_path)
