"""Checkpoints that are either complete or not there.

The trainer writes a checkpoint folder file by file. A marker file is written last, after everything else was flushed;
folders without it are left over from a crash, are never resumed from and are removed by the next run. Older checkpoints
are deleted only after the newer one is complete. With several processes the first one marks and deletes, when all of
them have written their part.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from kgr1.errors import CheckpointError
from kgr1.grpo.group import end_group_at_exit

MARKER = "complete.json"
FULL_BYTES = 1 << 20  # a disk with less than this is full, whatever the library that could not write says
WORKING = ".part-"
_NAME = re.compile(r"checkpoint-(\d+)")
_EARLIER = re.compile(rf"\.(.+)-earlier{re.escape(WORKING)}\d+")


def checkpoint_step(path: Path) -> int:
    """Optimizer step of a checkpoint folder, -1 if it is none."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint in a run folder, or None."""
    return max(_complete(folder), key=checkpoint_step, default=None)


def _complete(folder: Path) -> list[Path]:
    found = folder.glob("checkpoint-*")
    return [path for path in found if checkpoint_step(path) >= 0 and (path / MARKER).is_file()]


def is_main_process() -> bool:
    """True for the process that writes, before and after the training library knows of the others."""
    return int(os.environ.get("RANK", "0")) == 0


def start_point(folder: Path, *, resume: bool) -> Path | None:
    """Make a run folder ready; the checkpoint to go on from, or None for a run from the beginning.

    A policy whose replacement was cut short is put back for a run that goes on.
    Raises :class:`CheckpointError` if the folder cannot be written, or if a run from the beginning would mix its
    checkpoints with those of an earlier one.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        newest = latest_checkpoint(folder)
        if newest is not None and not resume:
            raise CheckpointError(
                f"{folder} holds {newest.name} of an earlier run; resume that run, or choose another folder.",
                path=str(folder),
            )
        if is_main_process():
            if newest is not None:  # what an earlier run replaced is nothing to a run from the beginning
                put_back(folder)
            remove_incomplete(folder)
    except OSError as error:
        raise failure(folder, error) from error
    return newest


def remove_incomplete(folder: Path) -> None:
    """Delete what a crash left half-written: checkpoints without a marker, folders and files under a working name."""
    for path in folder.glob("checkpoint-*"):
        if checkpoint_step(path) >= 0 and not (path / MARKER).is_file():
            shutil.rmtree(path, ignore_errors=True)
    for path in [*folder.glob(f".*{WORKING}*"), *folder.glob(f"*/.*{WORKING}*")]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def put_back(folder: Path) -> None:
    """Undo what a kill left half-done when a policy was replaced by a newer one.

    Undone and not completed: what the folder says of the policy (``best.json``) is written after the exchange, and the
    run that goes on from its checkpoint comes to the newer one again.
    """
    for path in folder.glob(f".*-earlier{WORKING}*"):
        if (match := _EARLIER.fullmatch(path.name)) is not None:
            finish_exchange(path, folder / match[1])


def finish_exchange(earlier: Path, target: Path) -> None:
    """Put ``earlier`` back in the place of ``target`` if nothing came there, else remove it."""
    if earlier.exists() and not target.exists():
        os.replace(earlier, target)
    else:
        shutil.rmtree(earlier, ignore_errors=True)


def earlier_name(target: Path) -> Path:
    """Where ``target`` waits until a newer one is in its place."""
    return working_name(target.with_name(f"{target.name}-earlier"))


def working_name(path: Path) -> Path:
    """Where ``path`` is written before it is renamed; of no other process, and removed by the next run."""
    return path.with_name(f".{path.name}{WORKING}{os.getpid()}")


def discard(path: Path) -> None:
    """Remove a file that may not be there, in a folder that may not be there."""
    with contextlib.suppress(OSError):
        path.unlink()


def mark_complete(path: Path) -> None:
    """Flush every file of a checkpoint to the disk and then write its marker."""
    sync_files(path)
    write_json(path / MARKER, {"step": checkpoint_step(path)})


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file that is whole or absent."""
    write_file(path, json.dumps(value, indent=1, sort_keys=True).encode())


def write_file(path: Path, content: bytes) -> None:
    """Write a file that is whole or absent: temporary file, flush, rename."""
    temporary = working_name(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        discard(temporary)


class SafeCheckpoints:
    """Mixin for a ``transformers.Trainer``: complete checkpoints, and a clear error when one cannot be written."""

    def train_from(self, checkpoint: Path | None) -> None:
        """Train to the last step, from a checkpoint if there is one."""
        end_group_at_exit()
        if checkpoint is not None and 0 < self.args.max_steps <= checkpoint_step(checkpoint):  # type: ignore[attr-defined]
            # Killed between the last checkpoint and the end. The trainer would take one more step before it looks.
            self._load_from_checkpoint(str(checkpoint))  # type: ignore[attr-defined]
        else:
            self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)  # type: ignore[attr-defined]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        out = Path(self.args.output_dir)  # type: ignore[attr-defined]
        target = out / f"checkpoint-{self.state.global_step}"  # type: ignore[attr-defined]
        limit, self.args.save_total_limit = self.args.save_total_limit, None  # type: ignore[attr-defined]
        try:
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
            self.accelerator.wait_for_everyone()  # type: ignore[attr-defined]
            if self.is_world_process_zero():  # type: ignore[attr-defined]
                mark_complete(target)
        except Exception as error:
            unwritable = failure(target, error) if is_write_error(error) else None
            shutil.rmtree(target, ignore_errors=True)
            if unwritable is None:
                raise
            raise unwritable from error
        finally:
            self.args.save_total_limit = limit  # type: ignore[attr-defined]
        if limit and self.is_world_process_zero():  # type: ignore[attr-defined]
            for path in sorted(_complete(out), key=checkpoint_step)[:-limit]:
                shutil.rmtree(path, ignore_errors=True)


def is_write_error(error: BaseException) -> bool:
    """True for what the libraries raise when a file cannot be written; some have types of their own."""
    return isinstance(error, OSError | RuntimeError) or type(error).__name__ == "SafetensorError"


def failure(target: Path, error: BaseException, run: Path | None = None) -> CheckpointError:
    """The error for something that could not be written, with what is still there.

    ``run`` is the folder of the run (default: the one around ``target``). Call it before what was half-written is
    removed: whether the disk is full shows only then.
    """
    run = run or target.parent
    previous = latest_checkpoint(run)
    text = str(error).strip()
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in text or "os error 28" in text
    advice = "put that right"
    if full or _free_bytes(run) < FULL_BYTES:
        reason, advice = "the disk is full", "make room"
    elif "enforce fail" in text:  # torch names a line of its own source here
        reason = "a file could not be written to its end"
    else:
        reason = getattr(error, "strerror", None) or (text.splitlines() or ["input or output error"])[0]
    kept = f"The last complete checkpoint is {previous.name}" if previous else "There is no earlier checkpoint"
    how = "start again with --resume" if previous else "start again"
    return CheckpointError(f"Cannot write {target}: {reason}. {kept}; {advice} and {how}.", path=str(target))


def _free_bytes(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return FULL_BYTES


def sync_files(folder: Path) -> None:
    """Flush every file in a folder to the disk."""
    for file in folder.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
