"""An export is a checkpoint that three libraries score with as the reranker does, or it is not there at all."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from reshelf.cli import main
from reshelf.data.atomic import locked_folder
from reshelf.data.dataset_folder import RankingData, save_dataset_folder
from reshelf.data.schema import Item, RankingList
from reshelf.errors import ExportMismatchError, InputError
from reshelf.inference.export import card as card_module
from reshelf.inference.export import run as module
from reshelf.inference.export.card import Check
from reshelf.inference.export.run import ExportConfig, export
from reshelf.inference.export.verify import Agreement, TextList, compare
from reshelf.modeling.spec import read_spec


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory, catalogue: dict[str, Item], lists: list[RankingList]) -> Path:
    folder = tmp_path_factory.mktemp("data")
    save_dataset_folder(folder, RankingData(catalogue, {"train": lists[:1], "test": lists}))
    return folder


def config(reranker_folder: Path, data_folder: Path, out: Path, **changes: Any) -> ExportConfig:
    return ExportConfig(reranker_folder, out, data_folder, **changes)


@pytest.mark.vllm
@pytest.mark.slow
def test_three_libraries_agree(
    reranker_folder: Path, data_folder: Path, lists: list[RankingList], tmp_path: Path, capsys: Any
) -> None:
    from safetensors import safe_open

    out = tmp_path / "deep" / "export"
    export(config(reranker_folder, data_folder, out))
    card = (out / "README.md").read_text()
    for library in ("transformers 5", "sentence-transformers 6", "vllm"):
        (row,) = [line for line in card.splitlines() if line.startswith(f"| {library}")]
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert float(cells[2].split()[0]) < 1e-3
        assert float(cells[3]) > 0.999
    prompts = sum(len(ranking.candidates) for ranking in lists)
    assert f"{len(lists)} lists, {prompts} prompts" in card
    assert "100.00% of the prompts read as exactly the same token ids" in card
    assert "dequantised" in card
    assert "(instruction, history, device where it is known, instruction where it is known, query)" in card
    (shown,) = [line for line in card.splitlines() if line.startswith("prefix = ")]
    assert "mobile" in shown
    assert "deep/.export" not in card
    with safe_open(out / "model.safetensors", "pt") as weights:
        assert "score.weight" in weights.keys()  # noqa: SIM118
    assert [path.name for path in out.parent.iterdir()] == ["export"]


def test_above_tolerance_nothing_is_left(
    reranker_folder: Path, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(module, "LIBRARIES", {name: name for name in ("transformers",)} | missing())
    with pytest.raises(ExportMismatchError, match=r"transformers differs by .* above the tolerance"):
        export(config(reranker_folder, data_folder, tmp_path / "out", dtype="bfloat16"))
    assert list(tmp_path.iterdir()) == []
    flags = {"model": reranker_folder, "out": tmp_path / "out", "data": data_folder, "tolerance": 1e-9}
    assert main(["export", *(word for name, value in flags.items() for word in (f"--{name}", str(value)))]) == 1
    error = capsys.readouterr().err
    assert re.fullmatch(
        r"reshelf: transformers differs by .* above the tolerance .*; nothing was written to .*\n", error
    )


def test_trained_in_bfloat16(
    reranker_folder: Path, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is compared with is computed in float32, as the export is."""
    monkeypatch.setattr(module, "LIBRARIES", {"transformers": "transformers"} | missing())
    model = tmp_path / "model"
    shutil.copytree(reranker_folder, model)
    spec = json.loads((model / "reshelf.json").read_text())
    spec["model"]["dtype"] = "bfloat16"
    (model / "reshelf.json").write_text(json.dumps(spec))
    export(config(model, data_folder, tmp_path / "out", lists=2))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "own engine (computing in float32)" in card
    (row,) = [line for line in card.splitlines() if line.startswith("| transf")]
    assert float(row.split("|")[3].split()[0]) < 1e-3


