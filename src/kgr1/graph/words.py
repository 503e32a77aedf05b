"""The words of questions and of relation names."""

from __future__ import annotations

import re

from kgr1.types import Question

STOPWORDS = frozenset(
    re.findall(
        r"\w+",
        "about all also and any are been both but can could did does each else end every find for from give had has "
        "have here how into its know list lot made make many much must name named need next not now number one only "
        "other our out same she side some such take tell than that the their them then there they thing this time "
        "title use used uses very was were what when where which while who whom whose why will with would you your",
    )
)
"""Words that say nothing about a relation."""

_WORD = re.compile(r"[^\W\d_]{3,}")


def question_words(question: Question) -> list[str]:
    """Distinct telling words of the question in lower case, in order, without those of the topics' names."""
    topics = set(all_words(" ".join(question.topics)))
    words = dict.fromkeys(all_words(question.text))
    return [word for word in words if word not in topics and word not in STOPWORDS]


def text_without_topics(question: Question) -> str:
    """The text of a question with a blank in the place of each topic that stands in it.

    >>> text_without_topics(Question(id="1", text="who directed Before Sunset?", topics=("before sunset",), answers=()))
    'who directed  ?'
    """
    names = sorted(question.topics, key=len, reverse=True)
    named = "|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in names if name)
    return re.sub(named, " ", question.text, flags=re.IGNORECASE) if named else question.text


def all_words(text: str) -> list[str]:
    """Every word of three letters or more, in lower case.

    >>> all_words("the children of X_men 's children")
    ['the', 'children', 'men', 'children']
    """
    return _WORD.findall(text.casefold().replace("_", " "))


def word_stems(text: str) -> set[str]:
    """Words cut to five letters: "language" and "languages" are the same then, "born" and "birth" are not."""
    return {word[:5] for word in re.findall(r"[^\W_]{3,}", text.casefold())}


def short_name(relation: str) -> str:
    """The words of a relation without those of what it is a relation of.

    >>> short_name("sports.sports_team.date_founded"), short_name("education.school.head/person"), short_name("born in")
    ('date founded', 'head person', 'born in')
    """
    return " ".join(part.rpartition(".")[2].replace("_", " ") for part in relation.split("/"))
