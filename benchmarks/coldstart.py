"""Tokens a second of a cold start, against transformers' own trainer on the same trajectories.

    python benchmarks/coldstart.py [--model NAME] [--batch 8] [--steps 3] [--rank 16] [--dtype bfloat16] [--seed 0]
        [--threads N] [--out RESULTS.json]

The trajectories are those of the expert on the countries graph that comes with the package, replayed as for a real cold
start. Both trainers see the same batches in the same order, with the same adapter, optimizer and number type (bfloat16
if the processor is faster with it, else float32), and with frozen weights that are kept in that type.

kgr1           the trainer of ``kgr1 coldstart``: the trajectories of a batch as one tree, and the output layer on the
               tokens that are learned
transformers   ``Trainer`` as it is: padded rows, and the loss that the model computes from labels

Tokens a second are those of the trajectories without padding, prompts included, however often a trainer computes them;
how often is in the table as well. One step comes before those that count, and the losses of the two must agree.
"""

from __future__ import annotations

import argparse
import gc
import io
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from numbers_file import save_numbers
from transformers import Trainer, TrainerCallback, set_seed

from kgr1.cli.quiet import hide_loading_bars, quiet_libraries
from kgr1.config import DEFAULT_MODEL, AgentSettings, ColdstartSettings
from kgr1.datasets.embedded import embedded_graph_path, embedded_questions
from kgr1.datasets.expert import expert_dataset
from kgr1.graph import GraphStore
from kgr1.graph.readers import read_batches
from kgr1.grpo.coldstart import ColdstartTrainer, Example, _arguments, _trainable, build_examples, collate
from kgr1.grpo.tree_attention import takes_trees
from kgr1.models.numbers import bfloat16_cost
from kgr1.models.weights import load_model, load_tokenizer

TOLERANCE = 0.02
"""Relative difference of losses that rounding explains, in bfloat16 too."""


@dataclass
class Watch(TrainerCallback):
    """Times the steps of a trainer, the first of them left out, and counts what goes into its model."""

    step_s: list[float] = field(default_factory=list)
    computed: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    _computed: int = 0
    _started: float = 0.0

    def count(self, model: Any) -> None:
        """Count the tokens that go into a model."""
        inner = model.get_base_model() if hasattr(model, "peft_config") else model

        def hook(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
            self._computed += (args[0] if args else kwargs["input_ids"]).numel()

        inner.base_model.register_forward_pre_hook(hook, with_kwargs=True)

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        gc.collect()
        self._computed = 0
        self._started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop it."""
        if state.global_step > 1:
            self.step_s.append(time.perf_counter() - self._started)
            self.computed.append(self._computed)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        """Keep the loss."""
        if "loss" in logs:
            self.losses.append(logs["loss"])


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure both trainers, print a table and save the numbers."""
    options = _options(arguments)
    hide_loading_bars()
    if options.threads:
        torch.set_num_threads(options.threads)
    dtype = options.dtype or ("bfloat16" if bfloat16_cost() < 1 else "float32")
    settings = ColdstartSettings(
        trajectories=options.batch * (options.steps + 1),
        batch_size=options.batch,
        micro_batch_size=options.batch,
        lora_rank=options.rank,
        dtype=dtype,
        seed=options.seed,
        save_steps=1000,
    )
    examples = make_examples(options.model, settings)
    results: dict[str, Any] = {
        "model": options.model,
        "threads": torch.get_num_threads(),
        "coldstart": settings.model_dump(mode="json"),
    }
    watches: dict[str, Watch] = {}
    for name in ("transformers", "kgr1"):
        with tempfile.TemporaryDirectory() as folder, quiet_libraries():
            watch = watches[name] = measure(name, options.model, examples, settings, Path(folder))
        results[name] = summary(watch, examples, options.batch)
        print(f"{name}: {results[name]['step_s']:.2f} s a step", file=sys.stderr, flush=True)
    for own, peer in zip(watches["kgr1"].losses, watches["transformers"].losses, strict=True):
        if not math.isclose(own, peer, rel_tol=TOLERANCE):
            raise SystemExit(f"The losses differ, {own} and {peer}: the trainers do not do the same.")
    print(table(results))
    if options.out:
        save_numbers(options.out, results)
    return results


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or folder")
    parser.add_argument("--batch", type=int, default=8, help="trajectories of a step")
    parser.add_argument("--steps", type=int, default=3, help="steps that count; the median does")
    parser.add_argument("--rank", type=int, default=16, help="of the adapter; 0 trains all weights")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: the faster one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="of torch; default: its own choice")
    parser.add_argument("--out", type=Path)
    return parser.parse_args(arguments)


def make_examples(model: str, settings: ColdstartSettings) -> list[Example]:
    """What the expert does on the countries, as tokens."""
    facts = (batch.facts for batch in read_batches([embedded_graph_path()]) if batch.facts is not None)
    graph = GraphStore.from_triples({row for frame in facts for row in frame.rows()}, name="countries")
    agent = AgentSettings()
    trajectories = expert_dataset(
        embedded_questions("train", seed=settings.seed, max_turns=agent.max_turns),
        graph,
        count=settings.trajectories,
        seed=settings.seed,
        max_turns=agent.max_turns,
        recovery_share=settings.recovery_share,
    )
    if len(trajectories) < settings.trajectories:
        raise SystemExit(f"The countries give {len(trajectories)} trajectories only; lower --batch or --steps.")
    return build_examples(trajectories, graph, load_tokenizer(model), agent)


def measure(name: str, model: str, examples: Sequence[Example], settings: ColdstartSettings, out: Path) -> Watch:
    """One pass over the examples with one of the trainers."""
    loaded = load_model(model)
    set_seed(settings.seed)  # both adapters begin with the same numbers
    trained = _trainable(loaded, settings)
    watch = Watch()
    watch.count(trained)
    parts: dict[str, Any] = {
        "model": trained,
        "args": _arguments(out, settings),
        "train_dataset": list(examples),
        "data_collator": lambda rows: collate(rows, loaded.tokenizer.pad_token_id),
        "callbacks": [watch],
    }
    if name == "kgr1":
        trainer = ColdstartTrainer(**parts)
        trainer.shares_tokens, trainer.model_accepts_loss_kwargs = takes_trees(trained), True
    else:
        trainer = Trainer(**parts)
    with redirect_stdout(io.StringIO()):
        trainer.train()
    return watch


def summary(watch: Watch, examples: Sequence[Example], batch: int) -> dict[str, float]:
    """Medians over the steps, and tokens a second of a mean batch."""
    tokens = statistics.mean(len(example.input_ids) for example in examples) * batch
    step = statistics.median(watch.step_s)
    return {
        "step_s": step,
        "tokens": tokens,
        "tokens_per_s": tokens / step,
        "computed": statistics.median(watch.computed),
        "first_loss": watch.losses[0],
        "last_loss": watch.losses[-1],
    }


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    own, peer = results["kgr1"], results["transformers"]
    rows = (
        ("step, s", "step_s", True, 2),
        ("tokens of trajectories/s", "tokens_per_s", False, 0),
        ("tokens of trajectories", "tokens", True, 0),
        ("tokens computed", "computed", True, 0),
    )
    lines = [
        f"| a step in {results['coldstart']['dtype']} | kgr1 | transformers | ratio |",
        "| --- | ---: | ---: | ---: |",
    ]
    for title, key, less, digits in rows:
        ratio = peer[key] / own[key] if less else own[key] / peer[key]
        lines.append(f"| {title} | {own[key]:,.{digits}f} | {peer[key]:,.{digits}f} | {ratio:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
