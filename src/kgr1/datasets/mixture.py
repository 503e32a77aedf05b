"""Training material from several graphs at once (a small model that sees one graph learns that graph).

A mixture is a TOML file with one table per part::

    [[part]]
    name = "films"
    graph = "films.kg"
    questions = "films/questions.jsonl"    # leave it out, and questions are made from the graph
    weight = 2.0                           # share of the mixture, relative to the other parts
    entity_styles = ["as_is", "snake"]     # spellings of names, see kgr1.datasets.styles
    relation_styles = ["as_is", "spaced"]

Each pair of styles makes a graph of its own with the part's questions rewritten to match. What dev and test splits ask
about is kept out of every part: questions with a held-out text or topic are dropped, and made questions do not start
at a held-out topic of any part. With ``held_out_topics = "graph"`` at the top of the file the topics of another graph's
sets do not count: two graphs know different things about Germany. ``held_out = ["other/questions.jsonl"]`` there fences
off sets that are no part of the mixture, such as those of a graph that is left out to test transfer.

What a part is trained on depends on the seed, its name and what is held out, so it is the same without another part.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import chain, compress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from kgr1.config import read_toml, validate
from kgr1.datasets.styles import AS_IS, EXCHANGED, entity_renaming, relation_renaming, restyle
from kgr1.datasets.synthetic import KINDS, TEMPORAL, generate_questions
from kgr1.datasets.walks import SPLITS, topic_split
from kgr1.errors import DatasetError
from kgr1.graph.api import KnowledgeGraph
from kgr1.graph.family import GraphFamily, join_id
from kgr1.graph.names import is_identifier
from kgr1.graph.renaming import RenamedGraph
from kgr1.graph.temporal import Span
from kgr1.rewards.answer import normalise
from kgr1.types import Question, Record, Triple

TRAIN, DEV = "train", "dev"
"""The splits of made questions."""

TRAIN_SHARE = dict(SPLITS)[TRAIN] / (dict(SPLITS)[TRAIN] + dict(SPLITS)[DEV])
"""Of made questions, by their topics."""

_WORD = re.compile(r"[^\W\d_]{2,}")


HeldOutTopics = Literal["all", "graph"]


class Part(Record):
    """One source of questions and the graph that answers them."""

    name: str = Field(pattern=r"^[\w.-]+$", description="what run files call it")
    graph: str = Field(description="a built graph, a triple file, or another graph that the command line takes")
    questions: str | None = Field(default=None, description="a question file or folder; None makes questions")
    subset: str | None = None
    split: str = "train"
    weight: float = Field(default=1.0, gt=0, description="share of the mixture, relative to the other parts")
    limit: int | None = Field(default=None, ge=1, description="at most this many questions of a set")
    generate: int = Field(default=400, ge=1, description="questions to make where there is no set")
    hops: tuple[int, ...] = Field(default=(1, 2, 3), description="of made questions")
    kinds: tuple[str, ...] = Field(default=KINDS, description="of made questions")
    min_hops: int = Field(default=0, ge=0, description="questions of a set whose answers are nearer are left out")
    max_hops: int = Field(default=0, ge=0, description="and those whose answers are farther; 0 leaves none out")
    max_answers: int = Field(default=20, ge=1, description="questions with more answers are left out")
    incomplete: bool = Field(
        default=False, description="take the questions that the others leave out, without the answers not in the graph"
    )
    entity_styles: tuple[str, ...] = Field(default=(AS_IS,), min_length=1)
    relation_styles: tuple[str, ...] = Field(default=(AS_IS,), min_length=1)
    skip_relations: tuple[str, ...] = Field(default=(), description="patterns of relations not to make questions of")
    skip: int = Field(
        default=0, ge=0, description="trajectories to leave out: those that a run with the same seed has learned"
    )

    @property
    def learned_split(self) -> str:
        """The split that is trained on; made questions have one for it."""
        return TRAIN if self.questions is None else self.split


class Recipe(Record):
    """The parts of a mixture, and question sets that must not be trained on."""

    held_out: tuple[str, ...] = ()
    held_out_topics: HeldOutTopics = Field(default="all", description="of all sets, or of those on the same graph only")

    part: tuple[Part, ...] = Field(min_length=1)

    def leave_out(self, names: Sequence[str]) -> tuple[Recipe, tuple[Part, ...]]:
        """The recipe without the parts of these names or patterns (``metaqa*``), and those parts.

        Raises :class:`DatasetError` for a name that no part has, and if no part is left.
        """
        for name in names:
            if not any(fnmatchcase(part.name, name) for part in self.part):
                known = ", ".join(part.name for part in self.part)
                raise DatasetError(f"No part of the mixture is called '{name}'; there are {known}.", part=name)
        out = tuple(part for part in self.part if any(fnmatchcase(part.name, name) for name in names))
        left = tuple(part for part in self.part if part not in out)
        if not left:
            raise DatasetError("All parts of the mixture are left out; keep at least one.", parts=list(names))
        return self.model_copy(update={"part": left}), out


class Source(NamedTuple):
    """A part with its graph and the questions of its set, of all splits; none where they are to be made."""

    part: Part
    graph: KnowledgeGraph
    questions: Sequence[Question] = ()


class LeftOut(NamedTuple):
    """A part that is not trained on; what its other splits ask about is held out all the same."""

    part: Part
    questions: Sequence[Question] = ()


class Mixture(NamedTuple):
    """Questions by part, each with the ``graph_id`` of its member of the family of graphs."""

    family: GraphFamily
    questions: dict[str, list[Question]]
    others: dict[str, list[Question]]  # those of the splits that a part is not trained on, as its graph has them
    weights: dict[str, float]
    dropped: dict[str, int]  # questions of a part that were left out: held out, incomplete, too many answers
    skips: dict[str, int]  # trajectories of a part that are not wanted again

    def draw_parts(self, count: int, seed: int) -> dict[str, list[Question]]:
        """``count`` questions by part, by the weights as far as the parts go; all if there are fewer."""
        return _draw_parts(self.questions, self.weights, count, seed)

    def draw(self, count: int, seed: int) -> list[Question]:
        """The questions of :meth:`draw_parts` in random order."""
        return _shuffled(self.draw_parts(count, seed), seed)

    def draw_dev(self, count: int, seed: int, split: str = DEV) -> list[Question]:
        """``count`` development questions, the same number of each part that has such a split, as far as they go.

        Raises :class:`DatasetError` if no part has one besides what it is trained on.
        """
        pools = {name: [q for q in found if q.split == split] for name, found in self.others.items()}
        if not any(pools.values()):
            known = ", ".join(sorted({q.split for found in self.others.values() for q in found if q.split}))
            raise DatasetError(
                f"No part of the mixture has questions of a split '{split}' that it is not trained on; "
                f"{f'choose from {known}' if known else 'none has another split, so name none'}.",
                wanted=split,
            )
        drawn = _draw_parts(pools, dict.fromkeys(self.weights, 1.0), count, seed)
        return _shuffled({name: [_in_member(q, name) for q in found] for name, found in drawn.items()}, seed)


def load_recipe(path: Path) -> Recipe:
    """Read the TOML file of a mixture.

    Raises :class:`kgr1.errors.SettingsError` if it cannot be read, for an unknown key and for a value out of range, and
    :class:`DatasetError` if two parts have one name.
    """
    recipe = validate(Recipe, read_toml(path, "mixture"), source=str(path))
    names = [part.name for part in recipe.part]
    if len(set(names)) != len(names):
        raise DatasetError(f"Two parts of {path} have the same name; give each its own.", path=str(path), names=names)
    return recipe


def mix(
    sources: Sequence[Source],
    *,
    seed: int,
    max_turns: int,
    sets: bool = False,
    held_out: Iterable[Question] = (),
    held_out_topics: HeldOutTopics = "all",
    left_out: Sequence[LeftOut] = (),
) -> Mixture:
    """Put the parts together. The same arguments give the same questions.

    ``max_turns`` and ``sets`` are those of the agent, for the questions that are made.
    ``held_out`` are questions of other sets that must not be trained on, and ``left_out`` parts whose other splits must
    not be. With ``held_out_topics`` "graph" a question of a set may start where a held-out one of another graph starts.
    Raises :class:`DatasetError` if no question is left in a part.
    """
    all_parts: list[Source | LeftOut] = [*sources, *left_out]
    tests = [(one.part.graph, [q for q in one.questions if q.split != one.part.split]) for one in all_parts]
    everything = HeldOut([*chain.from_iterable(found for _, found in tests), *held_out])
    members: dict[str, KnowledgeGraph] = {}
    questions: dict[str, list[Question]] = {}
    others: dict[str, list[Question]] = {}
    dropped: dict[str, int] = {}
    learned: list[tuple[str, list[Question]]] = []
    for source in sources:
        part, found, fence = source.part, source.questions, everything
        if part.questions is None:
            found = _make(source, fence, seed, max_turns, sets)
        elif held_out_topics == "graph":
            fence = everything.only_topics_of(_of_graph(part.graph, tests))
        if part.incomplete:
            found = [_within(question) for question in found if not _complete(question)]
        usable = [question for question in found if _usable(question, part)]
        train = [q for q in usable if q.split == part.learned_split and not fence.holds(q)]
        chosen = _sample(train, part.limit, seed)
        written = _in_styles(source, chosen, members, fence, _part_seed(seed, part.name))
        if not written:
            raise DatasetError(f"No question is left in the part '{part.name}' of the mixture.", part=part.name)
        wanted = sum(question.split == part.learned_split for question in found)
        dropped[part.name] = wanted - len(train) + len(chosen) - len(written)
        questions[part.name] = written
        others[part.name] = [q for q in usable if q.split != part.learned_split]
        learned.append((part.graph, chosen))  # as they were before they were rewritten
        members[part.name] = source.graph
    # Sets have splits of their own, and a rewritten question may have any text: made development questions make way.
    trained = HeldOut(chain.from_iterable(questions.values()))
    for part in (source.part for source in sources if source.part.questions is None):
        fence = trained.only_topics_of(_of_graph(part.graph, learned))
        others[part.name] = [question for question in others[part.name] if not fence.holds(question)]
    weights = {source.part.name: source.part.weight for source in sources}
    skips = {source.part.name: source.part.skip for source in sources}
    return Mixture(GraphFamily(members), questions, others, weights, dropped, skips)


class HeldOut:
    """What dev and test splits ask: texts and topics, by their normal form (SPEC section 8)."""

    def __init__(self, questions: Iterable[Question]) -> None:
        self._texts: set[str] = set()
        self._topics: set[str] = set()
        for question in questions:
            self._texts.add(normalise(question.text))
            self._topics.update(map(normalise, question.topics))

    def only_topics_of(self, questions: Iterable[Question]) -> HeldOut:
        """All the texts, and the topics of some questions."""
        other = HeldOut(questions)
        other._texts |= self._texts
        return other

    def holds(self, question: Question) -> bool:
        """True if training on the question would give away a held-out one."""
        return self.holds_text(question.text) or any(map(self.holds_topic, question.topics))

    def holds_text(self, text: str) -> bool:
        """True if a held-out question has this text."""
        return normalise(text) in self._texts

    def holds_topic(self, name: str) -> bool:
        """True if a held-out question starts there."""
        return normalise(name) in self._topics


def _of_graph(graph: str, found: Iterable[tuple[str, Sequence[Question]]]) -> Iterable[Question]:
    """The questions that go with one graph, out of pairs of a graph and questions."""
    return chain.from_iterable(questions for other, questions in found if other == graph)


def _part_seed(seed: int, name: str) -> int:
    """A seed of its own for each part, which does not depend on what other parts there are."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{name}".encode()).digest()[:4], "big")


