"""One recipe of benchmarks/gpu within a number of seconds: train, merge, score the test lists in three ways."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from benchmarks.quality_slices import other_histories
from reshelf.config import load_yaml
from reshelf.data.dataset_folder import load_dataset_folder
from reshelf.data.schema import RankingList
from reshelf.evaluation.measure import Truth, ndcg_per_list
from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.run import finetune
from reshelf.inference.engines.transformers_engine import Budget, TransformersEngine
from reshelf.modeling.checkpoint import load_reranker
from reshelf.modeling.merge import merged

_PROBE_STEPS = 16
_TRAINING_SHARE = 0.72
"""Of a part's seconds; the rest is for loading, validation at the end and the test lists."""
_AT_ONCE = 256


class _StepTimes(TrainerCallback):
    """How long steps take; the first ones compile kernels and capture graphs."""

    def __init__(self) -> None:
        self._ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._ends.append(time.monotonic())

    def median(self) -> float:
        return statistics.median(np.diff(self._ends[len(self._ends) // 2 :]).tolist())


def finetune_part(name: str, base: Path, data: Path, temporary: Path, out: Path, seconds: float) -> dict[str, Any]:
    """Returns facts; scores of the test lists go to `out`/NAME.npz (float32, one row per list, NaN behind its end)."""
    start = time.monotonic()
    recipe = load_yaml(FinetuneConfig, Path(__file__).parent / f"{name}.yaml")
    model = replace(recipe.model, base=str(base))
    config = replace(recipe, data=data / name, out=temporary / name, model=model)
    probe = replace(
        config, out=temporary / f"{name}_probe", eval_every=_PROBE_STEPS, valid_lists=8, calibration="none",
        optimizer=replace(config.optimizer, max_steps=_PROBE_STEPS),
    )  # fmt: skip
    times = _StepTimes()
    finetune(probe, callbacks=[times])
    shutil.rmtree(probe.out)
    step_s = times.median()
    room = _TRAINING_SHARE * (seconds - (time.monotonic() - start))
    steps = max(_PROBE_STEPS, min(config.optimizer.max_steps, int(room / step_s / 1.15)))
    config = replace(config, eval_every=min(config.eval_every, steps))
    print(f"   {name}: {step_s:.3f} s a step, {steps} steps in {room:.0f} s", flush=True)
    times, curve = _StepTimes(), []

    def watch(step: int, metric: float) -> None:
        curve.append([step, metric])
        print(f"   step {step}: valid {metric:.4f}, {time.monotonic() - start:.0f} s", flush=True)

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    began = time.monotonic()
    best = finetune(replace(config, optimizer=replace(config.optimizer, max_steps=steps)), watch, [times])
    trained_s = time.monotonic() - began
    peak = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else float("nan")
    trained = load_reranker(config.out)
    test = load_dataset_folder(config.data, ("test",))
    dense = merged(trained.model, torch.bfloat16)
    engine = TransformersEngine(dense, Budget(tokens=65536, prefix_bytes=0))
    builder = trained.spec.builder(trained.tokenizer, test.items)
    lists = test.lists["test"]
    began = time.monotonic()
    scores = {"reshelf": _scores(engine, builder, lists)}
    scoring_s = time.monotonic() - began
    at = [n for n, one in enumerate(lists) if one.history]  # the others stay what they are
    bare = [one.model_copy(update={"history": ()}) for one in lists]
    for kind, changed in (("without_history", bare), ("shuffled_history", other_histories(lists))):
        again = _scores(engine, builder, [changed[n] for n in at])
        scores[kind] = [*scores["reshelf"]]
        for n, values in zip(at, again, strict=True):
            scores[kind][n] = values
    grids: dict[str, Any] = {key: _grid(value) for key, value in scores.items()}
    np.savez_compressed(out / f"{name}.npz", list_ids=np.array([one.list_id for one in lists]), **grids)
    shutil.make_archive(str(out / f"{name}_reranker"), "zip", config.out)
    return {
        "recipe": name,
        "best_valid_ndcg@10": best,
        **{f"test_ndcg@10_{key}": mean_ndcg(value, lists) for key, value in scores.items()},
        "curve": curve,
        "steps": steps,
        "seconds_a_step": times.median(),
        "training_s": trained_s,
        "peak_gib": peak,
        "test_lists": len(lists),
        "candidates_per_s": sum(len(one.candidates) for one in lists) / scoring_s,
    }


def _scores(engine: TransformersEngine, builder: Any, lists: Sequence[RankingList]) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    for begin in range(0, len(lists), _AT_ONCE):
        found += engine.score([builder.build(one) for one in lists[begin : begin + _AT_ONCE]])
    return found


def mean_ndcg(scores: Sequence[np.ndarray], lists: Sequence[RankingList]) -> float:
    return float(np.nanmean(ndcg_per_list(scores, Truth.of(lists), 10)))


def _grid(scores: Sequence[np.ndarray]) -> np.ndarray:
    grid = np.full((len(scores), max(map(len, scores))), np.nan, dtype=np.float32)
    for row, values in zip(grid, scores, strict=True):
        row[: len(values)] = values
    return grid
