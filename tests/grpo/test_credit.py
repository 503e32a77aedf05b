"""From real episodes to the gradient of every token: advantages, mask, loss, penalty and clipping."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from trainer_parts import make_batch, make_trainer  # noqa: E402

from kgr1.config import RewardSettings  # noqa: E402
from kgr1.grpo import trainer as trainer_module  # noqa: E402
from kgr1.grpo.trainer import KGRPOTrainer, _by_beginning, train_grpo  # noqa: E402
from kgr1.rewards.score import score_episode  # noqa: E402
from kgr1.types import Episode, StopReason  # noqa: E402
from small_world import small_graph, small_questions, small_settings  # noqa: E402

EPS = 1e-6


def saved_episodes(out: Path, step: int = 0) -> list[Episode]:
    with gzip.open(out / "rollouts" / f"step-{step:06d}-0.jsonl.gz", "rt", encoding="utf-8") as file:
        return [Episode.model_validate_json(line) for line in file]


def normalised(values: list[float], among: list[float]) -> list[float]:
    mean = sum(among) / len(among)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in among) / len(among))
    return [(v - mean) / (deviation + EPS) for v in values]


def by_hand(kind: str, episodes: list[Episode]) -> list[list[float]]:
    """Advantages of one group's turns, written out from SPEC section 5 in plain Python."""
    scores = [score_episode(episode, RewardSettings()) for episode in episodes]
    outcomes = [score.outcome.f1 + score.outcome.retrieved for score in scores]
    turns = [[0.5 * (t.fmt + t.kg + t.ans) for t in score.turns] for score in scores]
    if kind == "turn":
        returns = [[r + outcome for r in rewards] for rewards, outcome in zip(turns, outcomes, strict=True)]
        among = [value for row in returns for value in row]
        return [normalised(row, among) for row in returns]
    if kind == "split":
        among = [value for row in turns for value in row]
        outcome_parts = normalised(outcomes, outcomes)
        return [
            [0.5 * part + outcome for part in normalised(row, among)]
            for row, outcome in zip(turns, outcome_parts, strict=True)
        ]
    totals = [sum(row) / len(row) + outcome for row, outcome in zip(turns, outcomes, strict=True)]
    return [[value] * len(row) for value, row in zip(normalised(totals, totals), turns, strict=True)]


def spread(episodes: list[Episode], advantages: list[list[float]]) -> list[list[float]]:
    """Advantages of every token after the prompt; 0 for observations."""
    rows = []
    for episode, values in zip(episodes, advantages, strict=True):
        row: list[float] = []
        for turn, value in zip(episode.turns, values, strict=True):
            row += [value] * len(turn.token_ids) + [0.0] * len(turn.information_ids)
        rows.append(row)
    return rows


@pytest.mark.parametrize("kind", ["turn", "split", "trajectory"])
def test_advantages_of_real_episodes_are_those_computed_by_hand(taught_model: Path, tmp_path: Path, kind: str) -> None:
    trainer = make_trainer(taught_model, tmp_path, credit=kind)
    batch = make_batch(trainer)
    episodes = saved_episodes(tmp_path)
    assert len(episodes) == 8
    assert len({episode.stop for episode in episodes}) > 1
    assert batch["advantages"].shape == batch["completion_ids"].shape
    for group in (slice(0, 4), slice(4, 8)):
        wanted = spread(episodes[group], by_hand(kind, episodes[group]))
        for row, values in zip(batch["advantages"][group].tolist(), wanted, strict=True):
            padded = (values + [0.0] * len(row))[: len(row)]
            assert row == pytest.approx(padded, abs=1e-5)
    assert float(batch["advantages"].abs().max()) > 0.5
    assert batch["group"].tolist() == [0] * 4 + [1] * 4


def test_the_batch_holds_the_ids_of_the_episodes(taught_model: Path, tmp_path: Path) -> None:
    trainer = make_trainer(taught_model, tmp_path)
    batch = make_batch(trainer)
    for row, episode in enumerate(saved_episodes(tmp_path)):
        prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()].tolist()
        assert prompt == list(episode.prompt_ids)
        agent = (batch["completion_mask"] * batch["tool_mask"])[row].bool()
        assert batch["completion_ids"][row][agent].tolist() == [i for t in episode.turns for i in t.token_ids]
        assert batch["sampling_per_token_logps"][row][agent].tolist() == pytest.approx(
            [p for t in episode.turns for p in t.logprobs]
        )
    samples = [(episode.question.id, episode.sample) for episode in saved_episodes(tmp_path)]
    assert samples == [(question.id, n) for question in small_questions()[:2] for n in range(4)]
    assert len({episode.seed for episode in saved_episodes(tmp_path)}) == 8


