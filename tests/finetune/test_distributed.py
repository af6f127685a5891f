"""Sharing lists between processes: together they read what one would, in the same order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reshelf.finetune.distributed import STAND_IN, StepSampler, share


@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 6), st.integers(0, 3))
def test_processes_together_read_what_one_reads(lists: int, lists_per_step: int, processes: int, epoch: int) -> None:
    alone = StepSampler(lists, lists_per_step * processes, seed=7)
    shared = [StepSampler(lists, lists_per_step, 7, process, processes) for process in range(processes)]
    for sampler in (alone, *shared):
        sampler.set_epoch(epoch)
    steps = list(alone)
    assert sorted(n for step in steps for n in step) == list(range(lists))
    assert [len(sampler) for sampler in shared] == [len(steps)] * processes
    for whole, *parts in zip(steps, *shared, strict=True):
        assert all(0 < len(part) <= lists_per_step for part in parts)
        assert [n for part in parts for n in part if n != STAND_IN] == whole


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    first, second, other = StepSampler(40, 8, seed=1), StepSampler(40, 8, seed=1), StepSampler(40, 8, seed=2)
    assert list(first) == list(first) == list(second)
    assert list(first) != list(other)
    second.set_epoch(1)
    assert list(first) != list(second)


@given(st.lists(st.integers(), max_size=30), st.integers(1, 8))
def test_shares_are_even_and_whole(items: list[int], processes: int) -> None:
    parts = [share(items, process, processes) for process in range(processes)]
    assert [item for part in parts for item in part] == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