def _usable(question: Question, part: Part) -> bool:
    """Rewards are exact only where every gold answer is a node of the graph."""
    near = question.hops is not None and question.hops < part.min_hops
    far = question.hops is not None and 0 < part.max_hops < question.hops
    fits = 0 < len(question.answers) <= part.max_answers
    return bool(question.topics) and _complete(question) and not near and not far and fits


def _complete(question: Question) -> bool:
    return all(gold.id is not None for gold in question.answers)


def _within(question: Question) -> Question:
    """The question with those of its answers that are nodes of the graph."""
    return question.model_copy(update={"answers": tuple(gold for gold in question.answers if gold.id is not None)})


def _in_member(question: Question, member: str) -> Question:
    place = {"id": f"{member}:{question.id}", "graph_id": join_id(member, question.graph_id)}
    return question.model_copy(update=place)


def _draw_parts(
    parts: Mapping[str, list[Question]], weights: Mapping[str, float], count: int, seed: int
) -> dict[str, list[Question]]:
    pools = {name: found for name, found in parts.items() if found}
    shares = quotas(count, {name: weights[name] for name in pools}, pools)
    return {
        name: random.Random(_part_seed(seed, name)).sample(pools[name], len(pools[name]))[:share]
        for name, share in shares.items()
    }


def _shuffled(parts: Mapping[str, list[Question]], seed: int) -> list[Question]:
    drawn = list(chain.from_iterable(parts.values()))
    random.Random(seed).shuffle(drawn)
    return drawn


