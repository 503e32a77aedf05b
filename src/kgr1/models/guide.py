"""Constrained decoding: which tokens a grammar allows next (llguidance)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from llguidance import LLMatcher
from llguidance.hf import from_tokenizer

from kgr1.agent.policy import Grammar
from kgr1.errors import ModelError
from kgr1.models.tokens import encode_text


class Guides:
    """Makes guides for one model; reading its vocabulary takes a second and is done once."""

    def __init__(self, tokenizer: Any, vocabulary: int) -> None:
        """``vocabulary`` is the number of logits. Raises :class:`ModelError` for a tokenizer that cannot be read."""
        self.tokenizer = tokenizer
        self.vocabulary = vocabulary
        try:
            self.tokens = from_tokenizer(tokenizer, n_vocab=vocabulary)
        except ValueError as error:
            raise ModelError(
                f"The tokenizer of this model cannot be guided: {error} Set agent.guided=false."
            ) from error

    def start(self, grammar: Grammar) -> Guide:
        """A guide for one text."""
        return Guide(self, grammar)


class Guide:
    """Follows one text from its first token to its end.

    Where no token can go on, because the vocabulary cannot write a name, it lets go: the rest of the text is free.
    """

    def __init__(self, guides: Guides, grammar: Grammar) -> None:
        self._guides, self._grammar = guides, grammar
        self._matcher = self._match(grammar.lark())
        self._narrower = ""
        self._lost = False
        self.choices: list[list[int]] = []
        """Token ids of the texts of which one comes next, at least two; empty where the next token is free."""
        self.expected: list[float | None] = []
        """What the grammar expects of each of the choices; empty if nothing."""

    @property
    def complete(self) -> bool:
        """True once the text can end here."""
        return bool(self._matcher.is_accepting())

    def forbidden(self) -> torch.Tensor:
        """True (V,) for each token that cannot come next; False for all once the guide has let go."""
        mask = np.zeros(-(-self._guides.vocabulary // 32), np.int32)
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        allowed = np.unpackbits(mask.view(np.uint8), bitorder="little")[: self._guides.vocabulary]
        self._lost = self._lost or not allowed.any()
        return torch.from_numpy((allowed == 0) & (not self._lost))

    def forced(self) -> list[int]:
        """The tokens that have to come next, since nothing else is allowed; empty where there is a choice."""
        return [] if self._lost or self.choices else list(self._matcher.compute_ff_tokens())

    @property
    def going_on(self) -> bool:
        """True where the next tokens are forced, or are those of one of ``choices``."""
        return bool(self.choices or self.forced())

    def accept(self, ids: Sequence[int], room: int, space: int) -> None:
        """Go on by the last of ``ids``, which are all tokens of the text so far.

        ``room`` is how many tokens can still be chosen, ``space`` how many can still be written.
        """
        self.choices = []
        if self._lost:
            return
        self._matcher.consume_token(ids[-1])
        text = self._guides.tokenizer.decode(ids)
        narrower = self._grammar.after(text, room)
        if narrower is not None and narrower != self._narrower:
            matcher = LLMatcher(self._guides.tokens, narrower)
            # A token can end in the middle of a character, and then its text is not what the model wrote. A text that
            # no grammar can hold leaves what was allowed before.
            if not matcher.is_error() and matcher.try_consume_tokens(list(ids)) == len(ids):
                self._matcher, self._narrower = matcher, narrower
        self.choices = self._choices(text, space)
        self.expected = self._grammar.expected(text) if self.choices else []

    def _choices(self, text: str, space: int) -> list[list[int]]:
        texts = self._grammar.choices(text)
        found = [encode_text(self._guides.tokenizer, choice) for choice in texts]
        fitting = [ids for ids in found if len(ids) < space and self._matcher.validate_tokens(ids) == len(ids)]
        # With one that does not fit left out, the choice would not be the model's.
        return fitting if len(fitting) == len(texts) > 1 else []

    def _match(self, lark: str) -> Any:
        matcher = LLMatcher(self._guides.tokens, lark)
        if matcher.is_error():
            raise ModelError(f"The grammar of a turn is not valid: {matcher.get_error()}")
        return matcher
