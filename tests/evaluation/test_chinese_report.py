"""The report of a Chinese shop holds no English prose: not in its text, its page or its pictures."""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console

from reshelf.data.dataset_folder import RankingData, save_dataset_folder
from reshelf.data.schema import RankingList
from reshelf.evaluation.config import EvaluateConfig
from reshelf.evaluation.report import markdown, table
from reshelf.evaluation.run import evaluate
from reshelf.evaluation.systems import NAMES

TERMS = {
    "nDCG", "MRR", "AUC", "UAUC", "Recall", "ECE", "Brier", "personalization", "parquet", "train", "test",
}  # fmt: skip
"""What Chinese engineers write as it is, and names of options, splits and files."""


def english(text: str) -> set[str]:
    """Words of English that are no terms, no system's name and no link's target."""
    text = re.sub(r"\]\(\w+\.svg\)", "", text)
    for name in sorted(NAMES, key=len, reverse=True):
        text = re.sub(rf"\b{name}\b", "", text)
    return set(re.findall("[A-Za-z]{2,}", text)) - TERMS


def chinese(shop: RankingData) -> RankingData:
    """Titles and queries in Chinese, of different lengths; its first stage is worse than any order."""
    items = {name: item.model_copy(update={"title": f"蓝色羊毛外套{name[1:]}号"}) for name, item in shop.items.items()}

    def translated(n: int, one: RankingList) -> RankingList:
        worst_first = {"labels": (one.labels or ())[::-1], "utility": (one.utility or ())[::-1]}
        return one.model_copy(update=worst_first | {"query": "蓝色羊毛外套大衣男款"[: n % 10], "list_id": str(n)})

    lists = {split: [translated(n, one) for n, one in enumerate(found)] for split, found in shop.lists.items()}
    return RankingData(items, lists)


def test_no_english_prose(shop: RankingData, tmp_path: Path) -> None:
    save_dataset_folder(tmp_path / "数据", chinese(shop))
    console = Console(file=io.StringIO(), width=80)
    out = tmp_path / "out"
    report = evaluate(EvaluateConfig(tmp_path / "数据", out, resamples=50), console)
    assert report["language"] == "zh"
    assert report["worst"]
    assert {part["which"] for part in report["slices"]} == {
        "无查询词",
        "1–4 个字",
        "5–8 个字",
        "超过 8 个字",
        "头部",
        "长尾",
    }
    # What only a model has.
    report["movement"]["without_history"] = report["movement"]["first_stage"]
    report["calibration"] = {"ece": 0.1, "brier": 0.2, "bins": [[0.1, 0.2, 30]]}
    report["data"] = "数据"
    text = markdown(report)
    for heading in ("概率是否可信？", "“无历史”：", "未评估 finetuned：未指定模型。", "想要的商品：蓝色羊毛外套"):
        assert heading in text
    pictures = [path.read_text(encoding="utf-8") for path in sorted(out.glob("*.svg"))]
    assert len(pictures) == 3
    drawn = [label for picture in pictures for label in re.findall("<text[^>]*>([^<]+)</text>", picture)]
    assert "候选占比" in drawn
    assert english(text + "\n" + "\n".join(drawn)) == set()
    assert '<html lang="zh">' in (out / "report.html").read_text(encoding="utf-8")
    said = console.file.getvalue()
    screen = io.StringIO()
    Console(file=screen, width=80).print(table(report))
    assert english(screen.getvalue()) == set()
    assert "较首阶段" in said
    assert all(f"{means['ndcg@10']:.3f}" in said for means in report["systems"].values())
