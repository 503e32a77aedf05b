"""The agent that is installed with the package, and settings that travel with a policy."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from kgr1.config import DEFAULT_AGENT, DEFAULT_MODEL, AgentSettings, load_settings
from kgr1.errors import ModelError, SettingsError
from kgr1.models.pretrained import (
    FOLDER,
    RANKER_FILE,
    agent_settings,
    learning_settings,
    policy_folder,
    write_agent_settings,
)


def test_settings_of_an_agent_come_back(tmp_path: Path) -> None:
    trained = AgentSettings(max_turns=7, rank_relations="bm25")
    write_agent_settings(tmp_path, trained)
    assert agent_settings(str(tmp_path)) == {"max_turns": 7, "rank_relations": "bm25"}
    assert load_settings(usual={"agent": agent_settings(str(tmp_path))}).agent == trained


def test_a_file_and_an_option_are_stronger_than_what_a_policy_was_trained_with(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[agent]\nmax_turns = 4\n")
    usual = {"agent": {"max_turns": 7, "observation_tokens": 160, "page_size": 9}}
    agent = load_settings(file, ["agent.page_size=0"], usual=usual).agent
    assert (agent.max_turns, agent.observation_tokens, agent.page_size) == (4, 160, 0)


@pytest.mark.parametrize("text", ["{", "[1]", "\x00"])
def test_damaged_settings(tmp_path: Path, text: str) -> None:
    (tmp_path / "agent.json").write_text(text)
    with pytest.raises(ModelError, match=r"agent\.json .*delete it"):
        agent_settings(str(tmp_path))


@pytest.mark.parametrize(("text", "problem"), [('{"max_turns": 0}', "max_turns"), ('{"turns": 5}', "unknown key")])
def test_what_is_no_setting_is_laid_to_the_file(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "agent.json").write_text(text)
    with pytest.raises(SettingsError, match=rf"agent\.json: .*{problem}"):
        agent_settings(str(tmp_path))


def test_models_without_settings(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_text("x")
    for name in (str(tmp_path), str(tmp_path / "model.gguf"), "http://localhost:1/v1#m", DEFAULT_MODEL):
        assert agent_settings(name) == {}


def test_a_local_folder_of_the_same_name_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert policy_folder(DEFAULT_AGENT) == FOLDER
    (tmp_path / DEFAULT_AGENT).mkdir()
    assert policy_folder(DEFAULT_AGENT) == Path(DEFAULT_AGENT)


def test_nothing_is_added_to_what_an_agent_learns_from(tmp_path: Path) -> None:
    shipped, learning = agent_settings(DEFAULT_AGENT), learning_settings(DEFAULT_AGENT)
    assert shipped["ranker_weight"] > 0
    assert any(shipped["sentences"].values())
    added = {"ranker_weight", "ranker_floor", "meaning_weight", "ahead_weight", "onward", "connection_weight"}
    added |= {"comparisons", "verifier_weight", "verifier_onward"}
    assert added <= shipped.keys()
    assert not added & learning.keys()
    assert learning["sentences"] == dict.fromkeys(shipped["sentences"], 0.0)
    others = {key: value for key, value in shipped.items() if key not in added | {"sentences"}}
    assert learning == others | {"sentences": learning["sentences"]}
    assert learning_settings(str(tmp_path)) == {}
    (tmp_path / "agent.json").write_text('{"sentences": "many"}')
    with pytest.raises(SettingsError, match="sentences"):  # said where settings are checked
        load_settings(usual={"agent": learning_settings(str(tmp_path))})


def test_what_is_shipped() -> None:
    """An adapter of at most 12 MB on the default model, asked as it was trained, with a card."""
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 12e6
    assert json.loads((FOLDER / "adapter_config.json").read_text())["base_model_name_or_path"] == DEFAULT_MODEL
    agent = load_settings(usual={"agent": agent_settings(DEFAULT_AGENT)}).agent
    assert agent.abstain
    assert agent.ranker_weight > 0
    with (FOLDER / RANKER_FILE).open("rb") as file:  # a file of safetensors begins with the length of its header
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert len(json.loads(header["__metadata__"]["met"])) > 500
    card = (FOLDER / "README.md").read_text("utf-8")
    assert re.findall(r"^## (.*)$", card, re.MULTILINE) == ["Use", "Training", "Numbers", "Limits", "Licence"]
