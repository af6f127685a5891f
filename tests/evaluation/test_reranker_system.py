"""A real, tiny, 4-bit reranker as a system: `finetuned` and `base` from one folder, alone and in a whole evaluation."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from reshelf.cli import main
from reshelf.data.dataset_folder import RankingData, load_dataset_folder, save_dataset_folder
from reshelf.data.propensity.file import write_propensities
from reshelf.errors import InputError
from reshelf.evaluation.config import EvaluateConfig
from reshelf.evaluation.reranker_system import finetuned, untrained_base
from reshelf.evaluation.run import evaluate
from reshelf.inference.engines.transformers_engine import TransformersEngine
from reshelf.inference.reranker import Reranker
from reshelf.modeling.calibration import Calibration
from reshelf.modeling.checkpoint import save_reranker
from reshelf.modeling.config import LoraConfig, ModelConfig
from reshelf.modeling.loading import add_lora, load_base
from reshelf.modeling.score import attach_head
from reshelf.modeling.spec import RerankerSpec
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.config import PromptConfig
from reshelf.prompts.levels import FeatureLevels
from tests.evaluation.conftest import make_lists

PROMPT = PromptConfig(template="plain", fields=["title", "price"], event_fields=["title"])
LEVELS = FeatureLevels({})


@pytest.fixture(scope="module")
def base_folder(shop: RankingData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([*(item.title for item in shop.items.values()), *["yes no yes no"] * 50], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<|end|>", eos_token="<|end|>")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "head_dim": 32}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    config = Qwen3Config(vocab_size=len(tokenizer), **sizes, **heads, tie_word_embeddings=True, initializer_range=0.2)
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def reranker_folder(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base with an adapter that changes its scores."""
    config = ModelConfig(base=str(base_folder), dtype="float32")
    model, tokenizer = load_base(config, "cpu")
    torch.manual_seed(1)
    model = add_lora(model, LoraConfig(rank=4, alpha=8, dropout=0.0))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    attach_head(model.get_base_model(), *PromptBuilder(tokenizer, PROMPT, {}, LEVELS).label_ids)
    folder = tmp_path_factory.mktemp("reranker")
    save_reranker(folder, model, tokenizer, RerankerSpec(config, PROMPT, LEVELS))
    return folder


def test_base_scores_are_those_of_the_base_model_that_never_saw_an_adapter(
    shop: RankingData, base_folder: Path, reranker_folder: Path
) -> None:
    lists = shop.lists["test"][:5]
    with untrained_base(reranker_folder, shop.items) as system:
        found = system.scores(shop, lists)
    model, tokenizer = load_base(ModelConfig(base=str(base_folder), dtype="float32"))
    builder = PromptBuilder(tokenizer, PROMPT, shop.items, LEVELS)
    attach_head(model, *builder.label_ids)
    expected = TransformersEngine(model).score([builder.build(ranking) for ranking in lists])
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_finetuned_scores_are_the_rerankers_and_not_the_bases(shop: RankingData, reranker_folder: Path) -> None:
    lists = shop.lists["test"][:20]
    with Reranker.from_pretrained(reranker_folder, "transformers") as reranker:
        expected = reranker.score_lists(lists, shop.items)
    with finetuned(reranker_folder, shop.items, "transformers") as system:
        found = system.scores(shop, lists)
    with untrained_base(reranker_folder, shop.items) as system:
        base = system.scores(shop, lists)
    for ours, theirs, untrained in zip(found, expected, base, strict=True):
        assert ours.dtype == np.float64
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
        assert np.abs(ours - untrained).max() > 0.01


def test_progress_counts_every_list_once(shop: RankingData, reranker_folder: Path) -> None:
    seen: list[int] = []
    with finetuned(reranker_folder, shop.items, "transformers", seen.append) as system:
        system.batch = 8
        system.scores(shop, shop.lists["test"][:20])
    assert seen == [8, 8, 4]


def test_one_folder_gives_both_rows_of_a_report(shop_folder: Path, reranker_folder: Path, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=80)
    config = EvaluateConfig(
        data=shop_folder, model=reranker_folder, out=tmp_path, engine="transformers", resamples=50, limit=10
    )
    report = evaluate(config, console)
    assert list(report["systems"]) == [
        "random", "first_stage", "bm25", "popularity", "base", "without_history", "finetuned", "best_possible",
    ]  # fmt: skip
    assert len({report["systems"][name]["ndcg@10"] for name in ("base", "without_history", "finetuned")}) == 3
    assert set(report["gap_closed"]) == {"random", "bm25", "popularity", "base", "without_history", "finetuned"}
    assert "finetuned" in console.file.getvalue()
    assert json.loads((tmp_path / "report.json").read_text())["model"] == str(reranker_folder)


