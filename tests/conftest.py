"""What every test may use: the place of the real data, and skips that say why."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]

# Tests must give the same answer twice, and must not wait for a network that is not there.
hypothesis.settings.register_profile("reshelf", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.load_profile("reshelf")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Tiny models gain nothing from a second thread, and lose minutes to it on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--data-root",
        default="../shared/data",
        help="folder of the real data sets; a relative path counts from the repository's root",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    long = {item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("vllm")}
    items.sort(key=lambda item: item.path not in long)  # no worker is left alone with a long file at the end
    reasons = {"vllm": _why_no_vllm(), "gpu": _why_no_gpu(items)}
    for item in items:
        for marker, reason in reasons.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def _why_no_vllm() -> str | None:
    if importlib.util.find_spec("vllm"):
        return None
    return "vLLM is not installed (no build of it for this platform, or installed without the vllm extra)"


def _why_no_gpu(items: list[pytest.Item]) -> str | None:
    if not any(item.get_closest_marker("gpu") for item in items):
        return None  # spares the import
    import torch

    return None if torch.cuda.is_available() else "no CUDA device"


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def data_root(request: pytest.FixtureRequest) -> Path:
    """Folder of the real data sets. A test that uses it also carries the marker `data`."""
    folder = (ROOT / request.config.getoption("--data-root")).resolve()
    if not folder.is_dir():
        pytest.skip(f"the real data sets are not in {folder}; name their place with --data-root")
    return folder
