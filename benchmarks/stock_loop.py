"""TRL's stock ``GRPOTrainer`` with the four operations as ``tools=``, playing the episodes of an expert.

Used by ``throughput.py``. The trainer is not changed. Its chat template writes a call and a result in about as few
tokens as the agent's own protocol does, and a logits processor leaves it the expert's tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import torch
from expert_play import NEVER, Play
from transformers import LogitsProcessor, LogitsProcessorList
from trl import GRPOConfig, GRPOTrainer

from datasets import Dataset
from kgr1.agent.prompt import build_prompt, format_turn
from kgr1.config import AgentSettings, Settings
from kgr1.datasets.expert import Step
from kgr1.graph.api import KnowledgeGraph
from kgr1.graph.render import render
from kgr1.grpo.policy import lora_config
from kgr1.models.weights import LoadedModel
from kgr1.types import Operation, Query

CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'tool' %}"
    "{{ '<information>' + message.content + '</information>\n' }}"
    "{% else %}{{ '<|im_start|>' + message.role + '\n' + (message.content or '') }}"
    "{% for call in message.tool_calls or [] %}{{ '<kg-query>' + call.function.name + '(' }}"
    "{% for key, value in call.function.arguments.items() %}"
    "{{ key + '=' + (value | tojson) + ('' if loop.last else ', ') }}{% endfor %}{{ ')</kg-query>' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML with tools in as few tokens as the agent's own protocol; the prompt says which tools there are."""

RESPONSE_TEMPLATE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "reasoning_content": {"open": "<think>", "close_pattern": r"</think>\s*", "content": "text"},
        "tool_calls": {
            "open_pattern": r"<kg-query>(?P<name>\w+)\(",
            "close_pattern": r"\)</kg-query>\s*",
            "repeats": True,
            "content": "xml-inline",
            "content_args": {
                "tag_pattern": r'(?P<key>\w+)=(?P<value>"(?:[^"\\]|\\.)*")',
                "value_parser": {"name": "json"},
            },
            "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}},
        },
        "content": {"close_pattern": r"<\|im_end\|>\s*", "content": "text"},
    },
}
"""How transformers reads such a turn."""

SHARED = (
    *("max_steps", "per_device_train_batch_size", "gradient_accumulation_steps", "steps_per_generation"),
    *("num_generations", "num_iterations", "learning_rate", "lr_scheduler_type", "weight_decay", "max_grad_norm"),
    *("beta", "epsilon", "temperature", "loss_type", "scale_rewards", "mask_truncated_completions", "optim", "seed"),
    *("max_completion_length", "use_cpu", "bf16", "dataloader_pin_memory"),
)
"""Arguments of our trainer that TRL's gets as well."""


