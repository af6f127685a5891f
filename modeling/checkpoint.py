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

import copy
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedTokenizerBase

from reshelf.data.atomic import as_readable_as_others, atomic
from reshelf.data.dataset_folder import problem_of
from reshelf.data.hashes import folder_sha256
from reshelf.data.schema import Item
from reshelf.errors import InputError
from reshelf.modeling.artefact import CODE, PICKLES, check_artefact, check_base_name
from reshelf.modeling.calibration import Calibration
from reshelf.modeling.lift import Lift
from reshelf.modeling.loading import ModelConfig, load_base, load_tokenizer, pick_device
from reshelf.modeling.score import attach_head
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.config import PromptConfig
from reshelf.prompts.item_tokens import ItemTokens
from reshelf.prompts.levels import FeatureLevels
from reshelf.prompts.parts import template_source

if TYPE_CHECKING:
    import peft

SPEC_FILE = "reshelf.json"
ADAPTER = "adapter"
BASE = "base"
FORMAT = 1


@dataclass
class RerankerSpec:
    """What `reshelf.json` says."""

    model: ModelConfig
    prompt: PromptConfig
    levels: FeatureLevels
    candidates: Literal["independent", "joint"] = "independent"
    """joint: the prefix ends with the list, so that a candidate is judged beside all others."""
    fingerprint: dict[str, str] = field(default_factory=dict)
    """SHA-256 by part: template, prompt, tokenizer, labels."""
    calibration: Calibration | None = None
    """From scores to probabilities for people; None where it was not fitted."""
    lift: Lift | None = None
    """Against first-stage order, on validation lists; None where it was not measured."""
    base_commit: str = ""
    """Of a base on the Hub: the commit that it was trained over, which is the one that is loaded."""
    base_sha256: str = ""
    """Of a base in the folder: what its files were."""

    def builder(
        self, tokenizer: PreTrainedTokenizerBase, items: Mapping[str, Item], item_tokens: ItemTokens | None = None
    ) -> PromptBuilder:
        """What writes this reranker's lists."""
        joint = self.candidates == "joint"
        return PromptBuilder(tokenizer, self.prompt, items, self.levels, item_tokens, joint)


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


def fingerprint(tokenizer: PreTrainedTokenizerBase, prompt: PromptConfig, levels: FeatureLevels) -> dict[str, str]:
    """SHA-256 of everything that decides which token ids a list becomes, part by part."""
    labels = PromptBuilder(tokenizer, prompt, {}, levels).label_ids
    backend = copy.deepcopy(getattr(tokenizer, "backend_tokenizer", None))
    if backend is not None:
        # What an earlier call asked for; prompts are neither padded nor truncated by the tokenizer.
        backend.no_padding()
        backend.no_truncation()
    vocabulary = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    parts = {
        "template": template_source(prompt),
        "prompt": json.dumps([_prompt(prompt), _levels(levels)], sort_keys=True),
        "tokenizer": vocabulary,
        "labels": json.dumps(labels),
    }
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in parts.items()}


def _prompt(prompt: PromptConfig) -> dict[str, Any]:
    """Without a context, a memory or names in the prefix where there are none, so that rerankers from before them stay
    what they were."""
    absent = [] if prompt.context else ["context", "context_tokens"]
    absent += [] if prompt.feature_names == "prefix" else ["feature_names"]
    absent += [] if prompt.memory_tokens else ["memory_tokens"]
    return {name: value for name, value in asdict(prompt).items() if name not in absent}


def _levels(levels: FeatureLevels) -> dict[str, Any]:
    """Without `missing` where it says nothing new, so that rerankers from before it stay what they were."""
    return {name: value for name, value in asdict(levels).items() if name != "missing" or value}


def save_reranker(folder: Path, model: peft.PeftModel, tokenizer: PreTrainedTokenizerBase, spec: RerankerSpec) -> None:
    """Write a reranker folder. `reshelf.json` comes last: without it the folder is not a reranker."""
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


