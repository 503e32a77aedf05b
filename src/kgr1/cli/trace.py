"""An episode for people: thoughts, queries and results turn by turn, then the answer and the facts behind it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from rich.text import Text

from kgr1.cli.console import one_line, out, safe_json, styled

if TYPE_CHECKING:
    from kgr1.agent.claim import Claim, Doubt
    from kgr1.agent.policy import Generation, Grammar, Policy, Session
    from kgr1.agent.prior import Ranked
    from kgr1.config import AgentSettings, SamplingSettings
    from kgr1.types import Episode, Question

_INDENT = "   "
_RESULT_CHARACTERS = 600
_EVIDENCE = 8
_WITHHELD = 20


def print_turn(number: int, text: str) -> None:
    """What the model wrote in turn ``number`` (1-based): thought and query; the answer is printed at the end."""
    from kgr1.agent.parse import parse_turn

    parsed = parse_turn(text, page_size=1)  # any size will do: queries are only shown
    head = Text(f"{number:>2} ", style="dim")
    thought = parsed.think
    if not thought and parsed.query is None and parsed.answer is None:
        thought = text.strip() or "(wrote nothing)"
    if thought:
        out.print(Text.assemble(head, styled(" ".join(one_line(thought.replace("\n", " ")).split()))))
        head = Text(_INDENT)
    if parsed.query is not None:
        out.print(Text.assemble(head, styled(one_line(parsed.query.to_text()), "cyan")))


def print_information(text: str) -> None:
    """What the graph answered."""
    shown = text.strip()
    if len(shown) > _RESULT_CHARACTERS:
        shown = f"{shown[:_RESULT_CHARACTERS]} ... ({len(shown) - _RESULT_CHARACTERS:,} more characters)"
    for line in shown.split("\n"):
        out.print(Text.assemble(_INDENT, styled(line, "dim")))


def watch(policy: Policy) -> Policy:
    """A policy that plays another one's part, its ranker included, and prints every turn as soon as it is there."""
    from kgr1.agent.prior import Ranked

    return _RankedSpectator(policy, policy) if isinstance(policy, Ranked) else _Spectator(policy)


class _Spectator:
    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    @property
    def name(self) -> str:
        return self._policy.name

    def count_tokens(self, text: str) -> int:
        return self._policy.count_tokens(text)

    async def open(self, prompt: str, question: Question, sampling: SamplingSettings) -> Session:
        return _WatchedSession(await self._policy.open(prompt, question, sampling))


class _RankedSpectator(_Spectator):
    """One of a policy that can have others beside it, whose opinions are heard as they are where nobody looks on."""

    def __init__(self, policy: Policy, ranked: Ranked) -> None:
        super().__init__(policy)
        self.ranker, self.meaning, self.verifier = ranked.ranker, ranked.meaning, ranked.verifier


class _WatchedSession:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._turns = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        return self._session.prompt_ids

    @property
    def context_tokens(self) -> int:
        return self._session.context_tokens

    @property
    def room(self) -> int:
        return self._session.room

    async def generate(self, max_new_tokens: int, grammar: Grammar | None = None) -> Generation:
        generation = await self._session.generate(max_new_tokens, grammar)
        self._turns += 1
        print_turn(self._turns, generation.text)
        return generation

    def append(self, text: str) -> tuple[int, ...]:
        inner = text.strip().removeprefix("<information>").removesuffix("</information>")
        print_information(inner)
        return self._session.append(text)

    def close(self) -> None:
        self._session.close()


def print_episode(episode: Episode) -> None:
    """All turns of a finished episode."""
    for number, turn in enumerate(episode.turns, start=1):
        print_turn(number, turn.text)
        if turn.information:
            print_information(turn.information)


def sort_out(episodes: Sequence[Episode], agent: AgentSettings) -> tuple[list[Claim], list[tuple[Claim, Doubt]]]:
    """The distinct answers of all runs, most often given first: those to give out, and those withheld with a reason."""
    from kgr1.agent.claim import doubt, weigh

    given, withheld = [], []
    for claim in weigh(episodes):
        reason = doubt(claim, agent)
        if reason is None:
            given.append(claim)
        else:
            withheld.append((claim, reason))
    return given, withheld


