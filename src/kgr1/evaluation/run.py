"""Run an agent over a question set into a folder, with any number of interruptions.

::

    OUT/run.json         the settings the folder was made with; a run with other settings is refused
    OUT/episodes.jsonl   one finished episode a line, in the order in which they finished
    OUT/sessions.jsonl   one line for each time the command ran: how much it finished in how many seconds
    OUT/summary.json     the headline metrics, written when every episode is there
    OUT/summary.md       the same as tables
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kgr1.errors import EvaluationError, KGR1Error
from kgr1.evaluation.costs import Session
from kgr1.evaluation.files import Journal, locked, read_episodes, write_whole
from kgr1.evaluation.metrics import METRIC_VERSION, Key, Summary, summarise
from kgr1.evaluation.report import summary_table
from kgr1.types import SCHEMA_VERSION, Episode, Question, Record, StopReason

EpisodeRunner = Callable[[Question, int], Awaitable[Episode]]
"""Plays one episode of a question; the number is the index of the sample."""

RUN_FILE, EPISODES_FILE, SUMMARY_FILE, TABLE_FILE = "run.json", "episodes.jsonl", "summary.json", "summary.md"
SESSIONS_FILE = "sessions.jsonl"
_FAILURES = (StopReason.POLICY_ERROR, StopReason.GRAPH_ERROR)
_SHOWN_DIFFERENCES = 8
_ABSENT = "absent"
ADDRESS = "server"
"""What settings call the address of a model; another one is no hindrance to going on."""
CONTENT = "settings.graph.content"
"""The hash of what a graph holds. Folders of before do not have it, and servers tell none: that is no difference."""

Entry = tuple[Key, int]
"""A question and the index of a sample."""


class OtherRunError(EvaluationError):
    """What a folder holds was made with other settings, or is not known to be of the run that it is opened for."""


@dataclass(frozen=True)
class Progress:
    """What the progress callback is told after every episode: ``done`` of ``total``, ``resumed`` of them found."""

    done: int
    total: int
    resumed: int
    episode: Episode


async def evaluate(
    questions: Sequence[Question],
    runner: EpisodeRunner,
    out: Path,
    *,
    settings: Mapping[str, Any] | Record,
    samples: int = 1,
    concurrency: int = 8,
    retry_failed: bool = False,
    bootstrap_seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Play every question ``samples`` times and write the folder described above; call it again to go on.

    ``settings`` is whatever makes two runs differ (model, graph, agent and sampling settings, seed); it must turn into
    JSON and must be the same when a folder is resumed. ``concurrency`` episodes run at once and may change between
    calls. ``retry_failed`` plays episodes again that ended in a policy or graph error.

    Raises :class:`OtherRunError` if the folder belongs to another run, and :class:`EvaluationError` if it cannot be
    written or ``runner`` raised; what was finished by then is kept. Errors of kgr1 that ``runner`` raises pass through
    unchanged.
    """
    if samples < 1 or concurrency < 1:
        raise EvaluationError(f"samples and concurrency must be at least 1; got {samples} and {concurrency}.")
    wanted = _wanted(questions, samples)
    manifest = _manifest(questions, settings, samples)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(f"Cannot make the folder {out}: {error.strerror}.", path=str(out)) from error
    with locked(out):
        _check_manifest(out, manifest)
        journal, found = Journal.open(
            out / EPISODES_FILE, keep=lambda episode: not (retry_failed and episode.stop in _FAILURES)
        )
        try:
            finished = _finished(found, wanted, out)
            todo = ((question, entry[1]) for entry, question in wanted.items() if entry not in finished)
            counter = _Counter(len(wanted), len(finished), progress)
            try:
                await _play(todo, runner, journal, concurrency, counter)
            finally:
                _log_session(out, counter.session(concurrency))
        finally:
            journal.close()
        summary = summarise(read_episodes(out / EPISODES_FILE), seed=bootstrap_seed)
        write_whole(out / SUMMARY_FILE, summary.model_dump_json(indent=2) + "\n")
        write_whole(out / TABLE_FILE, summary_table(summary))
    return summary


