"""Every number that a command takes has a range, and one outside it is a sentence before any work begins."""

from __future__ import annotations

import math
import typing
from collections.abc import Iterator
from dataclasses import MISSING

import pytest

from reshelf.cli import COMMANDS, load
from reshelf.config import Option, options, parse
from reshelf.data.marketplace import MarketplaceConfig
from reshelf.errors import InputError
from reshelf.finetune.config import OptimizerConfig
from reshelf.finetune.pretraining.pretrain import PretrainConfig, ShapeConfig
from reshelf.ranges import AT_LEAST_0, FINITE, POSITIVE, SHARE


def numbers() -> Iterator[tuple[str, Option]]:
    for name, command in COMMANDS.items():
        for option in options(load(command.config)):
            if {option.hint, *typing.get_args(option.hint)} & {int, float} and "list" not in str(option.hint):
                yield name, option


NUMBERS = list(numbers())


def parsed(command: str, name: str, value: str) -> object:
    kind = load(COMMANDS[command].config)
    needed = [o for o in options(kind) if o.default is MISSING]
    words = [word for o in needed for word in (f"--{o.name}", "[x]" if "list" in str(o.hint) else "x")]
    return parse(kind, [*words, f"--{name}={value}"])


@pytest.mark.parametrize(("command", "option"), NUMBERS, ids=[f"{c} {o.name}" for c, o in NUMBERS])
def test_no_number_of_a_command_is_taken_that_it_can_do_nothing_with(command: str, option: Option) -> None:
    wrong = ["-1"] if not option.name.endswith("context") else []  # a taste for what is common is a taste, too
    if float in {option.hint, *typing.get_args(option.hint)}:
        wrong += [".nan", ".inf", "-.inf"]
    for value in wrong:
        with pytest.raises(InputError, match=rf"{option.name.rpartition('.')[2]} is -?[\d.naif]+; give "):
            parsed(command, option.name, value)


def test_a_range_says_what_it_holds() -> None:
    assert [0 in AT_LEAST_0, 0 in POSITIVE, 1 in SHARE, 1.01 in SHARE] == [True, False, True, False]
    assert [-3 in FINITE, math.nan in FINITE] == [True, False]
    with pytest.raises(InputError, match=r"^optimizer.learning_rate is 0; give a number above 0$"):
        OptimizerConfig(learning_rate=0)
    with pytest.raises(InputError, match=r"^optimizer.warmup_share is 5; give a number from 0 to 1$"):
        OptimizerConfig(warmup_share=5)
    with pytest.raises(InputError, match=r"^optimizer.lists_per_step is 0; give a number of at least 1$"):
        OptimizerConfig(lists_per_step=0)


def test_numbers_that_do_not_go_together() -> None:
    with pytest.raises(InputError, match=r"history_min is 9, above history_max \(3\)"):
        MarketplaceConfig(history_min=9, history_max=3)
    with pytest.raises(InputError, match=r"shape.hidden is 100, .* give a multiple of 8"):
        ShapeConfig(hidden=100, heads=4)
    with pytest.raises(InputError, match="texts is 4, and one step reads 8"):
        PretrainConfig(out=None, texts=4)  # type: ignore[arg-type]
