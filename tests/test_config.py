"""What is said about settings that are wrong."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from kgr1.config import AgentSettings, Settings, load_settings, validate
from kgr1.errors import SettingsError
from kgr1.types import Record


class Part(Record):
    weight: float = 1.0


class Mixture(Record):
    parts: tuple[Part, ...] = ()
    named: dict[str, Part] | None = None
    settings: Settings = Settings()


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("agent.max_turn=3", "unknown key 'agent.max_turn' (did you mean 'agent.max_turns'?)."),
        ("agnt.max_turns=3", "unknown key 'agnt' (did you mean 'agent'?)."),
        ("agent.nothing_like_it=3", "unknown key 'agent.nothing_like_it'."),
        ("train.stages=[2, 1]", "'train.stages': stages are numbers of hops that grow, such as [1, 2]."),
    ],
)
def test_wrong_settings_are_told(override: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(overrides=[override])
    assert str(caught.value) == f"Settings from command line: {told}"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"parts": [{"wieght": 1}]}, "unknown key 'parts.0.wieght' (did you mean 'parts.0.weight'?)"),
        ({"named": {"a": {"wieght": 1}}}, "unknown key 'named.a.wieght' (did you mean 'named.a.weight'?)"),
        ({"settings": {"agent": {"max_turn": 1}}}, "(did you mean 'settings.agent.max_turns'?)"),
    ],
)
def test_the_nearest_key_is_found_in_lists_and_tables(data: dict[str, object], told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        validate(Mixture, data, "a test")
    assert told in str(caught.value)


def test_a_sentence_that_goes_on_is_one_that_can_be_said() -> None:
    agent = AgentSettings(sentences={"On.": 0.0, "So be it.": 1.0}, onward=("On.",))
    assert agent.onward == ("On.",)
    assert AgentSettings(onward=("On.",)).sentences == {}  # where thoughts are free again, it has no say
    with pytest.raises(ValidationError, match=r"'And on\.', which is none of agent\.sentences"):
        AgentSettings(sentences={"On.": 0.0}, onward=("On.", "And on."))
