"""Tokens a second of a training step, against the raw engine and against TRL's stock loop with tools.

    python benchmarks/throughput.py [--model NAME] [--questions 4] [--group 4] [--micro N] [--steps 2] [--rank 16]
        [--beta 0] [--seed 0] [--threads N] [--out RESULTS.json]

All systems play the same episodes: those of an expert on the countries graph that comes with the package, another
one for every episode of a group, every second one with a mistake and its recovery. The model computes everything as
usual, and of its distribution only the expert's token is left before a token is drawn. So the model need not have been
trained, every run does the same work, and both loops ask the same questions of the same graph and get the same answers.

raw engine     the engine of :mod:`kgr1.models.engine` without agent and graph: one request an episode, which reads the
               prompt and all observations at once and writes as many tokens as the episode has turns together
raw, prompt    the same without the observations, so it reads and looks back at less than any agent
generate       ``model.generate`` of transformers on the prompts and observations, for as many tokens as the mean
rollout        our episodes (:mod:`kgr1.agent.rollout`), with copying the trained weights into the engine
update         the rest of our step: rewards, forward and backward passes, optimizer
TRL            ``GRPOTrainer`` as it is, with ``tools=``: the four operations as functions, a chat template for them,
               and the arguments of our trainer (batch, adapter, optimizer, loss, precision, limits)

TRL's agent reads the same prompt and writes the same thoughts; its calls name their arguments and its turns end with an
end token, so it writes a few tokens more. Tokens a second of a rollout are those the agent wrote; of an update, those
of the whole episodes, prompts included, however often a system computes them. How often is in the table as well.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from expert_play import ForcedEngine, ForcedPolicy, Play, make_plays
from numbers_file import save_numbers
from stock_loop import make_stock
from transformers import TrainerCallback
from trl import GRPOConfig

from kgr1.agent.rollout import run_episodes
from kgr1.cli.quiet import hide_loading_bars, quiet_libraries
from kgr1.config import DEFAULT_MODEL, AgentSettings, SamplingSettings, Settings, TrainSettings
from kgr1.datasets.embedded import embedded_graph_path
from kgr1.graph import GraphStore
from kgr1.graph.api import KnowledgeGraph
from kgr1.graph.readers import read_batches
from kgr1.grpo.trainer import KGRPOTrainer
from kgr1.models.weights import load_model
from kgr1.types import StopReason


@dataclass
class Measured:
    """What steps of one trainer took and did, a list entry a step. Tokens computed are counted at the model's input."""

    step_s: list[float] = field(default_factory=list)
    rollout_s: list[float] = field(default_factory=list)
    written: list[int] = field(default_factory=list)
    episode_tokens: list[int] = field(default_factory=list)
    rollout_computed: list[int] = field(default_factory=list)
    update_computed: list[int] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """Medians over the steps, and tokens a second."""
        medians = {name: statistics.median(values) for name, values in asdict(self).items()}
        medians["update_s"] = statistics.median(
            step - rollout for step, rollout in zip(self.step_s, self.rollout_s, strict=True)
        )
        medians["rollout_tokens_per_s"] = medians["written"] / medians["rollout_s"]
        medians["update_tokens_per_s"] = medians["episode_tokens"] / medians["update_s"]
        return medians


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure all systems, print a table and save the numbers."""
    options = _options(arguments)
    hide_loading_bars()
    if options.threads:
        torch.set_num_threads(options.threads)
    facts = (batch.facts for batch in read_batches([embedded_graph_path()]) if batch.facts is not None)
    graph = GraphStore.from_triples({row for frame in facts for row in frame.rows()}, name="countries")
    settings = _settings(options)
    plays = make_plays(graph, settings, options.seed)
    results: dict[str, Any] = {
        "model": options.model,
        "threads": torch.get_num_threads(),
        "agent": settings.agent.model_dump(mode="json"),
        "train": settings.train.model_dump(mode="json"),
    }
    with tempfile.TemporaryDirectory() as folder, quiet_libraries():
        results["raw"] = raw_speeds(options.model, plays, graph, settings)
        print(f"raw engine: {results['raw']['engine']:.1f} tokens/s", file=sys.stderr, flush=True)
        measured, trainer_arguments = ours(options.model, plays, graph, settings, Path(folder))
        results["kgr1"] = measured.summary()
        print(f"our step: {results['kgr1']['step_s']:.1f} s", file=sys.stderr, flush=True)
        results["trl"] = stock(options.model, plays, graph, settings, trainer_arguments).summary()
    print(table(results))
    if options.out:
        save_numbers(options.out, results)
    return results


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or folder")
    parser.add_argument("--questions", type=int, default=4, help="questions of a step")
    parser.add_argument("--group", type=int, default=4, help="episodes of a question")
    parser.add_argument("--micro", type=int, help="episodes of a forward pass in the update; default: a group")
    parser.add_argument("--steps", type=int, default=2, help="steps of both trainers; the median counts")
    parser.add_argument("--rank", type=int, default=16, help="of the adapter; 0 trains all weights")
    parser.add_argument("--beta", type=float, default=0.0, help="weight of the KL penalty; 0 needs no reference")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="of torch; default: its own choice")
    parser.add_argument("--out", type=Path)
    return parser.parse_args(arguments)


def _settings(options: argparse.Namespace) -> Settings:
    train = TrainSettings(
        steps=options.steps,
        questions_per_step=options.questions,
        group_size=options.group,
        micro_batch_size=options.micro or options.group,
        lora_rank=options.rank,
        beta=options.beta,
        seed=options.seed,
        save_steps=1000,
    )
    return Settings(agent=AgentSettings(max_turns=5, max_new_tokens=256, observation_tokens=160), train=train)


def raw_speeds(model: str, plays: Sequence[Play], graph: KnowledgeGraph, settings: Settings) -> dict[str, float]:
    """Tokens written a second without an agent loop: by the engine, and by ``model.generate``."""
    loaded = load_model(model)
    policy = ForcedPolicy(loaded.model, loaded.tokenizer, plays)
    samplings = [SamplingSettings(temperature=1.0, seed=number) for number in range(len(plays))]
    questions, counts = [play.question for play in plays], range(len(plays))
    played = run_episodes(questions, graph, policy, agent=settings.agent, sampling=samplings, samples=counts)
    episodes = asyncio.run(played)
    if any(episode.stop is not StopReason.ANSWERED for episode in episodes):
        raise SystemExit("An expert's turn does not fit into the limits with this model's tokens; use another model.")
    observed = [[i for turn in episode.turns for i in turn.information_ids] for episode in episodes]
    prompts = [list(episode.prompt_ids) for episode in episodes]
    whole = [prompt + seen for prompt, seen in zip(prompts, observed, strict=True)]
    written = [[i for turn in episode.turns for i in turn.token_ids] for episode in episodes]
    total = sum(map(len, written))
    speeds = {
        name: total / asyncio.run(_raw(policy.engine, ids, written))
        for name, ids in (("engine", whole), ("prompt", prompts))
    }
    started = time.perf_counter()
    width = max(map(len, whole))
    pad = loaded.tokenizer.pad_token_id
    length = round(total / len(whole))
    with torch.no_grad():
        loaded.model.generate(
            input_ids=torch.tensor([[pad] * (width - len(ids)) + ids for ids in whole]),
            attention_mask=torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in whole]),
            min_new_tokens=length,
            max_new_tokens=length,
            do_sample=True,
            top_k=0,
            pad_token_id=pad,
        )
    return speeds | {"generate": length * len(whole) / (time.perf_counter() - started)}


async def _raw(engine: ForcedEngine, reads: Sequence[list[int]], writes: Sequence[list[int]]) -> float:
    """Seconds for one request an episode, all at once."""

    async def request(number: int) -> None:
        row = await engine.open(reads[number], SamplingSettings(temperature=1.0, seed=number), stops=())
        engine.scripts[id(row)] = iter(writes[number])
        await engine.generate(row, len(writes[number]))
        engine.close(row)

    started = time.perf_counter()
    await asyncio.gather(*(request(number) for number in range(len(reads))))
    return time.perf_counter() - started


class Watch(TrainerCallback):
    """Times the steps of a trainer and counts tokens."""

    def __init__(self) -> None:
        self.measured = Measured()
        self._rolling = False
        self._computed = {True: 0, False: 0}
        self._started = 0.0

    def attach(self, trainer: Any, begin: Callable[[], None] = lambda: None) -> None:
        """Watch the rollouts and the steps of a trainer; ``begin`` is called before every rollout."""
        generate = trainer._generate

        def timed(prompts: list[Any]) -> Any:
            begin()
            self._rolling = True
            started = time.perf_counter()
            output = generate(prompts)
            self.measured.rollout_s.append(time.perf_counter() - started)
            self._rolling = False
            self.measured.written.append(sum(map(sum, output[2])))
            self.measured.episode_tokens.append(sum(len(ids) for part in output[:2] for ids in part))
            return output

        trainer._generate = timed
        trainer.add_callback(self)
        self.count(trainer.model)

    def count(self, model: Any) -> None:
        """Count the tokens that go into a model."""
        inner = model.get_base_model() if hasattr(model, "peft_config") else model

        def hook(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
            self._computed[self._rolling] += (args[0] if args else kwargs["input_ids"]).numel()

        inner.base_model.register_forward_pre_hook(hook, with_kwargs=True)

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        gc.collect()
        self._computed = {True: 0, False: 0}
        self._started = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Stop it."""
        self.measured.step_s.append(time.perf_counter() - self._started)
        self.measured.rollout_computed.append(self._computed[True])
        self.measured.update_computed.append(self._computed[False])


