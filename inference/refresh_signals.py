"""`reshelf signals refresh`: newer tables for a reranker's signals, which running servers read within a second.

reshelf data import --mapping shop.yaml --root /logs --out runs/shop/tonight
reshelf signals refresh runs/shop/model --data runs/shop/tonight
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from reshelf.data.atomic import check_writable
from reshelf.data.signals.kept import FOLDER, copy_signals, counted_until
from reshelf.errors import InputError
from reshelf.modeling.spec import read_spec

_CLOCKS = timedelta(minutes=5)
"""That two machines' clocks may differ by."""


@dataclass
class RefreshConfig:
    """Replace what a reranker's signals are computed from."""

    model: Path
    """Reranker folder; its weights and prompt stay as they are."""
    data: Path
    """Data set folder of a newer import, by the mapping of the data set that the reranker was finetuned on."""
    shorter: bool = False
    """Take tables that count less than half of the events too, of a log that is meant to be shorter."""


def refresh(config: RefreshConfig) -> None:
    """Copy the newer tables; the reranker has the old ones or the new ones at any moment.

    Raises:
        InputError: the model reads no signals, or the data set does not keep all of those that it computed before.
    """
    if not config.data.is_dir():
        raise InputError(f"{config.data} is no folder; give the data set folder that `reshelf data import` wrote")
    features = read_spec(config.model).prompt.features
    check_writable(config.model)
    before = counted_until(config.model / FOLDER)
    kept = config.model / FOLDER
    computed = copy_signals(config.data / FOLDER, kept, features, at_least=kept, shorter=config.shorter)
    if not computed:
        raise InputError(
            f"{config.data / FOLDER} has nothing that {config.model} reads ({', '.join(features) or 'no numbers'}); "
            "import with a mapping whose `signals` name it"
        )
    until = counted_until(config.model / FOLDER)
    print(f"{config.model / FOLDER}: {', '.join(computed)} are computed from {config.data} now (events until {until})")
    if until < before:
        print(
            f"Warning: the tables before counted events until {before}: these are older, or of an incomplete log; "
            "import the whole log and refresh again, unless you meant to go back"
        )
    if until and datetime.fromisoformat(until) > datetime.now(UTC) + _CLOCKS:
        print(
            f"Warning: {until} is yet to come, and a server adds no event to these tables until then; set `timezone` "
            "of the events in the mapping if their times are local"
        )