def test_runs_are_compared_by_name_and_personalisation_is_told(
    shop_folder: Path, reranker_folder: Path, tmp_path: Path
) -> None:
    config = EvaluateConfig(
        data=shop_folder, model=reranker_folder, others={"again": reranker_folder}, out=tmp_path,
        systems=["first_stage", "without_history", "finetuned"], engine="transformers", resamples=50, limit=10,
    )  # fmt: skip
    report = evaluate(config, Console(file=io.StringIO(), width=80))
    assert report["systems"]["again"] == report["systems"]["finetuned"]
    assert report["significance"]["again"] == {"mean": 0, "low": 0, "high": 0, "p": 1, "wins": 0, "losses": 0}
    assert set(report["movement"]) == {"first_stage", "without_history"}
    assert 0 < report["movement"]["without_history"]["mean_places"] < 12
    assert report["calibration"] is None


def test_how_true_calibrated_probabilities_are(shop_folder: Path, reranker_folder: Path, tmp_path: Path) -> None:
    """One probability for all: the error is its distance to the share that was wanted."""
    folder = tmp_path / "model"
    shutil.copytree(reranker_folder, folder)
    spec = json.loads((folder / "reshelf.json").read_text())
    flat = Calibration("platt", slope=0.0, intercept=0.0)
    (folder / "reshelf.json").write_text(json.dumps(spec | {"calibration": asdict(flat)}))
    config = EvaluateConfig(
        shop_folder, tmp_path / "out", folder, engine="transformers", resamples=50, systems=["finetuned"]
    )
    report = evaluate(config, Console(file=io.StringIO(), width=80))
    lists = load_dataset_folder(shop_folder, ["test"]).lists["test"]
    wanted = np.concatenate([np.array(one.labels) > 0 for one in lists])
    assert report["calibration"]["brier"] == pytest.approx(0.25)
    assert report["calibration"]["ece"] == pytest.approx(abs(0.5 - wanted.mean()))
    assert report["calibration"]["bins"] == [[pytest.approx(0.5), pytest.approx(wanted.mean()), len(wanted)]]
    assert "Expected calibration error" in (tmp_path / "out" / "report.md").read_text()


def test_a_model_with_another_fingerprint_is_refused_before_anything_is_scored(
    shop_folder: Path, reranker_folder: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(reranker_folder, tmp_path / "model"))
    spec = json.loads((reranker_folder / "reshelf.json").read_text())
    spec["fingerprint"]["template"] = "0" * 64
    (other / "reshelf.json").write_text(json.dumps(spec))
    with pytest.raises(InputError, match=r"fingerprint: the template is not what this model was trained with"):
        evaluate(EvaluateConfig(data=shop_folder, model=other, out=tmp_path / "out"), Console(file=io.StringIO()))
    assert not (tmp_path / "out").exists()


def test_a_better_reranker_takes_the_place_of_the_running_one(
    reranker_folder: Path, shop: RankingData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shoppers click what the one model would put first."""
    better, worse = (Path(shutil.copytree(reranker_folder, tmp_path / name)) for name in ("better", "worse"))
    weights = worse / "adapter" / "adapter_model.safetensors"
    save_file({name: -2 * tensor for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    lists = make_lists("test", 220, 3, candidates=4)
    with finetuned(better, shop.items, "transformers") as system:
        firsts = [int(np.argmax(own)) for own in system.scores(shop, lists)]
    clicked = [
        one.model_copy(update={"labels": tuple(int(k == first) for k in range(4)), "positions": (1, 2, 3, 4)})
        for one, first in zip(lists, firsts, strict=True)
    ]
    save_dataset_folder(tmp_path / "data", RankingData(shop.items, {"test": clicked}))
    write_propensities(tmp_path / "propensities.json", [1.0, 0.5])
    flags = ["--data", str(tmp_path / "data"), "--propensities", str(tmp_path / "propensities.json")]
    flags += ["--engine", "transformers", "--out", str(tmp_path / "found.json")]
    assert main(["promote", str(worse), "--over", str(better), *flags]) == 0
    assert "not promoted" in capsys.readouterr().out
    assert json.loads((tmp_path / "found.json").read_text())["promoted"] is False
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"better", "worse", "data"}
    before = weights.read_bytes()
    assert main(["promote", str(better), "--over", str(worse), *flags]) == 0
    assert json.loads((tmp_path / "found.json").read_text())["promoted"] is True
    assert weights.read_bytes() == (better / "adapter" / "adapter_model.safetensors").read_bytes() != before
    assert (tmp_path / "worse.before" / "adapter" / "adapter_model.safetensors").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"better", "worse", "worse.before", "data"}
    assert main(["promote", str(worse), "--over", str(worse), *flags]) == 2
    assert "is the running reranker" in capsys.readouterr().err