def print_answers(episodes: Sequence[Episode], agent: AgentSettings | None = None) -> None:
    """The answers of all runs with the facts behind them, or why there is none, and what ``agent`` withholds."""
    from kgr1.config import AgentSettings

    agent = agent or AgentSettings()
    given, withheld = sort_out(episodes, agent)
    if not given:
        reasons = dict.fromkeys(why_unanswered(episode) for episode in episodes)
        why = _why_withheld([reason for _, reason in withheld]) if withheld else "; ".join(reasons)
        out.print(Text.assemble(("No answer: ", "bold yellow"), styled(why), "."))
    shared = {(claim.evidence, claim.times) for claim in given}
    for claim in given:
        remarks = [f"{claim.runs} of {len(episodes)} runs"] if len(episodes) > 1 else []
        if agent.min_confidence and claim.confidence is not None:
            remarks.append(f"confidence {claim.confidence:.3f}")
        count = f"  ({', '.join(remarks)})" if remarks else ""
        out.print(Text.assemble(("=> ", "bold green"), styled(one_line(claim.name), "bold"), (count, "dim")))
        if len(shared) > 1 or claim is given[-1]:
            _print_evidence(claim)
    for claim, reason in withheld[:_WITHHELD]:
        out.print(
            Text.assemble(
                ("Withheld: ", "yellow"), styled(one_line(claim.name)), (f" ({_doubt(claim, reason, agent)})", "dim")
            )
        )
    if len(withheld) > _WITHHELD:
        out.print(Text(f"Withheld: {len(withheld) - _WITHHELD} more names", style="dim"))


def _why_withheld(reasons: Sequence[Doubt]) -> str:
    from kgr1.agent.claim import Doubt

    if set(reasons) == {Doubt.UNSURE}:
        return "the agent is not sure enough of what it found"
    return "the agent found nothing that it can show evidence for"


def _doubt(claim: Claim, reason: Doubt, agent: AgentSettings) -> str:
    from kgr1.agent.claim import Doubt

    if reason is not Doubt.UNSURE:
        return reason.value
    if claim.confidence is None:
        return "this model records no probabilities that say how sure it is"
    return f"confidence {claim.confidence:.3f}, below {agent.min_confidence:g}"


def _print_evidence(claim: Claim) -> None:
    from kgr1.graph.render import show_dates

    if not claim.evidence:
        out.print(Text(f"{_INDENT}no fact that the graph showed leads to it", style="yellow"))
    for place, (triple, dates) in enumerate(zip_longest(claim.evidence[:_EVIDENCE], claim.times[:_EVIDENCE])):
        lead = "because: " if place == 0 else "         "
        fact = f"{one_line(triple.head)} -- {one_line(triple.relation)} --> {one_line(triple.tail)}"
        out.print(Text.assemble((f"{_INDENT}{lead}", "dim"), styled(fact), (one_line(show_dates(dates or ())), "dim")))
    if len(claim.evidence) > _EVIDENCE:
        out.print(Text(f"{_INDENT}         and {len(claim.evidence) - _EVIDENCE} more facts", style="dim"))


def why_unanswered(episode: Episode) -> str:
    """Why an episode has no answer, as the part of a sentence."""
    from kgr1.types import StopReason

    reasons = {
        StopReason.ANSWERED: "the agent gave an empty answer",
        StopReason.MAX_TURNS: f"the agent did not come to one in {episode.max_turns} turns",
        StopReason.CONTEXT_FULL: "the model's context is full",
        StopReason.POLICY_ERROR: f"the model failed ({episode.error.rstrip('.')})",
        StopReason.GRAPH_ERROR: f"the graph failed ({episode.error.rstrip('.')})",
    }
    return one_line(reasons[episode.stop])


def as_json(question: Question, episodes: Sequence[Episode], agent: AgentSettings) -> str:
    """Answers, what is withheld and why, and the episodes without what is withheld, as one JSON object."""
    from kgr1.agent.claim import withhold

    given, withheld = sort_out(episodes, agent)
    return safe_json(
        {
            "question": question.text,
            "topics": question.topics,
            "answers": [claim.model_dump(mode="json") for claim in given],
            "withheld": [claim.model_dump(mode="json") | {"reason": reason.value} for claim, reason in withheld],
            "episodes": [withhold(episode, agent, episodes).model_dump(mode="json") for episode in episodes],
        }
    )
