"""What the expert writes inside ``<think>``: short templates, several for each situation, or one brief one.

A sentence may name the topic, a relation that a result has shown, a word of the question and how many results came
back. It never names an entity that was found, so it cannot leak an answer, and it says nothing that the walk does not
know yet.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

from kgr1.config import Thoughts

_PLACEHOLDER = re.compile(r"\{(topic|relation|cue|time)\}")

TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "start_tail": (
        "The question starts at {topic}, so I look at its relations.",
        "The topic is {topic}. I need its relations first.",
        "I begin with {topic} and see which relations leave it.",
        "The question names {topic}. Which relations does it have?",
    ),
    "start_head": (
        "The question starts at {topic}, so I look at what points to it.",
        "The topic is {topic}. I need the relations that lead to it.",
        "I begin with {topic} and see which relations arrive there.",
        "The question names {topic}. It asks for things that refer to it.",
    ),
    "start_again_tail": (
        "There is a second condition. I look at the relations of {topic}.",
        "The question also names {topic}, so I need its relations.",
        "Now the other topic, {topic}: which relations does it have?",
    ),
    "start_again_head": (
        "There is a second condition. I look at what points to {topic}.",
        "The question also names {topic}, so I need what leads to it.",
        "Now the other topic, {topic}: which relations arrive there?",
    ),
    "next_tail": (
        "The question asks one step more, so I look at the relations here.",
        "This is not the end yet. I need the relations of what I found.",
        "The question goes on from here, so I list the next relations.",
    ),
    "next_head": (
        "The question asks one step more, so I look at what points here.",
        "This is not the end yet. I need what leads to this entity.",
        "The question goes on from here, so I list the incoming relations.",
    ),
    "next_cue_tail": (
        'The question still asks for "{cue}", so I list the relations here.',
        'There is "{cue}" left in the question. I need the relations here.',
    ),
    "next_cue_head": (
        'The question still asks for "{cue}", so I look at what points here.',
        'There is "{cue}" left in the question. I need what leads here.',
    ),
    "through_tail": (
        "This node has no name, so the fact goes on here. I list its relations.",
        "What I found is only a link in between. I need the relations that leave it.",
        "An identifier is no answer. I look at where its relations lead.",
    ),
    "through_head": (
        "This node has no name, so the fact goes on here. I look at what points to it.",
        "What I found is only a link in between. I need the relations that lead to it.",
        "An identifier is no answer. I look at which relations arrive here.",
    ),
    "look_elsewhere": (
        "The relation I need is not here, so I try the next entity.",
        "Nothing here fits the question. I look at the next entity.",
    ),
    "choose": (
        '"{relation}" fits what the question asks, so I follow it.',
        'Of these relations, "{relation}" matches the question.',
        'The question needs "{relation}" here, so I ask for it.',
        'I follow "{relation}", because it fits the question best.',
    ),
    "choose_cue": (
        # The cue stands before the relation: a model that names the relation first takes any from the list.
        'The question says "{cue}", which is "{relation}" here.',
        'For "{cue}" the graph has "{relation}", so I ask for it.',
        'The word "{cue}" asks for "{relation}", so I follow it.',
    ),
    "choose_time": (
        'The question needs "{relation}" at one time only, so I limit it to "{time}".',
        'I follow "{relation}", and the time that the question names is "{time}".',
        'Of these, "{relation}" fits, and only facts of "{time}" count.',
    ),
    "choose_cue_time": (
        'The question says "{cue}", which is "{relation}" here, and its time is "{time}".',
        'For "{cue}" the graph has "{relation}"; I limit it to "{time}".',
    ),
    "known": (
        'I have seen "{relation}" before, so I ask for it directly.',
        'The list I saw earlier has "{relation}", so I follow it at once.',
        'I can follow "{relation}" at once, since it was listed before.',
    ),
    "branch": (
        'There is another entity, so I ask it for "{relation}" too.',
        'I ask the same "{relation}" of the next entity in the list.',
        'The next entity may have "{relation}" as well, so I check it.',
    ),
    "answer_one": (
        "That was the last step of the question, so this is the answer.",
        "Nothing more is asked, so the entity found is the answer.",
        "This is what the question asks for, so I answer.",
    ),
    "answer_many": (
        "That was the last step, so all the entities found are the answer.",
        "Nothing more is asked, so I list everything that was found.",
        "These are what the question asks for, so I answer.",
    ),
    "answer_without_topic": (
        "That was the last step. I leave out the topic itself.",
        "I list what was found, without the topic itself.",
    ),
    "answer_common": (
        "Both conditions are checked, so I keep what is in both results.",
        "The answer must stand in both lists, so I compare them.",
        "I take what the two results have in common.",
    ),
    "guess_relation": (
        'The question says "{cue}", so I try that as a relation.',
        'Perhaps "{cue}" is a relation here, so I ask for it.',
    ),
    "fix_relation": (
        "That relation does not exist here, so I list the real ones.",
        "I guessed the relation. I should look at the relations first.",
    ),
    "fix_name": (
        "The name was not found, so I copy it exactly as given.",
        "I misspelt the name. I write it exactly as it was shown.",
    ),
    "fix_branch": (
        'That did not give what is asked. "{relation}" fits the question better.',
        'This is a wrong turn, so I go back and follow "{relation}".',
        'These do not fit the question. I try "{relation}" instead.',
    ),
    "fix_time": (
        'That ignores the time. I ask again with "{time}".',
        'These are the facts of all times. I limit them to "{time}".',
    ),
    "fix_direction_tail": (
        "Nothing here fits the question, so I look the other way, outwards.",
        "That is the wrong direction. I need the relations that leave it.",
    ),
    "fix_direction_head": (
        "Nothing here fits the question, so I look the other way, inwards.",
        "That is the wrong direction. I need the relations that lead to it.",
    ),
}
"""Situation -> sentences. Placeholders: ``{topic}``, ``{relation}``, ``{cue}`` (words of the question), ``{time}``."""

_WHERE_TO = (("tail", "outwards"), ("head", "inwards"))

BRIEF: Mapping[str, tuple[str, ...]] = {
    # Which of several wordings comes is noise that a small model spends its gradient on, and each is paid for in every
    # episode; one wording leaves only the choices to be learned.
    **{f"start_{way}": ("I list the relations first.",) for way, _ in _WHERE_TO},
    **{f"start_again_{way}": ("There is a second topic.",) for way, _ in _WHERE_TO},
    **{f"next_{way}": ("The question goes on.",) for way, _ in _WHERE_TO},
    **{f"next_cue_{way}": ('The question goes on to "{cue}".',) for way, _ in _WHERE_TO},
    **{f"through_{way}": ("This has no name, so I go on.",) for way, _ in _WHERE_TO},
    **{f"fix_direction_{way}": (f"Nothing fits, so I look {where}.",) for way, where in _WHERE_TO},
    "look_elsewhere": ("Nothing fits here, so I try the next one.",),
    "choose": ("One of these fits.",),
    "choose_cue": ('The question asks for "{cue}".',),
    "choose_time": ('Only "{time}" counts.',),
    "choose_cue_time": ('The question asks for "{cue}", and only "{time}" counts.',),
    "known": ("I know this relation already.",),
    "branch": ("The same of the next one.",),
    "answer_one": ("That was asked.",),
    "answer_many": ("That was asked.",),
    "answer_without_topic": ("That was asked, without the topic.",),
    "answer_common": ("I keep what is in both.",),
    "guess_relation": ('Perhaps "{cue}" is a relation.',),
    "fix_relation": ("No such relation, so I list them.",),
    "fix_name": ("I copy the name exactly.",),
    "fix_branch": ("That does not fit, so I go back.",),
    "fix_time": ('Only "{time}" counts.',),
}
"""The same situations in one short wording each."""

_WORDINGS: Mapping[Thoughts, Mapping[str, tuple[str, ...]]] = {"varied": TEMPLATES, "brief": BRIEF}


def think(
    situation: str,
    rng: random.Random,
    *,
    topic: str = "",
    relation: str = "",
    cue: str = "",
    time: str = "",
    thoughts: Thoughts = "varied",
) -> str:
    """One sentence for a situation of :data:`TEMPLATES`; raises KeyError for an unknown one."""
    # One pass and not str.format: names from a graph may contain braces, or a placeholder.
    values = {"topic": topic, "relation": relation, "cue": cue, "time": time}
    return _PLACEHOLDER.sub(lambda match: values[match[1]], rng.choice(_WORDINGS[thoughts][situation]))
