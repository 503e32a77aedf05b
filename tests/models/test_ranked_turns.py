"""Guided turns of a policy with a ranker of relations beside it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("llguidance")

from kgr1.agent.rollout import run_episode  # noqa: E402
from kgr1.config import AgentSettings, SamplingSettings  # noqa: E402
from kgr1.graph.store import GraphStore  # noqa: E402
from kgr1.models.choice import HOPELESS, continuation_scores  # noqa: E402
from kgr1.models.pretrained import RANKER_FILE  # noqa: E402
from kgr1.models.ranker import Ranker  # noqa: E402
from kgr1.models.transformers import TransformersPolicy  # noqa: E402
from kgr1.types import DirectedRelation, Episode, Operation, Question, StopReason  # noqa: E402

ROWS = [("A", "r", "B"), ("A", "s", "C"), ("A", "t", "D"), ("E", "u", "A"), ("B", "r", "C"), ("C", "s", "E")]
HOPS: list[DirectedRelation] = [(True, "r"), (True, "s"), (True, "t"), (False, "u")]
"""All from A."""

QUESTION = Question(id="q", text="What is it?", topics=("A",), answers=())


class Fond:
    """A ranker that wants one hop and nothing else."""

    def __init__(self, hop: DirectedRelation) -> None:
        self.hop, self.befores = hop, list[tuple[str, ...]]()

    def scores(
        self, question: str, topics: Sequence[str], before: Sequence[str], relations: Sequence[DirectedRelation]
    ) -> list[float]:
        self.befores.append(tuple(before))
        return [float(hop == self.hop) for hop in relations]

    def familiarity(self, relations: Sequence[DirectedRelation]) -> float:
        return 1.0


@pytest.fixture(scope="module")
def policy(tiny_model: Path) -> TransformersPolicy:
    return TransformersPolicy.load(str(tiny_model))


def play(
    policy: TransformersPolicy, ranker: object, weight: float, turns: int = 3, temperature: float = 0.0, seed: int = 7
) -> Episode:
    policy.ranker = ranker  # type: ignore[assignment]
    agent = AgentSettings(max_turns=turns, max_new_tokens=400, guided=True, sets=True, ranker_weight=weight)
    sampling = SamplingSettings(temperature=temperature, seed=seed)
    episode = asyncio.run(run_episode(QUESTION, GraphStore.from_triples(ROWS), policy, agent=agent, sampling=sampling))
    assert episode.stop is StopReason.ANSWERED, episode.error
    return episode


def hops(episode: Episode) -> list[DirectedRelation]:
    queries = [turn.query for turn in episode.turns if turn.query is not None]
    return [(query.operation.outgoing, query.relation) for query in queries if query.relation is not None]


@pytest.mark.parametrize("hop", HOPS)
def test_a_strong_opinion_is_followed(policy: TransformersPolicy, hop: DirectedRelation) -> None:
    ranker = Fond(hop)
    episode = play(policy, ranker, 1000.0)
    assert [turn.query.operation for turn in episode.turns if turn.query is not None] == [
        Operation.GET_TAIL_RELATIONS,
        Operation.GET_TAIL_ENTITIES if hop[0] else Operation.GET_HEAD_ENTITIES,
    ]
    assert hops(episode) == [hop]
    assert set(ranker.befores) == {()}
    assert sum(episode.turns[1].logprobs) <= 0.0


def test_the_model_is_not_asked_about_what_nobody_expects(
    policy: TransformersPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a list of relations, the least of the work is left; what is played and said of it stays the same."""
    asked: list[int] = []

    def scores(*args: Any) -> torch.Tensor:
        asked.append(len(args[-1]))
        return continuation_scores(*args)

    monkeypatch.setattr("kgr1.models.engine.continuation_scores", scores)
    played = {}
    for weight in (HOPELESS - 0.5, HOPELESS + 0.5):
        asked.clear()
        played[weight] = play(policy, Fond((True, "s")), weight), sum(asked)
    (usual, most), (spared, least) = played.values()
    assert hops(usual) == hops(spared) == [(True, "s")]
    assert least == most - len(HOPS)
    assert [turn.token_ids for turn in usual.turns] == [turn.token_ids for turn in spared.turns]
    for mine, theirs in zip(usual.turns, spared.turns, strict=True):
        assert mine.logprobs == pytest.approx(theirs.logprobs, abs=1e-3)
        assert mine.forced == theirs.forced


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_without_weight_or_difference_a_turn_is_the_models_own(policy: TransformersPolicy, temperature: float) -> None:
    plain = play(policy, None, 0.0, turns=5, temperature=temperature)
    unweighed = play(policy, Fond((True, "t")), 0.0, turns=5, temperature=temperature)
    unmoved = play(policy, Fond((True, "nothing")), 1000.0, turns=5, temperature=temperature)
    assert hops(plain)
    for other in (unweighed, unmoved):
        assert [turn.token_ids for turn in other.turns] == [turn.token_ids for turn in plain.turns]
        for mine, theirs in zip(other.turns, plain.turns, strict=True):
            assert mine.logprobs == pytest.approx(theirs.logprobs, abs=1e-5)


def test_the_ranker_hears_which_way_led_here(policy: TransformersPolicy) -> None:
    """B was found by "r" from A; once its relations were listed, the ranker is asked about them, too."""
    heard = []
    for seed in range(16):
        ranker = Fond((True, "r"))
        episode = play(policy, ranker, 1000.0, turns=5, temperature=1.0, seed=seed)
        asked = [turn.query.to_text() for turn in episode.turns if turn.query is not None]
        assert asked[:2] == ['get_tail_relations("A")', 'get_tail_entities("A", "r")']
        heard.append(("r",) in ranker.befores)
        assert heard[-1] is (asked[2:3] == ['get_tail_relations("*")'] and len(asked) > 3)
        assert ranker.befores[0] == ()
    assert True in heard
    assert False in heard


def test_a_folder_brings_its_ranker(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "policy")
    bare = TransformersPolicy.load(str(folder))
    assert bare.ranker is None
    torch.manual_seed(0)
    ranker = Ranker.new(bare.engine.model, bare.tokenizer, met=[name for _, name in HOPS])
    (folder / RANKER_FILE).write_bytes(ranker.to_bytes())
    found = TransformersPolicy.load(str(folder)).ranker
    assert found is not None
    case = ("What is it?", ("A",), (), HOPS)
    assert found.scores(*case) == pytest.approx(ranker.scores(*case), rel=1e-2, abs=1e-2)
