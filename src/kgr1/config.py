"""Settings: frozen records read from TOML files and command-line overrides; unknown keys are refused.

A settings file has one table per record below, e.g.::

    [agent]
    max_turns = 7

    [train]
    steps = 40
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, Field, FiniteFloat, StringConstraints, ValidationError, model_validator

from kgr1.errors import SettingsError
from kgr1.types import Record

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
DEFAULT_AGENT = "kg-r1-135m"
"""The trained agent that is installed with the package, an adapter of the default model."""


def _growing(stages: tuple[int, ...]) -> tuple[int, ...]:
    if any(stage < 1 for stage in stages) or any(one >= other for one, other in pairwise(stages)):
        raise ValueError("stages are numbers of hops that grow, such as [1, 2]")
    return stages


Stages = Annotated[tuple[int, ...], AfterValidator(_growing)]
"""The highest number of hops of each stage; after them come questions of any number."""


Sentence = Annotated[str, StringConstraints(min_length=1, max_length=120, pattern=r"^[^<\n]+$")]
"""A thought without tags, in one line."""


NumberType = Literal["auto", "float32", "bfloat16"]
"""``auto`` is bfloat16 on a GPU and float32 elsewhere."""


Thoughts = Literal["varied", "brief"]
"""How the expert words a situation: one of several sentences, or always the same short one."""


class AgentSettings(Record):
    """How the agent talks to the graph (SPEC section 3)."""

    max_turns: int = Field(default=5, ge=1, le=64, description="H, turns per episode including the answer")
    max_new_tokens: int = Field(default=256, ge=8, description="tokens the model may write in one turn")
    observation_tokens: int = Field(default=512, ge=16, description="token budget of one observation")
    prompt: Literal["paper", "short"] = Field(default="short", description="prompt template")
    layout: Literal["flat", "tree"] = Field(default="flat", description="how results are laid out")
    page_size: int = Field(default=0, ge=0, description="results on one page that a query can ask for; 0 is no pages")
    time_filter: bool = Field(default=False, description="say in the prompt that queries can be limited to a time")
    rank_relations: Literal["none", "bm25"] = Field(default="none", description="relations by likeness to the question")
    expand_mediators: bool = Field(default=False, description="show the neighbours of results that have no name")
    show_namesakes: bool = Field(default=False, description="say which entities share the name that was asked for")
    sets: bool = Field(default=False, description='listings of both directions, and "*" for all that was found')
    guided: bool = Field(default=False, description="only what was shown can be written, and no query twice")
    sentences: dict[Sentence, FiniteFloat] = Field(
        default={},
        description="what guided thoughts can be ({cue}: a word of the question), with logits added; empty: anything",
    )
    ranker_weight: float = Field(default=0.0, ge=0, description="of the policy's ranker in a guided choice; 0 is off")
    ranker_floor: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="least share of that weight, however few of the relations the ranker has met",
    )
    meaning_weight: float = Field(
        default=0.0,
        ge=0,
        description="of what relations mean to the policy's model, as far as its ranker has met none; 0 is off",
    )
    ahead_weight: float = Field(
        default=0.0,
        ge=0,
        description="of whether the question asks for more than was found, by what relations mean; 0 is off",
    )
    onward: tuple[Sentence, ...] = Field(default=(), description="those of the sentences that go on from there")
    connection_weight: float = Field(
        default=0.0,
        ge=0,
        description="of whether a relation leads to something that has to do with another topic; 0 is off",
    )
    verifier_weight: float = Field(
        default=0.0, ge=0, description="of the policy's verifier, which reads where relations lead; 0 is off"
    )
    verifier_onward: float = Field(
        default=0.0, ge=0, description="of whether it takes what was found for what is to be gone on from; 0 is off"
    )
    comparisons: bool = Field(
        default=False, description="of what was found, take what a comparison or a time in the question means"
    )
    abstain: bool = Field(default=False, description="withhold answers that no shown fact leads to")
    min_confidence: float = Field(default=0.0, ge=0, le=1, description="withhold answers that are less sure; 0 is off")

    @model_validator(mode="after")
    def _onward_can_be_said(self) -> AgentSettings:
        unknown = [sentence for sentence in self.onward if self.sentences and sentence not in self.sentences]
        if unknown:
            raise ValueError(f"onward has the sentence '{unknown[0]}', which is none of agent.sentences")
        return self


ADDED_WEIGHTS = (
    "ranker_weight",
    "meaning_weight",
    "ahead_weight",
    "connection_weight",
    "verifier_weight",
    "verifier_onward",
)
"""Settings of the agent that weigh what is added to the probabilities of a policy that can have others beside it."""


class SamplingSettings(Record):
    """How tokens are drawn. ``temperature`` 0 is greedy."""

    temperature: float = Field(default=0.0, ge=0.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    seed: int = 0
    dtype: NumberType = Field(default="auto", description="of a model in this process")


class RewardSettings(Record):
    """Weights of SPEC section 4."""

    w_fmt: float = 0.5
    w_kg: float = 0.5
    w_ans: float = 0.5
    w_f1: float = 1.0
    w_ret: float = 1.0


class ColdstartSettings(Record):
    """Supervised fine-tuning on expert trajectories (SPEC section 6)."""

    trajectories: int = Field(default=240, ge=1)
    epochs: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=3e-4, gt=0, description="peak; an adapter wants about ten times as much")
    batch_size: int = Field(default=4, ge=1, description="trajectories per optimizer step")
    micro_batch_size: int = Field(default=4, ge=1, description="trajectories per forward pass")
    lora_rank: int = Field(default=0, ge=0, description="rank of an adapter; 0 trains all weights")
    recovery_share: float = Field(default=0.15, ge=0, le=1, description="trajectories with a mistake and its recovery")
    thoughts: Thoughts = Field(default="varied", description="the wording of the expert's thoughts")
    outwards_first: bool = Field(default=False, description="list outgoing relations first, incoming ones if needed")
    wander_share: float = Field(default=0.0, ge=0, le=1, description="trajectories that follow random relations")
    early_share: float = Field(default=0.0, ge=0, le=1, description="trajectories that answer one hop too early")
    near_share: float = Field(default=0.0, ge=0, le=1, description="trajectories to about the answers of a question")
    stages: Stages = Field(default=(), description="most hops of each stage of a pass")
    dtype: NumberType = Field(default="auto", description="of forward passes; trained weights stay float32")
    seed: int = 0
    save_steps: int = Field(default=10, ge=1)


class TrainSettings(Record):
    """Multi-turn GRPO (SPEC section 5)."""

    steps: int = Field(default=30, ge=1)
    questions_per_step: int = Field(default=4, ge=1)
    group_size: int = Field(default=8, ge=2, description="N, episodes per question")
    learning_rate: float = Field(default=1e-4, gt=0, description="of LoRA; all weights want about a hundredth")
    beta: float = Field(default=0.01, ge=0, description="weight of the KL penalty")
    clip: float = Field(default=0.2, gt=0)
    credit: Literal["turn", "split", "trajectory"] = "turn"
    baseline: Literal["turn", "episode"] = Field(default="turn", description="weights of the group baseline")
    lam: float = Field(default=1.0, ge=0, description="lambda, weight of the outcome in a turn's return")
    temperature: float = Field(default=1.0, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    lora_rank: int = Field(default=16, ge=0, description="0 trains all weights")
    micro_batch_size: int = Field(default=8, ge=1, description="episodes per forward pass")
    rollout_rows: int = Field(default=64, ge=1, description="episodes that are sampled at once")
    dtype: NumberType = Field(
        default="auto", description="of forward passes, sampling and reference; trained weights stay float32"
    )
    gradient_checkpointing: bool = Field(default=False, description="compute activations again to save memory")
    resample: int = Field(default=0, ge=0, description="rounds of replacing questions that taught nothing")
    updates_per_batch: int = Field(default=1, ge=1, description="optimizer passes over one batch of episodes")
    stages: Stages = Field(default=(), description="most hops of each stage of the run")
    stage_steps: int = Field(default=100, ge=1, description="steps of each of these stages")
    seed: int = 0
    save_steps: int = Field(default=5, ge=1)
    eval_steps: int = Field(default=0, ge=0, description="0: no evaluation during training")
    eval_questions: int = Field(default=50, ge=1)
    stop_kl: float = Field(default=1.0, ge=0, description="a run that has diverged so far is stopped; 0: never")
    stop_entropy: float = Field(default=3.0, ge=0, description="nats per token at which a run is stopped; 0: never")
    stop_growth: float = Field(default=4.0, ge=0, description="growth of episodes that stops a run; 0: never")


class RankerSettings(Record):
    """The ranker of relations beside a policy (:mod:`kgr1.models.ranker`)."""

    epochs: int = Field(default=6, ge=1)
    batch_size: int = Field(default=32, ge=1, description="choices per optimizer step")
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    held_out: float = Field(default=0.05, ge=0, lt=1, description="share of the questions that it is measured on")
    seed: int = 0


class VerifierSettings(Record):
    """The verifier beside a policy (:mod:`kgr1.models.verifier`)."""

    epochs: int = Field(default=1, ge=1)
    batch_size: int = Field(default=16, ge=1, description="cases per optimizer step")
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    held_out: float = Field(default=0.05, ge=0, lt=1, description="share of the questions that it is measured on")
    seed: int = 0


class EndpointSettings(Record):
    """A model behind HTTP (``--model http://...``)."""

    timeout_s: float = Field(default=120.0, gt=0, description="longest wait for one reply")
    retries: int = Field(default=4, ge=0, description="further attempts after one that may pass")
    backoff_s: float = Field(default=0.5, ge=0, description="first pause; it doubles with every attempt")
    concurrency: int = Field(default=16, ge=1, description="requests at once")
    context: int = Field(default=4096, ge=256, description="context length of the served model, in tokens")
    continue_reply: bool = Field(default=False, description="observations inside one reply, as in training")


class BaselineSettings(Record):
    """The systems that the agent is compared with (:mod:`kgr1.baselines`)."""

    prompt_tokens: int = Field(default=3072, ge=128, description="most tokens of a prompt with retrieved text")
    answer_tokens: int = Field(default=512, ge=8, description="tokens of an answer")
    call_tokens: int = Field(default=256, ge=8, description="tokens of an exploration or pruning call")
    samples: int = Field(default=8, ge=1, description="self-consistency: samples")
    sample_temperature: float = Field(default=0.7, gt=0, description="self-consistency: of all samples but the first")
    beams: int = Field(default=3, ge=1, description="RoG: beams of the planner, all of them returned")
    plan_tokens: int = Field(default=100, ge=8, description="RoG: tokens of a plan")
    plan_relations: int = Field(default=100, ge=1, description="RoG: relations shown to a prompted planner")
    backward: bool = Field(default=False, description="RoG: walk edges from tail to head too")
    max_walks: int = Field(default=1000, ge=1, description="RoG and ReKnoS: walks kept at every step")
    width: int = Field(default=3, ge=1, description="N of ToG and ReKnoS")
    depth: int = Field(default=3, ge=1, description="D of ToG, L of ReKnoS, longest path of RoG")
    explore_temperature: float = Field(default=0.4, ge=0, description="ToG: of the pruning calls")
    candidates: int = Field(default=20, ge=1, description="ToG: entities of one relation above which some are drawn")
    drawn: int = Field(default=5, ge=1, description="ToG: how many are drawn then")
    skip_relations: tuple[str, ...] = Field(
        default=("type.*", "common.*", "*sameAs"), description="ToG: bookkeeping relations, as patterns"
    )
    kept_paths: int = Field(default=5, ge=1, description="ReKnoS: super-relation paths kept")
    step_entities: int = Field(default=50, ge=1, description="ReKnoS: entities at one step of an extraction")
    end_entities: int = Field(default=20, ge=1, description="ReKnoS: entities at its end")
    fetched: int = Field(default=500, ge=1, description="entities fetched by one query")
    runs: int = Field(default=3, ge=1, description="agent-runs: runs whose answers are put together")


class Settings(Record):
    """Everything a run needs besides its data and model; saved beside its results."""

    agent: AgentSettings = AgentSettings()
    sampling: SamplingSettings = SamplingSettings()
    reward: RewardSettings = RewardSettings()
    coldstart: ColdstartSettings = ColdstartSettings()
    ranker: RankerSettings = RankerSettings()
    verifier: VerifierSettings = VerifierSettings()
    train: TrainSettings = TrainSettings()
    endpoint: EndpointSettings = EndpointSettings()
    baseline: BaselineSettings = BaselineSettings()


R = TypeVar("R", bound=Record)


GUIDED_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "reward": {"w_fmt": 0.0, "w_kg": 0.0, "w_ans": 0.0},
    "train": {
        "temperature": 2.0,
        "resample": 1,
        "beta": 0.0,
        "baseline": "episode",
        "learning_rate": 2e-4,
        "stop_entropy": 0.0,
    },
}
"""Defaults of a training with guided turns: these are always well-formed, their choices are surer than those of single
tokens, and the entropy of the model without its grammar says nothing about them."""


