"""``kgr1 judge``: a language model as a second opinion on saved answers."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kgr1.cli.bars import StepBar
from kgr1.cli.console import facts, note, one_line, out, warn
from kgr1.cli.options import RunFolder
from kgr1.errors import EvaluationError

if TYPE_CHECKING:
    from kgr1.evaluation.agreement import Agreement, JudgeSummary
    from kgr1.evaluation.judge import Judged, JudgeSettings, Tally

VERDICTS = "judge.jsonl"


def judge(
    run: RunFolder,
    base_url: Annotated[
        str,
        typer.Option("--base-url", metavar="URL", help="An OpenAI-compatible server, e.g. http://127.0.0.1:8000/v1."),
    ],
    model: Annotated[str, typer.Option("--model", "-m", metavar="NAME", help="The judge's name on that server.")],
    cache: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where verdicts are kept; judge.jsonl beside the episodes by default."),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=512, help="Requests at once.")] = 8,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that one reply may take.")] = 60.0,
    retries: Annotated[int, typer.Option(min=0, help="How often a request that failed is repeated.")] = 4,
    max_tokens: Annotated[int, typer.Option(min=8, help="Tokens that the judge may write for one reply.")] = 512,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap intervals.")] = 0,
) -> None:
    """Ask a language model which gold answers were named, one bit each, and how far the exact score agrees.

    The API key is read from KGR1_JUDGE_KEY, or else OPENAI_API_KEY. Verdicts are kept as they arrive: run the same
    command again to go on, and a rerun asks nothing twice. Writes judge.json beside the episodes, for 'kgr1
    rescore' and 'kgr1 report'.
    """
    from kgr1.cli.diff import journal
    from kgr1.evaluation.agreement import JUDGE_FILE, summarise_judge
    from kgr1.evaluation.files import write_whole
    from kgr1.evaluation.judge import PROMPT_VERSION, JudgeSettings

    episodes = journal(run)
    settings = JudgeSettings(
        base_url=base_url,
        model=model,
        concurrency=concurrency,
        timeout_s=timeout,
        retries=retries,
        max_tokens=max_tokens,
    )
    judged, tally = _verdicts(episodes, cache or episodes.with_name(VERDICTS), settings)
    summary = summarise_judge(judged, model=model, prompt_version=PROMPT_VERSION, seed=seed)
    write_whole(episodes.with_name(JUDGE_FILE), summary.model_dump_json(indent=2) + "\n")
    _show(summary, tally)
    if 2 * summary.unread > summary.episodes:
        warn(
            f"{summary.unread} of {summary.episodes} verdicts could not be read and count 0: this model does not keep "
            "to the form, and a larger one is needed. What it wrote stands in the file of the verdicts."
        )
    note(f"Written to {episodes.with_name(JUDGE_FILE)}.")


def _verdicts(episodes: Path, cache: Path, settings: JudgeSettings) -> tuple[list[Judged], Tally]:
    """Ask with a progress bar, one judge at a time in a folder."""
    from kgr1.cli.failures import keeping
    from kgr1.evaluation.files import locked, read_episodes
    from kgr1.evaluation.judge import judge as ask
    from kgr1.evaluation.verdicts import VerdictBook

    if cache.name == "episodes.jsonl":
        raise typer.BadParameter("verdicts cannot be kept in a file of episodes.", param_hint="--cache")
    key = _api_key()
    saved = list(read_episodes(episodes))  # a file that is missing is told before anything is made
    cache.parent.mkdir(parents=True, exist_ok=True)
    with locked(cache.parent), VerdictBook(cache) as book, StepBar("Judging", "request") as bar:

        def kept() -> str:
            return f"Kept: {len(book)} verdicts in {cache}; run the same command again to go on."

        with keeping(kept):
            return asyncio.run(
                ask(saved, book, settings, api_key=key, progress=lambda done, total: bar.update(done, total, {}))
            )


def _api_key() -> str:
    from kgr1.evaluation.judge import KEY_VARIABLE

    key = (os.environ.get(KEY_VARIABLE) or os.environ.get("OPENAI_API_KEY") or "").strip()
    if not key.isascii() or not key.isprintable():
        raise EvaluationError(f"The API key in {KEY_VARIABLE} has characters that no key has; set it again.")
    return key


def _show(summary: JudgeSummary, tally: Tally) -> None:
    from kgr1.cli.evaluate import print_table
    from kgr1.evaluation.bootstrap import RESAMPLES
    from kgr1.evaluation.metrics import Slice
    from kgr1.evaluation.report import slice_table

    whole = Slice(questions=summary.questions, episodes=summary.episodes, metrics=summary.metrics)
    print_table(slice_table(whole, seed=summary.seed, resamples=RESAMPLES))
    out.print(
        facts(
            [
                ("judge", one_line(summary.model)),
                ("agreement on gold entities", _agreed(summary.entities)),
                ("agreement on episodes (some gold entity named)", _agreed(summary.some_entity)),
                ("episodes whose verdict could not be read", f"{summary.unread}"),
                ("requests made, and found in the file", f"{tally.calls}, {tally.cached}"),
            ]
        )
    )


def _agreed(found: Agreement) -> str:
    if found.equal is None:
        return "-"
    kappa = "not defined" if found.kappa is None else f"{found.kappa:.3f}"
    return (
        f"{found.equal:.1%} of {found.n}, Cohen's kappa {kappa}; yes by the judge only {found.judge_only}, "
        f"by the exact score only {found.exact_only}"
    )
