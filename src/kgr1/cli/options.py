"""Options that several commands share: one name, one meaning, one help text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from kgr1.config import Settings

GraphSpec = Annotated[
    str,
    typer.Option(
        "--graph",
        "-g",
        metavar="GRAPH",
        help="A built graph, a triple file (TSV, CSV, JSON lines, Parquet or RDF, also compressed), the URL of a "
        "graph server (URL#NAME if it has several graphs), sparql+URL of a SPARQL endpoint, or 'countries' for the "
        "graph that comes with kgr1.",
    ),
]
QuestionsSpec = Annotated[
    str,
    typer.Option(
        "--questions",
        "-q",
        metavar="QUESTIONS",
        help="A folder with questions.jsonl, a question file, or 'countries' for the questions that come with kgr1.",
    ),
]
SomeGraph = Annotated[str | None, GraphSpec.__metadata__[0]]
"""A graph that need not be named."""

SomeQuestions = Annotated[str | None, QuestionsSpec.__metadata__[0]]
"""Questions that need not be named."""

MixtureFile = Annotated[
    Path | None,
    typer.Option(
        "--mixture",
        metavar="TOML",
        help="A file that names several graphs with their questions, in place of --graph and --questions.",
    ),
]
Without = Annotated[
    list[str] | None,
    typer.Option(
        "--without",
        metavar="PART",
        help="Leave out the parts of the mixture that this name or pattern fits, e.g. 'films*'; repeatable.",
    ),
]
SystemName = Literal[
    "agent",
    "agent-runs",
    "vanilla",
    "cot",
    "self-consistency",
    "rog",
    "rog-retrieval",
    "rog-prompted",
    "rog-prompted-retrieval",
    "tog",
    "reknos",
]
"""What ``kgr1 evaluate --system`` plays."""

ModelSpec = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="A model or adapter (folder, GGUF file or hub name), or the address of an OpenAI-compatible server "
        "(URL#MODEL if it has several models).",
    ),
]
Subset = Annotated[str | None, typer.Option(help="Keep only the questions of this subset.")]
Hops = Annotated[int | None, typer.Option(min=1, help="Keep only the questions of this number of hops.")]
Split = Annotated[
    str | None,
    typer.Option(
        help="Keep only the questions of this split; 'all' keeps every one. By default training takes 'train', "
        "evaluation takes 'test', and other commands take all."
    ),
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Use at most this many questions, drawn with the seed of the command.")
]
Config = Annotated[
    Path | None, typer.Option("--config", "-c", metavar="TOML", help="A settings file with one table per topic.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Change one setting, e.g. agent.max_turns=7; repeatable."),
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder for everything the run writes.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of an evaluation, or its episodes.jsonl.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the newest complete checkpoint in DIR.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what an earlier run left in DIR.")]


def sampled_settings(
    config: Path | None,
    overrides: Sequence[str] | None,
    *,
    runs: int,
    temperature: float | None,
    seed: int | None,
    max_turns: int | None = None,
    model: str | None = None,
) -> Settings:
    """Settings for ``runs`` runs of each question; several runs are drawn at temperature 1 unless one is named.

    A ``model`` that was saved with the settings of its agent brings them along, in the place of the defaults.
    """
    extra = [] if max_turns is None else [f"agent.max_turns={max_turns}"]
    extra += [] if seed is None else [f"sampling.seed={seed}"]
    extra += [] if temperature is None else [f"sampling.temperature={temperature}"]
    usual = _trained_with(model)
    settings = resolve_settings(config, overrides, *extra, usual=usual)
    if runs == 1 or settings.sampling.temperature > 0:
        return settings
    if temperature is not None:
        raise typer.BadParameter("several runs at temperature 0 are all the same.", param_hint="--temperature")
    return resolve_settings(config, overrides, *extra, "sampling.temperature=1.0", usual=usual)


def _trained_with(model: str | None) -> dict[str, dict[str, Any]]:
    """The tables of settings that a model was saved with."""
    from kgr1.models.pretrained import agent_settings

    found = {} if model is None else agent_settings(model)
    return {"agent": found} if found else {}


def resolve_settings(
    config: Path | None,
    overrides: Sequence[str] | None,
    *extra: str,
    usual: Mapping[str, Mapping[str, Any]] | None = None,
) -> Settings:
    """The settings of a run: defaults, then the file, then ``--set``, then ``extra`` (options of their own)."""
    from kgr1.config import load_settings

    return load_settings(config, [*(overrides or ()), *extra], usual=usual)
