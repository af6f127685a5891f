"""A trained reranker is one folder.

    save_reranker(folder, model, tokenizer, spec)
    trained = load_reranker(folder)
    builder = trained.builder(items)
    scores = score(trained.model, pack([builder.build(ranking)]).to(trained.device))

It holds the adapter, the tokenizer, `reshelf.json` (what the model was trained over and how its prompt is made, with
fingerprints) and, where the base was a local folder, the base itself. A folder whose prompt this version of the code
would make differently is refused.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import safe_open
from transformers import PreTrainedTokenizerBase

from reshelf.data.atomic import as_readable_as_others, atomic, finish_replacing, taking_over
from reshelf.data.hashes import folder_sha256
from reshelf.data.schema import Item
from reshelf.errors import InputError, first_line
from reshelf.modeling.artefact import CODE, PICKLES
from reshelf.modeling.loading import load_base, pick_device
from reshelf.modeling.score import attach_head
from reshelf.modeling.spec import ADAPTER, BASE, FORMAT, SPEC_FILE, RerankerSpec, fingerprint, read_reranker
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.item_tokens import ItemTokens

if TYPE_CHECKING:
    import peft


@dataclass
class TrainedReranker:
    """A loaded reranker: model on its device, tokenizer and spec."""

    folder: Path
    model: Any
    tokenizer: PreTrainedTokenizerBase
    spec: RerankerSpec
    device: str

    def builder(self, items: Mapping[str, Item], item_tokens: ItemTokens | None = None) -> PromptBuilder:
        return self.spec.builder(self.tokenizer, items, item_tokens)


def save_reranker(folder: Path, model: peft.PeftModel, tokenizer: PreTrainedTokenizerBase, spec: RerankerSpec) -> None:
    """Write a reranker folder. One that is there already stays, whole, until the new one is."""
    with replacing_reranker(folder) as partial:
        _write(partial, model, tokenizer, spec)


@contextmanager
def replacing_reranker(folder: Path, without: Collection[str] = ()) -> Iterator[Path]:
    """A folder to write to, which takes the place of the reranker in `folder` when the block ends without an error;
    what else lies there comes along, but for the names in `without`. Where there is none yet, `folder` itself.

    Raises:
        InputError: it cannot be written, or another process saves there.
    """
    finish_replacing(folder)
    if (folder / SPEC_FILE).is_file():
        with taking_over(folder, "save", {BASE, *without}) as partial:
            yield partial
    else:
        yield folder


def _write(folder: Path, model: peft.PeftModel, tokenizer: PreTrainedTokenizerBase, spec: RerankerSpec) -> None:
    """`reshelf.json` comes last: without it the folder is not a reranker."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SPEC_FILE).unlink(missing_ok=True)
    model.save_pretrained(str(folder / ADAPTER), safe_serialization=True)
    (folder / ADAPTER / "README.md").unlink(missing_ok=True)
    tokenizer.save_pretrained(folder)
    base = Path(spec.model.base)
    stored = asdict(spec) | {"format": FORMAT, "fingerprint": fingerprint(tokenizer, spec.prompt, spec.levels)}
    if base.is_dir():
        _copy_base(base, folder / BASE)
        stored["model"]["base"] = BASE
        stored["base_sha256"] = folder_sha256(folder / BASE)
    else:
        stored["base_commit"] = getattr(model.get_base_model().config, "_commit_hash", None) or ""
    as_readable_as_others(folder)
    with atomic(folder / SPEC_FILE) as partial:
        partial.write_text(json.dumps(stored, indent=2, ensure_ascii=False), encoding="utf-8")


