"""What can be the base of a reranker, and one sentence for what cannot.

    check_weight_files(folder)                     # one set of weights, not those of an earlier save beside them
    check_config(config, base, quantise=True)      # before any weight is read
    check_budgets(longest, config, base)           # the longest prompt that the budgets allow has positions of one kind
    check_weights(model, base)                     # numbers, all of them
    check_vocabulary(tokenizer, config, base)      # every token that text becomes has an embedding
    check_attention(model, base)                   # a list read as one sequence is what transformers itself computes

A model that got past these would else end in a traceback in the middle of a run, or give wrong scores silently.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from reshelf.errors import InputError, first_line
from reshelf.modeling.attention import SHARED_PREFIX
from reshelf.modeling.packing import pack
from reshelf.modeling.score import logits_at
from reshelf.prompts.list_prompt import ListPrompt, Truncated

CHOOSE = "choose a model such as Qwen3, Llama, Mistral or Gemma 3"
START_FAMILIES = ("gemma", "llama", "mistral", "mixtral", "ministral")
START_TOKENS = ("<bos>", "<s>", "<|begin_of_text|>")
"""Start tokens of those families. Others that a config names (`<|endoftext|>`, `<|im_start|>`) began no text there."""


def check_weight_files(folder: Path) -> None:
    """Refuse a base folder that holds two sets of weights, of which transformers reads the older one without a word.

    `save_pretrained(folder, max_shard_size=…)` leaves the model.safetensors of an earlier save beside its parts.

    Raises:
        InputError: there are both, whole.
    """
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if not (whole.is_file() and index.is_file()):
        return
    try:
        parts = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()) - {whole.name}
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return  # transformers reads the single file and not the index
    if parts and all((folder / str(part)).is_file() for part in parts):
        raise InputError(
            f"{folder} holds two sets of weights, {whole.name} and the {len(parts)} parts of {index.name}, and only "
            "the former would be read; remove those of the earlier save"
        )


def check_config(config: Any, base: str, quantise: bool) -> None:
    """Refuse by name what shared-prefix attention cannot read, and weights that are stored in another form.

    Args:
        config: transformers' config of the base.
        base: how the user named it.
        quantise: whether it is to be loaded in 4 bits.

    Raises:
        InputError: it cannot be a base.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    refused = f"model.base {base!r} cannot be a reranker: "
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    kind = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if kinds or getattr(kind, "_is_stateful", False):
        name = ", ".join(sorted(kinds)) or "recurrent"
        raise InputError(
            f"{refused}it is a recurrent or hybrid model ({text.model_type}, with {name} layers), in which the "
            f"products of a list would see each other; {CHOOSE}"
        )
    if getattr(text, "use_bidirectional_attention", None) or getattr(config, "is_encoder_decoder", False):
        raise InputError(
            f"{refused}its tokens see the ones after them ({text.model_type} is no causal model); {CHOOSE}"
        )
    if cap := getattr(text, "attn_logit_softcapping", None):
        raise InputError(
            f"{refused}it soft-caps its attention logits (attn_logit_softcapping {cap:g}), which no flash attention "
            f"call does; {CHOOSE}"
        )
    types, window = getattr(text, "layer_types", None), getattr(text, "sliding_window", None)
    if window is not None and window < 1 and (types is None or "sliding_attention" in types):
        raise InputError(
            f"{refused}its config says sliding_window {window}, and a token sees itself at least; give the window that "
            "it was trained with, or null where there is none"
        )
    stored = getattr(config, "quantization_config", None)
    if stored is None:
        return
    stored = stored if isinstance(stored, dict) else stored.to_dict()
    four_bit = stored.get("quant_method") == "bitsandbytes" and stored.get("load_in_4bit")
    name = "bitsandbytes 4-bit" if four_bit else stored.get("quant_method", "an unknown method")
    if not four_bit:
        raise InputError(f"model.base {base!r} is quantised already ({name}); give the model that it was made from")
    if not quantise:
        raise InputError(
            f"model.base {base!r} is quantised already ({name}), and model.quantise is false; set it to true, or give "
            "the model that it was made from"
        )


def check_budgets(longest: int, config: Any, base: str) -> None:
    """Raise InputError where the prompt's budgets allow more tokens than the base has positions for.

    With longrope (Phi-3 and 4 mini) positions are other ones for a whole batch as soon as one of its prompts is longer
    than `original_max_position_embeddings`, so that a score would depend on the lists beside it.

    Args:
        longest: `PromptBuilder.longest`.
        config: transformers' config of the base.
        base: how the user named it.
    """
    text = config.get_text_config()
    lower = "lower prompt.history_tokens, prompt.list_tokens or prompt.item_tokens"
    limit = getattr(text, "max_position_embeddings", None)
    if limit is not None and longest > limit:
        raise InputError(
            f"prompts may be {longest} tokens long by the budgets under prompt, and model.base {base!r} reads "
            f"{limit} (max_position_embeddings); {lower}"
        )
    rope = getattr(text, "rope_parameters", None) or {}
    switch = rope.get("original_max_position_embeddings") if rope.get("rope_type") == "longrope" else None
    if switch is not None and longest > switch:
        raise InputError(
            f"prompts may be {longest} tokens long by the budgets under prompt, and model.base {base!r} changes the "
            f"positions of a whole batch for one above {switch} (longrope), so scores would depend on the lists beside "
            f"them; {lower}"
        )


