"""What a reranker gains from more data: nDCG over the number of lists and events, with numbers per product and without.

    make bench NAME=data_needed        # an hour of one core

Real purchases: the Amazon Beauty search lists. A shop of some of the shoppers knows only what they did: its signals and
its first stage are counted from their events, its small base reads their sessions, and its reranker is finetuned on
their lists. The smallest has the shoppers of the lists that all are validated and measured on, the others more and more
besides. The last columns are the same reranker where the numbers of only some products are known, or of none: whether
such lists are better left in first-stage order (`reshelf.prompts.levels.LEAST_KNOWN`).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.feature_dropout import scores_as_they_are
from benchmarks.harness import show, write_result
from reshelf.config import load_yaml
from reshelf.data.atomic import write_json
from reshelf.data.dataset_folder import RankingData, load_dataset_folder
from reshelf.data.importing.importer import ImportConfig, import_folder
from reshelf.data.schema import RankingList
from reshelf.evaluation.measure import Truth, ndcg_per_list
from reshelf.finetune.augment import AugmentConfig
from reshelf.finetune.card import CARD
from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.pretraining.pretrain import PretrainConfig, pretrain
from reshelf.finetune.run import finetune
from reshelf.inference.reranker import Reranker
from reshelf.metrics.bootstrap import interval, resample

PARTS = {0: 600, 2: 1000, 8: 2000}
"""Sixty-fourths of the other shoppers, and how many texts the base reads."""
_TEST, _VALID = 5, 2
"""Sixty-fourths of the published lists that are measured and validated on."""
_RECIPES = Path(__file__).parents[1] / "finetune"
KNOWN = {"reranker": 1.0, "half known": 0.5, "a tenth known": 0.1, "without numbers": 0.0}
"""Share of the products whose numbers are known, by column."""
ROW = "row.json"
_MAPPING, _FOLDER = "amazon_beauty_search", "amazon_beauty"
_EPOCHS, _LISTS_PER_STEP, _MOST_STEPS = 3, 8, 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--out", type=Path, default=Path("runs/data_needed"), help="what is finished there is kept")
    parser.add_argument("--parts", type=int, nargs="+", default=list(PARTS), help="sixty-fourths of the other shoppers")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for part in sorted(args.parts):
        folder = args.out / str(part)
        if not (folder / ROW).is_file():
            data, events = shop(folder / "data", args.root, part)
            row = measured(trained(folder, data, part), data, events)
            write_json(folder / ROW, row)
        rows.append(json.loads((folder / ROW).read_text(encoding="utf-8")))
        show("nDCG@10 of the same test lists", rows)
        write_result("data_needed", rows, {})


def shop(out: Path, root: Path, part: int) -> tuple[RankingData, int]:
    """The data set of a part of the shoppers, and how many events it was counted from."""
    lists = (
        f"FROM '{_FOLDER}/search_eval.parquet' "
        f"WHERE hash(user_id) % 64 < CASE split WHEN 'test' THEN {_TEST} ELSE {_VALID} END"
    )
    events = f"SELECT * FROM '{_FOLDER}/interactions.parquet' WHERE hash(user_id, 1) % 64 < {part}"
    changes = {
        "lists.0.file": None, "lists.0.sql": f"SELECT * {lists}",
        "events.file": None, "events.sql": f"{events} OR user_id IN (SELECT user_id {lists})",
    }  # fmt: skip
    if not out.is_dir():
        import_folder(ImportConfig(_MAPPING, out, root, changes=changes, quiet=True))
    data = load_dataset_folder(out)
    read = json.loads((out / "report.json").read_text(encoding="utf-8"))["tables"]
    return data, read["events"]["kept"]


def trained(folder: Path, data: RankingData, part: int) -> Path:
    """A small base of these shoppers and a reranker over it; returns its folder."""
    base = load_yaml(
        PretrainConfig, _RECIPES / "pretrain_beauty.yaml", data=str(folder / "data"), out=str(folder / "base")
    )
    if not (base.out / CARD).exists():
        pretrain(replace(base, texts=PARTS[part]))
    run = load_yaml(
        FinetuneConfig, _RECIPES / "beauty_search.yaml", data=str(folder / "data"), out=str(folder / "model"),
        **{"model.base": str(folder / "base")},
    )  # fmt: skip
    lists = len(data.lists["train"])
    steps = min(_MOST_STEPS, _EPOCHS * lists // _LISTS_PER_STEP)
    optimizer = replace(run.optimizer, max_steps=steps, lists_per_step=_LISTS_PER_STEP)
    if not (run.out / CARD).exists():
        finetune(replace(run, optimizer=optimizer, eval_every=steps // 2, augment=AugmentConfig()))
    return run.out


def measured(model: Path, data: RankingData, events: int) -> dict[str, Any]:
    """A row: sizes, nDCG@10 of the first stage, of the reranker and of it without numbers, each with what it gains."""
    test = data.lists["test"]
    truth = Truth.of(test)
    first = ndcg_per_list([-np.arange(len(one.candidates)) for one in test], truth, 10)
    weights = resample(len(test), 2000, seed=0)
    row: dict[str, Any] = {
        "events": events,
        "train lists": len(data.lists["train"]),
        "test lists": len(test),
        "first stage": float(first.mean()),
    }
    with Reranker.from_pretrained(model, "transformers", data.items) as reranker:
        names = reranker.spec.prompt.features
        for name, known in KNOWN.items():
            draw = np.random.default_rng(0)
            lists = [partly_known(one, names, draw.random(len(one.candidates)) < known) for one in test]
            found = ndcg_per_list(scores_as_they_are(reranker, lists), truth, 10)
            gain = interval(found - first, weights)
            row |= {name: float(found.mean()), f"{name} gains": f"{gain.mean:+.3f} ({gain.low:+.3f}…{gain.high:+.3f})"}
    return row


def partly_known(ranking: RankingList, names: list[str], known: np.ndarray) -> RankingList:
    """The list with the numbers that the model reads of the products in `known` (bool [K]) alone."""
    features = {name: tuple(np.where(known, ranking.features[name], np.nan).tolist()) for name in names}
    return ranking.model_copy(update={"features": features})


if __name__ == "__main__":
    main()
