"""The ranker of relations: its score, its file, and that nothing but the question and the relation counts."""

from __future__ import annotations

import math
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
from kgr1.agent.rank import bm25, whole_words  # noqa: E402
from kgr1.errors import ModelError  # noqa: E402
from kgr1.models.ranker import ATTENTION, NOTHING, RANKER_FILE, Ranker  # noqa: E402
from kgr1.models.weights import LoadedModel, load_model  # noqa: E402
from kgr1.types import DirectedRelation  # noqa: E402

Case = tuple[str, Sequence[str], Sequence[str], Sequence[DirectedRelation]]

RELATIONS: list[DirectedRelation] = [
    (True, "film.director"),
    (False, "film.director"),
    (True, "people.person.place_of_birth"),
    (True, "capital"),
    (False, "isPartOf"),
]
CASE: Case = ("Who is the director of Alien?", ("Alien",), ("starring", "award.winner"), RELATIONS)
OTHERS: list[Case] = [
    CASE,
    ("Where?", (), (), RELATIONS[:1]),
    ("In which of the many small towns of the south was she born and raised?", (), ("capital",), RELATIONS[1:4]),
    ("!", ("Alien",), ("a.very.long_relation.with_many.words_in_it",), [*RELATIONS, (True, "one.more.word.or.two")]),
]


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> LoadedModel:
    return load_model(str(tiny_model))


def shaken(model: Any, tokenizer: Any) -> Ranker:
    """A ranker all of whose weights count, as after training."""
    torch.manual_seed(1)
    ranker = Ranker.new(model, tokenizer, met=[name for _, name in RELATIONS])
    for parameter in ranker.network.parameters():
        parameter.data += torch.randn_like(parameter) * 0.1
    ranker.standardise([(text, topics) for text, topics, _, _ in OTHERS], [name for _, name in RELATIONS])
    return ranker


@pytest.fixture(scope="module")
def ranker(loaded: LoadedModel) -> Ranker:
    return shaken(loaded.model, loaded.tokenizer)


# The score


def words_of_question(text: str, topics: Sequence[str]) -> list[str]:
    named = {word for topic in topics for word in whole_words(topic)}
    return [word for word in whole_words(text) if word not in named]


def word_vector(loaded: LoadedModel, word: str) -> Any:
    table = loaded.model.get_input_embeddings().weight.detach()
    rows = table[loaded.tokenizer.encode(f" {word}", add_special_tokens=False)]
    vector = ((rows - table.mean(0)) / table.std(0)).mean(0)
    return vector / vector.norm()


