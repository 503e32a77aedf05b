"""Questions rewritten for other names: every mention of a topic, and nothing else."""

from __future__ import annotations

import pytest

from kgr1.datasets.styles import entity_renaming, restyle
from kgr1.graph.renaming import Renaming
from kgr1.types import GoldAnswer, Question

NOTHING = Renaming({})


def ask(text: str, *topics: str, answer: str = "X") -> Question:
    return Question(id="1", text=text, topics=topics, answers=(GoldAnswer(label=answer, id=answer),))


def exchanged(*names: str) -> Renaming:
    """Every name becomes the next one, the last one the first."""
    return Renaming(dict(zip(names, (*names[1:], names[0]), strict=True)))


@pytest.mark.parametrize(
    ("question", "renaming", "text"),
    [
        pytest.param(
            ask("Which languages do Germany and the neighbours of Germany speak?", "Germany"),
            exchanged("Germany", "Peru"),
            "Which languages do Peru and the neighbours of Peru speak?",
            id="every mention",
        ),
        pytest.param(
            ask("Which film of Ann Lee stars Bob Ray?", "Ann Lee", "Bob Ray"),
            exchanged("Ann Lee", "Bob Ray", "Cy Fox"),
            "Which film of Bob Ray stars Cy Fox?",
            id="one gets the name of the other",
        ),
        pytest.param(
            ask("what borders Niger and Chad", "Niger", "Chad"),
            Renaming({"Niger": "Lake Chad", "Lake Chad": "Niger", "Chad": "Peru", "Peru": "Chad"}),
            "what borders Lake Chad and Peru",
            id="a new name holds another topic",
        ),
        pytest.param(
            ask("Is Chad on Lake Chad?", "Chad", "Lake Chad"),
            Renaming({"Chad": "Peru", "Lake Chad": "Titicaca"}),
            "Is Peru on Titicaca?",
            id="a topic holds another one",
        ),
        pytest.param(
            ask("Is Alien older than ALIEN?", "ALIEN", "Alien"),
            Renaming({"Alien": "Heat", "ALIEN": "Ran"}),
            "Is Heat older than Ran?",
            id="case alone tells them apart",
        ),
    ],
)
def test_all_topics_are_renamed_at_once(question: Question, renaming: Renaming, text: str) -> None:
    written = restyle(question, renaming, NOTHING, strict=True)
    assert written is not None
    assert written.text == text
    assert written.topics == tuple(map(renaming, question.topics))


def test_a_mention_keeps_its_case_and_parts_of_words_stay() -> None:
    renaming = exchanged("ada_lovelace", "Alan Turing")
    written = restyle(ask("who met ada lovelace, or Adam and ADA_LOVELACE", "ada_lovelace"), renaming, NOTHING)
    assert written is not None
    assert written.text == "who met alan turing, or Adam and Alan Turing"
    spaced = restyle(ask("who met Ada", "Ada"), entity_renaming("upper", ["Ada"], 0), NOTHING)
    assert spaced is not None
    assert spaced.text == "who met ADA"


@pytest.mark.parametrize(
    "question",
    [
        ask("Who is she?", "Ada"),
        ask("Who is Ada?", "Ada", "Ben"),
        ask("Where is Lake Chad?", "Lake Chad", "Chad"),
        ask("Is Ada the mother of Ben?", "Ada", answer="Ben"),
        ask("Who?", "_"),
    ],
)
def test_what_cannot_be_exchanged_is_told(question: Question) -> None:
    renaming = exchanged("Ada", "Ben", "Chad")
    assert restyle(question, renaming, NOTHING, strict=True) is None
    assert restyle(question, renaming, NOTHING) is not None
