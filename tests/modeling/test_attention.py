"""A list read as one sequence gives the scores and gradients of one prompt per candidate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AttentionInterface

from reshelf.modeling import attention_pieces
from reshelf.modeling.attention import SHARED_PREFIX, shared_prefix_attention
from reshelf.modeling.attention_flex import flex
from reshelf.modeling.attention_pieces import pieces
from reshelf.modeling.config import LoraConfig
from reshelf.modeling.loading import add_lora
from reshelf.modeling.packing import Layout, pack
from reshelf.modeling.score import score
from reshelf.prompts.list_prompt import ListPrompt, Truncated
from tests.modeling.rows import layout_of

FAMILIES = ["qwen3", "llama", "mistral", "gemma", "gemma2", "gemma3_text"]
SHAPES = {
    "one list": [(30, [5, 9, 2, 9])],
    "items of one length": [(12, [6, 6, 6])],
    "several lists": [(30, [5, 9, 2]), (3, [1, 14]), (17, [4, 4, 4, 4])],
    "one candidate": [(8, [6])],
    "one-token items and prefixes": [(1, [1, 1, 1]), (1, [3])],
}


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of every parameter but the vocabulary head, which `LabelHead` does not train."""
    model.zero_grad()
    loss.backward()
    return {
        name.replace("base_model.model.", ""): parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and "lm_head" not in name
    }


def assert_same_gradients(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], bound: float) -> None:
    assert found.keys() == expected.keys()
    assert any(float(g.norm()) > 0 for g in expected.values())
    # A gradient that is millions of times smaller than others is their rounding.
    floor = 1e-9 + 1e-8 * max(float(g.norm()) for g in expected.values())
    for name, gradient in expected.items():
        assert float((found[name] - gradient).norm()) <= bound * float(gradient.norm()) + floor, name


class TestEqualsSeparatePrompts:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("family", FAMILIES)
    def test_scores_and_gradients(
        self,
        family: str,
        shape: str,
        tiny_model: Callable[..., Any],
        with_head: Callable[[Any], Any],
        make_lists: Callable[..., list[ListPrompt]],
        separate: Callable[..., torch.Tensor],
    ) -> None:
        prompts = make_lists(*SHAPES[shape])
        # The head is not trained; tied to the embeddings it would mix its own gradient into theirs.
        plain = tiny_model(family, "eager", tie_word_embeddings=False)
        shared = with_head(tiny_model(family, tie_word_embeddings=False))
        expected = separate(plain, prompts)
        found = score(shared, pack(prompts))
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        weight = torch.linspace(-1, 2, len(expected))
        assert_same_gradients(
            gradients(shared, (found * weight).sum()), gradients(plain, (expected * weight).sum()), 1e-5
        )

    def test_a_candidate_matters(
        self,
        tiny_model: Callable[..., Any],
        with_head: Callable[[Any], Any],
        make_lists: Callable[..., list[ListPrompt]],
    ) -> None:
        """The scores above are not all alike, so that equality says something."""
        found = score(with_head(tiny_model()), pack(make_lists(*SHAPES["several lists"])))
        assert float(found.detach().std()) > 0.5

    @pytest.mark.parametrize("heads", [1, 2, 4])
    def test_grouped_queries(
        self,
        heads: int,
        tiny_model: Callable[..., Any],
        with_head: Callable[[Any], Any],
        make_lists: Callable[..., list[ListPrompt]],
        separate: Callable[..., torch.Tensor],
    ) -> None:
        prompts = make_lists(*SHAPES["several lists"])
        expected = separate(tiny_model("llama", "eager", num_key_value_heads=heads), prompts)
        found = score(with_head(tiny_model("llama", num_key_value_heads=heads)), pack(prompts))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)

    def test_gradient_checkpointing_with_lora(
        self,
        tiny_model: Callable[..., Any],
        with_head: Callable[[Any], Any],
        make_lists: Callable[..., list[ListPrompt]],
        separate: Callable[..., torch.Tensor],
    ) -> None:
        prompts = make_lists(*SHAPES["several lists"])
        shared, plain = (lora(model) for model in (with_head(tiny_model("qwen3")), tiny_model("qwen3", "eager")))
        expected = separate(plain, prompts)
        shared.gradient_checkpointing_enable({"use_reentrant": False})
        shared.train()
        calls = count_calls(shared.get_base_model().model.layers[0].self_attn)
        found = score(shared, pack(prompts))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        mine = gradients(shared, found.sum())
        assert len(calls) == 2, "checkpointing computes a layer once forward and once more backward"
        assert_same_gradients(mine, gradients(plain, expected.sum()), 1e-5)

    def test_bfloat16(
        self,
        tiny_model: Callable[..., Any],
        with_head: Callable[[Any], Any],
        make_lists: Callable[..., list[ListPrompt]],
        separate: Callable[..., torch.Tensor],
    ) -> None:
        prompts = make_lists(*SHAPES["several lists"])
        exact = separate(tiny_model("qwen3", "eager"), prompts)
        found = score(with_head(tiny_model("qwen3").to(torch.bfloat16)), pack(prompts))
        plain = separate(tiny_model("qwen3", "eager").to(torch.bfloat16), prompts)
        assert found.dtype == torch.float32
        # As far from the truth as bfloat16 itself is, and no farther.
        assert float((found - exact).abs().mean()) < 2 * float((plain - exact).abs().mean()) + 0.05


LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=7)


@settings(max_examples=300)
@given(data=st.data())
def test_pieces_equal_a_dense_mask(data: st.DataObject) -> None:
    """Outputs and gradients over random rows, windows and sinks, against one masked softmax over the whole row, in
    float64."""
    shapes = data.draw(st.lists(st.tuples(st.integers(1, 40), LENGTHS), min_size=1, max_size=3))
    layout = layout_of(shapes)
    window = data.draw(st.none() | st.integers(1, 50))
    shared, groups = data.draw(st.sampled_from([1, 2, 3])), data.draw(st.sampled_from([1, 2]))
    with_sinks = data.draw(st.booleans())
    same_output_and_gradients(pieces, layout, shared * groups, groups, torch.float64, 1e-9, window, with_sinks)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_windows_equal_separate_prompts(
    data: st.DataObject,
    tiny_model: Callable[..., Any],
    with_head: Callable[[Any], Any],
    make_lists: Callable[..., list[ListPrompt]],
    separate: Callable[..., torch.Tensor],
) -> None:
    """Scores and gradients of models with windows in all or some of their layers, against transformers' own attention
    on one prompt per candidate: windows shorter than an item, across the seam, and shorter or longer than the prefix.
    """
    family = data.draw(st.sampled_from(["mistral", "qwen3", "gemma2", "gemma3_text", "gpt_oss"]))
    changes: dict[str, Any] = {"sliding_window": data.draw(st.integers(2, 24)), "tie_word_embeddings": False}
    if family == "qwen3":
        changes |= {"use_sliding_window": True, "max_window_layers": 1}
    if family in ("gemma2", "gemma3_text", "gpt_oss"):
        local, everything = "sliding_attention", "full_attention"
        changes["layer_types"] = data.draw(st.sampled_from([[local, everything], [everything, local], [local, local]]))
    shapes = data.draw(st.lists(st.tuples(st.integers(1, 40), LENGTHS), min_size=1, max_size=2))
    prompts = make_lists(*shapes, seed=data.draw(st.integers(0, 99)))
    plain, shared = tiny_model(family, "eager", **changes), with_head(tiny_model(family, **changes))
    expected, found = separate(plain, prompts), score(shared, pack(prompts))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weight = torch.linspace(-1, 2, len(expected))
    assert_same_gradients(gradients(shared, (found * weight).sum()), gradients(plain, (expected * weight).sum()), 1e-5)