def read_vector(loaded: LoadedModel, words: list[str], others: list[list[str]]) -> Any:
    """What the model reads in a text, against what it reads in others."""

    def read(words: list[str]) -> Any:
        ids = loaded.tokenizer.encode(" ".join(words) or NOTHING, add_special_tokens=False)
        with torch.no_grad():
            states = loaded.model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
        return states[(len(states) - 1) // 2 + 1][0].float().mean(0)

    all_of_them = torch.stack([read(text) for text in others])
    vector = (read(words) - all_of_them.mean(0)) / all_of_them.std(0, correction=0)
    return vector / vector.norm()


def by_hand(loaded: LoadedModel, ranker: Ranker, words: list[str], before: list[str], name: list[str]) -> Any:
    """The score of a relation that is walked from head to tail, without BM25."""
    net = {key: value.detach() for key, value in ranker.network.named_parameters()}

    def pooled(vectors: Any, mind: str) -> tuple[Any, Any]:
        shares = torch.stack([ATTENTION * (net[f"{mind}.weight"][0] @ v) for v in vectors]).exp()
        shares = shares / shares.sum()
        return sum(share * v for share, v in zip(shares, vectors, strict=True)), shares

    def cos(one: Any, other: Any) -> Any:
        return one @ other / (one.norm() * other.norm())

    asked, named = ([word_vector(loaded, word) for word in texts] for texts in (words, name))
    question, _ = pooled(asked, "mind_question")
    relation, _ = pooled(named, "mind_relation")
    _, weights = pooled(asked, "mind_word")
    way = sum(word_vector(loaded, word) for word in before) / max(len(before), 1) if before else 0 * question
    wanted = net["question.weight"] @ question + net["before.weight"] @ way
    mine, theirs = net["question_word.weight"], net["relation_word.weight"]
    fits = sum(w * max(cos(mine @ e, theirs @ d) for d in named) for w, e in zip(weights, asked, strict=True))
    whole, alike, single, _, inwards, reading = net["scales"]
    score = whole * wanted @ (net["relation.weight"] @ relation) + alike * cos(question, relation) + single * fits
    asked_texts = [words_of_question(text, topics) for text, topics, _, _ in OTHERS]
    named_texts = [list(words) for words in sorted({tuple(whole_words(name)) for _, name in RELATIONS})]
    read, reads = read_vector(loaded, words, asked_texts), read_vector(loaded, name, named_texts)
    score = score + reading * (net["read_question.weight"] @ read) @ (net["read_relation.weight"] @ reads)
    return score, score + inwards + net["inwards.weight"][0] @ wanted


@pytest.mark.parametrize("before", [[], ["award", "winner"]])
def test_the_score_is_that_of_the_formula(loaded: LoadedModel, ranker: Ranker, before: list[str]) -> None:
    words, name = ["who", "is", "the", "director", "of"], ["film", "director"]
    names = ["film.director", "film.director", "capital"]
    scores = ranker.scores(CASE[0], CASE[1], ["_".join(before)] if before else [], RELATIONS[:2] + RELATIONS[3:4])
    shared = float(ranker.network.scales[3].detach()) * bm25(CASE[0], names)[0]
    assert shared > 0
    expected = [float(value) + shared for value in by_hand(loaded, ranker, words, before, name)]
    assert scores[:2] == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert scores[2] == pytest.approx(float(by_hand(loaded, ranker, words, before, ["capital"])[0]), rel=1e-4, abs=1e-4)


@given(st.permutations(range(len(RELATIONS))))
def test_another_order_is_the_same_opinion(ranker: Ranker, order: list[int]) -> None:
    scores = ranker.scores(*CASE)
    assert len({round(score, 3) for score in scores}) == len(RELATIONS)
    mixed = ranker.scores(*CASE[:3], [RELATIONS[place] for place in order])
    assert mixed == pytest.approx([scores[place] for place in order], rel=1e-4, abs=1e-4)


def test_longer_neighbours_do_not_count(ranker: Ranker) -> None:
    with torch.no_grad():
        together = ranker.network(ranker.lay_out(OTHERS))
    assert together.shape == (len(OTHERS), len(RELATIONS) + 1)
    for row, case in zip(together.tolist(), OTHERS, strict=True):
        count = len(case[3])
        assert row[:count] == pytest.approx(ranker.scores(*case), rel=1e-4, abs=1e-4)
        assert row[count:] == [-math.inf] * (len(row) - count)


def test_the_name_of_the_topic_is_no_word_of_the_question(ranker: Ranker) -> None:
    first = ranker.scores("Who is the director of Alien?", ("Alien",), (), RELATIONS)
    second = ranker.scores("Who is the director of BLADE runner?", ("Blade Runner",), (), RELATIONS)
    assert first == pytest.approx(second, abs=1e-5)
    third = ranker.scores("Who is the director of BLADE runner?", ("Blade",), (), RELATIONS)
    assert third != pytest.approx(second, abs=1e-2)


def test_the_way_here_and_the_direction_count(ranker: Ranker) -> None:
    scores = ranker.scores(*CASE)
    elsewhere = ranker.scores(*CASE[:2], (), RELATIONS)
    assert scores != pytest.approx(elsewhere, abs=1e-2)
    assert scores[0] != pytest.approx(scores[1], abs=1e-2)


def test_a_question_without_words(ranker: Ranker) -> None:
    wordless = ranker.scores("?!", (), (), RELATIONS)
    assert all(map(math.isfinite, wordless))
    assert ranker.scores("Alien, alien", ("Alien",), (), RELATIONS) == pytest.approx(wordless)
    assert ranker.scores(NOTHING, (), (), RELATIONS) == pytest.approx(wordless)
    assert ranker.scores("director?", (), (), RELATIONS) != pytest.approx(wordless, abs=1e-2)


TEXT = st.text(max_size=20)


@settings(max_examples=60, deadline=None)
@given(TEXT, st.lists(TEXT, max_size=2), st.lists(TEXT, max_size=2), st.lists(st.tuples(st.booleans(), TEXT)))
@example("", [], [], [])
@example("\ud800 \x00 ﬃ İ ² Ⅷ", ["\ud800"], [""], [(True, ""), (False, ""), (True, "\udfff"), (True, "\u0301")])
@example("谁 是 导演 🎬?", ["🎬"], ["导演"], [(True, "导演"), (False, "🎬"), (True, "_._"), (True, "a" * 3000)])
def test_any_text_has_a_score(
    ranker: Ranker, question: str, topics: list[str], before: list[str], relations: list[DirectedRelation]
) -> None:
    scores = ranker.scores(question, topics, before, relations)
    assert len(scores) == len(relations)
    assert all(map(math.isfinite, scores))


# Its file


def test_what_is_saved_is_what_is_loaded(loaded: LoadedModel, ranker: Ranker, tmp_path: Path) -> None:
    content = ranker.to_bytes()
    (tmp_path / RANKER_FILE).write_bytes(content)
    again = Ranker.load(tmp_path, loaded.model, loaded.tokenizer)
    assert again is not None
    torch.manual_seed(1)
    other = Ranker.new(loaded.model, loaded.tokenizer, met=[name for _, name in RELATIONS])
    for case in OTHERS:
        scores = ranker.scores(*case)
        assert again.scores(*case) == pytest.approx(scores, rel=2e-2, abs=2e-2)
        assert other.scores(*case) != pytest.approx(scores, rel=2e-2, abs=2e-2)
    assert again.to_bytes() == content


def test_a_folder_without_one_has_none(loaded: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"")
    for place in (tmp_path, tmp_path / "nowhere", tmp_path / "model.gguf"):
        assert Ranker.load(place, loaded.model, loaded.tokenizer) is None


def refusal(loaded: LoadedModel, folder: Path, content: bytes) -> str:
    (folder / RANKER_FILE).write_bytes(content)
    with pytest.raises(ModelError) as caught:
        Ranker.load(folder, loaded.model, loaded.tokenizer)
    return str(caught.value)


ADVICE = "delete it, or make it again with 'kgr1 ranker'."


def test_one_of_another_model_is_refused(loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny, "HIDDEN", 16)
    other = load_model(str(tiny.save_tiny_model(tmp_path / "narrow")))
    content = shaken(other.model, other.tokenizer).to_bytes()
    message = f"The ranker {tmp_path / RANKER_FILE} was made for another model; {ADVICE}"
    assert refusal(loaded, tmp_path, content) == message


def test_one_that_knows_a_single_relation(loaded: LoadedModel, tmp_path: Path) -> None:
    """There is nothing that it could differ from."""
    ranker = Ranker.new(loaded.model, loaded.tokenizer, met=["knows"])
    ranker.standardise([("Whom does she know?", ())], ["knows"])
    (tmp_path / RANKER_FILE).write_bytes(ranker.to_bytes())
    again = Ranker.load(tmp_path, loaded.model, loaded.tokenizer)
    assert again is not None
    case = ("Whom does she know?", (), (), [(True, "knows"), (False, "knows")])
    assert again.scores(*case) == pytest.approx(ranker.scores(*case), abs=0.05)


def test_one_of_another_policy_is_refused(loaded: LoadedModel, ranker: Ranker, tmp_path: Path) -> None:
    """A ranker reads what the layers make of a text, which training changes; a little of it does no harm."""
    other = load_model(str(tiny.save_tiny_model(tmp_path / "other")))
    (tmp_path / RANKER_FILE).write_bytes(ranker.to_bytes())
    layers = other.model.model.layers
    with torch.no_grad():
        layers[0].mlp.down_proj.weight += 1e-3 * torch.randn_like(layers[0].mlp.down_proj.weight)
    assert Ranker.load(tmp_path, other.model, other.tokenizer) is not None
    with torch.no_grad():
        layers[0].mlp.down_proj.weight += torch.randn_like(layers[0].mlp.down_proj.weight)
    with pytest.raises(ModelError, match="was made for another policy of this model; delete it, or make it again"):
        Ranker.load(tmp_path, other.model, other.tokenizer)


@pytest.mark.parametrize("length", [0, 4, 100, -10])
def test_one_that_was_cut_is_refused(loaded: LoadedModel, ranker: Ranker, tmp_path: Path, length: int) -> None:
    message = f"The ranker {tmp_path / RANKER_FILE} is damaged; {ADVICE}"
    assert refusal(loaded, tmp_path, ranker.to_bytes()[:length]) == message


@pytest.mark.parametrize("name", ["mean", "std", "question.weight", "inwards.weight", "scales", "read", "probe"])
def test_one_that_lacks_something_is_refused(loaded: LoadedModel, ranker: Ranker, tmp_path: Path, name: str) -> None:
    tensors = load(ranker.to_bytes())
    message = f"The ranker {tmp_path / RANKER_FILE} is damaged; {ADVICE}"
    met = {"met": '["capital"]'}
    lacking = {key: value for key, value in tensors.items() if key != name}
    assert refusal(loaded, tmp_path, save(lacking, metadata=met)) == message
    for other in (torch.tensor(1.0), torch.ones(2)):
        assert refusal(loaded, tmp_path, save({**tensors, name: other}, metadata=met)) == message


@pytest.mark.parametrize("met", [None, {}, {"met": "capital"}, {"met": "5"}, {"met": "[5]"}, {"met": '{"capital": 1}'}])
def test_one_that_does_not_say_what_it_has_met_is_refused(
    loaded: LoadedModel, ranker: Ranker, tmp_path: Path, met: dict[str, str] | None
) -> None:
    content = save(load(ranker.to_bytes()), metadata=met)
    assert refusal(loaded, tmp_path, content) == f"The ranker {tmp_path / RANKER_FILE} is damaged; {ADVICE}"


# What it has met


def test_it_knows_what_it_has_met(ranker: Ranker) -> None:
    strange: list[DirectedRelation] = [(True, f"exports.{word}") for word in "abcde"]
    assert ranker.familiarity(RELATIONS) == 1.0
    assert ranker.familiarity([*RELATIONS, *strange]) == 0.5
    assert ranker.familiarity(strange) == 0.0
    assert ranker.familiarity([]) == 0.0


def test_what_it_has_met_is_kept(loaded: LoadedModel, tmp_path: Path) -> None:
    ranker = Ranker.new(loaded.model, loaded.tokenizer, met=["film.director", "born_in", "导演"])
    (tmp_path / RANKER_FILE).write_bytes(ranker.to_bytes())
    again = Ranker.load(tmp_path, loaded.model, loaded.tokenizer)
    assert again is not None
    for name, known in (("Film Director", 1.0), ("bornIn", 1.0), ("导演", 1.0), ("capital", 0.0), ("film", 0.0)):
        assert again.familiarity([(True, name)]) == known


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_that_are_none_are_refused(loaded: LoadedModel, ranker: Ranker, tmp_path: Path, number: float) -> None:
    for name in ("mean", "scales", "read"):
        tensors = load(ranker.to_bytes())
        tensors[name][0] = number
        content = save(tensors, metadata={"met": "[]"})
        assert refusal(loaded, tmp_path, content) == f"The ranker {tmp_path / RANKER_FILE} is damaged; {ADVICE}"


def test_a_relation_is_known_in_any_style(ranker: Ranker) -> None:
    for name in ("Film director", "film_director", "filmDirector", "FILM-DIRECTOR"):
        assert ranker.familiarity([(True, name)]) == 1.0
    for name in ("film", "director film", "film director of"):
        assert ranker.familiarity([(True, name)]) == 0.0
