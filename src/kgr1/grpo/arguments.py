"""The settings of a training run as the arguments of TRL's ``GRPOTrainer``."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from trl import GRPOConfig

from kgr1.config import Settings, TrainSettings
from kgr1.errors import SettingsError

_CHECKPOINTING = next(  # the newer name first; the older one is deprecated where both are known
    name for name in ("activation_checkpointing", "gradient_checkpointing") if name in GRPOConfig.__dataclass_fields__
)


def grpo_arguments(out: Path, settings: Settings) -> GRPOConfig:
    """What TRL's trainer is to do; raises :class:`SettingsError` for settings that do not fit together."""
    train = settings.train
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    episodes = train.questions_per_step * train.group_size
    if episodes % (processes * train.micro_batch_size):
        raise SettingsError(
            f"train.questions_per_step * train.group_size = {episodes} must be a multiple of train.micro_batch_size "
            f"times the number of processes = {train.micro_batch_size * processes}."
        )
    if train.resample and (episodes // processes) % train.group_size:
        raise SettingsError("With train.resample every process needs whole groups; change train.questions_per_step.")
    check_boundaries(train)
    passes = episodes // (processes * train.micro_batch_size)
    cuda = torch.cuda.is_available()
    return GRPOConfig(
        output_dir=str(out),
        max_steps=train.steps,
        per_device_train_batch_size=train.micro_batch_size,
        gradient_accumulation_steps=passes,
        steps_per_generation=passes,
        num_generations=train.group_size,
        num_iterations=train.updates_per_batch,
        learning_rate=train.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        beta=train.beta,
        epsilon=train.clip,
        temperature=train.temperature,
        loss_type="dapo",
        scale_rewards="group",
        mask_truncated_completions=False,
        max_completion_length=settings.agent.max_turns
        * (settings.agent.max_new_tokens + settings.agent.observation_tokens),
        seed=train.seed,
        data_seed=train.seed,
        save_strategy="steps",
        save_steps=train.save_steps,
        save_total_limit=2,
        logging_steps=1,
        report_to=["tensorboard"],
        use_cpu=not cuda,
        bf16=computes_in_bfloat16(train.dtype),
        **{_CHECKPOINTING: train.gradient_checkpointing},
        remove_unused_columns=False,
        dataloader_pin_memory=cuda,
        disable_tqdm=True,
        optim="adamw_torch_fused",
    )


def check_boundaries(train: TrainSettings) -> None:
    """Raise :class:`SettingsError` if a run would be cut within a batch.

    The episodes of a batch are in no checkpoint, so a run can be cut only where a new batch begins.
    """
    for name in ("steps", "save_steps", *(["stage_steps"] if train.stages else [])):
        if (value := getattr(train, name)) % train.updates_per_batch:
            raise SettingsError(
                f"train.{name} must be a multiple of train.updates_per_batch = {train.updates_per_batch}, so that a "
                f"run can resume; {value} is none."
            )


def computes_in_bfloat16(dtype: str) -> bool:
    """True if ``dtype`` (auto, float32, bfloat16) means bfloat16 here: ``auto`` does on a GPU."""
    return dtype == "bfloat16" or (dtype == "auto" and torch.cuda.is_available())
