"""The report as text: one page that needs nothing, in which no name can break out of its place."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from eval_episodes import played, question
from report_runs import HOSTILE, hostile_runs

from kgr1.evaluation.agreement import summarise_judge
from kgr1.evaluation.judge import Judged, matter_of
from kgr1.evaluation.page import build_page, charts
from kgr1.evaluation.page.text import visible
from kgr1.evaluation.runs import SHOWN_CHARS, Run
from kgr1.types import Observation, Operation, Query, Triple, Turn

pytest.importorskip("matplotlib")


class Page(HTMLParser):
    """Tags with their attributes, and the texts of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        else:
            self.words.append(data)


@cache
def hostile_page() -> str:
    """The report of runs that are hostile throughout."""
    runs = [
        Run.of(episodes, system=system, dataset=HOSTILE[2], examples=50) for system, episodes in hostile_runs().items()
    ]
    return build_page(HOSTILE[0], runs, notes=[HOSTILE[1]])


def test_hostile_names_stay_text() -> None:
    text = hostile_page()
    page = Page(text)
    assert len(page.scripts) == 2
    assert "hacked" not in page.scripts[1]
    assert [tag for tag, attributes in page.tags if any(name.startswith("on") for name in attributes)] == []
    assert "img" not in {tag for tag, _ in page.tags}
    loaded = [a for _, attributes in page.tags for name, a in attributes.items() if name in ("src", "href", "action")]
    assert [address for address in loaded if not (address or "").startswith("#")] == []
    # matplotlib names its schemas; nothing else in the page looks like an address
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)))
    assert {a for a in addresses if "w3.org" not in a and "purl.org" not in a and "creativecommons" not in a} == set()
    assert "\u202e" not in text
    assert "49" not in [word.strip() for word in page.words]
    assert HOSTILE[0] in page.words


def test_the_data_of_the_examples_comes_through() -> None:
    page = Page(hostile_page())
    data = json.loads(page.scripts[0])
    assert len(data) == 32
    assert {example["system"] for example in data} == {"plain", HOSTILE[1]}
    shown = {visible(text) for text in HOSTILE}
    assert "\\u202egnirts desrever \\u2066 \\u200f" in shown
    assert {example["turns"][0]["information"] for example in data} == shown
    assert {turn["outcome"] for example in data for turn in example["turns"]} == {"result", "KG_NO_RESULTS", ""}


def test_dates_stand_behind_the_facts_of_an_example() -> None:
    query = Query(operation=Operation.GET_TAIL_ENTITIES, entity="Ann", relation="lives in")
    seen = Observation(query=query, names=("Paris",), ids=("p",), times=(("2001/2004", "2009"),), total=1)
    turn = Turn(text="", query=query, observation=seen, shown=1, information="Paris (2001/2004, 2009)")
    facts = (Triple("Ann", "lives in", "Paris"), Triple("Paris", "capital of", "France"))
    episode = played(question(1, ["Paris"]), turns=[turn]).model_copy(update={"evidence": facts})
    text = build_page("", [Run.of([episode], system="a", dataset="d", examples=1)])
    (example,) = json.loads(Page(text).scripts[0])
    assert example["evidence"] == [["Ann", "lives in", "Paris", "2001/2004, 2009"], list(facts[1])]


def test_what_the_page_says() -> None:
    item = question(1, ["Paris"], dataset="d", hops=2)
    runs = [
        Run.of([played(item, sample=s, tokens=30) for s in range(2)], system="twice", dataset="d", examples=1),
        Run.of([played(item, ["Rome"], tokens=10)], system="once", dataset="d", examples=1),
    ]
    text = build_page("", runs)
    for phrase in ("twice: union of 2 runs", "once − twice", "ToG EM (substring either way)", "100.0 %"):
        assert phrase in text, phrase
    titles = re.findall(r"<h3>(.*?)</h3>", text)
    assert titles == [
        "Differences between systems",
        "Efficiency of an episode",
        "Accuracy against tokens written",
        "Accuracy by hops",
        "Seconds of an episode",
        "Seconds by turn",
        "Characters by kind",
        "What became of the episodes",
    ]  # no graph was called, so there is no picture of calls
    assert text.count("<svg") == len(titles) - 2
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', text)) <= set(ids)


