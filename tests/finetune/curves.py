"""What `finetune` leaves of its validations."""

from __future__ import annotations

import json
from pathlib import Path

from reshelf.finetune.checkpoint_choice import kept_checkpoint


def valid_and_kept(folder: Path, metric: str) -> tuple[list[dict[str, float]], dict[str, float]]:
    """The validations of curve.json, and the one whose checkpoint was kept."""
    valid = json.loads((folder / "curve.json").read_text())["valid"]
    kept = kept_checkpoint([{f"eval_{name}": value for name, value in one.items()} for one in valid], f"eval_{metric}")
    return valid, valid[kept]
