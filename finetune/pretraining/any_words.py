"""Layers that match a product with a history whatever the words are, and models of other words that begin with them.

    stream = InOtherWords(stream, others(tokenizer), seed=0)     # every session in words of its own
    take_layers(model, tokenizer, MATCHING, generator)           # of a new model, over its own tokenizer

A base that reads one shop learns by heart what goes with its words, and one that reads many shops' words neither that
nor to match: no word comes often enough. Here a session's tokens, but for those that templates write, are others in
every session, drawn at random, and their embeddings stay random. So nothing of a word helps but where else it stands,
and what the layers learn of that holds for a catalogue in any language, over a tokenizer of its own.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase, Qwen3ForCausalLM

from reshelf.errors import InputError
from reshelf.finetune.pretraining.init import EMBEDDING
from reshelf.finetune.pretraining.session_text import (
    CATALOGUE_EVERY,
    OUTCOMES,
    PRICES,
    TEMPLATE_WORDS,
    SessionStream,
    Text,
)
from reshelf.modeling.config import ModelConfig
from reshelf.modeling.loading import load_base

MATCHING = Path(__file__).parents[1] / "bases" / "matching"
"""The base with such layers that ships with the project."""


def written_by_templates(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens of the words that prompts and outcomes are written with, in rising order."""
    texts = (*TEMPLATE_WORDS.values(), "".join(OUTCOMES), PRICES)
    ids = {i for text in texts for i in tokenizer(text, add_special_tokens=False).input_ids}
    return sorted(ids | set(tokenizer.all_special_ids))


def others(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """All tokens but those, int64 [N]."""
    return np.setdiff1d(np.arange(len(tokenizer)), written_by_templates(tokenizer))


class InOtherWords(Dataset[Text]):
    """The sessions of a stream, without its catalogue texts, each with some of its tokens permuted.

    Args:
        tokens: those that change places, int64 [N].
        seed: of the permutations.
    """

    def __init__(self, stream: SessionStream, tokens: np.ndarray, seed: int) -> None:
        self._stream, self._tokens, self._seed = stream, tokens, seed

    def __len__(self) -> int:
        return len(self._stream) - len(self._stream) // CATALOGUE_EVERY

    def __getitem__(self, n: int) -> Text:
        text = self._stream[n + n // (CATALOGUE_EVERY - 1)]
        permuted = np.random.default_rng([self._seed, n]).permutation(self._tokens)

        def in_other_words(ids: np.ndarray) -> np.ndarray:
            place = np.minimum(np.searchsorted(self._tokens, ids), len(self._tokens) - 1)
            return np.where(self._tokens[place] == ids, permuted[place], ids).astype(ids.dtype)

        prompt = text.prompt
        items = tuple(in_other_words(item) for item in prompt.items)
        return Text(replace(prompt, prefix=in_other_words(prompt.prefix), items=items), text.outcomes)


def read_base(base: str, device: str, option: str) -> tuple[Any, PreTrainedTokenizerBase]:
    """A base to begin with, in float32.

    Raises:
        InputError: it cannot be read; names the option.
    """
    try:
        return load_base(ModelConfig(base, quantise=False, dtype="float32"), device)
    except InputError as error:
        raise InputError(str(error).replace("model.base", option)) from error


@torch.no_grad()
def take_layers(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerBase, base: Path, generator: torch.Generator
) -> None:
    """Give a new model the layers of a base of its shape, and the embeddings of what templates write, in place.

    Its other embeddings are drawn as those that the layers were trained over.

    Args:
        tokenizer: of the new model.

    Raises:
        InputError: the base cannot be read, or has another shape.
    """
    taken, its_tokenizer = read_base(str(base), "cpu", "layers")
    of_base, of_model = (_without_embeddings(one.state_dict()) for one in (taken, model))
    if {name: weight.shape for name, weight in of_base.items()} != {n: weight.shape for n, weight in of_model.items()}:
        raise InputError(f"layers: {base} is of another shape; give shape as its config.json says, or another base")
    model.load_state_dict(of_base, strict=False)
    embeddings, own = taken.get_input_embeddings().weight, model.model.embed_tokens.weight
    mean = embeddings[torch.from_numpy(others(its_tokenizer))].mean(0)
    own.copy_(torch.randn(own.shape, generator=generator) * EMBEDDING + mean)
    written = written_by_templates(its_tokenizer)
    rows = dict(zip(its_tokenizer.convert_ids_to_tokens(written), written, strict=True))
    for row in written_by_templates(tokenizer):
        token = tokenizer.convert_ids_to_tokens(row)
        if token in rows:
            own[row] = embeddings[rows[token]]


def _without_embeddings(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name: weight for name, weight in weights.items() if not name.startswith(("model.embed_tokens.", "lm_head."))
    }
