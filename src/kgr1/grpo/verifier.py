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
from kgr1.models.verifier import Verifier, VerifierNetwork
from kgr1.types import Outcome, Question

STANDARDISED = 2500
"""Cases whose features say what mean and standard deviation are."""


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
        known = {*map(neutralise, hop.asked)}
        outcomes = [
            outcome_of(each, graph.execute(followed(each, hop.here, hop.question.graph_id)), known) for each in taken
        ]
        right = tuple(found.names == outcomes[0].names for found in outcomes)
        yield Case(hop, tuple(outcomes), right, tuple(liked[each] for each in taken))


def read_cases(
    verifier: Verifier, made: Sequence[Case], on_read: Callable[[int, int], None] = lambda done, total: None
) -> list[torch.Tensor]:
    """The features (n, F) of each case, in 16 bits; ``on_read`` is told how many of how many have been read."""
    found = []
    for case in made:
        features = verifier.features(case.question.text, case.hop.branches, case.outcomes)
        found.append(features.clamp(-65504, 65504).half())
        on_read(len(found), len(made))
    return found


def train_verifier(
    verifier: Verifier,
    made: Sequence[Case],
    features: Sequence[torch.Tensor],
    settings: VerifierSettings,
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> None:
    """Teach a verifier to find what leads to where the expert went, and whether it went on.

    Cross entropy of the choice, and of going on; AdamW, with a rate that falls to zero. ``on_step`` is told the step,
    the number of steps and the loss. Raises :class:`SettingsError` if there is no case.
    """
    if not made:
        raise SettingsError("There is nothing to learn; take other questions, or raise coldstart.trajectories.")
    torch.manual_seed(settings.seed)
    rng = random.Random(settings.seed)
    order = list(range(len(made)))
    network = verifier.network
    network.standardise(
        torch.cat([features[place] for place in rng.sample(order, min(len(order), STANDARDISED))]).float()
    )
    network.probe = verifier.probe()

    def loss(places: Sequence[int]) -> torch.Tensor:
        return _loss(network, [made[place] for place in places], [features[place] for place in places])

    fit(network, order, loss, settings, rng, on_step)


def _loss(network: VerifierNetwork, made: Sequence[Case], features: Sequence[torch.Tensor]) -> torch.Tensor:
    logits = network(torch.cat([*features])).split([len(case.outcomes) for case in made])
    losses = []
    for case, found in zip(made, logits, strict=True):
        scores = found[:, 0]
        losses.append(scores.logsumexp(0) - scores[torch.tensor(case.right)].logsumexp(0))
        if case.hop.goes_on is not None:
            label = torch.tensor(float(case.hop.goes_on))
            losses.append(functional.binary_cross_entropy_with_logits(found[0, 1], label))
    return torch.stack(losses).sum() / len(made)


@torch.no_grad()
def right_shares(verifier: Verifier, made: Sequence[Case], features: Sequence[torch.Tensor]) -> dict[str, float]:
    """Shares of cases in which the best outcome is right, to the ranker, with the verifier, and of right goings on."""
    logits = [verifier.network(each) for each in features]
    scores = [torch.tensor(case.scores) for case in made]
    alone = [case.right[int(score.argmax())] for case, score in zip(made, scores, strict=True)]
    both = [
        case.right[int((score + found[:, 0]).argmax())] for case, score, found in zip(made, scores, logits, strict=True)
    ]
    goes_on = [
        (float(found[0, 1]) > 0) == case.hop.goes_on
        for case, found in zip(made, logits, strict=True)
        if case.hop.goes_on is not None
    ]
    named = {"ranker alone": alone, "with the verifier": both, "going on": goes_on}
    return {name: sum(right) / max(len(right), 1) for name, right in named.items()}


def save_verifier(verifier: Verifier, folder: Path) -> Path:
    """Write the verifier into the folder of a policy, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / VERIFIER_FILE, verifier.to_bytes())
    return folder / VERIFIER_FILE
