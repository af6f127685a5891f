"""Clicks weighted by inverse propensity, for commands that do all from logs to a model.

weigh_clicks(run, data, console)      # run.propensities is a file beside the model, or None
"""

from __future__ import annotations

from rich.console import Console

from reshelf.data.dataset_folder import RankingData
from reshelf.data.propensity.estimate import by_em
from reshelf.data.propensity.file import read_propensities, write_propensities
from reshelf.errors import InputError
from reshelf.finetune.config import FinetuneConfig


def weigh_clicks(run: FinetuneConfig, data: RankingData, console: Console) -> None:
    """Estimate from the training lists how likely each position is examined, for finetuning to weight clicks by; not
    where lists do not say where products were shown, or that cannot be told from them."""
    path = run.out.parent / "propensities.json"
    run.propensities = None
    if any(ranking.positions is None for split in ("train", "valid") for ranking in data.lists[split]):
        return
    if not path.exists():
        try:
            write_propensities(path, by_em(data.lists["train"], data.items))
        except InputError as error:
            console.print(f"Clicks count alike at every position: {error}.", highlight=False)
            return
    run.propensities = path
    examined = read_propensities(path)
    shares = ", ".join(f"position {n} {examined[n - 1]:.0%}" for n in (2, 5, 10, 20) if n <= len(examined))
    console.print(f"Of those who examine position 1, this many examine others: {shares}.", highlight=False)
