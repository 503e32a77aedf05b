"""ReKnoS: groups of relations, paths of groups, and what they lead to."""

from __future__ import annotations

import pytest
from baseline_parts import FACTS, QUESTION, candidates, graph, picks, play, steps

from kgr1.baselines.super_relations import group_of, name_of
from kgr1.types import StopReason, Triple

TYPED = (
    ("France", "location.country.capital", "Paris"),
    ("France", "location.country.largest_city", "Paris"),
    ("France", "location.location.contains", "Lyon"),
    ("Paris", "government.city.mayor", "Hidalgo"),
    ("Paris", "government.city.council", "Council"),
    ("Paris", "location.location.area", "105"),
    ("Hidalgo", "people.person.born_in", "San Fernando"),
    ("Hidalgo", "people.person.nationality", "French"),
)


def by_name(**scores: float) -> str:
    return picks(**scores).replace("__", ".")


def test_the_whole_way() -> None:
    script = [
        '{"location.country": 0.9, "location.location": 0.1}',
        '{"government.city": 1}',
        '{"people.person": 1}',
        "Yes",
        '["San Fernando"]',
    ]
    episode, client = play("reknos", script, on=graph(TYPED))
    assert steps(episode) == ["score groups"] * 3 + ["verdict", "answer"]
    assert episode.usage.model_calls == 5
    assert [request.temperature for request in client.requests] == [0.0] * 5
    assert candidates(client.prompts[0]) == ["location.country", "location.location"]
    # Of Paris and Lyon; both directions, so also the ways back.
    assert candidates(client.prompts[1]) == ["government.city", "location.country", "location.location"]
    walks = client.prompts[3].partition("Walks:\n")[2].splitlines()
    assert walks[0] == (
        "France -> location.country.capital -> Paris -> government.city.mayor -> Hidalgo -> people.person.born_in -> "
        "San Fernando"
    )
    assert client.prompts[4].partition("Walks:\n")[2].splitlines() == walks
    assert (episode.answers, episode.answer_ids) == (("San Fernando",), ("San Fernando",))
    assert (episode.stop, episode.fallback) == (StopReason.ANSWERED, False)
    assert episode.evidence[-1] == Triple("Hidalgo", "people.person.born_in", "San Fernando")


def test_a_no_is_answered_without_the_graph() -> None:
    script = ['{"1": 1}', "none", "No", 'Answer: ["Rome"]']
    episode, client = play("reknos", script, on=graph(TYPED))
    assert steps(episode) == ["score groups", "score groups", "verdict", "reason"]
    assert (episode.answers, episode.fallback, episode.evidence) == (("Rome",), True, ())
    assert "Walks" not in client.prompts[-1]


def test_groups_that_cannot_be_read() -> None:
    episode, _ = play("reknos", ["I do not know.", 'Answer: ["Rome"]'], on=graph(TYPED))
    assert steps(episode) == ["score groups", "reason"]
    assert (episode.fallback, episode.usage.graph_calls) == (True, 2)


def test_a_topic_that_is_not_there() -> None:
    question = QUESTION.model_copy(update={"topics": ("Atlantis",)})
    episode, _ = play("reknos", ["?"], on=graph(TYPED), question=question)
    assert (steps(episode), episode.fallback, episode.answers) == (["reason"], True, ())


def test_the_best_paths_are_kept_and_one_that_goes_no_further_stays() -> None:
    script = ['{"location.country": 0.6, "location.location": 0.4}', '{"government.city": 1}', "Yes", "[]"]
    _, client = play("reknos", script, on=graph(TYPED), depth=2)
    walks = client.prompts[2].partition("Walks:\n")[2].splitlines()
    assert [walk.rpartition(" -> ")[2] for walk in walks] == ["Council", "Hidalgo", "Lyon"]  # 1.6 before 0.4
    _, client = play("reknos", script, on=graph(TYPED), depth=2, kept_paths=1)
    walks = client.prompts[2].partition("Walks:\n")[2].splitlines()
    assert [walk.rpartition(" -> ")[2] for walk in walks] == ["Council", "Hidalgo"]


def test_bounds_of_entities() -> None:
    facts = [("France", "has", f"thing {number:03}") for number in range(200)]
    script = ['{"has": 1}', "Yes", "[]"]
    _, client = play("reknos", script, on=graph(facts), depth=1)
    assert len(client.prompts[1].partition("Walks:\n")[2].splitlines()) == 20
    episode, _ = play("reknos", ['{"has": 1}', "?", "Yes", "[]"], on=graph(facts), depth=2)
    assert episode.usage.graph_calls == 2 + 1 + 2 * 50  # the relations of 50 entities, not of 200


def test_a_flat_vocabulary_is_grouped_by_head_words() -> None:
    _, client = play("reknos", ["?", "?"], on=graph(FACTS))
    assert candidates(client.prompts[0]) == ["capital", "city", "type.kind"]
    labels = {
        "place of birth": "place",
        "birth_place": "place",
        "restingPlace": "place",
        "located in": "locat",
        "official language": "langu",
        "of": "of",
        "http://example.org/ns#isPartOf": "part",
        "http://example.org/a.b.c/Spouse": "spous",
        "a.b.c": "a.b",
        "film/directed_by": "direc",
        "//": "//",
        "子": "子",
    }
    assert {label: group_of(label) for label in labels} == labels
    assert name_of("place", list(labels)[:3]) == "birth_place"
    assert name_of("x", ["b", "a"]) == "a"
    assert name_of("a.b", ["a.b.d", "a.b.c"]) == "a.b"


@pytest.mark.parametrize("order", [1, -1])
def test_the_same_groups_whatever_the_order_of_facts(order: int) -> None:
    facts = [("France", label, "x") for label in ("place of birth", "birthPlace", "restingPlace", "capital")]
    _, client = play("reknos", ["?", "?"], on=graph(facts[::order]))
    assert candidates(client.prompts[0]) == ["capital", "birthPlace"]
