"""`reshelf quickstart`: from a shop's own tables to a model that can be served, in a time that is given.

    reshelf quickstart data/mappings/shop.yaml --root /where/the/files/are --out runs/shop --minutes 10

It imports, takes a base (on a GPU one of the Hub, else a small one over a tokenizer of the shop's catalogue),
finetunes, evaluates, and shows one list before and after. How much is trained follows from the size of the shop and
from how long a few steps take on this machine. What is finished in OUT is not made again: repeat the command after a
crash and it goes on where it was, with the settings it began with (`OUT/quickstart.json`).
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import time
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from reshelf.click_weights import weigh_clicks
from reshelf.config import load_yaml
from reshelf.data.atomic import locked_folder, not_if_refused, remove_partials, write_json
from reshelf.data.dataset_folder import RankingData, load_dataset_folder
from reshelf.data.hashes import file_sha256
from reshelf.data.importing.importer import ImportConfig, import_folder
from reshelf.data.importing.mapping import Mapping
from reshelf.data.importing.mapping_file import find_mapping, load_mapping
from reshelf.demo import one_list
from reshelf.errors import InputError
from reshelf.evaluation.config import EvaluateConfig
from reshelf.evaluation.report import table
from reshelf.evaluation.run import evaluate
from reshelf.finetune.card import CARD
from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.pretraining.any_words import MATCHING
from reshelf.finetune.pretraining.pretrain import PretrainConfig, pretrain
from reshelf.finetune.progress import FEWEST_STEPS, StepTimer, StopAt
from reshelf.finetune.resume import remove_checkpoints
from reshelf.finetune.run import finetune, is_finished
from reshelf.modeling.loading import check_base_exists
from reshelf.modeling.spec import read_spec
from reshelf.modeling.tokenizer import load_tokenizer
from reshelf.ranges import Range, check_numbers

PLAN = "quickstart.json"
_RECIPES = Path(str(files("reshelf.finetune")))
_LARGE, _SMALL = "shop.yaml", "shop_small.yaml"
_FINETUNING = 0.7
"""Share of the time that is left when the step begins, measuring included; what remains is for evaluating."""
_PATIENCE = 1.25
"""Times its share that a step may take, where the machine has become slower than it was when it was measured."""
_EPOCHS = 3
"""Most times that finetuning reads a training list: more lowered nothing but the loss of training."""
_VALIDATIONS, _VALID_LISTS, _FEWEST_VALID = 6, 200, 30
_VALIDATING = 0.2
"""Share of finetuning's time that scoring validation lists may take."""
_MODELS, _FEWEST_LISTS, _SCORING = 3, 50, 0.6
"""Rows of the report that a model scores; lists that are evaluated however little time there is; share of what is left
that scoring them takes."""


@dataclass
class QuickstartConfig:
    """A shop's tables, to a reranker that can be served."""

    mapping: str
    """A mapping file (YAML), or the name of a shipped one."""
    out: Path
    """Folder for the data set, the base, the model and the report. What is finished there is not made again."""
    root: Path | None = None
    """Folder that the mapping's file names start from; default: `root` in the mapping."""
    minutes: float = 10.0
    """About how long it may take in all, at most 100,000. More gives a better model."""

    def __post_init__(self) -> None:
        check_numbers(self, {"minutes": Range(0, 1e5, above=True)})


def quickstart(config: QuickstartConfig, console: Console | None = None) -> None:
    """Import, take a base, finetune, evaluate, show, and say how to serve.

    Raises:
        InputError: the mapping or the tables are at fault, or the output folder belongs to another mapping or call.
    """
    console = console or Console()
    mapping = load_mapping(config.mapping)
    with locked_folder(config.out, "quickstart"), not_if_refused(config.out / PLAN):
        for folder in (config.out, config.out / "base", config.out / "model"):
            remove_partials(folder)
        _quickstart(config, mapping, console)


