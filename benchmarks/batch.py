"""Claim: `reshelf batch` reaches nine tenths or more of the speed its engine has on prompts that are there already.

    make bench NAME=batch
    python -m benchmarks.batch --lists 60 --runs 5

Reading, validation, prompts, sorting, the progress bar and the output files are the job's overhead. Both contestants
score the same lists of the simulated marketplace in the same calls with the same 4-bit reranker in one process, and
take turns; loading the model counts for neither. The job tokenises its catalogue anew every time.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.harness import alternate, show, timed, write_result
from benchmarks.workload import BASE, simulated_tokenizer, write_workload
from reshelf.data.dataset_folder import read_items, save_dataset_folder
from reshelf.data.marketplace import MarketplaceConfig, simulate
from reshelf.inference.batch.rows import read_rows
from reshelf.inference.batch.run import BatchConfig, batch, make_job
from reshelf.inference.batch.scorer import TOKENS_PER_CALL, Shard, arrange, engine_calls
from reshelf.inference.engines.transformers_engine import TransformersEngine
from reshelf.modeling.checkpoint import save_reranker
from reshelf.modeling.config import LoraConfig, ModelConfig
from reshelf.modeling.loading import add_lora, load_base
from reshelf.modeling.merge import load_for_scoring
from reshelf.modeling.score import attach_head
from reshelf.modeling.spec import RerankerSpec
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.config import PromptConfig
from reshelf.prompts.levels import fit_levels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lists", type=int, default=60, help="lists of 40 candidates")
    parser.add_argument("--runs", type=int, default=5, help="turns of each that count; one more warms up")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_reranker(folder, args.lists)
        model, data = folder / "model", folder / "data"
        job = BatchConfig(str(model), str(data / "test.parquet"), data, folder / "out", "transformers")
        bare, tokens = engine_alone(job)
        seconds = alternate({"the engine alone": bare, "reshelf batch": lambda: whole_job(job)}, args.runs)
    rows: list[dict[str, Any]] = [
        {"contestant": name, "seconds": taken, "lists/s": args.lists / taken.median, "tokens/s": tokens / taken.median}
        for name, taken in seconds.items()
    ]
    ratios = {"batch_share_of_engine": seconds["the engine alone"].median / seconds["reshelf batch"].median}
    show(f"{args.lists} lists, {tokens} distinct tokens", rows)
    Console().print(ratios)
    model_size = "Qwen3, 256 hidden, 4 layers, 3.3 M parameters, 4-bit + LoRA"
    sizes = {"lists": args.lists, "tokens": tokens, "model": model_size, "threads": torch.get_num_threads()}
    Console().print(f"written to {write_result('batch', rows, ratios, sizes)}")


def make_reranker(folder: Path, lists: int) -> None:
    """A data set folder `data` and a random reranker `model`, as `reshelf data simulate` and `finetune` leave them."""
    config = MarketplaceConfig(train_lists=20, valid_lists=1, test_lists=lists, candidates=40)
    data = simulate(config)
    save_dataset_folder(folder / "data", data)
    write_workload(folder, [], simulated_tokenizer())
    spec = RerankerSpec(
        ModelConfig(base=str(folder / BASE), dtype="float32"),
        PromptConfig("plain", fields=["title", "brand", "price"], features=["first_stage"]),
        fit_levels(data.lists["train"], ["first_stage"]),
    )
    model, tokenizer = load_base(spec.model, "cpu")
    torch.manual_seed(0)
    model = add_lora(model, LoraConfig(rank=8))
    attach_head(model.get_base_model(), *PromptBuilder(tokenizer, spec.prompt, {}, spec.levels).label_ids)
    save_reranker(folder / "model", model, tokenizer, spec)


def engine_alone(config: BatchConfig) -> tuple[Any, int]:
    """A call that scores the job's prompts in the job's groups and returns its seconds; and the distinct tokens."""
    job = make_job(config)
    reader = job.reader()
    trained, _ = load_for_scoring(job.model)
    builder = trained.builder(read_items(job.catalogue))
    prompts = []
    for shard in range(reader.shards):
        read = [row for name, first, batch in reader.read(shard) for row in read_rows(batch, name, first)[0]]
        work = engine_calls(Shard(shard, reader.size(shard)), arrange(read), builder, TOKENS_PER_CALL["transformers"])
        prompts += [[one.prompt for one in piece.lists] for piece in work]

    def score() -> float:
        engine = TransformersEngine(trained.model)  # anew, or it would know every prefix
        return timed(lambda: [engine.score(group) for group in prompts])

    return score, sum(p.tokens for group in prompts for p in group)


def whole_job(config: BatchConfig) -> float:
    """Run the job from the beginning; its seconds without loading."""
    shutil.rmtree(config.out, ignore_errors=True)
    report = batch(config, Console(file=io.StringIO()))
    assert report["rejected"] == 0
    return float(report["seconds_of_this_run"])


if __name__ == "__main__":
    main()
