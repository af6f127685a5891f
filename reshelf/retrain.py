"""`reshelf retrain`: a new reranker from the lists that were served, in the running one's place if it is better.

    reshelf retrain runs/shop/model --root logs/shop --out runs/shop/retrain

The steps are `reshelf data import`, `data propensities`, `finetune` and `promote`. A command that was killed goes on
where it was when it is repeated. After one that came to an end, with or without a promotion, or was refused, the next
begins anew, for there are newer logs. What became of it is in OUT/promotion.json.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from reshelf.config import load_yaml
from reshelf.data.atomic import check_replaceable, locked_folder, write_json
from reshelf.data.dataset_folder import load_dataset_folder
from reshelf.data.hashes import file_sha256
from reshelf.data.importing.importer import ImportConfig, import_folder
from reshelf.data.importing.mapping_file import find_mapping
from reshelf.data.propensity.estimate import PropensityConfig, estimate
from reshelf.errors import DivergedError, InputError
from reshelf.evaluation.promotion import FEWEST, PromoteConfig, finish_promotion, promote
from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.resume import remove_checkpoints
from reshelf.finetune.run import CONFIG, finetune, is_finished
from reshelf.modeling.loading import check_base_exists
from reshelf.modeling.spec import read_spec

RESULT = "promotion.json"
BEGUN = "begun.json"
"""What the folder was begun for: only what this command made may be gone on from, or removed."""
_MADE = ("data", "model", "propensities.json")


@dataclass
class RetrainConfig:
    """A new reranker from served lists, promoted if it is better."""

    model: Path
    """The running reranker folder. Its config.yaml says how to finetune, over the same base."""
    root: Path
    """Folder with the log of served lists, your page's events and your catalogue, where the mapping looks for them."""
    out: Path
    """Folder for the data set, the propensities and the new reranker. What a finished call left is replaced."""
    mapping: str = "served_lists"
    """The mapping file (YAML) of these tables, or the name of a shipped one."""
    trust_remote_code: bool = False
    """Run Python code that comes with the base; only for authors you trust. A reranker cannot ask for it."""


def retrain(config: RetrainConfig, console: Console | None = None) -> None:
    """Import, estimate propensities, finetune, compare, and promote.

    Raises:
        InputError: the running reranker, the logs or the folders cannot be used.
        DivergedError: as `finetune`.
    """
    console = console or Console()
    _check_apart(config)
    with locked_folder(config.out, "`reshelf retrain`"):
        _check_own(config.out)
        try:
            finish_promotion(config.model)
            run = _run(config)
            check_replaceable(config.model)
            _clear_or_go_on(config)
            _retrain(config, run, console)
        except (InputError, DivergedError) as error:
            write_json(config.out / RESULT, {"promoted": False, "problem": str(error)})
            raise


def _retrain(config: RetrainConfig, run: FinetuneConfig, console: Console) -> None:
    data, model, propensities = config.out / "data", config.out / "model", config.out / "propensities.json"
    console.rule("1. Lists from what was served, and what came of them")
    if not data.is_dir():
        import_folder(ImportConfig(config.mapping, data, config.root))
    clicks = {one.user_id for one in load_dataset_folder(data, ["test"]).lists["test"] if any(one.labels or ())}
    if len(clicks) < FEWEST:
        console.print(f"not retrained: {len(clicks)} shoppers with a click on a held-out list; it takes {FEWEST}")
        write_json(config.out / RESULT, {"promoted": False, "shoppers": len(clicks)})
        return
    console.rule("2. How likely each place is examined")
    if not propensities.is_file():
        estimate(PropensityConfig(data, out=propensities))
    console.rule("3. Finetuning as the running reranker was")
    if not is_finished(model):
        finetune(run)
    remove_checkpoints(model)  # what is left where it was killed in this very step
    console.rule("4. Against the running reranker, on held-out lists")
    promote(
        PromoteConfig(
            model, config.model, data, propensities, engine="transformers", out=config.out / RESULT,
            trust_remote_code=config.trust_remote_code,
        )
    )  # fmt: skip


def _run(config: RetrainConfig) -> FinetuneConfig:
    """The running reranker's finetuning, on other data; without a teacher, for nobody scores served lists."""
    spec = read_spec(config.model, config.trust_remote_code)
    path = config.model / CONFIG
    if not path.is_file():
        raise InputError(f"{config.model} has no {CONFIG}, which says how to finetune; put it there")
    changes: dict[str, Any] = {f"model.{name}": value for name, value in vars(spec.model).items()}
    changes |= {"data": config.out / "data", "out": config.out / "model", "distil.feature": "", "overwrite": False}
    changes["propensities"] = config.out / "propensities.json"
    check_base_exists(spec.model.base, spec.model.revision)
    return load_yaml(FinetuneConfig, path, **changes)


def _check_apart(config: RetrainConfig) -> None:
    """The running reranker is never among what this command makes and removes."""
    out, running = config.out.resolve(), config.model.resolve()
    if out.is_relative_to(running) or any(running.is_relative_to(out / name) for name in _MADE):
        raise InputError(f"--out {config.out} and the running reranker {config.model} overlap; choose another --out")


def _check_own(out: Path) -> None:
    """Somebody else's data set or reranker is neither learned from nor removed."""
    foreign = [] if (out / BEGUN).is_file() else [name for name in _MADE if (out / name).exists()]
    if foreign:
        raise InputError(f"{out} holds {foreign[0]!r}, which no `reshelf retrain` made there; choose another --out")


def _clear_or_go_on(config: RetrainConfig) -> None:
    """Remove what a finished call or one for something else left; the file that says so goes last."""
    begun = {
        "model": str(config.model.resolve()),
        "root": str(config.root.resolve()),
        "mapping": file_sha256(find_mapping(config.mapping)),
    }
    if (config.out / RESULT).is_file() or _read_begun(config.out) != begun:
        for path in (config.out / name for name in _MADE):
            try:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            except OSError as error:  # what stays would be learned from
                raise InputError(
                    f"cannot remove {path}: {error.strerror}; remove it, or choose another --out"
                ) from error
        write_json(config.out / BEGUN, begun)
        (config.out / RESULT).unlink(missing_ok=True)


def _read_begun(out: Path) -> Any:
    try:
        return json.loads((out / BEGUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
