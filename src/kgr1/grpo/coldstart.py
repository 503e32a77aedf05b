"""Cold start: supervised fine-tuning on expert trajectories before RL (SPEC section 6).

Trajectories are replayed on the real graph through the same loop as a rollout, so the model is trained on exactly the
layout it will meet. Only the expert's tokens carry loss; prompt, observations and marked mistakes do not.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from transformers import Trainer, TrainingArguments, set_seed

from kgr1.agent.policy import Generation, Grammar
from kgr1.agent.prompt import format_turn
from kgr1.agent.rollout import run_episode
from kgr1.agent.set_grammar import SetGrammar
from kgr1.config import AgentSettings, ColdstartSettings, SamplingSettings
from kgr1.datasets.expert import Step
from kgr1.datasets.search import NEAR
from kgr1.errors import GraphServerError, SettingsError
from kgr1.graph.api import KnowledgeGraph
from kgr1.grpo.arguments import computes_in_bfloat16
from kgr1.grpo.batch import episode_tokens
from kgr1.grpo.checkpoint import SafeCheckpoints, checkpoint_step, start_point
from kgr1.grpo.journal import JsonlLog, StepReport
from kgr1.grpo.logps import scored_tokens
from kgr1.grpo.order import StagedSampler
from kgr1.grpo.policy import lora_config, save_policy
from kgr1.grpo.stages import count_hops, pools
from kgr1.grpo.tree_attention import takes_trees
from kgr1.models.tokens import encode_prompt, encode_text
from kgr1.models.weights import LoadedModel
from kgr1.rewards.outcome import answer_score
from kgr1.types import Episode, Question, StopReason

IGNORED = -100
Trajectory = tuple[Question, Sequence[Step]]


@dataclass(frozen=True)
class Example:
    """One trajectory as tokens: ``input_ids`` (T,) and ``labels`` (T,), -100 where nothing is learned.

    ``hops`` is that of its question, None where it is not known.
    """

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    hops: int | None = None


def build_examples(
    trajectories: Sequence[Trajectory], graph: KnowledgeGraph, tokenizer: Any, agent: AgentSettings
) -> list[Example]:
    """Replay expert trajectories on the graph and lay them out as training examples.

    Raises :class:`GraphServerError` if the graph fails, and :class:`SettingsError` for a trajectory that does not come
    to its answer within ``agent.max_turns``: half a trajectory would teach the model to stop early. With ``agent.sets``
    a trajectory is left out if what it says was not shown: a relation that a long list was cut before, or an answer.
    """
    examples = (_example(question, steps, graph, tokenizer, agent) for question, steps in trajectories)
    return [example for example in examples if example is not None]


def _example(
    question: Question, steps: Sequence[Step], graph: KnowledgeGraph, tokenizer: Any, agent: AgentSettings
) -> Example | None:
    policy = _ReplayPolicy(tokenizer, steps)
    episode = asyncio.run(run_episode(question, graph, policy, agent=agent, sampling=SamplingSettings()))
    if episode.stop is StopReason.GRAPH_ERROR:
        raise GraphServerError(episode.error)
    if episode.stop is not StopReason.ANSWERED:
        raise SettingsError(
            f"The expert's way to the answer of question '{question.id}' has {len(steps)} turns, more than "
            f"agent.max_turns = {agent.max_turns}; raise it, or make the trajectories with it."
        )
    if agent.sets and not _follows_what_was_shown(episode, agent):
        return None
    tokens = episode_tokens(episode, filler=tokenizer.pad_token_id)
    learned = [turn >= 0 and not steps[turn].mistake for turn in tokens.turn_of_token]
    labels = [token if keep else IGNORED for token, keep in zip(tokens.completion_ids, learned, strict=True)]
    return Example(
        input_ids=tokens.prompt_ids + tokens.completion_ids,
        labels=(IGNORED,) * len(tokens.prompt_ids) + tuple(labels),
        hops=count_hops(question),
    )


def _follows_what_was_shown(episode: Episode, agent: AgentSettings) -> bool:
    """True if a guided turn could have written every query, and the answers are near the gold ones at least."""
    topics, turns = episode.question.topics, episode.turns
    for index, turn in enumerate(turns):
        if turn.query is not None:
            text = turn.query.model_copy(update={"graph_id": None, "time": None}).to_text()
            if text not in SetGrammar(topics, turns[:index], agent).queries:
                return False
    return answer_score(episode).f1 >= NEAR


def text_examples(pairs: Sequence[tuple[str, str]], tokenizer: Any) -> list[Example]:
    """Lay (prompt, reply) pairs out as chats of one message and one reply; the reply and its end are learned."""
    examples = []
    for prompt, reply in pairs:
        read = encode_prompt(tokenizer, prompt)
        written = encode_text(tokenizer, reply)
        written = [*written, tokenizer.eos_token_id]
        examples.append(Example((*read, *written), (*(IGNORED for _ in read), *written)))
    return examples


class _ReplayPolicy:
    """Plays an expert's steps, as the tokens a model would have sampled."""

    def __init__(self, tokenizer: Any, steps: Sequence[Step]) -> None:
        self._tokenizer, self._steps = tokenizer, steps

    @property
    def name(self) -> str:
        return "expert"

    def count_tokens(self, text: str) -> int:
        return len(self.encode(text))

    def encode(self, text: str) -> list[int]:
        return encode_text(self._tokenizer, text)

    async def open(self, prompt: str, question: Question, sampling: SamplingSettings) -> _ReplaySession:
        return _ReplaySession(self, encode_prompt(self._tokenizer, prompt), self._steps)