def check_weights(model: torch.nn.Module, base: str) -> None:
    """Raise InputError where a weight, or the scale of a 4-bit one, is NaN or infinite."""
    for name, weight in model.named_parameters():
        tensors = [weight.data]
        if isinstance(weight, bnb.nn.Params4bit) and weight.quant_state is not None:
            state = weight.quant_state
            tensors = [state.absmax] if not state.nested else [state.state2.absmax, state.offset]
        if not all(torch.isfinite(one).all() for one in tensors if one.is_floating_point()):
            raise InputError(f"model.base {base!r}: its weight {name!r} holds NaN or infinite numbers; get it anew")


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, config: Any, base: str) -> None:
    """Raise InputError where text may become a token that the base has no embedding for.

    Tokens added for other uses, such as padding, may lie beyond: no text becomes one (`prompts.tokens`).
    """
    rows = config.get_text_config().vocab_size
    if len(tokenizer) <= rows:  # a fifth of a second spared, for 262,144 tokens
        return
    added = tokenizer.get_added_vocab()
    highest = max((number for word, number in tokenizer.get_vocab().items() if word not in added), default=0)
    if highest >= rows:
        raise InputError(
            f"model.base {base!r}: its tokenizer knows {highest + 1} tokens, and the base has {rows} embeddings "
            "(vocab_size); give it the tokenizer of the same model"
        )


def add_missing_start(tokenizer: PreTrainedTokenizerBase, config: Any) -> str | None:
    """Let a tokenizer put the start token (BOS) before a prompt where its model was trained with one and it does not.

    Families whose training texts began with one are nearly blind without it (Gemma 3 270M: 6.9 instead of 3.1 nats per
    token of plain English), and tokenizers easily lose it when they are saved again. The tokenizer with the token is
    what goes into the reranker's folder and fingerprint.

    Returns:
        The token that was added; None where nothing was missing.
    """
    text = config.get_text_config()
    wanted = text.bos_token_id if text.bos_token_id is not None else tokenizer.bos_token_id
    if wanted is None or not text.model_type.startswith(START_FAMILIES):
        return None
    token = tokenizer.convert_ids_to_tokens(wanted)
    adds_it = tokenizer("").input_ids[:1] == [wanted]
    if token not in START_TOKENS or (adds_it and tokenizer.bos_token_id == wanted):
        return None
    tokenizer.bos_token = token  # prompts begin with what is declared, whatever the post-processor adds
    if not adds_it:
        tokenizer.add_bos_token = True  # makes the tokenizer's own post-processor anew
    assert tokenizer("").input_ids[:1] == [wanted], f"{type(tokenizer).__name__} takes no start token"
    return str(token)


@torch.no_grad()
def check_attention(model: Any, base: str) -> None:
    """Try a tiny list: an item's output must not change with the item before it, and must be what transformers' own
    attention gives for a prompt of its own.

    It does not where layers mix tokens otherwise than by attention (recurrent, linear or convolutional ones), or where
    a model's own attention bypasses transformers' interface, or does something that the interface does not pass on.

    Raises:
        InputError: the model cannot be a reranker.
    """
    refused = f"model.base {base!r} cannot be a reranker: "
    # The start token where there is one: without it, models round so much that two exact attentions differ visibly.
    text = model.config.get_text_config()
    start = text.bos_token_id if isinstance(text.bos_token_id, int) else 1
    spread = [text.vocab_size * n // 7 for n in range(1, 7)]
    prefix, item = [start, spread[0]], spread[1:3]
    outputs = []
    for other in spread[3:5]:
        ids = [np.array(part, dtype=np.int32) for part in (prefix, [other, other], item)]
        batch = pack([ListPrompt("", ids[0], tuple(ids[1:]), Truncated())]).to(model.device)
        try:
            outputs.append(logits_at(model, batch, batch.score_positions[-1:]).float()[0])
        except (NotImplementedError, TypeError) as error:
            raise InputError(f"{refused}{first_line(error)}") from error
    highest = float(outputs[0].abs().max())
    if not np.isfinite(highest):
        raise InputError(f"{refused}its output holds NaN or infinite numbers; get its weights anew")
    if not torch.allclose(outputs[0], outputs[1], rtol=1e-3, atol=1e-4 * highest):
        raise InputError(
            f"{refused}not all of its layers are plain attention, so the products of a list would see each other; "
            f"{CHOOSE}"
        )
    model.set_attn_implementation("eager")
    try:
        plain = model(input_ids=torch.tensor([[*prefix, *item]], device=model.device), use_cache=False).logits[0, -1]
    finally:
        model.set_attn_implementation(SHARED_PREFIX)
    # A score is a difference of logits. What all of them share is none of it, and rounding in bfloat16 moves that by a
    # fifth of their spread in Gemma 3 270M, whose own attention implementations differ from each other by as much.
    gap = float((outputs[0] - plain.float()).std())
    bound = 1e-3 if plain.dtype == torch.float32 else 0.1
    if gap > bound * float(plain.float().std()) + 1e-6:
        raise InputError(f"{refused}its own attention computes something else than shared-prefix attention; {CHOOSE}")
