"""Whether what a path leads to is what a question asks for: a small head on a language model that reads both.

A ranker of relations (:mod:`kgr1.models.ranker`) sees the name of a relation. Whether *spouse / to* is the wife or the
date at which a marriage ended, and whether *Amsterdam* is the country that a question asks for or a city on the way
there, is easier to tell from what was found. So the likeliest relations are followed before one is chosen, and the
language model reads, behind the question, each path with the first few of its results:

    Question: what country had the city which hosted the 1928 Summer Olympics
    Path: of which it is the olympics hosted
    Answer: Amsterdam

What leads to nothing but what was met on the way is "Back to:" in the place of "Answer:".

While it reads, the linear layers of some of the model's layers have additions of low rank
(:mod:`kgr1.models.low_rank`), which are trained with the head. Of the hidden states of two layers the mean over the
path, the mean over the answer and the last one, standardised, are the features x of a path, and

    (right, onward) = W_2 gelu(W_1 x + b_1) + b_2

are two logits: that the path is right so far, in a choice among those that there are to follow, and that a right path
goes on behind its results. As a verifier of single steps it is a process reward model (Lightman et al., "Let's Verify
Step by Step", 2023), and the paths of an expert are its labels.

Shapes: n paths, E width of the language model, F = 6 E features, H width of the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from kgr1.agent.prior import Verdict
from kgr1.agent.rank import whole_words
from kgr1.errors import ModelError
from kgr1.models.choice import tree_mask
from kgr1.models.layers import hidden_states, layers_of
from kgr1.models.low_rank import LowRank, Sizes, linear_sizes
from kgr1.models.pretrained import VERIFIER_FILE
from kgr1.models.tokens import encode_text
from kgr1.models.tree import build_tree
from kgr1.types import DirectedRelation, Outcome

WIDTH = 64
SHOWN = 4
"""Results of a path that are read."""

MOST_QUESTION = 64
MOST_PATH = 64
MOST_NAME = 10
"""Tokens of a question, of a path and of a name; what comes before them in a question or path is not read."""

LEAST_STD = 1e-3
"""What differs by less is rounding."""

LEAST_ALIKE = 0.9
"""The cosine above which a policy reads like the one that a verifier was made for."""

LARGEST = torch.finfo(torch.float16).max
"""What a mean can be in the file of a verifier."""

RANK = 2
"""Of the additions."""

PROBE = Outcome((True, "director"), ("Ridley Scott",), 1)
"""What a verifier's file says how the model reads it, behind the question of who directed Alien."""

Reading = tuple[str, Sequence[Sequence[DirectedRelation]], Sequence[Outcome]]
"""A question, the branches of the way so far, and the outcomes of what could follow."""