def load_settings(
    path: Path | None = None,
    overrides: Sequence[str] = (),
    *,
    usual: Mapping[str, Mapping[str, Any]] | None = None,
) -> Settings:
    """Read a TOML file (or the defaults) and apply overrides such as ``agent.max_turns=7``.

    ``usual`` holds tables that take the place of the defaults. Raises :class:`SettingsError` for a file that cannot be
    read, an unknown key or a value out of range.
    """
    data = {} if path is None else read_toml(path, "settings file")
    for table, values in (usual or {}).items():
        given = data.get(table, {})
        data[table] = {**values, **given} if isinstance(given, dict) else given
    for override in overrides:
        _apply(data, override)
    return validate(Settings, data, source=str(path) if path else "command line")


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The tables of a TOML file; raises :class:`SettingsError`, which calls the file ``what``, if it is none."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"Cannot read the {what} {path}: {error.strerror}.", path=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}.", path=str(path)) from error


def expand(text: str) -> str:
    """A path of a recipe with environment variables and ``~`` filled in.

    Raises :class:`SettingsError` for a variable that is not set.
    """
    found = os.path.expandvars(os.path.expanduser(text))
    missing = re.search(r"\$(\w+|\{\w+\})", found)
    if missing:
        raise SettingsError(f"The environment variable {missing[0]} of '{text}' is not set; set it and run again.")
    return found