def load_reranker(
    folder: Path | str,
    device: str | None = None,
    trust_remote_code: bool = False,
    dtype: Literal["float32", "bfloat16"] | None = None,
) -> TrainedReranker:
    """Load a reranker folder for scoring.

    Args:
        dtype: to compute in; what it was trained in where not given. The weights are the same.

    Raises:
        InputError: see `read_spec` and `load_base`; or the fingerprint differs; or the adapter is not there or broken.
    """
    folder = Path(folder)
    spec, tokenizer = read_reranker(folder, trust_remote_code)
    device = device or pick_device()
    with ThreadPoolExecutor(1, "hash") as pool:  # a second for 250 MB, in which the base is read anyway
        unchanged = pool.submit(lambda: not spec.base_sha256 or folder_sha256(folder / BASE) == spec.base_sha256)
        base, _ = load_base(replace(spec.model, dtype=dtype or spec.model.dtype), device)
        if not unchanged.result():
            raise InputError(
                f"{folder / BASE} is not the base that this adapter was trained over: its files changed; restore them, "
                "or finetune again"
            )
    attach_head(base, *PromptBuilder(tokenizer, spec.prompt, {}, spec.levels).label_ids)
    # peft takes seconds to import; who reads only the spec does not wait for it.
    from peft import PeftModel

    from reshelf.modeling.low_rank import fuse_updates

    with reading_adapter(folder) as adapter:
        model = PeftModel.from_pretrained(base, str(adapter))
    fuse_updates(model)
    return TrainedReranker(folder, model.eval(), tokenizer, spec, device)


@contextmanager
def reading_adapter(folder: Path) -> Iterator[Path]:
    """The adapter's folder, while peft reads it.

    Raises:
        InputError: a file is missing, or peft cannot read it, or not all of the weights are there; or there are
            weights that a reranker would not use, or ones that are no numbers.
    """
    adapter = folder / ADAPTER
    missing = [name for name in ("adapter_config.json", "adapter_model.safetensors") if not (adapter / name).is_file()]
    if missing:
        raise InputError(f"{adapter} has no {missing[0]}; restore the file or finetune again")
    closed = [path for path in adapter.iterdir() if not os.access(path, os.R_OK)]
    if closed:
        raise InputError(f"{closed[0]} may not be read by this user; change its permissions")
    try:
        with warnings.catch_warnings():
            # peft only warns of weights that the file does not have, and leaves those untrained.
            warnings.filterwarnings("error", message="Found missing adapter keys")
            _check_adapter(adapter)
            yield adapter
    except (InputError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of a value of the wrong type, peft raises any kind
        raise InputError(
            f"{adapter} cannot be read: {first_line(error)}; restore its files or finetune again"
        ) from error


def _check_adapter(adapter: Path) -> None:
    """A reranker uses LoRA on linear layers below the head. peft ignores other weights, or engines would; and so it
    does those of layers that the config leaves out, which vLLM uses."""
    from peft import LoraConfig
    from peft.tuners.tuners_utils import check_target_module_exists

    path = adapter / "adapter_model.safetensors"
    config = LoraConfig.from_pretrained(str(adapter))
    every = config.target_modules == "all-linear"
    with safe_open(path, "pt") as weights:
        for name in weights.keys():  # noqa: SIM118
            if not name.endswith((".lora_A.weight", ".lora_B.weight")) or "lm_head" in name:
                raise InputError(
                    f"{path} holds the trained weight {name!r}, which a reranker does not use; train LoRA on linear "
                    "layers below the vocabulary head alone"
                )
            layer = name.removeprefix("base_model.model.").rpartition(".lora_")[0]
            if not every and not check_target_module_exists(config, layer):
                raise InputError(
                    f"{path} holds the trained weight {name!r}, and adapter_config.json leaves that layer out "
                    "(target_modules, exclude_modules, layers_to_transform); restore its files or finetune again"
                )
            if not weights.get_tensor(name).isfinite().all():
                raise InputError(f"{path}: its weight {name!r} holds NaN or infinite numbers; finetune again")


def _copy_base(source: Path, target: Path) -> None:
    """Put the base beside the adapter: a later change of the original must not change a finished reranker."""
    if target.resolve() == source.resolve():
        return
    shutil.rmtree(target, ignore_errors=True)
    unwanted = shutil.ignore_patterns(".*", "checkpoints", *(f"*{suffix}" for suffix in sorted(PICKLES | CODE)))
    own = target.resolve(), target.parent.resolve()  # a reranker in its base's folder would be copied into itself

    def left_out(folder: str, names: list[str]) -> set[str]:
        paths = {name: Path(folder) / name for name in names}
        rerankers = {name for name, path in paths.items() if path.resolve() in own or (path / SPEC_FILE).exists()}
        return unwanted(folder, names) | rerankers

    shutil.copytree(source, target, ignore=left_out)
