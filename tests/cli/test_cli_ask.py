"""``kgr1 ask`` and how an episode is shown."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import pytest
from cli_process import Run
from rich.console import Console

from kgr1.agent.policy import ScriptedPolicy
from kgr1.agent.prior import Ranked
from kgr1.agent.rollout import run_episode
from kgr1.cli import console, loading, trace
from kgr1.config import AgentSettings, SamplingSettings
from kgr1.graph import GraphStore
from kgr1.types import Episode, Question

HOSTILE = "[link=x]Ben[/]\x1b[2J\u202e"
TURNS = (
    '<think>Who are her children?</think><kg-query>get_tail_entities("Ada", "parent of")</kg-query>',
    '<think>Ben, and his child.</think><kg-query>get_tail_entities("Ben", "parent of")</kg-query>',
    '<think>That is all.</think><answer>["Dan", "Ben", "Zoe"]</answer>',
)


ALL = ("--set", "agent.abstain=false")
"""The agent that answers unless another one is named withholds what it has no evidence for."""


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy with a known script in the place of a model."""
    monkeypatch.setattr(loading, "load_policy", lambda name, **_: ScriptedPolicy(TURNS))


def episode(triples: list[tuple[str, str, str]], *texts: str) -> Episode:
    question = Question(id="1", text="?", topics=(triples[0][0],), answers=())
    return asyncio.run(
        run_episode(
            question,
            GraphStore.from_triples(triples),
            ScriptedPolicy(texts),
            agent=AgentSettings(),
            sampling=SamplingSettings(),
        )
    )


@pytest.mark.usefixtures("scripted")
def test_the_way_and_the_facts_are_shown(run: Run, family: Path) -> None:
    shown = run("ask", "Which descendants?", "-g", family, "--topic", "ada", *ALL).stdout
    assert [line.rstrip() for line in shown.splitlines()] == [
        " 1 Who are her children?",
        '   get_tail_entities("Ada", "parent of")',
        "   Ben, Cleo",
        " 2 Ben, and his child.",
        '   get_tail_entities("Ben", "parent of")',
        "   Dan",
        " 3 That is all.",
        "=> Dan",
        "   because: Ada -- parent of --> Ben",
        "            Ben -- parent of --> Dan",
        "=> Ben",
        "   because: Ada -- parent of --> Ben",
        "=> Zoe",
        "   no fact that the graph showed leads to it",
    ]


