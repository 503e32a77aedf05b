"""The folder of a training run: what it was made with, what is in it, and whether a new run may write there.

::

    OUT/run.json      settings, model, data, seed and versions; written before the first step
    OUT/log.jsonl     one row a step
    OUT/checkpoint-N  what --resume goes on from
    OUT/policy        the result
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgr1.errors import CheckpointError, SettingsError
from kgr1.evaluation.files import LOCK_FILE, locked

if TYPE_CHECKING:
    from kgr1.config import Settings
    from kgr1.types import Question

RUN_FILE, LOG_FILE, POLICY = "run.json", "log.jsonl", "policy"

MADE = ("policy", "best", "best.json", "start", "runs", "rollouts", LOG_FILE, RUN_FILE, "curve.png", "dev.jsonl")
"""What a training run writes besides its checkpoints; the only things that --force removes."""

EXTENDABLE = frozenset(
    {"settings.train.steps", "settings.train.save_steps", "settings.train.eval_steps", "settings.train.eval_questions"}
    | {"settings.train.stop_kl", "settings.train.stop_entropy", "settings.train.stop_growth"}
    | {"settings.coldstart.save_steps"}
)
"""Settings that may change between the parts of one run."""

_LIBRARIES = ("torch", "transformers", "trl", "peft", "numpy")
_SHOWN = 6


def question_record(questions: Sequence[Question], **source: str | int | None) -> dict[str, Any]:
    """Where questions came from and a hash of what they are."""
    digest = hashlib.sha256()
    for question in questions:
        digest.update(question.model_dump_json().encode() + b"\n")
    return {**source, "count": len(questions), "sha256": digest.hexdigest()}


def graph_record(spec: str, info: Any) -> dict[str, Any]:
    """What a run says about its graph; ``info`` is its :class:`kgr1.graph.api.GraphInfo`."""
    return {"source": spec, "triples": info.triples, "entities": info.entities, "relations": info.relations}


def run_record(command: str, settings: Settings, tables: Sequence[str], *, seed: int, **parts: Any) -> dict[str, Any]:
    """What ``run.json`` holds; only the ``tables`` of the settings that the command reads are saved."""
    plain = settings.model_dump(mode="json")
    return {
        "command": command,
        "kgr1": importlib.metadata.version("kgr1"),
        "git_revision": git_revision(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **_versions()},
        "seed": seed,
        **parts,
        "settings": {name: plain[name] for name in tables},
    }


def refuse_used(out: Path, *, resume: bool, force: bool) -> None:
    """Raise :class:`CheckpointError` if ``out`` holds a run and the user did not say what to do with it.

    Called before the slow steps, so that the refusal comes at once; so does that of a folder that another training is
    writing to, which raises :class:`kgr1.errors.EvaluationError`.
    """
    if (out / LOCK_FILE).exists():
        with held(out):
            pass
    _refuse_used(out, resume=resume, force=force)


def _refuse_used(out: Path, *, resume: bool, force: bool) -> None:
    from kgr1.grpo.checkpoint import latest_checkpoint

    if resume or force:
        return
    checkpoint = latest_checkpoint(out)
    finished = (out / POLICY).exists()
    if finished or checkpoint is not None:
        what = "a finished run" if finished else f"the checkpoint of an unfinished run ({checkpoint})"
        raise CheckpointError(
            f"{out} already holds {what}; go on with --resume, replace it with --force, or choose another folder.",
            path=str(out),
        )


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Hold ``out`` against a second training while this one runs; the lock goes with the process, however that ends.

    Of several processes of one training only the main one takes it. Raises :class:`kgr1.errors.EvaluationError` if
    another run holds it, and :class:`CheckpointError` if the folder cannot be made.
    """
    from kgr1.grpo.checkpoint import is_main_process

    if not is_main_process():
        yield
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(out, error) from error
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(out))
        except OSError as error:
            raise _unwritable(out, error) from error
        yield


def _unwritable(out: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"Cannot write to {out}: {error.strerror or error}.", path=str(out))


def prepare(out: Path, record: Mapping[str, Any], *, resume: bool, force: bool) -> bool:
    """Make ``out`` ready for a run and write its ``run.json``; True if there is a checkpoint to go on from.

    ``resume`` goes on from what is there, which must have been made with the same command, model, data and settings;
    ``force`` removes what the earlier run wrote, and nothing else. Call it when nothing but the training can fail any
    more. Raises :class:`CheckpointError` or :class:`SettingsError`.
    """
    from kgr1.grpo.checkpoint import latest_checkpoint, write_json

    _refuse_used(out, resume=resume, force=force)
    checkpoint = latest_checkpoint(out)
    used = checkpoint is not None or (out / POLICY).exists()
    try:
        if used and resume:
            record = {**record, **_check_same(out, record)}
        elif force:
            clear(out)
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / RUN_FILE, record)
    except OSError as error:
        raise _unwritable(out, error) from error
    return resume and checkpoint is not None


def clear(out: Path) -> None:
    """Remove what a training run wrote to ``out``, and nothing else."""
    from kgr1.grpo.checkpoint import checkpoint_step

    for path in [*(out / name for name in MADE), *(p for p in out.glob("checkpoint-*") if checkpoint_step(p) >= 0)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _check_same(out: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse a run that is another one; returns what stays as it was in the record of a resumed one."""
    try:
        saved = json.loads((out / RUN_FILE).read_text("utf-8"))
    except FileNotFoundError:
        return {}  # not written by these commands: whoever resumes it knows what it is
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"Cannot read {out / RUN_FILE}, which says what {out} was made with; choose another folder.", path=str(out)
        ) from error
    from kgr1.config import Settings

    compared = ("command", "seed", "model", "graph", "questions", "dev_questions", "settings")
    old = flat({key: saved.get(key) for key in compared} if isinstance(saved, dict) else {})
    new = flat({key: record.get(key) for key in compared})
    # A setting that came into being after the run was made had its default's effect then.
    old = {
        key: value for key, value in flat({"settings": Settings().model_dump(mode="json")}).items() if key in new
    } | old
    keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key) and key not in EXTENDABLE]
    if keys:
        shown = "; ".join(
            f"{key} was {old.get(key, 'absent')} and is {new.get(key, 'absent')}" for key in keys[:_SHOWN]
        )
        more = f"; and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
        raise SettingsError(
            f"{out} cannot be resumed with other settings: {shown}{more}. Use the same ones or choose another folder.",
            differences=keys,
        )
    return {"started": saved["started"]} if isinstance(saved, dict) and "started" in saved else {}


def flat(value: object, prefix: str = "") -> dict[str, str]:
    """Nested tables as dotted keys, leaves as JSON.

    >>> flat({"a": {"b": 1, "c": "x"}})
    {'a.b': '1', 'a.c': '"x"'}
    """
    if isinstance(value, Mapping):
        parts: dict[str, str] = {}
        for key, inner in value.items():
            parts |= flat(inner, f"{prefix}.{key}" if prefix else str(key))
        return parts
    return {prefix: json.dumps(value)}


def git_revision() -> str | None:
    """Commit of the source tree that kgr1 runs from, with ``+changes`` if files differ; None for an installed copy."""
    package = Path(__file__).resolve().parents[1]
    try:
        root = Path(_git(package, "rev-parse", "--show-toplevel"))
        if root / "src" / "kgr1" != package:  # a repository that merely contains an environment
            return None
        changes = _git(package, "status", "--porcelain", "--untracked-files=no")
        return _git(package, "rev-parse", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