def captured(trainer: KGRPOTrainer, inputs: dict[str, Any]) -> tuple[Any, Any]:
    """The loss, and its gradient with respect to the log-probability of every completion token (B, T)."""
    kept: list[Any] = []
    compute = type(trainer)._get_per_token_logps_and_entropies

    def keep(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = compute(self, *args, **kwargs)
        result[0].retain_grad()
        kept.append(result[0])
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(trainer), "_get_per_token_logps_and_entropies", keep)
        loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    (logps,) = kept
    return loss.detach(), logps.grad


@pytest.mark.parametrize("share", [True, False], ids=["shared tokens", "TRL's way"])
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_the_gradient_of_every_token(taught_model: Path, tmp_path: Path, beta: float, share: bool) -> None:
    trainer = make_trainer(taught_model, tmp_path, beta=beta)
    trainer._share_tokens = share
    batch = make_batch(trainer)
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    agent = (batch["completion_mask"] * batch["tool_mask"]).bool()
    assert int(batch["num_items_in_batch"]) == int(agent.sum())
    loss, gradient = captured(trainer, batch)
    wanted = torch.where(agent, -batch["advantages"] / agent.sum(), 0.0)
    # At the start the policy is the reference, so the penalty has no gradient either.
    assert torch.allclose(gradient, wanted, atol=1e-7)
    assert not gradient[~agent].any()
    assert bool(gradient[agent].any())
    assert float(loss) == pytest.approx(-float((batch["advantages"] * agent).sum() / agent.sum()), abs=1e-6)


def test_the_model_gets_exactly_this_gradient(taught_model: Path, tmp_path: Path) -> None:
    """The update is that of the plain sum over agent tokens, computed without any of the machinery."""
    trainer = make_trainer(taught_model, tmp_path, beta=0.0)
    batch = make_batch(trainer)
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    trainer._compute_loss(trainer.model, batch).backward()
    got = {name: p.grad.clone() for name, p in trainer.model.named_parameters()}
    trainer.model.zero_grad()
    total, count = torch.zeros(()), 0
    for episode, row in zip(saved_episodes(tmp_path), batch["advantages"], strict=True):
        ids = [*episode.prompt_ids, *(i for t in episode.turns for i in (*t.token_ids, *t.information_ids))]
        output = trainer.model(input_ids=torch.tensor([ids])).logits[0, :-1]
        logps = torch.log_softmax(output.float(), -1).gather(1, torch.tensor(ids)[1:, None])[:, 0]
        start = len(episode.prompt_ids)
        position = 0
        for turn in episode.turns:
            for _ in turn.token_ids:
                total = total - row[position] * logps[start + position - 1]
                position += 1
                count += 1
            position += len(turn.information_ids)
    (total / count).backward()
    for name, parameter in trainer.model.named_parameters():
        assert torch.allclose(got[name], parameter.grad, atol=1e-5, rtol=1e-3), name


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_episodes_that_teach_nothing_are_not_computed(
    taught_model: Path, tmp_path: Path, beta: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(taught_model, tmp_path, beta=beta)
    batch = make_batch(trainer)
    batch["advantages"] = torch.zeros_like(batch["advantages"])
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    computed: list[int] = []
    shared = trainer_module.shared_prefix_logps
    monkeypatch.setattr(trainer_module, "shared_prefix_logps", lambda *a, **k: computed.append(1) or shared(*a, **k))
    loss = trainer._compute_loss(trainer.model, batch)
    loss.backward()
    assert bool(computed) == (beta > 0)  # the penalty asks for all tokens
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-6)
    # Without a gradient an optimizer would pass a weight over; with 0 it goes on as it was going.
    assert all(p.grad is not None for p in trainer.model.parameters())
    if not beta:
        assert not any(bool(p.grad.any()) for p in trainer.model.parameters())


