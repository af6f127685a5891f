"""A reranker folder gives back the scores it was saved with, or says in one sentence why it cannot."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from reshelf.data.hashes import folder_sha256
from reshelf.data.schema import Item, RankingList
from reshelf.errors import InputError
from reshelf.finetune.pretraining.tokenizer import train_tokenizer
from reshelf.modeling.checkpoint import load_reranker, save_reranker
from reshelf.modeling.config import LoraConfig, ModelConfig
from reshelf.modeling.loading import add_lora, load_base
from reshelf.modeling.packing import pack
from reshelf.modeling.score import attach_head, score
from reshelf.modeling.spec import RerankerSpec, base_identity, fingerprint, read_spec
from reshelf.modeling.tokenizer import load_tokenizer
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.config import PromptConfig
from reshelf.prompts.levels import FeatureLevels

ITEMS = {f"p{n}": Item(item_id=f"p{n}", title=f"red oak chair №{n}", price=10.0 * n) for n in range(5)}
LIST = RankingList(list_id="l", user_id="u", query="oak", candidates=tuple(ITEMS), scores=(5.0, 4.0, 3.0, 2.0, 1.0))
PROMPT = PromptConfig(template="plain", features=["first_stage"])
LINEAR = [f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")]
LEVELS = FeatureLevels({"first_stage": [1.5, 3.5]})


@pytest.fixture(scope="session", params=["4-bit", "float32"])
def saved(request: pytest.FixtureRequest, base_folder: Path, tmp_path_factory: Any) -> tuple[Path, np.ndarray]:
    """A reranker folder, and the scores of LIST by the model that was saved in it."""
    config = ModelConfig(base=str(base_folder), quantise=request.param == "4-bit", dtype="float32")
    model, tokenizer = load_base(config, "cpu")
    builder = PromptBuilder(tokenizer, PROMPT, ITEMS, LEVELS, joint=True)
    attach_head(model, *builder.label_ids)
    torch.manual_seed(1)
    model = add_lora(model, LoraConfig(rank=4, alpha=8, dropout=0.1)).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    with torch.no_grad():
        scores = score(model, pack([builder.build(LIST)])).numpy()
    folder = tmp_path_factory.mktemp("reranker") / "model"
    save_reranker(folder, model, tokenizer, RerankerSpec(config, PROMPT, LEVELS, "joint"))
    return folder, scores


@pytest.fixture
def folder(saved: tuple[Path, np.ndarray], tmp_path: Path) -> Path:
    """A copy of a saved folder, to be broken."""
    return Path(shutil.copytree(saved[0], tmp_path / "model"))


def load(folder: Path) -> np.ndarray:
    trained = load_reranker(folder, "cpu")
    with torch.no_grad():
        return score(trained.model, pack([trained.builder(ITEMS).build(LIST)])).numpy()


class TestRoundTrip:
    def test_scores_are_the_same_to_the_bit(self, saved: tuple[Path, np.ndarray]) -> None:
        found = load(saved[0])
        assert float(found.std()) > 0.01
        assert found.tolist() == saved[1].tolist()

    def test_the_folder_needs_nothing_outside_it(self, folder: Path, saved: tuple[Path, np.ndarray]) -> None:
        moved = folder.rename(folder.with_name("moved"))
        assert read_spec(moved).model.base == str(moved / "base")
        assert json.loads((moved / "reshelf.json").read_text())["model"]["base"] == "base"
        assert load(moved).tolist() == saved[1].tolist()

    def test_the_spec_comes_back(self, saved: tuple[Path, np.ndarray]) -> None:
        trained = load_reranker(saved[0], "cpu")
        assert trained.spec.prompt == PROMPT
        assert trained.spec.levels == LEVELS
        assert trained.spec.candidates == "joint"
        assert set(trained.spec.fingerprint) == {"template", "prompt", "tokenizer", "labels"}
        assert not trained.model.training

    def test_weights_are_safetensors_only(self, saved: tuple[Path, np.ndarray]) -> None:
        assert {p.suffix for p in saved[0].rglob("*") if p.is_file()} <= {".json", ".safetensors", ".jinja"}

    def test_others_may_read_it(self, saved: tuple[Path, np.ndarray]) -> None:
        """A container's user is another one than who finetuned."""
        plain = saved[0].parent / "plain"
        plain.touch()
        assert {p.stat().st_mode for p in saved[0].rglob("*") if p.is_file()} == {plain.stat().st_mode}

    def test_saving_a_loaded_one_again(self, folder: Path, saved: tuple[Path, np.ndarray]) -> None:
        """In place too: the base must not delete itself."""
        trained = load_reranker(folder, "cpu")
        save_reranker(folder, trained.model, trained.tokenizer, trained.spec)
        assert load(folder).tolist() == saved[1].tolist()

    def test_in_the_folder_of_its_base(self, base_folder: Path, tmp_path: Path, saved: tuple[Path, np.ndarray]) -> None:
        trained = load_reranker(saved[0], "cpu")
        base = Path(shutil.copytree(base_folder, tmp_path / "base"))
        trained.spec.model.base = str(base)
        for _ in range(2):  # a second one takes the first one's place
            save_reranker(base / "model", trained.model, trained.tokenizer, trained.spec)
            assert load(base / "model").tolist() == saved[1].tolist()
            assert not (base / "model" / "base" / "model").exists()

    def test_a_save_that_was_cut_short_is_not_a_reranker(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        trained = load_reranker(folder, "cpu")

        def fails(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(trained.model, "save_pretrained", fails)
        with pytest.raises(KeyboardInterrupt):
            save_reranker(folder.with_name("new"), trained.model, trained.tokenizer, trained.spec)
        refused(folder.with_name("new"), "is not a reranker folder")


def change(folder: Path, *path: str, to: Any) -> None:
    spec = json.loads((folder / "reshelf.json").read_text())
    where = spec
    for key in path[:-1]:
        where = where[key]
    where[path[-1]] = to
    (folder / "reshelf.json").write_text(json.dumps(spec))


def refused(folder: Path, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        load_reranker(folder, "cpu")
    assert "\n" not in str(caught.value)


class TestFingerprint:
    def test_another_budget(self, folder: Path) -> None:
        change(folder, "prompt", "item_tokens", to=17)
        refused(folder, "the prompt is not what")

    def test_other_levels(self, folder: Path) -> None:
        change(folder, "levels", "edges", "first_stage", to=[1.5, 3.6])
        refused(folder, "the prompt is not what")

    def test_one_that_never_saw_missing_numbers_is_what_it_was_before_there_were_any(
        self, folder: Path, saved: tuple[Path, np.ndarray]
    ) -> None:
        later = ("context", "context_tokens", "memory_tokens", "feature_names", "level_format")
        before = {name: value for name, value in asdict(PROMPT).items() if name not in later}
        prompt = json.dumps([before, {"edges": LEVELS.edges}], sort_keys=True)
        assert read_spec(folder).fingerprint["prompt"] == hashlib.sha256(prompt.encode()).hexdigest()
        change(folder, "levels", to={"edges": LEVELS.edges})
        assert load(folder).tolist() == saved[1].tolist()
        change(folder, "levels", "missing", to=True)
        refused(folder, "the prompt is not what")

    def test_another_context(self, folder: Path) -> None:
        change(folder, "prompt", "context", to=["device"])
        refused(folder, "the template and the prompt is not what")

    def test_another_template(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from reshelf.modeling import spec

        source = spec.template_source
        monkeypatch.setattr(spec, "template_source", lambda config: source(config).replace("=>", "->"))
        refused(folder, "the template is not what")

    def test_another_tokenizer(self, folder: Path) -> None:
        train_tokenizer(["quite other words", "history ;\nviewed query: product: =>"] * 9, 400).save_pretrained(folder)
        refused(folder, "the tokenizer(?: and the labels)? is not what")

    def test_other_label_words(self, folder: Path) -> None:
        change(folder, "prompt", "positive", to="chair")
        change(folder, "prompt", "negative", to="yes")
        refused(folder, "the prompt and the labels is not what|label word")

    def test_padding_asked_for_earlier_does_not_count(self, base_folder: Path) -> None:
        """A tokenizer remembers it, but prompts are made without."""
        tokenizer = load_tokenizer(str(base_folder))
        before = fingerprint(tokenizer, PROMPT, LEVELS)
        tokenizer(["red", "red oak chair"], padding=True, truncation=True, max_length=2)
        assert fingerprint(tokenizer, PROMPT, LEVELS) == before


class TestBaseIdentity:
    """What adapters must have in common to be served over the same weights."""

    def test_the_same_base_wherever_it_is(self, folder: Path, saved: tuple[Path, np.ndarray], tmp_path: Path) -> None:
        before = base_identity(read_spec(folder))
        weights = folder / "adapter" / "adapter_model.safetensors"
        save_file({name: 2 * tensor for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
        change(folder, "levels", "edges", "first_stage", to=[1.5, 3.6])
        assert base_identity(read_spec(folder.rename(folder.with_name("moved")))) == before

    @pytest.mark.parametrize("what", ["weights", "dtype", "labels", "further file"])
    def test_another_base(self, folder: Path, what: str) -> None:
        before = base_identity(read_spec(folder))
        weights = folder / "base" / "model.safetensors"
        if what == "weights":
            base = load_file(weights)
            save_file(base | {"model.norm.weight": 1.5 * base["model.norm.weight"]}, weights, {"format": "pt"})
        elif what == "dtype":
            change(folder, "model", "dtype", to="bfloat16")
        elif what == "labels":
            change(folder, "fingerprint", "labels", to="others")
        else:
            (folder / "base" / "further.safetensors").write_bytes(b"")
        if what in ("weights", "further file"):  # what the adapter was trained over, not what lies there now
            assert base_identity(read_spec(folder)) == before
            change(folder, "base_sha256", to=folder_sha256(folder / "base"))
        assert base_identity(read_spec(folder)) != before

    def test_a_base_on_the_hub_is_its_name(self, folder: Path) -> None:
        identities = set()
        for name, revision in (("Qwen/Qwen3-0.6B", None), ("Qwen/Qwen3-0.6B", "v2"), ("Qwen/Qwen3-4B", None)):
            change(folder, "model", "base", to=name)
            change(folder, "model", "revision", to=revision)
            identities.add(base_identity(read_spec(folder)))
        assert len(identities) == 3


class TestTrust:
    """A folder decides nothing about what may run."""

    def test_one_that_asks_to_run_code_is_refused_by_name(self, folder: Path) -> None:
        change(folder, "model", "trust_remote_code", to=True)
        config = json.loads((folder / "base" / "config.json").read_text())
        config["auto_map"] = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
        (folder / "base" / "config.json").write_text(json.dumps(config | {"model_type": "unheard_of"}))
        marker = folder / "ran"
        (folder / "base" / "code.py").write_text(f"open({str(marker)!r}, 'w')\n")
        refused(folder, f"model.trust_remote_code: {folder} asks to run Python code")
        assert not marker.exists()
        change(folder, "model", "trust_remote_code", to=False)
        refused(folder, "code.py is code")
        assert not marker.exists()

    def test_the_caller_may_trust_it(self, folder: Path) -> None:
        change(folder, "model", "trust_remote_code", to=True)
        assert load_reranker(folder, "cpu", trust_remote_code=True).spec.model.trust_remote_code


class TestBrokenFolders:
    def test_no_folder(self, tmp_path: Path) -> None:
        refused(tmp_path / "nowhere", "nowhere is not a reranker folder: it has no reshelf.json")

    def test_a_base_model_is_no_reranker(self, base_folder: Path) -> None:
        refused(base_folder, "make one with `reshelf finetune`")

    @pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", '"x"', "{}", '{"format": 1}', "\xff"])
    def test_a_spec_that_is_not_one(self, folder: Path, text: str) -> None:
        (folder / "reshelf.json").write_bytes(text.encode("latin-1"))
        refused(folder, "reshelf.json")

    def test_a_truncated_spec(self, folder: Path) -> None:
        text = (folder / "reshelf.json").read_text()
        (folder / "reshelf.json").write_text(text[: len(text) // 2])
        refused(folder, "reshelf.json cannot be read")

    @pytest.mark.parametrize(
        ("path", "value", "says"),
        [
            (("format",), 2, "field format"),
            (("candidates",), "neither", "candidates"),
            (("model", "dtype"), "float7", "dtype"),
            (("model", "base"), 3, "base"),
            (("prompt", "template"), "nothing", "template"),
            (("prompt", "fields"), ["colour"], "fields"),
            (("prompt", "item_tokens"), "many", "item_tokens"),
            (("prompt", "new_option"), 1, "new_option"),
            (("levels", "edges"), {"first_stage": "high"}, "edges"),
            (("fingerprint",), None, "fingerprint"),
        ],
        ids=lambda value: ".".join(value) if isinstance(value, tuple) else "",
    )
    def test_a_field_with_a_wrong_value(self, folder: Path, path: tuple[str, ...], value: Any, says: str) -> None:
        change(folder, *path, to=value)
        refused(folder, says)

    @pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
    def test_no_adapter(self, folder: Path, name: str) -> None:
        (folder / "adapter" / name).unlink()
        refused(folder, f"adapter has no {name}")

    @pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
    def test_a_truncated_adapter(self, folder: Path, name: str) -> None:
        path = folder / "adapter" / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        refused(folder, "adapter.* cannot be read")

    def test_an_adapter_with_a_weight_missing(self, folder: Path) -> None:
        path = folder / "adapter" / "adapter_model.safetensors"
        weights = load_file(path)
        weights.pop(next(name for name in weights if "layers.1" in name))
        save_file(weights, path, metadata={"format": "pt"})
        refused(folder, "adapter.* cannot be read")

    @pytest.mark.parametrize("name", ["base_model.model.lm_head.weight", "base_model.model.lm_head.lora_A.weight"])
    def test_an_adapter_with_weights_that_would_be_ignored(self, folder: Path, name: str) -> None:
        path = folder / "adapter" / "adapter_model.safetensors"
        save_file(load_file(path) | {name: torch.ones(4, 4)}, path)
        refused(folder, f"holds the trained weight '{name}', which a reranker does not use")

    @pytest.mark.parametrize(
        ("field", "value"),
        [("exclude_modules", ["q_proj"]), ("layers_to_transform", [0]), ("target_modules", ["v_proj"])],
    )
    def test_an_adapter_whose_config_leaves_out_layers_that_it_has(self, folder: Path, field: str, value: Any) -> None:
        """peft said nothing and scored without them."""
        path = folder / "adapter" / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"target_modules": LINEAR, field: value}))
        refused(folder, "adapter_config.json leaves that layer out")

    def test_an_adapter_of_some_layers(self, folder: Path, saved: tuple[Path, np.ndarray]) -> None:
        config, weights = (folder / "adapter" / name for name in ("adapter_config.json", "adapter_model.safetensors"))
        fields = {"target_modules": LINEAR, "layers_to_transform": [0]}
        config.write_text(json.dumps(json.loads(config.read_text()) | fields))
        save_file({name: value for name, value in load_file(weights).items() if "layers.0." in name}, weights)
        assert not np.allclose(load(folder), saved[1])

    def test_an_adapter_that_is_no_numbers(self, folder: Path) -> None:
        path = folder / "adapter" / "adapter_model.safetensors"
        tensors = load_file(path)
        next(iter(tensors.values()))[0, 0] = float("nan")
        save_file(tensors, path)
        refused(folder, "holds NaN or infinite numbers")

    def test_an_adapter_of_another_shape(self, folder: Path, tiny_model: Callable[..., Any]) -> None:
        other = add_lora(tiny_model("qwen3", hidden_size=128), LoraConfig(rank=4))
        other.save_pretrained(str(folder / "adapter"))
        refused(folder, "adapter.* cannot be read")

    def test_no_base(self, folder: Path) -> None:
        shutil.rmtree(folder / "base")
        refused(folder, "base.* is not a model folder")
