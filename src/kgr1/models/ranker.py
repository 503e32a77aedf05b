"""How well a relation fits a question, by the words of both: a small model beside the language model.

The language model reads relations as they stand in a list and has learned what they mean from the questions of its
training, a few thousand. What two words have to do with each other ("die" and "death") is a smaller task that the same
questions teach far better to a model of that alone. Its opinion is weighed together with the model's own where a guided
turn chooses its query (``agent.ranker_weight``).

A question is its words without those of its topics, a relation is the words of its name, and a word is the mean of the
language model's input embeddings of its tokens, standardised and scaled to length 1. With q and r the means of the
words of both under learned attention, e_i and e_j single words, and p the mean of the words of the relations that led
here:

    score(q, r) = s_1 (A q + P p) . B r                            what goes together as a whole
                + s_2 cos(q, r)                                    what is alike from the start
                + s_3 sum_i w_i max_j cos(C e_i, D e_j)            word by word (Khattab and Zaharia, "ColBERT", 2020)
                + s_4 BM25(question, r)                            with its topics (:mod:`kgr1.agent.rank`)
                + [r is walked from tail to head] (s_5 + d . (A q + P p))

Where it has not met the relations of a graph it is as sure of itself as where it has, and more often wrong. So it knows
which relations were the right one at least once in its training, and its opinion counts as much as these are among
those that there are to choose from (:class:`kgr1.agent.prior.Prior`).

Shapes: n relations, w words of a text, E width of the embeddings, H width of the ranker.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from torch.nn import functional

from kgr1.agent.rank import bm25, whole_words
from kgr1.errors import ModelError
from kgr1.models.pretrained import RANKER_FILE
from kgr1.types import DirectedRelation

WIDTH = 128
ATTENTION = 10.0
"""Scale of attention over words, whose vectors have length 1."""

SCALES = (20.0, 10.0, 5.0, 0.1, -0.5)
"""Where s_1 to s_5 begin."""

MOST_WORDS = 1 << 16
"""Vectors of words that are kept, 150 MB with 576 numbers each."""

NOTHING = "it"
"""Stands for a text without words."""

_MET = "met"
"""The entry of the file's metadata that lists the relations it has met."""


class Words(NamedTuple):
    """Vectors of the words of several texts, (m, w, E), and which of them exist, (m, w)."""

    vectors: torch.Tensor
    there: torch.Tensor


class Cases(NamedTuple):
    """What some choices are made by, as tensors: b choices of n relations at most, R different names."""

    questions: Words
    before: Words
    has_before: torch.Tensor  # (b,), 1 where relations led here
    names: Words  # (R, w, E)
    places: torch.Tensor  # (b, n) of each relation among the names
    there: torch.Tensor  # (b, n)
    inwards: torch.Tensor  # (b, n)
    bm25: torch.Tensor  # (b, n)


class RankerNetwork(nn.Module):
    """The score; see the top of this file."""

    def __init__(self, embedding: int, width: int = WIDTH) -> None:
        super().__init__()
        self.question = nn.Linear(embedding, width, bias=False)  # A
        self.relation = nn.Linear(embedding, width, bias=False)  # B
        self.before = nn.Linear(embedding, width, bias=False)  # P
        self.question_word = nn.Linear(embedding, width, bias=False)  # C
        self.relation_word = nn.Linear(embedding, width, bias=False)  # D
        self.inwards = nn.Linear(width, 1, bias=False)  # d
        self.mind_question = nn.Linear(embedding, 1)
        self.mind_relation = nn.Linear(embedding, 1)
        self.mind_word = nn.Linear(embedding, 1)  # w
        self.scales = nn.Parameter(torch.tensor(SCALES))
        with torch.no_grad():
            self.relation_word.weight.copy_(self.question_word.weight)
        for attention in (self.before, self.mind_question, self.mind_relation, self.mind_word):
            nn.init.zeros_(attention.weight)

    def forward(self, cases: Cases) -> torch.Tensor:
        """Scores (b, n); minus infinity where there is no relation."""
        words, there = cases.questions
        if self.training:  # no single word shall decide
            there = there & (torch.rand(there.shape) > 0.1) | (torch.arange(there.shape[1]) == 0)
        names = cases.names
        question = _pooled(self._dropped(words, 0.1), there, self.mind_question)
        relation = _pooled(self._dropped(names.vectors, 0.1), names.there, self.mind_relation)
        count = cases.before.there.sum(1, keepdim=True).clamp(min=1)
        before = (cases.before.vectors * cases.before.there[..., None]).sum(1) / count * cases.has_before[:, None]
        wanted = self.question(self._dropped(question, 0.2)) + self.before(before)
        whole, alike, single, shared, inwards = self.scales
        scores: torch.Tensor = whole * wanted @ self.relation(relation).T
        scores = scores + alike * functional.normalize(question, dim=-1) @ functional.normalize(relation, dim=-1).T
        scores = scores + single * self._word_by_word(words, there, names)
        scores = scores.gather(1, cases.places) + shared * cases.bm25
        scores = scores + cases.inwards * (inwards + self.inwards(wanted))
        return scores.masked_fill(~cases.there, -torch.inf)

    def _word_by_word(self, words: torch.Tensor, there: torch.Tensor, names: Words) -> torch.Tensor:
        """(b, R): how well the best word of a name fits, for each word of a question."""
        mine = functional.normalize(self.question_word(words), dim=-1)
        theirs = functional.normalize(self.relation_word(names.vectors), dim=-1)
        fits = torch.einsum("bqh,rkh->brqk", mine, theirs)
        best = fits.masked_fill(~names.there[None, :, None, :], -1.0).amax(-1)  # (b, R, w)
        weights = _attention(words, there, self.mind_word)
        return (best * weights[:, None]).sum(-1)

    def _dropped(self, values: torch.Tensor, share: float) -> torch.Tensor:
        return functional.dropout(values, share, self.training)


