"""The card of a trained policy: what it was made of, how its training went, and how to use it.

It is written from the files of the run (:mod:`kgr1.cli.runs`), so it says what was done and not what was planned.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kgr1.cli.console import warn
from kgr1.cli.runs import LOG_FILE, RUN_FILE, flat

CARD = "README.md"
WINDOW = 5
"""Steps at either end of a run whose means stand in the card."""

_CURVES = {
    "f1": "F1",
    "retrieved": "retrieval",
    "dev_f1": "F1, development questions",
    "reward": "reward",
    "loss": "loss",
    "turns": "turns",
    "generated_tokens": "generated tokens",
    "degenerate_groups": "share of groups with equal returns",
}
_WHAT = {
    "train": "reinforcement learning (multi-turn GRPO)",
    "coldstart": "a cold start on expert trajectories",
    "coldstart --planner": "fine-tuning as a planner of relation paths (RoG)",
}

_CLOSING = """\
These are numbers of the training. What the policy is worth, questions say that it was not trained on:
`kgr1 evaluate --split test`.

## Licence

To be filled in by whoever publishes this: the terms of the base model, the questions and the graphs above hold.
"""


def describe(run: Path, *policies: Path) -> None:
    """Write the card of each policy that the run in folder ``run`` has made, of those that exist.

    A run is not a failure because its card is: what cannot be written is told.
    """
    from kgr1.grpo.checkpoint import failure, write_file

    for policy in policies:
        if not policy.is_dir():
            continue
        try:
            write_file(policy / CARD, card(run, policy).encode())
        except OSError as error:
            warn(f"The card of {policy} was not written. {failure(policy / CARD, error)}")


def card(run: Path, policy: Path) -> str:
    """The text of the card, in Markdown with the metadata that the Hugging Face hub reads."""
    record = _json(run / RUN_FILE)
    adapter = _json(policy / "adapter_config.json")
    command, start = str(record.get("command", "")), str(record.get("model", "unknown"))
    planner = "planner" in command
    base = str(adapter.get("base_model_name_or_path") or start)
    what = "a model that plans relation paths" if planner else "an agent that asks a knowledge graph"
    parts = [
        _metadata(base, command, adapter=bool(adapter)),
        f"# {_plain(run.resolve().name)}\n",
        f"{_code(start)} after {_WHAT.get(command, 'training')} in KG-R1: {what}.\n",
    ]
    if not planner:
        asking = f"--graph facts.tsv --model {shlex.quote(_one(str(policy)))}"
        parts.append(f'## Use\n\n```sh\nkgr1 ask "Where was the director of Alien born?" {asking}\n```\n')
    parts += ["## Training\n", _table(("", ""), _facts(record))]
    changed = _changed(record)
    if changed:
        parts.append("Settings that are not the defaults:\n\n```toml\n" + "\n".join(changed) + "\n```\n")
    curves = _curves(run / LOG_FILE)
    if curves:
        first, last = f"first {WINDOW} steps", f"last {WINDOW} steps"
        parts += [f"Means over the {first} and the {last}, as logged:\n", _table(("", first, last), curves)]
    parts.append(_CLOSING)
    return "\n".join(parts)


def _metadata(base: str, command: str, *, adapter: bool) -> str:
    tags = ["kgr1", "knowledge-graph", "question-answering", "grpo" if command == "train" else "sft"]
    rows = {"base_model": base, "library_name": "peft" if adapter else "transformers", "tags": tags}
    # JSON is YAML, and what stands in quotes cannot break out of it.
    return "---\n" + "\n".join(f"{key}: {json.dumps(value)}" for key, value in rows.items()) + "\n---\n"


def _facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    graph, questions, dev = (record.get(key) or {} for key in ("graph", "questions", "dev_questions"))
    code = f"kgr1 {_plain(str(record.get('kgr1', '')))}, commit {_code(record.get('git_revision') or 'unknown')}"
    versions = [f"{_plain(name)} {_plain(str(version))}" for name, version in (record.get("versions") or {}).items()]
    rows = [
        ("start", _code(record.get("model", "unknown"))),
        ("graph", _graph(graph)),
        ("questions", _questions(questions)),
        ("development questions", _questions(dev) if dev.get("count") else ""),
        ("seed", _code(record.get("seed", "unknown"))),
        ("begun", _plain(str(record.get("started", "")))),
        ("code", code),
        ("libraries", ", ".join(versions)),
    ]
    return [(name, value) for name, value in rows if value]


def _graph(graph: Mapping[str, Any]) -> str:
    if not graph:
        return ""
    counts = ", ".join(f"{graph[key]:,} {key}" for key in ("triples", "entities", "relations") if key in graph)
    return f"{_code(graph.get('source', 'unknown'))} ({counts})"


def _questions(questions: Mapping[str, Any]) -> str:
    if not questions:
        return ""
    names = [f"{key} {_plain(str(questions[key]))}" for key in ("subset", "split") if questions.get(key)]
    source = f" of {_code(questions['source'])}" if questions.get("source") else ""
    digest = f" (SHA-256 {_code(str(questions['sha256'])[:16])}...)" if questions.get("sha256") else ""
    return f"{questions.get('count', 0):,}{source}{''.join(f', {name}' for name in names)}{digest}"


def _changed(record: Mapping[str, Any]) -> list[str]:
    """The settings of the run that differ from the defaults, as lines of TOML."""
    from kgr1.config import Settings

    settings = record.get("settings") or {}
    usual = flat(Settings().model_dump(mode="json"))
    rows: list[str] = []
    for table, values in settings.items():
        changed = [f"{key} = {value}" for key, value in flat(values).items() if usual.get(f"{table}.{key}") != value]
        # A dotted key of two parts is a sentence beside its number.
        plain = [line for line in changed if not line.startswith("sentences.")]
        sentences = [line.removeprefix("sentences.") for line in changed if line.startswith("sentences.")]
        if plain:
            rows += [f"[{table}]", *plain]
        if sentences:
            rows.append(f"[{table}.sentences]")
            for line in sentences:
                name, _, value = line.rpartition(" = ")
                rows.append(f"{json.dumps(name)} = {value}")
    return [row.replace("`", "'") for row in rows]


def _curves(log: Path) -> list[tuple[str, ...]]:
    """The first and last means of what was logged; empty without a log."""
    from kgr1.errors import EvaluationError
    from kgr1.evaluation.curve import read_log

    try:
        logged = read_log(log)
    except EvaluationError:
        return []
    rows: list[tuple[str, ...]] = []
    for name, shown in _CURVES.items():
        if name in logged:
            values = logged[name][1]
            rows.append((shown, f"{values[:WINDOW].mean():.3f}", f"{values[-WINDOW:].mean():.3f}"))
    return rows


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def _json(path: Path) -> dict[str, Any]:
    """A file's object; empty if there is none, or another value."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _code(value: object) -> str:
    return f"`{_one(str(value)).replace('`', chr(39))}`"


def _plain(text: str) -> str:
    """Text that Markdown and HTML take for nothing but text."""
    return "".join(f"\\{char}" if char in "\\`*_[]<>#&!" else char for char in _one(text))


def _one(text: str) -> str:
    return " ".join(text.split())
