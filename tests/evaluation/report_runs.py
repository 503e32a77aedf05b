"""Runs for reports, with names that attack what they are written into."""

from __future__ import annotations

from eval_episodes import asked, played, question

from kgr1.types import Answer, Episode, ErrorCode, StopReason, Turn

HOSTILE = (
    "<script>window.hacked = 1</script>",
    '"\'><img src=x onerror="window.hacked = 1">',
    "</script><script>window.hacked = 1</script>",
    "<!--<script>",
    "\u202egnirts desrever \u2066 \u200f",
    "{{ 7 * 7 }} {% raw %} ${hacked} \\u003c",
    "$x^2$ _sub & | \\ # % ~ \u2028 \x07",
    "عربى 東京 \U0001f600",
)


def hostile_runs(count: int = 16) -> dict[str, list[Episode]]:
    """Two systems on one data set; every text of every episode is hostile."""
    runs = {}
    for number, system in enumerate(("plain", HOSTILE[1])):
        episodes = []
        for n in range(count):
            name, other = HOSTILE[n % len(HOSTILE)], HOSTILE[(n + 1) % len(HOSTILE)]
            item = question(n, [name], dataset=HOSTILE[2], kind=other, hops=n % 3 + 1, topics=(other,))
            item = item.model_copy(update={"text": f"Who is {name}?"})
            turns = [
                asked(name).model_copy(update={"text": f"<think>{other}</think>{name}", "information": name}),
                asked(error=ErrorCode.NO_RESULTS).model_copy(update={"text": other, "information": other}),
            ]
            said = [name] if (n + number) % 3 else [other]
            episode = played(item, said, turns=turns, tokens=10 + n)
            episodes.append(episode.model_copy(update={"error": other, "prompt": "p" * 50}))
        runs[system] = episodes
    return runs


def thought(text: str, tokens: int, answer: str | None = None) -> Turn:
    """A turn of so many tokens."""
    action = None if answer is None else Answer(names=(answer,))
    return Turn(text=text, token_ids=tuple(range(tokens)), answer=action)


def failed(number: int, stop: StopReason) -> Episode:
    """An episode that ended without an answer."""
    return played(question(number), None, stop=stop)
