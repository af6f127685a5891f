"""A pretrained causal LM in 4 bits with LoRA on top.

    model, tokenizer = load_base(ModelConfig(base="Qwen/Qwen3-Reranker-0.6B"))
    model = add_lora(model, LoraConfig(rank=16))

`base` is a Hub id or a folder; nothing else differs between a tiny model on a CPU and a large one on a GPU.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import bitsandbytes as bnb
import torch
from transformers import PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from reshelf.errors import InputError, first_line, is_full_disk
from reshelf.modeling.artefact import check_objects
from reshelf.modeling.attention import SHARED_PREFIX
from reshelf.modeling.base_checks import (
    CHOOSE,
    add_missing_start,
    check_attention,
    check_config,
    check_vocabulary,
    check_weight_files,
    check_weights,
)
from reshelf.modeling.config import LoraConfig, ModelConfig
from reshelf.modeling.fused import compute_fused
from reshelf.modeling.hub import hub_problem, is_hub_id
from reshelf.modeling.tokenizer import load_tokenizer

if TYPE_CHECKING:
    import peft


logger = logging.getLogger("reshelf.modeling")


def pick_device() -> str:
    """cuda where there is one, else cpu."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_base(
    config: ModelConfig, device: str | None = None, spread: bool = False
) -> tuple[Any, PreTrainedTokenizerBase]:
    """The base model with shared-prefix attention, in evaluation mode, and its tokenizer.

    Args:
        device: where to; `pick_device()` where None.
        spread: store 4-bit weights as numbers of `config.dtype`, the only kind that FSDP can spread over GPUs. The bits
            are the same.

    Raises:
        InputError: there is no such model, its weights cannot be read, are not all there or are not numbers, or it is
            of a kind that cannot read a list as one sequence (`modeling.base_checks`).
    """
    from transformers import AutoConfig  # seconds to import, which `add_lora` alone does not wait for

    bound_kernel_caches()
    disable_progress_bar()  # of shards; downloads keep theirs
    check_base_exists(config.base, config.revision)
    check_objects(Path(config.base))
    check_weight_files(Path(config.base))
    with reading_base(config.base):
        shape = AutoConfig.from_pretrained(
            config.base, revision=config.revision, trust_remote_code=config.trust_remote_code
        )
    check_config(shape, config.base, config.quantise)
    tokenizer = load_tokenizer(config.base, config.revision, config.trust_remote_code)
    check_vocabulary(tokenizer, shape, config.base)
    for text in (shape, shape.get_text_config()):
        text.attention_dropout = 0.0  # an adapter has its own, and flash attention calls on a CPU have none
    with reading_base(config.base):
        model = _read_weights(config, shape, device or pick_device(), spread)
    keep_four_bit_exact(model.eval(), getattr(torch, config.dtype))
    compute_fused(model, model.device)
    check_weights(model, config.base)
    with reading_base(config.base):
        check_attention(model, config.base)
    if (start := add_missing_start(tokenizer, shape)) is not None:
        logger.warning(
            "model.base %r: its tokenizer adds or declares no start token, but %s models are trained with one; every "
            "prompt now starts with %s", config.base, shape.get_text_config().model_type, start,
        )  # fmt: skip
    return model, tokenizer


