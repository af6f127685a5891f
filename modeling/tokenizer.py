"""The tokenizer of a model.

tokenizer = load_tokenizer("Qwen/Qwen3-Reranker-0.6B")
"""

from __future__ import annotations

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from reshelf.errors import InputError, first_line


def load_tokenizer(base: str, revision: str | None = None, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a model.

    Raises:
        InputError: there is none at that folder or Hub id.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(base, revision=revision, trust_remote_code=trust_remote_code)
        tried = tokenizer("yes no", add_special_tokens=False).input_ids
    except Exception as error:  # of a file that was cut off, or a value of the wrong type, libraries raise any kind
        raise InputError(f"no tokenizer at {base!r}: {first_line(error)}; restore its files") from error
    # Where the files are missing, transformers makes one without a vocabulary.
    if not tried:
        raise InputError(f"no tokenizer at {base!r}: its vocabulary is empty")
    return tokenizer
