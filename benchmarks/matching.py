"""Claim: with the layers that ship, a small base matches products with histories in words that they have never read.

    make bench NAME=matching        # five minutes of one core

An English and a Chinese simulated shop, each with a tokenizer of its own catalogue. For each, new bases from nothing
and with the layers of `finetune/bases/matching`, before they read the shop and after 500 of its sessions. Measured
without finetuning, on sessions that none has read: how often a product that was clicked, carted or bought has a higher
probability of being so than one of its list that was passed over (0.5 is chance), behind its shopper's own history and
behind another's.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console

from benchmarks.harness import show, write_result
from reshelf.config import load_yaml
from reshelf.finetune.pretraining.any_words import MATCHING, read_base
from reshelf.finetune.pretraining.pretrain import PretrainConfig, ShapeConfig, new_model, pretrain, session_sources
from reshelf.finetune.pretraining.session_text import (
    OUTCOMES,
    Text,
    collate_text,
    vocabulary_text,
)
from reshelf.finetune.pretraining.tokenizer import train_tokenizer
from reshelf.modeling.score import logits_at
from reshelf.prompts.builder import PromptBuilder

TEXTS = (0, 500)
LISTS, SEED, UNREAD = 200, 500, 1_000_000
RECIPE = Path(__file__).parents[1] / "finetune" / "pretrain_matching.yaml"
"""Prompts and shops are those of the layers."""
LANGUAGES: tuple[Literal["en", "zh"], ...] = ("en", "zh")


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for language in LANGUAGES:
        for start, layers in (("nothing", None), ("layers", MATCHING)):
            for texts in TEXTS:
                own, others = shares(language, layers, texts)
                rows.append({"shop": language, "from": start, "texts": texts, "own history": own, "another's": others})
                print(rows[-1], flush=True)
    show("matching", rows)
    found = {(row["shop"], row["from"], row["texts"]): row["own history"] for row in rows}
    ratios = {f"matching_{language}": found[language, "layers", 0] for language in LANGUAGES}
    ratios |= {f"matching_{language}_{TEXTS[-1]}": found[language, "layers", TEXTS[-1]] for language in LANGUAGES}
    Console().print(ratios)
    print(
        f"written to {write_result('matching', rows, ratios, {'lists': LISTS, 'vocabulary': ShapeConfig.vocabulary})}"
    )


def shares(language: Literal["en", "zh"], layers: Path | None, texts: int) -> tuple[float, float]:
    """Of pairs of a product that was taken and one that was passed over, those in the right order: behind the history
    of their shopper, and behind that of another."""
    with tempfile.TemporaryDirectory() as made:
        recipe = load_yaml(PretrainConfig, RECIPE, out=str(Path(made) / "base"))
        config = replace(
            recipe, shops=1, languages=[language], shape=ShapeConfig(), layers=layers, other_words=False, seed=SEED,
            texts=max(texts, recipe.texts_per_step),
        )  # fmt: skip
        (source,) = session_sources(config)
        if texts:
            pretrain(config)
            model, tokenizer = read_base(str(config.out), "cpu", "base")
        else:
            tokenizer = train_tokenizer(vocabulary_text([source], recipe.prompt), config.shape.vocabulary)
            model = new_model(config.shape, tokenizer, SEED, layers=layers)
    builder = PromptBuilder(tokenizer, recipe.prompt.in_language_of(source.items.values()), source.items)
    words = [tokenizer(word, add_special_tokens=False).input_ids[0] for word in OUTCOMES]
    lists = [source.session(UNREAD + n) for n in range(LISTS)]
    found = []
    for shift in (0, 1):
        right = []
        for n, one in enumerate(lists):
            behind = one.model_copy(update={"history": lists[(n + shift) % LISTS].history})
            text = Text(builder.build(behind), np.zeros(len(one.candidates), dtype=np.int64))
            batch = collate_text([text])
            ends = torch.nonzero(batch.outcomes >= 0)[:, 0]
            with torch.inference_mode():
                passed, *taken = logits_at(model, batch.packed, ends)[:, words].log_softmax(-1).unbind(1)
            scores = (torch.stack(taken).logsumexp(0) - passed).numpy()
            labels = np.array(one.labels) > 0
            right.append(np.sign(scores[labels][:, None] - scores[~labels][None]).ravel())
        found.append(float((np.concatenate(right).mean() + 1) / 2))
    return found[0], found[1]


if __name__ == "__main__":
    main()