def test_a_guided_run_is_scored_for_what_was_chosen(taught_model: Path, tmp_path: Path) -> None:
    trainer = make_trainer(taught_model, tmp_path, temperature=2.0)
    # The third turn is the first that can have an answer: in two all returns would be equal.
    changes = {"guided": True, "max_new_tokens": 80, "max_turns": 3}
    trainer.settings = trainer.settings.model_copy(update={"agent": trainer.settings.agent.model_copy(update=changes)})
    batch = make_batch(trainer)
    episodes = saved_episodes(tmp_path)
    agent = batch["completion_mask"] * batch["tool_mask"]
    for row, episode in enumerate(episodes):
        chosen = [logprob for turn in episode.turns for logprob in turn.logprobs if logprob < 0]
        assert episode.usage.forced_tokens > 0
        assert int(agent[row].sum()) == len(chosen) > 0
        assert batch["sampling_per_token_logps"][row][agent[row].bool()].tolist() == pytest.approx(chosen)
    assert batch["advantages"][agent == 0].abs().max() == 0
    assert batch["advantages"].abs().max() > 0.5


def test_episodes_that_a_failing_graph_ended_are_not_judged(
    taught_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(taught_model, tmp_path)
    run = trainer_module.run_episodes

    async def some_fail(*args: Any, **kwargs: Any) -> list[Episode]:
        episodes = await run(*args, **kwargs)
        return [
            e.model_copy(update={"stop": StopReason.GRAPH_ERROR, "error": "gone"}) if n in (1, 6) else e
            for n, e in enumerate(episodes)
        ]

    monkeypatch.setattr(trainer_module, "run_episodes", some_fail)
    batch = make_batch(trainer)
    assert not batch["advantages"][[1, 6]].any()
    episodes = saved_episodes(tmp_path)
    rest = [episodes[n] for n in (0, 2, 3)]
    wanted = spread(rest, by_hand("turn", rest))
    for row, values in zip(batch["advantages"][[0, 2, 3]].tolist(), wanted, strict=True):
        assert row == pytest.approx((values + [0.0] * len(row))[: len(row)], abs=1e-5)


@pytest.mark.parametrize("share", [True, False], ids=["shared tokens", "TRL's way"])
def test_the_tokens_of_failed_episodes_have_no_gradient(
    taught_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: bool
) -> None:
    """Away from the reference the KL term moves every token that is in the loss."""
    run = trainer_module.run_episodes
    failed = [4, 5, 6, 7]  # the second group, one micro-batch

    def gradients(shift: int) -> tuple[list[Any], dict[str, Any]]:
        async def some_fail(*args: Any, **kwargs: Any) -> list[Episode]:
            episodes = await run(*args, **kwargs)
            for n in failed:
                turns = [
                    turn.model_copy(update={"token_ids": tuple((i + shift) % 30 for i in turn.token_ids)})
                    for turn in episodes[n].turns
                ]
                changes = {"stop": StopReason.POLICY_ERROR, "error": "gone", "turns": tuple(turns)}
                episodes[n] = episodes[n].model_copy(update=changes)
            return episodes

        trainer = make_trainer(taught_model, tmp_path / str(shift), beta=0.5)
        trainer._share_tokens = share
        with monkeypatch.context() as patch:
            patch.setattr(trainer_module, "run_episodes", some_fail)
            batch = make_batch(trainer)
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in trainer.model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.02)
        trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
        for rows in (failed, [0, 1, 2, 3]):
            part = {
                key: value[rows] if torch.is_tensor(value) and value.ndim else value for key, value in batch.items()
            }
            trainer._compute_loss(trainer.model, part).backward()
            moved = any(bool(p.grad.any()) for p in trainer.model.parameters())
            assert moved == (rows != failed)
        return [p.grad for p in trainer.model.parameters()], batch

    one, batch = gradients(0)
    other, _ = gradients(1)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    judged = saved_episodes(tmp_path / "0")[:4]
    assert int(batch["num_items_in_batch"]) == sum(len(turn.token_ids) for e in judged for turn in e.turns)
    assert not (batch["completion_mask"] * batch["tool_mask"])[failed].any()


