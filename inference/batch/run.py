"""`reshelf batch`: score Parquet files of lists, any number of them, and write scores and order as Parquet.

    reshelf batch --model runs/demo/model --lists runs/demo/data/test.parquet --catalogue runs/demo/data \\
        --out runs/demo/scores

Leaves in `out`: `scores-00000.parquet`, … with one row per list, in first-stage order and marked as a `fallback` where
numbers that the model reads are missing; `rejected-00000.jsonl`, … with every row that could not be scored and why;
`manifest.json` with what the job was made of; `report.json` with what came of it. A row is known by its file and its
number in it, so list ids need not be unique. A job that was cut short goes on where it was when the command is
repeated; one that differs in input, catalogue, model, engine, precision or shard size is refused there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from reshelf import __version__
from reshelf.data.atomic import write_json
from reshelf.data.hashes import folder_sha256
from reshelf.data.signals.kept import FOLDER
from reshelf.errors import InputError
from reshelf.inference.batch.input import InputFile, ShardReader, find_files, inspect_file
from reshelf.inference.batch.output import REPORT, Tally, begin, lock_folder, read_finished
from reshelf.inference.batch.scorer import ShardScorer
from reshelf.inference.engines.engine import EngineName, choose_engine
from reshelf.inference.reranker import find_reranker
from reshelf.inference.rules import Rules, read_rules
from reshelf.modeling.loading import pick_device
from reshelf.modeling.precision import Precision, choose_precision
from reshelf.modeling.spec import ADAPTER, SPEC_FILE, read_spec
from reshelf.ranges import AT_LEAST_1, SHARE, check_numbers

Results: TypeAlias = Iterator[tuple[Tally | None, int]]


@dataclass
class BatchConfig:
    """Lists to score, and what with."""

    model: str
    """Reranker folder, or its id on the Hugging Face Hub."""
    lists: str
    """Parquet file, a folder of them, or a pattern such as 'lists/**/*.parquet'; columns as `reshelf data import`
    writes."""
    catalogue: Path
    """The items: an items.parquet, or the data set folder it is in."""
    out: Path
    """Folder for scores and rejected rows; new, or left by the same job."""
    engine: EngineName = "auto"
    """auto, transformers or vllm; auto is the faster one here by `reshelf engines`; where that was not run, vLLM if it
    is installed and there is a GPU, else transformers."""
    precision: Precision = "auto"
    """In which numbers scores are computed: float32, bfloat16, or nf4 (the 4 bits it was trained over, least memory);
    auto is bfloat16 where it was trained in that and the device multiplies it fast, else float32."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model; only for authors you trust. A model cannot ask for it."""
    shard_lists: int = 1024
    """Lists per output file: what is repeated after a crash, and what memory holds a few times."""
    item_tokens: Path | None = None
    """File of the catalogue's token ids, made first on all cores where it is not there or is stale, for this job and
    the next; where not given, items are tokenised as they come."""
    impute: bool = False
    """Rank with medians in place of numbers that the model reads and a list lacks; else, where the model cannot do
    without, that list is in first-stage order, and counted."""
    personalization: float = 1.0
    """How much of the order is the model's, from 0 (first-stage order) to 1."""
    rules: Path | None = None
    """JSON file of a merchandiser's rules: only, never, pins, boosts, limits."""
    ray: bool = False
    """Run on Ray: on the cluster of RAY_ADDRESS or the one this machine belongs to, else on this machine. All
    machines must see the same files."""
    workers: int | None = None
    """With ray, engines at once; one per GPU where not given, or one per core where there is no GPU."""

    def __post_init__(self) -> None:
        check_numbers(self, {"shard_lists": AT_LEAST_1, "workers": AT_LEAST_1, "personalization": SHARE})


@dataclass(frozen=True)
class BatchJob:
    """A checked `BatchConfig`, with paths that mean the same to every process."""

    model: Path
    catalogue: Path
    out: Path
    engine: Literal["transformers", "vllm"]
    precision: Precision
    trained_in: Literal["float32", "bfloat16"]
    files: tuple[InputFile, ...]
    shard_lists: int
    item_tokens: Path | None
    trust_remote_code: bool
    impute: bool
    personalization: float
    rules: Rules | None

    def reader(self) -> ShardReader:
        return ShardReader(self.files, self.shard_lists)

    def scorer(self) -> ShardScorer:
        """Loads the catalogue and the model."""
        return ShardScorer(self)


def batch(config: BatchConfig, console: Console | None = None) -> dict[str, Any]:
    """Run or finish a job; returns what report.json holds.

    Raises:
        InputError: something of the input, the model or the output folder cannot be used, or `out` is of another job.
            Bad rows do not raise: they go to the side files and are counted.
    """
    console = console or Console()
    job = make_job(config)
    with _machines(config) as device, lock_folder(job.out):
        job = replace(job, precision=_precision(job, device))
        begun = begin(job.out, manifest_of(job))
        done = Tally()
        finished = read_finished(job.out) if begun else {}
        for tally in finished.values():
            done.add(tally)
        reader = job.reader()
        remaining = [shard for shard in range(reader.shards) if shard not in finished]
        if begun:
            console.print(f"{done.rows:,} of {reader.rows:,} lists were done before.", highlight=False)
        before = done.rows
        seconds = _run(job, config, remaining, done, console) if remaining else 0.0
        return _finish(job.out, done, done.rows - before, seconds, console)


