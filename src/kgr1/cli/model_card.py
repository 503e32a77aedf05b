"""The card of a trained policy: what it was made of, how its training went, and how to use it.

It is written from the files of the run (:mod:`kgr1.cli.runs`), so it says what was done and not what was planned.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgr1.cli.console import warn
from kgr1.cli.runs import LOG_FILE, RUN_FILE

if TYPE_CHECKING:
    from kgr1.evaluation.curve import Series

CARD = "README.md"
WINDOW = 5
"""Steps at either end of a run whose means stand in the card; one, if the run has too few for two ends."""

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
What the policy is worth, questions say that it was not trained on ({evaluation}).

## Licence

To be filled in by whoever publishes this: the terms of the base model, the questions and the graphs above hold.
"""

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def describe(run: Path, *policies: Path) -> None:
    """Write the card of each policy that the run in folder ``run`` has made, of those that exist.

    A run is not a failure because its card is: what goes wrong is told.
    """
    from kgr1.grpo.checkpoint import is_main_process, write_file

    for policy in policies:
        if not policy.is_dir() or not is_main_process():
            continue
        try:
            write_file(policy / CARD, card(run, policy).encode("utf-8", errors="replace"))
        except Exception as error:  # whatever a damaged record holds, the policy is there
            warn(f"The card of {policy} was not written ({error}); the policy itself is whole.")


def card(run: Path, policy: Path) -> str:
    """The text of the card, in Markdown with the metadata that the Hugging Face hub reads."""
    from kgr1.evaluation.report import markdown_table

    record = _json(run / RUN_FILE)
    adapter = _json(policy / "adapter_config.json")
    command = str(record.get("command", "")).removeprefix("demo ")
    start = str(record.get("model", "unknown"))
    planner = "planner" in command
    base = str(adapter.get("base_model_name_or_path") or start)
    logged = _logged(run / LOG_FILE)
    what = "a model that plans relation paths" if planner else "an agent that asks a knowledge graph"
    parts = [
        _metadata(base, command, adapter=bool(adapter)),
        f"# {_code(run.resolve().name)}\n",
        f"{_code(start)} after {_WHAT.get(command, 'training')} in KG-R1: {what}.\n",
    ]
    if not planner:
        asking = f"--graph facts.tsv --model {shlex.quote(str(policy))}"
        if asking.isprintable():
            parts.append(f'## Use\n\n```sh\nkgr1 ask "Where was the director of Alien born?" {asking}\n```\n')
    facts = _facts(record) + _steps(record, logged) + _best(run, policy)
    parts += ["## Training\n", *markdown_table(("", ""), facts), ""]
    curves = _curves(logged)
    if curves:
        parts += _ends(curves, _window(logged))
    settings = _settings(record)
    if settings:
        parts += ["All settings, as a file for `--config`:\n", f"```toml\n{settings}```\n"]
    parts.append(_CLOSING.format(evaluation="`kgr1 compare`" if planner else "`kgr1 evaluate`"))
    return "\n".join(parts)


def _metadata(base: str, command: str, *, adapter: bool) -> str:
    rows: dict[str, Any] = {"library_name": "peft" if adapter else "transformers"}
    if _HUB_NAME.fullmatch(base) and not Path(base).exists():  # the hub takes no folder for a model
        rows["base_model"] = base
    rows["tags"] = ["kgr1", "knowledge-graph", "question-answering"]
    rows["tags"] += ["grpo"] if command == "train" else ["sft"] if command.startswith("coldstart") else []
    # JSON is YAML, and what stands in quotes cannot break out of it.
    return "---\n" + "\n".join(f"{key}: {json.dumps(value)}" for key, value in rows.items()) + "\n---\n"


def _facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    graph, questions, dev, libraries = (
        _object(record.get(key)) for key in ("graph", "questions", "dev_questions", "versions")
    )
    skipped = _object(questions.get("skip"))
    code = f"kgr1 {_code(record.get('kgr1', 'unknown'))}, commit {_code(record.get('git_revision') or 'unknown')}"
    versions = [_code(f"{name} {version}") for name, version in libraries.items()]
    rows = [
        ("start", _code(record.get("model", "unknown"))),
        ("graph", _graph(graph)),
        ("questions", _questions(questions)),
        ("parts left out", ", ".join(map(_code, _list(questions.get("without"))))),
        ("trajectories left out", ", ".join(f"{_count(n)} of {_code(part)}" for part, n in skipped.items())),
        ("development questions", _questions(dev) if dev.get("count") else ""),
        ("seed", _code(record.get("seed", "unknown"))),
        ("begun", _code(record.get("started", "unknown"))),
        ("code", code),
        ("libraries", ", ".join(versions)),
    ]
    return [(name, value) for name, value in rows if value]