class _ReplaySession:
    def __init__(self, policy: _ReplayPolicy, prompt_ids: list[int], steps: Sequence[Step]) -> None:
        self._policy, self._steps = policy, iter(steps)
        self.prompt_ids = tuple(prompt_ids)
        self.context_tokens = len(prompt_ids)
        self.room = 1 << 30

    async def generate(self, max_new_tokens: int, grammar: Grammar | None = None) -> Generation:
        step = next(self._steps, None)
        if step is None:  # steps without an answer at their end
            return Generation(text="")
        action = step.query if step.query is not None else step.answer
        assert action is not None, "an expert step has an action"
        text = format_turn(step.think, action)
        return Generation(text=text, token_ids=self.append(text))

    def append(self, text: str) -> tuple[int, ...]:
        ids = tuple(self._policy.encode(text))
        self.context_tokens += len(ids)
        return ids

    def close(self) -> None:
        pass


class ColdstartTrainer(SafeCheckpoints, Trainer):  # type: ignore[misc]
    """``transformers.Trainer`` that computes no padding and no logits of tokens that are not learned.

    Trajectories in one forward pass are laid out as a tree, as the episodes of a group are in GRPO; models that cannot
    do that, and runs with several processes, compute the output layer from the first learned token on.
    """

    loss_is_scaled_for_ga = True  # compute_loss divides by the tokens of the whole optimizer batch
    stages: Sequence[Sequence[int]] = ()
    """Places of the examples of each stage; empty for one order of all of them."""
    shares_tokens = False

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if not self.stages:
            return super()._get_train_sampler(train_dataset)
        batch = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        steps = math.ceil(len(self.stages[-1]) / (batch * self.accelerator.num_processes))
        return StagedSampler(self.stages, self.args.seed, lambda: int(self.state.global_step) // steps)

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean negative log-likelihood over the ``num_items_in_batch`` learned tokens of the optimizer batch."""
        labels = inputs["labels"]
        if self.shares_tokens and not return_outputs:
            learned = labels[:, 1:] != IGNORED
            with self.accelerator.autocast():
                tokens = scored_tokens(model, inputs["input_ids"], inputs["attention_mask"], learned.shape[1], learned)
                logps, _ = tokens.logps()
            return -logps.sum() / num_items_in_batch
        first = int((labels != IGNORED).any(dim=0).nonzero()[0])
        keep = labels.shape[1] - first + 1
        output = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], logits_to_keep=keep)
        logits = output.logits[:, :-1].float()
        targets = labels[:, -keep + 1 :]
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        # The count is that of all processes, whose gradients are averaged.
        loss = loss * self.accelerator.num_processes / num_items_in_batch
        return (loss, output) if return_outputs else loss


def collate(examples: Sequence[Example], pad: int) -> dict[str, torch.Tensor]:
    """Pad examples on the right: ``input_ids``, ``labels`` and ``attention_mask``, (B, T) each."""
    width = max(len(example.input_ids) for example in examples)
    ids = torch.full((len(examples), width), pad)
    labels = torch.full((len(examples), width), IGNORED)
    mask = torch.zeros((len(examples), width), dtype=torch.long)
    for row, example in enumerate(examples):
        length = len(example.input_ids)
        ids[row, :length] = torch.tensor(example.input_ids)
        labels[row, :length] = torch.tensor(example.labels)
        mask[row, :length] = 1
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def train_coldstart(
    loaded: LoadedModel,
    examples: Sequence[Example],
    out: Path,
    settings: ColdstartSettings,
    *,
    agent: AgentSettings | None = None,
    resume: bool = False,
    on_step: Callable[[int, int, dict[str, float]], None] | None = None,
) -> Path:
    """Fine-tune ``loaded`` on ``examples`` and save the result in ``out``; returns the folder to load it from.

    ``agent`` is what the examples were laid out with, and is saved with the policy. With ``lora_rank`` the result is
    an adapter, otherwise a whole model. ``resume`` goes on from the newest complete checkpoint in ``out``. ``on_step``
    gets the step, the number of steps and the logged values. Raises :class:`kgr1.errors.CheckpointError` if a
    checkpoint cannot be written, or if ``out`` holds one and ``resume`` was not asked for.
    """
    if not examples:
        raise SettingsError("There is no expert trajectory to train on; check the questions and the graph.")
    stages: list[list[int]] = []
    if settings.stages:
        stages = pools([example.hops for example in examples], settings.stages, 1, "trajectories")
    checkpoint = start_point(out, resume=resume)
    set_seed(settings.seed)  # a new adapter begins with random numbers
    model = _trainable(loaded, settings)
    trainer = ColdstartTrainer(
        model=model,
        args=_arguments(out, settings),
        train_dataset=list(examples),
        data_collator=lambda rows: collate(rows, loaded.tokenizer.pad_token_id),
        callbacks=_callbacks(out, checkpoint, on_step),
    )
    trainer.stages = stages
    # With several processes the model is wrapped, and only calls through the wrapper synchronise gradients.
    trainer.shares_tokens = trainer.accelerator.num_processes == 1 and takes_trees(model)
    trainer.model_accepts_loss_kwargs = True  # compute_loss takes the number of tokens, whatever the model takes
    trainer.train_from(checkpoint)
    if trainer.is_world_process_zero():
        save_policy(trainer.model, loaded.tokenizer, out / "policy", agent)
    trainer.accelerator.wait_for_everyone()
    return out / "policy"


def _trainable(loaded: LoadedModel, settings: ColdstartSettings) -> Any:
    model = loaded.model
    if not hasattr(model, "peft_config"):
        if settings.lora_rank == 0:
            return model
        model = get_peft_model(model, lora_config(settings.lora_rank))
    if computes_in_bfloat16(settings.dtype):
        for weight in model.parameters():
            if not weight.requires_grad:  # otherwise they would be converted anew in every forward pass
                weight.data = weight.data.to(torch.bfloat16)
    return model


def _arguments(out: Path, settings: ColdstartSettings) -> TrainingArguments:
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    micro = min(settings.micro_batch_size, settings.batch_size)
    if settings.batch_size % (micro * processes):
        raise SettingsError(
            f"coldstart.batch_size = {settings.batch_size} must be a multiple of coldstart.micro_batch_size times the "
            f"number of processes = {micro * processes}."
        )
    cuda = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(out),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=settings.batch_size // (micro * processes),
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=4,
        weight_decay=0.0,
        max_grad_norm=1.0,
        seed=settings.seed,
        data_seed=settings.seed,
        save_steps=settings.save_steps,
        save_total_limit=1,
        logging_steps=1,
        report_to=["tensorboard"],
        use_cpu=not cuda,
        bf16=computes_in_bfloat16(settings.dtype),
        dataloader_pin_memory=cuda,
        remove_unused_columns=False,
        disable_tqdm=True,
        optim="adamw_torch_fused",
    )


def _callbacks(out: Path, checkpoint: Path | None, on_step: Callable[..., None] | None) -> list[Any]:
    resumed = checkpoint_step(checkpoint) if checkpoint else None
    callbacks: list[Any] = [JsonlLog(out / "log.jsonl", resumed)]
    return [*callbacks, StepReport(on_step)] if on_step is not None else callbacks
