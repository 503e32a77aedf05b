"""Expert trajectories made by the program: the material of the cold start (SPEC section 6).

The expert walks the question's path on the real graph and writes the turns that a good agent would write. It may also
make one realistic mistake and recover from it. Whatever it returns has been checked against the graph: the last step
lists exactly the gold answers, with names copied from the results.

Path encoding (``Question.gold_path``): relation names from the topic, ``^r`` walks ``r`` from tail to head. ``&``
starts the branch of the next topic of an intersection: ``("r1", "&", "^r2")`` means "``r1`` of the first topic" and
"what points with ``r2`` to the second topic", and the answers are the entities that stand in both results. ``@`` and a
time filter behind a relation limit it to facts of that time: ``("award received", "@before 1990")``.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from kgr1.config import Thoughts
from kgr1.datasets.cues import Cues
from kgr1.datasets.early import stop_early
from kgr1.datasets.paths import Hop, find_path, matches_gold, parse_path
from kgr1.datasets.search import with_paths
from kgr1.datasets.set_expert import MAX_MEMBERS, SetWalk
from kgr1.datasets.steps import GiveUpError, Step
from kgr1.datasets.voice import Voice
from kgr1.datasets.wander import wander
from kgr1.graph.api import KnowledgeGraph
from kgr1.graph.names import is_identifier
from kgr1.graph.words import question_words
from kgr1.types import Answer, Observation, Query, Question

MISTAKES = ("name", "relation", "branch", "direction")
"""Kinds of mistakes: misspelt entity, guessed relation, wrong relation, wrong direction."""

TIME_MISTAKE = "time"
"""One more where the path has a time: to leave it out."""


class Habits(NamedTuple):
    """How the expert writes and looks around."""

    thoughts: Thoughts = "varied"
    outwards_first: bool = False
    """List the outgoing relations first, and the incoming ones where the former do not have what is needed. Which way a
    hop goes cannot always be read from a question; this way what was shown decides and nothing has to be guessed."""
    sets: bool = False
    """Ask about all that was found at once, for an agent that can (``agent.sets``)."""


USUAL = Habits()


def expert_steps(
    question: Question,
    graph: KnowledgeGraph,
    rng: random.Random,
    *,
    max_turns: int,
    recovery: bool = False,
    reuse_relations: bool = False,
    max_answers: int = 30,
    cues: Cues | None = None,
    habits: Habits = USUAL,
) -> list[Step] | None:
    """Turns that solve the question, or None if the expert cannot do it in ``max_turns`` turns with the answer.

    Each hop lists the relations once and then asks every entity of the frontier. The path is ``gold_path`` or, without
    one, a shortest path whose end is exactly the gold set (up to three hops, a bounded search). If the gold set leaves
    out the topic itself ("other films by the director of X"), so does the expert.

    ``recovery`` puts in one mistake and its recovery; None if none fits into the turns. ``reuse_relations`` lets the
    expert skip a listing when an earlier one of the same direction has shown the relation, but only where the full
    walk would not fit. Questions with more than ``max_answers`` gold answers are not solved: a long list does not fit
    into an observation. With ``cues`` the thoughts name the word of the question that a relation stands for.
    ``habits`` say how it words its thoughts and where it looks first.
    Raises :class:`kgr1.errors.GraphServerError` if the graph does not answer.
    """
    if not question.topics or not 0 < len(question.answers) <= max_answers:
        return None
    found = (question.topics, parse_path(question.gold_path))
    if not found[1]:
        found = find_path(question, graph, max_frontier=MAX_MEMBERS if habits.sets else max_turns)
    topics, branches = found
    if not branches or len(branches) > len(topics):
        return None
    if habits.sets:
        wrong = rng.randrange(len(branches)) if recovery else None
        walk_sets = SetWalk(question, graph, rng, max_turns, wrong, cues, habits.thoughts)
        return walk_sets.run(list(zip(topics, branches, strict=False)))
    plans: list[tuple[str, int] | None] = [None]
    if recovery:
        hops = [hop for branch in branches for hop in branch]
        # Who looks both ways in a fixed order has no direction to mistake.
        kinds = [kind for kind in MISTAKES if kind != "direction" or not habits.outwards_first]
        plans = [(kind, number) for kind in kinds for number in range(len(hops))]
        plans += [(TIME_MISTAKE, number) for number, hop in enumerate(hops) if hop.time is not None]
        rng.shuffle(plans)
    for plan in plans:
        for reuse in (False, True) if reuse_relations and plan is None else (False,):
            for without_topic in (False, True):
                walk = _Walk(question, graph, rng, max_turns, plan, reuse, without_topic, cues, habits)
                steps = walk.run(list(zip(topics, branches, strict=False)))
                if steps is not None:
                    return steps
    return None


def expert_dataset(
    questions: Sequence[Question],
    graph: KnowledgeGraph,
    *,
    count: int,
    seed: int,
    max_turns: int,
    recovery_share: float,
    reuse_relations: bool = False,
    wander_share: float = 0.0,
    early_share: float = 0.0,
    near_share: float = 0.0,
    habits: Habits = USUAL,
) -> list[tuple[Question, list[Step]]]:
    """Up to ``count`` solved questions with their steps, ``recovery_share`` of them with a mistake.

    With the probability ``wander_share`` a question is walked at random instead (:mod:`kgr1.datasets.wander`), and
    with ``early_share`` only up to the last hop but one (:mod:`kgr1.datasets.early`). ``near_share`` of the result, as
    far as there are, are questions to whose answers no path leads exactly: the expert answers with where the best path
    ends, if that has an F1 of :data:`kgr1.datasets.search.NEAR` at least.

    Questions are taken in an order drawn from ``seed``, each at most once; the result is shorter than ``count`` if too
    few can be solved. A question without room for a mistake becomes a plain trajectory, and a later one makes up for
    it. The same arguments give the same trajectories.
    """
    order = list(range(len(questions)))
    random.Random(seed).shuffle(order)
    most = MAX_MEMBERS if habits.sets else max_turns
    known, near = with_paths(questions, order, graph, count=count, near=round(near_share * count), max_frontier=most)
    cues = Cues(known)
    order.sort(key=lambda index: index not in near)
    walk = partial(expert_steps, max_turns=max_turns, habits=habits)
    result: list[tuple[Question, list[Step]]] = []
    recovered = 0
    for index in order:
        if len(result) >= count:
            break
        question = questions[index]
        # Each question has its own stream, so that one trajectory does not depend on the others.
        own = random.Random(f"{seed}:{question.id}")
        # A random walk stands for no word of the question.
        if wander_share and own.random() < wander_share:
            other, words = wander(question, graph, own), None
        elif early_share and own.random() < early_share:
            other, words = stop_early(question, graph), cues
        else:
            other, words = known[index], cues
        if other is None:
            continue
        steps, own_path = None, other is known[index]
        if own_path and recovered < recovery_share * (len(result) + 1):
            steps = walk(other, graph, own, recovery=True, cues=cues)
            recovered += steps is not None
        if steps is None:
            steps = walk(other, graph, own, reuse_relations=reuse_relations and own_path, cues=words)
        if steps is not None:
            # The prompt names all topics, also those that the found path does not need.
            result.append((question if own_path else other, steps))
    return result


@dataclass
class _Walk(Voice):
    """One attempt at a question; :meth:`run` may be called once."""

    question: Question
    graph: KnowledgeGraph
    rng: random.Random
    max_turns: int
    plan: tuple[str, int] | None  # kind of mistake and the number of the hop where it happens
    reuse: bool
    without_topic: bool
    cues: Cues | None
    habits: Habits
    steps: list[Step] = field(default_factory=list)
    seen: set[tuple[str, bool]] = field(default_factory=set)  # relations listed so far, with their direction
    hop_number: int = 0
    quoted: set[str] = field(default_factory=set)  # cues of the hops that are done

    def __post_init__(self) -> None:
        self.thoughts = self.habits.thoughts

    def run(self, branches: Sequence[tuple[str, Sequence[Hop]]]) -> list[Step] | None:
        """The steps for (topic, path) branches; None if this attempt does not end with the gold answers."""
        try:
            results = [self._branch(number, topic, path) for number, (topic, path) in enumerate(branches)]
        except GiveUpError:
            return None
        common = {name: ids for name, ids in results[0].items() if all(name in other for other in results)}
        if not matches_gold(common, self.question.answers):
            return None
        if self.plan is not None and not any(step.mistake for step in self.steps):
            return None
        names = tuple(sorted(common))
        situation = "answer_many" if len(names) > 1 else "answer_one"
        if len(results) > 1:
            situation = "answer_common"
        elif self.without_topic:
            situation = "answer_without_topic"
        self.steps.append(Step(think=self._think(situation), answer=Answer(names=names)))
        return self.steps

    def _branch(self, number: int, topic: str, hops: Sequence[Hop]) -> dict[str, str]:
        """Walk one branch; returns display name -> id of its end."""
        frontier = {topic: topic}
        for index, hop in enumerate(hops):
            again = "_again" if number else ""
            situation = f"start{again}" if index == 0 else "next"
            frontier = self._hop(frontier, hop, situation, topic)
            if self.without_topic:
                frontier = {name: key for name, key in frontier.items() if name != topic}
            if not frontier:
                raise GiveUpError
            self.hop_number += 1
        return frontier

    def _hop(self, frontier: dict[str, str], hop: Hop, situation: str, topic: str) -> dict[str, str]:
        entities = sorted(frontier)
        mistake = self.plan[0] if self.plan is not None and self.plan[1] == self.hop_number else ""
        thought = ""
        if self.reuse and (hop.relation, hop.backward) in self.seen:
            thought = self._think("known", relation=hop.relation)
        else:
            # Entities that were listed and do not have the relation are not asked for it.
            entities = entities[self._list_relations(entities, hop, situation, topic, mistake) :]
            thought = self._choice(hop)
            if mistake == "branch":
                self._wrong_branch(entities[0], hop, thought)
                thought = self._think("fix_branch", relation=hop.relation)
            elif mistake == TIME_MISTAKE:
                self._forgotten_time(entities[0], hop)
                thought = self._think("fix_time", time=hop.time or "")
        found: dict[str, str] = {}
        for entity in entities:
            observation = self._ask(thought, hop.entities(entity))
            found.update(zip(observation.names, observation.ids, strict=True))
            thought = self._think("branch", relation=hop.relation)
        # A word that is quoted twice would hide that nothing is left to ask.
        self.quoted.add(self._cue(hop))
        return found

    def _list_relations(self, entities: list[str], hop: Hop, situation: str, topic: str, mistake: str) -> int:
        """Look up relations of the frontier until one entity shows the relation of this hop; returns its position."""
        inwards_later = self.habits.outwards_first and hop.backward
        direction = "head" if hop.backward and not inwards_later else "tail"
        if situation == "next" and all(map(is_identifier, entities)):
            situation = "through"
        cue = self._cue(hop) if situation == "next" else ""
        thought = self._think(
            f"{situation}_cue_{direction}" if cue else f"{situation}_{direction}", topic=topic, cue=cue
        )
        if mistake == "name":
            self._wrong_name(entities[0], hop, thought)
            thought = self._think("fix_name")
        elif mistake == "relation":
            self._guess(entities[0], hop)
            thought = self._think("fix_relation")
        elif mistake == "direction":
            other = "tail" if hop.backward else "head"
            self._wrong_direction(entities[0], hop, self._think(f"{situation}_{other}", topic=topic))
            thought = self._think(f"fix_direction_{direction}")
        for position, entity in enumerate(entities):
            if inwards_later:
                outgoing = self._ask(thought, Hop(hop.relation).relations(entity))
                if hop.relation in outgoing.names:
                    raise GiveUpError  # nothing that was shown says that the other way is meant
                thought = self._think("fix_direction_head")
            observation = self._ask(thought, hop.relations(entity))
            self.seen.update((name, hop.backward) for name in observation.names)
            if hop.relation in observation.names:
                return position
            thought = self._think("look_elsewhere")
        raise GiveUpError

    def _ask(self, thought: str, query: Query, *, mistake: bool = False) -> Observation:
        if len(self.steps) + 1 >= self.max_turns:  # one turn is kept for the answer
            raise GiveUpError
        query = query.model_copy(update={"graph_id": self.question.graph_id})
        (observation,) = self.graph.execute([query])
        if observation.total > len(observation.names):
            raise GiveUpError
        self.steps.append(Step(think=thought, query=query, mistake=mistake))
        return observation

    def _wrong_name(self, entity: str, hop: Hop, thought: str) -> None:
        observation = self._ask(thought, hop.relations(misspell(entity, self.rng)), mistake=True)
        if observation.error is None:
            raise GiveUpError  # the backend is forgiving, or the other name exists too

    def _guess(self, entity: str, hop: Hop) -> None:
        words = [word for word in question_words(self.question) if word != hop.relation]
        if not words:
            raise GiveUpError
        word = self.rng.choice(words)
        thought = self._think("guess_relation", cue=word)
        if self._ask(thought, Hop(word, hop.backward).entities(entity), mistake=True).error is None:
            raise GiveUpError

    def _wrong_branch(self, entity: str, hop: Hop, right: str) -> None:
        (listing,) = self.graph.execute([hop.relations(entity).model_copy(update={"graph_id": self.question.graph_id})])
        others = [name for name in listing.names if name != hop.relation]
        if not others:
            raise GiveUpError
        other = self.rng.choice(others)
        thought = right.replace(f'"{hop.relation}"', f'"{other}"')
        observation = self._ask(thought, hop._replace(relation=other).entities(entity), mistake=True)
        if observation.error is not None or matches_gold(
            dict(zip(observation.names, observation.ids, strict=True)), self.question.answers
        ):
            raise GiveUpError  # another way to the right answer is no mistake

    def _forgotten_time(self, entity: str, hop: Hop) -> None:
        thought = self._choice(hop._replace(time=None))
        observation = self._ask(thought, hop._replace(time=None).entities(entity), mistake=True)
        if observation.error is not None or matches_gold(
            dict(zip(observation.names, observation.ids, strict=True)), self.question.answers
        ):
            raise GiveUpError  # the right answer without the time is no mistake

    def _wrong_direction(self, entity: str, hop: Hop, thought: str) -> None:
        observation = self._ask(thought, hop.back.relations(entity), mistake=True)
        if hop.relation in observation.names:
            raise GiveUpError


def misspell(name: str, rng: random.Random) -> str:
    """A slip that people and models make: lower case, other separators, or a letter left out; never the name itself."""
    slips = [name.lower(), name.title(), name.replace("_", " "), name.replace(" ", "_")]
    inner = [i for i in range(1, len(name) - 1) if name[i].isalpha()]
    if inner:
        position = rng.choice(inner)
        slips += [name[:position] + name[position + 1 :], name[:position] + name[position] + name[position:]]
    slips = [slip for slip in slips if slip != name] or [name + "s"]
    return rng.choice(slips)


__all__ = ["MISTAKES", "Habits", "Step", "expert_dataset", "expert_steps", "misspell"]
