"""Texts as the token ids of a model. What stands in a text is never read as a special token."""

from __future__ import annotations

from typing import Any

from kgr1.agent.parse import valid_unicode


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a piece of text that is appended to a context; no special tokens are added or recognised."""
    ids: list[int] = tokenizer.encode(valid_unicode(text), add_special_tokens=False, split_special_tokens=True)
    return ids


def encode_prompt(tokenizer: Any, prompt: str) -> list[int]:
    """Token ids of ``prompt`` as the user's message, with the header of the assistant's reply."""
    ids: list[int] = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=True, return_dict=False
    )
    return ids
