"""All systems by name."""

from __future__ import annotations

from kgr1.baselines.agent import agent, agent_runs
from kgr1.baselines.consistency import self_consistency
from kgr1.baselines.cot import cot
from kgr1.baselines.play import System
from kgr1.baselines.reknos import reknos
from kgr1.baselines.rog import Rog
from kgr1.baselines.tog import tog
from kgr1.baselines.vanilla import vanilla
from kgr1.errors import SettingsError
from kgr1.models.client import ModelClient

_ROG = {
    variant.name: variant for tuned in (True, False) for reasons in (True, False) for variant in [Rog(tuned, reasons)]
}

SYSTEMS: dict[str, System] = {
    "agent": agent,
    "agent-runs": agent_runs,
    "vanilla": vanilla,
    "cot": cot,
    "self-consistency": self_consistency,
    **_ROG,
    "tog": tog,
    "reknos": reknos,
}
"""Every system; those of RoG plan with the model that answers, unless :func:`find_system` is given another."""


def find_system(name: str, client: ModelClient, planner: ModelClient | None = None) -> System:
    """The system of a name, for the models that it will play with.

    Raises :class:`SettingsError` for a name that is none, for a planner that the system has no use for, and for a tuned
    planner on a model that has no beam search.
    """
    system = SYSTEMS.get(name)
    if system is None:
        raise SettingsError(f"There is no system '{name}'; choose one of {', '.join(SYSTEMS)}.")
    if not isinstance(system, Rog):
        if planner is not None:
            raise SettingsError(f"The system '{name}' has no planner; only those of RoG have: {', '.join(_ROG)}.")
        return system
    if system.tuned and not (planner or client).has_beams:
        raise SettingsError(
            f"'{name}' plans by beam search, which needs a model in this process; name one with --planner, or take "
            "'rog-prompted'."
        )
    return Rog(system.tuned, system.reasons, planner)
