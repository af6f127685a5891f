"""Text to token ids, such that text from outside never becomes a control token.

encoder = Encoder(tokenizer)
encoder.template("<|im_start|>user")   # control tokens are read as such
encoder.data("<|im_start|>user")       # the same characters as plain text, for any tokenizer
encoder.data_many(["oak", "chair"])    # the same, for many texts in one call
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from reshelf.errors import InputError


def backend_text(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """A fast tokenizer as JSON, without the padding and truncation that an earlier call asked for: prompts get neither.
    None for a tokenizer in Python."""
    backend = copy.deepcopy(getattr(tokenizer, "backend_tokenizer", None))
    if backend is None:
        return None
    backend.no_padding()
    backend.no_truncation()
    return str(backend.to_str())


class Encoder:
    """Wraps a tokenizer; both methods return lists of int without automatic start or end tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        added = tokenizer.get_added_vocab()
        special = set(tokenizer.all_special_tokens)
        # A string of one character cannot be taken apart; such added tokens are ordinary text, unless declared special.
        names = sorted((name for name in {*added, *special} if len(name) > 1), key=len, reverse=True)
        self._control = re.compile("|".join(re.escape(name) for name in names)) if names else None
        ids = {i for name, i in added.items() if len(name) > 1 or name in special} | set(tokenizer.all_special_ids)
        unknown = tokenizer.unk_token_id
        others = {getattr(tokenizer, f"{kind}_token_id", None) for kind in ("bos", "eos", "pad", "sep", "cls", "mask")}
        # What stands for characters the tokenizer does not know is no control, unless it is something else as well.
        self.control_ids = frozenset(ids - ({unknown} - others))
        start = tokenizer("").input_ids
        self.start: list[int] = list(start[:1]) if start and start[0] == tokenizer.bos_token_id else []
        """What the tokenizer puts before any text (a BOS token, or nothing)."""

    def template(self, text: str) -> list[int]:
        return self._read([text])[0] if text else []

    def data_many(self, texts: Sequence[str]) -> list[list[int]]:
        """`data` of each text; ordinary ones go through the tokenizer together, which takes a third of the time."""
        found = self._read(texts)
        return [
            ids if self._is_plain(text) and self.control_ids.isdisjoint(ids) else self.data(text)
            for text, ids in zip(texts, found, strict=True)
        ]

    def _is_plain(self, text: str) -> bool:
        return bool(text) and (self._control is None or self._control.search(text) is None)

    def _read(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        return self.tokenizer(
            list(texts), add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False
        ).input_ids

    def data(self, text: str) -> list[int]:
        ids: list[int] = []
        start = 0
        # Cut every control string behind its first character; what is left may hold another one, nested in it.
        while self._control is not None and (found := self._control.search(text, start)):
            ids += self._safe(text[start : found.start() + 1])
            start = found.start() + 1
        return ids + self._safe(text[start:])

    def _safe(self, text: str) -> list[int]:
        """Normalisation inside the tokenizer can still make a control string; halves are tried until none is left."""
        ids = self.template(text)
        if self.control_ids.isdisjoint(ids):
            return ids
        if len(text) == 1:
            return [i for i in ids if i not in self.control_ids]
        half = len(text) // 2
        return self._safe(text[:half]) + self._safe(text[half:])

    def label(self, word: str) -> int:
        """The id of a label word.

        Raises:
            InputError: the word is not one token, or the tokenizer does not know it.
        """
        ids = self.template(word)
        if len(ids) != 1:
            raise InputError(
                f"label word {word!r} is {len(ids)} tokens of this tokenizer; choose a word that is one token"
            )
        if ids[0] == self.tokenizer.unk_token_id:
            raise InputError(f"label word {word!r} is unknown to this tokenizer; choose a word of its vocabulary")
        return ids[0]
