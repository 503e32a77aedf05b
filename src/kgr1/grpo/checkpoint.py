"""Checkpoints that are either complete or not there.

The trainer writes a checkpoint folder file by file. A marker file is written last, after everything else was flushed;
folders without it are left over from a crash, are never resumed from and are removed by the next run. Older checkpoints
are deleted only after the newer one is complete.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from kgr1.errors import CheckpointError

MARKER = "complete.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def checkpoint_step(path: Path) -> int:
    """Optimizer step of a checkpoint folder, -1 if it is none."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint in a run folder, or None."""
    found = [path for path in folder.glob("checkpoint-*") if (path / MARKER).is_file()]
    return max(found, key=checkpoint_step, default=None)


def remove_incomplete(folder: Path) -> None:
    """Delete checkpoint folders that a crash left half-written."""
    for path in folder.glob("checkpoint-*"):
        if checkpoint_step(path) >= 0 and not (path / MARKER).is_file():
            shutil.rmtree(path, ignore_errors=True)


def mark_complete(path: Path) -> None:
    """Flush every file of a checkpoint to the disk and then write its marker."""
    for file in path.rglob("*"):
        if file.is_file():
            _sync(file)
    write_json(path / MARKER, {"step": checkpoint_step(path)})


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file that is whole or absent: temporary file, flush, rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(value, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class SafeCheckpoints:
    """Mixin for a ``transformers.Trainer``: complete checkpoints, and a clear error when one cannot be written."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        out = Path(self.args.output_dir)  # type: ignore[attr-defined]
        target = out / f"checkpoint-{self.state.global_step}"  # type: ignore[attr-defined]
        limit, self.args.save_total_limit = self.args.save_total_limit, None  # type: ignore[attr-defined]
        try:
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
            mark_complete(target)
        except (OSError, RuntimeError) as error:
            shutil.rmtree(target, ignore_errors=True)
            raise failure(target, error) from error
        except Exception as error:
            # safetensors raises a type of its own for input and output errors.
            if type(error).__name__ != "SafetensorError":
                raise
            shutil.rmtree(target, ignore_errors=True)
            raise failure(target, error) from error
        finally:
            self.args.save_total_limit = limit  # type: ignore[attr-defined]
        if limit:
            complete = sorted(
                (path for path in out.glob("checkpoint-*") if (path / MARKER).is_file()), key=checkpoint_step
            )
            for path in complete[:-limit]:
                shutil.rmtree(path, ignore_errors=True)


def failure(target: Path, error: BaseException) -> CheckpointError:
    """The error for a checkpoint or policy folder that could not be written, with what is still there."""
    previous = latest_checkpoint(target.parent)
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error) or "os error 28" in str(error)
    reason = "the disk is full" if full else str(error).strip().splitlines()[0] if str(error).strip() else "I/O error"
    kept = f"The last complete one is {previous.name}" if previous else "There is no earlier one"
    return CheckpointError(
        f"Cannot write the checkpoint {target}: {reason}. {kept}; free some space and start again with --resume.",
        path=str(target),
    )


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