def make_stock(
    loaded: LoadedModel, plays: Sequence[Play], graph: KnowledgeGraph, settings: Settings, arguments: GRPOConfig
) -> tuple[GRPOTrainer, StockVoice]:
    """TRL's trainer with the arguments of ours, and what makes it play."""
    tokenizer = loaded.tokenizer
    tokenizer.chat_template, tokenizer.response_template = CHAT_TEMPLATE, RESPONSE_TEMPLATE
    questions = list({play.question.id: play.question for play in plays}.values())
    rows = [
        {
            "prompt": [{"role": "user", "content": build_prompt(question, settings.agent)}],
            "gold": [answer.label for answer in question.answers],
        }
        for question in questions
    ]
    checkpointing = ("activation_checkpointing", "gradient_checkpointing")
    known = next(name for name in checkpointing if name in GRPOConfig.__dataclass_fields__)
    trainer = GRPOTrainer(
        model=loaded.model,
        reward_funcs=[reward],
        args=GRPOConfig(
            **{name: getattr(arguments, name) for name in (*SHARED, known)},
            output_dir=arguments.output_dir,
            max_tool_calling_iterations=settings.agent.max_turns - 1,
            shuffle_dataset=False,
            save_strategy="no",
            logging_steps=1,
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=lora_config(settings.train.lora_rank) if settings.train.lora_rank else None,
        tools=make_tools(graph, settings.agent, tokenizer),
    )
    return trainer, StockVoice(trainer.model, plays, tokenizer)


def reward(completions: list[list[dict[str, Any]]], gold: list[list[str]], **_: Any) -> list[float]:
    """1 for an episode whose last message names a right answer."""
    last = [messages[-1].get("content") or "" for messages in completions]
    return [float(any(label in text for label in labels)) for text, labels in zip(last, gold, strict=True)]


class Words(LogitsProcessor):
    """Leaves each row of one call of ``generate`` the next token of its turn, and after that anything."""

    def __init__(self, turns: Sequence[Sequence[int]]) -> None:
        self._turns, self._step = turns, 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (n, V) for the n rows ``input_ids``."""
        forced = torch.full_like(scores, NEVER)
        forced[range(len(scores)), [turn[min(self._step, len(turn) - 1)] for turn in self._turns]] = 0
        self._step += 1
        return forced


class StockVoice:
    """Makes TRL's loop play: its n-th call of ``generate`` in a rollout is for the n-th turn of those that have one."""

    def __init__(self, model: Any, plays: Sequence[Play], tokenizer: Any) -> None:
        self._scripts = [
            [
                [*tokenizer.encode(call_text(step), add_special_tokens=False), tokenizer.eos_token_id]
                for step in play.steps
            ]
            for play in plays
        ]
        self._turn = 0
        self._generate = model.generate
        model.generate = self.generate

    def begin(self) -> None:
        """A rollout begins."""
        self._turn = 0

    def generate(self, **kwargs: Any) -> Any:
        """In place of ``model.generate``."""
        turns = [script[self._turn] for script in self._scripts if len(script) > self._turn]
        self._turn += 1
        if len(turns) != len(kwargs["input_ids"]):
            raise SystemExit("TRL's loop has lost an episode: a call was not understood, or a limit was reached.")
        return self._generate(logits_processor=LogitsProcessorList([Words(turns)]), **kwargs)


def call_text(step: Step) -> str:
    """An expert's turn as TRL's agent writes it: with the names of the arguments."""
    if step.query is None:
        return format_turn(step.think, step.answer)
    arguments = {"entity": step.query.entity, "relation": step.query.relation}
    named = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in arguments.items() if value)
    return f"<think>{step.think}</think>\n<kg-query>{step.query.operation.value}({named})</kg-query>"


def make_tools(graph: KnowledgeGraph, agent: AgentSettings, tokenizer: Any) -> list[Callable[..., str]]:
    """The four operations as TRL wants tools to be; results look as they do to our agent."""

    def ask(operation: Operation, entity: str, relation: str | None = None) -> str:
        (observation,) = graph.execute([Query(operation=operation, entity=entity, relation=relation)])
        return render(
            observation, lambda text: len(tokenizer.encode(text)), agent.observation_tokens, agent.layout
        ).text

    def get_tail_relations(entity: str) -> str:
        """Relations in which the entity is the subject.

        Args:
            entity: The name of the entity.
        """
        return ask(Operation.GET_TAIL_RELATIONS, entity)

    def get_head_relations(entity: str) -> str:
        """Relations in which the entity is the object.

        Args:
            entity: The name of the entity.
        """
        return ask(Operation.GET_HEAD_RELATIONS, entity)

    def get_tail_entities(entity: str, relation: str) -> str:
        """Objects of the relation with the entity as subject.

        Args:
            entity: The name of the entity.
            relation: The name of the relation.
        """
        return ask(Operation.GET_TAIL_ENTITIES, entity, relation)

    def get_head_entities(entity: str, relation: str) -> str:
        """Subjects of the relation with the entity as object.

        Args:
            entity: The name of the entity.
            relation: The name of the relation.
        """
        return ask(Operation.GET_HEAD_ENTITIES, entity, relation)

    return [get_tail_relations, get_head_relations, get_tail_entities, get_head_entities]