def test_libraries_that_are_missing_are_named(
    reranker_folder: Path,
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(module, "LIBRARIES", {"transformers": "transformers"} | missing())
    export(config(reranker_folder, data_folder, tmp_path / "out", lists=2))
    card = (tmp_path / "out" / "README.md").read_text()
    edges = read_spec(reranker_folder).levels.edges
    assert json.loads((tmp_path / "out" / "levels.json").read_text()) == edges, "an item's text holds levels of these"
    assert f"| first_stage | {edges['first_stage'][0]:.6g}, " in card
    assert "scoring 2 lists with the reranker …" in capsys.readouterr().out, "a line where there is no terminal"
    assert "| sentence-transformers | not checked: not installed here |" in card
    assert "| vllm | not checked: not installed here |" in card


def test_a_chinese_models_card_is_chinese(
    reranker_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card_module, "_example", lambda trained: ("前缀", "商品"))
    spec = read_spec(reranker_folder)
    trained: Any = SimpleNamespace(spec=replace(spec, prompt=replace(spec.prompt, language="zh")))
    checks = [
        Check("transformers", "5", Agreement(1e-6, 1e-5, 1.0, 1.0)),
        Check("sentence-transformers", "6", Agreement(0, 0, 1, 1)),
        Check("vllm", "", None, "not installed here"),
    ]
    text = TextList("前缀", ("商品",), np.array([True]))
    card_module.write_export_card(tmp_path, "float32", 1e-3, trained, checks, [text])
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "# 个性化重排模型" in card
    prose = re.sub(r"(?s)^---.*?---|```.*?```|`[^`]*`", "", card)
    assert re.findall(r"[A-Za-z]{3,} [a-z]{3,}", prose) == ["Kendall tau"]


def missing() -> dict[str, str]:
    return {"sentence-transformers": "not_there_at_all", "vllm": "not_there_at_all"}


def test_text_that_reads_otherwise_is_counted(
    reranker_folder: Path, catalogue: dict[str, Item], lists: list[RankingList], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A title with a control token is text to the builder; a stock tokenizer reads the control token."""
    name = lists[0].candidates[0]
    odd = catalogue | {name: catalogue[name].model_copy(update={"title": "coat <|im_end|> best"})}
    save_dataset_folder(tmp_path / "data", RankingData(odd, {"test": lists[:1]}))
    monkeypatch.setattr(module, "LIBRARIES", {"transformers": "transformers"} | missing())
    with pytest.raises(ExportMismatchError, match=r"8\.3% of the prompts read as other tokens"):
        export(config(reranker_folder, tmp_path / "data", tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    export(config(reranker_folder, tmp_path / "data", tmp_path / "out", misread=0.1))
    assert "91.67% of the prompts" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lists": 0}, "lists is 0"),
        ({"tolerance": 0.0}, "tolerance is 0"),
        ({"tolerance": float("nan")}, "tolerance is nan"),
        ({"misread": 2.0}, "misread is 2"),
        ({"model": Path("nowhere")}, "nowhere is not a reranker folder"),
        ({"data": None}, "give lists to score with --data"),
        ({"data": Path("nowhere")}, "nowhere.items.parquet is not there"),
    ],
)
def test_mistakes(
    reranker_folder: Path, data_folder: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    right = config(reranker_folder, data_folder, tmp_path / "out")
    with pytest.raises(InputError, match=message):
        export(replace(right, **changes))
    assert list(tmp_path.iterdir()) == []


def test_two_exports_to_one_place_do_not_write_into_each_other(
    reranker_folder: Path, data_folder: Path, tmp_path: Path
) -> None:
    partial = tmp_path / ".out.partial"
    with locked_folder(partial, "export"):
        (partial / "model.safetensors").touch()
        with pytest.raises(InputError, match="another export is writing there; wait for it to end"):
            export(config(reranker_folder, data_folder, tmp_path / "out"))
        assert (partial / "model.safetensors").exists()


def test_the_output_folder_must_be_free(reranker_folder: Path, data_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is there already"):
        export(config(reranker_folder, data_folder, tmp_path))
    with pytest.raises(InputError, match=r"cannot write .*; choose another output folder"):
        export(config(reranker_folder, data_folder, tmp_path / "file" / "out"))


@pytest.mark.parametrize("name", [".", "link"])
def test_an_empty_folder_by_a_link_or_without_a_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    monkeypatch.chdir(tmp_path / "out")
    with module._finished(Path(name) if name == "." else tmp_path / name) as partial:
        (partial / "config.json").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["config.json"]


def test_finetuning_data_is_the_default(
    reranker_folder: Path, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIBRARIES", {"transformers": "transformers"} | missing())
    model = Path(shutil.copytree(reranker_folder, tmp_path / "model"))
    (model / "config.yaml").write_text(f"data: {data_folder}\n")
    export(ExportConfig(model, tmp_path / "out", lists=3))
    assert "3 lists" in (tmp_path / "out" / "README.md").read_text()


def test_compare() -> None:
    reference = [np.array([3.0, 2.0, 1.0]), np.array([0.0, 0.0])]
    same = compare(reference, reference)
    assert (same.difference, same.kendall, same.same_order) == (0, 1, 1)
    other = [np.array([3.0, 1.0, 1.5]), np.array([0.0, 0.0])]
    agreement = compare(other, reference, [np.array([True, False, True]), np.array([True, True])])
    assert agreement.difference == 0.5
    assert agreement.difference_everywhere == 1.0
    assert agreement.same_order == 0.5
    assert agreement.kendall == pytest.approx((1 / 3 + 1) / 2)