def test_any_name_of_a_system_can_be_drawn() -> None:
    names = [*HOSTILE, "_x", "$", "\ud800 half", "\x00\x1b[31m", "n\nl", "", "x" * 300]
    episodes = [played(question(n, dataset="d", hops=1), tokens=n + 1) for n in range(3)]
    text = build_page(names[0], [Run.of(episodes, system=name, dataset=names[4]) for name in names], notes=names)
    text.encode()
    pictures = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(pictures) == 6
    for svg in pictures:
        drawn = {"".join(node.itertext()).strip() for node in ElementTree.fromstring(svg).iter()}
        assert {
            HOSTILE[0],
            visible(HOSTILE[4]),
            HOSTILE[7],
            "_x",
            "$",
            "\\x00\\x1b[31m",
            "n l",
        } <= drawn or ": graph" in svg
    assert not set(text) & {"\u202e", "\x07", "\x1b", "\x00"}


def test_equal_runs_give_equal_pages() -> None:
    assert hostile_page.__wrapped__() == hostile_page()


def test_without_matplotlib_the_numbers_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "available", lambda: False)
    text = hostile_page.__wrapped__()
    assert "<svg" not in text
    assert "matplotlib is not installed" in text
    assert "<h3>Accuracy by hops</h3>" in text


def test_long_texts_and_many_questions_are_cut() -> None:
    episodes = [played(question(n, dataset="d"), ["x" * (SHOWN_CHARS + 5)], tokens=n) for n in range(40)]
    long = question(99, dataset="d").model_copy(update={"text": "y" * (SHOWN_CHARS + 5)})
    run = Run.of([*episodes, played(long)], system="s", examples=7)
    assert len(run.examples) == 7
    again = Run.of(reversed(episodes), system="t", examples=7)
    assert len(set(run.examples) & set(again.examples)) >= 6  # the long one may have taken a place
    whole = Run.of([played(long)], system="s", examples=1)
    ((example,),) = whole.examples.values()
    assert example["question"].endswith("y [... 5 characters]")
    assert Run.of(episodes, system="s").examples == {}


def test_the_judge_is_shown_where_it_judged_these_episodes(tmp_path: Path) -> None:
    episodes = [played(question(n)) for n in range(3)]
    (tmp_path / "episodes.jsonl").write_text("".join(e.model_dump_json() + "\n" for e in episodes))
    judged = [Judged(("", "", f"q{n}"), 0, matter_of(one), (1,), (1,)) for n, one in enumerate(episodes)]
    other = [replace(one, matter=matter_of(played(question(n), ["Rome"]))) for n, one in enumerate(judged)]
    # The same questions with other answers are as many episodes, and not these.
    for verdicts, problem in ((judged, ""), (judged[:2], "other answers"), (other, "other answers")):
        summary = summarise_judge(verdicts, model="m", prompt_version=1)
        (tmp_path / "judge.json").write_text(summary.model_dump_json())
        run = Run.load(tmp_path, system="s")
        assert ("judge_recall" in run.more_metrics) is (not problem)
        assert ("LLM judge" in build_page("", [run])) is (not problem)
        assert problem in run.judge_problem
        assert bool(run.judge_problem) is bool(problem)
    # What an earlier version wrote does not say what it judged.
    old = summarise_judge(judged, model="m", prompt_version=1).model_dump(exclude={"matters", "seed"})
    for text, problem in ((json.dumps(old), "earlier version"), ("{", "is damaged")):
        (tmp_path / "judge.json").write_text(text)
        run = Run.load(tmp_path, system="s")
        assert run.judged == {}
        assert problem in run.judge_problem
    (tmp_path / "judge.json").unlink()
    assert Run.load(tmp_path, system="s").judge_problem == ""