def test_a_window_matters(
    tiny_model: Callable[..., Any], with_head: Callable[[Any], Any], make_lists: Callable[..., list[ListPrompt]]
) -> None:
    """The scores above do depend on it, and on whether a local layer has the rotary base of a local layer."""
    prompts = make_lists(*SHAPES["several lists"])
    scores = []
    for window, types in ((8, ["sliding_attention"] * 2), (12, ["sliding_attention"] * 2), (8, ["full_attention"] * 2)):
        model = with_head(tiny_model("gemma3_text", sliding_window=window, layer_types=types))
        scores.append(score(model, pack(prompts)).detach())
    assert min(float((a - b).abs().max()) for a, b in zip(scores, scores[1:] + scores[:1], strict=True)) > 0.05


def test_a_window_bounds_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs of tokens that the flash attention calls compute: tokens times window, whatever the prefix's length."""
    computed = []
    forward = attention_pieces.forward

    def counting(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool, scale: float) -> Any:
        computed.append(q.shape[0] * q.shape[2] * k.shape[2])
        return forward(q, k, v, causal, scale)

    monkeypatch.setattr(attention_pieces, "forward", counting)
    for prefix in (512, 2048):
        layout = layout_of([(prefix, [8] * 16)])
        q = torch.randn(1, 1, prefix + 128, 16)
        computed.clear()
        pieces(q, q, q, layout, 0.3, window=64)
        assert sum(computed) <= 2 * (prefix + 128) * 64


ROWS = {
    "several lists": [(200, [5, 9, 2, 140]), (3, [1, 14]), (17, [4, 4, 4, 4])],
    "one-token items": [(1, [1, 1, 1])],
}


@pytest.mark.parametrize("sinks", [None, torch.tensor([0.5, -1.0, 2.0, 0.0])], ids=["", "sinks"])
@pytest.mark.parametrize("window", [None, 1, 4, 50])
@pytest.mark.parametrize("row", ROWS)
def test_flex_equals_a_dense_mask(row: str, window: int | None, sinks: torch.Tensor | None) -> None:
    """The forward pass alone: torch has no FlexAttention backward on a CPU."""
    layout = layout_of(ROWS[row])
    q, k, v = (torch.randn(1, heads, layout.owners.shape[1], 16) for heads in (4, 2, 2))
    found, expected = flex(q, k, v, layout, 0.3, None, window, sinks), dense(q, k, v, layout, 0.3, window, sinks)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("window", [None, 4, 50])
@pytest.mark.parametrize("row", ROWS)
def test_flex_gradients_equal_a_dense_mask(row: str, window: int | None) -> None:
    with torch.device("cuda"):
        same_output_and_gradients(flex, layout_of(ROWS[row]), 4, 2, torch.float32, 1e-3, window, window is not None)


def same_output_and_gradients(
    attend: Callable[..., torch.Tensor],
    layout: Layout,
    heads: int,
    groups: int,
    kind: torch.dtype,
    bound: float,
    window: int | None = None,
    with_sinks: bool = False,
) -> None:
    torch.manual_seed(0)
    length = layout.owners.shape[1]
    q, k, v = (torch.randn(1, n, length, 16, dtype=kind, requires_grad=True) for n in (heads, groups, groups))
    sinks = torch.randn(heads, dtype=kind, requires_grad=True) if with_sinks else None
    weight = torch.randn(1, length, heads, 16, dtype=kind)
    inputs = (q, k, v) if sinks is None else (q, k, v, sinks)
    found, expected = attend(q, k, v, layout, 0.3, None, window, sinks), dense(q, k, v, layout, 0.3, window, sinks)
    torch.testing.assert_close(found, expected, rtol=bound, atol=bound)
    mine = torch.autograd.grad((found * weight).sum(), inputs)
    theirs = torch.autograd.grad((expected * weight).sum(), inputs)
    torch.testing.assert_close(mine, theirs, rtol=bound, atol=bound)


