"""A base model cut to the tokens that a catalogue and its logs use: the same scores, a fraction of the memory.

    used = {i for prompt in prompts for ids in (prompt.prefix, *prompt.items) for i in ids.tolist()}
    cut_vocabulary(Path("gemma3_270m"), used | set(builder.label_ids), Path("gemma3_270m_cut"))

Small multilingual models are mostly vocabulary: of Gemma 3 270M's 268 million weights 168 million are token embeddings,
of which a shop's texts use a few thousand rows. Texts that were counted in are tokenised as before, but for the numbers
of the tokens: of the byte-pair merges all that can lead to a kept token stay, in their order. Other texts fall into
shorter tokens, and are still read.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from reshelf.errors import InputError

WEIGHTS = "model.safetensors"
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_LETTERS = "\u0180"
"""Single characters before this stay: Latin ones, and the alphabet that byte-level tokenizers write bytes in."""
_ID_FIELDS = ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "mask_token_id", "decoder_start_token_id")


def cut_vocabulary(base: Path, used: Iterable[int], out: Path) -> int:
    """Write a copy of a base whose vocabulary holds the used tokens, what they are merged from, and the special ones.

    Args:
        base: folder of a causal LM with one `model.safetensors` and a byte-pair `tokenizer.json`.
        used: ids of tokens that must stay.
        out: folder to write; it must not exist.

    Returns:
        How many tokens are left.

    Raises:
        InputError: `base` has another kind of tokenizer or several weight files, or `out` is there.
    """
    if out.exists():
        raise InputError(f"{out} is there already; choose another folder")
    if not (base / WEIGHTS).is_file():
        raise InputError(f"{base} has no {WEIGHTS}; save the model in one file (max_shard_size='100GB')")
    tokenizer = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
    if tokenizer["model"]["type"] != "BPE":
        raise InputError(f"{base}/tokenizer.json is {tokenizer['model']['type']}, and only byte-pair ones can be cut")
    special = json.loads((base / "tokenizer_config.json").read_text(encoding="utf-8"))
    kept = _closed(tokenizer, set(used), {v for k, v in special.items() if k.endswith("_token") and isinstance(v, str)})
    new = {old: n for n, old in enumerate(kept)}
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for path in base.iterdir():
        if path.is_file() and path.name not in (WEIGHTS, "tokenizer.json", "config.json", "generation_config.json"):
            shutil.copy(path, partial)
    for name in ("config.json", "generation_config.json"):
        if (base / name).is_file():
            config = _renumbered(json.loads((base / name).read_text(encoding="utf-8")), new)
            if name == "config.json":
                config["vocab_size"] = len(kept)
            (partial / name).write_text(json.dumps(config, indent=2), encoding="utf-8")
    made = json.dumps(_cut_tokenizer(tokenizer, new), ensure_ascii=False)
    (partial / "tokenizer.json").write_text(made, encoding="utf-8")
    rows = torch.tensor(kept)
    weights = {}
    with safe_open(base / WEIGHTS, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 - no mapping
            value = file.get_tensor(key)
            weights[key] = value[rows].contiguous() if key in (_EMBEDDING, _HEAD) else value
    save_file(weights, partial / WEIGHTS, {"format": "pt"})
    partial.rename(out)
    return len(kept)


def _closed(tokenizer: dict[str, Any], used: set[int], special: set[str]) -> list[int]:
    """Ids to keep, rising: the used ones, all that they are merged from, single bytes, and special tokens."""
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    added = {one["content"]: one["id"] for one in tokenizer["added_tokens"]}
    text_of = {number: text for text, number in (vocabulary | added).items()}
    makers: dict[str, list[tuple[str, str]]] = {}
    for left, right in map(_pair, tokenizer["model"]["merges"]):
        makers.setdefault(left + right, []).append((left, right))
    bytes_ = {f"<0x{n:02X}>" for n in range(256)}
    unknown = {tokenizer["model"].get("unk_token")}
    wanted = {text for text in vocabulary if text in bytes_ or (len(text) == 1 and text < _LETTERS)} | special | unknown
    queue = [text_of[n] for n in used] + [text for text in wanted if text in vocabulary or text in added]
    kept: set[str] = set()
    while queue:
        text = queue.pop()
        if text not in kept:
            kept.add(text)
            queue += [part for pair in makers.get(text, ()) for part in pair]
    return sorted({added.get(text, vocabulary.get(text, -1)) for text in kept})


def _pair(merge: str | list[str]) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _cut_tokenizer(tokenizer: dict[str, Any], new: dict[int, int]) -> dict[str, Any]:
    model = tokenizer["model"]
    vocabulary = {text: new[n] for text, n in model["vocab"].items() if n in new}
    merges = [m for m in model["merges"] if all(t in vocabulary for t in (*_pair(m), "".join(_pair(m))))]
    added = [one | {"id": new[one["id"]]} for one in tokenizer["added_tokens"] if one["id"] in new]
    cut = tokenizer | {"model": model | {"vocab": vocabulary, "merges": merges}, "added_tokens": added}
    processor = tokenizer.get("post_processor") or {}
    for token in processor.get("special_tokens", {}).values():
        token["ids"] = [new[n] for n in token["ids"]]
    return cut


def _renumbered(config: dict[str, Any], new: dict[int, int]) -> dict[str, Any]:
    """A config whose token ids are the new ones; ids of tokens that are gone are left out."""
    for name in _ID_FIELDS:
        value = config.get(name)
        if isinstance(value, int):
            config[name] = new.get(value)
        elif isinstance(value, list):
            config[name] = [new[n] for n in value if n in new]
    return config
