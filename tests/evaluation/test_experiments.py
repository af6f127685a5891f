"""Experiments on the simulated shop: the better order wins with as many shoppers as are computed, equal ones do not."""

from __future__ import annotations

import csv
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import t

from benchmarks.experiments import CANDIDATES, SimulatedLists, arms_of, net_votes
from reshelf.cli import main
from reshelf.data.schema import Item
from reshelf.errors import InputError
from reshelf.evaluation.experiments.arms import compare_arms
from reshelf.evaluation.experiments.outcomes import read_outcomes
from reshelf.evaluation.experiments.preference import preference, votes_needed
from reshelf.evaluation.experiments.report import experiment_report
from reshelf.inference.serving.metrics import Metrics
from reshelf.inference.serving.served_lists import ServedList, ServedListLog
from reshelf.metrics.bootstrap import resample
from tests.evaluation.test_chinese_report import english

K = CANDIDATES


@pytest.fixture(scope="module")
def shop() -> SimulatedLists:
    return SimulatedLists.simulated()


def test_interleaving_finds_the_better_order_and_nothing_between_equal_ones(shop: SimulatedLists) -> None:
    same = shop.same
    ps = [preference(net_votes(shop, same, 60, seed), 0.1).p for seed in range(200)]
    assert sum(p < 0.05 for p in ps) <= 16
    pilot = preference(net_votes(shop, shop.better, 60, 0), effect=0.15)
    assert pilot.voters_needed == votes_needed(0.15) < 150
    assert pilot.shoppers_needed is not None
    for seed in range(1, 6):
        found = preference(net_votes(shop, shop.better, pilot.shoppers_needed, seed), 0.15)
        assert found.p < 0.05
        assert found.share.low > 0.5


def test_arms_differ_where_orders_do_and_not_where_they_are_equal(shop: SimulatedLists) -> None:
    same = shop.same
    found = [compare_arms(*arms_of(shop, (same, same), 300, seed), 0, 0.2).differences[0] for seed in range(200)]
    assert sum(one.p < 0.05 for one in found) <= 16
    covered = [one.absolute.low < 0 < one.absolute.high for one in found]
    assert covered == [one.p > 0.05 for one in found]
    pilot = compare_arms(*arms_of(shop, (same, shop.better), 300, 0), 0, effect=0.1)
    assert pilot.shoppers_per_arm is not None
    for seed in range(1, 6):
        better = compare_arms(*arms_of(shop, (same, shop.better), 2 * pilot.shoppers_per_arm, seed), 0, 0.1)
        assert better.differences[0].p < 0.05
        assert better.differences[0].relative.low > 0
        assert better.rates[1].rate.low > better.rates[0].rate.mean


def test_shoppers_and_not_lists_are_resampled() -> None:
    """Errors against a bootstrap of shoppers who have one to eight lists each, alike in what comes of them."""
    rng = np.random.default_rng(0)
    lists, arms = rng.integers(1, 9, 800), np.repeat([0, 1], 400)
    successes = rng.binomial(lists, rng.beta(1, 3, 800))
    found = compare_arms(successes, lists, arms, control=0, effect=0.1)
    rates = []
    for arm in (0, 1):
        draws = resample(400, 4000, seed=arm).astype(float)
        rates.append((draws @ successes[arms == arm]) / (draws @ lists[arms == arm]))
        assert found.rates[arm].variance ** 0.5 == pytest.approx(rates[arm].std(), rel=0.06)
    low, high = (np.log1p(bound) for bound in found.differences[0].relative[1:])
    assert (high - low) / 2 / t.isf(0.025, 399) == pytest.approx(np.log(rates[1] / rates[0]).std(), rel=0.06)


def test_an_effect_as_large_as_asked_for_is_found_nine_times_in_ten() -> None:
    rng = np.random.default_rng(0)
    lists, arms = np.ones(20_000, dtype=int), np.repeat([0, 1], 10_000)
    needed = compare_arms((rng.random(20_000) < 0.3).astype(int), lists, arms, 0, 0.2).shoppers_per_arm
    assert needed is not None
    hits = 0
    for _ in range(200):
        success = rng.random(2 * needed) < np.repeat([0.3, 0.36], needed)
        lists, arms = np.ones(2 * needed, dtype=int), np.repeat([0, 1], needed)
        hits += compare_arms(success.astype(int), lists, arms, 0, 0.2).differences[0].p < 0.05
    assert 0.83 < hits / 200 < 0.96
    votes = votes_needed(0.1)
    ps = [preference(np.where(rng.random(votes) < 0.6, 1, -1), 0.1).p for _ in range(200)]
    assert 0.83 < np.mean(np.array(ps) < 0.05) < 0.96


