"""Stop strings: where the text of a turn ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class StopStrings:
    """Finds the token in which a stop string completes, working on ids: a token is never cut in two."""

    def __init__(self, tokenizer: Any, stops: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stops = tuple(stops)
        last = {stop[-1] for stop in stops}
        vocabulary = tokenizer.get_vocab()
        self._candidates = frozenset(
            index for token, index in vocabulary.items() if any(character in token for character in last)
        )

    def complete(self, ids: Sequence[int]) -> bool:
        """True if the text of ``ids`` contains a stop string that its last token completed."""
        if not ids or ids[-1] not in self._candidates:
            return False
        text = self._tokenizer.decode(ids)
        return any(stop in text for stop in self._stops)
