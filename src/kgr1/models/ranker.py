"""How well a relation fits a question, by the words of both: a small model beside the language model.

The language model reads relations as they stand in a list and has learned what they mean from the questions of its
training, a few thousand. What two words have to do with each other ("die" and "death") is a smaller task that the same
questions teach far better to a model of that alone. Its opinion is weighed together with the model's own where a guided
turn chooses its query (``agent.ranker_weight``).

A question is its words without those of its topics, a relation is the words of its name, and a word is the mean of the
language model's input embeddings of its tokens, standardised and scaled to length 1. With q and r the means of the
words of both under learned attention, e_i and e_j single words, p the mean of the words of the relations that led here,
and c(q) and c(r) what the model makes of these words one after the other (:mod:`kgr1.models.context`), standardised and
scaled likewise:

    score(q, r) = s_1 (A q + P p) . B r                            what goes together as a whole
                + s_2 cos(q, r)                                    what is alike from the start
                + s_3 sum_i w_i max_j cos(C e_i, D e_j)            word by word (Khattab and Zaharia, "ColBERT", 2020)
                + s_4 BM25(question, r)                            with its topics (:mod:`kgr1.agent.rank`)
                + [r is walked from tail to head] (s_5 + d . (A q + P p))
                + s_6 F c(q) . G c(r)                              what goes together as the model reads it

Where it has not met the relations of a graph it is as sure of itself as where it has, and more often wrong. So it knows
which relations were the right one at least once in its training, and its opinion counts as much as these are among
those that there are to choose from, or as ``agent.ranker_floor`` says if that is more
(:class:`kgr1.agent.prior.Prior`).

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
from kgr1.models.context import Context
from kgr1.models.pretrained import RANKER_FILE
from kgr1.models.tokens import encode_text
from kgr1.types import DirectedRelation

WIDTH = 128
ATTENTION = 10.0
"""Scale of attention over words, whose vectors have length 1."""

SCALES = (20.0, 10.0, 5.0, 0.1, -0.5, 20.0)
"""Where s_1 to s_6 begin."""

MOST_WORDS = 1 << 16
"""Vectors of words that are kept, 150 MB with 576 numbers each."""

READ_AT_ONCE = 256
"""Texts that are read between two reports of progress."""

LEAST_STD = 1e-4
"""What differs by less is rounding."""

PROBES = 16
"""Relations that a ranker's file says how the model reads."""

