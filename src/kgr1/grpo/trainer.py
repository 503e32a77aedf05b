"""Multi-turn GRPO on TRL's ``GRPOTrainer`` (SPEC section 5).

Taken from TRL: the loss with clipping and the k3 KL term, the frozen reference, optimisation, checkpoints, logging and
distribution over processes. Replaced: how completions come about (our rollouts, with the sampled ids and their mask),
the advantages (one per turn, spread over its tokens) and, in a single process, how log-probabilities are computed
(tokens that episodes have in common once, see ``kgr1.grpo.logps``).

Departures from the paper: advantages are computed over the whole group even where it spans processes; the loss is
normalised by the number of agent tokens in the batch (TRL's ``dapo``), which keeps the objective's weight per token.

Shapes: B episodes of one process, T completion tokens, S turns, G group size.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from transformers import set_seed
from trl import GRPOConfig, GRPOTrainer

from datasets import Dataset
from kgr1.agent.rollout import run_episodes
from kgr1.config import ADDED_WEIGHTS, SamplingSettings, Settings, TrainSettings
from kgr1.errors import CheckpointError, GraphServerError, ModelError, SettingsError
from kgr1.graph.api import KnowledgeGraph
from kgr1.grpo.advantage import Advantages, compute_advantages, spread_to_tokens
from kgr1.grpo.alarm import Alarm
from kgr1.grpo.arguments import grpo_arguments
from kgr1.grpo.batch import episode_seed, episode_tokens, pad_turns
from kgr1.grpo.checkpoint import SafeCheckpoints, checkpoint_step, start_point
from kgr1.grpo.journal import DevEvaluation, JsonlLog, StepReport, write_episodes
from kgr1.grpo.logps import shared_prefix_logps
from kgr1.grpo.order import PassSampler
from kgr1.grpo.policy import lora_config, save_policy
from kgr1.grpo.resample import resample
from kgr1.grpo.stages import Schedule, count_hops, pools
from kgr1.grpo.tree_attention import takes_trees
from kgr1.models.sync import sync_weights
from kgr1.models.transformers import TransformersPolicy
from kgr1.models.weights import LoadedModel, load_model
from kgr1.rewards.score import RewardBreakdown, score_episode
from kgr1.types import Episode, Question, StopReason

FAILURES = frozenset({StopReason.POLICY_ERROR, StopReason.GRAPH_ERROR})
"""Ends of an episode that are not the policy's doing."""


