"""Two flash attention calls by cumulative lengths, and rows filled up to the size of a CUDA graph: the same scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reshelf.modeling import attention, attention_varlen
from reshelf.modeling.attention_varlen import VarlenCall
from reshelf.modeling.config import LoraConfig
from reshelf.modeling.graphs import Graphs, Size, filled, row_size, size_of
from reshelf.modeling.liger import use_liger
from reshelf.modeling.loading import add_lora
from reshelf.modeling.packing import pack
from reshelf.modeling.score import score
from reshelf.prompts.list_prompt import ListPrompt

SHAPES = st.lists(
    st.tuples(st.integers(1, 40), st.lists(st.integers(1, 9), min_size=1, max_size=7)), min_size=1, max_size=4
)


def stretches(call: VarlenCall) -> list[tuple[slice, slice]]:
    """Of queries and keys, none longer than the call says."""
    found = [
        tuple(slice(int(ends[n]), int(ends[n + 1])) for ends in (call.queries, call.keys))
        for n in range(len(call.queries) - 1)
    ]
    for q, k in found:
        assert max(q.stop - q.start - call.longest_query, k.stop - k.start - call.longest_key) <= 0
    return found


def slow_forward(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: VarlenCall, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """What torch's kernel computes, stretch by stretch; NaN where it writes nothing."""
    out = torch.full_like(query, float("nan"))
    lse = query.new_full((query.shape[1], query.shape[0]), float("nan"))
    heads = query.shape[1] // key.shape[1]
    for q, k in stretches(call):
        logits = scale * torch.einsum("qhd,khd->hqk", query[q], key[k].repeat_interleave(heads, 1))
        if call.causal:
            logits = logits.masked_fill(torch.ones(logits.shape[1:]).triu(1).bool(), float("-inf"))
        if k.stop == k.start:
            out[q], lse[:, q] = 0, float("inf")
        else:
            lse[:, q] = logits.logsumexp(2)
            out[q] = torch.einsum("hqk,khd->qhd", logits.softmax(2), value[k].repeat_interleave(heads, 1))
    return out, lse


