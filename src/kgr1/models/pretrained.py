"""The agent that is installed with the package, and the settings that a policy was trained with.

A policy reads what its training showed it: as many turns, as long observations, relations in the same order. So the
settings of the agent are saved beside its weights, and commands that ask a policy take them from there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kgr1.config import DEFAULT_AGENT, AgentSettings, validate
from kgr1.errors import ModelError

FOLDER = Path(__file__).with_name(DEFAULT_AGENT)
SETTINGS_FILE = "agent.json"
RANKER_FILE = "ranker.safetensors"
VERIFIER_FILE = "verifier.safetensors"
_ADDED = ("ranker_", "meaning_", "ahead_", "onward", "connection_", "comparisons", "verifier_")
"""Settings of what is added to the probabilities of a policy, and of what is looked up for it."""


def policy_folder(name: str) -> Path:
    """Where the model of this name would lie as a local folder; the agent of the package has a name of its own."""
    path = Path(name).expanduser()
    return FOLDER if name == DEFAULT_AGENT and not path.exists() else path


def agent_settings(name: str) -> dict[str, Any]:
    """The table ``agent`` of the settings that a policy was saved with; empty for models that have none.

    Raises :class:`ModelError` if the file is damaged, and :class:`kgr1.errors.SettingsError` for what is no setting.
    """
    file = policy_folder(name) / SETTINGS_FILE
    try:
        found = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except NotADirectoryError:  # a model in one file
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file} is damaged; delete it, and name the agent's settings with --config.") from error
    if not isinstance(found, dict):
        raise ModelError(f"{file} holds no settings; delete it, and name the agent's settings with --config.")
    validate(AgentSettings, found, source=str(file))
    return found


def learning_settings(name: str) -> dict[str, Any]:
    """:func:`agent_settings` for an agent that goes on learning: without what is added to it."""
    found = {key: value for key, value in agent_settings(name).items() if not key.startswith(_ADDED)}
    if isinstance(sentences := found.get("sentences"), dict):
        found["sentences"] = dict.fromkeys(sentences, 0.0)
    return found


def write_agent_settings(folder: Path, agent: AgentSettings) -> None:
    """Save what the agent was trained with in the folder of its policy."""
    text = json.dumps(agent.model_dump(mode="json", exclude_defaults=True), indent=1, sort_keys=True)
    (folder / SETTINGS_FILE).write_text(text + "\n", "utf-8")
