"""Config files of a base that hold something else than they should: one sentence, whatever a library makes of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from reshelf.errors import InputError
from reshelf.modeling.config import ModelConfig
from reshelf.modeling.loading import load_base


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("holds", ["[1, 2]", "5", "null", '"text"', "{cut"])
def test_a_config_file_that_holds_no_object(name: str, holds: str, base_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base_folder, tmp_path / "base"))
    (folder / name).write_text(holds)
    with pytest.raises(InputError, match=rf"{name} (holds .* must be a JSON object|cannot be read: .*); restore"):
        load_base(ModelConfig(base=str(folder)))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("config.json", {"bos_token_id": -1}),
        ("config.json", {"hidden_size": -1}),
        ("config.json", {"vocab_size": "x"}),
        ("config.json", {"rope_parameters": {"rope_theta": "x", "rope_type": "default"}}),
        ("config.json", {"rope_parameters": {"rope_theta": 1e4, "rope_type": []}}),
        ("generation_config.json", {"pad_token_id": []}),
    ],
)
def test_a_config_of_wrong_types(name: str, change: dict[str, Any], base_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base_folder, tmp_path / "base"))
    path = folder / name
    held = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**held, **change}))
    with pytest.raises(InputError, match=r"no causal language model at .*; choose a model such as"):
        load_base(ModelConfig(base=str(folder), dtype="float32"), "cpu")