def ours(
    model: str, plays: Sequence[Play], graph: KnowledgeGraph, settings: Settings, out: Path
) -> tuple[Measured, GRPOConfig]:
    """Steps of our trainer, and its arguments."""
    loaded, sampler = load_model(model), load_model(model)
    policy = ForcedPolicy(sampler.model, sampler.tokenizer, plays)
    questions = list({play.question.id: play.question for play in plays}.values())
    trainer = KGRPOTrainer(loaded, policy, questions, graph, out, settings)
    watch = Watch()
    watch.attach(trainer)
    watch.count(sampler.model)
    score = trainer._generate_and_score_completions

    def scored(inputs: Any) -> dict[str, Any]:
        # A group whose returns are all equal costs us no pass, and the expert's are: the update would measure nothing.
        output: dict[str, Any] = score(inputs)
        return output | {"advantages": torch.ones_like(output["advantages"])}

    trainer._generate_and_score_completions = scored
    with redirect_stdout(io.StringIO()):
        trainer.train()
    return watch.measured, trainer.args


def stock(
    model: str, plays: Sequence[Play], graph: KnowledgeGraph, settings: Settings, arguments: GRPOConfig
) -> Measured:
    """Steps of TRL's trainer on the same episodes."""
    trainer, voice = make_stock(load_model(model), plays, graph, settings, arguments)
    watch = Watch()
    watch.attach(trainer, voice.begin)
    with redirect_stdout(io.StringIO()):
        trainer.train()
    calls = sum(step.query is not None for play in plays for step in play.steps) / len(plays)
    for row in trainer.state.log_history:
        if "tools/call_frequency" in row and abs(row["tools/call_frequency"] - calls) > 1e-3:
            raise SystemExit(f"TRL's loop made {row['tools/call_frequency']} calls an episode instead of {calls}.")
    return watch.measured


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    own, peer, raw = results["kgr1"], results["trl"], results["raw"]
    rows = (
        ("step, s", "step_s", True),
        ("rollout, s", "rollout_s", True),
        ("update, s", "update_s", True),
        ("rollout, tokens written/s", "rollout_tokens_per_s", False),
        ("update, tokens of episodes/s", "update_tokens_per_s", False),
        ("tokens written", "written", True),
        ("tokens of episodes", "episode_tokens", True),
        ("tokens computed in the rollout", "rollout_computed", True),
        ("tokens computed in the update", "update_computed", True),
    )
    lines = ["| a step | kgr1 | TRL | ratio |", "| --- | ---: | ---: | ---: |"]
    for title, key, less in rows:
        ratio = peer[key] / own[key] if less else own[key] / peer[key]
        lines.append(f"| {title} | {own[key]:,.1f} | {peer[key]:,.1f} | {ratio:.2f} |")
    lines += ["", "| raw | tokens written/s | the rollout's share |", "| --- | ---: | ---: |"]
    for name, title in (
        ("engine", "engine, prompts and observations read at once"),
        ("prompt", "engine, prompts alone"),
        ("generate", "`generate` of transformers"),
    ):
        lines.append(f"| {title} | {raw[name]:,.1f} | {own['rollout_tokens_per_s'] / raw[name]:.0%} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
