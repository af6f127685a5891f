"""A byte-level BPE tokenizer of a shop's own words, with Qwen3's control tokens.

tokenizer = train_tokenizer(texts, vocabulary=2048)
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
LABEL_WORDS = ("yes", "no")


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train on `texts`; any string can be encoded (byte level), and "yes" and "no" are one token each.

    Args:
        texts: catalogue and session text.
        vocabulary: number of tokens, control tokens included; at least 300.
    """
    raw = Tokenizer(models.BPE())
    # Han characters stand alone: merged across words, "grey skirt" would share no token with "grey shoe".
    han = pre_tokenizers.Split(Regex(r"\p{Han}"), "isolated")
    raw.pre_tokenizer = pre_tokenizers.Sequence([han, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(CONTROL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Label words come often enough to be merged into one token whatever the shop sells.
    raw.train_from_iterator([*texts, *(word for word in LABEL_WORDS for _ in range(10_000))], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|endoftext|>", pad_token="<|endoftext|>", clean_up_tokenization_spaces=False
    )