class _Counter:
    """Counts finished episodes for the progress callback."""

    def __init__(self, total: int, resumed: int, progress: Callable[[Progress], None] | None) -> None:
        self.total, self.resumed, self.done, self.progress = total, resumed, resumed, progress
        self._tokens, self._started = 0, time.monotonic()

    def count(self, episode: Episode) -> None:
        self.done += 1
        self._tokens += episode.usage.generated_tokens
        if self.progress is not None:
            self.progress(Progress(done=self.done, total=self.total, resumed=self.resumed, episode=episode))

    def session(self, concurrency: int) -> Session:
        """What was finished since the start."""
        return Session(
            concurrency=concurrency,
            episodes=self.done - self.resumed,
            generated_tokens=self._tokens,
            seconds=time.monotonic() - self._started,
        )


def _log_session(out: Path, session: Session) -> None:
    """Add a line to the log of sessions, unless nothing was played; a full disk must not hide what went wrong."""
    if session.episodes:
        with contextlib.suppress(OSError), (out / SESSIONS_FILE).open("a") as file:
            file.write(session.model_dump_json() + "\n")


def read_sessions(out: Path) -> list[Session]:
    """The sessions of a run; empty for a folder that has none. Lines that are no session are left out."""
    found = []
    try:
        lines = (out / SESSIONS_FILE).read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    for line in lines:
        with contextlib.suppress(ValidationError):
            found.append(Session.model_validate_json(line))
    return found


def check_finished(journal: Path, found: int) -> str:
    """A sentence if the ``found`` episodes of a journal are not all that its run is to have, else an empty text.

    How many that are is told by the ``run.json`` beside it; where nothing tells, nothing is missing. Raises
    :class:`EvaluationError` if there is no episode at all.
    """
    if not found:
        raise EvaluationError(
            f"There is no finished episode in {journal}; start the same evaluation again to go on.",
            path=str(journal),
        )
    wanted = _wanted_episodes(journal)
    if wanted is None or found >= wanted:
        return ""
    return (
        f"{found:,} of {wanted:,} episodes; the run is not finished, and the numbers are those of what there is. "
        "Start the same evaluation again to go on."
    )


