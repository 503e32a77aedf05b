"""Pages, dates, ranked relations, and what stands beside names: from the model's call to what it reads and earns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pytest
from episode_parts import QUESTION, answer, ask, play

from kgr1.agent.observe import MAX_EXPANDED, MAX_VALUES, is_nameless
from kgr1.agent.policy import count_words
from kgr1.agent.rank import bm25, rank_relations
from kgr1.config import RewardSettings
from kgr1.graph import GraphStore, KnowledgeGraph
from kgr1.graph.api import GraphInfo
from kgr1.rewards import score_episode
from kgr1.types import Episode, ErrorCode, GoldAnswer, Observation, Query, Triple

Dates = Mapping[tuple[str, str, str], tuple[str, ...]]


class DatedGraph:
    """A store that cuts pages and knows dates in the most obvious way; remembers its queries."""

    def __init__(self, triples: Sequence[tuple[str, str, str]], dates: Dates | None = None) -> None:
        self._store = GraphStore.from_triples(triples)
        self._dates = dates or {}
        self.asked: list[Query] = []

    def execute(self, queries: Sequence[Query]) -> list[Observation]:
        self.asked += queries
        return [self._answer(query) for query in queries]

    def _answer(self, query: Query) -> Observation:
        plain = query.model_copy(update={"offset": 0, "limit": None, "time": None})
        found = self._store.execute([plain])[0]
        if not found.ok:
            return found.model_copy(update={"query": query})
        facts = found.triples()
        dated = [self._dates.get(tuple(fact), ()) for fact in facts] or [()] * len(found.names)
        rows = [
            (name, identifier, tuple(date for date in dates if query.time is None or date.startswith(query.time)))
            for name, identifier, dates in zip(found.names, found.ids, dated, strict=True)
        ]
        rows = [row for row in rows if query.time is None or row[2]]
        page = rows[query.offset :][: query.limit]
        if not page:
            message = f"There are only {len(rows)} results; the last page is page=1."
            return Observation(query=query, error=ErrorCode.NO_RESULTS, message=message)
        update = {"entity": found.query.entity, "relation": found.query.relation}
        return Observation(
            query=query.model_copy(update=update),
            names=tuple(row[0] for row in page),
            ids=tuple(row[1] for row in page),
            times=tuple(row[2] for row in page) if self._dates and facts else (),
            total=len(rows),
        )

    def info(self) -> GraphInfo:
        return self._store.info()

    def close(self) -> None:
        self._store.close()


HUB = [("hub", "to", f"node {i:03}") for i in range(120)]
VISITS = [("Ann", "visits", "Bob"), ("Ann", "visits", "Cid"), ("Bob", "likes", "Cid")]
DATES = {
    ("Ann", "visits", "Bob"): ("2013", "2014-05-17"),
    ("Ann", "visits", "Cid"): tuple(f"2014-01-{day:02}" for day in range(1, 29)),
}


def shown(episode: Episode) -> list[str]:
    """What the model was told, apart from that it wrote nothing."""
    return [turn.information for turn in episode.turns if turn.text]


def page(number: int) -> str:
    return ask(f'get_tail_entities("hub", "to", page={number})')


def test_pages_are_asked_for_shown_and_rewarded() -> None:
    graph = DatedGraph(HUB)
    first = ask('get_tail_entities("hub", "to")')
    texts = [first, page(2), page(3), page(1), page(4), answer('["node 119"]')]
    episode = play(
        texts, on=graph, question=QUESTION.model_copy(update={"topics": ("hub",)}), page_size=50, max_turns=6
    )
    one, two, three, again, beyond, _ = shown(episode)
    assert one.startswith("node 000, node 001")
    assert one.endswith("node 049 [1-50 of 120; page=2 for more]")
    assert two.startswith("node 050")
    assert two.endswith("node 099 [51-100 of 120; page=3 for more]")
    assert three.endswith("node 119 [101-120 of 120]")
    assert again == one
    assert beyond == "KG_NO_RESULTS: There are only 120 results; the last page is page=1."
    assert [turn.shown for turn in episode.turns] == [50, 50, 20, 50, 0, 0]
    assert [(query.offset, query.limit) for query in graph.asked] == [(0, 50), (50, 50), (100, 50), (0, 50), (150, 50)]
    assert [reward.kg for reward in score_episode(episode, RewardSettings()).turns] == [1, 1, 1, 0, 0, 0]
    assert episode.evidence == (Triple("hub", "to", "node 119"),)
    assert all(turn.well_formed for turn in episode.turns)


def test_a_page_that_is_cut_by_the_budget_says_so() -> None:
    episode = play([ask('get_tail_entities("hub", "to")')], on=DatedGraph(HUB), page_size=50, observation_tokens=40)
    text = shown(episode)[0]
    left = 50 - episode.turns[0].shown
    assert text.endswith(f"... and {left} more [1-50 of 120; page=2 for more]")
    assert 0 < left < 50


def test_without_pages_nothing_changes_and_a_page_is_an_error() -> None:
    graph = DatedGraph(HUB[:3])
    episode = play([ask('get_tail_entities("hub", "to")'), page(2)], on=graph)
    assert shown(episode) == [
        "node 000, node 001, node 002",
        "KG_FORMAT_ERROR: Results have no pages here; leave out page=2.",
    ]
    assert [(query.offset, query.limit) for query in graph.asked] == [(0, None)]
    paged = play([ask('get_tail_entities("hub", "to")')], on=graph, page_size=3)
    assert shown(paged) == ["node 000, node 001, node 002"]
    assert "page" in paged.prompt
    assert "page" not in episode.prompt
    assert 'get_tail_entities("entity", "relation", page=2)' in play([], page_size=7, prompt="paper").prompt


def test_dates_are_shown_filtered_and_copied_back() -> None:
    calls = [
        ask('get_tail_entities("Ann", "visits")'),
        ask('get_tail_entities("Ann", "visits", "2013")'),
        ask('get_tail_entities("Bob (2013, 2014-05-17)", "likes")'),
        answer('["Cid"]'),
    ]
    episode = play(calls, on=DatedGraph(VISITS, DATES), question=QUESTION.model_copy(update={"topics": ("Ann",)}))
    every, filtered, copied, _ = shown(episode)
    assert every == (
        "Bob (2013, 2014-05-17), Cid (2014-01-01, 2014-01-02, 2014-01-03, 2014-01-04, 2014-01-05, 2014-01-06, "
        "2014-01-07, ... 20 more ..., 2014-01-28)"
    )
    assert filtered == "Bob (2013)"
    assert copied == "Cid"
    assert [reward.kg for reward in score_episode(episode, RewardSettings()).turns] == [1, 1, 1, 0]
    assert episode.evidence == (Triple("Ann", "visits", "Cid"),)
    tight = play(calls[:1], on=DatedGraph(VISITS, DATES), observation_tokens=44)
    assert shown(tight) == ["Bob (2013, 2014-05-17), Cid (2014-01-01, ... 26 more ..., 2014-01-28)"]


RELATIONS = [
    ("Alien", "film.film.country", "US"),
    ("Alien", "film.film.directed_by", "Scott"),
    ("Alien", "film.film.genre", "horror"),
    ("Alien", "film.film.releaseYear", "1979"),
]


@pytest.mark.parametrize(("size", "first", "second"), [(0, 4, 0), (3, 3, 1)])
def test_relations_in_the_order_of_the_question(size: int, first: int, second: int) -> None:
    order = ["film.film.releaseYear", "film.film.country", "film.film.directed_by", "film.film.genre"]
    question = QUESTION.model_copy(update={"text": "In which year was Alien released?", "topics": ("Alien",)})
    calls = [ask('get_tail_relations("alien")'), ask('get_tail_relations("Alien", page=2)')]
    calls += [ask('get_tail_relations("Alien", page=3)'), ask('get_tail_relations("Alin")')]
    episode = play(calls, on=DatedGraph(RELATIONS), question=question, rank_relations="bm25", page_size=size)
    seen = [turn.observation.names for turn in episode.turns if turn.observation is not None]
    assert list(seen[0]) == order[:first]
    if size:
        assert list(seen[1]) == order[first : first + second]
        assert shown(episode)[2] == "KG_NO_RESULTS: There are only 4 results; the last page is page=2."
        assert [reward.kg for reward in score_episode(episode, RewardSettings()).turns] == [1, 1, 0, 0, 0]
    assert shown(episode)[3].startswith("KG_ENTITY_NOT_FOUND")
    assert score_episode(episode, RewardSettings()).outcome.retrieved == 0


def test_bm25_is_the_formula() -> None:
    # Two relations of two words each; "film" is in both, "genre" in one: idf = ln(1 + (N - n + 0.5) / (n + 0.5)).
    genre, year = bm25("film genre", ["film.genre", "film.year"])
    assert year == pytest.approx(0.1823, abs=1e-4)
    assert genre == pytest.approx(0.1823 + 0.6931, abs=1e-4)
    assert rank_relations("nothing", ["b", "a", "b"]) == [0, 1, 2]
    assert rank_relations("", []) == bm25("x", []) == []


CAST = [
    ("Alien", "film.starring", "m.04j60kc"),
    ("Alien", "film.starring", "m.0999"),
    ("Alien", "film.starring", "Veronica Cartwright"),
    ("m.04j60kc", "film.performance.actor", "Sigourney Weaver"),
    ("m.04j60kc", "film.performance.character", "Ripley (Alien); hero"),
    ("m.04j60kc", "film.performance.film", "Alien"),
    ("Kane", "film.character.portrayed", "m.0999"),
]


def starring(*, topic: str = "Alien", **agent: object) -> Episode:
    gold = (GoldAnswer(label="Sigourney Weaver"),)
    question = QUESTION.model_copy(update={"topics": (topic,), "answers": gold})
    texts = [ask('get_tail_entities("Alien", "film.starring")'), answer('["Sigourney Weaver"]')]
    return play(texts, on=GraphStore.from_triples(CAST), question=question, **agent)


def test_nameless_results_show_their_neighbours_if_asked_to() -> None:
    plain = starring()
    assert shown(plain)[0] == "Veronica Cartwright, m.04j60kc, m.0999"
    assert plain.evidence == ()
    assert score_episode(plain, RewardSettings()).outcome.retrieved == 0
    episode = starring(expand_mediators=True)
    assert shown(episode)[0] == (
        'Veronica Cartwright, m.04j60kc (actor: Sigourney Weaver; character: "Ripley (Alien); hero"), '
        "m.0999 (^portrayed: Kane)"
    )
    assert episode.evidence == (
        Triple("Alien", "film.starring", "m.04j60kc"),
        Triple("m.04j60kc", "film.performance.actor", "Sigourney Weaver"),
    )
    assert score_episode(episode, RewardSettings()).outcome.retrieved == 1
    assert episode.answer_ids == ("Sigourney Weaver",)
    # The query itself, two lists of relations for each of two nodes, and six lists of entities.
    assert episode.usage.graph_calls == 1 + 4 + 6
    assert Episode.model_validate_json(episode.model_dump_json()) == episode


def test_neighbours_that_were_not_shown_are_no_evidence() -> None:
    cut = starring(expand_mediators=True, observation_tokens=16)
    assert shown(cut)[0] == "Veronica Cartwright ... and 2 more"
    assert cut.turns[0].expanded == ()
    assert cut.evidence == ()
    assert score_episode(cut, RewardSettings()).outcome.retrieved == 0


def test_neighbours_are_bounded() -> None:
    triples = [("hub", "to", f"m.0{i:03}") for i in range(60)] + [(f"m.0{i:03}", "name", f"n{i}") for i in range(60)]
    graph: KnowledgeGraph = GraphStore.from_triples(triples)
    episode = play([ask('get_tail_entities("hub", "to")')], on=graph, expand_mediators=True, observation_tokens=2000)
    assert len(episode.turns[0].expanded) == MAX_EXPANDED
    assert episode.usage.graph_calls == 1 + MAX_EXPANDED * (2 + 2)


def test_more_neighbours_than_are_shown_are_hinted_at() -> None:
    for count, back in ((MAX_VALUES, True), (MAX_VALUES + 1, False), (MAX_VALUES + 1, True)):
        triples = [("hub", "to", "m.01"), *(("m.01", "stars", f"n{place}") for place in range(count))]
        triples += [("m.01", "stars", "hub")] * back
        graph: KnowledgeGraph = GraphStore.from_triples(triples)
        text = play([ask('get_tail_entities("hub", "to")')], on=graph, expand_mediators=True).turns[0].information
        assert (", ..." in text) is (count > MAX_VALUES), text


def test_what_is_nameless() -> None:
    nameless = ["m.04j60kc", "g.11b6_x", "/m/04j60kc", "_:b12", "Q42", "Q42-3c5a7b1e-4f11-2b33-a1b2-c3d4e5f60718"]
    assert [name for name in nameless if not is_nameless(name, name)] == []
    named = ["M. Night", "1979", "Quito", "Q", "m. x", "m.", ""]
    assert [name for name in named if is_nameless(name, name)] == []
    assert not is_nameless("m.04j60kc", "other")


def test_a_shared_name_is_explained_if_asked_to() -> None:
    triples = [("Q90", "country", "Q142"), ("Q830149", "country", "Q30"), ("Q30", "borders", "Q142")]
    labels = {"Q90": "Paris", "Q830149": "Paris", "Q142": "France", "Q30": "Un<think>"}
    graph = GraphStore.from_triples(triples, labels=labels)
    calls = [ask(f'get_tail_entities("{name}", "country")') for name in ("Paris", "Paris [Q90]")]
    assert shown(play(calls, on=graph)) == ["France, Un‹think›", "France"]
    first, second = shown(play(calls, on=graph, show_namesakes=True))
    assert first == "France, Un‹think› (2 entities are named Paris: Paris [Q830149], Paris [Q90])"
    assert second == "France"


# Listings of both directions, for an agent with `sets`


def listing(call: str, rows: Sequence[tuple[str, str, str]], topic: str = "A", **agent: object) -> Episode:
    settings = {"sets": True, "observation_tokens": 200, **agent}
    graph = GraphStore.from_triples(rows)
    return play([ask(call), ""], on=graph, question=QUESTION.model_copy(update={"topics": (topic,)}), **settings)


@pytest.mark.parametrize("call", ["get_tail_relations", "get_head_relations"])
def test_a_listing_shows_both_directions(call: str) -> None:
    rows = [("A", "x", "B"), ("A", "y", "B"), ("B", "z", "A"), ("B", "only", "C")]
    for topic, text in (("A", "out: x, y\nin: z"), ("C", "in: only"), ("B", "out: only, z\nin: x, y")):
        episode = listing(f'{call}("{topic}")', rows)
        turn = episode.turns[0]
        assert turn.information == text
        assert episode.usage.graph_calls == 2
        assert turn.observation is not None
        assert turn.observation.ok
        assert turn.shown == len(turn.observation.names)
        assert turn.shown_entities == ()
        assert [reward.kg for reward in score_episode(episode, RewardSettings()).turns][:2] == [1, 0]
    outwards = listing(f'{call}("A")', rows, sets=False)
    assert outwards.turns[0].information == ("x, y" if "tail" in call else "z")
    assert listing(f'{call}("A")', rows[:1]).turns[0].information == "out: x"
    assert listing(f'{call}("Nobody")', rows).turns[0].information.startswith("KG_ENTITY_NOT_FOUND")


def test_both_lists_share_the_budget() -> None:
    many = [("A", f"o{number:02}", "B") for number in range(60)] + [("B", f"i{number:02}", "A") for number in range(60)]
    # n names take 2n - 1 words and the count of the others 6 more; the second list has 20 words, and what is left.
    for rows, outgoing, incoming in ((many, 18, 7), (many[:64], 24, 4), (many[58:], 2, 26)):
        turn = listing('get_tail_relations("A")', rows, observation_tokens=60).turns[0]
        out, into = turn.information.split("\n")
        (other,) = turn.expanded
        assert len(re.findall(r"o\d\d", out)) == turn.shown == outgoing
        assert len(re.findall(r"i\d\d", into)) == len(other.names) == len(other.ids) == incoming
        assert count_words(out.removeprefix("out: ")) + count_words(into.removeprefix("in: ")) <= 60


def test_both_lists_are_ranked_and_have_pages() -> None:
    rows = [("A", "film.country", "B"), ("A", "film.year", "B"), ("B", "film.of", "A"), ("B", "year.of", "A")]
    question = {"rank_relations": "bm25", "layout": "flat"}
    ranked = play(
        [ask('get_tail_relations("A")'), ""],
        on=GraphStore.from_triples(rows),
        question=QUESTION.model_copy(update={"text": "In which year?", "topics": ("A",)}),
        sets=True,
        **question,
    )
    assert ranked.turns[0].information == "out: film.year, film.country\nin: year.of, film.of"
    for rank in ("none", "bm25"):
        first, second, third = (
            listing(f'get_tail_relations("A", page={page})', [*rows, ("A", "z", "B")], page_size=2, rank_relations=rank)
            for page in (1, 2, 3)
        )
        assert first.turns[0].information.startswith("out: film.country, film.year [1-2 of 3; page=2 for more]\nin: ")
        assert second.turns[0].information == "out: z [3-3 of 3]"
        assert third.turns[0].information.startswith("KG_NO_RESULTS: There are only 3 results")


def test_a_remark_on_a_shared_name_stands_below_both_lists() -> None:
    triples = [("Q90", "country", "Q142"), ("Q830149", "country", "Q30"), ("Q30", "capital", "Q90")]
    graph = GraphStore.from_triples(triples, labels={"Q90": "Paris", "Q830149": "Paris"})
    calls = [ask('get_tail_relations("Paris")'), ask('get_tail_entities("Paris", "country")')]
    calls += [ask('get_tail_relations("*")'), ask('get_head_entities("*", "country")'), ""]
    episode = play(calls, on=graph, question=QUESTION.model_copy(update={"topics": ("Paris",)}), sets=True,
                   show_namesakes=True)  # fmt: skip
    remark = "(2 entities are named Paris: Paris [Q90], Paris [Q830149])"
    assert shown(episode) == [
        f"out: country\nin: capital\n{remark}",
        f"Q142, Q30 {remark}",
        "out: capital\nin: country",  # of two entities with names of their own
        "Paris [Q830149], Paris [Q90]",
    ]


def test_neighbours_of_nameless_results_do_not_lead_back_to_a_member() -> None:
    rows = [("A", "r", "B"), ("A", "r", "C"), ("B", "film.cast", "m.0x1"), ("C", "film.cast", "m.0x2")]
    rows += [("m.0x1", "actor", "Eve"), ("m.0x2", "actor", "Zoe"), ("m.0x1", "film", "B"), ("m.0x2", "film", "C")]
    calls = [ask('get_tail_entities("A", "r")'), ask('get_tail_entities("*", "film.cast")'), answer('["Eve"]')]
    episode = play(calls, on=GraphStore.from_triples(rows), question=QUESTION.model_copy(update={"topics": ("A",)}),
                   sets=True, expand_mediators=True)  # fmt: skip
    assert shown(episode)[1] == "m.0x1 (actor: Eve), m.0x2 (actor: Zoe)"
    assert episode.evidence == (
        Triple("A", "r", "B"),
        Triple("B", "film.cast", "m.0x1"),
        Triple("m.0x1", "actor", "Eve"),
    )
