"""Nodes without a name are contracted: two facts through one become a fact with a composite relation."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import polars as pl
import pytest
import zstandard
from graph_strategies import Rows
from hypothesis import given
from hypothesis import strategies as st

import kgr1
from full_disk import file_size_limit
from kgr1.errors import GraphError, GraphFormatError
from kgr1.graph import contract as contracting
from kgr1.graph.build import BuildProgress
from kgr1.graph.contract import Contraction, contract, contract_files
from kgr1.graph.names import is_identifier
from kgr1.graph.readers import ReadOptions

FILM = [
    ("Alien", "film.film.starring", "m.0x"),
    ("m.0x", "film.performance.actor", "Weaver"),
    ("m.0x", "film.performance.character", "Ripley"),
    ("Alien", "directed by", "Scott"),
]


def run(rows: Rows, most_neighbours: int = 64) -> Contraction:
    return contract(frame(rows), most_neighbours=most_neighbours)


def frame(rows: Rows) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict.fromkeys(("head", "relation", "tail"), pl.String), orient="row")


def facts(rows: Rows) -> Rows:
    return run(rows).facts.rows()


def test_a_forward_entry_leads_to_every_other_neighbour() -> None:
    found = run(FILM)
    assert found.facts.rows() == [
        ("Alien", "directed by", "Scott"),
        ("Alien", "film.film.starring/actor", "Weaver"),
        ("Alien", "film.film.starring/character", "Ripley"),
        # Neither of these has a fact into the node, so they are joined both ways.
        ("Ripley", "film.performance.character_of/actor", "Weaver"),
        ("Weaver", "film.performance.actor_of/character", "Ripley"),
    ]
    assert (found.facts_read, found.contracted, found.nameless_left, found.composite) == (4, 1, 0, 4)


def test_facts_into_the_node_from_both_sides() -> None:
    rows = [("Ann", "a.spouse", "m.0x"), ("Ben", "b.partner", "m.0x")]
    assert facts(rows) == [("Ann", "a.spouse/partner_of", "Ben"), ("Ben", "b.partner/spouse_of", "Ann")]


def test_a_leave_prefers_the_arrow_out_of_the_node() -> None:
    rows = [("Ann", "spouse_s", "m.0x"), ("m.0x", "x.spouse", "Ann"), ("Ben", "spouse_s", "m.0x")]
    # Ann is left to along x.spouse, and Ben, without a fact from the node, against spouse_s.
    assert facts(rows) == [("Ann", "spouse_s/spouse_s_of", "Ben"), ("Ben", "spouse_s/spouse", "Ann")]


def test_every_relation_of_an_end_counts() -> None:
    rows = [("A", "r", "m.0x"), ("A", "s", "m.0x"), ("m.0x", "t", "B"), ("m.0x", "u", "B")]
    assert facts(rows) == [("A", "r/t", "B"), ("A", "r/u", "B"), ("A", "s/t", "B"), ("A", "s/u", "B")]


def test_the_whole_relation_where_short_ones_would_be_alike() -> None:
    rows = [
        *[("A", "in", "m.0x"), ("m.0x", "x.to", "B"), ("C", "in", "m.0y"), ("m.0y", "y.to", "D")],
        *[("E", "other", "m.0z"), ("m.0z", "y.to", "F")],
    ]
    assert facts(rows) == [("A", "in/x.to", "B"), ("C", "in/y.to", "D"), ("E", "other/to", "F")]


def test_a_relation_that_ends_with_a_dot_is_written_as_a_whole() -> None:
    assert facts([("A", "in", "m.0x"), ("m.0x", "to.", "B")]) == [("A", "in/to.", "B")]


@pytest.mark.parametrize(
    "rows",
    [
        [("A", "r", "m.0x")],  # a dead end
        [("A", "r", "m.0x"), ("m.0x", "s", "A"), ("m.0x", "t", "m.0x")],  # one neighbour, and itself
        [("A", "r", "m.0x"), ("m.0x", "s", "m.0y"), ("m.0y", "t", "B")],  # a neighbour without a name
        [("A", "r", "B"), ("B", "s", "C")],  # names everywhere
    ],
)
def test_what_stays_as_it_is(rows: Rows) -> None:
    found = run(rows)
    assert found.facts.rows() == sorted(rows)
    assert found.contracted == found.composite == 0


def test_a_loop_at_a_contracted_node_goes() -> None:
    assert facts([("A", "r", "m.0x"), ("m.0x", "loop", "m.0x"), ("m.0x", "s", "B")]) == [("A", "r/s", "B")]


def test_a_hub_stays() -> None:
    rows = [("m.0x", "has", f"E{number}") for number in range(65)]
    assert run(rows).contracted == 0
    assert run(rows[:64]).composite == 64 * 63
    assert run(rows[:4], most_neighbours=3).contracted == 0


def test_repeated_facts_are_one() -> None:
    rows = [("A", "r", "m.0x"), ("m.0x", "s", "B"), ("A", "r", "m.0y"), ("m.0y", "s", "B"), ("A", "r", "m.0x")]
    found = run(rows)
    assert found.facts.rows() == [("A", "r/s", "B")]
    assert (found.facts_read, found.contracted, found.composite) == (4, 2, 1)


def test_a_composite_fact_that_is_there_already_is_one() -> None:
    assert facts([("A", "r", "m.0x"), ("m.0x", "s", "B"), ("A", "r/s", "B")]) == [("A", "r/s", "B")]


def test_names_say_what_has_one() -> None:
    rows = [("m.0a", "r", "m.0x"), ("m.0x", "s", "m.0b")]
    assert run(rows).contracted == 0  # every neighbour is nameless
    labels = [("m.0a", "Ann"), ("m.0b", "Ben"), ("m.0b", "m.0b"), ("m.0x", " "), ("m.0c", "Cleo")]
    found = contract(frame(rows), pl.DataFrame(labels, schema=["id", "label"], orient="row"))
    assert found.facts.rows() == [("m.0a", "r/s", "m.0b")]


NODES = st.sampled_from(["A", "B", "C", "D", "m.0w", "m.0x", "m.0y", "m.0z"])
RELATIONS = st.sampled_from(["p.r", "q.r", "s", "p.r_of", "r_of"])
GRAPHS = st.lists(st.tuples(NODES, RELATIONS, NODES), min_size=1, max_size=25)


def plainly(rows: Rows, most: int) -> tuple[set[str], set[tuple[str, str, str, str]]]:
    """The nodes to contract, and (head, enter, leave, tail) of each fact to make, node by node."""
    known = set(rows)
    near: defaultdict[str, set[str]] = defaultdict(set)
    for head, _, tail in known:
        near[head] |= {tail} - {head}
        near[tail] |= {head} - {tail}
    gone = {m for m in near if is_identifier(m) and 2 <= len(near[m]) <= most and not any(map(is_identifier, near[m]))}
    walks = set()
    for m in gone:
        for a in near[m]:
            entries = {r for h, r, t in known if (h, t) == (a, m)}
            enter = entries or {f"{r}_of" for h, r, t in known if (h, t) == (m, a)}
            for b in near[m] - {a}:
                if not entries and any((h, t) == (b, m) for h, _, t in known):
                    continue
                leave = {r for h, r, t in known if (h, t) == (m, b)}
                leave = leave or {f"{r}_of" for h, r, t in known if (h, t) == (b, m)}
                walks |= {(a, e, x, b) for e in enter for x in leave}
    return gone, walks


@given(GRAPHS, st.integers(2, 4))
def test_against_a_search_node_by_node(rows: Rows, most: int) -> None:
    gone, walks = plainly(rows, most)
    alike = defaultdict(set)
    for _, enter, leave, _ in walks:
        alike[enter, leave.rpartition(".")[2]].add(leave)
    wanted = {row for row in rows if not gone & {row[0], row[2]}}
    for a, enter, leave, b in walks:
        short = leave.rpartition(".")[2]
        wanted.add((a, f"{enter}/{short if len(alike[enter, short]) == 1 else leave}", b))
    found = run(rows, most_neighbours=most)
    assert found.facts.rows() == sorted(wanted)
    assert found.contracted == len(gone)
    nodes = {node for head, _, tail in found.facts.rows() for node in (head, tail)}
    assert found.nameless_left == sum(map(is_identifier, nodes))


def test_dead_ends_go_if_asked_to() -> None:
    rows = [*FILM, ("Alien", "film.film.release", "m.0e"), ("m.0e", "loop", "m.0e"), ("m.0f", "of", "Alien")]
    stays = run(rows)
    assert (stays.contracted, stays.dropped, stays.nameless_left) == (1, 0, 2)
    found = contract(frame(rows), drop_ends=True)
    assert found.facts.rows() == run(FILM).facts.rows()
    assert (found.contracted, found.dropped, found.nameless_left) == (1, 2, 0)
    # What has a name is no dead end, and neither is a node with two neighbours, nameless ones among them.
    rows = [("Scott", "born", "1937"), ("Alien", "cast", "m.0x"), ("m.0x", "actor", "m.0y"), ("m.0y", "name", "Weaver")]
    assert contract(frame(rows), drop_ends=True).facts.rows() == sorted(rows)
    # Ends alone are looked for: what only leads to one stays, unless nothing is left of it.
    chain = [("Alien", "cast", "m.0x"), ("m.0x", "r", "m.0y")]
    cut = contract(frame(chain), drop_ends=True)
    assert (cut.facts.rows(), cut.dropped, cut.nameless_left) == (chain[:1], 1, 1)
    alone = contract(frame([("m.0x", "r", "m.0y"), ("m.0y", "r", "m.0z")]), drop_ends=True)
    assert (alone.facts.rows(), alone.dropped, alone.nameless_left) == ([], 2, 0)
    labelled = contract(frame(rows[1:]), pl.DataFrame({"id": ["m.0x"], "label": ["Role"]}), drop_ends=True)
    assert (labelled.contracted, labelled.dropped) == (1, 0)


@given(GRAPHS, st.integers(2, 4))
def test_dead_ends_against_a_search_node_by_node(rows: Rows, most: int) -> None:
    near: defaultdict[str, set[str]] = defaultdict(set)
    for head, _, tail in rows:
        near[head] |= {tail} - {head}
        near[tail] |= {head} - {tail}
    ends = {node for node in near if is_identifier(node) and len(near[node]) == 1}
    kept = contract(frame(rows), most_neighbours=most)
    found = contract(frame(rows), most_neighbours=most, drop_ends=True)
    # Nothing else changes: ends are no part of what is contracted.
    assert found.facts.rows() == [row for row in kept.facts.rows() if not ends & {row[0], row[2]}]
    assert (found.contracted, found.composite) == (kept.contracted, kept.composite)
    assert (found.dropped, kept.dropped) == (len(ends), 0)
    for result in (found, kept):
        nodes = {node for head, _, tail in result.facts.rows() for node in (head, tail)}
        assert result.nameless_left == sum(map(is_identifier, nodes))


@given(GRAPHS)
def test_composite_facts_are_walks_and_neighbours_stay_joined(rows: Rows) -> None:
    found = facts(rows)
    before, after = ({node for head, _, tail in each for node in (head, tail)} for each in (rows, found))
    gone = before - after
    assert after <= before
    assert all(map(is_identifier, gone))
    steps = {(head, relation, tail) for head, relation, tail in rows}
    steps |= {(tail, f"{relation}_of", head) for head, relation, tail in rows}
    for head, relation, tail in set(found) - set(rows):
        enter, slash, leave = relation.partition("/")
        assert slash
        assert any(
            (head, enter, m) in steps and any(s == m and t == tail and r.endswith(leave) for s, r, t in steps)
            for m in gone
        )
    joined = {frozenset((head, tail)) for head, _, tail in found}
    for m in gone:
        near = {node for head, _, tail in rows if m in (head, tail) for node in (head, tail)} - {m}
        assert all(frozenset((a, b)) in joined for a in near for b in near - {a})


# Files


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "kg.tsv"
    path.write_text("".join("\t".join(row) + "\n" for row in FILM))
    return path


TEXT = (
    "Alien\tdirected by\tScott\nAlien\tfilm.film.starring/actor\tWeaver\nAlien\tfilm.film.starring/character\tRipley\n"
    "Ripley\tfilm.performance.character_of/actor\tWeaver\nWeaver\tfilm.performance.actor_of/character\tRipley\n"
)


def test_files(source: Path, tmp_path: Path) -> None:
    stages: list[str] = []
    report = contract_files([source], tmp_path / "new" / "out.tsv", on_progress=lambda each: stages.append(each.stage))
    assert (tmp_path / "new" / "out.tsv").read_text() == TEXT
    assert (report.facts_read, report.contracted, report.nameless_left, report.composite) == (4, 1, 0, 4)
    assert (report.facts_written, report.relations, report.bytes) == (5, 5, len(TEXT))
    assert list(dict.fromkeys(stages)) == ["reading", "contracting", "saving"]


def test_bytes_are_stable_whatever_the_order(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turned = tmp_path / "turned.tsv.gz"
    turned.write_bytes(gzip.compress(b"".join(reversed(source.read_bytes().splitlines(keepends=True)))))
    for ending, unpack in ((".gz", gzip.decompress), (".zst", lambda data: zstandard.decompress(data, 1 << 20))):
        first, second = tmp_path / f"first.tsv{ending}", tmp_path / f"second.txt{ending}"
        contract_files([source], first)
        monkeypatch.setattr("time.time", lambda: 2e9)
        contract_files([turned, turned], second)
        assert first.read_bytes() == second.read_bytes()
        assert unpack(first.read_bytes()).decode() == TEXT


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    rows = [('"A', "r,", "m.0x"), ("m.0x", 's"', "Ünï 'B'"), ("C", "r", "e\u2028f")]
    (tmp_path / "kg.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    contract_files([tmp_path / "kg.tsv"], tmp_path / "once.tsv")
    report = contract_files([tmp_path / "once.tsv"], tmp_path / "twice.tsv")
    assert report.contracted == 0
    expected = "\"A\tr,/s\"\tÜnï 'B'\nC\tr\te\u2028f\n"
    assert (tmp_path / "once.tsv").read_text() == (tmp_path / "twice.tsv").read_text() == expected


def test_names_and_dates(tmp_path: Path) -> None:
    (tmp_path / "kg.tsv").write_text("m.0a\tr\tm.0x\t1990\nm.0x\ts\tm.0b\t\n")
    (tmp_path / "names.tsv").write_text("m.0a\tAnn\nm.0b\tBen\n")
    report = contract_files([tmp_path / "kg.tsv"], tmp_path / "out.tsv", names=tmp_path / "names.tsv")
    assert (tmp_path / "out.tsv").read_text() == "m.0a\tr/s\tm.0b\n"
    assert report.undated == 1


def test_dead_ends_of_files(source: Path, tmp_path: Path) -> None:
    source.write_text(source.read_text() + "Alien\tfilm.film.release\tm.0e\n")
    kept = contract_files([source], tmp_path / "kept.tsv")
    report = contract_files([source], tmp_path / "out.tsv", drop_ends=True)
    assert (tmp_path / "out.tsv").read_text() == TEXT
    assert (report.ends_dropped, report.nameless_left, report.facts_written) == (1, 0, 5)
    assert (kept.ends_dropped, kept.nameless_left, kept.facts_written) == (0, 1, 6)


def test_bad_lines(source: Path, tmp_path: Path) -> None:
    source.write_text(source.read_text() + "nonsense\n")
    with pytest.raises(GraphFormatError, match="line 5"):
        contract_files([source], tmp_path / "out.tsv")
    assert [path.name for path in tmp_path.iterdir()] == ["kg.tsv"]
    report = contract_files([source], tmp_path / "out.tsv", options=ReadOptions(skip_bad_lines=True))
    assert sum(report.dropped.values()) == 1


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("kg.tsv", "", "no triple"),
        ("kg.csv", 'A,r,"B\tC"\n', "tab or a line break"),
        ("kg.csv", 'A,r,"B\nC"\n', "tab or a line break"),
        ("kg.csv", '"A\rB",r,C\n', "tab or a line break"),
        ("kg.jsonl", '{"id": "1", "graph": [["A", "r", "B"]]}\n', "question graphs"),
    ],
)
def test_sources_that_cannot_be_contracted(tmp_path: Path, name: str, text: str, problem: str) -> None:
    (tmp_path / name).write_bytes(text.encode())
    with pytest.raises(GraphError, match=problem):
        contract_files([tmp_path / name], tmp_path / "out.tsv")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["out", "out.csv", "out.tsv.bz2", "out.gz", "out.nt.gz", ".tsv"])
def test_a_target_must_be_called_as_what_it_is(source: Path, name: str) -> None:
    with pytest.raises(GraphError, match=r"name it \.tsv or \.txt"):
        contract_files([source], source.parent / name)


def test_what_is_there_stays_without_force(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tsv"
    out.write_text("old")
    with pytest.raises(GraphError, match="exists; choose another place, or replace it with --force"):
        contract_files([source], out)
    assert out.read_text() == "old"
    contract_files([source], out, force=True)
    assert out.read_text() == TEXT
    (tmp_path / "folder.tsv").mkdir()
    with pytest.raises(GraphError, match="is a folder"):
        contract_files([source], tmp_path / "folder.tsv", force=True)


def test_a_file_that_appears_meanwhile_stays(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tsv"

    def appear(progress: BuildProgress) -> None:
        out.write_text("other")

    with pytest.raises(GraphError, match="exists"):
        contract_files([source], out, on_progress=appear)
    assert out.read_text() == "other"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kg.tsv", "out.tsv"]


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_no_room_leaves_nothing(source: Path, tmp_path: Path, ending: str) -> None:
    # Around the call alone: what the test runner writes may go to a file, too.
    with pytest.raises(GraphError, match="Cannot write"), file_size_limit(40):
        contract_files([source], tmp_path / f"out.tsv{ending}")
    assert [path.name for path in tmp_path.iterdir()] == ["kg.tsv"]


KILLED = """
import os, signal, sys
from pathlib import Path
from kgr1.graph.contract import contract_files

