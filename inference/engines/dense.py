"""A 4-bit reranker as plain weights: a sequence-classification checkpoint that any library loads.

    write_dense(trained, Path("merged"), merge=True, dtype="float32")

The dense weights are the ones the adapter was trained over: the 4-bit base dequantised, not the original base it was
made from. With `merge` the LoRA matrices are added to them in float32; without, the checkpoint is the base that serves
adapters by request. The one-row classifier `score.weight` is the head's row for yes minus its row for no.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from reshelf.data.atomic import as_readable_as_others
from reshelf.errors import InputError
from reshelf.modeling.checkpoint import TrainedReranker
from reshelf.modeling.four_bit import unpacked

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Dtype = Literal["float32", "bfloat16"]


@torch.no_grad()
def dense_model(trained: TrainedReranker, merge: bool, dtype: Dtype = "float32") -> Any:
    """The reranker as a transformers `…ForSequenceClassification` with one label, on the CPU.

    Raises:
        InputError: transformers has no such class for the base, or the base does more to its logits than a linear head.
    """
    model = trained.model
    adapted = isinstance(model, PeftModel)
    causal = model.get_base_model() if adapted else model
    config = copy.deepcopy(causal.config)
    for name, plain in (("final_logit_softcapping", None), ("logits_scaling", 1.0), ("logit_scale", 1.0)):
        if getattr(config, name, plain) not in (plain, None):
            raise InputError(
                f"model {trained.spec.model.base}: {name} changes its logits, and no classifier head repeats that"
            )
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.num_labels = 1
    config.pad_token_id = _pad_id(trained.tokenizer)
    # Raw log-odds from sentence-transformers and from vLLM, which reads the same key; their default is a sigmoid.
    config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
    try:
        dense = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
    except ValueError as error:
        raise InputError(f"model {trained.spec.model.base}: transformers has no sequence classifier for it") from error
    dense.eval()
    body = getattr(dense, dense.base_model_prefix)
    source = getattr(causal, causal.base_model_prefix)
    body.load_state_dict(_dense_weights(source, merge))
    rows = causal.get_output_embeddings().weight
    dense.score.weight.copy_((rows[0].float() - rows[1].float())[None])
    return dense.to(DTYPES[dtype])


def write_dense(trained: TrainedReranker, folder: Path, merge: bool, dtype: Dtype = "float32") -> None:
    """Write `dense_model` and a tokenizer that reads a prompt's text as the prompt builder's ids, into `folder`."""
    dense_model(trained, merge, dtype).save_pretrained(folder)
    _name_architecture(trained, folder / "config.json")
    as_readable_as_others(folder)
    plain_tokenizer(trained.tokenizer).save_pretrained(folder)
    for extra in ("chat_template.jinja", "generation_config.json"):
        (folder / extra).unlink(missing_ok=True)


def _name_architecture(trained: TrainedReranker, path: Path) -> None:
    """Name the classifier after the causal model, which is the name that vLLM converts.

    For Gemma 3, transformers writes `Gemma3TextForSequenceClassification`, which vLLM 0.32 takes for a bare model; it
    knows a `Gemma3ForCausalLM`. transformers itself goes by `model_type`.
    """
    model = trained.model
    causal = model.get_base_model() if isinstance(model, PeftModel) else model
    config = json.loads(path.read_text(encoding="utf-8"))
    config["architectures"] = [type(causal).__name__.replace("ForCausalLM", "ForSequenceClassification")]
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def plain_tokenizer(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A copy that adds nothing: no start token (the prompt's text has it), no chat template; and with a padding token.

    The pair (prefix, item) then becomes ids(prefix) + ids(item).
    """
    plain = copy.deepcopy(tokenizer)
    plain.chat_template = None
    if plain.pad_token is None:
        plain.pad_token = plain.convert_ids_to_tokens(_pad_id(tokenizer))
    for name in ("add_bos_token", "add_eos_token"):
        if hasattr(plain, name):
            setattr(plain, name, False)
    plain.backend_tokenizer.post_processor = None
    return plain


def _pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id):
        if token is not None:
            return int(token)
    raise InputError("the tokenizer has no padding, end or unknown token; give it a padding token before finetuning")


def _dense_weights(source: torch.nn.Module, merge: bool) -> dict[str, torch.Tensor]:
    """Float32 weights of a model whose linear layers may be 4-bit, and may be wrapped by LoRA."""
    weights = {}
    for name, module in source.named_modules():
        if ".lora_" in name:
            continue
        clean = name.replace(".base_layer", "")
        own = {**dict(module.named_parameters(recurse=False)), **module._buffers}
        for key, tensor in own.items():
            if tensor is None or key in module._non_persistent_buffers_set:
                continue
            weights[f"{clean}.{key}" if clean else key] = unpacked(tensor).detach().float().cpu()
    if merge:
        for name, module in source.named_modules():
            if isinstance(module, LoraLayer):
                for adapter in module.active_adapters:
                    delta = module.get_delta_weight(adapter)  # type: ignore[attr-defined]
                    # Not in place: a float32 weight on the CPU is the source's own, which goes on being scored with.
                    weights[f"{name}.weight"] = weights[f"{name}.weight"] + delta.float().cpu()
    return weights
