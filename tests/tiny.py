"""A tiny random chat model for tests: a Llama or Qwen2 of two layers, with a byte-level tokenizer of a few texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

HIDDEN = 32
LAYERS = 2
HEADS = 2
CONTEXT = 2048
VOCABULARY = 512

TEXTS = (
    "You can query the graph with get_tail_relations, get_head_relations, get_tail_entities and get_head_entities.",
    '<think>I look for the capital of France.</think><kg-query>get_tail_entities("France", "capital")</kg-query>',
    '<information>Paris, Lyon, Marseille</information><think>That is it.</think><answer>["Paris"]</answer>',
    "Question: Which country borders Germany and has the currency euro? Topic entities: Germany, euro.",
)


def save_tiny_model(
    folder: Path, *, seed: int = 0, context: int = CONTEXT, family: str = "Llama", texts: Sequence[str] = ()
) -> Path:
    """Save a random model with its tokenizer in ``folder``; the same seed gives the same weights.

    ``family`` is the name of an architecture of transformers, ``Llama`` or ``Qwen2``. The words of ``texts`` become
    tokens, which makes contexts made of them short.
    """
    import torch
    import transformers

    tokenizer = tiny_tokenizer(texts)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, f"{family}ForCausalLM")(config)
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


def tiny_tokenizer(texts: Sequence[str] = ()) -> object:
    """A byte-level BPE tokenizer (every text survives encoding) with a ChatML template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from kgr1.models.unpack import CHATML_TEMPLATE

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY * (4 if texts else 1),
        special_tokens=["<|im_start|>", "<|im_end|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*TEXTS, *texts], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        additional_special_tokens=["<|im_start|>"],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHATML_TEMPLATE
    return fast