os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
contract_files([Path(sys.argv[1])], Path(sys.argv[2]), force=True)
"""


@pytest.mark.parametrize("old", [None, "old"])
def test_a_crash_while_writing_leaves_the_target_as_it_was(source: Path, tmp_path: Path, old: str | None) -> None:
    out = tmp_path / "out.tsv"
    if old:
        out.write_text(old)
    environment = os.environ | {"PYTHONPATH": str(Path(kgr1.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", KILLED, source, out], env=environment, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert (out.read_text() if out.exists() else None) == old
    contract_files([source], out, force=True)
    assert out.read_text() == TEXT


def test_a_large_table_is_written_in_parts(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contracting, "_WRITE_ROWS", 2)
    contract_files([source], tmp_path / "out.tsv")
    assert (tmp_path / "out.tsv").read_text() == TEXT


def test_relations_of_the_new_file_are_unified_on_request(tmp_path: Path) -> None:
    """Who played in which film is said in both directions, by films that know the one or the other."""
    rows: Rows = []
    for number in range(8):
        rows.append((f"film {number}", "film.film.starring", f"m.0{number}"))
        rows.append((f"m.0{number}", "film.performance.actor", f"actor {number}"))
        if number >= 4:
            rows.append((f"actor {number}", "film.actor.film", f"m.0{number}"))
    source, plain, unified = tmp_path / "facts.tsv", tmp_path / "plain.tsv", tmp_path / "unified.tsv"
    source.write_text("".join("\t".join(row) + "\n" for row in rows), "utf-8")
    assert contract_files([source], plain).unified is None
    report = contract_files([source], unified, unify_relations=True)
    relations = {line.split("\t")[1] for line in plain.read_text("utf-8").splitlines()}
    assert {"film.film.starring/actor", "film.actor.film/starring_of"} <= relations
    found = sorted(line.split("\t") for line in unified.read_text("utf-8").splitlines())
    assert report.unified == 1
    assert (report.relations, report.facts_written) == (2, len(found)) == (2, 16)
    ways = {relation: {(head, tail) for head, name, tail in found if name == relation} for _, relation, _ in found}
    assert sorted(map(len, ways.values())) == [8, 8]
