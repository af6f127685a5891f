"""Finetune a real language model on prepared data sets and time it, each part within its share of the minutes.

    python -m benchmarks.gpu --base carry/base --data carry/data --minutes 10 --out results
    python -m benchmarks.gpu --base carry/base --data carry/data --minutes 3 --out results --parts speed --device cpu

`finetune_NAME` trains by the recipe benchmarks/gpu/NAME.yaml over the base in 4 bits, and scores the test lists with
the merged weights: as they are, without history, and with the history of another shopper. Needs torch, transformers,
peft and bitsandbytes; no DuckDB, LightGBM or vLLM. A part that fails says so in its file, and the next one begins.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

PARTS = (
    "speed",
    "finetune_bestbuy",
    "finetune_crowdflower",
    "finetune_beauty_search",
    "finetune_homedepot",
)
SHARES = {
    "speed": 1.2, "finetune_bestbuy": 6.0, "finetune_crowdflower": 1.2,
    "finetune_beauty_search": 3.5, "finetune_homedepot": 2.0,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="base folder, packed by benchmarks.gpu.prepare or not")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set folders")
    parser.add_argument("--out", type=Path, required=True, help="folder for one JSON and one .npz of scores per part")
    parser.add_argument("--minutes", type=float, default=10.0, help="for all parts together")
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated, of: " + ", ".join(PARTS))
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda where there is one")
    args = parser.parse_args()
    parts = args.parts.split(",")
    if unknown := sorted(set(parts) - set(PARTS)):
        parser.error(f"there is no part {unknown[0]!r}; choose from {', '.join(PARTS)}")
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch is imported: nothing in this process sees a GPU
    end = time.monotonic() + 60 * args.minutes
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        base = _base(args.base, Path(temporary))
        for n, name in enumerate(parts):
            left = end - time.monotonic()
            seconds = left * SHARES[name] / sum(SHARES[later] for later in parts[n:])
            _run(name, partial(_work, name, base, args.data, Path(temporary), args.out), seconds, args.out)


def _base(base: Path, temporary: Path) -> Path:
    if not any(base.glob("weights.part*")):
        return base
    from benchmarks.gpu.packed_base import unpack_base

    unpack_base(base, temporary / "base")
    return temporary / "base"


def _work(name: str, base: Path, data: Path, temporary: Path, out: Path, seconds: float) -> dict[str, Any]:
    if name == "speed":
        from benchmarks.gpu.speed import qwen3_shape, speed

        return speed(qwen3_shape(temporary / "qwen3", base), seconds)
    from benchmarks.gpu.finetune_part import finetune_part

    return finetune_part(name.removeprefix("finetune_"), base, data, temporary, out, seconds)


def _run(name: str, work: Callable[[float], dict[str, Any]], seconds: float, out: Path) -> None:
    """Write NAME.json: what the part found, or why it failed, with what it ran on."""
    import torch

    start = time.monotonic()
    try:
        found = work(seconds)
    except Exception:
        traceback.print_exc()
        found = {"failed": traceback.format_exc()}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    whole = {"part": name, "device": device, "torch": torch.__version__, "seconds": time.monotonic() - start, **found}
    (out / f"{name}.json").write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    print(f"== {name}: {whole['seconds']:.0f} s", {k: v for k, v in found.items() if isinstance(v, float)}, flush=True)


if __name__ == "__main__":
    main()
