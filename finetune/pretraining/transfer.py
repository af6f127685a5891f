"""A base that goes on in a shop's own tokens.

    change_tokenizer(model, general, train_tokenizer(texts, vocabulary=2048))

A general tokenizer writes brands and nouns that it has never seen in pieces, which makes prompts longer and every step
dearer. With tokens of the shop's own, each new token begins as the mean of what the base knew its pieces by ("fast
vocabulary transfer", Gee et al., EMNLP 2022), and everything behind the embeddings stays as it was trained.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerBase

from reshelf.errors import InputError


@torch.no_grad()
def change_tokenizer(model: Any, old: PreTrainedTokenizerBase, new: PreTrainedTokenizerBase) -> None:
    """Give `model`, whose embeddings are tied, the vocabulary of `new`, in place.

    Args:
        old: the tokenizer that the model has read; byte-level BPE, as `new` is.

    Raises:
        InputError: `old` is no byte-level BPE.
    """
    pieces = old.backend_tokenizer.model
    vocabulary = old.get_vocab()
    if not all(byte in vocabulary for byte in pre_tokenizers.ByteLevel.alphabet()):
        raise InputError("start: its tokenizer is no byte-level BPE, so it cannot be changed for the shop's own")
    known = model.get_input_embeddings().weight.detach().clone()
    ids = new.get_vocab()
    rows = np.array([[ids[token], vocabulary[token]] for token in ids if token in vocabulary])
    embeddings = torch.zeros(len(new), known.size(1), dtype=known.dtype)
    embeddings[rows[:, 0]] = known[rows[:, 1]]
    for token in ids.keys() - vocabulary.keys():
        # As both are byte-level, the old one's merges apply to the new one's tokens as they are written.
        embeddings[ids[token]] = known[[piece.id for piece in pieces.tokenize(token)]].mean(0)
    model.resize_token_embeddings(len(new), mean_resizing=False)
    model.get_input_embeddings().weight.copy_(embeddings)
    model.config.eos_token_id, model.config.pad_token_id = new.eos_token_id, new.pad_token_id
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = new.eos_token_id, new.pad_token_id