def test_dates_stand_behind_the_facts(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = (
        '<think>Where to?</think><kg-query>get_tail_entities("Ada", "visited")</kg-query>',
        '<think>In 2003.</think><answer>["Rome"]</answer>',
    )
    monkeypatch.setattr(loading, "load_policy", lambda name, **_: ScriptedPolicy(turns))
    graph = tmp_path / "visits.tsv"
    graph.write_text("Ada\tvisited\tRome\t2003-05-01\t2003-05-01\nAda\tvisited\tOslo\t2004\t2005\n", "utf-8")
    asked = ("ask", "Where was she in 2003?", "-g", graph, "--topic", "ada")
    assert run(*asked).stdout.splitlines()[-1].strip() == "because: Ada -- visited --> Rome (2003-05-01)"
    (answer,) = json.loads(run(*asked, "--json").stdout)["answers"]
    assert (answer["evidence"], answer["times"]) == ([["Ada", "visited", "Rome"]], [["2003-05-01"]])


def test_who_looks_on_changes_nothing_about_who_is_asked() -> None:
    class Advised(ScriptedPolicy):
        ranker, meaning, verifier = "a ranker", "a meaning", "a verifier"

    watched = trace.watch(Advised(TURNS))
    assert isinstance(watched, Ranked)
    assert (watched.ranker, watched.meaning, watched.verifier) == ("a ranker", "a meaning", "a verifier")
    assert not isinstance(trace.watch(ScriptedPolicy(TURNS)), Ranked)


@pytest.mark.usefixtures("scripted")
def test_several_runs_are_put_together(run: Run, family: Path) -> None:
    shown = run("ask", "Which descendants?", "-g", family, "--topic", "Ada", "--runs", "2").stdout
    assert shown.index("Run 1 of 2") < shown.index("Run 2 of 2") < shown.index("=> Dan  (2 of 2 runs)")
    run("ask", "Q?", "-g", family, "--topic", "Ada", "--runs", "2", "--temperature", "0", code=2)


@pytest.mark.usefixtures("scripted")
def test_json(run: Run, family: Path) -> None:
    result = run("ask", "Which descendants?", "-g", family, "--topic", "Ada", "--json", *ALL)
    assert result.stdout.count("\n") == 1
    value = json.loads(result.stdout)
    assert value["topics"] == ["Ada"]
    assert value["answers"][1] == {
        "name": "Ben",
        "id": "Ben",
        "runs": 1,
        "evidence": [["Ada", "parent of", "Ben"]],
        "times": [],
        "confidence": None,
    }
    assert value["withheld"] == []
    assert Episode.model_validate(value["episodes"][0]).answers == ("Dan", "Ben", "Zoe")


@pytest.mark.usefixtures("scripted")
def test_a_name_without_evidence_is_withheld(run: Run, family: Path) -> None:
    words = ("ask", "Which descendants?", "-g", family, "--topic", "ada", "--abstain")
    shown = run(*words).stdout
    assert "=> Zoe" not in shown
    assert shown.endswith(
        "=> Ben\n   because: Ada -- parent of --> Ben\nWithheld: Zoe (no fact that the graph showed leads to it)\n"
    )
    value = json.loads(run(*words, "--json").stdout)
    assert [one["name"] for one in value["answers"]] == ["Dan", "Ben"]
    assert [(one["name"], one["reason"]) for one in value["withheld"]] == [
        ("Zoe", "no fact that the graph showed leads to it")
    ]
    assert Episode.model_validate(value["episodes"][0]).withheld == ("Zoe",)
    assert Episode.model_validate(value["episodes"][0]).answers == ("Dan", "Ben")
    assert json.loads(run(*words[:-1], "--set", "agent.abstain=true", "--json").stdout)["answers"] == value["answers"]


def test_an_answer_without_any_evidence_is_not_given(run: Run, family: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guess = f"<think>I guess.</think><answer>{json.dumps([f'n{number}' for number in range(22)])}</answer>"
    monkeypatch.setattr(loading, "load_policy", lambda name, **_: ScriptedPolicy([guess]))
    lines = run("ask", "Who?", "-g", family, "--topic", "Ada", "--abstain").stdout.splitlines()
    assert lines[1] == "No answer: the agent found nothing that it can show evidence for."
    assert lines[2] == "Withheld: n0 (no fact that the graph showed leads to it)"
    assert lines[-1] == "Withheld: 2 more names"


def test_an_unsure_answer_is_not_given(capsys: pytest.CaptureFixture[str]) -> None:
    found = episode(
        [("a", "r", "b")],
        '<think>x</think><kg-query>get_tail_entities("a", "r")</kg-query>',
        '<think>x</think><answer>["b"]</answer>',
    )
    picky = AgentSettings(min_confidence=0.75)
    trace.print_answers([found], picky)
    assert capsys.readouterr().out.splitlines() == [
        "No answer: the agent is not sure enough of what it found.",
        "Withheld: b (this model records no probabilities that say how sure it is)",
    ]
    for logprob, expected in ((-0.5, "Withheld: b (confidence 0.607, below 0.75)"), (-0.1, "=> b  (confidence 0.905)")):
        turns = tuple(turn.model_copy(update={"logprobs": (logprob,)}) for turn in found.turns)
        trace.print_answers([found.model_copy(update={"turns": turns})], picky)
        assert expected in capsys.readouterr().out.splitlines()
    trace.print_answers([found, found], picky)  # both runs agree
    assert "=> b  (2 of 2 runs, confidence 1.000)" in capsys.readouterr().out


@pytest.mark.usefixtures("scripted")
def test_fewer_turns(run: Run, family: Path) -> None:
    shown = run("ask", "Q?", "-g", family, "--topic", "Ada", "--max-turns", "2").stdout
    assert shown.endswith("No answer: the agent did not come to one in 2 turns.\n")


@pytest.mark.usefixtures("scripted")
def test_topics_are_found_in_the_question(run: Run, family: Path) -> None:
    shown = run("ask", "Which descendants has Ada?", "-g", family).stdout
    assert shown.startswith("Topic: Ada\n 1 Who are her children?")
    shown = run("ask", "Is Dan a child of Ada's?", "-g", family).stdout
    assert shown.startswith(("Topics: Ada, Dan\n", "Topics: Dan, Ada\n"))
    shown = run("ask", "who are the children of cleoo", "-g", family).stdout
    assert shown.startswith("Topic: Cleo (for cleoo)\n")
    value = json.loads(run("ask", "Which descendants has Ada?", "-g", family, "--json").stdout)
    assert value["topics"] == ["Ada"]
    named = run("ask", "Which descendants has Ada?", "-g", family, "--topic", "Ben", "--json").stdout
    assert json.loads(named)["topics"] == ["Ben"]


@pytest.mark.usefixtures("scripted")
def test_a_name_with_several_bearers_says_so(run: Run, tmp_path: Path) -> None:
    facts, names = tmp_path / "facts.tsv", tmp_path / "names.tsv"
    facts.write_text("Q90\tcountry\tQ142\nQ90\tmayor\tQ2\nQ830149\tstate\tQ1439\n")
    names.write_text("Q90\tParis\nQ830149\tParis\nQ142\tFrance\n")
    run("graph", "build", facts, tmp_path / "cities.kg", "--names", names)
    shown = run("ask", "Who is the mayor of Paris?", "-g", tmp_path / "cities.kg").stdout
    assert shown.startswith("Topic: Paris [Q90] (for Paris; 1 more could be meant, such as Paris [Q830149])\n")


def test_a_topic_is_needed_and_must_be_there(run: Run, family: Path) -> None:
    assert "--topic France" in run("ask", "Q?", "-g", family, code=2).stderr
    assert 'closest is "Ada"' in run("ask", "Q?", "-g", family, "--topic", "Adda", code=1).stderr
    run("ask", " ", "-g", family, "--topic", "Ada", code=2)


def test_hostile_text_is_shown_as_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    found = episode(
        [("a", "r", HOSTILE)],
        f'<think>[red]{HOSTILE}</think><kg-query>get_tail_entities("a", "r")</kg-query>',
        f"<think>x</think><answer>{json.dumps([HOSTILE])}</answer>",
    )
    trace.print_episode(found)
    trace.print_answers([found])
    shown = capsys.readouterr().out
    assert shown.replace("\n", "").isprintable()
    assert "[red][link=x]Ben[/]\\x1b[2J\\u202e" in shown
    assert "because: a -- r --> [link=x]Ben[/]\\x1b[2J\\u202e" in shown
    plain = trace.as_json(found.question, [found], AgentSettings())
    assert plain.isprintable()
    assert json.loads(plain)["answers"][0]["name"] == HOSTILE


def test_on_a_terminal_only_our_styles_are_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    terminal = Console(file=stream, force_terminal=True, markup=False, highlight=False, soft_wrap=True)
    monkeypatch.setattr(trace, "out", terminal)
    found = episode([("a", "r", HOSTILE)], '<think>x</think><kg-query>get_tail_entities("a", "r")</kg-query>', "")
    trace.print_episode(found)
    assert "\x1b[2m" in stream.getvalue()  # dim results
    assert "\x1b[2J" not in stream.getvalue()
    assert "\u202e" not in stream.getvalue()


def test_a_failure_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    trace.print_answers([episode([("a", "r", "b")], "<think>?</think><answer>[]</answer>")])
    assert capsys.readouterr().out == "No answer: the agent gave an empty answer.\n"


def test_long_results_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    trace.print_information("x" * 1000)
    assert capsys.readouterr().out.endswith("x ... (400 more characters)\n")


def test_clean_keeps_what_people_write() -> None:
    kept = "Zürich, 東京, क्‍ष, \U0001f469\u200d\U0001f52c\n\tx"
    assert console.clean(kept) == kept
    assert console.clean("\r\x07\x9b\u2066\ue000") == "\\x0d\\x07\\x9b\\u2066\\ue000"


def test_a_real_model(run: Run, tiny_model: Path, family: Path) -> None:
    settings = ("--set", "agent.max_new_tokens=8", "--max-turns", "2")
    words = ("ask", "Who?", "-g", family, "--topic", "Ada", "-m", tiny_model, *settings)
    result = run(*words)
    assert "No answer: the agent did not come to one in 2 turns." in result.stdout
    assert result.stderr == ""
    sampled = [json.loads(run(*words, "--json", "--runs", "2", "--seed", str(seed)).stdout) for seed in (1, 1, 2)]
    ids = [[turn["token_ids"] for e in value["episodes"] for turn in e["turns"]] for value in sampled]
    assert ids[0] == ids[1] != ids[2]


def test_an_unknown_model_is_one_sentence(run: Run, family: Path, tmp_path: Path) -> None:
    words = ("ask", "Who?", "-g", family, "--topic", "Ada", "--model")
    assert "There is no model folder at" in run(*words, "./none", code=1).stderr
    assert "neither a model" in run(*words, tmp_path, code=1).stderr