def dense(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layout: Layout,
    scale: float,
    window: int | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """The same attention the slow, obvious way: a mask of every pair of tokens, written out list by list."""
    length = q.shape[2]
    seen = torch.zeros(length, length, dtype=torch.bool)
    lists, items, positions = layout.owners.tolist()
    for i in range(length):
        for j in range(i + 1):
            near = window is None or positions[i] - positions[j] < window
            seen[i, j] = near and lists[i] == lists[j] and items[j] in (0, items[i])
    heads = q.shape[1] // k.shape[1]
    logits = (q @ k.repeat_interleave(heads, 1).transpose(2, 3) * scale).masked_fill(~seen, float("-inf"))
    if sinks is not None:
        logits = torch.cat([logits, sinks[None, :, None, None].expand(1, -1, length, 1)], 3)
    return (logits.softmax(3)[..., :length] @ v.repeat_interleave(heads, 1)).transpose(1, 2)


def lora(model: Any) -> Any:
    torch.manual_seed(1)
    model = add_lora(model, LoraConfig(rank=4, alpha=8, dropout=0.0))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def count_calls(module: torch.nn.Module) -> list[int]:
    calls: list[int] = []
    module.register_forward_hook(lambda *_: calls.append(1))
    return calls


@settings(max_examples=20)
@given(data=st.data())
def test_permuting_candidates_permutes_scores(
    data: st.DataObject,
    tiny_model: Callable[..., Any],
    with_head: Callable[[Any], Any],
    make_lists: Callable[..., list[ListPrompt]],
) -> None:
    lengths = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=6))
    order = data.draw(st.permutations(range(len(lengths))))
    (prompt,) = make_lists((data.draw(st.integers(1, 20)), lengths), seed=data.draw(st.integers(0, 99)))
    moved = ListPrompt("moved", prompt.prefix, tuple(prompt.items[k] for k in order), Truncated())
    model = with_head(tiny_model())
    with torch.no_grad():
        torch.testing.assert_close(
            score(model, pack([moved])), score(model, pack([prompt]))[order], rtol=1e-5, atol=1e-5
        )


class TestLimits:
    def test_soft_capped_attention_is_refused(
        self,
        tiny_model: Callable[..., Any],
        with_head: Callable[[Any], Any],
        make_lists: Callable[..., list[ListPrompt]],
    ) -> None:
        model = with_head(tiny_model("gemma2", attn_logit_softcapping=50.0))
        with pytest.raises(NotImplementedError, match="soft-capped"):
            score(model, pack(make_lists((10, [4]))))

    def test_dropout_is_refused(self) -> None:
        q = torch.randn(1, 2, 5, 8)
        with pytest.raises(NotImplementedError, match="dropout"):
            shared_prefix_attention(torch.nn.Module(), q, q, q, None, dropout=0.1)


def test_nothing_grows_with_prefix_times_items(
    tiny_model: Callable[..., Any],
    with_head: Callable[[Any], Any],
    make_lists: Callable[..., list[ListPrompt]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No mask reaches a layer, and neither forward nor backward makes a tensor beyond tokens x the widest layer."""
    masks = []

    def spy(*args: Any, **more: Any) -> Any:
        masks.append(args[4])
        return shared_prefix_attention(*args, **more)

    monkeypatch.setitem(AttentionInterface._global_mapping, SHARED_PREFIX, spy)
    prompts = make_lists((400, [10] * 60))
    model = with_head(tiny_model("qwen3"))
    with LargestTensor() as largest:
        score(model, pack(prompts)).sum().backward()
    assert masks == [None, None]
    # Attention weights of the items to the prefix, or K copies of the prefix's keys, would be 4 to 10 times this.
    assert largest.size == (400 + 600) * model.config.intermediate_size


class LargestTensor(torch.utils._python_dispatch.TorchDispatchMode):
    """Remembers the most elements any operation's result had."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.size = max(self.size, tensor.numel())
        return result