def validate(cls: type[R], data: Mapping[str, Any], source: str) -> R:
    """Build a settings record; every problem is named with its key."""
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"])
            if item["type"] == "extra_forbidden":
                problems.append(f"unknown key '{key}'{_nearest(cls, item['loc'])}")
            else:
                # Pydantic puts these words before the message of a check of ours.
                problems.append(f"'{key}': {item['msg'].removeprefix('Value error, ')}")
        raise SettingsError(f"Settings from {source}: {'; '.join(problems)}.", source=source) from error


def _nearest(cls: type[BaseModel], place: Sequence[int | str]) -> str:
    """A question after the known key that is most like the unknown one at ``place``; empty if none is."""
    records: list[type[BaseModel]] = [cls]
    for part in place[:-1]:  # positions in lists and names in tables lead to no field, and are passed over
        fields = [record.model_fields[part] for record in records if part in record.model_fields]
        records = [found for field in fields for found in _records(field.annotation)] or records
    known = [name for record in records for name in record.model_fields]
    found = get_close_matches(str(place[-1]), known, 1)
    return f" (did you mean '{'.'.join(map(str, [*place[:-1], found[0]]))}'?)" if found else ""


def _records(annotation: Any) -> list[type[BaseModel]]:
    """The records that an annotation is made of, those in lists and tables included."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _records(part)]


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or len(parts) != 2 or not all(parts):
        raise SettingsError(f"'{override}' is not of the form table.key=value, e.g. agent.max_turns=7.")
    try:
        value: Any = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text
    table = data.setdefault(parts[0], {})
    if not isinstance(table, dict):
        raise SettingsError(f"'{parts[0]}' is not a settings table.")
    table[parts[1]] = value