def _attention(vectors: torch.Tensor, there: torch.Tensor, mind: nn.Linear) -> torch.Tensor:
    """(m, w), summing to 1 over the words that exist."""
    scores: torch.Tensor = mind(vectors).squeeze(-1) * ATTENTION
    return scores.masked_fill(~there, -torch.inf).softmax(-1)


def _pooled(vectors: torch.Tensor, there: torch.Tensor, mind: nn.Linear) -> torch.Tensor:
    """(m, E)."""
    return (_attention(vectors, there, mind)[..., None] * vectors).sum(-2)


class Ranker:
    """A ranker on the embeddings of a language model; satisfies :class:`kgr1.agent.prior.Ranker`."""

    def __init__(
        self,
        network: RankerNetwork,
        mean: torch.Tensor,
        std: torch.Tensor,
        model: Any,
        tokenizer: Any,
        met: Iterable[str],
    ) -> None:
        """``mean`` and ``std`` (E,) are those of all embeddings of the model, before it was trained for anything.

        ``met`` are the names of the relations that it learned to find.
        """
        self.network = network.eval()
        self._mean, self._std = mean, std
        self._met = frozenset(map(_spelled, met))
        self._embeddings = model.get_input_embeddings().weight.detach()
        self._tokenizer = tokenizer
        self._known: dict[str, torch.Tensor] = {}

    @classmethod
    def new(cls, model: Any, tokenizer: Any, met: Iterable[str]) -> Ranker:
        """An untrained one that is to learn to find the relations ``met``."""
        weight = model.get_input_embeddings().weight.detach().float()
        return cls(RankerNetwork(weight.shape[1]), weight.mean(0).cpu(), weight.std(0).cpu(), model, tokenizer, met)

    @classmethod
    def load(cls, folder: Path, model: Any, tokenizer: Any) -> Ranker | None:
        """The ranker of a policy's folder, if it has one. Raises :class:`ModelError` for one that does not fit."""
        file = folder / RANKER_FILE
        if not file.is_file():
            return None
        advice = "delete it, or make it again with 'kgr1 ranker'."
        try:
            tensors, met = _read(file)
            mean, std = tensors.pop("mean"), tensors.pop("std")
            network = RankerNetwork(len(mean), len(tensors["question.weight"]))
            network.load_state_dict(tensors)
            if mean.shape != std.shape:
                raise ValueError("mean and std are of different sizes")
            if not all(tensor.isfinite().all() for tensor in (mean, std, *tensors.values())):
                raise ValueError("not all numbers are finite")
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ModelError(f"The ranker {file} is damaged; {advice}") from error
        weight = model.get_input_embeddings().weight.detach()
        if mean.shape != weight.shape[1:] or not torch.allclose(weight.float().mean(0).cpu(), mean, atol=0.01):
            raise ModelError(f"The ranker {file} was made for another model; {advice}")
        return cls(network, mean, std, model, tokenizer, met)

    def to_bytes(self) -> bytes:
        """The content of its file; weights are rounded to 16 bits."""
        tensors = {name: tensor.half().contiguous() for name, tensor in self.network.state_dict().items()}
        everything = {**tensors, "mean": self._mean.contiguous(), "std": self._std.contiguous()}
        return bytes(save(everything, metadata={_MET: json.dumps(sorted(self._met), ensure_ascii=False)}))

    @torch.inference_mode()
    def scores(
        self, question: str, topics: Sequence[str], before: Sequence[str], relations: Sequence[DirectedRelation]
    ) -> list[float]:
        """One score for each relation, logits of a choice among them. See :class:`kgr1.agent.prior.Ranker`."""
        result: list[float] = self.network(self.lay_out([(question, topics, before, relations)]))[0].tolist()
        return result

    def familiarity(self, relations: Sequence[DirectedRelation]) -> float:
        """The share of ``relations`` that were the right one at least once in its training; 0 of none.

        In whatever style they are written.
        """
        return sum(_spelled(name) in self._met for _, name in relations) / max(len(relations), 1)

    def lay_out(self, choices: Sequence[tuple[str, Sequence[str], Sequence[str], Sequence[DirectedRelation]]]) -> Cases:
        """Choices as tensors: question, topics, the relations before, and those to choose from."""
        places: dict[str, int] = {}
        rows = [[places.setdefault(name, len(places)) for _, name in hops] for *_, hops in choices]
        longest = max(map(len, rows))

        def fill(values: Callable[[int], Sequence[float]], dtype: torch.dtype) -> torch.Tensor:
            padded = [[*values(index), *[0] * (longest - len(rows[index]))] for index in range(len(rows))]
            return torch.tensor(padded, dtype=dtype)

        return Cases(
            questions=self._words([_asking(text, topics) for text, topics, *_ in choices]),
            before=self._words(
                [[word for name in before for word in whole_words(name)] for _, _, before, _ in choices]
            ),
            has_before=torch.tensor([float(bool(before)) for _, _, before, _ in choices]),
            names=self._words([whole_words(name) for name in places]),
            places=fill(lambda index: rows[index], torch.long),
            there=fill(lambda index: [1.0] * len(rows[index]), torch.bool),
            inwards=fill(lambda index: [float(not out) for out, _ in choices[index][3]], torch.float),
            bm25=fill(
                lambda index: _bm25(choices[index][0], tuple(name for _, name in choices[index][3])), torch.float
            ),
        )

    def _words(self, texts: Sequence[Sequence[str]]) -> Words:
        longest = max([1, *map(len, texts)])
        vectors = torch.zeros(len(texts), longest, len(self._mean))
        there = torch.zeros(len(texts), longest, dtype=torch.bool)
        for row, words in enumerate(texts):
            found = torch.stack([self._word(word) for word in words or [NOTHING]])
            vectors[row, : len(found)] = found
            there[row, : len(found)] = True
        return Words(vectors, there)

    def _word(self, word: str) -> torch.Tensor:
        """(E,), of length 1."""
        if word not in self._known:
            if len(self._known) >= MOST_WORDS:
                self._known.clear()
            ids = self._tokenizer.encode(f" {word}", add_special_tokens=False, split_special_tokens=True)
            rows = self._embeddings[torch.tensor(ids, device=self._embeddings.device)].float().cpu()
            self._known[word] = functional.normalize(((rows - self._mean) / self._std).mean(0), dim=0)
        return self._known[word]


def _spelled(relation: str) -> str:
    """A relation in whatever style it is written."""
    return " ".join(whole_words(relation))


def _read(file: Path) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The tensors of a ranker's file, and the relations that it has met."""
    with safe_open(file, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name).float() for name in opened.keys()}  # noqa: SIM118
        met = json.loads((opened.metadata() or {})[_MET])
    if not (isinstance(met, list) and all(isinstance(name, str) for name in met)):
        raise ValueError("the relations that it has met are not a list of names")
    return tensors, met


@lru_cache(maxsize=1 << 15)
def _bm25(question: str, names: tuple[str, ...]) -> list[float]:
    """Training comes back to every choice."""
    return bm25(question, names)


def _asking(question: str, topics: Sequence[str]) -> list[str]:
    """The words of a question that are none of its topics'."""
    named = {word for topic in topics for word in whole_words(topic)}
    return [word for word in whole_words(question) if word not in named]