def _sample(questions: list[Question], limit: int | None, seed: int) -> list[Question]:
    if limit is None or len(questions) <= limit:
        return questions
    return random.Random(seed).sample(questions, limit)


def _dated_triples(source: Source) -> tuple[list[Triple], list[Span] | None]:
    """All facts of a graph and, beside them, their dates."""
    if not source.graph.info().dated:
        raise DatasetError(
            f"The part '{source.part.name}' asks for temporal questions, and its graph has no dates; leave the kind "
            f"'{TEMPORAL}' out, or build the graph with its dates.",
            part=source.part.name,
        )
    rows = list(_scan(source, "dated_triples"))
    return [triple for triple, _ in rows], [span for _, span in rows]


def _scan(source: Source, method: str) -> Any:
    scan = getattr(source.graph, method, None)
    if scan is None:
        raise DatasetError(
            f"The part '{source.part.name}' needs all triples of its graph, which a server does not give; build it "
            "from a file.",
            part=source.part.name,
        )
    return scan()


def _make(source: Source, fence: HeldOut, seed: int, max_turns: int, sets: bool) -> list[Question]:
    """Questions of the splits train and dev.

    A topic has the same split in all parts, by its normal form and the seed of the mixture, so that none is trained on
    with what another one is measured by.
    """
    part = source.part

    def may_ask(name: str) -> bool:
        speaks = bool(_WORD.search(name)) and not is_identifier(name)
        return speaks and split_of(name) in (TRAIN, DEV) and not fence.holds_topic(name)

    def split_of(name: str) -> str:
        return topic_split(normalise(name), seed)

    if TEMPORAL in part.kinds:
        triples, spans = _dated_triples(source)
    else:
        triples, spans = list(_scan(source, "triples")), None
    asked = [not any(fnmatchcase(relation, skip) for skip in part.skip_relations) for _, relation, _ in triples]
    made = generate_questions(
        compress(triples, asked),
        spans=None if spans is None else compress(spans, asked),
        kinds=part.kinds,
        count=round(part.generate / TRAIN_SHARE),
        seed=_part_seed(seed, part.name),
        hops=part.hops,
        max_answers=part.max_answers,
        max_turns=max_turns,
        sets=sets,
        dataset=part.name,
        topics=may_ask,
    )
    splits = [set(map(split_of, question.topics)) for question in made]
    return [q.model_copy(update={"split": split}) for q, (split, *more) in zip(made, splits, strict=True) if not more]


