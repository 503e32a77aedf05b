"""The trained policy as a folder: an adapter, or a whole model with its tokenizer."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from peft import LoraConfig

from kgr1.grpo.checkpoint import failure


def lora_config(rank: int) -> LoraConfig:
    """LoRA on every linear layer but the output layer, alpha = 2 rank."""
    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")


def save_policy(model: Any, tokenizer: Any, target: Path) -> Path:
    """Save a trained model or adapter as a complete folder or not at all (written aside, then renamed).

    An adapter names its base model; a whole model comes with its tokenizer. Raises
    :class:`kgr1.errors.CheckpointError` if it cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".policy-", dir=target.parent))
    except OSError as error:
        raise failure(target, error) from error
    try:
        if hasattr(model, "peft_config"):
            # The vocabulary is never changed, so the embeddings need not be compared with the hub's.
            model.save_pretrained(str(work), selected_adapters=["default"], save_embedding_layers=False)
        else:
            model.save_pretrained(str(work))
            tokenizer.save_pretrained(str(work))
        shutil.rmtree(target, ignore_errors=True)
        os.replace(work, target)
    except (OSError, RuntimeError) as error:
        raise failure(target, error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target