def _quickstart(config: QuickstartConfig, mapping: Mapping, console: Console) -> None:
    end = time.monotonic() + 60 * config.minutes
    plan = _Plan.begun(config, mapping)
    data, model = config.out / "data", config.out / "model"
    console.rule("1. Import")
    if not data.is_dir():
        changes = {} if mapping.signals.names else {"signals.names": _signals(mapping)}
        import_folder(ImportConfig(config.mapping, data, config.root, changes=changes))
    lists = load_dataset_folder(data)
    for split in ("train", "valid"):
        if not lists.lists.get(split):
            raise InputError(f"{data} has no {split} lists: too few lists for the shares in split; see its report.json")
    console.rule("2. A base")
    run = _run(plan.get("recipe", lambda: _recipe(console)), lists, config.out)
    base = config.out / "base"
    if run.model.base == str(base):
        if not (base / CARD).exists():
            _make_base(run)
        remove_checkpoints(base)  # what is left where it was killed in this very step
    console.rule("3. LoRA finetuning")
    weigh_clicks(run, lists, console)
    if not is_finished(model):
        _finetune(run, lists, plan, end, console)
    remove_checkpoints(model)  # likewise
    split = "test" if lists.lists.get("test") else "valid"
    console.rule(f"4. How good it is, on {split} lists")
    _evaluate(run, lists, split, plan, end, console)
    console.rule("5. One shopper's list, before and after")
    one_list(data, model, console, split=split)
    spec = read_spec(model)
    lift = spec.lift
    what, weight = "Serve it:", ""
    if lift is not None:
        console.print(lift.sentence(spec.prompt.language), highlight=False, soft_wrap=True)
        what = what if lift.helps or lift.blended else "To try it all the same, at localhost:8000/ui:"
        weight = "" if lift.blended is None else f" --personalization {lift.blended.personalization:g}"
    console.print(f"\n{what}\n\n    reshelf serve {model} --data {data}{weight}\n", highlight=False, soft_wrap=True)


class _Plan:
    """What was decided once, kept in the output folder, so that a repeated command decides the same."""

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        self._path, self._values = path, values

    @classmethod
    def begun(cls, config: QuickstartConfig, mapping: Mapping) -> _Plan:
        path = config.out / PLAN
        root = (config.root or Path(mapping.root)).resolve()
        mine = {"mapping": file_sha256(find_mapping(config.mapping)), "root": str(root)}
        finished = any((config.out / folder).exists() for folder in ("data", "base", "model"))
        if not path.is_file() or not finished:  # a mapping that the import refused may be corrected
            plan = cls(path, mine)
            plan._write()
            return plan
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}); delete {config.out} or choose another --out") from error
        if not isinstance(values, dict):
            raise InputError(f"{path} holds no JSON object; delete {config.out} or choose another --out")
        for name, value in mine.items():
            if values.get(name) != value:
                raise InputError(f"{config.out} was begun with another {name}; delete it or choose another --out")
        return cls(path, values)

    def get(self, name: str, decide: Any) -> Any:
        """The value decided before, else `decide()`, which is kept."""
        if name not in self._values:
            self._values[name] = decide()
            self._write()
        return self._values[name]

    def _write(self) -> None:
        write_json(self._path, self._values)


def _signals(mapping: Mapping) -> list[str]:
    """What the tables have the columns for."""
    lists = [*mapping.lists, *mapping.pairs]
    names = ["popularity", "recent", "cobought", "match"] if mapping.events else ["match"]
    if any(table.query for table in lists):
        names += ["query_match", "query_chars"]
        if mapping.events and all(table.time for table in lists) and all(table.time for table in mapping.events):
            names += ["query_clicks", "similar_query_clicks"]
    return names


def _recipe(console: Console) -> str:
    """The recipe of `reshelf.finetune` to follow; says why."""
    if not torch.cuda.is_available():
        console.print("There is no GPU, so the base is a small one over a tokenizer of the shop's catalogue.")
        return _SMALL
    base = load_yaml(FinetuneConfig, _RECIPES / _LARGE).model.base
    try:
        check_base_exists(base)
        load_tokenizer(base)
    except InputError as error:
        console.print(f"There is a GPU, but {error}; so the base is a small one.", highlight=False)
        return _SMALL
    console.print(f"There is a GPU, {torch.cuda.get_device_name()}: the base is {base}, in 4 bits.", highlight=False)
    return _LARGE


