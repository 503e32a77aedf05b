"""Relations that say the same are found by their facts and become one for each direction."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from kgr1.graph.readers.tables import FACT
from kgr1.graph.redundant import redundant_relations, unify

Rows = list[tuple[str, str, str]]


def frame(rows: Rows) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict.fromkeys(FACT, pl.String), orient="row")


def films(count: int, relation: str = "film.directed_by", start: int = 0) -> Rows:
    return [(f"film {n}", relation, f"director {n // 2}") for n in range(start, start + count)]


def turned(rows: Rows, relation: str) -> Rows:
    return [(tail, relation, head) for head, _, tail in rows]


def test_each_direction_keeps_one_relation_with_all_facts() -> None:
    there, back = films(6), turned(films(6, start=3), "director.film")
    found = unify(frame(there + back))
    (group,) = found.groups
    assert (group.along, group.against, group.symmetric) == (("director.film",), ("film.directed_by",), False)
    everything = films(9)
    assert found.facts.rows() == sorted(everything + turned(everything, "director.film"))


def test_of_relations_with_one_direction_the_largest_stays() -> None:
    found = unify(frame(films(8) + films(6, "film.made_by", start=4)))
    (group,) = found.groups
    assert (group.along, group.against) == (("film.directed_by", "film.made_by"), ())
    assert found.facts.rows() == sorted(films(10))


def test_of_equals_the_first_by_name_stays() -> None:
    found = unify(frame(films(4, "b") + films(4, "a") + turned(films(4), "d") + turned(films(4), "c")))
    (group,) = found.groups
    assert (group.along, group.against) == (("a", "b"), ("c", "d"))
    assert set(found.facts["relation"]) == {"a", "c"}


def test_what_is_married_in_one_direction_is_in_the_other() -> None:
    rows = [(f"p{n}", "married to", f"q{n}") for n in range(8)]
    rows += turned(rows[:4], "married to")
    found = unify(frame(rows))
    (group,) = found.groups
    assert group.symmetric
    assert group.along == ("married to",)
    assert found.facts.rows() == sorted(set(rows) | set(turned(rows, "married to")))


def test_what_is_often_mutual_is_not_always() -> None:
    follows = [(f"p{n}", "follows", f"q{n}") for n in range(8)]
    rows = follows + turned(follows[:3], "follows")
    assert unify(frame(rows)).facts.rows() == sorted(rows)


def test_a_symmetric_relation_makes_no_other_one_symmetric() -> None:
    parents = [(f"p{n}", "parent of", f"q{n}") for n in range(30)]
    kin = [(head, "kin", tail) for head, _, tail in parents[:20]]
    rows = parents + kin + turned(kin[:14], "kin")
    (group,) = redundant_relations(frame(rows))
    assert (group.along, group.against, group.symmetric) == (("kin",), (), True)
    assert unify(frame(rows)).facts.filter(relation="parent of").rows() == sorted(parents)


def test_what_is_symmetric_needs_one_name() -> None:
    one = [(f"p{n}", "x", f"q{n}") for n in range(10)]
    rows = one + turned(one[:8], "x") + turned(one, "y") + [(head, "y", tail) for head, _, tail in one[:8]]
    found = unify(frame(rows))
    (group,) = found.groups
    assert group.symmetric
    assert set(found.facts["relation"]) == {"x"}
    assert found.facts.height == 20
    assert unify(found.facts).facts.equals(found.facts)


def test_a_part_of_a_relation_says_something_else() -> None:
    """An official language is one that is spoken, and not the other way round."""
    spoken = [(f"country {n}", "spoken", f"language {m}") for n in range(4) for m in range(6)]
    official = [(f"country {n}", "official", "language 0") for n in range(4)]
    assert unify(frame(spoken + official)).facts.rows() == sorted(spoken + official)
    assert redundant_relations(frame(spoken + official)) == ()
    spoken = spoken[::3]  # of which nearly half are official by now
    assert redundant_relations(frame(spoken + official)) == ()
    (group,) = redundant_relations(frame(spoken + turned(official, "official in")))
    assert (group.along, group.against) == (("spoken",), ("official in",))  # a reverse is often known in part


def test_a_part_of_a_relation_says_something_else_where_that_has_a_reverse() -> None:
    """A reverse of the wider relation has nearly all facts of the narrower one, too."""
    spoken = [(f"country {number}", "spoken", f"language {number}") for number in range(20)]
    official = [(head, "official", tail) for head, _, tail in spoken[:8]]
    rows = spoken + official + turned(spoken, "spoken in")
    (group,) = redundant_relations(frame(rows))
    assert (group.along, group.against) == (("spoken",), ("spoken in",))
    assert unify(frame(rows)).facts.rows() == sorted(rows)


def test_few_facts_that_agree_by_chance_are_no_sign() -> None:
    rows = films(2) + turned(films(2), "director.film")
    assert redundant_relations(frame(rows)) == ()
    assert len(redundant_relations(frame(rows), least_shared=2)) == 1


def test_a_chain_of_relations_leads_to_no_other_meaning() -> None:
    """Each shares half of its facts with the next one, and the first and the last share none."""
    rows = [row for number in range(5) for row in films(12, f"r{number}", start=6 * number)]
    found = unify(frame(rows), least_jaccard=0.3)
    assert len(found.groups) >= 1
    for group in found.groups:
        numbers = [int(name[1:]) for name in (*group.along, *group.against)]
        assert max(numbers) - min(numbers) <= 2


def test_directions_hold_through_several_joins() -> None:
    """r is joined with its reverse s, which is joined with t, a reverse of s, which so has the direction of r."""
    rows = films(6, "r") + turned(films(6), "s") + films(6, "t", start=1) + turned(films(6, start=2), "u")
    (group,) = redundant_relations(frame(rows))
    assert ({*group.along}, {*group.against}) in (({"r", "t"}, {"s", "u"}), ({"s", "u"}, {"r", "t"}))
    facts = unify(frame(rows)).facts
    for relation in ("r", "t"):
        assert set(facts.filter(relation=relation)["head"].str.slice(0, 4)) <= {"film"}
    for relation in ("s", "u"):
        assert set(facts.filter(relation=relation)["tail"].str.slice(0, 4)) <= {"film"}


def test_a_fact_from_a_node_to_itself_stays() -> None:
    rows = [*films(4), *turned(films(4), "director.film"), ("x", "director.film", "x"), ("y", "film.directed_by", "y")]
    found = unify(frame(rows)).facts
    assert ("x", "director.film", "x") in found.rows()
    assert ("y", "film.directed_by", "y") in found.rows()
    assert ("x", "film.directed_by", "x") not in found.rows()


def test_nothing_to_unify() -> None:
    rows = [("a", "r", "b"), ("b", "s", "c")]
    assert unify(frame(rows)).facts.rows() == rows
    assert unify(frame([])).facts.height == 0


NODES, RELATIONS = st.sampled_from("abcdefg"), st.sampled_from(["r", "s", "t", "u"])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(NODES, RELATIONS, NODES), max_size=80), st.randoms())
def test_what_was_connected_stays_connected(rows: Rows, random: object) -> None:
    before = unify(frame(rows), least_shared=2)
    assert {frozenset((head, tail)) for head, _, tail in rows} == {
        frozenset((head, tail)) for head, _, tail in before.facts.rows()
    }
    assert set(before.facts["relation"]) <= {relation for _, relation, _ in rows}
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    after = unify(frame(shuffled), least_shared=2)
    assert after.facts.equals(before.facts)
    assert after.groups == before.groups
    again = unify(before.facts, least_shared=2)
    assert set(again.facts["relation"]) <= set(before.facts["relation"])


def test_every_fact_is_said_by_the_relation_of_its_group() -> None:
    rows = films(4) + turned(films(4, start=1), "director.film")
    found = unify(frame(rows))
    (group,) = found.groups
    names = {group.along[0]: group.pairs, group.against[0]: frozenset((b, a) for a, b in group.pairs)}
    for name, pairs in names.items():
        assert set(found.facts.filter(relation=name).select("head", "tail").rows()) == set(pairs)
