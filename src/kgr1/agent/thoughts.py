"""The thoughts that a guided turn can begin with, where a policy knows few sentences (``agent.sentences``).

A small model that was taught a handful of sentences knows which of them comes, and not always what to put into it:
after the mother of somebody's children was found, it goes on to a "daughter" that nobody asked for. So a sentence with
:data:`CUE` in it is said with a word of the question only, and no word speaks for more hops than it stands in the
question, nor for one where it names a fact by which results were singled out. All that can be said is weighed as a
whole, like relations are; what the question does not ask for no longer speaks for going on. The number beside a
sentence is added to its log-probability, before all of them are shared out anew: where ending and going on are equally
likely, it can say which of them comes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from kgr1.graph.words import all_words, question_words, short_name, word_stems
from kgr1.types import Question, Turn

CUE = "{cue}"
"""Stands for a word of the question in a sentence."""

_THOUGHT = re.compile(r"<think>(.*?)</think>", re.DOTALL)
_QUOTED = re.compile(r'"([^"]*)"')


def thoughts(sentences: Mapping[str, float], question: Question, turns: Sequence[Turn]) -> dict[str, float]:
    """All that can be said in the next turn, without tags, with the logit of its sentence.

    A sentence comes once for each word that is left for it.

    >>> question = Question(id="1", text="Who are the children of Ann's mother?", topics=("Ann",), answers=())
    >>> thoughts({"I list the relations.": 0.0, 'It asks for "{cue}".': -1.0}, question, [])
    {'I list the relations.': 0.0, 'It asks for "children".': -1.0, 'It asks for "mother".': -1.0}
    """
    left = Counter(all_words(question.text))
    left.subtract(_spoken_for(turns))
    told = word_stems(" ".join(short_name(fact.query.relation or "") for turn in turns for fact in turn.linked))
    words = [word for word in question_words(question) if left[word] > 0 and word[:5] not in told]
    result: dict[str, float] = {}
    for sentence, logit in sentences.items():
        for word in words if CUE in sentence else ("",):
            result[sentence.replace(CUE, word)] = logit
    return result


def _spoken_for(turns: Sequence[Turn]) -> list[str]:
    """What was quoted in the thoughts of turns that followed a relation to something."""
    return [
        word
        for turn in turns
        if turn.query is not None and turn.query.operation.returns_entities and turn.shown_entities
        for thought in _THOUGHT.findall(turn.text)
        for word in _QUOTED.findall(thought)
    ]
