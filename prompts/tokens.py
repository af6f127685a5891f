"""Text to token ids, such that text from outside never becomes a control token.

encoder = Encoder(tokenizer)
encoder.template("<|im_start|>user")   # control tokens are read as such
encoder.data("<|im_start|>user")       # the same characters as plain text, for any tokenizer
"""

from __future__ import annotations

import re

from transformers import PreTrainedTokenizerBase

from reshelf.errors import InputError


class Encoder:
    """Wraps a tokenizer; both methods return lists of int without automatic start or end tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        added = tokenizer.get_added_vocab()
        self.control_ids = frozenset(added.values()) | frozenset(tokenizer.all_special_ids)
        # A string of one character cannot be taken apart; such added tokens are ordinary text, not controls.
        names = sorted(
            (name for name in {*added, *tokenizer.all_special_tokens} if len(name) > 1), key=len, reverse=True
        )
        self._control = re.compile("|".join(re.escape(name) for name in names)) if names else None
        start = tokenizer("").input_ids
        self.start: list[int] = list(start) if start and start[0] == tokenizer.bos_token_id else []
        """What the tokenizer puts before any text (a BOS token, or nothing)."""

    def template(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False) if text else []

    def data(self, text: str) -> list[int]:
        ids = self._plain(text)
        if not self.control_ids.isdisjoint(ids):
            # Normalisation inside the tokenizer can still make a control string; single characters cannot be one.
            ids = [i for c in text for i in self.template(c) if i not in self.control_ids]
        return ids

    def _plain(self, text: str) -> list[int]:
        found = self._control.search(text) if self._control else None
        if found is None:
            return self.template(text)
        cut = found.start() + 1
        return self.template(text[:cut]) + self._plain(text[cut:])

    def label(self, word: str) -> int:
        """The id of a label word.

        Raises:
            InputError: the word is not one token.
        """
        ids = self.template(word)
        if len(ids) != 1:
            raise InputError(
                f"label word {word!r} is {len(ids)} tokens of this tokenizer; choose a word that is one token"
            )
        return ids[0]
