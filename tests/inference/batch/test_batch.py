"""`reshelf batch`: scores equal to `Reranker`'s, jobs that are refused before they begin, and jobs run again."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reshelf.data.dataset_folder import ITEM_SCHEMA, LIST_SCHEMA, to_row, write_records
from reshelf.data.schema import Item, RankingList
from reshelf.errors import InputError
from reshelf.inference.batch.output import SCORES_SCHEMA, lock_folder, write_shard
from reshelf.inference.batch.rows import Reject
from reshelf.inference.batch.run import BatchConfig, make_job
from reshelf.inference.ranking import rank
from reshelf.inference.rules import Rules
from tests.inference.batch.files import rejects_of, scores_of, write


def listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


class TestScores:
    def test_equal_those_of_the_reranker_in_input_order(
        self, run: Any, tmp_path: Path, lists: list[RankingList], expected: dict[str, np.ndarray]
    ) -> None:
        path = write(tmp_path / "in.parquet", [to_row(one) for one in lists])
        report, _ = run(path, shard_lists=4)
        rows = scores_of(tmp_path / "out")
        assert [(row["file"], row["row"]) for row in rows] == [("in.parquet", n) for n in range(len(lists))]
        for row, one in zip(rows, lists, strict=True):
            assert row["list_id"] == one.list_id
            assert row["user_id"] == one.user_id
            assert tuple(row["candidates"]) == one.candidates
            scores = np.array(row["scores"], dtype=np.float32)
            np.testing.assert_allclose(scores, expected[one.list_id], atol=1e-5)
            assert row["ranked"] == [one.candidates[k] for k in np.argsort(-scores, kind="stable")]
        assert any(row["truncated_events"] for row in rows)
        assert any(row["truncated_item_tokens"] for row in rows)
        assert report["lists"] == len(lists)
        assert report["rejected"] == 0
        assert pq.read_schema(tmp_path / "out" / "scores-00000.parquet").field("scores").type == pa.list_(pa.float32())
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
            *("manifest.json", "report.json", "scores-00000.parquet", "scores-00001.parquet")
        ]

    def test_an_order_is_blended_and_arranged(
        self, run: Any, tmp_path: Path, catalogue: dict[str, Item], lists: list[RankingList],
        expected: dict[str, np.ndarray],
    ) -> None:  # fmt: skip
        asked = {"never": [{"brand": ["Nord"]}], "limits": [{"per": "attributes.x", "at_most": 1}]}
        (tmp_path / "rules.json").write_text(json.dumps(asked))
        rows = [to_row(one) for one in lists] + [to_row(lists[0].model_copy(update={"list_id": "n", "scores": None}))]
        path = write(tmp_path / "in.parquet", rows)
        for weight in (0.0, 0.4):
            run(path, tmp_path / f"out{weight}", personalization=weight, rules=tmp_path / "rules.json")
            *found, without_scores = scores_of(tmp_path / f"out{weight}")
            for row, one in zip(found, lists, strict=True):
                items = [catalogue[k] for k in one.candidates]
                ranked = rank(expected[one.list_id], None, weight, Rules.model_validate(asked), items)
                assert row["ranked"] == [one.candidates[k] for k in ranked.order]
                assert len(row["scores"]) == len(one.candidates)
            assert without_scores["fallback"] == "features_missing"
            assert without_scores["ranked"] == [k for k in lists[0].candidates if catalogue[k].brand is None]
        with pytest.raises(InputError, match="another"):
            run(path, tmp_path / "out0.0", personalization=0.5, rules=tmp_path / "rules.json")
        (tmp_path / "rules.json").write_text("{}")
        run(path, tmp_path / "none", rules=tmp_path / "rules.json")
        assert [one["list_id"] for one in scores_of(tmp_path / "none")] == [*expected, "n"]
        (tmp_path / "rules.json").write_text('{"pins": 3}')
        for wrong, said in ({"personalization": 7}, "personalization"), ({"rules": tmp_path / "rules.json"}, "pins"):
            with pytest.raises(InputError, match=said):
                run(path, tmp_path / "other", **wrong)

    @pytest.mark.parametrize("given", ["one file", "folder", "pattern", "data set folder"])
    def test_every_way_to_name_the_input(
        self, given: str, run: Any, items: Path, tmp_path: Path, lists: list[RankingList]
    ) -> None:
        rows = [to_row(one) for one in lists]
        folder = tmp_path / "lists"
        write(folder / "b.parquet", rows[4:])
        options: dict[str, Any] = {}
        if given == "pattern":
            write(folder / "a" / "x.parquet", rows[:4], row_group_size=1)
            names, what = ["a/x.parquet"] * 4 + ["b.parquet"] * 2, f"{folder}/**/*.parquet"
        else:
            write(folder / "a.parquet", rows[:4], row_group_size=1)
            (folder / "_SUCCESS").touch()
            write(folder / "_temporary.parquet", rows)
            names, what = ["a.parquet"] * 4 + ["b.parquet"] * 2, str(folder)
        if given == "one file":
            names, what = ["b.parquet"] * 2, str(folder / "b.parquet")
        if given == "data set folder":
            shutil.copy(items, folder / "items.parquet")
            options["catalogue"] = folder
        run(what, shard_lists=5, **options)
        got = scores_of(tmp_path / "out")
        assert [row["file"] for row in got] == names
        assert [row["list_id"] for row in got] == [one.list_id for one in lists][-len(names) :]

    def test_other_arrow_types_of_the_same_values(
        self, run: Any, tmp_path: Path, lists: list[RankingList], expected: dict[str, np.ndarray]
    ) -> None:
        """As polars, Spark or pandas would write them: large strings, dictionaries, float32, nanoseconds, structs."""
        table = pa.Table.from_pylist([to_row(one) for one in lists], schema=LIST_SCHEMA)
        event = pa.struct([("item_id", pa.large_string()), ("query", pa.string()), ("time", pa.timestamp("ns")),
                           ("kind", pa.string())])  # fmt: skip
        columns = {
            "user_id": table["user_id"].dictionary_encode(),
            "list_id": table["list_id"].cast(pa.large_string()),
            "candidates": table["candidates"].cast(pa.large_list(pa.large_string())),
            "time": table["time"].cast(pa.timestamp("ns")),
            "query": table["query"],
            "context": pa.array([{name: one.context.get(name) for name in ("device", "instruction")} for one in lists]),
            "history": pa.array([[{k: v for k, v in e.items() if k != "value"} for e in h]
                                 for h in table["history"].to_pylist()], pa.list_(event)),
            "scores": table["scores"].cast(pa.list_(pa.float32())),
            "features": pa.array([[("x", [1.0] * len(one.candidates))] for one in lists],
                                 pa.map_(pa.string(), pa.list_(pa.float64()))),
            "labels": pa.nulls(len(lists)),
        }  # fmt: skip
        pq.write_table(pa.table(columns), tmp_path / "in.parquet")
        report, _ = run(tmp_path / "in.parquet")
        assert report["rejected_by_field"] == {}
        for row in scores_of(tmp_path / "out"):
            np.testing.assert_allclose(row["scores"], expected[row["list_id"]], atol=1e-5)

    def test_a_file_of_item_tokens_changes_nothing_but_is_there_for_the_next_job(
        self, run: Any, tmp_path: Path, lists: list[RankingList]
    ) -> None:
        path = write(tmp_path / "in.parquet", [to_row(one) for one in lists])
        tokens = tmp_path / "tokens" / "items.arrow"
        run(path, tmp_path / "without")
        run(path, tmp_path / "first", item_tokens=tokens)
        made = tokens.stat().st_mtime_ns
        run(path, tmp_path / "second", item_tokens=tokens)
        assert tokens.stat().st_mtime_ns == made
        assert scores_of(tmp_path / "first") == scores_of(tmp_path / "second") == scores_of(tmp_path / "without")

    def test_equal_list_ids_are_different_rows(self, run: Any, tmp_path: Path, lists: list[RankingList]) -> None:
        path = write(tmp_path / "in.parquet", [to_row(lists[0])] * 3)
        run(path, shard_lists=2)
        assert [row["row"] for row in scores_of(tmp_path / "out")] == [0, 1, 2]


class TestRefused:
    """Before any work, with one sentence, and with nothing changed in the output folder."""

    @pytest.fixture
    def path(self, tmp_path: Path, lists: list[RankingList]) -> Path:
        return write(tmp_path / "lists" / "in.parquet", [to_row(one) for one in lists])

    @pytest.fixture
    def refused(self, run: Any, tmp_path: Path) -> Any:
        def call(message: str, *args: Any, **options: Any) -> None:
            before = listing(tmp_path / "out")
            with pytest.raises(InputError, match=message) as caught:
                run(*args, **options)
            assert "\n" not in str(caught.value)
            assert listing(tmp_path / "out") == before

        return call

    @pytest.mark.parametrize(
        ("drop", "add", "message"),
        [
            ("user_id", {}, "column 'user_id' is missing"),
            (None, {"clicks": pa.array([1])}, "unknown column 'clicks'"),
            ("list_id", {"list_id": pa.array([7])}, "column 'list_id' is int64, expected string"),
            ("candidates", {"candidates": pa.array(["p1,p2"])}, "column 'candidates' is string, expected list"),
            ("scores", {"scores": pa.array([["1.0"]])}, "column 'scores' is list<element: string>"),
            ("time", {"time": pa.array(["2026-01-01"])}, "column 'time' is string, expected timestamp"),
            ("labels", {"labels": pa.array([[1.0]])}, "column 'labels' is list<element: double>"),
            ("history", {"history": pa.array([[{"kind": "click", "sku": "p1"}]])}, "column 'history' is list<element"),
            ("features", {"features": pa.array([[1.0]])}, "column 'features' is list<element: double>"),
        ],
    )  # fmt: skip
    def test_columns(
        self, drop: str | None, add: dict[str, Any], message: str, refused: Any, path: Path, tmp_path: Path
    ) -> None:
        """Even where only the last file of many has them."""
        table = pq.read_table(path).slice(0, 1)
        table = table.drop_columns([drop]) if drop else table
        for name, values in add.items():
            table = table.append_column(name, values)
        pq.write_table(table, path.parent / "z.parquet")
        refused(f"z.parquet: {message}", path.parent)

    def test_input_that_is_none(self, refused: Any, tmp_path: Path, path: Path) -> None:
        refused("no Parquet files", tmp_path / "nowhere.parquet")
        (tmp_path / "empty" / "inside").mkdir(parents=True)
        refused("no Parquet files; for folders inside it give a pattern", tmp_path / "empty")
        refused("no Parquet files", f"{tmp_path}/empty/*.parquet")
        refused("has no rows", write(tmp_path / "none.parquet", []))
        (tmp_path / "text.parquet").write_text("list_id,user_id\n")
        refused("text.parquet cannot be read as Parquet", tmp_path / "text.parquet")
        (tmp_path / "cut.parquet").write_bytes(path.read_bytes()[:-100])
        refused("cut.parquet cannot be read as Parquet", tmp_path / "cut.parquet")

    def test_options(self, refused: Any, tmp_path: Path, path: Path, reranker_folder: Path) -> None:
        refused("shard_lists is 0", path, shard_lists=0)
        refused("workers is for ray", path, workers=2)
        refused("catalogue: .* is not there", path, catalogue=tmp_path / "items.parquet")
        refused("is not a reranker folder", path, model=str(tmp_path))
        refused("is not there", path, model=str(tmp_path / "model"))

    def test_ray_that_is_not_installed(
        self, run: Any, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(InputError, match=r"pip install reshelf\[ray\]"):
            run(path, ray=True)
        assert scores_of(tmp_path / "out") == []

    def test_a_catalogue_with_an_id_twice(
        self, run: Any, path: Path, tmp_path: Path, catalogue: dict[str, Item]
    ) -> None:
        """It is found out while loading; after its repair the same job begins."""
        items = tmp_path / "items.parquet"
        write_records(items, [*catalogue.values(), catalogue["p3"]], ITEM_SCHEMA)
        with pytest.raises(InputError, match="row 60, field item_id: 'p3' is there twice"):
            run(path, catalogue=items)
        write_records(items, catalogue.values(), ITEM_SCHEMA)
        assert run(path, catalogue=items)[0]["rejected"] == 0

    def test_a_folder_that_cannot_be_written(self, refused: Any, path: Path, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        refused("cannot write", path, tmp_path / "file" / "out")
        refused("cannot write", path, tmp_path / "file")
        refused("cannot write", path, Path("/proc/out"))

    def test_a_folder_with_other_things_in_it(self, refused: Any, path: Path, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "notes.txt").write_text("mine")
        refused("holds notes.txt, which is no batch job's", path)

    def test_a_folder_in_use(self, refused: Any, path: Path, tmp_path: Path) -> None:
        with lock_folder(tmp_path / "out"):
            refused("another batch job is writing there", path)

    @pytest.fixture
    def done(self, run: Any, path: Path) -> Iterator[None]:
        run(path, shard_lists=4)
        return

    @pytest.mark.usefixtures("done")
    def test_another_job_in_the_same_folder(
        self, refused: Any, path: Path, tmp_path: Path, lists: list[RankingList], reranker_folder: Path,
        catalogue: dict[str, Item],
    ) -> None:  # fmt: skip
        refused("another job: shard_lists was 4 and is 5", path, shard_lists=5)
        shutil.copytree(reranker_folder, tmp_path / "model")
        with (tmp_path / "model" / "adapter" / "adapter_model.safetensors").open("r+b") as weights:
            weights.seek(-1, os.SEEK_END)
            weights.write(b"\x01")
        refused("another job: the model has changed", path, model=str(tmp_path / "model"), shard_lists=4)
        write_records(tmp_path / "items.parquet", catalogue.values(), ITEM_SCHEMA)
        refused("another job: the catalogue has changed", path, catalogue=tmp_path / "items.parquet", shard_lists=4)
        write(path.parent / "more.parquet", [to_row(lists[0])])
        refused("another job: the input file more.parquet is new", path.parent, shard_lists=4)
        rows = [to_row(one) for one in lists]
        write(path, [rows[0] | {"query": "red wool coat"}, *rows[1:]])
        refused("another job: the input file in.parquet has changed", path, shard_lists=4)
        (tmp_path / "out" / "manifest.json").write_text("{")
        refused("manifest.json cannot be read", path, shard_lists=4)
        (tmp_path / "out" / "manifest.json").unlink()
        refused("holds scores but no manifest.json", path, shard_lists=4)


class TestAgain:
    def test_on_another_machine_a_job_goes_on_in_the_numbers_it_was_begun_in(
        self, run: Any, tmp_path: Path, lists: list[RankingList], reranker_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where one machine's CPU multiplies bfloat16 fast and the other's does not, `auto` means two things."""
        model = tmp_path / "model"
        shutil.copytree(reranker_folder, model)
        spec = json.loads((model / "reshelf.json").read_text())
        spec["model"]["dtype"] = "bfloat16"
        (model / "reshelf.json").write_text(json.dumps(spec))
        path = write(tmp_path / "in.parquet", [to_row(one) for one in lists])
        monkeypatch.setattr("reshelf.modeling.precision.bfloat16_instructions", lambda: "")
        run(path, model=str(model), shard_lists=2)
        shard = tmp_path / "out" / "scores-00001.parquet"
        before = shard.read_bytes()
        shard.unlink()
        monkeypatch.setattr("reshelf.modeling.precision.bfloat16_instructions", lambda: "amx")
        with pytest.raises(InputError, match="precision was float32 and is bfloat16; give --precision float32, or"):
            run(path, model=str(model), shard_lists=2)
        run(path, model=str(model), shard_lists=2, precision="float32")
        assert shard.read_bytes() == before

    def test_a_shard_without_rejects_takes_an_earlier_attempt_s_away(self, tmp_path: Path) -> None:
        empty: dict[str, list[Any]] = {name: [] for name in SCORES_SCHEMA.names}
        write_shard(tmp_path, 3, empty, [Reject("in.parquet", 0, "l0", "score", "not a number")])
        assert len(rejects_of(tmp_path)) == 1
        write_shard(tmp_path, 3, empty, [])
        assert list(listing(tmp_path)) == ["scores-00003.parquet"]

    def test_the_progress_adds_up_to_the_rows(
        self, tmp_path: Path, reranker_folder: Path, items: Path, lists: list[RankingList]
    ) -> None:
        """Rows that fall out while reading and while building prompts, too."""
        rows = [to_row(one) for one in lists]
        bad = [
            rows[0] | {"list_id": None},
            rows[1] | {"candidates": [f"unknown{n}" for n in range(len(rows[1]["candidates"]))]},
        ]
        path = write(tmp_path / "in.parquet", [bad[0], *rows[:3], bad[1], *rows[3:], bad[1]])
        job = make_job(BatchConfig(str(reranker_folder), str(path), items, tmp_path, "transformers", shard_lists=5))
        with job.scorer() as scorer:
            found = list(scorer.run(range(2)))
        assert sum(handled for _, handled in found) == 9
        assert [(tally.lists, tally.rows) for tally, _ in found if tally] == [(3, 5), (3, 4)]

    def test_a_finished_job_has_nothing_to_do(
        self, run: Any, tmp_path: Path, lists: list[RankingList], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write(tmp_path / "in.parquet", [to_row(one) for one in lists])
        first, _ = run(path)
        before = {name: text for name, text in listing(tmp_path / "out").items() if name != "report.json"}
        monkeypatch.delattr("reshelf.inference.batch.run.ShardScorer")  # whoever loads the model fails
        again, said = run(path)
        assert "Nothing to do" in said
        assert before.items() <= listing(tmp_path / "out").items()
        assert again["lists"] == first["lists"]

    def test_a_broken_shard_is_done_again_and_left_overs_go(
        self, run: Any, tmp_path: Path, lists: list[RankingList]
    ) -> None:
        rows = [to_row(one) for one in lists]
        path = write(tmp_path / "in.parquet", [*rows, rows[0] | {"list_id": None}])
        first, _ = run(path, shard_lists=2)
        out = tmp_path / "out"
        before = {name: text for name, text in listing(out).items() if name != "report.json"}
        whole = (out / "scores-00001.parquet").read_bytes()
        (out / "scores-00001.parquet").write_bytes(whole[:-9])
        (out / "scores-00003.parquet").unlink()  # as if killed after its rejects were written
        (out / ".scores-00002.parquet.partial").write_bytes(whole[:99])
        again, said = run(path, shard_lists=2)
        assert "4 of 7 lists were done before" in said
        assert {name: text for name, text in listing(out).items() if name != "report.json"} == before
        assert again["rows_of_this_run"] == 3
        assert {k: again[k] for k in ("lists", "rejected", "rejected_by_field")} == {
            k: first[k] for k in ("lists", "rejected", "rejected_by_field")
        }