class KGRPOTrainer(SafeCheckpoints, GRPOTrainer):  # type: ignore[misc]
    """GRPO over episodes of the agent on a graph, with turn-wise advantages."""

    def __init__(
        self,
        loaded: LoadedModel,
        policy: TransformersPolicy,
        questions: Sequence[Question],
        graph: KnowledgeGraph,
        out: Path,
        settings: Settings,
        callbacks: Sequence[Any] = (),
        arguments: GRPOConfig | None = None,
    ) -> None:
        self.policy, self.graph, self.settings, self.out = policy, graph, settings, out
        self._questions = {question.id: question for question in questions}
        if len(self._questions) != len(questions):
            raise SettingsError("Two training questions have the same id; give every question its own.")
        if len(questions) < settings.train.questions_per_step:
            raise SettingsError(
                f"There are {len(questions)} training questions, fewer than train.questions_per_step = "
                f"{settings.train.questions_per_step}; add questions or lower it."
            )
        self._schedule = _schedule(questions, settings.train)
        self._batch: _Batch | None = None
        self._buffered_inputs: list[dict[str, Any]] | None = None
        self._scored: torch.Tensor | None = None
        os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
        set_seed(settings.train.seed)  # a new adapter begins with random numbers
        fresh_adapter = settings.train.lora_rank > 0 and not hasattr(loaded.model, "peft_config")
        super().__init__(
            model=loaded.model,
            reward_funcs=[_total_reward],
            args=arguments or grpo_arguments(out, settings),
            train_dataset=Dataset.from_dict({"prompt": list(self._questions)}),
            processing_class=loaded.tokenizer,
            peft_config=lora_config(settings.train.lora_rank) if fresh_adapter else None,
            rollout_func=_rollout,
            callbacks=list(callbacks),
        )
        if self.ref_model is not None and self.args.bf16:
            self.ref_model.to(torch.bfloat16)
        # With several processes the model is wrapped, and only calls through the wrapper synchronise gradients. Layers
        # that compute their activations again are called by code of their own.
        checkpointing = settings.train.gradient_checkpointing
        self._share_tokens = self.accelerator.num_processes == 1 and not checkpointing and takes_trees(self.model)

    def rollout(self, ids: Sequence[str]) -> dict[str, list[Any]]:
        """Sample one episode per entry of ``ids`` (question ids, B of them) with the current weights."""
        started = time.perf_counter()
        train, step = self.settings.train, self.state.global_step
        sync_weights(self.accelerator.unwrap_model(self.model), self.policy.engine.model)
        episodes, replaced = resample(
            ids,
            train.group_size,
            self._pool(step),
            self._sample,
            lambda group: _is_dull(group, self.settings),
            attempts=train.resample,
            seed=train.seed + step,
            process=self.accelerator.process_index,
            gather=gather_object,
        )
        self._batch = _Batch(episodes, self.settings, self.processing_class.pad_token_id)
        self._record(self._batch, time.perf_counter() - started, replaced)
        write_episodes(self.out / "rollouts", step, self.accelerator.process_index, episodes)
        _check_alive(episodes)
        return self._batch.fields()

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Not TRL's in the folder of the run: a policy has a card of its own (:mod:`kgr1.cli.model_card`)."""

    def _pool(self, step: int) -> list[str]:
        """The questions that a step may ask."""
        names = list(self._questions)
        if self._schedule is None:
            return names
        return [names[place] for place in self._schedule.pool(step // self.settings.train.updates_per_batch)]

    def _sample(self, ids: Sequence[str], attempt: int) -> list[Episode]:
        train, step = self.settings.train, self.state.global_step
        first = self.accelerator.process_index * len(ids)
        samples = [(first + row) % train.group_size for row in range(len(ids))]
        seeds = [episode_seed(train.seed, step, name, sample) for name, sample in zip(ids, samples, strict=True)]
        return asyncio.run(
            run_episodes(
                [self._questions[name] for name in ids],
                self.graph,
                self.policy,
                agent=self.settings.agent,
                sampling=[SamplingSettings(temperature=train.temperature, seed=seed) for seed in seeds],
                samples=samples,
            )
        )

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        train = self.settings.train
        steps = len(self._questions) // train.questions_per_step * train.updates_per_batch
        sampler = super()._get_train_sampler(dataset)
        return PassSampler(sampler, lambda: int(self.state.global_step) // steps, self._schedule)

    def _record(self, batch: _Batch, seconds: float, replaced: int) -> None:
        metrics = self._metrics["train"]
        metrics["rollout_s"].append(seconds)
        metrics["resampled_groups"].append(replaced)
        for name, value in batch.averages().items():
            # Every process has the same number of episodes, so the mean of means is the mean.
            gathered = self.accelerator.gather(torch.tensor([value], device=self.accelerator.device))
            metrics[name].append(gathered.mean().item())

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """TRL's batch with its scalar advantages replaced by turn-wise ones, (B, T)."""
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        batch, self._batch = self._batch, None
        assert batch is not None, "the rollout function ran"
        rank, count = self.accelerator.process_index, len(batch.episodes)
        everyone: list[_Return] = gather_object(batch.returns())
        group = np.arange(len(everyone)) // self.settings.train.group_size
        advantages = _advantages(everyone, group, self.settings)
        own = slice(rank * count, (rank + 1) * count)
        turn_of_token = batch.turn_of_token(output["completion_ids"].shape[1])
        tokens = spread_to_tokens(advantages.values[own], turn_of_token)
        device = output["completion_ids"].device
        output["advantages"] = torch.tensor(tokens, dtype=torch.float32, device=device)
        output["group"] = torch.tensor(group[own], device=device)
        self._metrics["train"]["degenerate_groups"].append(advantages.degenerate_share)
        return output

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """TRL shuffles episodes over forward passes; put those that begin alike together where that saves work."""
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if self._share_tokens and self.model.training and self._buffered_inputs is not before:
            assert self._buffered_inputs is not None, "a training batch was just made"
            self._buffered_inputs = _by_beginning(self._buffered_inputs)
            inputs = self._buffered_inputs[self._step % self.args.steps_per_generation]
        return inputs

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        scored = inputs["completion_mask"] * inputs["tool_mask"]
        if self._share_tokens and not (scored if self.beta else inputs["advantages"]).any():
            # Failed episodes, or without a penalty those whose group had equal returns: their gradient is 0, and a
            # forward pass would only cost time.
            return torch.stack([weights.sum() for weights in model.parameters() if weights.requires_grad]).sum() * 0.0
        self._scored = scored
        try:
            loss: torch.Tensor = super()._compute_loss(model, inputs)
            return loss
        finally:
            self._scored = None

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, logits_to_keep: int, **kwargs: Any
    ) -> Any:
        if not self._share_tokens:
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, **kwargs
            )
        size = kwargs.get("batch_size") or len(input_ids)
        scored = self._scored
        if scored is None and self._batch is not None:  # the reference, or the policy before several updates
            scored = torch.tensor(self._batch.turn_of_token(logits_to_keep) >= 0, device=input_ids.device)
        with self.accelerator.autocast():
            parts = [
                shared_prefix_logps(
                    model,
                    input_ids[start : start + size],
                    attention_mask[start : start + size],
                    logits_to_keep,
                    temperature=self.temperature,
                    scored=None if scored is None else scored[start : start + size],
                )
                for start in range(0, len(input_ids), size)
            ]
        logps = torch.cat([part[0] for part in parts])
        entropies = torch.cat([part[1] for part in parts])
        return logps, entropies if kwargs.get("compute_entropy") else None, None


def _schedule(questions: Sequence[Question], train: TrainSettings) -> Schedule | None:
    """Which questions each step asks, if they come in stages."""
    if not train.stages:
        return None
    hops = [count_hops(question) for question in questions]
    stages = pools(hops, train.stages, train.questions_per_step, "training questions")
    return Schedule(stages, train.stage_steps // train.updates_per_batch, train.questions_per_step, train.seed)


class _Batch:
    """The episodes of one generation step with their rewards and tokens."""

    def __init__(self, episodes: Sequence[Episode], settings: Settings, filler: int) -> None:
        self.episodes = episodes
        self.scores: list[RewardBreakdown] = [score_episode(episode, settings.reward) for episode in episodes]
        self.tokens = [episode_tokens(_judged_part(episode), filler) for episode in episodes]

    def fields(self) -> dict[str, list[Any]]:
        """What TRL's rollout protocol asks for, plus the reward."""
        return {
            "prompt_ids": [list(tokens.prompt_ids) for tokens in self.tokens],
            "completion_ids": [list(tokens.completion_ids) for tokens in self.tokens],
            "logprobs": [list(tokens.logprobs) for tokens in self.tokens],
            "env_mask": [tokens.agent_mask for tokens in self.tokens],
            "total_reward": [score.total for score in self.scores],
        }

    def returns(self) -> list[_Return]:
        """Turn rewards and outcome of every episode, and whether they say anything about the policy.

        An episode that a failing model or graph ended is not judged: it stays out of the baseline, and its tokens are
        in no batch, so neither its advantage nor the KL term gives it a gradient.
        """
        return [_return(score, episode) for score, episode in zip(self.scores, self.episodes, strict=True)]

    def turn_of_token(self, width: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """(B, width) turn index of each token, -1 for observations and padding."""
        turns = np.full((len(self.tokens), width), -1, dtype=np.int64)
        for row, tokens in enumerate(self.tokens):
            turns[row, : len(tokens.turn_of_token)] = tokens.turn_of_token
        return turns

    def averages(self) -> dict[str, float]:
        """What is logged of a batch, by name."""
        count = len(self.episodes)
        names = self.scores[0].parts
        averages = {name.removeprefix("reward/"): sum(s.parts[name] for s in self.scores) / count for name in names}
        averages.pop("reward", None)  # logged by TRL
        queries = [turn for episode in self.episodes for turn in episode.turns if turn.answer is None]
        valid = sum(turn.observation is not None and turn.observation.ok for turn in queries)
        return averages | {
            "turns": sum(len(episode.turns) for episode in self.episodes) / count,
            "generated_tokens": sum(episode.usage.generated_tokens for episode in self.episodes) / count,
            "answered": sum(episode.stop is StopReason.ANSWERED for episode in self.episodes) / count,
            "valid_queries": valid / len(queries) if queries else 0.0,
        }


def _judged_part(episode: Episode) -> Episode:
    """An episode, without its turns if it is not judged."""
    return episode.model_copy(update={"turns": ()}) if episode.stop in FAILURES else episode


_Return = tuple[list[float], float, bool]
"""Turn rewards and outcome of an episode, and whether it is judged."""


def _return(score: RewardBreakdown, episode: Episode) -> _Return:
    return list(score.turn_values), score.outcome.total, episode.stop not in FAILURES


def _advantages(returns: Sequence[_Return], group: Any, settings: Settings) -> Advantages:
    train = settings.train
    rewards, mask = pad_turns([turns for turns, _, _ in returns])
    mask[[not judged for _, _, judged in returns]] = False
    outcome = [outcome for _, outcome, _ in returns]
    return compute_advantages(train.credit, rewards, outcome, mask, group, lam=train.lam, baseline=train.baseline)


def _is_dull(episodes: Sequence[Episode], settings: Settings) -> bool:
    """True if these episodes of one question give no gradient."""
    returns = [_return(score_episode(episode, settings.reward), episode) for episode in episodes]
    return bool(_advantages(returns, np.zeros(len(returns), np.int64), settings).degenerate[0])


def _check_alive(episodes: Sequence[Episode]) -> None:
    """Stop the run if not one episode got through: going on would only spend its steps."""
    if all(episode.stop in FAILURES for episode in episodes):
        cause = GraphServerError if episodes[0].stop is StopReason.GRAPH_ERROR else ModelError
        raise cause(f"Every episode of this step failed. The first one: {episodes[0].error}")


def _rollout(prompts: list[str], trainer: KGRPOTrainer) -> dict[str, list[Any]]:
    return trainer.rollout(prompts)


def _total_reward(total_reward: list[float], **_: Any) -> list[float]:
    return total_reward


def _by_beginning(batches: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Sort the rows of all micro-batches by group and then by their tokens, and cut them into as many again.

    Neighbours in this order have the most tokens in common.
    """
    size = len(batches[0]["group"])
    keys = [
        (group, ids)
        for batch in batches
        for group, ids in zip(batch["group"].tolist(), batch["completion_ids"].tolist(), strict=True)
    ]
    order = torch.tensor(sorted(range(len(keys)), key=keys.__getitem__))
    merged: dict[str, Any] = {}
    for key, value in batches[0].items():
        rows = isinstance(value, torch.Tensor) and value.ndim > 0
        merged[key] = torch.cat([batch[key] for batch in batches])[order] if rows else value
    return [
        {
            key: value[index * size : (index + 1) * size] if isinstance(value, torch.Tensor) and value.ndim else value
            for key, value in merged.items()
        }
        for index in range(len(batches))
    ]


def train_grpo(
    start: str,
    questions: Sequence[Question],
    graph: KnowledgeGraph,
    out: Path,
    settings: Settings,
    *,
    resume: bool = False,
    dev_questions: Sequence[Question] = (),
    on_step: Callable[[int, int, dict[str, float]], None] | None = None,
    on_alarm: Callable[[str], None] | None = None,
) -> Path:
    """Train the policy ``start`` (name, model folder or adapter) by GRPO; returns the folder of the trained policy.

    With ``train.lora_rank`` an adapter is trained: ``start``'s own if it is one, else a new one. The reference of the
    KL term is ``start``. ``out`` receives ``log.jsonl``, TensorBoard files, ``rollouts/`` (every episode),
    checkpoints, ``policy/`` and, with ``dev_questions`` and ``train.eval_steps``, ``best/``. ``resume`` goes on from
    the newest complete checkpoint exactly as an unbroken run would have. A run that runs away (:mod:`kgr1.grpo.alarm`)
    is saved and ended early, and ``on_alarm`` is told why. Raises :class:`SettingsError` for settings
    that do not fit together, :class:`kgr1.errors.CheckpointError` if a checkpoint cannot be written or ``out`` holds
    one and ``resume`` was not asked for, and :class:`kgr1.errors.ModelError` or :class:`kgr1.errors.GraphServerError`
    if every episode of a step failed.
    """
    if not questions:
        raise SettingsError("There is no training question; check the questions, the split and the subset.")
    agent = settings.agent
    if any(getattr(agent, name) for name in ADDED_WEIGHTS) or any(agent.sentences.values()):
        zeros = ", ".join(f"agent.{name}=0" for name in ADDED_WEIGHTS)
        raise SettingsError(
            f"What is added to the probabilities of a model has no part in training: set {zeros} and the numbers of "
            "agent.sentences to 0; 'kgr1 ranker' and 'kgr1 verifier' make a ranker and a verifier for the policy "
            "afterwards."
        )
    checkpoint = start_point(out, resume=resume)
    _check_goes_on(checkpoint, settings.train)
    arguments = grpo_arguments(out, settings)
    with arguments.main_process_first(local=False):  # the first process writes the start, the others read it
        loaded = _load_start(start, out, settings, write=arguments.process_index == 0)
    sampler = load_model(start, dtype="bfloat16" if arguments.bf16 else "float32")
    device = arguments.device
    rows = min(settings.train.questions_per_step * settings.train.group_size, settings.train.rollout_rows)
    policy = TransformersPolicy(sampler.model.to(device), sampler.tokenizer, name=str(out), max_rows=rows)
    callbacks: list[Any] = [JsonlLog(out / "log.jsonl", checkpoint_step(checkpoint) if checkpoint else None)]
    if on_step is not None:
        callbacks.append(StepReport(on_step))
    alarm = Alarm(settings.train)
    trainer = KGRPOTrainer(loaded, policy, questions, graph, out, settings, [*callbacks, alarm], arguments)
    if dev_questions and settings.train.eval_steps:
        trainer.add_callback(DevEvaluation(trainer, dev_questions[: settings.train.eval_questions]))
    trainer.train_from(checkpoint)
    if trainer.is_world_process_zero():
        save_policy(trainer.accelerator.unwrap_model(trainer.model), loaded.tokenizer, out / "policy", settings.agent)
    trainer.accelerator.wait_for_everyone()
    if alarm.reason is not None and on_alarm is not None:
        on_alarm(alarm.reason)
    return out / "policy"


def _check_goes_on(checkpoint: Path | None, train: TrainSettings) -> None:
    """Refuse a checkpoint that these settings cannot go on from."""
    step = checkpoint_step(checkpoint) if checkpoint else 0
    if step > train.steps:
        raise SettingsError(
            f"{checkpoint} is past train.steps = {train.steps}; set train.steps={step} or more to go on, or choose "
            "another folder for a shorter run."
        )
    if step % train.updates_per_batch:  # left by a version that saved there
        raise CheckpointError(
            f"{checkpoint} was saved between the train.updates_per_batch = {train.updates_per_batch} steps on one "
            "batch, whose episodes are not in it; remove it to go on from an earlier one, or choose another folder.",
            path=str(checkpoint),
        )


def _load_start(start: str, out: Path, settings: Settings, *, write: bool) -> LoadedModel:
    full = settings.train.lora_rank == 0
    loaded = load_model(start, merge=full)
    if full and settings.train.beta > 0:
        # TRL loads the reference again from the path in the model's configuration, so there must be a folder there.
        if write:
            save_policy(loaded.model, loaded.tokenizer, out / "start")
        loaded.model.config._name_or_path = str(out / "start")
    return loaded