def _in_styles(
    source: Source, questions: Sequence[Question], members: dict[str, KnowledgeGraph], fence: HeldOut, seed: int
) -> list[Question]:
    """Deal the questions out to the pairs of styles; each used pair becomes a member of the family.

    What cannot be rewritten is left out, and what then reads like a held-out question.
    """
    part = source.part
    pairs = [(one, other) for one in part.entity_styles for other in part.relation_styles]
    rng = random.Random(seed)
    dealt: dict[tuple[str, str], list[Question]] = {}
    for question in questions:
        dealt.setdefault(rng.choice(pairs), []).append(question)
    entities: set[str] = set()
    relations: set[str] = set()
    if any(pair != (AS_IS, AS_IS) for pair in dealt):
        for head, relation, tail in _scan(source, "triples"):
            entities.update((head, tail))
            relations.add(relation)
    result: list[Question] = []
    for pair in sorted(dealt):
        one, other = entity_renaming(pair[0], entities, seed), relation_renaming(pair[1], relations)
        member = part.name if pair == (AS_IS, AS_IS) else f"{part.name}~{pair[0]}~{pair[1]}"
        members[member] = source.graph if pair == (AS_IS, AS_IS) else RenamedGraph(source.graph, one, other)
        for question in dealt[pair]:
            written = restyle(question, one, other, strict=pair[0] == EXCHANGED)
            if written is not None and not fence.holds_text(written.text):
                result.append(_in_member(written, member))
    return result


def quotas(count: int, weights: Mapping[str, float], pools: Mapping[str, Sequence[object]]) -> dict[str, int]:
    """How many of ``count`` each part gives: by weight, and what a small part cannot give goes to the others.

    >>> quotas(10, {"a": 1.0, "b": 3.0}, {"a": [None] * 9, "b": [None] * 5})
    {'a': 5, 'b': 5}
    """
    shares = dict.fromkeys(weights, 0)
    open_parts = dict(weights)
    left = min(count, sum(len(pools[name]) for name in weights))
    while left and open_parts:
        total = sum(open_parts.values())
        before = left
        for name, weight in sorted(open_parts.items()):
            more = min(int(before * weight / total), len(pools[name]) - shares[name], left)
            shares[name] += more
            left -= more
        if left == before:  # fewer than one each: the heaviest parts first
            for name in sorted(open_parts, key=lambda name: (-open_parts[name], name)):
                if left and shares[name] < len(pools[name]):
                    shares[name] += 1
                    left -= 1
        open_parts = {name: weight for name, weight in open_parts.items() if shares[name] < len(pools[name])}
    return shares
