"""The trained policy as a folder: an adapter, or a whole model with its tokenizer."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

from peft import LoraConfig

from kgr1.config import AgentSettings
from kgr1.grpo.checkpoint import earlier_name, failure, finish_exchange, is_write_error, sync_files, working_name
from kgr1.models.pretrained import write_agent_settings


def lora_config(rank: int) -> LoraConfig:
    """LoRA on every linear layer but the output layer, alpha = 2 rank."""
    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")


def save_policy(model: Any, tokenizer: Any, target: Path, agent: AgentSettings | None = None) -> Path:
    """Save a trained model or adapter as a complete folder or not at all (written aside, flushed, then renamed).

    An adapter names its base model; a whole model comes with its tokenizer. ``agent`` is what an agent was trained
    with, for the commands that ask it. Raises :class:`kgr1.errors.CheckpointError` if the folder cannot be written.
    """
    work = working_name(target)
    earlier = earlier_name(target)
    try:
        work.mkdir(parents=True)
        if hasattr(model, "peft_config"):
            # The vocabulary is never changed, so the embeddings need not be compared with the hub's.
            model.save_pretrained(str(work), selected_adapters=["default"], save_embedding_layers=False)
            (work / "README.md").unlink(missing_ok=True)  # a form that nobody has filled in
        else:
            model.save_pretrained(str(work))
            tokenizer.save_pretrained(str(work))
        if agent is not None:
            write_agent_settings(work, agent)
        sync_files(work)
        if target.exists():
            os.replace(target, earlier)
        os.replace(work, target)
    except Exception as error:
        if not is_write_error(error):
            raise
        raise failure(target, error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
        with contextlib.suppress(OSError):  # then the next run puts it back
            finish_exchange(earlier, target)
    return target
