"""The batch job on Ray Data: every actor holds an engine and does whole shards.

    with cluster():
        for tally, rows in on_ray(job, remaining=[0, 1, 2], workers=2): ...

The rows of the Ray data set are shard numbers. An actor reads its shard's rows itself and writes the shard's files
itself, by the same code as the job without Ray, so output and resume are the same too. If an actor dies, Ray starts
another one and gives it the shard.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from reshelf.data.dataset_folder import read_items
from reshelf.errors import InputError
from reshelf.inference.batch.output import Tally
from reshelf.inference.batch.scorer import make_item_tokens
from reshelf.modeling.spec import read_reranker

if TYPE_CHECKING:
    from reshelf.inference.batch.run import BatchJob


class ShardActor:
    """An engine in a process of its own."""

    def __init__(self, job: BatchJob, threads: int | None) -> None:
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        self._job = job
        self._scorer = job.scorer()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Score shards: `shard` int64 [N] to `tally`, N JSON texts."""
        tallies = []
        for shard in batch["shard"].tolist():
            (tally,) = [tally for tally, _ in self._scorer.run([shard]) if tally is not None]
            tallies.append(json.dumps(asdict(tally)))
        return {"tally": tallies}


@contextmanager
def cluster() -> Iterator[str]:
    """Have Ray run: the cluster there is, or one on this machine. Gives what it computes on, `cuda` or `cpu`.

    Raises:
        InputError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError("Ray is not installed; `pip install reshelf[ray]`, or leave --ray out") from error
    started = not ray.is_initialized()
    if started:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, configure_logging=True)
    try:
        yield "cuda" if ray.cluster_resources().get("GPU") else "cpu"
    finally:
        if started:
            ray.shutdown()


def on_ray(job: BatchJob, remaining: list[int], workers: int | None) -> Iterator[tuple[Tally, int]]:
    """Score the shards of `remaining` on the cluster; gives every finished shard's tally and number of rows.

    Args:
        workers: actors; None is one per GPU of the cluster, or one per core where it has none.

    Raises:
        InputError: the cluster is too small, or as in the job without Ray.
    """
    import ray.data
    from ray.exceptions import RayError

    if job.item_tokens is not None:
        # Here, or every actor would make the file.
        spec, tokenizer = read_reranker(job.model, job.trust_remote_code)
        make_item_tokens(job.item_tokens, tokenizer, spec.prompt, read_items(job.catalogue))
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    there = ray.cluster_resources()
    kind = "GPU" if there.get("GPU") else "CPU"
    room = int(there.get(kind, 0))
    workers = min(workers or room, len(remaining))
    if not 1 <= workers <= room:
        raise InputError(f"workers is {workers}, and the Ray cluster has {room} {kind}s; give at most as many")
    # One shard per block: what a dead actor leaves behind is no more than the shard it was at.
    shards = ray.data.from_items([{"shard": shard} for shard in remaining], override_num_blocks=len(remaining))
    scored = shards.map_batches(
        ShardActor,
        fn_constructor_args=(job, 1 if kind == "CPU" else None),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
        num_gpus=1 if kind == "GPU" else 0,
        num_cpus=1,
        max_restarts=-1,
        max_task_retries=-1,
    )
    try:
        for row in scored.iter_rows():
            tally = Tally(**json.loads(row["tally"]))
            yield tally, tally.rows
    except RayError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, InputError):
            cause = getattr(cause, "cause", None) or cause.__cause__
        if cause is not None:
            raise InputError(str(cause)) from error
        raise
