"""What an unfinished training was begun with, so that it is not finished with something else.

begun = fingerprint(config, processes=1)
check_unchanged(config.out, begun)
write_begun(config.out, begun)
has_begun(config.out)     # True until
remove_checkpoints(config.out)
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import yaml
from transformers.utils import cached_file

from reshelf.config import config_text
from reshelf.data.atomic import write_json
from reshelf.data.hashes import file_sha256
from reshelf.data.signals.kept import DESCRIPTION, FOLDER
from reshelf.errors import InputError
from reshelf.finetune.config import FinetuneConfig

CHECKPOINTS = "checkpoints"
"""Folder of an unfinished run, in its output folder."""
BEGUN = "begun.json"
_REMOVED = ".checkpoints.removed"
LEFT = (CHECKPOINTS, _REMOVED)
"""What goes when a run is finished."""
_READ_FROM_A_BASE = (".json", ".safetensors", ".model", ".txt", ".py")
"""Its config and weights, and tokenizers and code of any kind."""


def fingerprint(config: FinetuneConfig, processes: int) -> dict[str, str]:
    """Everything the curve of a finetuning depends on, by name."""
    settings = yaml.safe_load(config_text(config))
    for place in ("out", "data", "propensities", "overwrite"):
        settings.pop(place)
    files = {f"data {name}": config.data / name for name in ("items.parquet", "train.parquet", "valid.parquet")}
    if config.propensities is not None:
        files["propensities"] = config.propensities
    made = {"processes": str(processes)}
    if config.prompt.features:
        kept = config.data / FOLDER
        files |= {f"data {FOLDER}/{one.name}": one for one in kept.glob("*") if one.name != DESCRIPTION}
        made |= _described(kept / DESCRIPTION)
    return made | made_of(settings, files, settings["model"].pop("base"), config.model.revision)


def made_of(
    settings: dict[str, Any], files: dict[str, Path], base: str = "", revision: str | None = None
) -> dict[str, str]:
    """What a run is made of, by name: each setting as it is, files and the base by the SHA-256 of what they hold.

    Where files lie is no part of it. A base from the Hub is its commit there; an empty one is none.
    """
    made = _flat("config ", settings)
    folder = Path(base)
    if base and folder.is_dir():
        of_base = (one for one in folder.iterdir() if one.suffix in _READ_FROM_A_BASE)
        files = files | {f"base {one.name}": one for one in of_base}
    elif base:
        made["base"] = f"{base} {_commit(base, revision)}"
    return made | {name: file_sha256(path) for name, path in sorted(files.items()) if path.is_file()}


def _described(path: Path) -> dict[str, str]:
    """What the description of signals says of how they are counted; not when they were made, nor of the tables, which
    are files of their own."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        told = {name: value for name, value in about.items() if name not in ("made", "fingerprint")}
    except (OSError, ValueError, AttributeError):
        return {}  # which copying them will say
    text = json.dumps(told, sort_keys=True)
    return {f"data {FOLDER}/{path.name}": hashlib.sha256(text.encode()).hexdigest()}


def has_begun(out: Path) -> bool:
    """Whether an unfinished run is in the folder. An empty folder of checkpoints is none: transformers makes it before
    there is a run."""
    return (out / CHECKPOINTS / BEGUN).exists() or any((out / CHECKPOINTS).glob("checkpoint-*"))


def remove_checkpoints(out: Path) -> None:
    """Of a run that is finished, and what is left of them where this was killed: they lose their name at once, so that
    a run never goes on from half of them."""
    removed = out / _REMOVED
    shutil.rmtree(removed, ignore_errors=True)
    if (out / CHECKPOINTS).is_dir():
        (out / CHECKPOINTS).rename(removed)
    shutil.rmtree(removed, ignore_errors=True)


def check_unchanged(out: Path, now: dict[str, str]) -> None:
    """Raise InputError where the folder holds a run that was begun with something else; says what."""
    if not has_begun(out):
        return
    try:
        was = json.loads((out / CHECKPOINTS / BEGUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        what = f"nobody wrote down what it was begun with ({BEGUN})"
    else:
        what = changes(was, now)
        if not what:
            return
    raise InputError(
        f"{out} holds an unfinished run of another kind: {what}; finish it as it was begun, delete the "
        "folder, or choose another --out"
    )


def changes(was: dict[str, str], now: dict[str, str]) -> str:
    """What differs between two fingerprints, in words; empty where nothing does."""
    changed = [name for name in sorted({*was, *now}) if was.get(name) != now.get(name)]
    what = "; ".join(_change(name, was.get(name), now.get(name)) for name in changed[:3])
    return what + (f"; and {len(changed) - 3} more" if len(changed) > 3 else "")


def write_begun(out: Path, begun: dict[str, str]) -> None:
    """Write it down, before the first checkpoint."""
    write_json(out / CHECKPOINTS / BEGUN, begun)


def _flat(name: str, values: Any) -> dict[str, str]:
    if not isinstance(values, dict):
        return {name: json.dumps(values, ensure_ascii=False)}
    joint = "" if name.endswith(" ") else "."
    return {key: text for word, value in values.items() for key, text in _flat(f"{name}{joint}{word}", value).items()}


def _change(name: str, was: str | None, now: str | None) -> str:
    if was is None or now is None:
        return f"{name} is {'new' if was is None else 'no longer there'}"
    held = name.startswith(("data ", "base ")) or name == "propensities"
    return f"{name} has changed" if held else f"{name} was {was} and is {now}"


def _commit(base: str, revision: str | None) -> str:
    """Of a base on the Hub; empty where it is not at hand, which loading it will say."""
    try:
        found = cached_file(base, "config.json", revision=revision)
    except OSError:
        return ""
    return "" if found is None else Path(found).parent.name