class TestReport:
    """From a log as the server writes it and a file of events."""

    ITEMS = tuple(Item(item_id=f"p{n}", title="Mug") for n in range(4))

    def served(
        self, list_id: str, user_id: str, arm: str | None, control: str = "a", language: str = "en"
    ) -> ServedList:  # fmt: skip
        """Of no arm: interleaved."""
        return ServedList(
            list_id, "shop", user_id, "mug", self.ITEMS, [0, 1, 2, 3], np.array([1, 0, 2, 3]), "m", "s", language, 1.0,
            experiment="x", control=control, arm=arm, arm_share=None if arm is None else 0.5,
            teams={1: "b", 0: "a", 2: "a", 3: "b"} if arm is None else None,
        )  # fmt: skip

    def write(self, folder: Path, interleaved: bool, control: str = "a", language: str = "en") -> list[dict[str, Any]]:
        """200 shoppers with two lists each, of whom every third one in b, and every sixth one in a, clicks in the first
        list; interleaved, every third one on b's pick. Returns the events."""
        log = ServedListLog(folder, Metrics(), None, 1e9)
        events = []
        for n in range(400):
            shopper = n // 2
            arm = "ab"[shopper % 2]
            log.put(self.served(f"l{n}", f"u{shopper}", None if interleaved else arm, control, language))
            if n % 2 == 0 and shopper % 3 == 0 and (interleaved or arm == "b" or shopper % 4 == 0):
                events.append({"list_id": f"l{n}", "user_id": f"u{shopper}", "item_id": "p1", "kind": "Click"})
        log.close()
        return events

    def report(self, folder: Path, events: list[dict[str, Any]], *flags: str) -> dict[str, Any]:
        with (folder / "events.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(events[0]))
            writer.writeheader()
            writer.writerows(events)
        words = ["experiment", "report", "--served", str(folder / "served"), "--events", str(folder / "events.csv")]
        assert main([*words, "--out", str(folder / "report.json"), *flags]) == 0
        found: dict[str, Any] = json.loads((folder / "report.json").read_text())
        return found

    def test_arms(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        events = self.write(tmp_path / "served", interleaved=False)
        noise = [{"list_id": "l1", "user_id": "u0", "item_id": "p9", "kind": "click"},
                 {"list_id": "l1", "user_id": "u0", "item_id": "p1", "kind": "view"},
                 {"list_id": "none", "user_id": "u0", "item_id": "p1", "kind": "click"}, events[0]]  # fmt: skip
        found = self.report(tmp_path, events + noise)
        a, b = found["arms"]
        assert (a["arm"], a["shoppers"], a["lists"], a["rate"]["mean"]) == ("a", 100, 200, 17 / 200)
        assert (b["arm"], b["shoppers"], b["lists"], b["rate"]["mean"]) == ("b", 100, 200, 33 / 200)
        assert b["relative"]["mean"] == pytest.approx(33 / 17 - 1)
        assert 0 < b["p"] < 0.05
        assert (found["events"], found["matched_events"], found["split_p"]) == (len(events) + 3, len(events), 1.0)
        assert found["shoppers_needed"] > 200
        said = f"{len(events)} products of its lists had the outcome; the events tell of {len(events) + 3}"
        assert said in capsys.readouterr().out
        # The same without lists' ids: by shopper, product and time.
        at = datetime.now(UTC) + timedelta(minutes=5)
        timed = [one | {"list_id": "", "time": at.isoformat()} for one in events]
        late = [events[0] | {"list_id": "", "time": (at + timedelta(days=2)).isoformat()}]
        again = self.report(tmp_path, timed + late, "--control", "b")
        assert [one["rate"]["mean"] for one in again["arms"]] == [33 / 200, 17 / 200]
        assert again["matched_events"] == len(events)
        assert main(["experiment", "report", "--served", str(tmp_path / "served"), "--events",
                     str(tmp_path / "events.csv"), "--outcome", "purchase"]) == 2  # fmt: skip
        assert "no event of the outcome purchase; `kind` must be" in capsys.readouterr().err

    def test_a_robot_makes_no_difference_sure_and_is_told_of(self, tmp_path: Path) -> None:
        """Half of all lists and clicks, and more: p was below 0.0001."""
        rng = np.random.default_rng(0)
        arms = np.arange(2000) % 2
        lists = rng.integers(1, 4, 2000)
        successes = rng.binomial(lists, 0.1)
        for times in (1, 3, 30):
            lists[0] = successes[0] = times * lists[1:].sum()
            assert compare_arms(successes, lists, arms, 0, 0.05).differences[0].p > 0.2
        events = self.write(tmp_path / "served", interleaved=False)
        said = "one shopper has {} of the lists with the outcome"
        assert not any("one shopper" in note for note in self.report(tmp_path, events)["notes"])
        robot = [{"list_id": f"r{n}", "user_id": "robot", "item_id": "p1", "kind": "click"} for n in range(50)]
        log = ServedListLog(tmp_path / "served", Metrics(), None, 1e9)
        for one in robot:
            log.put(self.served(one["list_id"], one["user_id"], "b"))
        log.close()
        assert self.report(tmp_path, events + robot)["notes"][1].startswith(said.format("50%"))

    def test_an_arm_without_lists_is_missed(self, tmp_path: Path) -> None:
        """Of three arms, as where the third one's model was never ready; it was left out without a word."""
        events = self.write(tmp_path / "served", interleaved=False)
        (log,) = (tmp_path / "served").glob("served-*.parquet")
        rows = pq.read_table(log)
        share = pa.array([1 / 3] * len(rows))
        pq.write_table(rows.set_column(rows.schema.get_field_index("arm_share"), "arm_share", share), log)
        found = self.report(tmp_path, events)
        assert found["split_p"] < 1e-9
        assert any("shoppers are not split as they were to be" in note for note in found["notes"])

    def test_an_interleaved_arm_that_was_renamed_is_said(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """It was a traceback."""
        self.write(tmp_path / "served", interleaved=True)
        (log,) = (tmp_path / "served").glob("served-*.parquet")
        rows = pq.read_table(log)
        teams = [
            ["c" if n % 2 and one == "b" else one for one in row] for n, row in enumerate(rows["teams"].to_pylist())
        ]
        pq.write_table(rows.set_column(rows.schema.get_field_index("teams"), "teams", pa.array(teams)), log)
        (tmp_path / "events.csv").write_text("list_id,item_id,kind\nl0,p1,click\n")
        words = ["experiment", "report", "--served", str(tmp_path / "served"), "--events", str(tmp_path / "events.csv")]
        assert main(words) == 2
        assert "3 arms, a, b, c, as after a renaming" in capsys.readouterr().err

    def test_arms_that_were_renamed_are_named(self, tmp_path: Path) -> None:
        self.write(tmp_path / "served", interleaved=False)
        (log,) = (tmp_path / "served").glob("served-*.parquet")
        rows = pq.read_table(log)
        arm = ["c" if n % 2 and one == "b" else one for n, one in enumerate(rows["arm"].to_pylist())]
        pq.write_table(rows.set_column(rows.schema.get_field_index("arm"), "arm", pa.array(arm)), log)
        (tmp_path / "events.csv").write_text("list_id,item_id,kind\nl0,p1,click\n")
        lists = read_outcomes(tmp_path / "served", tmp_path / "events.csv", "click")
        with pytest.raises(InputError, match="arm b has fewer than two shoppers but the 100 who were in two arms"):
            experiment_report(lists, 0.05)

    def test_a_chinese_shop_reads_no_english(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for interleaved in (True, False):
            folder = tmp_path / str(interleaved)
            folder.mkdir()
            events = self.write(folder / "served", interleaved, language="zh")
            found = self.report(folder, events, "--effect", "0.01")
            assert found["notes"]
            assert english(capsys.readouterr().out + " ".join(found["notes"])) == set()

    def test_interleaved(self, tmp_path: Path) -> None:
        events = self.write(tmp_path / "served", interleaved=True, control="b")
        found = self.report(tmp_path, events, "--effect", "0.1")
        assert (found["arms"], found["wins"], found["shoppers_who_prefer"]) == (["b", "a"], [67, 0], [67, 0])
        assert found["p"] < 1e-6
        assert found["without_outcome"] == 333
        assert found["shoppers_needed"] == int(np.ceil(269 * 200 / 67))

    @pytest.mark.parametrize(
        ("flags", "said"),
        [
            (["--experiment", "y"], "there are x"), (["--control", "c"], "it has a, b"), (["--effect", "0"], "effect"),
            (["--events", "none.csv"], "no such file"), (["--served", "none"], "no served lists"),
        ],
    )  # fmt: skip
    def test_a_mistake_is_one_sentence(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
    ) -> None:
        self.write(tmp_path / "served", interleaved=False)
        (tmp_path / "events.csv").write_text("list_id,item_id,kind\nl0,p1,click\n")
        words = ["experiment", "report", "--served", str(tmp_path / "served"), "--events", str(tmp_path / "events.csv")]
        assert main([*words, *flags]) == 2
        assert said in capsys.readouterr().err
        (tmp_path / "events.csv").write_text("item_id,kind\np1,click\n")
        assert main(words) == 2
        assert "give events a `list_id`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "says"), [(b"", "too small"), (b"PAR1 cut off in the middle", "magic bytes"), (None, "experiment")]
)
def test_a_log_that_is_none_is_refused_with_its_name(tmp_path: Path, content: bytes | None, says: str) -> None:
    """Empty, cut off, or Parquet of something else; it was a traceback."""
    file = tmp_path / "served-1.parquet"
    if content is None:
        pq.write_table(pa.table({"item_id": ["p1"]}), file)
    else:
        file.write_bytes(content)
    events = tmp_path / "events.csv"
    events.write_text("list_id,item_id,kind\nl1,p1,click\n")
    with pytest.raises(InputError, match=f"{re.escape(str(tmp_path))} cannot be read.*{says}.*--served_lists"):
        read_outcomes(tmp_path, events, "click")
