"""Mixtures from the files to the questions and to what a run says about them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import typer

from kgr1.cli.coldstart import agent_material, expert_trajectories
from kgr1.cli.mixing import Material, mind_times, open_material
from kgr1.cli.runs import question_record
from kgr1.config import AgentSettings, ColdstartSettings, Settings
from kgr1.errors import DatasetError


def mixed(
    recipe: Path, without: Sequence[str] = (), *, limit: int | None = None, turns: int = 5
) -> AbstractContextManager[Material]:
    """The questions of a mixture, as a command opens them."""
    agent = AgentSettings(max_turns=turns)
    return open_material(None, None, recipe, without=without, split=None, subset=None, limit=limit, seed=0, agent=agent)


def test_questions_are_made_of_the_dates_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KGR1_CACHE", str(tmp_path / "cache"))
    rows = [f"man {n % 9}\tvisited\ttown {n % 5}\t2014-0{n % 8 + 1}-1{n % 7}" for n in range(60)]
    (tmp_path / "visits.tsv").write_text("\n".join(rows) + "\n", "utf-8")
    recipe = tmp_path / "mixture.toml"
    recipe.write_text(
        f'[[part]]\nname = "visits"\ngraph = "{tmp_path / "visits.tsv"}"\n'
        'generate = 40\nhops = [1]\nkinds = ["temporal", "chain"]\n'
    )
    with mixed(recipe) as material:
        kinds = [question.kind for question in material.questions]
        assert {"temporal", "chain"} == set(kinds)
        capsys.readouterr()
        mind_times(material.questions, AgentSettings(time_filter=True))
        assert capsys.readouterr().err == ""
        mind_times(material.questions, AgentSettings())
        warning = " ".join(capsys.readouterr().err.split())
    assert f"{kinds.count('temporal')} questions need a time filter" in warning
    assert "agent.time_filter=true" in warning


def test_a_second_run_takes_other_trajectories(tmp_path: Path) -> None:
    def trajectories(skip: int, count: int) -> list[str]:
        recipe = tmp_path / "mixture.toml"
        recipe.write_text(
            f'[[part]]\nname = "countries"\ngraph = "countries"\nquestions = "countries"\nskip = {skip}\n'
        )
        settings = Settings(coldstart=ColdstartSettings(trajectories=count, recovery_share=0.0))
        with mixed(recipe) as material:
            return [question.id for question, _ in expert_trajectories(material, settings)]

    first, second = trajectories(0, 6), trajectories(6, 4)
    assert (len(first), len(second)) == (6, 4)
    assert not set(first) & set(second)
    assert set(first) | set(second) == set(trajectories(0, 10))
    with pytest.raises(DatasetError, match="lower its skip"):
        trajectories(10_000, 4)


def test_a_cold_start_records_the_questions_that_it_learns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "mixture.toml"
    settings = Settings(coldstart=ColdstartSettings(trajectories=12, recovery_share=0.0))

    def learn(limit: int | None, skip: int = 0) -> tuple[dict[str, Any], list[str], set[str], str]:
        recipe.write_text(
            f'[[part]]\nname = "one"\ngraph = "countries"\nquestions = "countries"\nskip = {skip}\n'
            '[[part]]\nname = "two"\ngraph = "countries"\ngenerate = 50\n'
        )
        with mixed(recipe, limit=limit, turns=7) as given:
            learned = [question for question, _ in expert_trajectories(given, settings)]
            capsys.readouterr()
            _, record = agent_material(given, settings)
            assert {key: record[key] for key in ("count", "sha256")} == question_record(learned)
            assert record["limit"] == limit
            told = " ".join(capsys.readouterr().err.split())
            return record, [question.id for question in learned], {question.id for question in given.questions}, told

    record, learned, drawn, told = learn(8)
    assert len(learned) == record["count"] == 8
    assert set(learned) == drawn  # --limit says which questions there are
    assert "8 expert trajectories from 8 questions." in told
    record, learned, _, told = learn(None)
    assert len(learned) == 12
    assert "12 expert trajectories from" in told
    assert "from 12 questions" not in told
    assert "skip" not in record
    other, others, _, _ = learn(None, skip=3)
    assert others != learned
    assert other["skip"] == {"one": 3}
    assert other["sha256"] != record["sha256"]


def test_the_topics_of_a_part_that_is_left_out_stay_held_out_on_its_graph(tmp_path: Path) -> None:
    """Also where two parts share a graph and the topics of other graphs are allowed."""
    (tmp_path / "towns.tsv").write_text("".join(f"town {n}\tlies in\tland {n % 4}\n" for n in range(24)), "utf-8")
    for name, text in (("one", "where is town {}"), ("two", "in which land does town {} lie")):
        rows = [
            {"id": f"q{n}", "question": text.format(n), "topic_entities": [f"town {n}"], "answers": [f"land {n % 4}"]}
            | {"split": "test" if name == "one" and n % 2 else "train"}
            for n in range(24)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    recipe = tmp_path / "mixture.toml"
    recipe.write_text(
        'held_out_topics = "graph"\n'
        + "".join(
            f'[[part]]\nname = "{name}"\ngraph = "{tmp_path / "towns.tsv"}"\nquestions = "{tmp_path / name}.jsonl"\n'
            for name in ("one", "two")
        )
    )
    for without in ([], ["one"]):
        with mixed(recipe, without) as given:
            assert given.mixture is not None
            topics = {topic for question in given.mixture.questions["two"] for topic in question.topics}
        assert topics == {f"town {n}" for n in range(0, 24, 2)}


def test_a_part_that_is_left_out_is_neither_learned_nor_forgotten(tmp_path: Path) -> None:
    """The topics of its tests stay held out of what is made from other graphs."""
    lines = [f"town {n}\tlies in\tland {n % 4}" for n in range(24)]
    (tmp_path / "towns.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    asked = [
        {"id": f"q{n}", "question": f"where is town {n}", "topic_entities": [f"town {n}"], "answers": [f"land {n % 4}"]}
        | {"split": "test" if n % 2 else "train"}
        for n in range(24)
    ]
    (tmp_path / "towns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked), "utf-8")
    recipe = tmp_path / "mixture.toml"
    towns = f'graph = "{tmp_path / "towns.tsv"}"'
    recipe.write_text(
        f'[[part]]\nname = "towns"\n{towns}\nquestions = "{tmp_path / "towns.jsonl"}"\n'
        f'[[part]]\nname = "towns-walks"\n{towns}\ngenerate = 60\nhops = [1]\nkinds = ["chain"]\n'
        '[[part]]\nname = "countries"\ngraph = "countries"\nquestions = "countries"\n'
    )

    def material(*without: str) -> tuple[set[str], dict[str, Any]]:
        with mixed(recipe, without) as given:
            return {topic for question in given.questions for topic in question.topics}, given.record["questions"]

    topics, record = material("towns")
    assert {f"town {n}" for n in range(0, 24, 2)} >= {topic for topic in topics if topic.startswith("town")} != set()
    assert record["without"] == ["towns"]
    topics, record = material("towns*")
    assert not any(topic.startswith("town") for topic in topics)
    assert "without" not in material()[1]
    with pytest.raises(DatasetError, match="No part of the mixture is called 'films'; there are towns, towns-walks"):
        material("films")
    with pytest.raises(DatasetError, match="keep at least one"):
        material("*")
    with (
        pytest.raises(typer.BadParameter, match="only parts of a --mixture"),
        open_material(
            "countries",
            "countries",
            None,
            without=["towns"],
            split=None,
            subset=None,
            limit=None,
            seed=0,
            agent=Settings().agent,
        ),
    ):
        pass
