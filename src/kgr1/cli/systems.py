"""The kinds of systems that a comparison can play: one entry each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kgr1.errors import SettingsError

if TYPE_CHECKING:
    from kgr1.agent.policy import Policy
    from kgr1.config import Settings
    from kgr1.evaluation.run import EpisodeRunner
    from kgr1.graph.api import KnowledgeGraph


@dataclass(frozen=True)
class Setup:
    """What a system is made from: a row of the recipe and the graph of its data set."""

    name: str
    graph: KnowledgeGraph
    settings: Settings
    model: str | None
    options: Mapping[str, Any]
    concurrency: int
    models: Models


@dataclass(frozen=True)
class System:
    """One way to answer questions on one graph.

    ``described`` is what ``run.json`` records about it and what must stay the same for a folder to be resumed.
    ``start`` loads what it needs, which is put off until an episode has to be played.
    """

    described: dict[str, str]
    start: Callable[[], EpisodeRunner]

    def runner(self) -> EpisodeRunner:
        """Plays episodes; starts with the first one."""
        from kgr1.types import Episode, Question

        started: list[EpisodeRunner] = []

        async def play(question: Question, sample: int) -> Episode:
            if not started:
                started.append(self.start())
            return await started[0](question, sample)

        return play


@dataclass
class Models:
    """The model that was loaded last, for the next cell that wants it.

    ``paused`` makes room on the terminal for what is shown while a model loads.
    """

    paused: Callable[[], AbstractContextManager[None]] = nullcontext
    _loaded: dict[tuple[str, int], Policy] = field(default_factory=dict)

    def policy(self, name: str, max_rows: int) -> Policy:
        """A model that is ready for sampling; the one before it is let go."""
        from kgr1.cli.loading import load_policy

        if (name, max_rows) not in self._loaded:
            self._loaded.clear()
            with self.paused():
                self._loaded[name, max_rows] = load_policy(name, max_rows=max_rows)
        return self._loaded[name, max_rows]


def _agent(setup: Setup) -> System:
    from kgr1.cli.evaluate import runner
    from kgr1.cli.loading import SAMPLING, check_installed, fingerprint, placement, portable_name

    model = setup.model
    if model is None:
        raise SettingsError(f"System '{setup.name}' needs a model; write model = \"...\" in its table.")
    _no_options(setup)
    check_installed(SAMPLING)
    return System(
        {"name": portable_name(model), "dtype": placement()[1], "weights": fingerprint(model)},
        lambda: runner(setup.graph, setup.models.policy(model, setup.concurrency), setup.settings),
    )


def _oracle(setup: Setup) -> System:
    from kgr1.cli.evaluate import oracle, runner

    if setup.model is not None:
        raise SettingsError(f"System '{setup.name}' is the expert, which takes no model; remove model from its table.")
    _no_options(setup)
    return System({"name": "oracle"}, lambda: runner(setup.graph, oracle(setup.graph, setup.settings), setup.settings))


def _no_options(setup: Setup) -> None:
    if setup.options:
        raise SettingsError(f"System '{setup.name}' has no option '{next(iter(setup.options))}'; remove it.")


SYSTEMS: dict[str, Callable[[Setup], System]] = {"agent": _agent, "oracle": _oracle}
"""Every kind by the name that a recipe uses. ``agent`` is the trained model; with ``runs = N`` its N-run search."""


def make_system(kind: str, setup: Setup) -> System:
    """The system of a row; raises :class:`SettingsError` for a kind that does not exist."""
    if kind not in SYSTEMS:
        raise SettingsError(f"System '{setup.name}' is of no known kind '{kind}'; choose from {', '.join(SYSTEMS)}.")
    return SYSTEMS[kind](setup)
