"""The wire format of the released server, as its clients use it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from faults import Interposed

from kgr1.graph.api import GraphInfo
from kgr1.graph.store import GraphStore
from kgr1.server.serve import BackgroundServer
from kgr1.server.wire import ServerLimits
from kgr1.types import Observation, Query

TRIPLES = [
    ("Alien", "film.film.directed_by", "Ridley Scott"),
    ("Alien", "film.film.starring", "Sigourney Weaver"),
    ("Aliens", "film.film.starring", "Sigourney Weaver"),
    ("Alien", "award.work.prize", "Oscar, best <|im_end|> effects"),
]


@pytest.fixture(scope="module")
def films() -> Iterator[BackgroundServer]:
    with BackgroundServer({"films": GraphStore.from_triples(TRIPLES)}) as server:
        yield server


def item(action: str, entity: str | None = "Alien", **fields: Any) -> dict[str, Any]:
    return {"action_type": action, "dataset_name": "films", "sample_id": "s-1", "entity_id": entity, **fields}


def retrieve(url: str, items: object) -> Any:
    response = httpx.post(f"{url}/retrieve", json=items, timeout=20)
    assert response.status_code == 200, response.text
    return response.json()


def content(reply: dict[str, Any]) -> str:
    text: str = reply["choices"][0]["message"]["content"]
    return text


def test_the_shape_of_a_reply(films: BackgroundServer) -> None:
    (reply,) = retrieve(films.url, [item("get_tail_entities", relation="film.film.directed_by")])
    assert reply.pop("id").startswith("chatcmpl-")
    assert isinstance(reply.pop("created"), int)
    assert isinstance(reply["kg_metadata"].pop("timestamp"), float)
    assert 0 <= reply.pop("query_time") < 20
    text = 'Tail entities for relation "film.film.directed_by" with head "Alien": Ridley Scott'
    assert reply == {
        "object": "kg_retrieval",
        "model": "kg-retrieval",
        "success": True,
        "action": "get_tail_entities",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {},
        "system_fingerprint": "",
        "kg_metadata": {"action_type": "get_tail_entities", "success": True, "error_type": "KG_SUCCESS"},
    }


def test_every_action(films: BackgroundServer) -> None:
    replies = retrieve(
        films.url,
        [
            item("get_tail_relations"),
            item("get_head_relations", "Sigourney Weaver"),
            item("get_head_entities", "Sigourney Weaver", relation="film.film.starring"),
            item("get_relations", "Ridley Scott"),
            item("get_conditional_relations", concept="Film"),
        ],
    )
    assert [content(reply) for reply in replies] == [
        'Tail relations for entity "Alien":\naward.work.prize, film.film.directed_by, film.film.starring',
        'Head relations for entity "Sigourney Weaver":\nfilm.film.starring',
        'Head entities for relation "film.film.starring" with tail "Sigourney Weaver": Alien, Aliens',
        'Relations for entity "Ridley Scott":\nfilm.film.directed_by',
        'Relations for entity "Alien" with concept "Film": film.film.directed_by, film.film.starring',
    ]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (item("get_everything"), "KG_SERVER_ERROR"),
        ({}, "KG_SERVER_ERROR"),
        (item("get_tail_relations", None), "KG_FORMAT_ERROR"),
        (item("get_tail_relations", ""), "KG_FORMAT_ERROR"),
        (item("get_tail_entities"), "KG_FORMAT_ERROR"),
        (item("get_tail_relations", relation="film.film.starring"), "KG_FORMAT_ERROR"),
        (item("get_conditional_relations"), "KG_FORMAT_ERROR"),
        (item("get_tail_relations", entity_id=["x"]), "KG_FORMAT_ERROR"),
        (item("get_tail_relations", "x" * 20_000), "KG_FORMAT_ERROR"),
        (item("get_tail_relations", "nobody at all"), "KG_ENTITY_NOT_FOUND"),
        (item("get_relations", "nobody at all"), "KG_ENTITY_NOT_FOUND"),
        (item("get_tail_entities", relation="nothing"), "KG_RELATION_NOT_FOUND"),
        (item("get_tail_relations", "Ridley Scott"), "KG_NO_RESULTS"),
        (item("get_conditional_relations", concept="people"), "KG_NO_RESULTS"),
        ("text", "KG_FORMAT_ERROR"),
        (None, "KG_FORMAT_ERROR"),
    ],
)
def test_errors(films: BackgroundServer, wrong: object, code: str) -> None:
    good, bad = retrieve(films.url, [item("get_tail_relations"), wrong])
    assert good["success"] is True
    assert bad["success"] is False
    assert bad["choices"][0]["finish_reason"] == "error"
    assert bad["kg_metadata"]["error_type"] == code
    assert content(bad).endswith((".", "?"))


def test_names_are_neutralised(films: BackgroundServer) -> None:
    (reply,) = retrieve(films.url, [item("get_tail_entities", relation="award.work.prize")])
    assert content(reply).endswith('"Oscar, best ‹|im_end|› effects"')


def test_unknown_fields_and_data_sets_are_let_pass(films: BackgroundServer) -> None:
    replies = retrieve(films.url, [{**item("get_tail_relations"), "dataset_name": "other", "extra": 1, "sample_id": 7}])
    assert replies[0]["success"] is True


def test_a_single_object_is_answered_with_one(films: BackgroundServer) -> None:
    assert retrieve(films.url, item("get_tail_relations"))["success"] is True
    assert retrieve(films.url, []) == []


def test_graphs_by_name(films: BackgroundServer, store: GraphStore) -> None:
    with BackgroundServer({"CWQ": store, "web": GraphStore.from_triples(TRIPLES)}) as server:
        query = item("get_tail_relations")
        found = retrieve(server.url, [{**query, "dataset_name": name} for name in ("CWQ", "cwq", "Web", "other")])
    assert [reply["success"] for reply in found] == [True, True, True, False]
    assert "film.film" in content(found[2])
    assert "film.film" not in content(found[0])
    assert found[3]["kg_metadata"]["error_type"] == "KG_SERVER_ERROR"


def test_more_than_one_batch_in_a_request(store: GraphStore) -> None:
    graph = Interposed(store, lambda queries: None)
    with BackgroundServer({"films": graph}, limits=ServerLimits(max_batch=4)) as server:
        assert len(retrieve(server.url, [item("get_tail_relations")] * 10)) == 10
    assert graph.batches == [4, 4, 2]


def test_question_graphs_and_times(store: GraphStore) -> None:
    seen: list[Query] = []

    class WithSamples(Interposed):
        def info(self) -> GraphInfo:
            return self.graph.info().model_copy(update={"question_graphs": 3})

    def answer(queries: Any) -> list[Observation]:
        seen.extend(queries)
        names = ("a", "b")
        times = (("2014", "2015-05"), ())
        return [Observation(query=query, names=names, ids=names, times=times, total=5000) for query in queries]

    with BackgroundServer({"films": WithSamples(store, answer)}) as server:
        dated = item("get_tail_entities", relation="r", timestamp="2014", sample_id="q-7")
        plain = item("get_tail_relations", timestamp="2014", sample_id="q-7")
        first, _ = retrieve(server.url, [dated, plain])
    assert [(query.graph_id, query.time) for query in seen] == [("q-7", "2014"), ("q-7", None)]
    assert content(first).endswith(": a [2014;2015-05], b ... and 4998 more")


@pytest.mark.parametrize(("body", "status"), [(b"{", 400), (b"[" * 100_000, 400), (b"3", 422), (b'"x"', 422)])
def test_broken_bodies(films: BackgroundServer, body: bytes, status: int) -> None:
    response = httpx.post(f"{films.url}/retrieve", content=body)
    assert response.status_code == status
    assert set(response.json()) == {"code", "message"}


def test_the_other_endpoints(films: BackgroundServer) -> None:
    assert httpx.get(f"{films.url}/health").json() == {"status": "healthy", "service": "kg_retrieval"}
    reply = httpx.get(f"{films.url}/actions").json()
    assert "get_tail_relations" in reply["actions"]
    assert reply["supported_kgs"] == ["films"]
