"""The expert of an agent that asks about all that was found at once (``agent.sets``, :mod:`kgr1.agent.found`).

Every hop takes two turns, however many entities it starts from: the relations of both directions are listed, and one is
followed. The expert answers ``["*"]``, which is what its last query found, or what the queries from two topics share.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kgr1.config import Thoughts
from kgr1.datasets.cues import Cues
from kgr1.datasets.paths import Hop, matches_gold
from kgr1.datasets.steps import GiveUpError, Step
from kgr1.datasets.voice import Voice
from kgr1.graph.api import KnowledgeGraph
from kgr1.graph.names import is_identifier
from kgr1.types import FOUND, Answer, Observation, Operation, Query, Question

MAX_MEMBERS = 40
"""Entities that a hop may start from; more than that are seldom shown in one result."""


@dataclass
class SetWalk(Voice):
    """One attempt at a question; :meth:`run` may be called once."""

    question: Question
    graph: KnowledgeGraph
    rng: random.Random
    max_turns: int
    wrong: int | None = None
    """The branch that begins with a wrong relation and a recovery; None for no mistake."""
    cues: Cues | None = None
    thoughts: Thoughts = "brief"
    steps: list[Step] = field(default_factory=list)
    quoted: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)  # topics of the branches so far, which are not found
    ends: list[dict[str, str]] = field(default_factory=list)  # display name -> id of where each branch leads

    def run(self, branches: Sequence[tuple[str, Sequence[Hop]]]) -> list[Step] | None:
        """The steps for (topic, path) branches; None if this attempt does not end with the gold answers."""
        if len({topic for topic, _ in branches}) < len(branches):
            return None  # to the agent these are one branch, of which the last result counts
        try:
            for number, (topic, path) in enumerate(branches):
                self.ends.append(self._branch(number, topic, path))
        except GiveUpError:
            return None
        answer = self._found(_common(self.ends))
        if not matches_gold(answer, self.question.answers):
            return None
        situation = "answer_common" if len(self.ends) > 1 else "answer_many" if len(answer) > 1 else "answer_one"
        self.steps.append(Step(think=self._think(situation), answer=Answer(names=(FOUND,))))
        return self.steps if len(self.steps) <= self.max_turns else None

    def _branch(self, number: int, topic: str, hops: Sequence[Hop]) -> dict[str, str]:
        """Walk one branch; returns display name -> id of its end."""
        frontier: Mapping[str, str] = {topic: topic}
        for index, hop in enumerate(hops):
            here = topic if index == 0 else FOUND
            self._say(self._listing(number, index, hop, frontier), _relations(here))
            if index == 0 and self.wrong == number:
                self._mistake(topic, hop)
                self._say(self._think("fix_branch", relation=hop.relation), hop.entities(here))
            else:
                self._say(self._choice(hop), hop.entities(here))
            found = self._follow(frontier, hop)
            if index == 0:
                self.asked |= {topic, *(answer.query.entity for answer in found)}
            end = _results(found)
            self.quoted.add(self._cue(hop))
            frontier = self._found(end)
            if not frontier or (index + 1 < len(hops) and len(frontier) > MAX_MEMBERS):
                raise GiveUpError
            if self.ends and index + 1 < len(hops) and _common([*self.ends, end]):
                raise GiveUpError  # what is found is what they share, and the way goes on from more than that
        return end

    def _found(self, members: Mapping[str, str]) -> Mapping[str, str]:
        """``members`` without the topics that were asked about, unless nothing else is left."""
        return {name: key for name, key in members.items() if name not in self.asked} or members

    def _follow(self, frontier: Mapping[str, str], hop: Hop) -> list[Observation]:
        """The answer of each of the frontier to a hop."""
        queries = [
            hop.entities(name).model_copy(update={"graph_id": self.question.graph_id}) for name in sorted(frontier)
        ]
        found = self.graph.execute(queries)
        if any(answer.total > len(answer.names) for answer in found):
            raise GiveUpError
        return found

    def _mistake(self, topic: str, hop: Hop) -> None:
        """A wrong relation from the topic, which is not to be imitated."""
        listing = hop.relations(topic).model_copy(update={"graph_id": self.question.graph_id})
        others = [name for name in self.graph.execute([listing])[0].names if name != hop.relation]
        if not others:
            raise GiveUpError
        other = hop._replace(relation=self.rng.choice(others), time=None)
        if matches_gold(_results(self._follow({topic: topic}, other)), self.question.answers):
            raise GiveUpError  # another way to the right answer is no mistake
        self._say(self._choice(hop), other.entities(topic), mistake=True)

    def _say(self, thought: str, query: Query, *, mistake: bool = False) -> None:
        if len(self.steps) + 1 >= self.max_turns:  # one turn is kept for the answer
            raise GiveUpError
        query = query.model_copy(update={"graph_id": self.question.graph_id})
        self.steps.append(Step(think=thought, query=query, mistake=mistake))

    def _listing(self, number: int, index: int, hop: Hop, frontier: Mapping[str, str]) -> str:
        direction = "head" if hop.backward else "tail"
        if index == 0:
            return self._think(
                f"start_again_{direction}" if number else f"start_{direction}", topic=next(iter(frontier))
            )
        if all(map(is_identifier, frontier)):
            return self._think(f"through_{direction}")
        cue = self._cue(hop)
        return self._think(f"next_cue_{direction}" if cue else f"next_{direction}", cue=cue)


def _results(answers: Sequence[Observation]) -> dict[str, str]:
    """Display name -> id of all that some answers hold."""
    return {name: key for answer in answers for name, key in zip(answer.names, answer.ids, strict=True)}


def _common(ends: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """What all of some results share."""
    return {name: key for name, key in ends[0].items() if all(name in other for other in ends)}


def _relations(entity: str) -> Query:
    """The one listing there is: it shows both directions."""
    return Query(operation=Operation.GET_TAIL_RELATIONS, entity=entity)