def _graph(graph: Mapping[str, Any]) -> str:
    if not graph:
        return ""
    counts = ", ".join(f"{_count(graph[key])} {key}" for key in ("triples", "entities", "relations") if key in graph)
    return f"{_code(graph.get('source', 'unknown'))} ({counts})"


def _questions(questions: Mapping[str, Any]) -> str:
    if not questions:
        return ""
    names = [f"{key} {_code(questions[key])}" for key in ("subset", "split", "limit") if questions.get(key)]
    source = f" of {_code(questions['source'])}" if questions.get("source") else ""
    digest = f" (SHA-256 {_code(str(questions['sha256'])[:16])}...)" if questions.get("sha256") else ""
    return f"{_count(questions.get('count', 0))}{source}{''.join(f', {name}' for name in names)}{digest}"


def _steps(record: Mapping[str, Any], logged: Mapping[str, Series]) -> list[tuple[str, str]]:
    """How far the run came, which is not always as far as the settings say."""
    reached = max((int(steps[-1]) for steps, _ in logged.values()), default=0)
    planned = _object(_object(record.get("settings")).get("train")).get("steps")
    if not reached:
        return []
    return [("steps", f"{reached:,}" if planned in (None, reached) else f"{reached:,} of {_count(planned)}")]


def _best(run: Path, policy: Path) -> list[tuple[str, str]]:
    """Of the best policy by development questions, which step it is of."""
    found = _json(run / "best.json") if policy.name == "best" else {}
    return [("step", f"{_code(found['step'])}, the best by development questions")] if "step" in found else []


def _settings(record: Mapping[str, Any]) -> str:
    """The settings of the run as TOML: all, since which ones are defaults depends on the start."""
    lines: list[str] = []
    for table, values in _object(record.get("settings")).items():
        values = _object(values)
        tables = {key: value for key, value in values.items() if isinstance(value, Mapping)}
        lines += ["", f"[{table}]", *_pairs({key: value for key, value in values.items() if key not in tables})]
        for key, value in tables.items():
            lines += ["", f"[{table}.{key}]", *_pairs(value, _toml)]
    return "".join(f"{line}\n" for line in lines[1:])


def _pairs(values: Mapping[str, Any], spelled: Callable[[str], str] = str) -> list[str]:
    return [f"{spelled(key)} = {_toml(value)}" for key, value in values.items()]


def _toml(value: object) -> str:
    """JSON is TOML but for characters that JSON writes as two and for one that TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _logged(log: Path) -> dict[str, Series]:
    """The columns of a log; empty without one."""
    from kgr1.errors import EvaluationError
    from kgr1.evaluation.curve import read_log

    try:
        return read_log(log)
    except EvaluationError:
        return {}


def _window(logged: Mapping[str, Series]) -> int:
    """Steps at either end: their columns must not be made of the same steps."""
    return WINDOW if max((len(steps) for steps, _ in logged.values()), default=0) >= 2 * WINDOW else 1


def _ends(curves: list[tuple[str, ...]], window: int) -> list[str]:
    """The table of the first and the last steps."""
    from kgr1.evaluation.report import markdown_table

    if window == 1:
        what, first, last = "The first and the last step", "first step", "last step"
    else:
        first, last = f"first {window} steps", f"last {window} steps"
        what = f"Means over the {first} and the {last}"
    return [f"{what} of the run, as logged, of its own questions:\n", *markdown_table(("", first, last), curves), ""]


def _curves(logged: Mapping[str, Series]) -> list[tuple[str, ...]]:
    """The first and last means of what was logged."""
    rows: list[tuple[str, ...]] = []
    window = _window(logged)
    for name, shown in _CURVES.items():
        if name in logged:
            values = logged[name][1]
            rows.append((shown, f"{values[:window].mean():.3f}", f"{values[-window:].mean():.3f}"))
    return rows


def _json(path: Path) -> dict[str, Any]:
    """A file's object; empty if there is none, or another value."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return _object(found)


def _object(value: object) -> dict[str, Any]:
    """A JSON object, or an empty one in place of something else."""
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    """A JSON array, or an empty one in place of something else."""
    return value if isinstance(value, list) else []


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else _code(value)


def _code(value: object) -> str:
    """A value that Markdown and HTML take for nothing but text."""
    return f"`{_one(str(value)).replace('`', chr(39))}`"


def _one(text: str) -> str:
    return " ".join(text.split())
