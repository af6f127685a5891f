"""Score an exported checkpoint with libraries that know nothing of this project, and compare with a reference.

    texts = as_text(prompts, folder)
    scores = with_sentence_transformers(folder, texts)
    agreement = compare(scores, reference, [text.same for text in texts])      # largest difference, rank agreement

transformers gets token ids; sentence-transformers and vLLM get the text of prefix and item as a pair, as their users
would send it, so that their own tokenisation is part of what is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import kendalltau
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase

from reshelf.inference.engines.dense import DTYPES, Dtype
from reshelf.inference.engines.engine_process import EngineProcess
from reshelf.inference.engines.messages import StartExported
from reshelf.metrics.ordering import ranks
from reshelf.prompts.list_prompt import ListPrompt

_BATCH = 16


@dataclass(frozen=True)
class TextList:
    """A list as text: what another library is given instead of token ids."""

    prefix: str
    items: tuple[str, ...]
    same: np.ndarray
    """bool [K]: reading the pair (prefix, item) with the exported tokenizer gives the prompt's own token ids."""


@dataclass(frozen=True)
class Agreement:
    """How close two engines are on the same lists."""

    difference: float
    """Largest absolute difference of two raw scores, over prompts that both read as the same tokens."""
    difference_everywhere: float
    """The same over all prompts."""
    kendall: float
    """Mean Kendall rank correlation over lists of at least two candidates; 1 is the same order."""
    same_order: float
    """Share of lists in exactly the same order."""


def compare(
    scores: Sequence[np.ndarray], reference: Sequence[np.ndarray], same: Sequence[np.ndarray] | None = None
) -> Agreement:
    """Agreement of two engines; equal scores keep first-stage order, as everywhere.

    Args:
        scores: float [K] per list.
        reference: the same shapes.
        same: bool [K] per list, prompts that were read as the same tokens; None means all of them.
    """
    gaps = np.abs(np.concatenate(list(scores)) - np.concatenate(list(reference)))
    kept = gaps if same is None else gaps[np.concatenate(list(same))]
    orders = [(ranks(a), ranks(b)) for a, b in zip(scores, reference, strict=True)]
    taus = [kendalltau(a, b).statistic for a, b in orders if len(a) > 1]
    return Agreement(
        difference=float(kept.max(initial=0)),
        difference_everywhere=float(gaps.max(initial=0)),
        kendall=float(np.mean(taus)) if taus else 1.0,
        same_order=float(np.mean([np.array_equal(a, b) for a, b in orders])),
    )


def as_text(prompts: Sequence[ListPrompt], folder: Path) -> list[TextList]:
    """The text of every prompt, read back with the tokenizer of the exported `folder`."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [_text(prompt, tokenizer) for prompt in prompts]


def text_of(ids: np.ndarray, tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of token ids, control tokens included."""
    return str(tokenizer.decode(ids.tolist(), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _text(prompt: ListPrompt, tokenizer: PreTrainedTokenizerBase) -> TextList:
    prefix = text_of(prompt.prefix, tokenizer)
    items = tuple(text_of(item, tokenizer) for item in prompt.items)
    read = [tokenizer(prefix, item)["input_ids"] for item in items]
    same = [ids == [*prompt.prefix.tolist(), *item.tolist()] for ids, item in zip(read, prompt.items, strict=True)]
    return TextList(prefix, items, np.array(same))


@torch.inference_mode()
def with_transformers(folder: Path, prompts: Sequence[ListPrompt], dtype: Dtype = "float32") -> list[np.ndarray]:
    """float32 [K] per list from transformers' own sequence classifier: padded batches of separate prompts."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=DTYPES[dtype])
    model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    pad = model.config.pad_token_id
    scores = []
    for prompt in prompts:
        rows = [torch.from_numpy(np.concatenate([prompt.prefix, item]).astype(np.int64)) for item in prompt.items]
        values = []
        for start in range(0, len(rows), _BATCH):
            some = rows[start : start + _BATCH]
            ids = torch.nn.utils.rnn.pad_sequence(some, batch_first=True, padding_value=pad)
            lengths = torch.tensor([len(row) for row in some])
            mask = (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()
            logits = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits
            values.append(logits[:, 0].float().cpu().numpy())
        scores.append(np.concatenate(values))
    return scores


def with_sentence_transformers(folder: Path, lists: Sequence[TextList], dtype: Dtype = "float32") -> list[np.ndarray]:
    """float32 [K] per list from `CrossEncoder.predict` on (prefix, item) pairs.

    Raises:
        ImportError: sentence-transformers is not installed.
    """
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(folder), model_kwargs={"dtype": DTYPES[dtype]}, local_files_only=True)
    pairs = [(text.prefix, item) for text in lists for item in text.items]
    return _split(model.predict(pairs, batch_size=_BATCH, show_progress_bar=False), lists)


def with_vllm(folder: Path, lists: Sequence[TextList], longest: int, dtype: Dtype = "float32") -> list[np.ndarray]:
    """float32 [K] per list from stock vLLM's `LLM.score` on (prefix, item) pairs, with the pooling runner.

    Raises:
        InputError: vLLM cannot serve this model.
        RuntimeError: vLLM did not start.
    """
    with EngineProcess(StartExported(str(folder.absolute()), dtype, longest)) as engine:
        left = [text.prefix for text in lists for _ in text.items]
        right = [item for text in lists for item in text.items]
        return _split(engine.score_pairs(left, right), lists)


def _split(values: np.ndarray, lists: Sequence[TextList]) -> list[np.ndarray]:
    return np.split(values.astype(np.float32), np.cumsum([len(text.items) for text in lists])[:-1])
