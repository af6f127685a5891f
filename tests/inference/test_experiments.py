"""Arms: shares as asked for, the same for the same shopper, and splits that know nothing of one another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import chi2_contingency, chisquare

from reshelf.errors import InputError
from reshelf.inference.experiments import Arm, Experiment, read_experiment

SHOPPERS = [f"u{n}" for n in range(4000)]


def test_shoppers_are_split_by_shares_and_anew_for_another_experiment() -> None:
    arms = [Arm(name="a"), Arm(name="b", share=3.0)]
    splits = [[Experiment(name=name, arms=arms).arm_of(one).name for one in SHOPPERS] for name in ("x", "y")]
    for split in splits:
        assert chisquare([split.count("a"), split.count("b")], [1000, 3000]).pvalue > 0.001
    both = [[sum(pair == (i, j) for pair in zip(*splits, strict=True)) for i in "ab"] for j in "ab"]
    assert chi2_contingency(np.array(both)).pvalue > 0.001
    # Written down, for a shopper's arm may not change with a release.
    assert "".join(splits[0][:16]) == "bbaabbbaabbbbbbb"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{name: x, arms: [{name: a}]}", "two arms or more"), ("{name: x}", "two arms or more"),
        ("{name: x, arms: [{name: a}, {name: a}]}", "one name"), ("{name: a b, shadow: m}", "name"),
        ("{name: x, arms: [{name: a}, {name: b}, {name: c}], interleave: true}", "3 arms"),
        ("{name: x, arms: [{name: a, share: 2}, {name: b}], interleave: true}", "shares"),
        ("{name: x, arms: [{name: a, personalization: 2}, {name: b}]}", "personalization"),
        ("{name: x, arms: [{name: a, modle: m}, {name: b}]}", "modle"), ("{", "YAML"), ("", "dictionary"),
    ],
)  # fmt: skip
def test_what_is_no_experiment_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=said):
        read_experiment(file)
    with pytest.raises(InputError, match="cannot read"):
        read_experiment(tmp_path / "none.yaml")


def test_a_shadow_alone_is_an_experiment() -> None:
    assert Experiment(name="x", shadow="runs/new/model").models == {"runs/new/model"}
    with pytest.raises(ValidationError):
        Experiment(name="x", arms=[Arm(name="a", share=0), Arm(name="b")])
