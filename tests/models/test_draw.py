"""Drawing tokens: frequencies, temperatures and truncation against the definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

torch = pytest.importorskip("torch")

from kgr1.config import SamplingSettings  # noqa: E402
from kgr1.models.draw import draw  # noqa: E402

LOGITS = torch.tensor([1.0, -0.5, 2.0, 0.0, -30.0, 1.5, 0.3])


def draws(count: int, temperature: float, top_p: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """``count`` draws from one generator: ids and log-probabilities."""
    settings = SamplingSettings(temperature=temperature, top_p=top_p, seed=seed)
    random = np.random.Generator(np.random.PCG64(seed))
    ids, logprobs = draw(LOGITS.repeat(count, 1), [settings] * count, [random] * count)
    return np.array(ids), np.array(logprobs)


def probabilities(temperature: float, top_p: float) -> np.ndarray:
    """The distribution from its definition, in plain numpy."""
    scores = LOGITS.double().numpy() / temperature
    p = np.exp(scores - scores.max())
    p /= p.sum()
    kept, mass = np.zeros(len(p), bool), 0.0
    for index in np.argsort(-p):
        if mass < top_p:
            kept[index] = True
        mass += p[index]
    return np.where(kept, p, 0) / p[kept].sum()


@pytest.mark.parametrize(
    ("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (2.0, 1.0), (1.0, 0.8), (1.5, 0.3), (1, 1e-9)]
)
def test_frequencies_and_logprobs(temperature: float, top_p: float) -> None:
    count = 8_000
    ids, logprobs = draws(count, temperature, top_p)
    expected = probabilities(temperature, top_p)
    assert np.allclose(logprobs, np.log(expected[ids]), atol=1e-6)
    observed = np.bincount(ids, minlength=len(expected))
    assert observed[expected == 0].sum() == 0
    likely = expected * count >= 5
    if likely.sum() > 1:
        scale = observed[likely].sum() / expected[likely].sum()
        assert chisquare(observed[likely], expected[likely] * scale).pvalue > 1e-4
    assert observed[~likely].sum() <= 20


def test_a_wrong_distribution_would_be_noticed() -> None:
    observed = np.bincount(draws(20_000, 1.0, 1.0)[0], minlength=7)
    wrong = probabilities(1.1, 1.0)
    likely = wrong * 20_000 >= 5
    assert chisquare(observed[likely], wrong[likely] * observed[likely].sum() / wrong[likely].sum()).pvalue < 1e-4


def test_greedy_takes_the_best_and_reports_its_probability_at_temperature_one() -> None:
    ids, logprobs = draws(5, 0.0, 0.1)
    assert ids.tolist() == [2] * 5
    assert np.allclose(logprobs, np.log(probabilities(1.0, 1.0)[2]), atol=1e-6)


def test_rows_have_settings_and_generators_of_their_own() -> None:
    settings = [
        SamplingSettings(temperature=t, top_p=p, seed=s)
        for s, (t, p) in enumerate([(1, 1), (0, 1), (0.5, 0.9), (2, 1)])
    ]

    def fresh(index: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(index))

    together = draw(LOGITS.repeat(4, 1), settings, [fresh(index) for index in range(4)])
    for index in range(4):
        alone = draw(LOGITS[None], [settings[index]], [fresh(index)])
        assert (together[0][index], together[1][index]) == (alone[0][0], pytest.approx(alone[1][0], abs=1e-7))


@pytest.mark.parametrize("size", [5, 511, 512, 513, 1500])
def test_what_is_drawn_is_the_inverse_of_the_distribution(size: int) -> None:
    """Over blocks, with tokens that have no probability, against one sum over all tokens."""
    random = np.random.Generator(np.random.PCG64(size))
    logits = torch.tensor(random.normal(0, 3, size), dtype=torch.float32)
    logits[random.random(size) < 0.3] = -torch.inf
    logits[-1] = 0.0
    ends = np.cumsum(np.exp(logits.double().numpy()))
    values = (np.arange(400) + 0.5) / 400
    ids, logprobs = draw(logits.repeat(400, 1), [SamplingSettings(temperature=1.0)] * 400, list(map(Fixed, values)))  # type: ignore[arg-type]
    wanted = np.searchsorted(ends / ends[-1], values, side="right")
    assert (np.array(ids) == wanted).mean() > 0.99  # a border between two tokens is rounded otherwise
    assert np.abs(ends[ids] - ends[wanted]).max() <= 1e-5 * ends[-1] + np.exp(logits.double().numpy()).max() * 0.01
    assert np.allclose(logprobs, logits[ids].double() - np.log(ends[-1]), atol=1e-5)
    assert np.isfinite(logprobs).all()


def test_greedy_and_sampled_rows_together_are_what_they_are_alone() -> None:
    logits = torch.randn(6, 1000, generator=torch.Generator().manual_seed(1))
    settings = [SamplingSettings(temperature=float(index % 2), seed=index) for index in range(6)]

    def fresh(index: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(index))

    together = draw(logits, settings, [fresh(index) for index in range(6)])
    alone = [draw(logits[index][None], [settings[index]], [fresh(index)]) for index in range(6)]
    assert together[0] == [ids[0] for ids, _ in alone]
    assert [together[0][index] for index in (0, 2, 4)] == logits[::2].argmax(dim=-1).tolist()


class Fixed:
    """A generator that always gives one number."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


@pytest.mark.parametrize("value", [0.0, 0.5, 1 - 2**-53])
def test_no_impossible_token_is_ever_drawn(value: float) -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]])
    for top_p in (1.0, 0.6):
        settings = SamplingSettings(temperature=1.0, top_p=top_p)
        ids, logprobs = draw(logits, [settings], [Fixed(value)])  # type: ignore[list-item]
        assert ids[0] in (1, 3)
        assert np.isfinite(logprobs[0])