def _read_weights(config: ModelConfig, shape: Any, device: str, spread: bool) -> Any:
    """The causal LM of transformers' config `shape`. Arguments and errors otherwise as of `load_base`."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    dtype = getattr(torch, config.dtype)
    four_bit = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_quant_storage=dtype if spread else torch.uint8,
    )
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            config.base,
            config=shape,
            dtype=dtype,
            quantization_config=four_bit if config.quantise else None,
            device_map={"": device},
            attn_implementation=SHARED_PREFIX,
            use_safetensors=True,
            output_loading_info=True,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
        )
    except KeyError as error:  # older models look attention up in a table of their own
        if error.args != (SHARED_PREFIX,):
            raise
        raise InputError(
            f"model.base {config.base!r} cannot be a reranker: {shape.model_type} has an attention of its own, "
            f"which cannot be replaced; {CHOOSE}"
        ) from error
    model, found = loaded
    if found["missing_keys"]:
        raise InputError(
            f"model.base {config.base!r}: its weights lack {min(found['missing_keys'])!r}; give a complete causal "
            "language model"
        )
    return model


@contextmanager
def reading_base(base: str) -> Iterator[None]:
    """While libraries read a base: they raise any kind of error where a value of its config is of the wrong type.

    Raises:
        InputError: whatever they raise, but for want of memory or disk.
    """
    try:
        yield
    except (InputError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if is_full_disk(error):
            raise
        raise InputError(f"no causal language model at {base!r}: {first_line(error)}; {CHOOSE}") from error


def bound_kernel_caches() -> None:
    """Let torch and oneDNN keep 64 compiled matrix products each, not 1,024, unless the environment says otherwise.

    On CPUs that multiply bfloat16 they compile one per weight and number of tokens, and lists differ in length: a few
    hundred steps or requests held 2 GB that nothing gave back (torch 2.13; findings/torch_keeps_a_kernel_per_length.sh
    shows it). Within a pass the layers share them, so 64 cost no time. Both are read at the first product.
    """
    for name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        os.environ.setdefault(name, "64")


def keep_four_bit_exact(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Compute in `dtype`, and switch off bitsandbytes' shortcut for CPUs with AVX512-BF16.

    There, the first forward pass in evaluation mode repacks a 4-bit layer for good: it then computes in bfloat16,
    whatever type was asked for, by an operation that has no gradient. Training after a validation would go on with
    wrong gradients and say nothing.
    """
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False
            module.compute_dtype = dtype  # a base that was stored in 4 bits brings its own


def add_lora(model: Any, config: LoraConfig) -> peft.PeftModel:
    """Freeze the model and put trainable low-rank updates on its linear layers.

    The updates are float32 for the optimizer and compute in the type of the model.
    """
    import peft

    from reshelf.modeling.low_rank import fuse_updates

    adapted = peft.get_peft_model(
        model,
        peft.LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )
    compute_in_input_dtype(adapted)
    fuse_updates(adapted)
    return adapted


class InputDtypeLinear(torch.nn.Linear):
    """A linear layer whose weights are cast to the type of its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, self.weight.to(x.dtype))


def compute_in_input_dtype(model: torch.nn.Module) -> None:
    """Let LoRA's two small matrices follow the activations' type, rather than the activations theirs.

    peft casts the activations of a bfloat16 model to float32 for every adapted layer, and keeps them for the backward
    pass: most of the memory of a step, and its products in float32.
    """
    from peft.tuners.lora import LoraLayer

    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            layer.cast_input_dtype_enabled = False
            for matrices in (layer.lora_A, layer.lora_B):
                for name, module in matrices.items():
                    matrix = cast(torch.nn.Linear, module)
                    small = InputDtypeLinear(matrix.in_features, matrix.out_features, bias=False, device="meta")
                    small.weight = matrix.weight
                    matrices[name] = small.train(matrix.training)


def check_base_exists(base: str, revision: str | None = None) -> None:
    """Raise InputError for what is no folder with a model, and not to be had from the Hub; within seconds."""
    folder = Path(base).exists() or not is_hub_id(base)
    if folder and not (Path(base) / "config.json").is_file():
        raise InputError(
            f"model.base {base!r} is not a model folder: it has no config.json; make a base with `reshelf pretrain`, "
            "or give the folder of one or its id on the Hub"
        )
    if not folder and (problem := hub_problem(base, "config.json", revision)):
        raise InputError(
            f"model.base {base!r} is no folder here, and not to be had from the Hugging Face Hub: {problem}; make a "
            "base with `reshelf pretrain` or give the folder of one, or correct the id or the connection"
        )
