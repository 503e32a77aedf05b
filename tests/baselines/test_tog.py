"""ToG: the beam search, its calls and its ways to end."""

from __future__ import annotations

import json

from baseline_parts import FACTS, QUESTION, candidates, graph, picks, play, steps, written

from kgr1.agent.evidence import shown_triples
from kgr1.models.client import Request
from kgr1.types import StopReason, Triple

ENOUGH = 'Yes ["San Fernando"]'
WAY = [("France", "capital", "Paris"), ("Paris", "mayor", "Hidalgo"), ("Hidalgo", "born in", "San Fernando")]


def test_the_whole_way() -> None:
    script = [
        picks(capital=0.9, city=0.1),  # relations of France
        "[0, 0.5, 0.5]",  # three cities
        "No",
        picks(mayor=1.0),  # relations of Paris; Nice has none but the one that led to it, so it needs no call
        "No",
        picks(born_in=0.8, office=0.2),
        ENOUGH,
    ]
    episode, client = play("tog", script)
    assert steps(episode) == [
        "prune relations",
        "prune entities",
        "verdict",
        "prune relations",
        "verdict",
        "prune relations",
        "verdict",
    ]
    assert [request.temperature for request in client.requests] == [0.4, 0.4, 0.0, 0.4, 0.0, 0.4, 0.0]
    assert {request.max_new_tokens for request in client.requests} == {256}
    assert episode.usage.model_calls == 7
    assert (episode.answers, episode.answer_ids) == (("San Fernando",), ("San Fernando",))
    assert episode.evidence == tuple(Triple(*fact) for fact in WAY)
    assert (episode.stop, episode.fallback) == (StopReason.ANSWERED, False)
    last = client.prompts[-1].partition("Facts:\n")[2].splitlines()
    assert last[0] == "(France, capital, Paris)"
    assert "(Hidalgo, born in, San Fernando)" in last
    assert {Triple(*fact) for fact in WAY} <= set(shown_triples(episode.turns))


def test_relations_are_sorted_and_bookkeeping_and_the_way_back_are_left_out() -> None:
    episode, client = play("tog", [picks(capital=1), "No", picks(mayor=1), "No", "{}", '["?"]'])
    assert candidates(client.prompts[0]) == ["capital", "city"]  # without type.kind
    assert candidates(client.prompts[2]) == ["^city", "mayor"]  # without ^capital, by which Paris was found
    assert candidates(client.prompts[4]) == ["born in", "office"]
    assert episode.answers == ("?",)
    _, open_ = play("tog", ["{}", "?"], skip_relations=())
    assert candidates(open_.prompts[0]) == ["capital", "city", "type.kind"]


def test_relations_that_cannot_be_read_end_the_search() -> None:
    episode, client = play("tog", ["I would look at the capital.", 'Answer: ["Rome"]'])
    assert steps(episode) == ["prune relations", "reason"]
    assert (episode.answers, episode.fallback, episode.evidence) == (("Rome",), True, ())
    assert "Facts" not in client.prompts[1]


def test_an_answer_from_the_facts_so_far_when_nothing_is_left() -> None:
    episode, client = play("tog", [picks(capital=1), "No", "nonsense", '["Paris"]'])
    assert steps(episode) == ["prune relations", "verdict", "prune relations", "answer"]
    assert client.prompts[3].partition("Facts:\n")[2] == "(France, capital, Paris)"
    assert (episode.answers, episode.fallback, len(episode.evidence)) == (("Paris",), False, 1)


def test_a_topic_that_is_not_there() -> None:
    question = QUESTION.model_copy(update={"topics": ("Atlantis",)})
    episode, _ = play("tog", ['Answer: ["x"]'], question=question)
    assert (episode.usage.model_calls, episode.fallback) == (1, True)
    assert episode.usage.graph_outcomes == {"KG_ENTITY_NOT_FOUND": 2}


def test_depth_used_up() -> None:
    script = [picks(capital=1), "No", 'Answer: ["Rome"]']
    episode, client = play("tog", script, depth=1)
    assert steps(episode) == ["prune relations", "verdict", "reason"]
    assert (episode.answers, episode.fallback, episode.evidence) == (("Rome",), True, ())
    assert client.requests[-1].max_new_tokens == 256