def read_spec(folder: Path, trust_remote_code: bool = False) -> RerankerSpec:
    """Read `reshelf.json`.

    Args:
        trust_remote_code: whether Python code that comes with the base may run. A folder cannot say so of itself.

    Raises:
        InputError: the folder is not a reranker, its `reshelf.json` is broken or was written by another format, or it
            needs code to be trusted and the caller does not.
    """
    path = folder / SPEC_FILE
    if not path.is_file():
        raise InputError(f"{folder} is not a reranker folder: it has no {SPEC_FILE}; make one with `reshelf finetune`")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw.pop("format") != FORMAT:
            raise InputError(f"{path}, field format: this version of reshelf reads format {FORMAT}")
        # Pydantic knows which values fields may have, the classes which fields there are.
        spec = TypeAdapter(RerankerSpec).validate_python(raw)
        parts: dict[str, type] = {"model": ModelConfig, "prompt": PromptConfig, "levels": FeatureLevels}
        optional: dict[str, type] = {"calibration": Calibration, "lift": Lift}
        parts |= {name: kind for name, kind in optional.items() if raw.get(name) is not None}
        RerankerSpec(**raw | {name: kind(**raw[name]) for name, kind in parts.items()})
    except ValidationError as error:
        raise InputError(f"{path}, {problem_of(error)}") from error
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be read: {error!r}; restore the file or finetune again") from error
    made = spec.calibration
    if made is not None and made.method == "isotonic" and not 0 < len(made.scores) == len(made.probabilities):
        raise InputError(
            f"{path}, field calibration: scores and probabilities differ in number or are empty; restore the file or "
            "finetune again"
        )
    check_base_name(spec.model.base, f"{path}, field model.base")
    if spec.model.trust_remote_code and not trust_remote_code:
        raise InputError(
            f"{path}, field model.trust_remote_code: {folder} asks to run Python code that comes with its base "
            f"{spec.model.base}; load it with trust_remote_code=True if you trust its author"
        )
    check_artefact(folder, trust_remote_code)
    if spec.model.base == BASE:
        spec.model.base = str(folder / BASE)
    # Who loads a reranker says what may run; what it was trained with says nothing.
    spec.model.trust_remote_code = trust_remote_code
    if spec.base_commit:
        spec.model.revision = spec.base_commit
    return spec


def check_fingerprint(folder: Path, tokenizer: PreTrainedTokenizerBase, spec: RerankerSpec) -> None:
    """Raises InputError where the prompt would now become other token ids than in training; says which part differs."""
    now = fingerprint(tokenizer, spec.prompt, spec.levels)
    different = [part for part, value in now.items() if spec.fingerprint.get(part) != value]
    if different:
        raise InputError(
            f"{folder / SPEC_FILE}, field fingerprint: the {' and the '.join(different)} is not what this model was "
            "trained with; use the version of reshelf and the files it was trained with, or finetune again"
        )


def base_identity(spec: RerankerSpec) -> str:
    """SHA-256 of what an adapter was trained over: the base, how it is loaded, and the label words of its head.

    Adapters that have it in common can be served over the same weights.
    """
    model = asdict(spec.model)
    base = Path(model["base"])
    if base.is_dir():  # the same base is in another place in every reranker folder
        model["base"] = spec.base_sha256 or folder_sha256(base)
    return hashlib.sha256(json.dumps([model, spec.fingerprint.get("labels")], sort_keys=True).encode()).hexdigest()


def read_reranker(folder: Path, trust_remote_code: bool = False) -> tuple[RerankerSpec, PreTrainedTokenizerBase]:
    """What a reranker folder says and its tokenizer, without the weights: enough to write prompts.

    Raises:
        InputError: see `read_spec`; or the fingerprint differs.
    """
    spec = read_spec(folder, trust_remote_code)
    tokenizer = load_tokenizer(str(folder), trust_remote_code=trust_remote_code)
    check_fingerprint(folder, tokenizer, spec)
    return spec, tokenizer


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
    from peft import PeftModel  # takes seconds to import; who reads only the spec does not wait for it

    with reading_adapter(folder) as adapter:
        model = PeftModel.from_pretrained(base, str(adapter))
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
            _check_adapter(adapter / "adapter_model.safetensors")
            yield adapter
    except InputError:
        raise
    except (SafetensorError, ValueError, RuntimeError, TypeError, UserWarning) as error:
        first, _, more = str(error).partition("\n")
        # torch says on the first line that something is wrong, and what on the next.
        problem = f"{first} {more.strip().splitlines()[0]}" if first.endswith(":") and more.strip() else first
        raise InputError(f"{adapter} cannot be read: {problem}") from error


def _check_adapter(path: Path) -> None:
    """A reranker uses LoRA on linear layers below the head. peft ignores other weights, or engines would."""
    with safe_open(path, "pt") as weights:
        for name in weights.keys():  # noqa: SIM118
            if not name.endswith((".lora_A.weight", ".lora_B.weight")) or "lm_head" in name:
                raise InputError(
                    f"{path} holds the trained weight {name!r}, which a reranker does not use; train LoRA on linear "
                    "layers below the vocabulary head alone"
                )
            if not weights.get_tensor(name).isfinite().all():
                raise InputError(f"{path}: its weight {name!r} holds NaN or infinite numbers; finetune again")


def _copy_base(source: Path, target: Path) -> None:
    """Put the base beside the adapter: a later change of the original must not change a finished reranker."""
    if target.resolve() == source.resolve():
        return
    shutil.rmtree(target, ignore_errors=True)
    unwanted = (f"*{suffix}" for suffix in sorted(PICKLES | CODE))
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(".*", "checkpoints", *unwanted))
