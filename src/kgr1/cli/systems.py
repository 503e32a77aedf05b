"""The kinds of systems that a comparison can play: one entry each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from kgr1.cli.options import SystemName
from kgr1.errors import SettingsError

if TYPE_CHECKING:
    from kgr1.config import Settings
    from kgr1.evaluation.run import EpisodeRunner
    from kgr1.graph.api import KnowledgeGraph
    from kgr1.models.client import ModelClient


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

    described: dict[str, object]
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
    """The models that were loaded last, for the next cell that wants them.

    ``paused`` makes room on the terminal for what is shown while a model loads.
    """

    paused: Callable[[], AbstractContextManager[None]] = nullcontext
    _loaded: dict[tuple[str, int, str], ModelClient] = field(default_factory=dict)

    def clients(self, names: Sequence[str], max_rows: int, settings: Settings) -> list[ModelClient]:
        """Models that are ready for sampling; those of the cell before that are not among them are let go."""
        from kgr1.cli.loading import load_client

        dtype = settings.sampling.dtype
        wanted = [(name, max_rows, dtype) for name in names]
        for key in self._loaded.keys() - set(wanted):
            del self._loaded[key]
        for key in wanted:
            if key not in self._loaded:
                with self.paused():
                    self._loaded[key] = load_client(key[0], max_rows=max_rows, endpoint=settings.endpoint, dtype=dtype)
        return [self._loaded[key] for key in wanted]


def _with_model(kind: str) -> Callable[[Setup], System]:
    """The agent, or a system that it is compared with; ``planner`` may name another model that plans for RoG."""

    def make(setup: Setup) -> System:
        from kgr1.baselines.systems import find_system
        from kgr1.cli.evaluate import described, system_runner
        from kgr1.cli.loading import check_sampling
        from kgr1.cli.sources import is_url

        model, planner = setup.model, setup.options.get("planner")
        if model is None:
            raise SettingsError(f"System '{setup.name}' needs a model; write model = \"...\" in its table.")
        _no_options(setup, but=("planner",) if kind.startswith("rog") else ())
        names = [model] if planner is None else [model, str(planner)]
        check_sampling(*names)

        def start() -> EpisodeRunner:
            clients = setup.models.clients(names, setup.concurrency, setup.settings)
            system = find_system(kind, *clients)
            return system_runner(setup.graph, system, clients[0], setup.settings)

        # A server tells the name of its model; loading one into this process is put off.
        client = setup.models.clients([model], setup.concurrency, setup.settings)[0] if is_url(model) else None
        return System(described(names[0], kind, *names[1:], client=client, settings=setup.settings), start)

    return make


def _oracle(setup: Setup) -> System:
    from kgr1.cli.evaluate import oracle, runner

    if setup.model is not None:
        raise SettingsError(f"System '{setup.name}' is the expert, which takes no model; remove model from its table.")
    _no_options(setup)
    return System(
        {"policy": {"name": "oracle"}}, lambda: runner(setup.graph, oracle(setup.graph, setup.settings), setup.settings)
    )


def _no_options(setup: Setup, but: Sequence[str] = ()) -> None:
    for name in setup.options:
        if name not in but:
            raise SettingsError(f"System '{setup.name}' has no option '{name}'; remove it.")


SYSTEMS: dict[str, Callable[[Setup], System]] = {
    "oracle": _oracle,
    **{kind: _with_model(kind) for kind in get_args(SystemName)},
}
"""Every kind by the name that a recipe uses: the expert, and what ``kgr1 evaluate --system`` plays."""


def make_system(kind: str, setup: Setup) -> System:
    """The system of a row; raises :class:`SettingsError` for a kind that does not exist."""
    if kind not in SYSTEMS:
        raise SettingsError(f"System '{setup.name}' is of no known kind '{kind}'; choose from {', '.join(SYSTEMS)}.")
    return SYSTEMS[kind](setup)