class VerifierNetwork(nn.Module):
    """The head, and what is added to the model while it reads; see the top of this file."""

    mean: torch.Tensor
    std: torch.Tensor
    probe: torch.Tensor

    def __init__(self, features: int, sizes: Sizes, width: int = WIDTH, dropout: float = 0.3) -> None:
        super().__init__()
        self.low_rank = LowRank(sizes, RANK)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))
        self.register_buffer("probe", torch.zeros(features))
        self.head = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(features, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, 2)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (n, 2) of features (n, F)."""
        logits: torch.Tensor = self.head((features.float() - self.mean) / self.std)
        return logits

    def standardise(self, features: torch.Tensor) -> None:
        """Take mean and standard deviation of features (n, F)."""
        self.mean, self.std = features.mean(0), features.std(0, correction=0).clamp(min=LEAST_STD)


class Verifier:
    """A verifier on a language model; satisfies :class:`kgr1.agent.prior.Verifier`.

    What it reads is of the weights at that time: whoever trains the model needs another one afterwards.
    """

    def __init__(self, network: VerifierNetwork, model: Any, tokenizer: Any) -> None:
        self.network = network.eval()
        self._model, self._tokenizer = model, tokenizer
        self._layers = _read_layers(model)

    @classmethod
    def new(cls, model: Any, tokenizer: Any, *, seed: int = 0) -> Verifier:
        """An untrained one, whose weights are drawn with ``seed``."""
        with torch.random.fork_rng(devices=[]):  # loading one changes nothing of what is drawn elsewhere
            torch.manual_seed(seed)
            first, last = layers_of(model) * 2 // 5, _read_layers(model)[-1]
            sizes = linear_sizes(model.get_decoder(), range(first, last))
            network = VerifierNetwork(6 * model.get_input_embeddings().weight.shape[1], sizes)
        return cls(network, model, tokenizer)

    @classmethod
    def load(cls, folder: Path, model: Any, tokenizer: Any) -> Verifier | None:
        """The verifier of a policy's folder, if it has one. Raises :class:`ModelError` for one that does not fit."""
        file = folder / VERIFIER_FILE
        if not file.is_file():
            return None
        verifier = cls.new(model, tokenizer)
        advice = "delete it, or make it again with 'kgr1 verifier'."
        try:
            tensors = {name: tensor.float() for name, tensor in load_file(file).items()}
            if not all(tensor.isfinite().all() for tensor in tensors.values()):
                raise ValueError("not all numbers are finite")
            verifier.network.load_state_dict(tensors)
            if not verifier.network.std.min() > 0:
                raise ValueError("what is divided by is zero")
        except (OSError, SafetensorError, ValueError, RuntimeError) as error:
            raise ModelError(f"The verifier {file} is damaged or was made for another model; {advice}") from error
        if not verifier.reads_alike():
            raise ModelError(f"The verifier {file} was made for another policy of this model; {advice}")
        return verifier

    def to_bytes(self) -> bytes:
        """The content of its file; weights are rounded to 16 bits."""
        tensors = {name: tensor.half().contiguous() for name, tensor in self.network.state_dict().items()}
        return bytes(save(tensors))

    def freeze(self) -> None:
        """Let only the network learn, not the model."""
        self._model.requires_grad_(requires_grad=False)

    def reads_alike(self) -> bool:
        """Whether the model reads like the one that the head was trained on."""
        network = self.network
        read, probe = ((each - network.mean) / network.std for each in (self.probe(), network.probe))
        return bool(nn.functional.cosine_similarity(read, probe, dim=-1) > LEAST_ALIKE)

    def probe(self) -> torch.Tensor:
        """(F,), what the model makes of :data:`PROBE`."""
        return self.features("who directed Alien?", [[]], [PROBE])[0]

    @torch.inference_mode()
    def verdicts(
        self, question: str, branches: Sequence[Sequence[DirectedRelation]], outcomes: Sequence[Outcome]
    ) -> list[Verdict]:
        """See :class:`kgr1.agent.prior.Verifier`."""
        if not outcomes:
            return []
        logits: list[tuple[float, float]] = self.network(self.features(question, branches, outcomes)).tolist()
        return [Verdict(*pair) for pair in logits]

    def features(
        self, question: str, branches: Sequence[Sequence[DirectedRelation]], outcomes: Sequence[Outcome]
    ) -> torch.Tensor:
        """What the model reads of each path and its results, (n, F), in one pass; ``outcomes`` is not empty."""
        return self.read([(question, branches, outcomes)])

    def read(self, asked: Sequence[Reading], *, gradient: bool = False) -> torch.Tensor:
        """The features of the outcomes of several questions, (n, F) for all of them, in one pass.

        With ``gradient`` they can be differentiated.
        """
        texts = [text for question, branches, outcomes in asked for text in self._texts(question, branches, outcomes)]
        tree = build_tree([[*start, *path, *answer] for start, path, answer in texts])
        decoder = self._model.get_decoder()
        device = decoder.get_input_embeddings().weight.device
        with self.network.low_rank.applied(decoder):
            found = hidden_states(
                self._model,
                self._layers,
                visible=tree_mask(tree)[None, None].to(device),
                positions=torch.tensor(tree.positions, device=device),
                ids=torch.tensor([tree.ids], device=device),
                gradient=gradient,
            )
        states = [layer[0].float().cpu() for layer in found]
        rows = []
        for places, (start, path, _) in zip(tree.places, texts, strict=True):
            place = torch.tensor(places[len(start) :])
            parts = ((layer[place[: len(path)]], layer[place[len(path) :]]) for layer in states)
            rows.append(torch.cat([part for way, end in parts for part in (way.mean(0), end.mean(0), end[-1])]))
        return torch.stack(rows).clamp(-LARGEST, LARGEST)

    def _texts(
        self, question: str, branches: Sequence[Sequence[DirectedRelation]], outcomes: Sequence[Outcome]
    ) -> list[tuple[list[int], list[int], list[int]]]:
        """The tokens of the question, of each path and of its results."""
        asked = self._encode(f"Question: {' '.join(question.split())}")[-MOST_QUESTION:]
        paths = (_path([*branches[:-1], [*branches[-1], found.hop]]) for found in outcomes)
        return [
            (asked, self._encode(path)[-MOST_PATH:], self._answer(found))
            for path, found in zip(paths, outcomes, strict=True)
        ]

    def _answer(self, found: Outcome) -> list[int]:
        ids = self._encode("\nBack to:" if found.back else "\nAnswer:")
        for place, name in enumerate(sorted(found.names)[:SHOWN]):
            # One line, so that a name cannot bring lines of its own.
            ids += [*(self._encode(",") if place else []), *self._encode(f" {' '.join(name.split())}")[:MOST_NAME]]
        return [*ids, *(self._encode(", ...") if found.total > SHOWN else [])]

    def _encode(self, text: str) -> list[int]:
        return encode_text(self._tokenizer, text)


def _read_layers(model: Any) -> tuple[int, int]:
    layers = layers_of(model)
    return layers // 2 + 1, layers - layers // 5


def _path(branches: Sequence[Sequence[DirectedRelation]]) -> str:
    return "\nPath: " + "; ".join(", then ".join(_in_words(*hop) for hop in branch) for branch in branches)


def _in_words(outgoing: bool, relation: str) -> str:
    """A relation as it is read: ``film.film.starring/actor``, through a node without a name, is "starring, actor"."""
    parts = relation.split("/") if "." in relation.partition("/")[0] else [relation]
    words = ", ".join(" ".join(whole_words(part.rstrip("./#:").rsplit(".", 1)[-1])) for part in parts)
    return words if outgoing else f"of which it is the {words}"