def make_job(config: BatchConfig) -> BatchJob:
    """Check everything that can be checked without loading the model or reading rows.

    Raises:
        InputError: names the field, or the file and the column.
    """
    if config.workers is not None and not config.ray:
        raise InputError("workers is for ray; give --ray too, or leave it out")
    items = config.catalogue / "items.parquet" if config.catalogue.is_dir() else config.catalogue
    if not items.is_file():
        raise InputError(f"catalogue: {items} is not there; give the items.parquet of a data set, or its folder")
    files = tuple(inspect_file(path.absolute(), name) for path, name in find_files(config.lists, leave_out=[items]))
    if not any(file.rows for file in files):
        raise InputError(f"lists: {config.lists} has no rows; there is nothing to score")
    model = find_reranker(config.model, None)
    trained_in = read_spec(model, config.trust_remote_code).model.dtype
    engine = choose_engine(config.engine, model)
    tokens = config.item_tokens.absolute() if config.item_tokens else None
    return BatchJob(
        model.absolute(), items.absolute(), config.out.absolute(), engine, config.precision, trained_in, files,
        config.shard_lists, tokens, config.trust_remote_code, config.impute, config.personalization,
        read_rules(config.rules) if config.rules else None,
    )  # fmt: skip


def _machines(config: BatchConfig) -> AbstractContextManager[str]:
    """What engines compute on, `cpu` or `cuda`, while Ray runs if it was asked for."""
    if not config.ray:
        return nullcontext(pick_device())
    from reshelf.inference.batch.on_ray import cluster

    return cluster()


def _precision(job: BatchJob, device: str) -> Precision:
    """In which numbers all of the job is computed, whatever machines it goes on or is resumed on."""
    if job.engine == "vllm":  # takes the type it was trained in, on every device
        return job.trained_in if job.precision == "auto" else job.precision
    return choose_precision(job.precision, job.trained_in, device)[0]


def manifest_of(job: BatchJob) -> dict[str, Any]:
    """What manifest.json holds: everything that decides what the scores are and which row is in which shard."""
    stat = job.catalogue.stat()
    return {
        "reshelf": __version__,
        "model": folder_sha256(job.model, SPEC_FILE, ADAPTER, FOLDER),
        "engine": job.engine,
        "precision": job.precision,
        "shard_lists": job.shard_lists,
        "impute": job.impute,
        "personalization": job.personalization,
        "rules": None if job.rules is None else job.rules.model_dump(mode="json"),
        "catalogue": {"size": stat.st_size, "modified": stat.st_mtime_ns},
        "files": [{k: v for k, v in asdict(file).items() if k != "path"} for file in job.files],
    }


def _run(job: BatchJob, config: BatchConfig, remaining: list[int], done: Tally, console: Console) -> float:
    """Score the shards of `remaining` under a progress bar and add what came of them to `done`.

    Returns:
        Seconds, without those of loading.
    """
    shown = (TextColumn("Scoring"), BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn())
    rows = sum(file.rows for file in job.files)
    with _results(job, config, remaining, console) as results:
        started = time.perf_counter()
        with Progress(*shown, console=console, speed_estimate_period=600, transient=True) as progress:
            bar = progress.add_task("", total=rows, completed=done.rows)
            for tally, handled in results:
                progress.advance(bar, handled)
                if tally is not None:
                    done.add(tally)
        return time.perf_counter() - started


@contextmanager
def _results(job: BatchJob, config: BatchConfig, remaining: list[int], console: Console) -> Iterator[Results]:
    """What `ShardScorer.run` gives, from this process or from Ray."""
    if config.ray:
        from reshelf.inference.batch.on_ray import on_ray

        yield on_ray(job, remaining, config.workers)
    else:
        with console.status("loading the catalogue and the model"):
            scorer = job.scorer()
        with scorer:
            yield scorer.run(remaining)


def _finish(out: Path, done: Tally, rows: int, seconds: float, console: Console) -> dict[str, Any]:
    report = {
        "lists": done.lists,
        "fallbacks": done.fallbacks,
        "incomplete": done.incomplete,
        "rejected": sum(found["rows"] for found in done.rejected.values()),
        "rejected_by_field": done.rejected,
        "rows_of_this_run": rows,
        "seconds_of_this_run": round(seconds, 3),
    }
    if not rows:
        console.print("Nothing to do: the job is finished.", highlight=False)
    else:
        speed = f"{rows:,} lists in {seconds:,.1f} s, {rows / seconds:,.1f} lists/s."
        console.print(speed, highlight=False)
    write_json(out / REPORT, report)
    console.print(f"{done.lists:,} lists scored: {out}/scores-*.parquet", highlight=False, soft_wrap=True)
    for count, what in (
        (done.fallbacks, "of them are in first-stage order: they lack numbers that the model reads; add them, or give "
            "--impute"),
        (done.incomplete, "of them were ranked without some numbers that the model reads (column missing)"),
        (report["rejected"], f"rows rejected: {out}/rejected-*.jsonl"),
    ):  # fmt: skip
        if count:
            console.print(f"[yellow]{count:,} {what}[/yellow]", highlight=False, soft_wrap=True)
    for name, found in sorted(done.rejected.items()):
        line = Text(f"  {found['rows']:,} by {name}, such as {found['example']}", "yellow")
        console.print(line, soft_wrap=True)
    return report


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Lists per second of the last minutes."""
        return Text("" if task.speed is None else f"{task.speed:,.1f} lists/s")