def _wanted_episodes(journal: Path) -> int | None:
    if journal.name != EPISODES_FILE:  # a copy, which the file beside it need not be about
        return None
    try:
        saved = json.loads(journal.with_name(RUN_FILE).read_text("utf-8"))
        return int(saved["questions"]["count"]) * int(saved["samples"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


async def _play(
    todo: Iterator[tuple[Question, int]], runner: EpisodeRunner, journal: Journal, concurrency: int, counter: _Counter
) -> None:
    """Let ``concurrency`` workers take from ``todo`` until it is empty; the first error stops all of them."""

    async def work() -> None:
        for question, sample in todo:
            episode = await _one(runner, question, sample)
            journal.append(episode)
            counter.count(episode)

    workers = min(concurrency, counter.total - counter.done)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors.exceptions[0].__cause__


async def _one(runner: EpisodeRunner, question: Question, sample: int) -> Episode:
    try:
        episode = await runner(question, sample)
    except KGR1Error:
        raise
    except Exception as error:
        raise EvaluationError(
            f"Question '{question.id}', sample {sample}, failed with {type(error).__name__}: {error}. The episodes "
            "finished so far are kept; run the same command again to go on."
        ) from error
    if _key(episode.question) != _key(question) or episode.sample != sample:
        raise EvaluationError(
            f"The runner was asked for question '{question.id}', sample {sample}, and returned an episode of "
            f"'{episode.question.id}', sample {episode.sample}."
        )
    return episode


def _key(question: Question) -> Key:
    return (question.dataset, question.split, question.id)


def _wanted(questions: Sequence[Question], samples: int) -> dict[Entry, Question]:
    """Every (question, sample) to be played.

    The samples of a question follow each other: they begin alike, and who plays them at once reads that once.
    """
    keys = [_key(question) for question in questions]
    if not keys:
        raise EvaluationError("There are no questions to evaluate on; check the data set, split and limit.")
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise EvaluationError(f"The question id '{twice[2]}' occurs more than once; ids must be unique.")
    return {(key, sample): question for key, question in zip(keys, questions, strict=True) for sample in range(samples)}


def _finished(found: Sequence[Episode], wanted: Mapping[Entry, Question], out: Path) -> set[Entry]:
    """What the journal holds already; refuses lines that did not come from this run."""
    finished: set[Entry] = set()
    for episode in found:
        entry = (_key(episode.question), episode.sample)
        if entry in finished or entry not in wanted:
            problem = "twice" if entry in finished else "though it is not part of this run"
            raise OtherRunError(
                f"{out / EPISODES_FILE} holds question '{episode.question.id}', sample {episode.sample}, {problem}; "
                "delete that line or choose another folder."
            )
        finished.add(entry)
    return finished


def _manifest(questions: Sequence[Question], settings: Mapping[str, Any] | Record, samples: int) -> dict[str, Any]:
    """What must be equal for a folder to be resumed, as it looks after a round trip through JSON."""
    plain = settings.model_dump(mode="json") if isinstance(settings, Record) else dict(settings)
    digest = hashlib.sha256()
    for text in sorted(question.model_dump_json() for question in questions):
        digest.update(text.encode() + b"\n")
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "questions": {"count": len(questions), "sha256": digest.hexdigest()},
        "samples": samples,
        "settings": plain,
    }
    try:
        loaded: dict[str, Any] = json.loads(json.dumps(manifest, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise EvaluationError(f"The settings of a run must turn into JSON: {error}.") from error
    return loaded


def _check_manifest(out: Path, manifest: Mapping[str, Any]) -> None:
    """Write ``run.json`` into a fresh folder; compare with it in a used one."""
    path = out / RUN_FILE
    if not path.exists():
        if (out / EPISODES_FILE).exists():
            raise OtherRunError(f"{out} has episodes but no {RUN_FILE} that says how they were made; choose another.")
        write_whole(path, json.dumps({"metric_version": METRIC_VERSION, **manifest}, indent=2) + "\n")
        return
    try:
        saved = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(f"Cannot read {path}: {error}; choose another folder.", path=str(path)) from error
    old, new = _flat(saved), _flat(manifest)
    old.pop("metric_version", None)  # episodes can be summarised again by newer definitions
    keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key, _ABSENT) != new.get(key, _ABSENT)]
    keys = [key for key in keys if key.rpartition(".")[2] != ADDRESS]
    keys = [key for key in keys if key != CONTENT or (key in old and key in new)]
    if keys:
        shown = [_difference(key, old, new) for key in keys[:_SHOWN_DIFFERENCES]]
        more = f" and {len(keys) - len(shown)} more" if len(keys) > len(shown) else ""
        raise OtherRunError(
            f"{out} was made with other settings: {'; '.join(shown)}{more}. Use the same settings to resume it or "
            "choose another folder.",
            differences=keys,
        )


def _difference(key: str, old: Mapping[str, str], new: Mapping[str, str]) -> str:
    if key == CONTENT:
        return "the graph was built anew since and holds something else"
    return f"{key} is {old.get(key, _ABSENT)} there and {new.get(key, _ABSENT)} now"


def _flat(value: object, prefix: str = "") -> dict[str, str]:
    """Nested tables as dotted keys, leaves as JSON."""
    if isinstance(value, Mapping) and value:
        parts: dict[str, str] = {}
        for key, inner in value.items():
            parts |= _flat(inner, f"{prefix}.{key}" if prefix else str(key))
        return parts
    return {prefix: json.dumps(value)}
