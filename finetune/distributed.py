"""How several processes share the lists of a step, so that together they do what one process would do alone.

    accelerate launch --config_file finetune/accelerate/ddp.yaml -m reshelf.cli finetune --config finetune/demo.yaml

    mine = share(lists, process=0, processes=2)
    sampler = StepSampler(len(lists), lists_per_step=8, seed=0, process=0, processes=2)

The lists of a step, over all processes, are the lists in that place of one process with `lists_per_step` times
`processes`, in the same order. The last step of an epoch is as short as it is there: no list comes twice, none is left
out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object, parse_flag_from_env
from torch.distributed.tensor import DTensor
from torch.utils.data import Sampler

from reshelf.errors import InputError

T = TypeVar("T")

STAND_IN = -1
"""In place of a list's number, for a process that has none: every process must take part in every step."""


def share(items: Sequence[T], process: int, processes: int) -> Sequence[T]:
    """A process's part of `items`, in order; parts differ in length by one at most and may be empty."""
    n = len(items)
    return items[process * n // processes : (process + 1) * n // processes]


class StepSampler(Sampler[list[int]]):
    """The numbers of the lists that one process reads, forward pass by forward pass, shuffled anew each epoch.

    Args:
        lists: how many there are.
        lists_per_step: per forward pass of one process.
        seed: the order depends on it and the epoch alone.
        process: this one's number, from 0.
        processes: how many there are.
    """

    def __init__(self, lists: int, lists_per_step: int, seed: int, process: int = 0, processes: int = 1) -> None:
        self._lists = lists
        self._size = lists_per_step * processes
        self._seed = seed
        self._process = process
        self._processes = processes
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self._lists // self._size)

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(self._lists, generator=torch.Generator().manual_seed(self._seed + self.epoch)).tolist()
        for start in range(0, self._lists, self._size):
            yield list(share(order[start : start + self._size], self._process, self._processes)) or [STAND_IN]


def is_spread() -> bool:
    """True where FSDP will spread the model over the processes: what `accelerate launch` leaves for them to see."""
    return parse_flag_from_env("ACCELERATE_USE_FSDP")


def gather_adapter(model: torch.nn.Module) -> None:
    """Make trained weights whole again on every process where FSDP spread them; all processes must call this."""
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            if weight.requires_grad and isinstance(weight, DTensor):
                module._parameters[name] = torch.nn.Parameter(weight.full_tensor())


def together(prepare: Callable[[], T]) -> T:
    """What `prepare` returns; where it finds bad input on any process, all stop and the main one alone says why.

    Raises:
        InputError: on the main process.
        SystemExit: with code 2, on the others.
    """
    made: list[T] = []
    problem = None
    try:
        made.append(prepare())
    except InputError as error:
        problem = str(error)
    found = [text for text in gather_object([problem]) if text is not None]
    if found and PartialState().is_main_process:
        raise InputError(found[0])
    if found:
        # The launcher ends all processes when the first one ends. That one must be the one with something to say.
        with suppress(RuntimeError):
            PartialState().wait_for_everyone()
        raise SystemExit(2)
    return made[0]
