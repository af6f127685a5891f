"""A base small enough to carry: its linear layers in NF4, the rest as it is, in files of at most 36 MB.

    pack_base(Path("gemma3_270m_cut"), Path("carry/base"))
    unpack_base(Path("carry/base"), Path("/tmp/base"))      # bfloat16 again, as transformers loads it

Nothing of a bfloat16 base is lost to a 4-bit run: quantised anew, the unpacked weights give the very same codes and
scales as the original ones, for a block's largest weight is exactly its scale.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from bitsandbytes.functional import QuantState, dequantize_4bit, quantize_4bit
from safetensors.torch import load, load_file, save, save_file

from reshelf.modeling.vocabulary import WEIGHTS

_PART = 36 << 20
_BLOCK = 64
_CODES, _SCALES = ".nf4", ".scales"


def pack_base(base: Path, out: Path) -> int:
    """Write a folder that `unpack_base` reads; returns its size in bytes."""
    out.mkdir(parents=True)
    packed: dict[str, torch.Tensor] = {}
    for name, weight in load_file(base / WEIGHTS).items():
        if weight.ndim == 2 and ".layers." in name:
            codes, state = quantize_4bit(weight, blocksize=_BLOCK, quant_type="nf4")
            packed[f"{name}{_CODES}.{weight.shape[0]}.{weight.shape[1]}"] = codes.flatten()
            packed[name + _SCALES] = state.absmax.to(torch.bfloat16)
        else:
            packed[name] = weight.contiguous()
    whole = save(packed)
    for n, start in enumerate(range(0, len(whole), _PART)):
        (out / f"weights.part{n:02d}").write_bytes(whole[start : start + _PART])
    for path in base.iterdir():
        if path.is_file() and path.name != WEIGHTS:
            shutil.copy(path, out)
    return sum(path.stat().st_size for path in out.iterdir())


def unpack_base(packed: Path, out: Path) -> None:
    """Write the folder of a causal LM in bfloat16."""
    out.mkdir(parents=True, exist_ok=True)
    whole = load(b"".join(path.read_bytes() for path in sorted(packed.glob("weights.part*"))))
    weights: dict[str, torch.Tensor] = {}
    for key, value in whole.items():
        if _CODES in key:
            name, _, shape = key.partition(_CODES + ".")
            rows, columns = map(int, shape.split("."))
            state = QuantState(
                absmax=whole[name + _SCALES].float(), shape=torch.Size((rows, columns)), blocksize=_BLOCK,
                quant_type="nf4", dtype=torch.bfloat16, code=_code(),
            )  # fmt: skip
            weights[name] = dequantize_4bit(value[:, None], state).reshape(rows, columns)
        elif not key.endswith(_SCALES):
            weights[key] = value
    save_file(weights, out / WEIGHTS, {"format": "pt"})
    for path in packed.iterdir():
        if path.is_file() and not path.name.startswith("weights.part"):
            shutil.copy(path, out)


def _code() -> torch.Tensor:
    _, state = quantize_4bit(torch.ones(1, _BLOCK, dtype=torch.bfloat16), blocksize=_BLOCK, quant_type="nf4")
    return state.code
