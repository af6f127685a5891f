"""Scores on a GPU as CUDA graphs: a pass is one launch, not thousands.

    graphs = Graphs(model)                    # or Graphs(model, training=True)
    scores = graphs.score(batch)              # what `modeling.score.score` gives, with gradients where training

A small model's kernels take microseconds, and launching each from Python takes longer than running it. A graph has the
addresses of its inputs and the number of tokens fixed, so rows are filled up to one of few sizes (`Size`) with
sequences that nobody sees and that see nobody. What the lists in a row look like is data: lengths lie on the device.
A size is captured when it comes for the second time, or often where a roomier graph takes it; the first, and what no
graph is for, runs as it always did.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from reshelf.modeling.attention_varlen import takes
from reshelf.modeling.last_layer import FAMILIES
from reshelf.modeling.packing import Boundaries, Layout, PackedBatch
from reshelf.modeling.score import score

MOST = 128
"""Graphs kept; the least recently used makes room."""
OFTEN = 32
"""So many rows of a size that fit into a roomier graph get one of their own."""


class Graphs:
    """The graphs of one model.

    Args:
        model: after `attach_head`; its weights may change in place, its modules may not.
        training: for passes with gradients, which are added to the parameters' `grad`. A backward pass must follow each
            forward pass before the next one.
    """

    def __init__(self, model: Any, training: bool = False) -> None:
        text = model.config.get_text_config()
        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        weight = model.get_input_embeddings().weight
        self._device = weight.device
        self.usable = text.model_type in FAMILIES and takes(weight.new_empty(0, width), None, None, None)
        """Whether there are graphs for this model, on this device, in its type."""
        self._model = model
        self._training = training
        self._window = getattr(text, "sliding_window", None) or math.inf
        self._parameters = [p for p in model.parameters() if p.requires_grad] if training and self.usable else []
        self._gradients = [torch.zeros_like(p) for p in self._parameters]
        self._seen: Counter[Size] = Counter()
        self._graphs: OrderedDict[Size, _Graph] = OrderedDict()
        self._pool = torch.cuda.graph_pool_handle() if self.usable else None

    def score(self, batch: PackedBatch) -> torch.Tensor:
        """Raw log-odds of every candidate, float32 [N], lists one after the other.

        Args:
            batch: on the CPU.
        """
        size = self._chosen(size_of(batch)) if self.usable and batch.layout.longest <= self._window else None
        if size is None:
            return score(self._model, batch.to(self._device))
        self._graphs.move_to_end(size)
        graph = self._graphs[size]
        graph.inputs.copy_(torch.from_numpy(filled(batch, size)))
        if self._training:
            scores: torch.Tensor = _Replay.apply(torch.zeros((), requires_grad=True), self, graph, sum(batch.sizes))
            return scores
        graph.forward.replay()
        return graph.scores[: sum(batch.sizes)].clone()

    def _chosen(self, size: Size) -> Size | None:
        """The size of a graph that there is for a row: its own, or a roomier one; None where there is neither yet."""
        if size not in self._graphs:
            self._seen[size] += 1
            roomy = min((one for one in self._graphs if one.holds(size)), default=None)
            if self._seen[size] <= (OFTEN if roomy else 1):
                return roomy
            if len(self._graphs) == MOST:
                self._graphs.popitem(last=False)
            self._graphs[size] = self._captured(size)
        return size

    def capture(self, tokens: int) -> int:
        """Capture what rows of one list with up to so many tokens need, the longest first; returns their number."""
        rows = {row_size(n) for n in range(1, tokens + 1, 32)} if self.usable else set()
        for size in sorted((size for row in rows for size in Size.usual(row)), reverse=True)[-MOST:]:
            self._graphs[size] = self._captured(size)
        return len(self._graphs)

    def _captured(self, size: Size) -> _Graph:
        inputs = torch.from_numpy(size.row([0] * 6)).to(self._device)
        random = torch.cuda.get_rng_state(self._device)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), torch.set_grad_enabled(self._training):
            for _ in range(2):  # kernels are chosen and compiled outside of graphs
                scores = score(self._model, size.batch(inputs))
                if self._training:
                    torch.autograd.grad(scores, self._parameters, torch.zeros_like(scores), materialize_grads=True)
        gradient = torch.zeros_like(scores)
        del scores
        torch.cuda.current_stream().wait_stream(side)
        forward, backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(forward, self._pool), torch.set_grad_enabled(self._training):
            scores = score(self._model, size.batch(inputs))
        if self._training:
            with torch.cuda.graph(backward, self._pool):
                found = torch.autograd.grad(scores, self._parameters, gradient, materialize_grads=True)
                torch._foreach_add_(self._gradients, found)
        torch.cuda.set_rng_state(random, self._device)  # dropout is the same whatever is captured
        return _Graph(inputs, forward, backward, scores.detach(), gradient)

    def backward(self, graph: _Graph) -> None:
        """Replay a backward pass; its gradients are added to those that the parameters have."""
        if any(p.grad is not own for p, own in zip(self._parameters, self._gradients, strict=True)):
            torch._foreach_zero_(self._gradients)
            for parameter, own in zip(self._parameters, self._gradients, strict=True):
                if parameter.grad is not None:  # of a pass that there was no graph for
                    own.copy_(parameter.grad)
                parameter.grad = own
        graph.backward.replay()


@dataclass(frozen=True, eq=False)
class _Graph:
    inputs: torch.Tensor
    """int32: all that differs between rows of this size, see `Size.row`."""
    forward: torch.cuda.CUDAGraph
    backward: torch.cuda.CUDAGraph
    scores: torch.Tensor
    gradient: torch.Tensor
    """Of the scores."""


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchor: torch.Tensor, graphs: Graphs, graph: _Graph, count: int) -> torch.Tensor:
        ctx.graphs, ctx.graph = graphs, graph
        graph.forward.replay()
        return graph.scores[:count].clone()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[None, ...]:
        ctx.graph.gradient.zero_()
        ctx.graph.gradient[: len(grads[0])].copy_(grads[0])
        ctx.graphs.backward(ctx.graph)
        return None, None, None, None


class Size(NamedTuple):
    """What a graph has room for."""

    tokens: int
    sequences: int
    """Prefixes and items, those that fill the row up among them; and as many candidates."""
    lists: int
    longest: int
    """Tokens of a sequence."""
    queries: int
    """Tokens of a stretch of queries (`packing.Boundaries`)."""

    @classmethod
    def usual(cls, tokens: int) -> tuple[Size, Size]:
        """What takes most lists of so many tokens alone, and what takes nearly all: more products, a longer prompt."""
        few, many = (64 * -(-max(tokens // most, 128) // 64) for most in (24, 14))
        return cls(tokens, few, 1, 512, tokens), cls(tokens, many, 1, 1024, tokens)

    def holds(self, other: Size) -> bool:
        """Whether a row of another size fits, of as many tokens."""
        return self.tokens == other.tokens and all(a >= b for a, b in zip(self, other, strict=True))

    @property
    def rooms(self) -> tuple[int, ...]:
        """Numbers per part of `inputs`."""
        return self.tokens, self.tokens, self.sequences, self.sequences + 1, self.lists + 4, self.lists + 4

    def row(self, parts: Sequence[npt.ArrayLike]) -> npt.NDArray[np.int32]:
        """Ids, positions, score positions and the three cumulative lengths, one behind the other, filled up."""
        ids, positions, scored, ends, queries, keys = map(np.atleast_1d, parts)
        # Tokens that fill the row up are sequences of their own, none longer than one may be, which see no context.
        more = np.arange(int(ends[-1]) + self.longest, self.tokens, self.longest)
        columns = (ids, positions, scored, np.append(ends, more), queries, keys)
        rest = (0, 0, 0, self.tokens, self.tokens, int(keys[-1]))
        row = np.concatenate(
            [
                np.pad(column.astype(np.int32), (0, room - len(column)), constant_values=value)
                for column, room, value in zip(columns, self.rooms, rest, strict=True)
            ]
        )
        row[-1] = self.tokens
        return row

    def batch(self, inputs: torch.Tensor) -> PackedBatch:
        """The batch that `inputs`, int32, is, on its device."""
        ids, positions, scored, sequences, queries, keys = inputs.split(self.rooms)
        limits = Boundaries(sequences, queries, keys, (self.longest, self.queries, self.tokens))
        return PackedBatch(ids.long()[None], positions.long()[None], scored.long(), (), Layout((), limits))


def row_size(tokens: int) -> int:
    """Tokens of the smallest row with room for so many: eight sizes for every doubling, from 256 on."""
    tokens = max(tokens, 256)
    step = 1 << ((tokens - 1).bit_length() - 4)
    return -(-tokens // step) * step


def size_of(batch: PackedBatch) -> Size:
    """The smallest size that has room for a batch."""
    sequence, query, _ = batch.layout.boundaries.longest
    count, lists = batch.input_ids.shape[1], len(batch.sizes)
    tokens = row_size(count)
    longest = _power(sequence, 256)
    sequences = _power(len(batch.layout.boundaries.sequences) + (tokens - count) // longest, 128)
    queries = tokens if lists == 1 else _power(max(query, tokens - count))
    return Size(tokens, sequences, _power(lists), longest, queries)


def filled(batch: PackedBatch, size: Size) -> npt.NDArray[np.int32]:
    """`Size.row` of a batch."""
    of = batch.layout.boundaries
    stretches = of.queries[:-1], of.keys[:-1]  # the last one is that of the row as it is filled up
    parts = (batch.input_ids[0], batch.position_ids[0], batch.score_positions, of.sequences, *stretches)
    return size.row([part.numpy() for part in parts])


def _power(n: int, least: int = 1) -> int:
    """The smallest power of two that is at least `n`, and `least`."""
    return 1 << (max(n, least) - 1).bit_length()
