"""What the model reads first, and how a turn is written down.

``paper`` is the template of SPEC section 3. ``short`` says the same in about a third of the tokens, for models that
learn the protocol in a cold start anyway and pay for every prompt token in CPU time. Both say how to ask for another
page if results come in pages, and for a time if facts have dates.
"""

from __future__ import annotations

import json

from kgr1.config import AgentSettings
from kgr1.graph.render import neutralise, show_name
from kgr1.types import Answer, Query, Question

SERVER_INSTRUCTION = """\
get_tail_relations("entity"): relations in which the entity is the subject.
get_head_relations("entity"): relations in which the entity is the object.
get_tail_entities("entity", "relation"): objects of the relation with the entity as subject.
get_head_entities("entity", "relation"): subjects of the relation with the entity as object.
Copy names exactly as they were shown. If a query returns an error, read its message and correct the query."""

PAPER_TEMPLATE = """\
You are a helpful assistant. Answer the given question. You can query from knowledge base provided to you to answer \
the question. You can query knowledge up to {max_turns} times. You must first conduct reasoning inside \
<think>...</think>. If you need to query knowledge, you can set a query statement between <kg-query>...</kg-query> to \
query from knowledge base after <think>...</think>. When you have the final answer, you can output the answer inside \
<answer>...</answer>.
KG Query Server Instruction : {instruction}{sets}{times}{pages}
Answers are a JSON list of strings.
Question: {question}.
Topic entities: {topics}
Assistant:"""

SHORT_TEMPLATE = """\
Query the knowledge graph, then answer. Each of up to {max_turns} turns: <think>why</think>, then \
<kg-query>get_tail_relations("e")</kg-query> (or get_head_relations, get_tail_entities("e", "r"), \
get_head_entities) or <answer>["..."]</answer>.{sets}{times}{pages}
Question: {question}
Topic: {topics}"""

_PAGES = {
    "paper": "\nLong results come in pages of {size}. End a call with page=2 for the second one, as in "
    'get_tail_entities("entity", "relation", page=2).',
    "short": ' Results come {size} at a time; end a call with ", page=2" for the next.',
}
_TIMES = {
    "paper": "\nFacts carry dates. A third argument limits a query to a time: "
    'get_tail_entities("entity", "relation", "2014-02"), or "before 2014", "after 2014", "2012/2014".',
    "short": ' Facts have dates; a third argument is a time: "2014", "2014-02-16", "before 2014", "2012/2014".',
}
_SETS = {
    "paper": '\nA list of relations shows those of both directions. "*" stands for all that was found: '
    'get_tail_entities("*", "relation") asks each of them, and the answer ["*"] lists them.',
    "short": ' "*" is all that was found.',
}
_TEMPLATES: dict[str, str] = {"paper": PAPER_TEMPLATE, "short": SHORT_TEMPLATE}


def build_prompt(question: Question, settings: AgentSettings) -> str:
    """The user message for one question. Question and topics are data, so tags in them are neutralised."""
    template = _TEMPLATES[settings.prompt]
    text = neutralise(question.text.strip())
    if settings.prompt == "paper":
        text = text.removesuffix(".")
    return template.format(
        max_turns=settings.max_turns,
        instruction=SERVER_INSTRUCTION,
        sets=_SETS[settings.prompt] if settings.sets else "",
        times=_TIMES[settings.prompt] if settings.time_filter else "",
        pages=_PAGES[settings.prompt].format(size=settings.page_size) if settings.page_size else "",
        question=text,
        topics=", ".join(_in_quotes(topic) for topic in question.topics),
    )


def _in_quotes(topic: str) -> str:
    """A topic as it stands in a query.

    Tokenizers join a leading space to the first letters of a word. After a quotation mark a name has the same tokens in
    the prompt and in the query, so that copying it is copying tokens.
    """
    shown = show_name(topic)
    return shown if shown.startswith('"') else f'"{shown}"'


def format_turn(think: str, action: Query | Answer) -> str:
    """Write a turn in the one form that counts as well-formed (v_fmt).

    >>> format_turn("I know it.", Answer(names=("Paris",)))
    '<think>I know it.</think>\\n<answer>["Paris"]</answer>'
    """
    if isinstance(action, Query):
        body, tag = action.to_text(), "kg-query"
    else:
        body, tag = json.dumps(list(action.names), ensure_ascii=False), "answer"
    return f"<think>{think}</think>\n<{tag}>{body}</{tag}>"


def format_information(text: str) -> str:
    """Wrap a rendered observation the way it is appended to the context."""
    return f"\n<information>{text}</information>\n"


STOP_STRINGS: tuple[str, ...] = ("</kg-query>", "</answer>")
"""A turn ends when one of these is complete."""
