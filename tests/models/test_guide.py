"""What the engine does with a grammar, apart from what stands in it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("llguidance")

from engine_parts import make_engine, sampled  # noqa: E402
from kgr1.config import SamplingSettings  # noqa: E402
from kgr1.errors import ModelError  # noqa: E402
from kgr1.models.choice import continuation_scores  # noqa: E402
from kgr1.models.engine import Engine  # noqa: E402
from kgr1.models.guide import Guides  # noqa: E402
from kgr1.types import FinishReason  # noqa: E402


class Words:
    """Some words, which of them are left once one has been written, and what is expected of those chosen as a whole."""

    def __init__(
        self,
        words: str,
        then: str | None = None,
        choices: dict[str, list[str]] | None = None,
        known: Sequence[float | None] = (),
    ) -> None:
        self.words, self.then, self.whole, self.known = words, then, choices or {}, known

    def lark(self) -> str:
        return f"start: {self.words}\n"

    def after(self, text: str, room: int) -> str | None:
        return f"start: {self.then}\n" if self.then is not None and text.startswith("yes") else None

    def choices(self, text: str) -> list[str]:
        return self.whole.get(text, [])

    def expected(self, text: str) -> list[float | None]:
        return list(self.known)


async def write(engine: Engine, jobs: list[tuple[Words | None, SamplingSettings]]) -> list[str]:
    rows = [await engine.open(engine.tokenizer.encode("Is it so?"), sampling) for _, sampling in jobs]
    grammars = [grammar for grammar, _ in jobs]
    requests = await asyncio.gather(
        *(engine.generate(row, 12, grammar) for row, grammar in zip(rows, grammars, strict=True))
    )
    for row in rows:
        engine.close(row)
    return [engine.tokenizer.decode(request.ids) for request in requests]


def test_a_row_without_a_grammar_writes_what_it_writes_alone(tiny_model: Path) -> None:
    jobs: list[tuple[Words | None, SamplingSettings]] = [(None, sampled(seed)) for seed in range(3)]
    alone = asyncio.run(write(make_engine(tiny_model), jobs))
    guided: list[tuple[Words | None, SamplingSettings]] = [(Words('"maybe not </answer>"'), sampled(9)), *jobs]
    together = asyncio.run(write(make_engine(tiny_model), guided))
    assert together[1:] == alone
    assert "maybe not </answer>".startswith(together[0])


def test_a_grammar_can_become_narrower(tiny_model: Path) -> None:
    words = Words('("yes" | "no") ("a" | "b")', then='"yesb"')
    texts = asyncio.run(write(make_engine(tiny_model, rows=12), [(words, sampled(seed)) for seed in range(12)]))
    assert {text[:4] for text in texts if text.startswith("yes")} == {"yesb"}
    assert {text[:3] for text in texts if text.startswith("no")} == {"noa", "nob"}


def test_what_a_grammar_leaves_no_choice_about_takes_no_pass_of_its_own(tiny_model: Path) -> None:
    """Two turns: in each, one word is chosen of two and the rest is given."""
    engine = make_engine(tiny_model)
    passes: list[Any] = []
    counting = engine.model.register_forward_pre_hook(lambda model, arguments: passes.append(model))
    words = Words('"it is " ("surely" | "not") " so, my dear</answer>"')

    async def turns() -> tuple[list[Any], list[int], list[int]]:
        row = await engine.open(engine.tokenizer.encode("Is it so?"), SamplingSettings())
        requests, starts = [], []
        for _ in range(2):
            starts.append(len(row.ids))
            requests.append(await engine.generate(row, 60, words))
            row.ids.extend(engine.tokenizer.encode("And now?"))
        ids = list(row.ids)
        engine.close(row)
        return requests, starts, ids

    requests, starts, ids = asyncio.run(turns())
    counting.remove()
    assert len(passes) == sum(len(request.ids) - request.forced for request in requests)
    with torch.no_grad():
        logits = engine.model(torch.tensor([ids])).logits[0]
    known = engine.tokenizer.encode("it is", add_special_tokens=False)
    options = [engine.tokenizer.encode(f"it is {word}", add_special_tokens=False) for word in ("surely", "not")]
    place = next(i for i, (one, other) in enumerate(zip(*options, strict=False)) if one != other)
    assert place >= len(known)
    for request, start in zip(requests, starts, strict=True):
        text = engine.tokenizer.decode(request.ids)
        assert text in ("it is surely so, my dear</answer>", "it is not so, my dear</answer>")
        assert 1 <= len(request.ids) - request.forced < request.forced
        # What was read in one piece is what a plain pass over the whole context reads.
        tried = [float(logits[start + place - 1, option[place]]) for option in options]
        assert request.ids[place] == options[tried.index(max(tried))][place]


NAMES = ["people.person.born)", "people.person.died)", "people.person.lived)", "film.actor)", "film)"]
PREFIX = "yes:"


def whole_names(known: Sequence[float | None] = ()) -> Words:
    names = " | ".join(f'"{name}"' for name in NAMES)
    return Words(f'"{PREFIX}" ({names}) "</answer>"', choices={PREFIX: NAMES}, known=known)


def whole_scores(engine: Engine, context: str) -> Any:
    """Log-probability (n,) of each name behind the prefix: one plain forward pass a name."""
    begun = [*engine.tokenizer.encode(context), *engine.tokenizer.encode(PREFIX, add_special_tokens=False)]
    scores = []
    for name in NAMES:
        ids = engine.tokenizer.encode(name, add_special_tokens=False)
        with torch.no_grad():
            logits = engine.model(torch.tensor([[*begun, *ids]])).logits[0, len(begun) - 1 : -1]
        scores.append(torch.log_softmax(logits, dim=-1)[range(len(ids)), ids].sum())
    return torch.stack(scores)


async def choose(
    engine: Engine, contexts: list[str], samplings: list[SamplingSettings], known: Sequence[float | None] = ()
) -> list[tuple[str, float]]:
    """The name that each row writes, and its log-probability."""

    async def one(context: str, sampling: SamplingSettings) -> Any:
        row = await engine.open(engine.tokenizer.encode(context), sampling)
        try:
            return await engine.generate(row, 60, whole_names(known))
        finally:
            engine.close(row)

    requests = await asyncio.gather(*map(one, contexts, samplings))
    result = []
    for request in requests:
        text = engine.tokenizer.decode(request.ids)
        name = text.removeprefix(PREFIX).removesuffix("</answer>")
        start = len(engine.tokenizer.encode(PREFIX, add_special_tokens=False))
        length = len(engine.tokenizer.encode(name, add_special_tokens=False))
        result.append((name, sum(request.logprobs[start : start + length])))
    return result


@pytest.mark.parametrize("wanted", range(len(NAMES)))
def test_the_tokens_of_a_name_count_as_chosen_only_up_to_where_it_is_the_only_one(
    tiny_model: Path, wanted: int
) -> None:
    """As many as a model would have been asked for that chooses token by token."""
    engine = make_engine(tiny_model)
    known = [200.0 * (place == wanted) for place in range(len(NAMES))]

    async def turn() -> Any:
        row = await engine.open(engine.tokenizer.encode("Is it so?"), SamplingSettings())
        return await engine.generate(row, 60, whole_names(known))

    request = asyncio.run(turn())
    assert engine.tokenizer.decode(request.ids) == f"{PREFIX}{NAMES[wanted]}</answer>"
    names = [engine.tokenizer.encode(name, add_special_tokens=False) for name in NAMES]
    name = names[wanted]
    alike = [[other for other in names if other[:place] == name[:place]] for place in range(len(name))]
    asked = sum(len({tuple(other[: place + 1]) for other in going}) > 1 for place, going in enumerate(alike))
    assert 0 < asked < len(name)
    assert len(request.ids) - request.forced == asked


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_choice_is_that_of_the_most_probable_whole(tiny_model: Path, attention: str) -> None:
    engine = make_engine(tiny_model, attention=attention)
    contexts = ["Is it so?", "Who is it then, and when?", "France"]
    chosen = asyncio.run(choose(engine, contexts, [SamplingSettings()] * 3))
    for context, (name, logprob) in zip(contexts, chosen, strict=True):
        scores = whole_scores(engine, context)
        assert name == NAMES[int(scores.argmax())]
        assert logprob == pytest.approx(float(torch.log_softmax(scores, dim=0).max()), rel=1e-6)


def test_rows_in_the_same_place_weigh_their_choices_once(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine(tiny_model, rows=8)
    alone = [
        asyncio.run(choose(make_engine(tiny_model), [context], [sampled(seed, 30.0)]))[0]
        for seed, context in enumerate(["Is it so?", "France"] * 4)
    ]
    weighed: list[int] = []
    plain = continuation_scores
    monkeypatch.setattr("kgr1.models.engine.continuation_scores", lambda *rest: weighed.append(1) or plain(*rest))
    together = asyncio.run(choose(engine, ["Is it so?", "France"] * 4, [sampled(seed, 30.0) for seed in range(8)]))
    assert len(weighed) == 2
    assert [name for name, _ in together] == [name for name, _ in alone]
    assert len({name for name, _ in together}) > 1
    assert [logprob for _, logprob in together] == pytest.approx([logprob for _, logprob in alone], rel=1e-5)


def test_many_choices_are_scored_in_several_passes(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine(tiny_model)
    expected = asyncio.run(choose(engine, ["Is it so?"], [SamplingSettings()]))
    monkeypatch.setattr("kgr1.models.choice.POSITIONS", 30)  # the names begin in more ways, all together
    passes: list[Any] = []
    counting = engine.model.register_forward_pre_hook(lambda model, arguments: passes.append(model))
    [(name, logprob)] = asyncio.run(choose(engine, ["Is it so?"], [SamplingSettings()]))
    counting.remove()
    assert len(passes) >= 3
    assert name == expected[0][0]
    assert logprob == pytest.approx(expected[0][1], rel=1e-9)


def test_a_choice_is_sampled_with_the_probability_of_the_whole(tiny_model: Path) -> None:
    engine = make_engine(tiny_model, rows=16)
    count = 400
    heat = 30.0  # makes the long names frequent enough to be counted
    chosen = asyncio.run(choose(engine, ["Is it so?"] * count, [sampled(seed, heat) for seed in range(count)]))
    expected = torch.softmax(whole_scores(engine, "Is it so?") / heat, dim=0)
    for name, share in zip(NAMES, expected.tolist(), strict=True):
        found = [logprob for other, logprob in chosen if other == name]
        assert len(found) / count == pytest.approx(share, abs=4 * (share * (1 - share) / count) ** 0.5)
        assert found == pytest.approx([float(torch.log(torch.tensor(share)))] * len(found), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("wanted", range(1, len(NAMES)))
def test_what_is_expected_decides_among_the_names_it_is_expected_of(tiny_model: Path, wanted: int) -> None:
    engine = make_engine(tiny_model)
    known = [None, *(200.0 * (place == wanted) for place in range(1, len(NAMES)))]
    scores = whole_scores(engine, "Is it so?")
    group = torch.logsumexp(scores[1:], dim=0)
    best = NAMES[wanted] if group > scores[0] else NAMES[0]
    [(name, logprob)] = asyncio.run(choose(engine, ["Is it so?"], [SamplingSettings()], known))
    assert name == best
    # All that the names had together is now with one of them, and the first name has what it had.
    assert logprob == pytest.approx(float(max(group, scores[0]) - torch.logsumexp(scores, dim=0)), rel=1e-5, abs=1e-6)


def test_what_is_expected_counts_in_what_is_sampled_and_recorded(tiny_model: Path) -> None:
    engine = make_engine(tiny_model, rows=16)
    known = [4.0, None, -3.0, 0.0, None]
    count, heat = 200, 30.0
    samplings = [sampled(seed, heat) for seed in range(count)]
    scores = whole_scores(engine, "Is it so?")
    mine = scores[[0, 2, 3]] + torch.tensor([4.0, -3.0, 0.0])
    shifted = scores.clone()
    shifted[[0, 2, 3]] = mine - torch.logsumexp(mine, dim=0) + torch.logsumexp(scores[[0, 2, 3]], dim=0)
    shares = torch.softmax(shifted / heat, dim=0).tolist()
    chosen = asyncio.run(choose(engine, ["Is it so?"] * count, samplings, known))
    for name, share in zip(NAMES, shares, strict=True):
        found = [logprob for other, logprob in chosen if other == name]
        assert len(found) / count == pytest.approx(share, abs=4 * (share * (1 - share) / count) ** 0.5)
        assert found == pytest.approx([math.log(share)] * len(found), rel=1e-4, abs=1e-6)


def test_rows_that_expect_different_things_share_what_the_model_thinks(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(tiny_model)
    weighed: list[int] = []
    plain = continuation_scores
    monkeypatch.setattr("kgr1.models.engine.continuation_scores", lambda *rest: weighed.append(1) or plain(*rest))
    monkeypatch.setattr("kgr1.models.choice.HOPELESS", math.inf)  # the model is asked about all

    async def both() -> list[str]:
        likes = [[200.0 * (place == wanted) for place in range(len(NAMES))] for wanted in (1, 3)]
        rows = [await engine.open(engine.tokenizer.encode("Is it so?"), SamplingSettings()) for _ in likes]
        jobs = (engine.generate(row, 60, whole_names(known)) for row, known in zip(rows, likes, strict=True))
        texts = [engine.tokenizer.decode(request.ids) for request in await asyncio.gather(*jobs)]
        for row in rows:
            engine.close(row)
        return texts

    assert asyncio.run(both()) == [f"{PREFIX}{NAMES[wanted]}</answer>" for wanted in (1, 3)]
    assert len(weighed) == 1


def test_a_choice_of_one_row_leaves_the_others_alone(tiny_model: Path) -> None:
    jobs: list[tuple[Words | None, SamplingSettings]] = [(None, sampled(seed)) for seed in range(3)]
    alone = asyncio.run(write(make_engine(tiny_model), jobs))
    assert asyncio.run(write(make_engine(tiny_model), [(whole_names(), sampled(9)), *jobs]))[1:] == alone


def test_a_choice_that_could_be_cut_off_is_not_offered(tiny_model: Path) -> None:
    engine = make_engine(tiny_model)
    ids = engine.tokenizer.encode(PREFIX, add_special_tokens=False)
    for space, offered in ((60, len(NAMES)), (len(ids) + 3, 0)):
        guide = engine._guide(whole_names())
        for place in range(len(ids)):
            guide.accept(ids[: place + 1], 60, space - place - 1)
        assert len(guide.choices) == offered


@pytest.mark.parametrize(
    "text", ['"a long name that is written to its end</answer>"', '"it is " ("so" | "no") ", as it was</answer>"']
)
def test_what_is_not_chosen_does_not_count_against_the_limit(tiny_model: Path, text: str) -> None:
    engine = make_engine(tiny_model)

    async def turn() -> Any:
        row = await engine.open(engine.tokenizer.encode("Is it so?"), SamplingSettings())
        return await engine.generate(row, 2, Words(text))

    request = asyncio.run(turn())
    assert engine.tokenizer.decode(request.ids).endswith("</answer>")
    assert len(request.ids) > 2 >= len(request.ids) - request.forced


def test_what_is_not_chosen_ends_with_the_context(tiny_model: Path) -> None:
    engine = make_engine(tiny_model)
    engine.max_context = 20
    words = Words('"' + "on and on and " * 12 + '</answer>"')

    async def turn() -> tuple[Any, FinishReason]:
        row = await engine.open(engine.tokenizer.encode("Is it so?"), SamplingSettings())
        request = await engine.generate(row, 200, words)
        assert len(row.ids) == 20
        return request, await request.future

    request, finish = asyncio.run(turn())
    assert finish is FinishReason.LENGTH
    assert engine.tokenizer.decode(request.ids).startswith("on and on")


def test_a_narrower_grammar_that_cannot_be_read_changes_nothing(tiny_model: Path) -> None:
    class Broken(Words):
        def after(self, text: str, room: int) -> str | None:
            return 'start: "\x7f" unknown'

    [text] = asyncio.run(write(make_engine(tiny_model), [(Broken('"it is so</answer>"'), SamplingSettings())]))
    assert text == "it is so</answer>"


def test_a_guide_that_cannot_go_on_lets_go(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine(tiny_model)
    guide = engine._guide(Words('"yes"'))
    assert guide.forbidden().any()
    broken: Any = guide
    monkeypatch.setattr(broken, "_matcher", NoToken())
    assert not guide.forbidden().any()
    guide.accept([5], 7, 7)
    assert not guide.forbidden().any()


class NoToken:
    """A matcher that allows nothing."""

    def unsafe_compute_mask_ptr(self, place: int, size: int) -> None:
        """The mask stays as it is, all zero."""


def test_what_cannot_be_guided_says_so(tiny_model: Path) -> None:
    engine = make_engine(tiny_model)
    with pytest.raises(ModelError, match="not valid"):
        engine._guide(Words('"open'))
    with pytest.raises(ModelError, match=r"agent\.guided=false"):
        Guides(object(), 100)
