"""What a reranker folder may hold. It is checked before any library opens it: a downloaded artefact is data.

    check_artefact(folder)                                  # raises InputError; reads names, links and JSON only
    check_artefact(folder, trust_remote_code=True)          # its author may run code here: the caller says so

Refused are pickles, which run code when they are read, Python files and the keys that make a library import some, links
and names that lead out of the folder, attention kernels named from the Hub, and adapters of any kind but plain LoRA:
some others import a module that their config names.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reshelf.errors import InputError

PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".msgpack", ".h5", ".npy", ".npz"})
CODE = frozenset({".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".sh"})
MOST_JSON = 256 << 20
"""Bytes of a JSON file; tokenizers of large vocabularies have some 40 MB."""
_OBJECTS = (
    "config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "adapter_config.json",
)  # fmt: skip
"""Files that hold a JSON object. Of anything else in one, libraries say what their own code stumbled over."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_KERNELS = re.compile(r"(attn|experts)_implementation")
_LORA_KEYS = frozenset({
    "task_type", "peft_type", "peft_version", "base_model_name_or_path", "revision", "inference_mode", "r",
    "target_modules", "exclude_modules", "lora_alpha", "lora_dropout", "fan_in_fan_out", "bias", "use_rslora",
    "init_lora_weights", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "megatron_core",
    "qalora_group_size",
})  # fmt: skip
"""What the config of a plain LoRA adapter says; every other key must be empty."""


def check_artefact(folder: Path, trust_remote_code: bool = False) -> None:
    """Refuse a reranker folder that could do more than be read.

    Args:
        folder: of the reranker, with `adapter/` and perhaps `base/`.
        trust_remote_code: whether Python code that comes with it may run.

    Raises:
        InputError: names the file, and the field where there is one.
    """
    for path in sorted(folder.rglob("*")):
        _check_place(path, folder)
        if path.is_dir():
            continue
        if path.suffix in PICKLES:
            raise InputError(f"{path} may run code when it is read; a reranker's weights are safetensors")
        if path.suffix in CODE and not trust_remote_code:
            raise InputError(f"{path} is code; remove it, or load with trust_remote_code=True if you trust its author")
        if path.suffix == ".json":
            _check_json(path, trust_remote_code)
    if (folder / "base" / "adapter_config.json").exists():
        raise InputError(f"{folder}/base/adapter_config.json: a base is a whole model; merge its adapter first")
    if (folder / "adapter" / "adapter_config.json").is_file():
        _check_lora(folder / "adapter" / "adapter_config.json")


def check_base_name(base: str, where: str) -> None:
    """A base that an artefact names is its own `base` folder or an id on the Hub, never a path of this machine.

    Raises:
        InputError: with `where` it was named.
    """
    if not _HUB_ID.fullmatch(base) or ".." in base:
        raise InputError(f"{where}: {base!r} is neither `base` nor an id on the Hugging Face Hub")
    if base != "base" and Path(base).exists():
        raise InputError(f"{where}: {base!r} is an id on the Hub, but a folder here has that name; rename the folder")


def check_objects(folder: Path) -> None:
    """Refuse a model folder one of whose config files is no JSON object.

    Raises:
        InputError: names the file.
    """
    for path in (folder / name for name in _OBJECTS):
        if path.is_file():
            _check_object(path, _read_json(path))


def _check_object(path: Path, read: Any) -> None:
    if path.name in _OBJECTS and not isinstance(read, dict):
        raise InputError(f"{path} holds {_short(read)}, and it must be a JSON object; restore the file")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}; restore the file") from error


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _check_place(path: Path, folder: Path) -> None:
    """Links stay inside, or in the store of the Hub's cache that a snapshot is made of."""
    if not path.is_symlink():
        return
    target, inside = path.resolve(), [folder.resolve()]
    if folder.parent.name == "snapshots":
        inside.append(folder.resolve().parent.parent / "blobs")
    if not any(target.is_relative_to(one) for one in inside):
        raise InputError(f"{path} is a link that leads out of the folder; put the file itself there")


def _check_json(path: Path, trust_remote_code: bool) -> None:
    if path.stat().st_size > MOST_JSON:
        raise InputError(f"{path} has more than {MOST_JSON >> 20} MB; it is no part of a reranker")
    if path.name in ("tokenizer.json", "vocab.json", "reshelf.json"):  # no library takes the name of code from these
        return
    read = _read_json(path)
    _check_object(path, read)
    for key, value in _fields(read):
        if key == "auto_map" and value and not trust_remote_code:
            raise InputError(
                f"{path}, field auto_map: it names Python code to run; load with trust_remote_code=True if you trust "
                "its author"
            )
        if _KERNELS.search(key) and isinstance(value, str) and "/" in value:
            raise InputError(f"{path}, field {key}: {value!r} is a kernel to be downloaded and run; remove the field")


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key of nested objects, with its value."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield from one.items()
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def _check_lora(path: Path) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise InputError(f"{path}, field peft_type: a reranker's adapter is LORA")
    for key, value in config.items():
        if key not in _LORA_KEYS and value not in (None, False, [], {}):
            raise InputError(f"{path}, field {key}: a reranker's adapter is plain LoRA, and {key} is not part of it")
    if config.get("task_type") not in (None, "CAUSAL_LM"):  # for QUESTION_ANS peft drops the positions of tokens
        raise InputError(f"{path}, field task_type: {_short(config['task_type'])}; a reranker's adapter is CAUSAL_LM")
    for key in ("init_lora_weights", "use_rslora", "fan_in_fan_out"):
        if not isinstance(config.get(key, True), bool):
            raise InputError(f"{path}, field {key}: {config[key]!r}; it is true or false")
    # Their ratio scales what was trained; a pattern has another one for some layers.
    for key, pattern, kinds in (("r", "rank_pattern", (int,)), ("lora_alpha", "alpha_pattern", (int, float))):
        layers = config.get(pattern) or {}
        if not isinstance(layers, dict):
            raise InputError(f"{path}, field {pattern}: {_short(layers)}; it is an object of numbers above 0")
        for field, value in ((key, config.get(key, 1)), *((f"{pattern}.{name}", one) for name, one in layers.items())):
            if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < math.inf:
                raise InputError(f"{path}, field {field}: {value!r}; it is a finite number above 0")