LEAST_ALIKE = 0.9
"""The cosine above which a policy reads like the one that a ranker was made for; before and after the cold start of the
package it is 0.7."""

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
    read_questions: torch.Tensor  # (b, E)
    read_names: torch.Tensor  # (R, E)


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
        self.read_question = nn.Linear(embedding, width, bias=False)  # F
        self.read_relation = nn.Linear(embedding, width, bias=False)  # G
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
        whole, alike, single, shared, inwards, read = self.scales
        scores: torch.Tensor = whole * wanted @ self.relation(relation).T
        scores = scores + alike * functional.normalize(question, dim=-1) @ functional.normalize(relation, dim=-1).T
        scores = scores + single * self._word_by_word(words, there, names)
        asked = self.read_question(self._dropped(cases.read_questions, 0.2))
        scores = scores + read * asked @ self.read_relation(self._dropped(cases.read_names, 0.2)).T
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
        read: torch.Tensor | None = None,
    ) -> None:
        """``mean`` and ``std`` (E,) are those of all embeddings of the model, before it was trained for anything.

        ``met`` are the names of the relations that it learned to find. ``read`` (4, E) is what
        :meth:`standardise` finds; without it what the model reads stays as it is.
        """
        self.network = network.eval()
        self._mean, self._std = mean, std
        self._read = torch.tensor([0.0, 1.0, 0.0, 1.0])[:, None].repeat(1, len(mean)) if read is None else read
        self._context = Context(model, tokenizer)
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
            mean, std, read = tensors.pop("mean"), tensors.pop("std"), tensors.pop("read")
            probe = tensors.pop("probe")
            network = RankerNetwork(len(mean), len(tensors["question.weight"]))
            network.load_state_dict(tensors)
            if mean.shape != std.shape or read.shape != (4, *mean.shape) or probe.shape[1:] != mean.shape:
                raise ValueError("mean and std are of different sizes")
            if len(probe) != min(PROBES, len(met)):
                raise ValueError("it does not say how the model reads")
            if not all(tensor.isfinite().all() for tensor in (mean, std, read, probe, *tensors.values())):
                raise ValueError("not all numbers are finite")
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ModelError(f"The ranker {file} is damaged; {advice}") from error
        weight = model.get_input_embeddings().weight.detach()
        if mean.shape != weight.shape[1:] or not torch.allclose(weight.float().mean(0).cpu(), mean, atol=0.01):
            raise ModelError(f"The ranker {file} was made for another model; {advice}")
        ranker = cls(network, mean, std, model, tokenizer, met, read)
        if not ranker._reads_like(probe):
            raise ModelError(f"The ranker {file} was made for another policy of this model; {advice}")
        return ranker

    def to_bytes(self) -> bytes:
        """The content of its file; weights are rounded to 16 bits."""
        tensors = {name: tensor.half() for name, tensor in self.network.state_dict().items()}
        tensors |= {"mean": self._mean, "std": self._std, "read": self._read, "probe": self._probe().half()}
        everything = {name: tensor.contiguous() for name, tensor in tensors.items()}
        return bytes(save(everything, metadata={_MET: json.dumps(sorted(self._met), ensure_ascii=False)}))

    def standardise(
        self,
        questions: Iterable[tuple[str, Sequence[str]]],
        relations: Iterable[str],
        on_read: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Take means and standard deviations of what the model reads: in questions with their topics, and in names.

        ``on_read`` is told how many of how many texts have been read.
        """
        kinds = [
            sorted({_text(_asking(*question)) for question in questions}),
            sorted({_text(whole_words(name)) for name in relations}),
        ]
        total, done = sum(map(len, kinds)), 0
        found: list[torch.Tensor] = []
        for texts in kinds:
            parts = []
            for start in range(0, len(texts), READ_AT_ONCE):
                parts.append(self._context.vectors(texts[start : start + READ_AT_ONCE]))
                done += len(parts[-1])
                on_read(done, total)
            vectors = torch.cat(parts)
            std = vectors.std(0, correction=0)
            found += [vectors.mean(0), torch.where(std > LEAST_STD, std, 1.0)]
        self._read = torch.stack(found)

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

        asking = [_asking(text, topics) for text, topics, *_ in choices]

        def fill(values: Callable[[int], Sequence[float]], dtype: torch.dtype) -> torch.Tensor:
            padded = [[*values(index), *[0] * (longest - len(rows[index]))] for index in range(len(rows))]
            return torch.tensor(padded, dtype=dtype)

        return Cases(
            questions=self._words(asking),
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
            read_questions=self._reading([_text(words) for words in asking], *self._read[:2]),
            read_names=self._reading([_text(whole_words(name)) for name in places], *self._read[2:]),
        )

    def _probe(self) -> torch.Tensor:
        """What the model makes of a few relations, (m, E): another policy of the same model reads something else."""
        return self._reading(sorted(self._met)[:PROBES], *self._read[2:])

    def _reads_like(self, probe: torch.Tensor) -> bool:
        mine = self._probe()
        told = (mine.norm(dim=-1) > 0.5) & (probe.norm(dim=-1) > 0.5)  # of a single relation nothing is left
        alike = functional.cosine_similarity(mine, probe, dim=-1)[told]
        return not len(alike) or bool(alike.mean() > LEAST_ALIKE)

    def _reading(self, texts: Sequence[str], mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        """(n, E), of length 1."""
        return functional.normalize((self._context.vectors(texts) - mean) / std, dim=-1)

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
            ids = encode_text(self._tokenizer, f" {word}")
            rows = self._embeddings[torch.tensor(ids, device=self._embeddings.device)].float().cpu()
            self._known[word] = functional.normalize(((rows - self._mean) / self._std).mean(0), dim=0)
        return self._known[word]


def _text(words: Sequence[str]) -> str:
    """Words for the model to read one after the other."""
    return " ".join(words) or NOTHING


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