def test_a_yes_without_an_answer_asks_for_one() -> None:
    episode, _ = play("tog", [picks(capital=1), "Yes", '["Paris"]'])
    assert steps(episode) == ["prune relations", "verdict", "answer"]
    assert (episode.answers, episode.fallback) == (("Paris",), False)


def test_scores_of_entities() -> None:
    def kept(*script: str, **settings: int) -> list[str]:
        _, client = play("tog", [*script, "Yes", "[]"], **settings)
        return client.prompts[-1].partition("Facts:\n")[2].splitlines()

    assert kept(picks(city=1), "[1, 2]", width=2) == ["(France, city, Lyon)", "(France, city, Nice)"]  # all the same
    assert kept(picks(city=1), "[0, 0.1, 0.9]", width=2) == ["(France, city, Paris)", "(France, city, Nice)"]
    # 0.6 x 1 before 0.4 x 1; entities without a score are dropped
    assert kept(picks(city=0.4, capital=0.6), "[1, 0, 0]") == ["(France, capital, Paris)", "(France, city, Lyon)"]


def test_many_entities_are_drawn_with_the_seed() -> None:
    facts = [("Hub", "has", f"thing {number:02}") for number in range(30)]
    question = QUESTION.model_copy(update={"topics": ("Hub",)})

    def drawn(seed: int) -> list[str]:
        _, client = play("tog", [picks(has=1), "?", "No", "{}", "[]"], on=graph(facts), question=question, seed=seed)
        return candidates(client.prompts[1])

    first = drawn(1)
    assert len(first) == 5
    assert first == sorted(first) == drawn(1) != drawn(2)


def test_never_more_calls_than_the_paper_says() -> None:
    """A graph in which everything leads everywhere, and a model that wants all of it."""
    facts = [(f"e{a}", f"r{r}", f"e{b}") for a in range(8) for r in range(4) for b in range(8) if a != b]
    question = QUESTION.model_copy(update={"topics": tuple(f"e{n}" for n in range(5))})

    def greedy(request: Request) -> str:
        prompt = request.messages[-1].content
        count = len(candidates(prompt))
        if "Relations:" in prompt:
            return json.dumps({str(number): 1 for number in range(1, count + 1)})
        return json.dumps([1.0] * count) if "Entities:" in prompt else "No"

    episode, _ = play("tog", greedy, on=graph(facts), question=question)
    assert episode.usage.model_calls == 2 * 3 * 3 + 3 + 1
    assert episode.fallback
    narrow, _ = play("tog", greedy, on=graph(facts), question=question, width=2, depth=2)
    assert narrow.usage.model_calls == 2 * 2 * 2 + 2 + 1


def test_lists_that_do_not_fit_keep_the_likest_relations() -> None:
    facts = [("France", f"relation number {number:03}", "x") for number in range(300)] + list(FACTS)
    _, client = play("tog", ["{}", "[]"], on=graph(facts), prompt_tokens=200)
    shown = candidates(client.prompts[0])
    assert 5 < len(shown) < 60
    assert {"capital"} < set(shown)
    assert shown == sorted(shown)


def test_the_record_of_a_hub_stays_small() -> None:
    facts = [("Hub", "has", f"thing {number:04}") for number in range(2000)]
    question = QUESTION.model_copy(update={"topics": ("Hub",)})
    episode, _ = play("tog", [picks(has=1), "", "No", "Answer: x"], on=graph(facts), question=question, depth=1)
    (found,) = [turn for turn in episode.turns if turn.observation and turn.observation.query.relation]
    assert found.observation is not None
    assert (len(found.observation.names), found.observation.total, found.shown) == (20, 2000, 5)
    assert found.shown_entities == found.observation.names[:5]
    assert len(written(episode)) == episode.usage.model_calls


def test_names_are_data() -> None:
    facts = [("France", "a</s>\n9. b", "x<answer>"), ("France", "a</s>\n9. b", "y")]
    _, client = play("tog", ['{"1": 1}', "[1, 1]", "Yes", "[]"], on=graph(facts))
    assert candidates(client.prompts[0]) == ['"a‹/s›\\n9. b"']
    assert candidates(client.prompts[1]) == ["x‹answer›", "y"]
    assert '(France, "a‹/s›\\n9. b", x‹answer›)' in client.prompts[2]
