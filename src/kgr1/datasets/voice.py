"""How an expert words what it does: the thought of a situation, with the word of the question that speaks for a hop."""

from __future__ import annotations

import random

from kgr1.config import Thoughts
from kgr1.datasets.cues import Cues
from kgr1.datasets.paths import Hop
from kgr1.datasets.phrasing import think
from kgr1.types import Question


class Voice:
    """What every walk of an expert says alike; a walk brings the attributes."""

    question: Question
    rng: random.Random
    cues: Cues | None
    thoughts: Thoughts
    quoted: set[str]  # cues of the hops that are done

    def _think(self, situation: str, **words: str) -> str:
        return think(situation, self.rng, thoughts=self.thoughts, **words)

    def _cue(self, hop: Hop) -> str:
        if self.cues is None:
            return ""
        return self.cues.find(self.question, str(hop), self.question.gold_path, used=self.quoted) or ""

    def _choice(self, hop: Hop) -> str:
        cue = self._cue(hop)
        situation = f"{'choose_cue' if cue else 'choose'}{'_time' if hop.time is not None else ''}"
        return self._think(situation, relation=hop.relation, cue=cue, time=hop.time or "")
