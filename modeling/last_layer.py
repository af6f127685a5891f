"""The last layer's work on tokens that nobody reads is left out: of a list, only the score positions meet the head.

    prune_last_layer(causal)
    causal(..., layout=batch.layout, scored_rows=batch.score_positions)      # logits of those rows alone

Other tokens take part in the last layer as keys and values, nothing else. So its attention sees the whole row, with the
score positions as its queries where `modeling.attention` can, and residual, MLP and norms see the score positions. What
they compute is what they would have computed, and gradients too.
"""

from __future__ import annotations

from typing import Any

import torch

FAMILIES = ("gemma", "gemma2", "gemma3_text", "llama", "mistral", "qwen2", "qwen3")
"""Families whose layer is norm, attention, residual, norm, MLP, residual. A test holds each of them to the full layer;
in others, the last layer reads the whole row, and only its output is cut."""


def prune_last_layer(causal: Any) -> None:
    """Let a causal LM take `scored_rows`, int64 [R]: what comes out is then theirs alone, [1, R, …]."""
    decoder = causal.get_decoder()
    if causal.config.get_text_config().model_type in FAMILIES:
        layer = decoder.layers[-1]
        layer.register_forward_pre_hook(_cut_residual, with_kwargs=True)
        layer.self_attn.register_forward_pre_hook(_attend_to_whole_row, with_kwargs=True)
        layer.self_attn.register_forward_hook(_cut_attention, with_kwargs=True)
    else:
        decoder.register_forward_hook(_cut_output, with_kwargs=True)


def _cut_residual(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
    if (rows := kwargs.get("scored_rows")) is None:
        return None
    hidden, *rest = args
    # The layer hands on to its attention what it does not know.
    return (hidden[:, rows], *rest), kwargs | {"whole_row": layer.input_layernorm(hidden)}


def _attend_to_whole_row(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
    if (rows := kwargs.get("scored_rows")) is None:
        return None
    return args, kwargs | {"hidden_states": kwargs.pop("whole_row"), "read_rows": rows}


def _cut_attention(_: Any, args: Any, kwargs: dict[str, Any], output: tuple[torch.Tensor, Any]) -> Any:
    rows = kwargs.get("scored_rows")
    return None if rows is None else (output[0][:, rows], *output[1:])


def _cut_output(_: Any, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
    if (rows := kwargs.get("scored_rows")) is not None:
        output.last_hidden_state = output.last_hidden_state[:, rows]
    return output
