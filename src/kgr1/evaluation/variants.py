"""The measures of published work, by name: for comparison only, never a reward or a headline (SPEC section 8).

Sources are the scoring scripts that came with RoG (Luo et al., ICLR 2024), ToG (Sun et al., ICLR 2024) and KG-R1
(arXiv 2509.26383); ``docs/metrics.md`` has the formulas.

Departures, all of which lower a number or leave it alone: names are compared by the normaliser of
:mod:`kgr1.rewards.answer`; an answer or a gold name of which nothing is left matches nothing, where the scripts count
an empty text as a substring of everything; RoG's precision is capped at 1. Gold entities count by label, without
aliases, as the scripts do.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from kgr1.errors import EvaluationError
from kgr1.evaluation.bootstrap import RESAMPLES, Column, Metric, estimate
from kgr1.evaluation.metrics import EpisodeRow, Key, Slice, columns, group_rows, question_key
from kgr1.rewards.answer import AnswerScore, normalise, score_answers
from kgr1.rewards.outcome import answer_score
from kgr1.types import Episode, GoldAnswer, StopReason

_BRACES = re.compile(r"\{([^{}]*)\}")


def listed(episode: Episode) -> tuple[str, ...]:
    """The answers that count: none unless the episode ended with an answer."""
    return episode.answers if episode.stop is StopReason.ANSWERED else ()


def _labels(gold: Iterable[GoldAnswer]) -> list[str]:
    """Normal forms of the gold labels, each once."""
    return list(dict.fromkeys(form for answer in gold if (form := normalise(answer.label))))


def _found(episode: Episode) -> tuple[int, int]:
    """How many of the distinct gold labels are substrings of the joined answers, and how many there are."""
    text, labels = " ".join(map(normalise, listed(episode))), _labels(episode.question.answers)
    return sum(label in text for label in labels), len(labels)


def rog_hit(episode: Episode) -> float:
    """RoG's Hit: 1 if any gold label is a substring of the answers joined by blanks."""
    return float(_found(episode)[0] > 0)


def rog_accuracy(episode: Episode) -> float:
    """RoG's accuracy: the share of the gold labels that are substrings of the answers joined by blanks."""
    found, gold = _found(episode)
    return found / gold if gold else 0.0


def rog_f1(episode: Episode) -> float:
    """RoG's F1, capped: P = min(1, golds found / answer lines), R = golds found / golds, harmonic mean.

    The script divides golds by lines, so one line that holds two golds gives P = 2; P is cut at 1 here.
    """
    found, gold = _found(episode)
    lines = len(listed(episode))
    if not found or not lines:
        return 0.0
    precision, recall = min(1.0, found / lines), found / gold
    return 2 * precision * recall / (precision + recall)


def tog_em(episode: Episode) -> float:
    """ToG's "EM": 1 if the answer and some gold label are equal or one is a substring of the other.

    The answer is the text between the first braces, or all listed answers if there are none; both sides lose their
    blanks and are folded to lower case.
    """
    text = ", ".join(listed(episode))
    braces = _BRACES.search(text)
    answer = _squeezed(braces[1] if braces else text)
    golds = [_squeezed(gold.label) for gold in episode.question.answers]
    return float(bool(answer) and any(gold and (answer in gold or gold in answer) for gold in golds))


def _squeezed(text: str) -> str:
    return "".join(text.lower().split())


def hit_f1(episode: Episode) -> float:
    """Hit = [F1 > 0], as several papers read Hit."""
    return float(answer_score(episode).f1 > 0)


def token_f1(episode: Episode) -> float:
    """Bag-of-words F1: the words of all listed answers against the words of all gold labels, with multiplicity."""
    said = Counter(word for name in listed(episode) for word in normalise(name).split())
    gold = Counter(word for label in _labels(episode.question.answers) for word in label.split())
    both = (said & gold).total()
    return 2 * both / (said.total() + gold.total()) if both else 0.0


