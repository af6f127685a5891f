"""A downloaded reranker is data: it can run no code of its author's, whatever it says."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from reshelf.errors import InputError
from reshelf.modeling.artefact import check_artefact, check_base_name
from reshelf.modeling.checkpoint import load_reranker, save_reranker
from reshelf.modeling.config import LoraConfig, ModelConfig
from reshelf.modeling.loading import add_lora, load_base
from reshelf.modeling.spec import RerankerSpec, read_spec
from reshelf.prompts.config import PromptConfig
from reshelf.prompts.levels import FeatureLevels


@pytest.fixture(scope="module")
def reranker_folder(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = ModelConfig(base=str(base_folder), dtype="float32")
    model, tokenizer = load_base(config, "cpu")
    folder = tmp_path_factory.mktemp("artefact") / "model"
    spec = RerankerSpec(config, PromptConfig(template="plain"), FeatureLevels())
    save_reranker(folder, add_lora(model, LoraConfig(rank=2)), tokenizer, spec)
    return folder


@pytest.fixture
def folder(reranker_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(reranker_folder, tmp_path / "model")
    return tmp_path / "model"


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | fields), encoding="utf-8")


def refused(folder: Path, words: str) -> None:
    """By name, through the door that every command uses, and before anything is loaded."""
    with pytest.raises(InputError, match=words):
        read_spec(folder)


def test_one_that_we_wrote_is_accepted(folder: Path) -> None:
    check_artefact(folder)
    assert read_spec(folder).base_sha256


class Marker:
    """What a pickle could do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("place", ["adapter/adapter_model.bin", "base/pytorch_model.bin", "base/optimizer.pt", "x.pkl"])
def test_pickles(folder: Path, tmp_path: Path, place: str) -> None:
    (folder / place).write_bytes(pickle.dumps(Marker(tmp_path / "ran")))
    refused(folder, re.escape(place) + " may run code")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("place", ["base/modeling_shop.py", "tokenization_shop.py", "adapter/x.so", "torch.py"])
def test_code(folder: Path, place: str) -> None:
    (folder / place).write_text("raise SystemExit")
    refused(folder, f"{place} is code")
    check_artefact(folder, trust_remote_code=True)


@pytest.mark.parametrize("place", ["base/config.json", "tokenizer_config.json", "base/generation_config.json"])
@pytest.mark.parametrize("nested", [False, True])
def test_keys_that_name_code(folder: Path, place: str, nested: bool) -> None:
    fields = {"auto_map": {"AutoConfig": "someone/code--module.Config"}}
    if not (folder / place).exists():
        (folder / place).write_text("{}")
    change(folder / place, **({"text_config": [fields]} if nested else fields))
    refused(folder, f"{place}, field auto_map")


def test_kernels_from_the_hub(folder: Path) -> None:
    change(folder / "base" / "config.json", _attn_implementation="someone/kernel")
    refused(folder, "_attn_implementation: 'someone/kernel' is a kernel to be downloaded")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"peft_type": "PREFIX_TUNING"}, "peft_type"),
        ({"megatron_config": {"x": 1}, "megatron_core": "os"}, "megatron_config"),
        ({"corda_config": {"cache_file": "x"}}, "corda_config"),
        ({"auto_mapping": {"parent_library": "os"}}, "auto_mapping"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"task_type": "QUESTION_ANS"}, "task_type"),
        ({"use_dora": True}, "use_dora"),
        ({"init_lora_weights": "eva"}, "init_lora_weights"),
        ({"init_lora_weights": "pissa_niter_16"}, "init_lora_weights"),
        ({"a_key_of_tomorrow": "x"}, "a_key_of_tomorrow"),
    ],
)
def test_adapters_of_other_kinds(folder: Path, fields: dict[str, Any], words: str) -> None:
    change(folder / "adapter" / "adapter_config.json", **fields)
    refused(folder, f"adapter_config.json, field {words}")


def test_a_base_that_is_an_adapter_over_another_one(folder: Path) -> None:
    (folder / "base" / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/model"}')
    refused(folder, "a base is a whole model")


@pytest.mark.parametrize("name", ["/etc", "../other", "base/../../x", "./base", "~/base", "a/b/c", "", "C:\\x", "a\nb"])
def test_bases_elsewhere(folder: Path, name: str) -> None:
    spec = json.loads((folder / "reshelf.json").read_text())
    change(folder / "reshelf.json", model=spec["model"] | {"base": name})
    refused(folder, "field model.base")


def test_a_hub_id_is_not_read_from_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_base_name("shop/base", "here")
    (tmp_path / "shop" / "base").mkdir(parents=True)
    with pytest.raises(InputError, match="a folder here has that name"):
        check_base_name("shop/base", "here")


def test_links_that_lead_out(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("{}")
    (folder / "base" / "extra.json").symlink_to(tmp_path / "secret.json")
    refused(folder, "extra.json is a link that leads out of the folder")


def test_a_snapshot_of_the_hub_is_made_of_links(folder: Path, tmp_path: Path) -> None:
    blobs = tmp_path / "models--shop--model" / "blobs"
    snapshot = blobs.parent / "snapshots" / "0123"
    snapshot.parent.mkdir(parents=True)
    blobs.mkdir()
    shutil.move(folder, snapshot)
    shutil.move(snapshot / "reshelf.json", blobs / "abc")
    (snapshot / "reshelf.json").symlink_to("../../blobs/abc")
    read_spec(snapshot)


def test_a_base_that_changed_is_said_to_have(folder: Path) -> None:
    change(folder / "base" / "config.json", rms_norm_eps=0.1)
    with pytest.raises(InputError, match="is not the base that this adapter was trained over: its files changed"):
        load_reranker(folder, "cpu")


@pytest.mark.parametrize(
    "name", ["adapter/adapter_config.json", "base/generation_config.json", "tokenizer_config.json"]
)
@pytest.mark.parametrize("holds", ["[1, 2]", "5", "null"])
def test_a_config_file_that_holds_no_object(folder: Path, name: str, holds: str) -> None:
    (folder / name).write_text(holds)
    refused(folder, rf"{name} holds .* must be a JSON object; restore the file")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("r", "x"),
        ("r", -1),
        ("r", True),
        ("lora_alpha", []),
        ("lora_alpha", -1),
        ("lora_alpha", float("inf")),
        ("rank_pattern", {"q_proj": 0}),
        ("alpha_pattern", {"q_proj": float("inf")}),
        ("alpha_pattern", [1]),
        ("use_rslora", {"a": 1}),
        ("fan_in_fan_out", "x"),
    ],
)
def test_a_scale_of_the_adapter_that_is_none(folder: Path, field: str, value: Any) -> None:
    change(folder / "adapter" / "adapter_config.json", **{field: value})
    refused(folder, rf"adapter_config.json, field {field}[^:]*: .*; it is ")


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("adapter/adapter_config.json", {"bias": 5}),
        ("adapter/adapter_config.json", {"target_modules": [1]}),
        ("tokenizer_config.json", {"model_max_length": "x"}),
        ("tokenizer_config.json", {"model_max_length": []}),
    ],
)
def test_values_of_wrong_types_that_only_a_library_reads(folder: Path, name: str, fields: dict[str, Any]) -> None:
    change(folder / name, **fields)
    with pytest.raises(
        InputError, match=r"(cannot be read|no tokenizer at|leaves that layer out) ?.*; restore its files"
    ):
        load_reranker(folder, "cpu")
