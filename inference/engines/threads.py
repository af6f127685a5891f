"""How many threads a forward pass on a CPU is worth, beside a service.

    with threads_for(tokens * weights):
        scores = score(model, batch)

A list of twenty products and a small model is read in 8 ms by one thread and in 6 ms by two, which wait for each other
a few hundred times. Where the second core has other work, as under a service on two cores, they wait for it as well:
one thread then answers 1.3 times as many requests, in half of the time at the 99th percentile.

For a process of our own: torch's number of threads holds for the thread that sets it and for those that begin later
(torch 2.13; findings/torch_set_num_threads_leaves_running_threads.sh), so that one which begins amid a short pass would
keep its one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

WORTH_A_THREAD = 250_000_000
"""Multiplications, some 6 ms of one core in float32."""


@contextmanager
def threads_for(multiplications: int) -> Iterator[None]:
    """Torch's operations in so many threads as a pass of so many multiplications is worth, and no more than before."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, multiplications // WORTH_A_THREAD)))
    try:
        yield
    finally:
        torch.set_num_threads(before)
