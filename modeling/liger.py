"""Norms, activations and rotary positions of the decoder as one kernel each, by liger-kernel, on a GPU.

    use_liger(model)            # False where liger-kernel is not installed, or does not fit

transformers writes them as five to seven operations, each of which reads and writes the activations. What is computed
is the same, in float32 inside as there.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from functools import partial
from typing import Any

from reshelf.modeling.last_layer import FAMILIES
from reshelf.modeling.norm import norms


def use_liger(causal: Any) -> bool:
    """Replace what norms and MLPs of a causal LM on a GPU run; returns whether it did."""
    text = causal.config.get_text_config()
    if text.model_type not in FAMILIES or not importlib.util.find_spec("liger_kernel"):
        return False
    logging.getLogger("liger_kernel").setLevel(logging.ERROR)  # it warns of backends for hardware that is not there
    from liger_kernel.ops import LigerGELUMulFunction, LigerRMSNormFunction, LigerSiLUMulFunction
    from liger_kernel.transformers.rope import liger_rotary_pos_emb

    gemma = text.model_type.startswith("gemma")
    activation = getattr(text, "hidden_activation", None) or text.hidden_act
    product = {"silu": LigerSiLUMulFunction, "gelu_pytorch_tanh": LigerGELUMulFunction}.get(activation)
    for module, eps in norms(causal):
        module.forward = partial(_norm, LigerRMSNormFunction, module, eps, float(gemma), "gemma" if gemma else "llama")
    for module in causal.get_decoder().modules() if product is not None else ():
        if type(module).__name__.endswith("MLP"):
            module.forward = partial(_mlp, product, module)
    # Attention finds the function in its module; on a CPU it goes on with its own.
    family: Any = sys.modules[type(causal.get_decoder().layers[0].self_attn).__module__]
    if not isinstance(family.apply_rotary_pos_emb, partial):
        family.apply_rotary_pos_emb = partial(_rotary, liger_rotary_pos_emb, family.apply_rotary_pos_emb)
    return True


def _rotary(fused: Any, plain: Any, q: Any, k: Any, cos: Any, sin: Any, **more: Any) -> Any:
    return fused(q, k, cos, sin) if q.is_cuda and not more else plain(q, k, cos, sin, **more)


def _norm(function: Any, module: Any, eps: float, offset: float, casting: str, x: Any) -> Any:
    return function.apply(x, module.weight, eps, offset, casting, False, None)


def _mlp(function: Any, module: Any, x: Any) -> Any:
    return module.down_proj(function.apply(module.gate_proj(x), module.up_proj(x)))
