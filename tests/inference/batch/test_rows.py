"""Bad rows of a batch job: each one goes to the side file with its reason, and the others are scored."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file

from reshelf.cli import main
from reshelf.data.dataset_folder import LIST_SCHEMA, to_row
from reshelf.data.hashes import folder_sha256
from reshelf.data.schema import RankingList
from tests.inference.batch.files import rejects_of, scores_of, write

BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "no list id": ({"list_id": None}, "list_id", "field list_id: is missing"),
    "empty list id": ({"list_id": ""}, "list_id", "field list_id: String should have at least 1 character"),
    "no user id": ({"user_id": None}, "user_id", "is missing"),
    "no candidates": ({"candidates": None}, "candidates", "is missing"),
    "empty candidates": ({"candidates": []}, "candidates", "is empty; give at least one"),
    "a candidate twice": (
        {"candidates": ["p1", "p1"], "scores": [1.0, 0.5]}, "candidates", "'p1' is there twice",
    ),
    "a null candidate": ({"candidates": ["p1", None]}, "candidates", "field candidates.1"),
    "an unknown candidate": (
        {"candidates": ["p1", "ghost"], "scores": [1.0, 0.5]}, "candidates", "'ghost' is not in the catalogue",
    ),
    "an unknown history item": (
        {"history": [{"kind": "click", "item_id": "ghost"}]}, "history", "'ghost' is not in the catalogue",
    ),
    "a NaN score": ({"scores": [float("nan"), 1.0]}, "scores", "field scores.0: value is NaN or infinite"),
    "too few scores": ({"scores": [1.0]}, "scores", "1 values for 2 candidates"),
    "a label out of range": ({"labels": [0, 9]}, "labels", "less than or equal to 3"),
    "a position of 0": ({"positions": [0, 1]}, "positions", "greater than or equal to 1"),
    "a feature of another length": ({"features": [{"name": "x", "values": [1.0]}]}, "features", "x: 1 values for 2"),
    "a feature without name": ({"features": [{"name": None, "values": [1.0, 2.0]}]}, "features", "features"),
    "a context without name": ({"context": [{"name": None, "value": "mobile"}]}, "context", "field context"),
    "an event of no kind": ({"history": [{"kind": "stare", "item_id": "p1"}]}, "history", "field history.0.kind"),
    "a click on nothing": ({"history": [{"kind": "click"}]}, "history", "a search event needs a query"),
}  # fmt: skip


class TestBadRows:
    @pytest.fixture
    def good(self, lists: list[RankingList]) -> dict[str, Any]:
        return to_row(lists[0].only([0, 1])) | {"labels": None}

    def test_each_goes_to_the_side_file_with_its_reason(self, run: Any, tmp_path: Path, good: dict[str, Any]) -> None:
        late = good | {"history": [{"kind": "search", "query": "x", "time": good["time"] + timedelta(hours=1)}]}
        bad = {"history after the list": (late, "history", "is not before the list's time")}
        bad |= {name: (good | changes, field, reason) for name, (changes, field, reason) in BAD.items()}
        rows = [row for values, _, _ in bad.values() for row in (good, values)]
        report, said = run(write(tmp_path / "in.parquet", rows), shard_lists=7)
        assert [row["row"] for row in scores_of(tmp_path / "out")] == list(range(0, len(rows), 2))
        rejects = rejects_of(tmp_path / "out")
        assert [one["row"] for one in rejects] == list(range(1, len(rows), 2))
        for one, (name, (values, field, reason)) in zip(rejects, bad.items(), strict=True):
            assert one["file"] == "in.parquet"
            assert one["list_id"] == values["list_id"], name
            assert one["field"] == field, name
            assert reason in one["reason"], name
            assert "\n" not in one["reason"], name
        assert report["lists"] == report["rejected"] == len(bad)
        assert sum(found["rows"] for found in report["rejected_by_field"].values()) == len(bad)
        assert f"{len(bad)} rows rejected" in said
        assert "in.parquet row 5, field list_id: String should have at least 1 character" not in said  # not the first
        assert "in.parquet row 3, field list_id: is missing" in said

    def test_lists_without_a_number_that_the_model_reads_fall_back_and_are_counted(
        self, run: Any, tmp_path: Path, good: dict[str, Any]
    ) -> None:
        path = write(tmp_path / "in.parquet", [good, good | {"scores": None}, good | {"scores": [1.0, None]}])
        report, said = run(path)
        scored, fallen, null = scores_of(tmp_path / "out")
        assert (scored["fallback"], fallen["fallback"], null["fallback"]) == (None, *["features_missing"] * 2)
        assert (scored["missing"], fallen["missing"], null["missing"]) == ([], ["scores"], ["scores"])
        assert len(scored["scores"]) == 2
        assert fallen["scores"] is None
        assert fallen["ranked"] == list(good["candidates"])
        assert (report["lists"], report["fallbacks"], report["rejected"]) == (3, 2, 0)
        assert "2 of them are in first-stage order" in said
        report, _ = run(path, tmp_path / "imputed", impute=True)
        assert report["fallbacks"] == 0
        assert all(row["scores"] is not None for row in scores_of(tmp_path / "imputed"))

    def test_values_that_python_cannot_hold(self, run: Any, tmp_path: Path, good: dict[str, Any]) -> None:
        table = pa.Table.from_pylist([good] * 4, schema=LIST_SCHEMA)
        words = pa.StringArray.from_buffers(
            4, pa.array([0, 1, 3, 4, 5], pa.int32()).buffers()[1], pa.py_buffer(b"a\xff\xfebc")
        )
        moments = pa.array([2**53, None, 2**60, None], pa.int64()).cast(pa.timestamp("us", "UTC"))
        table = table.set_column(3, "query", words).set_column(2, "time", moments).drop_columns(["history"])
        pq.write_table(table, tmp_path / "in.parquet")
        run(tmp_path / "in.parquet")
        assert [(one["row"], one["field"]) for one in rejects_of(tmp_path / "out")] == [(1, "row"), (2, "row")]
        assert "not UTF-8" in rejects_of(tmp_path / "out")[0]["reason"]
        assert [row["row"] for row in scores_of(tmp_path / "out")] == [0, 3]

    def test_scores_that_are_no_numbers(
        self, run: Any, tmp_path: Path, lists: list[RankingList], reranker_folder: Path
    ) -> None:
        """A model whose numbers overflow gives rejects, not NaN in the output."""
        shutil.copytree(reranker_folder, tmp_path / "model")
        weights = tmp_path / "model" / "adapter" / "adapter_model.safetensors"
        tensors = load_file(weights)
        for tensor in tensors.values():
            tensor.fill_(3e38)
        save_file(tensors, weights)
        run(write(tmp_path / "in.parquet", [to_row(one) for one in lists]), model=str(tmp_path / "model"))
        assert scores_of(tmp_path / "out") == []
        found = [(one["row"], one["field"], one["reason"]) for one in rejects_of(tmp_path / "out")]
        assert found == [(n, "score", "the model gave a score that is not a number") for n in range(len(lists))]

    @pytest.mark.vllm
    @pytest.mark.slow
    def test_lists_too_long_for_vllm(
        self, run: Any, tmp_path: Path, lists: list[RankingList], reranker_folder: Path,
        expected: dict[str, np.ndarray],
    ) -> None:  # fmt: skip
        """The others of the same call are scored."""
        shutil.copytree(reranker_folder, tmp_path / "model")
        config = tmp_path / "model" / "base" / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"max_position_embeddings": 128}))
        spec = tmp_path / "model" / "reshelf.json"
        sha256 = folder_sha256(tmp_path / "model" / "base")
        spec.write_text(json.dumps(json.loads(spec.read_text()) | {"base_sha256": sha256}))
        path = write(tmp_path / "in.parquet", [to_row(one) for one in lists])
        run(path, model=str(tmp_path / "model"), engine="vllm")
        rows, rejects = scores_of(tmp_path / "out"), rejects_of(tmp_path / "out")
        assert rows
        assert rejects
        assert sorted(one["row"] for one in (*rows, *rejects)) == list(range(len(lists)))
        assert {one["field"] for one in rejects} == {"prompt"}
        assert all("tokens, and vLLM holds 128" in one["reason"] for one in rejects)
        for row in rows:
            np.testing.assert_allclose(row["scores"], expected[row["list_id"]], atol=1e-3)

    def test_all_rows_bad_is_a_finished_job(self, run: Any, tmp_path: Path, good: dict[str, Any]) -> None:
        path = write(tmp_path / "in.parquet", [good | {"list_id": None}] * 3)
        assert run(path)[0] == run(path)[0] | {"rows_of_this_run": 3, "seconds_of_this_run": pytest.approx(0, abs=60)}
        assert scores_of(tmp_path / "out") == []

    def test_the_command_ends_with_0(
        self, tmp_path: Path, good: dict[str, Any], reranker_folder: Path, items: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        path = write(tmp_path / "in.parquet", [good, good | {"user_id": None}])
        words = ["--model", str(reranker_folder), "--lists", str(path), "--catalogue", str(items)]
        assert main(["batch", *words, "--out", str(tmp_path / "out"), "--engine", "transformers"]) == 0
        assert "1 rows rejected" in capsys.readouterr().out
