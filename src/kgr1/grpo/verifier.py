"""Training a verifier (:mod:`kgr1.models.verifier`) on the paths of an expert and what other relations lead to.

Shapes: n outcomes of a case, F features.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn import functional

from kgr1.agent.prior import MOST_VERIFIED
from kgr1.agent.scout import followed, outcome_of
from kgr1.config import VerifierSettings
from kgr1.datasets.hops import Followed
from kgr1.errors import SettingsError
from kgr1.graph.api import KnowledgeGraph
from kgr1.graph.render import neutralise
from kgr1.grpo.checkpoint import write_file
from kgr1.grpo.fit import fit
from kgr1.models.pretrained import VERIFIER_FILE
from kgr1.models.ranker import Ranker
from kgr1.models.verifier import Verifier
from kgr1.types import Outcome, Question

STANDARDISED = 400
"""Cases whose features say what mean and standard deviation are, before training."""

TOGETHER = 4
"""Cases that are read in one pass; the tokens of each see none of the others, and cost time all the same."""

MOST_NORM = 1.0
"""Of the gradient."""


class Case(NamedTuple):
    """One hop of an expert: ``outcomes`` of the relation it followed, the first, and of others.

    ``right`` says which lead to the same as the first, and ``scores`` are the ranker's.
    """

    hop: Followed
    outcomes: tuple[Outcome, ...]
    right: tuple[bool, ...]
    scores: tuple[float, ...]

    @property
    def question(self) -> Question:
        """What the hop was made for."""
        return self.hop.question


def cases(hops: Iterable[Followed], graph: KnowledgeGraph, ranker: Ranker, seed: int) -> Iterator[Case]:
    """What the relations followed lead to, those that the ranker likes best beside them, and one other.

    Raises :class:`kgr1.errors.GraphServerError` if the graph does not answer.
    """
    rng = random.Random(seed)
    for hop in hops:
        before = [name for _, name in hop.branches[-1]]
        scores = ranker.scores(hop.question.text, hop.question.topics, before, hop.relations)
        liked = dict(zip(hop.relations, map(float, scores), strict=True))
        others = sorted((each for each in liked if each != hop.hop), key=lambda each: -liked[each])
        taken, rest = others[: MOST_VERIFIED - 2], others[MOST_VERIFIED - 2 :]
        taken = [hop.hop, *taken, *rng.sample(rest, min(1, len(rest)))]
        known, met = {*map(neutralise, hop.asked)}, {*map(neutralise, hop.met)}
        outcomes = [
            outcome_of(each, graph.execute(followed(each, hop.here, hop.question.graph_id)), known, met)
            for each in taken
        ]
        right = tuple(found.names == outcomes[0].names for found in outcomes)
        yield Case(hop, tuple(outcomes), right, tuple(liked[each] for each in taken))


def train_verifier(
    verifier: Verifier,
    made: Sequence[Case],
    settings: VerifierSettings,
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> None:
    """Teach a verifier to find what leads to where the expert went, and whether it went on.

    Cross entropy of the choice, and of going on; AdamW, with a rate that falls to zero. ``on_step`` is told the step,
    the number of steps and the loss. Raises :class:`SettingsError` if no case is a choice.
    """
    if all(len(case.outcomes) < 2 for case in made):
        raise SettingsError("There is nothing to learn; take other questions, or raise coldstart.trajectories.")
    torch.manual_seed(settings.seed)
    rng = random.Random(settings.seed)
    items = list(made)
    verifier.freeze()
    network = verifier.network
    some = rng.sample(items, min(len(items), STANDARDISED))
    network.standardise(torch.cat([features for _, features in _read(verifier, some)]))

    def loss(batch: Sequence[Case]) -> torch.Tensor:
        losses = [_loss(case, network(features)) for case, features in _read(verifier, batch, gradient=True)]
        return torch.stack(losses).mean()

    fit(network, items, loss, settings, rng, on_step, most_norm=MOST_NORM)
    network.probe = verifier.probe()


def _read(verifier: Verifier, made: Sequence[Case], *, gradient: bool = False) -> Iterator[tuple[Case, torch.Tensor]]:
    """Each case with its features (n, F)."""
    for start in range(0, len(made), TOGETHER):
        part = made[start : start + TOGETHER]
        asked = [(case.question.text, case.hop.branches, case.outcomes) for case in part]
        features = verifier.read(asked, gradient=gradient)
        yield from zip(part, torch.split(features, [len(case.outcomes) for case in part]), strict=True)


def _loss(case: Case, logits: torch.Tensor) -> torch.Tensor:
    """Of logits (n, 2)."""
    scores = logits[:, 0]
    loss = scores.logsumexp(0) - scores[torch.tensor(case.right)].logsumexp(0)
    if case.hop.goes_on is None:
        return loss
    label = torch.tensor(float(case.hop.goes_on))
    return loss + functional.binary_cross_entropy_with_logits(logits[0, 1], label)


@torch.no_grad()
def right_shares(
    verifier: Verifier, made: Sequence[Case], on_read: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, float]:
    """Shares of choices in which the best outcome is right, to the ranker, with the verifier, and of right goings on.

    ``on_read`` is told how many of how many cases have been read.
    """
    named: dict[str, list[bool]] = {"ranker alone": [], "with the verifier": [], "going on": []}
    for number, (case, features) in enumerate(_read(verifier, made), 1):
        logits, scores = verifier.network(features), torch.tensor(case.scores)
        if len(case.outcomes) > 1:
            named["ranker alone"].append(case.right[int(scores.argmax())])
            named["with the verifier"].append(case.right[int((scores + logits[:, 0]).argmax())])
        if case.hop.goes_on is not None:
            named["going on"].append((float(logits[0, 1]) > 0) == case.hop.goes_on)
        on_read(number, len(made))
    return {name: sum(right) / max(len(right), 1) for name, right in named.items()}


def save_verifier(verifier: Verifier, folder: Path) -> Path:
    """Write the verifier into the folder of a policy, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / VERIFIER_FILE, verifier.to_bytes())
    return folder / VERIFIER_FILE
