"""What episodes cost: tokens by kind, seconds by turn, and how many questions a second a run got through."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from kgr1.types import Episode, Record, Turn

THOUGHT_END = "</think>"


class TokenKinds(Record):
    """Where the text of an episode comes from, in tokens (or characters, where a policy writes text; see ``unit``).

    ``prompt`` is the system prompt with the question, ``thought`` and ``action`` what the model chose to write,
    ``forced`` what the grammar of a guided turn left no choice about, and ``observation`` what the graph's answers
    added. A system other than the agent has only ``read``, the prompts of all its calls with what they show of the
    graph, and ``reply``, what the model wrote.
    """

    prompt: float = 0.0
    read: float = 0.0
    reply: float = 0.0
    thought: float = 0.0
    action: float = 0.0
    forced: float = 0.0
    observation: float = 0.0


class Spread(Record):
    """Median and 95th percentile of some seconds."""

    p50: float
    p95: float
    n: int


class Session(Record):
    """One stretch of an evaluation, from start to end or interruption: what was finished in how many seconds."""

    concurrency: int
    episodes: int
    generated_tokens: int
    seconds: float


class Throughput(Record):
    """Episodes and generated tokens a second, over all sessions at one concurrency."""

    concurrency: int
    episodes: int
    episodes_per_s: float
    tokens_per_s: float


def counts_tokens(episode: Episode) -> bool:
    """True if the parts of an episode can be counted in tokens: it has token ids, or its parts are whole calls."""
    return bool(episode.prompt_ids) or any(turn.token_ids for turn in episode.turns) or _calls_apart(episode)


def _calls_apart(episode: Episode) -> bool:
    """True for a system that writes a prompt for each call, whose tokens the ledger has."""
    return any(turn.step for turn in episode.turns) and episode.usage.prompt_tokens > 0


def token_kinds(episode: Episode) -> TokenKinds:
    """Tokens by kind, or characters if the episode has no token ids.

    A turn is sampled as one piece, so its tokens are split into thought and action in proportion to their characters.
    Its forced tokens, of which only the number is known, are among those with the log-probability 0, and are taken from
    both parts in proportion to these.
    """
    if _calls_apart(episode):
        return TokenKinds(read=episode.usage.prompt_tokens, reply=episode.usage.generated_tokens)
    by_token = counts_tokens(episode)
    thought = action = forced = observation = 0.0
    for turn in episode.turns:
        size = float(len(turn.token_ids) if by_token else len(turn.text))
        written = _thought_share(turn) * size
        given = _forced(turn, round(written)) if by_token and 0.0 in turn.logprobs else (0.0, 0.0)
        written = round(written) if any(given) else written
        thought += written - given[0]
        action += size - written - given[1]
        forced += sum(given)
        observation += len(turn.information_ids) if by_token else len(turn.information)
    prompt = float(len(episode.prompt_ids) if by_token else len(episode.prompt))
    if by_token and not prompt:  # several runs in one episode, whose prompts are no longer there
        prompt = max(0.0, episode.usage.context_tokens - thought - action - forced - observation)
    return TokenKinds(prompt=prompt, thought=thought, action=action, forced=forced, observation=observation)


def _forced(turn: Turn, written: int) -> tuple[float, float]:
    """The forced tokens of a turn in its thought, the first ``written`` tokens, and behind it."""
    sure = [logprob == 0.0 for logprob in turn.logprobs]
    share = turn.forced / sum(sure)
    return share * sum(sure[:written]), share * sum(sure[written:])


def _thought_share(turn: Turn) -> float:
    end = turn.text.find(THOUGHT_END)
    if end < 0:
        # Neither a finished thought nor, mostly, an action: what was written counts as thinking aloud.
        return 1.0 if turn.query is None and turn.answer is None else 0.0
    return (end + len(THOUGHT_END)) / len(turn.text)


def mean_kinds(kinds: Sequence[TokenKinds]) -> TokenKinds:
    """The mean of every kind; zeros for none."""
    if not kinds:
        return TokenKinds()
    names = tuple(TokenKinds.model_fields)
    table = np.array([[getattr(kind, name) for name in names] for kind in kinds]).mean(axis=0)
    return TokenKinds(**dict(zip(names, table.tolist(), strict=True)))


def spread(seconds: Iterable[float]) -> Spread | None:
    """Percentiles by linear interpolation; None without any value.

    >>> spread([1.0, 2.0, 3.0])
    Spread(p50=2.0, p95=2.9, n=3)
    """
    values = np.fromiter(seconds, dtype=np.float64)
    if not len(values):
        return None
    p50, p95 = (float(value) for value in np.quantile(values, [0.5, 0.95]))
    return Spread(p50=p50, p95=p95, n=len(values))


def throughput(sessions: Iterable[Session]) -> list[Throughput]:
    """Rates by concurrency, ascending; sessions that finished nothing are left out."""
    groups: dict[int, list[Session]] = {}
    for session in sessions:
        if session.episodes and session.seconds > 0:
            groups.setdefault(session.concurrency, []).append(session)
    found = []
    for concurrency, group in sorted(groups.items()):
        seconds = sum(session.seconds for session in group)
        episodes = sum(session.episodes for session in group)
        tokens = sum(session.generated_tokens for session in group)
        rates = {"episodes_per_s": episodes / seconds, "tokens_per_s": tokens / seconds}
        found.append(Throughput(concurrency=concurrency, episodes=episodes, **rates))
    return found
