"""What a GPU machine without internet is given: a small base and the data sets, made where there are both.

    python -m benchmarks.gpu.prepare --base runs/bases/gemma3_270m --root runs/gpu --out runs/gpu/carry

Every recipe of this folder whose data set is in `root` (`reshelf data import`, then `reshelf teach`) is prepared: its
lists with only the texts and numbers that the recipe reads, and one base for all of them, its vocabulary cut to the
tokens that occur (`modeling.vocabulary`) and its layers packed in NF4 (`benchmarks.gpu.packed_base`).
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.gpu.packed_base import pack_base
from reshelf.config import load_yaml
from reshelf.data.dataset_folder import SPLITS, RankingData, load_dataset_folder, save_dataset_folder
from reshelf.data.schema import Item, RankingList
from reshelf.finetune.config import FinetuneConfig
from reshelf.modeling.tokenizer import load_tokenizer
from reshelf.modeling.vocabulary import cut_vocabulary
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.levels import fit_levels

RECIPES = Path(__file__).parent
DIGITS = 4
"""Significant digits of a number: levels are far coarser."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="folder of the pretrained language model")
    parser.add_argument(
        "--root", type=Path, required=True, help="folder of the data set folders, by their recipes' name"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to make: base/ and data/NAME/")
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    tokenizer = load_tokenizer(str(args.base))
    used: set[int] = set()
    for recipe in sorted(RECIPES.glob("*.yaml")):
        folder = args.root / recipe.stem
        if not folder.is_dir():
            print(f"{recipe.stem}: {folder} is not there, left out")
            continue
        config = load_yaml(FinetuneConfig, recipe)
        data = thinned(load_dataset_folder(folder, SPLITS), config)
        builder = PromptBuilder(
            tokenizer, config.prompt, data.items,
            fit_levels(data.lists["train"], config.prompt.features, config.prompt.levels),
        )  # fmt: skip
        used |= set(builder.label_ids) | set(tokens_of(builder, data))
        target = args.out / "data" / recipe.stem
        target.mkdir(parents=True)
        save_dataset_folder(target, data)
        size = sum(path.stat().st_size for path in target.iterdir()) / 1e6
        print(
            f"{recipe.stem}: { ({split: len(lists) for split, lists in data.lists.items()}) }, {size:.1f} MB",
            flush=True,
        )
    with tempfile.TemporaryDirectory() as temporary:
        cut = Path(temporary) / "cut"
        left = cut_vocabulary(args.base, used, cut)
        size = pack_base(cut, args.out / "base")
    print(f"base: {len(used):,} tokens occur, {left:,} are kept, {size / 1e6:.1f} MB")


def thinned(data: RankingData, config: FinetuneConfig) -> RankingData:
    """Only what the recipe reads; numbers with a few digits."""
    fields = {*config.prompt.fields, *config.prompt.event_fields}
    items = {key: _only(item, fields) for key, item in data.items.items()}
    names = {*config.prompt.features, *([config.distil.feature] if config.distil.feature else [])}
    limits = {"train": config.train_lists, "valid": config.valid_lists, "test": 0}
    lists = {
        split: [_rounded(ranking, names) for ranking in (some[: limits[split]] if limits[split] else some)]
        for split, some in data.lists.items()
    }
    return RankingData(items, lists)


def _only(item: Item, fields: set[str]) -> Item:
    kept = {"item_id": item.item_id, "title": item.title}
    for name in ("brand", "price", "currency", "price_level", "rating", "category", "attributes", "description"):
        if name in fields or (name == "currency" and "price" in fields) or (name == "category" and "leaf" in fields):
            kept[name] = getattr(item, name)
    return Item(**kept)


def _rounded(ranking: RankingList, names: set[str]) -> RankingList:
    features = {name: tuple(_digits(values)) for name, values in ranking.features.items() if name in names}
    scores = None if ranking.scores is None else tuple(_digits(ranking.scores))
    return ranking.model_copy(update={"features": features, "scores": scores})


def _digits(values: object) -> Iterator[float]:
    return (float(f"{value:.{DIGITS}g}") for value in np.asarray(values, dtype=np.float64).tolist())


def tokens_of(builder: PromptBuilder, data: RankingData) -> Iterator[int]:
    """Every token that a prompt of these lists can hold, whatever candidates and histories are left out."""
    for levels in builder._feature_ids.values():
        yield from np.concatenate(levels).tolist()
    for lists in data.lists.values():
        for ranking in lists:
            for one in (ranking, ranking.model_copy(update={"history": (), "query": ""})):
                prompt = builder.build(one)
                yield from prompt.prefix.tolist()
            yield from np.concatenate(prompt.items).tolist()


if __name__ == "__main__":
    main()