def _run(recipe: str, lists: RankingData, out: Path) -> FinetuneConfig:
    """The recipe over this shop, with the signals its lists have."""
    changes: dict[str, Any] = {
        "data": str(out / "data"),
        "out": str(out / "model"),
        "prompt.features": sorted(lists.lists["train"][0].features),
    }
    if recipe == _SMALL:
        changes["model.base"] = str(out / "base")
    return load_yaml(FinetuneConfig, _RECIPES / recipe, **changes)


def _make_base(run: FinetuneConfig) -> None:
    """A small base over a tokenizer of the catalogue, with the layers that ship. One step: more would not be worth the
    time, which finetuning needs (docs/bases.md)."""
    prompt = replace(run.prompt, features=[])
    config = PretrainConfig(out=Path(run.model.base), data=run.data, prompt=prompt, layers=MATCHING)
    pretrain(replace(config, texts=config.texts_per_step))


def _finetune(run: FinetuneConfig, lists: RankingData, plan: _Plan, end: float, console: Console) -> None:
    run.optimizer.epochs, run.patience = 1e6, _VALIDATIONS
    most = int(_EPOCHS * len(lists.lists["train"]) / run.optimizer.lists_per_step)
    valid = min(_VALID_LISTS, len(lists.lists["valid"]))

    begun, budget = time.monotonic(), _FINETUNING * (end - time.monotonic())

    def measured() -> dict[str, Any]:
        trial = replace(run, eval_every=10**6, valid_lists=valid, optimizer=replace(run.optimizer, max_steps=10**6))
        timer = _timed(trial, budget)
        left = begun + budget - time.monotonic()
        a_list = timer.validation_s / valid
        scored = int(_VALIDATING * left / max(a_list, 1e-6))
        validations = max(1, min(_VALIDATIONS, scored // valid - 1))  # the kept checkpoint's are scored once more
        each = max(min(valid, _FEWEST_VALID), min(valid, scored // (validations + 1)))
        steps = int((left - (validations + 1) * each * a_list) / timer.step_s)
        return {
            "steps": max(FEWEST_STEPS, min(most, steps)), "validations": validations, "valid_lists": each,
            "seconds_a_list": a_list,
        }  # fmt: skip

    planned = plan.get("finetune", measured)
    steps, run.valid_lists = planned["steps"], planned["valid_lists"]
    run.optimizer.max_steps, run.eval_every = steps, -(-steps // planned["validations"])
    # One that is ended is validated and scored once more.
    spare = 2 * planned["seconds_a_list"] * run.valid_lists
    stop = StopAt(begun + _PATIENCE * budget - spare)
    finetune(run, callbacks=[stop])
    if stop.step is not None and stop.step < steps:
        console.print(
            f"Stopped after {stop.step} of {steps} steps: they took longer than was measured before, and the time for "
            "finetuning was over.",
            highlight=False,
        )


def _timed(trial: FinetuneConfig, budget: float) -> StepTimer:
    """Finetune for a moment in a folder that goes away, and measure."""
    folder = trial.out.parent / ".timer"
    shutil.rmtree(folder, ignore_errors=True)
    timer = StepTimer(min(10.0, 0.03 * budget))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            finetune(replace(trial, out=folder), callbacks=[timer])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return timer


def _evaluate(run: FinetuneConfig, lists: RankingData, split: Any, plan: _Plan, end: float, console: Console) -> None:
    """A table of what was measured; as many lists as there is time for."""
    report = run.out.parent / "report.json"
    if report.is_file():
        console.print(table(json.loads(report.read_text(encoding="utf-8"))))
        return

    def limit() -> int:
        scored = _MODELS * plan.get("finetune", dict).get("seconds_a_list", 1.0)
        return max(_FEWEST_LISTS, int(_SCORING * (end - time.monotonic()) / max(scored, 1e-6)))

    most = min(plan.get("evaluate_lists", limit), len(lists.lists[split]))
    settings = EvaluateConfig(run.data, run.out.parent, run.out, split=split, limit=most, engine="transformers")
    shown = all(one.positions is not None for one in lists.lists[split])
    evaluate(replace(settings, propensities=run.propensities if shown else None), console)