def slow_backward(
    grad: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, out: torch.Tensor,
    lse: torch.Tensor, call: VarlenCall, scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    d_query, d_key, d_value = (torch.full_like(x, float("nan")) for x in (query, key, value))
    heads = query.shape[1] // key.shape[1]
    for q, k in stretches(call):
        d_query[q], d_key[k], d_value[k] = 0, 0, 0
        wide_key, wide_value = (x[k].repeat_interleave(heads, 1) for x in (key, value))
        logits = scale * torch.einsum("qhd,khd->hqk", query[q], wide_key)
        if call.causal:
            logits = logits.masked_fill(torch.ones(logits.shape[1:]).triu(1).bool(), float("-inf"))
        weights = torch.exp(logits - lse[:, q, None])
        inner = (grad[q] * out[q]).sum(2).T[..., None]
        d_logits = weights * (torch.einsum("qhd,khd->hqk", grad[q], wide_value) - inner) * scale
        d_query[q] += torch.einsum("hqk,khd->qhd", d_logits, wide_key)
        for target, wide in (
            (d_key, torch.einsum("hqk,qhd->khd", d_logits, query[q])),
            (d_value, torch.einsum("hqk,qhd->khd", weights, grad[q])),
        ):
            target[k] += wide.unflatten(1, (-1, heads)).sum(2)
    return d_query, d_key, d_value


@contextmanager
def kernels_written_out() -> Iterator[None]:
    """Attention takes the way it takes on a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "takes", lambda *_: True)
        patch.setattr(attention_varlen, "forward", slow_forward)
        patch.setattr(attention_varlen, "backward", slow_backward)
        yield


def gradients(model: Any, values: torch.Tensor) -> list[torch.Tensor]:
    weight = torch.linspace(-1, 2, len(values), device=values.device)
    return list(torch.autograd.grad((values * weight).sum(), [p for p in model.parameters() if p.requires_grad]))


@settings(max_examples=40, deadline=None)
@given(shapes=SHAPES)
def test_both_ways_and_filled_rows_give_the_same_scores_and_gradients(
    shapes: list[tuple[int, list[int]]],
    tiny_model: Callable[..., Any],
    with_head: Callable[[Any], Any],
    make_lists: Callable[..., list[ListPrompt]],
) -> None:
    model = with_head(tiny_model("qwen3", tie_word_embeddings=False, num_key_value_heads=1))
    batch = pack(make_lists(*shapes))
    expected = score(model, batch)
    expected_gradients = gradients(model, expected)
    size = size_of(batch)
    row = size.batch(torch.from_numpy(filled(batch, size)))
    with kernels_written_out():
        for one in (batch, row):
            found = score(model, one)[: len(expected)]
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
            for mine, theirs in zip(gradients(model, found), expected_gradients, strict=True):
                assert float((mine - theirs).norm()) <= 1e-4 * float(theirs.norm()) + 1e-5


@given(shapes=SHAPES, more=st.integers(0, 3000))
def test_a_size_has_room_for_its_rows(
    shapes: list[tuple[int, list[int]]], more: int, make_lists: Callable[..., list[ListPrompt]]
) -> None:
    """Every token lies in one sequence and one stretch, none longer than the size says."""
    batch = pack(make_lists((more + 1, [3]), *shapes))
    size = size_of(batch)
    row = size.batch(torch.from_numpy(filled(batch, size)))
    of = row.layout.boundaries
    for ends, longest in zip((of.sequences, of.queries, of.keys), of.longest, strict=True):
        lengths = ends.diff()
        assert (lengths >= 0).all()
        assert int(lengths.max()) <= longest
    assert int(of.sequences[-1]) == int(of.queries[-1]) == int(of.keys[-1]) == size.tokens == row.input_ids.shape[1]


def test_few_sizes() -> None:
    assert len({row_size(n) for n in range(1, 16385)}) == 49


@given(prefix=st.integers(64, 900), items=st.lists(st.integers(16, 64), min_size=20, max_size=200))
def test_usual_sizes_take_any_list_of_a_shop(
    prefix: int, items: list[int], make_lists: Callable[..., list[ListPrompt]]
) -> None:
    size = size_of(pack(make_lists((prefix, items))))
    assert any(one.holds(size) for one in Size.usual(size.tokens))


def test_there_are_none_on_a_cpu(
    tiny_model: Callable[..., Any], with_head: Callable[[Any], Any], make_lists: Callable[..., list[ListPrompt]]
) -> None:
    model = with_head(tiny_model("qwen3"))
    graphs = Graphs(model)
    assert not graphs.usable
    assert graphs.capture(1000) == 0
    batch = pack(make_lists((9, [3, 4])))
    assert torch.equal(graphs.score(batch), score(model, batch))


@pytest.mark.gpu
class TestOnAGpu:
    @pytest.mark.parametrize("shapes", [[(200, [5, 9, 2, 140])], [(700, [42] * 50), (3, [1, 14]), (90, [4] * 30)]])
    @pytest.mark.parametrize(("heads", "groups", "width"), [(4, 1, 256), (16, 8, 128), (4, 4, 32)])
    def test_kernels(
        self, shapes: list[tuple[int, list[int]]], heads: int, groups: int, width: int,
        make_lists: Callable[..., list[ListPrompt]],
    ) -> None:  # fmt: skip
        """Outputs and gradients against the kernels written out in float64, no farther than bfloat16 is."""
        batch = pack(make_lists(*shapes))
        layout, scale = batch.layout.to("cuda"), width**-0.5
        torch.manual_seed(0)
        parts = [
            torch.randn(1, batch.input_ids.shape[1], n, width, device="cuda", dtype=torch.bfloat16).transpose(1, 2)
            for n in (heads, groups, groups)
        ]
        grad = torch.randn(1, batch.input_ids.shape[1], heads, width, device="cuda", dtype=torch.bfloat16)
        leaves = [part.detach().requires_grad_() for part in parts]
        found = attention_varlen.varlen(*leaves, layout, scale)
        found.backward(grad)
        exact = [part.double().cpu().requires_grad_() for part in parts]
        with kernels_written_out():
            expected = attention_varlen.varlen(*exact, batch.layout, scale)
            expected.backward(grad.double().cpu())
        for mine, theirs in ((found, expected), *((a.grad, b.grad) for a, b in zip(leaves, exact, strict=True))):
            assert mine is not None
            assert theirs is not None
            far = (mine.detach().double().cpu() - theirs).norm() / theirs.norm()
            assert float(far) < 1e-2, float(far)

    @pytest.mark.parametrize("family", ["qwen3", "llama", "gemma3_text"])
    def test_a_graph_scores_as_without(
        self, family: str, tiny_model: Callable[..., Any], with_head: Callable[[Any], Any],
        make_lists: Callable[..., list[ListPrompt]],
    ) -> None:  # fmt: skip
        exact = with_head(tiny_model(family))
        model = with_head(tiny_model(family).to("cuda", torch.bfloat16))
        graphs = Graphs(model)
        with torch.inference_mode():
            plain = [graphs.score(pack(make_lists(*shapes, seed=n))) for n, shapes in enumerate(ROWS)]
            replayed = [graphs.score(pack(make_lists(*shapes, seed=n))) for n, shapes in enumerate(ROWS)]
            again = [graphs.score(pack(make_lists(*shapes, seed=n))) for n, shapes in enumerate(ROWS)]
            for n, shapes in enumerate(ROWS):
                truth = score(exact, pack(make_lists(*shapes, seed=n)))
                error = float((plain[n].cpu() - truth).abs().mean())
                assert torch.equal(replayed[n], again[n])
                assert float((replayed[n].cpu() - truth).abs().mean()) < 2 * error + 0.05

    def test_gradients_of_a_graph(
        self, tiny_model: Callable[..., Any], with_head: Callable[[Any], Any],
        make_lists: Callable[..., list[ListPrompt]],
    ) -> None:  # fmt: skip
        """Of two passes between optimizer steps, one of which is new, added up."""
        model = with_head(tiny_model("qwen3").to("cuda", torch.bfloat16))
        use_liger(model)
        model = add_lora(model, LoraConfig(rank=4, alpha=8, dropout=0.0))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        model.train()
        graphs = Graphs(model, training=True)
        batches = [pack(make_lists(*shapes)) for shapes in ROWS]
        for batch in batches:
            graphs.score(batch).sum().backward()
        model.zero_grad()
        for batch in batches:
            score(model, batch.to("cuda")).sum().backward()
        expected = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        for _ in range(2):  # captured, then replayed
            model.zero_grad()
            for batch in batches:
                graphs.score(batch).sum().backward()
            found = [p.grad for p in model.parameters() if p.grad is not None]
            for mine, theirs in zip(found, expected, strict=True):
                assert float((mine - theirs).norm()) <= 0.05 * float(theirs.norm()) + 1e-3


ROWS = [[(30, [5, 9, 2])], [(200, [12] * 40)], [(90, [9] * 20), (120, [7, 8, 9])], [(300, [30] * 30)]]