def test_rows_stay_together_when_they_are_sorted_by_their_beginning() -> None:
    groups = [torch.tensor([1, 0]), torch.tensor([2, 1]), torch.tensor([0, 2]), torch.tensor([0, 0])]
    batches = [
        {
            "group": group,
            "completion_ids": torch.stack([group * 10, 7 - torch.arange(2) - n]).T,
            "advantages": torch.arange(2) * 1.0 + 100 * n,
            "num_items_in_batch": torch.tensor(7),
            "other": None,
        }
        for n, group in enumerate(groups)
    ]

    def rows(some: Any) -> list[tuple[int, ...]]:
        return [(*map(int, i), int(a)) for b in some for i, a in zip(b["completion_ids"], b["advantages"], strict=True)]

    result = _by_beginning(batches)
    assert [batch["group"].tolist() for batch in result] == [[0, 0], [0, 0], [1, 1], [2, 2]]
    assert rows(result) == sorted(rows(batches))
    for batch in result:
        assert batch.keys() == batches[0].keys()
        assert (batch["completion_ids"][:, 0] // 10 == batch["group"]).all()
        assert (int(batch["num_items_in_batch"]), batch["other"]) == (7, None)


@pytest.mark.parametrize("adapter", [False, True], ids=["all weights", "an adapter"])
def test_the_reference_is_asked_for_the_tokens_of_the_agent(taught_model: Path, tmp_path: Path, adapter: bool) -> None:
    batch = make_batch(make_trainer(taught_model, tmp_path, adapter=adapter, beta=0.5, micro_batch_size=2))
    agent = (batch["completion_mask"] * batch["tool_mask"]).bool()
    reference = batch["ref_per_token_logps"]
    assert (~agent & batch["completion_mask"].bool()).any()
    assert not reference[~agent].any()
    # At the start the reference is the policy that sampled.
    assert torch.allclose(reference[agent], batch["sampling_per_token_logps"][agent], atol=2e-5)


def test_a_new_adapter_depends_on_the_seed_alone(taught_model: Path, tmp_path: Path) -> None:
    def adapter(seed: int, noise: int) -> list[Any]:
        torch.manual_seed(noise)  # whatever happened before in the process
        model = make_trainer(taught_model, tmp_path, adapter=True, seed=seed).model
        return [value for name, value in model.named_parameters() if "lora_A" in name]

    first, same, other = adapter(0, 1), adapter(0, 2), adapter(1, 1)
    assert len(first) > 10
    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def log_rows(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_the_penalty_is_zero_at_first_and_grows(taught_model: Path, tmp_path: Path) -> None:
    train_grpo(str(taught_model), small_questions(), small_graph(), tmp_path, small_settings(steps=3, save_steps=9))
    kl = [row["kl"] for row in log_rows(tmp_path)]
    assert kl[0] == pytest.approx(0, abs=1e-9)
    assert kl[1] > 1e-5
    assert kl[2] > 1e-5


def test_several_updates_on_one_batch_are_clipped(taught_model: Path, tmp_path: Path) -> None:
    settings = small_settings(steps=4, updates_per_batch=2, learning_rate=1e-3, save_steps=10, clip=0.02)
    seen: list[tuple[Any, Any]] = []
    compute = KGRPOTrainer._compute_loss

    def watch(self: Any, model: Any, inputs: dict[str, Any]) -> Any:
        with torch.no_grad():
            self._scored = None
            ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
            mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
            now = self._get_per_token_logps_and_entropies(model, ids, mask, inputs["completion_ids"].shape[1])[0]
        agent = (inputs["completion_mask"] * inputs["tool_mask"]).bool()
        seen.append((inputs["old_per_token_logps"][agent], now[agent]))
        return compute(self, model, inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KGRPOTrainer, "_compute_loss", watch)
        train_grpo(str(taught_model), small_questions(), small_graph(), tmp_path, settings)
    rows = log_rows(tmp_path)
    files = sorted(path.name for path in (tmp_path / "rollouts").iterdir())
    assert files == ["step-000000-0.jsonl.gz", "step-000002-0.jsonl.gz"]
    assert [row["clip_ratio/region_mean"] > 0 for row in rows] == [False, True, False, True]
    passes = len(seen) // 4
    for step in range(4):
        differences = [float((old - now).abs().max()) for old, now in seen[step * passes : (step + 1) * passes]]
        assert (max(differences) < 1e-4) == (step % 2 == 0)
