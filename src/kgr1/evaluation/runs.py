"""One evaluation as a report needs it: scores, causes, calls, costs and some examples, read from its folder once."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from kgr1.agent.evidence import shown_times
from kgr1.evaluation.agreement import find_judgement
from kgr1.evaluation.bootstrap import Metric, estimate
from kgr1.evaluation.causes import Cause, call_outcomes, cause
from kgr1.evaluation.costs import Session, TokenKinds, counts_tokens, mean_kinds, token_kinds
from kgr1.evaluation.files import read_episodes
from kgr1.evaluation.judge import matter_of
from kgr1.evaluation.metrics import EpisodeRow, Key, Summary, summarise_rows
from kgr1.evaluation.run import EPISODES_FILE, check_finished, read_sessions
from kgr1.evaluation.variants import Values, score_variants, variant_columns
from kgr1.types import Episode, StopReason, Turn

SHOWN_CHARS = 4000
"""Longer texts are cut in examples."""


@dataclass
class TurnTimes:
    """Seconds of the turns with one number, summed over the episodes that came so far.

    A turn is what a model wrote; what other systems than the agent ask the graph in steps of its own belongs to the
    turn before, or to the first one.
    """

    turns: int = 0
    generate_s: float = 0.0
    graph_s: float = 0.0


@dataclass
class Run:
    """An evaluation of one system on one data set. Nothing but ``examples`` grows with the length of the texts."""

    system: str
    dataset: str
    rows: list[EpisodeRow] = field(default_factory=list)
    causes: Counter[Cause] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    kinds: list[TokenKinds] = field(default_factory=list)
    in_tokens: bool = True  # else texts are measured in characters
    seconds: list[float] = field(default_factory=list)
    turn_times: list[TurnTimes] = field(default_factory=list)
    failed: int = 0
    sessions: list[Session] = field(default_factory=list)
    variants: Values = field(default_factory=dict)
    matters: list[str] = field(default_factory=list)  # hashes of what a judge would see of the episodes
    judged: dict[str, Metric] = field(default_factory=dict)  # the judge's numbers, if the folder has them
    judge_problem: str = ""  # why the folder's verdicts are not those of these episodes
    unfinished: str = ""  # a sentence if episodes are still to be played
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by question, see _place

    @classmethod
    def load(cls, folder: Path, *, system: str, dataset: str = "", examples: int = 0) -> Run:
        """Read the folder of an evaluation (or its journal); keeps the episodes of ``examples`` questions whole.

        Which questions that are depends on the questions alone, so runs on one data set show the same ones. Raises
        :class:`kgr1.errors.EvaluationError` if there are no episodes to read.
        """
        journal = folder / EPISODES_FILE if folder.is_dir() or not folder.exists() else folder
        run = cls.of(read_episodes(journal), system=system, dataset=dataset, examples=examples)
        run.unfinished = check_finished(journal, len(run.rows))
        run.sessions = read_sessions(journal.parent)
        judgement = find_judgement(journal, run.matters)
        run.judged = judgement.summary.metrics if judgement.summary else {}
        run.judge_problem = judgement.problem
        return run

    @property
    def problems(self) -> list[str]:
        """What a reader of the numbers must know."""
        return [problem for problem in (self.unfinished, self.judge_problem) if problem]

    @classmethod
    def of(cls, episodes: Iterable[Episode], *, system: str, dataset: str = "", examples: int = 0) -> Run:
        """The same from episodes in memory."""
        run = cls(system=system, dataset=dataset)
        for episode in episodes:
            run._add(episode, examples)
        return run

    @cached_property
    def summary(self) -> Summary:
        """The headline metrics with their intervals."""
        return summarise_rows(self.rows)

    @cached_property
    def more_metrics(self) -> dict[str, Metric]:
        """The measures of published work, and the judge's."""
        return estimate(variant_columns(self.variants)) | self.judged

    @property
    def mean_kinds(self) -> TokenKinds:
        """Mean tokens (or characters) of an episode by kind."""
        return mean_kinds(self.kinds)

    def _add(self, episode: Episode, examples: int) -> None:
        row = EpisodeRow.of(episode)
        self.rows.append(row)
        self.matters.append(matter_of(episode))
        self.variants.setdefault(row.key, []).append(score_variants(episode))
        self.causes[cause(episode)] += 1
        self.calls += call_outcomes(episode)
        self.kinds.append(token_kinds(episode))
        self.in_tokens = self.in_tokens and counts_tokens(episode)
        self.seconds.append(episode.usage.seconds)
        self.failed += episode.stop in (StopReason.POLICY_ERROR, StopReason.GRAPH_ERROR)
        self._time(episode)
        place = _place(row.key)
        if place in self.examples or len(self.examples) < examples or (examples and place < max(self.examples)):
            self.examples.setdefault(place, []).append(_example(episode, row))
            if len(self.examples) > examples:
                del self.examples[max(self.examples)]

    def _time(self, episode: Episode) -> None:
        number = -1
        for turn in episode.turns:
            number += not turn.retrieved
            place = max(number, 0)
            if place == len(self.turn_times):
                self.turn_times.append(TurnTimes())
            times = self.turn_times[place]
            times.turns += not turn.retrieved
            times.generate_s += turn.generate_s
            times.graph_s += turn.graph_s


def _place(key: Key) -> str:
    """A fixed random order of questions."""
    return hashlib.blake2b("\0".join(key).encode(), digest_size=8).hexdigest()


def _example(episode: Episode, row: EpisodeRow) -> dict[str, Any]:
    """What the example browser shows; plain JSON, nothing of it escaped yet."""
    question, times = episode.question, shown_times(episode.turns)
    return {
        "id": question.id,
        "question": _cut(question.text),
        "topics": list(question.topics),
        "gold": [answer.label for answer in question.answers],
        "hops": question.hops,
        "kind": question.kind,
        "sample": episode.sample,
        "answers": list(episode.answers),
        "cause": cause(episode).value,
        "f1": row.score.f1,
        "error": _cut(episode.error),
        "seconds": episode.usage.seconds,
        "tokens": episode.usage.generated_tokens,
        "evidence": [[*triple, *filter(None, [", ".join(times.get(triple, ()))])] for triple in episode.evidence[:20]],
        "turns": [_turn(turn) for turn in episode.turns],
    }


def _turn(turn: Turn) -> dict[str, Any]:
    observation = turn.observation
    return {
        "text": _cut(turn.text),
        "information": _cut(turn.information),
        "outcome": "" if observation is None else (observation.error.value if observation.error else "result"),
        "total": 0 if observation is None else observation.total,
        "seconds": turn.generate_s + turn.graph_s,
    }


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]} [... {len(text) - SHOWN_CHARS} characters]"
