"""What an episode cost: the one count of model calls, tokens and graph calls that every system keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from kgr1.types import Observation, Usage

OK = "ok"
"""The outcome of a graph call that returned something; other outcomes are the codes of their errors."""


@dataclass
class Ledger:
    """Grows while an episode is played, and becomes its :class:`kgr1.types.Usage`."""

    model_calls: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    forced_tokens: int = 0
    context_tokens: int = 0
    graph_outcomes: Counter[str] = field(default_factory=Counter)
    graph_s: float = 0.0

    def model(self, prompt_tokens: int, generated_tokens: int, calls: int = 1, forced_tokens: int = 0) -> None:
        """Enter ``calls`` calls of a model that read ``prompt_tokens`` each and wrote ``generated_tokens`` together.

        ``forced_tokens`` were written besides, where a grammar left no choice.
        """
        self.model_calls += calls
        self.prompt_tokens += calls * prompt_tokens
        self.generated_tokens += generated_tokens
        self.forced_tokens += forced_tokens

    def graph(self, observations: Iterable[Observation], seconds: float) -> None:
        """Enter one graph call for every observation; they took ``seconds`` together."""
        self.graph_outcomes.update(OK if o.error is None else o.error.value for o in observations)
        self.graph_s += seconds

    @property
    def graph_calls(self) -> int:
        """Queries that were answered, with a result or an error."""
        return self.graph_outcomes.total()

    def usage(self, seconds: float) -> Usage:
        """The record, with the wall time of the whole episode."""
        return Usage(
            model_calls=self.model_calls,
            prompt_tokens=self.prompt_tokens,
            generated_tokens=self.generated_tokens,
            forced_tokens=self.forced_tokens,
            context_tokens=self.context_tokens,
            graph_calls=self.graph_calls,
            graph_outcomes=dict(sorted(self.graph_outcomes.items())),
            seconds=seconds,
        )