def best_parse_f1(episode: Episode) -> float:
    """The best set F1 against the gold answers of a single parse; ``f1`` for a question with one reading.

    Question sets that come with several parses score this officially (Yih et al., ACL 2016). Their script gives 1 to an
    empty prediction for a parse without answers; here whatever is not answered counts 0.
    """
    return max(score.f1 for score in parse_scores(episode))


def best_parse_em(episode: Episode) -> float:
    """1 if the answers are exactly those of some parse; ``em`` for a question with one reading."""
    return float(any(score.exact for score in parse_scores(episode)))


def parse_scores(episode: Episode) -> list[AnswerScore]:
    """The score of the answers against each parse of the question, in their order; at least one."""
    gold, ids = episode.question.answers, episode.answer_ids if listed(episode) else ()
    readings = [tuple(gold[place] for place in parse) for parse in episode.question.parses] or [gold]
    return [score_answers(listed(episode), reading, ids) for reading in readings]


def substring_retrieval(episode: Episode) -> float:
    """1 if any gold label is a substring of a text that the graph's answers put before the model.

    Relation names and error sentences count, and so does a label inside a longer word: this is the loose check of the
    released implementation, which ``retrieval`` replaces. Of a system that writes prompts of its own, the text is the
    names of the entities in them.
    """
    texts = [normalise(turn.information or "\n".join(turn.shown_entities)) for turn in episode.turns]
    return float(any(label in text for label in _labels(episode.question.answers) for text in texts))


Variant = Callable[[Episode], float]

VARIANTS: dict[str, Variant] = {
    "rog_hit": rog_hit,
    "rog_accuracy": rog_accuracy,
    "rog_f1": rog_f1,
    "tog_em": tog_em,
    "hit_f1": hit_f1,
    "token_f1": token_f1,
    "best_parse_f1": best_parse_f1,
    "best_parse_em": best_parse_em,
    "substring_retrieval": substring_retrieval,
}
"""Every variant by the name that ``kgr1 rescore --metric`` takes; all lie between 0 and 1."""


Values = dict[Key, list[dict[str, float]]]
"""The variants of every sample of every question."""


def rescore(
    episodes: Iterable[Episode],
    names: Sequence[str] = (),
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    judged: Mapping[str, Metric] | None = None,
) -> Slice:
    """Any metrics of saved episodes, headline or variant, with intervals; all of them if ``names`` is empty.

    A question's value is the mean over its samples. ``judged`` are a judge's metrics of these episodes, which are
    chosen by name like the others. Raises :class:`EvaluationError` for a name that is no metric, or
    that this run cannot have (``pass@k`` of a run with one sample a question).
    """
    rows: list[EpisodeRow] = []
    values: Values = {}
    wanted = [name for name in VARIANTS if not names or name in names]
    for episode in episodes:
        rows.append(EpisodeRow.of(episode))
        values.setdefault(question_key(episode), []).append(score_variants(episode, wanted))
    questions = group_rows(rows)
    found = columns(list(questions.values())) | variant_columns(values)
    judged = judged or {}
    known = dict.fromkeys([*found, *VARIANTS, *judged])
    unknown = [name for name in names if name not in known]
    if unknown:
        raise EvaluationError(
            f"There is no metric '{unknown[0]}' for this run; choose from {', '.join(known)}.", unknown=unknown
        )
    chosen = {name: found[name] for name in (names or found) if name in found}
    metrics = estimate(chosen, seed=seed, resamples=resamples)
    metrics |= {name: judged[name] for name in (names or judged) if name in judged}
    return Slice(questions=len(questions), episodes=len(rows), metrics=metrics)


def score_variants(episode: Episode, names: Iterable[str] = VARIANTS) -> dict[str, float]:
    """The variants of one episode by name."""
    return {name: VARIANTS[name](episode) for name in names}


def variant_columns(values: Values) -> dict[str, Column]:
    """Values per question, in the order of their keys; see :data:`kgr1.evaluation.bootstrap.Column`."""
    questions = [values[key] for key in sorted(values)]
    if not questions:
        return {}
    ones = np.ones(len(questions))
    return {
        name: (np.array([math.fsum(one[name] for one in samples) / len(samples) for samples in questions]), ones)
        for name in questions[0][0]
    }
