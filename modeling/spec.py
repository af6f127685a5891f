"""What a reranker folder says of itself, in `reshelf.json`, and how its lists are written: all but the weights.

    spec, tokenizer = read_reranker(folder)
    builder = spec.builder(tokenizer, items)

Nothing here imports torch: the service and the command line read folders whose weights another process has.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from transformers import PreTrainedTokenizerBase

from reshelf.data.dataset_folder import problem_of
from reshelf.data.hashes import folder_sha256
from reshelf.data.schema import Item
from reshelf.errors import InputError
from reshelf.modeling.artefact import check_artefact, check_base_name
from reshelf.modeling.calibration import Calibration
from reshelf.modeling.config import ModelConfig
from reshelf.modeling.lift import Lift
from reshelf.modeling.tokenizer import load_tokenizer
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.config import PromptConfig
from reshelf.prompts.item_tokens import ItemTokens
from reshelf.prompts.levels import FeatureLevels
from reshelf.prompts.parts import template_source
from reshelf.prompts.tokens import backend_text

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


def fingerprint(tokenizer: PreTrainedTokenizerBase, prompt: PromptConfig, levels: FeatureLevels) -> dict[str, str]:
    """SHA-256 of everything that decides which token ids a list becomes, part by part."""
    labels = PromptBuilder(tokenizer, prompt, {}, levels).label_ids
    parts = {
        "template": template_source(prompt),
        "prompt": json.dumps([_prompt(prompt), _levels(levels)], sort_keys=True),
        "tokenizer": backend_text(tokenizer) or json.dumps(tokenizer.get_vocab(), sort_keys=True),
        "labels": json.dumps(labels),
    }
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in parts.items()}


def _prompt(prompt: PromptConfig) -> dict[str, Any]:
    """Without a context, a memory, names in the prefix or letters where there are none, so that rerankers from before
    them stay what they were."""
    absent = [] if prompt.context else ["context", "context_tokens"]
    absent += [] if prompt.feature_names == "prefix" else ["feature_names"]
    absent += [] if prompt.level_format == "letter" else ["level_format"]
    absent += [] if prompt.memory_tokens else ["memory_tokens"]
    return {name: value for name, value in asdict(prompt).items() if name not in absent}


def _levels(levels: FeatureLevels) -> dict[str, Any]:
    """Without `missing` where it says nothing new, so that rerankers from before it stay what they were."""
    return {name: value for name, value in asdict(levels).items() if name != "missing" or value}


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
        if not isinstance(raw, dict):
            raise InputError(f"{path} holds no JSON object; restore the file or finetune again")
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
