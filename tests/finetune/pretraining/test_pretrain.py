"""`reshelf pretrain`: texts and their targets, the start, the optimizer, and the folder it leaves."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from reshelf.data.atomic import locked_folder
from reshelf.data.dataset_folder import RankingData
from reshelf.data.marketplace import MarketplaceConfig
from reshelf.errors import InputError
from reshelf.finetune.pretraining.muon import Muon, MuonAdamW
from reshelf.finetune.pretraining.pretrain import PretrainConfig, ShapeConfig, new_model, pretrain
from reshelf.finetune.pretraining.session_text import (
    OUTCOMES,
    LoggedSource,
    SessionStream,
    SimulatedSource,
    collate_text,
    vocabulary_text,
)
from reshelf.finetune.pretraining.tokenizer import train_tokenizer
from reshelf.modeling import allocator
from reshelf.modeling.onednn import Linear
from reshelf.prompts.config import PromptConfig
from reshelf.prompts.levels import level_text
from tests.finetune.killed import pretrain_killed
from tests.forked import exit_code

SHAPE = ShapeConfig(hidden=64, layers=2, heads=2, intermediate=128, vocabulary=900)
PROMPT = PromptConfig(template="plain", fields=["title", "price_level"], event_fields=["title"], event_gaps=False)


class KernelsOfItsDevice(TrainerCallback):
    """Checks, at the first step, that a new model computes as a loaded one."""

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        assert {type(m) for m in model.model.modules() if isinstance(m, torch.nn.Linear)} == {Linear}
        assert "forward" in vars(model.model.norm)
        assert allocator.keep_freed_memory.cache_info().currsize


@pytest.fixture
def stream(data: RankingData) -> SessionStream:
    source = LoggedSource(data)
    tokenizer = train_tokenizer(vocabulary_text([source], PROMPT), SHAPE.vocabulary)
    return SessionStream([source], tokenizer, PROMPT, length=20, max_candidates=0, seed=0)


def base_config(shop: Path, out: Path) -> PretrainConfig:
    return PretrainConfig(data=shop, out=out, prompt=PROMPT, shape=SHAPE, texts=24, texts_per_step=4, save_every=2)


def test_outcomes_stand_at_the_ends_of_products_and_words_in_the_prefix(
    data: RankingData, stream: SessionStream
) -> None:
    tokenizer = train_tokenizer(vocabulary_text([LoggedSource(data)], PROMPT), SHAPE.vocabulary)
    ranking = LoggedSource(data).session(3)
    text = stream[3]
    batch = collate_text([text])
    ends = batch.packed.score_positions
    assert torch.nonzero(batch.outcomes >= 0)[:, 0].tolist() == ends.tolist()
    told = [tokenizer.decode([i]) for i in batch.outcomes[ends].tolist()]
    assert told == [OUTCOMES[grade] for grade in ranking.labels or ()]
    size = len(text.prompt.prefix)
    assert batch.words[: size - 1].tolist() == text.prompt.prefix[1:].tolist()
    assert (batch.words[size - 1 :] == -100).all()


def test_every_tenth_text_is_catalogue(stream: SessionStream) -> None:
    text = stream[9]
    assert text.outcomes is None
    batch = collate_text([text])
    assert (batch.outcomes == -100).all()
    first = text.prompt.items[0]
    start = len(text.prompt.prefix)
    assert batch.words[start : start + len(first) - 1].tolist() == first[1:].tolist()
    assert [n for n in range(20) if stream[n].outcomes is None] == [9, 19]


def test_texts_together_have_the_targets_that_each_has_alone(stream: SessionStream) -> None:
    texts = [stream[n] for n in range(7, 12)]  # one of them is catalogue
    together, apart = collate_text(texts), [collate_text([text]) for text in texts]
    sizes = [len(text.prompt.prefix) for text in texts]

    def in_order_of_the_row(tokens: list[torch.Tensor]) -> list[int]:
        of = list(zip(tokens, sizes, strict=True))
        return torch.cat([*(one[:size] for one, size in of), *(one[size:] for one, size in of)]).tolist()

    assert together.packed.input_ids[0].tolist() == in_order_of_the_row([one.packed.input_ids[0] for one in apart])
    assert together.words.tolist() == in_order_of_the_row([one.words for one in apart])
    assert together.outcomes.tolist() == in_order_of_the_row([one.outcomes for one in apart])


def test_every_other_session_of_both_is_joint_and_its_products_come_in_another_order(data: RankingData) -> None:
    source = LoggedSource(data)
    tokenizer = train_tokenizer(vocabulary_text([source], PROMPT), SHAPE.vocabulary)
    alone, both = (
        SessionStream([source], tokenizer, PROMPT, length=20, max_candidates=0, seed=0, candidates=kind)
        for kind in ("independent", "both")
    )
    for n in range(8):
        prompt = both[n].prompt
        assert (prompt.listed > 0) == (n % 2 == 1)
        assert prompt.listed < len(prompt.prefix)
        batch = collate_text([both[n]])
        told = len(prompt.prefix) - prompt.listed
        assert batch.words[: told - 1].tolist() == prompt.prefix[1:told].tolist()
        assert (batch.words[told - 1 :] == -100).all(), "nothing is learned of which products are in a list"
    for n in range(8):
        words = [
            {(item.tobytes(), int(word)) for item, word in zip(one[n].prompt.items, one[n].outcomes)}
            for one in (alone, both)
        ]
        assert words[0] == words[1], "products keep their outcomes"
    assert any(alone[n].outcomes.tolist() != both[n].outcomes.tolist() for n in (1, 3, 5, 7))


def test_simulated_sessions_show_no_position_bias_and_repeat() -> None:
    config = MarketplaceConfig(items_per_category=12, position_bias=5.0, decisiveness=4, candidates=10)
    source = SimulatedSource(config, seed=3)
    lists = source.sample()
    assert lists == SimulatedSource(config, seed=3).sample()
    late = np.mean([np.count_nonzero((ranking.labels or ())[5:]) for ranking in lists])
    assert late > 0.3  # with the bias of 5 that the config asks for, nobody would look this far down


def test_any_text_survives_the_tokenizer_and_label_words_are_one_token(data: RankingData) -> None:
    tokenizer = train_tokenizer(vocabulary_text([LoggedSource(data)], PROMPT), SHAPE.vocabulary)
    for text in ("Ünïcödé ☃ 你好", "belt 1½ in, 10² m", "no such word", "\x00\n\t"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    for word in ("yes", "no", *OUTCOMES):
        assert len(tokenizer.encode(word)) == 1


def test_the_words_of_the_english_template_are_tokens(data: RankingData) -> None:
    tokenizer = train_tokenizer(vocabulary_text([LoggedSource(data)], PROMPT), SHAPE.vocabulary)
    for word in ("history", "viewed", "clicked", "carted", "bought", "searched", "rated", "query", "product", " by"):
        assert len(tokenizer.encode(word)) == 1, word


def test_a_chinese_character_is_a_token_whatever_stands_beside_it(data: RankingData) -> None:
    chinese = replace(PROMPT, language="zh")
    tokenizer = train_tokenizer(vocabulary_text([LoggedSource(data)], chinese), SHAPE.vocabulary)
    for text in ("历史", "浏览点击", "购买查询加购"):
        assert [tokenizer.decode([i]) for i in tokenizer.encode(text)] == list(text)


def test_levels_are_one_token_each_for_a_base_that_reads_none(data: RankingData) -> None:
    tokenizer = train_tokenizer(vocabulary_text([LoggedSource(data)], PROMPT), SHAPE.vocabulary)
    several = [level for level in range(PROMPT.levels + 1) if len(tokenizer(level_text(level)).input_ids) > 1]
    assert not several


def test_the_start_looks_at_like_tokens_far_away_and_at_near_ones(data: RankingData) -> None:
    tokenizer = train_tokenizer(vocabulary_text([LoggedSource(data)], PROMPT), SHAPE.vocabulary)
    model = new_model(replace(SHAPE, layers=1, heads=4, hidden=128), tokenizer, seed=0)
    model.set_attn_implementation("eager")
    ids = torch.randperm(len(tokenizer), generator=torch.Generator().manual_seed(1))[:120]
    ids[110] = ids[20]
    with torch.no_grad():
        weights = model(ids[None], output_attentions=True).attentions[0][0, :, 110]
    near, alike = weights[:2].mean(0), weights[2:].mean(0)
    assert alike[20] > 5 * alike[:110].median()
    assert near[105:110].mean() > 5 * near[:100].mean()
    assert near[20] < 5 * near[:100].mean()


def test_near_levels_have_like_embeddings_as_long_as_any_others_and_keep_them(data: RankingData) -> None:
    prompt = replace(PROMPT, features=["popularity"])
    tokenizer = train_tokenizer(vocabulary_text([LoggedSource(data)], prompt), SHAPE.vocabulary)
    model = new_model(SHAPE, tokenizer, seed=0, levels=20)
    weight = model.model.embed_tokens.weight
    tokens = [tokenizer(level_text(level)).input_ids for level in range(21)]
    assert all(len(one) == 1 for one in tokens), tokens
    rows = torch.tensor(tokens)[:, 0]
    before = weight.detach().clone()
    own = torch.nn.functional.normalize(before[rows] - before.mean(0), dim=1)
    alike = own @ own.T
    by_distance = torch.stack([alike.diagonal(n).mean() for n in (1, 2, 4, 8)])
    assert by_distance[0] > 0.7
    assert bool((by_distance.diff() < 0).all()), by_distance
    assert float(before[rows].norm(dim=1).mean()) == pytest.approx(float(before.norm(dim=1).mean()), rel=0.1)

    optimizer = MuonAdamW(model, 1e-2)
    text = torch.tensor([tokenizer("product: lamp; popularity 3 taste 17").input_ids])
    model.config._attn_implementation = "sdpa"
    model(input_ids=text, labels=text).loss.backward()
    optimizer.step()
    moved = (weight.detach() != before).any(1)
    assert not moved[rows].any()
    assert moved.sum() > len(weight) / 2


def test_muon_takes_matrices_and_adamw_the_rest_and_their_state_comes_back(data: RankingData) -> None:
    tokenizer = train_tokenizer(vocabulary_text([LoggedSource(data)], PROMPT), SHAPE.vocabulary)

    def steps(model: torch.nn.Module, optimizer: MuonAdamW, n: int) -> None:
        for _ in range(n):
            optimizer.zero_grad()
            model(torch.arange(10)[None], labels=torch.arange(10)[None]).loss.backward()
            optimizer.step()

    model = new_model(SHAPE, tokenizer, seed=0)
    optimizer = MuonAdamW(model, 1e-2)
    muon, adamw = optimizer._parts
    assert all(p.dim() == 2 for group in muon.param_groups for p in group["params"])
    assert any(p is model.model.embed_tokens.weight for group in adamw.param_groups for p in group["params"])
    steps(model, optimizer, 2)
    other = new_model(SHAPE, tokenizer, seed=1)
    other.load_state_dict(model.state_dict())
    restored = MuonAdamW(other, 1e-2)
    restored.load_state_dict(pickle.loads(pickle.dumps(optimizer.state_dict())))
    for group in restored.param_groups:
        group["lr"] = 5e-3
    assert {g["lr"] for part in restored._parts for g in part.param_groups} == {5e-3}
    for group in optimizer.param_groups:
        group["lr"] = 5e-3
    steps(model, optimizer, 2)
    steps(other, restored, 2)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values()))


@pytest.mark.slow
def test_leaves_a_folder_that_transformers_loads_and_resumes_after_a_kill(shop: Path, tmp_path: Path) -> None:
    whole, cut = base_config(shop, tmp_path / "whole"), base_config(shop, tmp_path / "cut")
    pretrain(whole, [KernelsOfItsDevice()])
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= set(os.listdir(whole.out))
    assert "checkpoints" not in os.listdir(whole.out)
    assert AutoModelForCausalLM.from_pretrained(whole.out).config.model_type == "qwen3"
    assert AutoTokenizer.from_pretrained(whole.out).encode("yes")
    assert exit_code(pretrain_killed, cut, 4) == -signal.SIGKILL
    pretrain(cut)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (cut.out, whole.out))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    with pytest.raises(InputError, match="already holds a model"):
        pretrain(whole)
    (whole.out / "checkpoints").mkdir()
    with pytest.raises(InputError, match="already holds a model"):
        pretrain(whole)


@pytest.mark.slow
def test_an_unfinished_pretraining_is_not_finished_with_something_else(shop: Path, tmp_path: Path) -> None:
    shutil.copytree(shop, tmp_path / "shop")
    config = base_config(tmp_path / "shop", tmp_path / "base")
    assert exit_code(pretrain_killed, config, 4) == -signal.SIGKILL

    def refused(match: str, **changes: object) -> None:
        with pytest.raises(InputError, match=f"holds an unfinished run of another kind: {match}; finish it"):
            pretrain(replace(config, **changes))  # type: ignore[arg-type]

    refused("config seed was 0 and is 1", seed=1)
    refused("config learning_rate was 0.004 and is 0.001", learning_rate=1e-3)
    train = tmp_path / "shop/train.parquet"
    before = pq.read_table(train)
    pq.write_table(before.slice(1), train)
    refused(r"data train\.parquet has changed")
    shutil.copy(shop / "train.parquet", train)
    shutil.move(tmp_path / "shop", tmp_path / "moved")
    pretrain(replace(config, data=tmp_path / "moved"))
    assert (config.out / "config.json").is_file()


def test_a_refused_pretraining_leaves_nothing(shop: Path, tmp_path: Path) -> None:
    wrong = replace(base_config(shop, tmp_path / "out/base"), start=str(tmp_path))
    with pytest.raises(InputError, match=r"start '.*' is not a model folder"):
        pretrain(wrong)
    assert not (tmp_path / "out").exists()
    held = replace(wrong, start="")
    held.out.mkdir(parents=True)
    with locked_folder(held.out, "training"), pytest.raises(InputError, match="another training is writing there"):
        pretrain(held)
    assert list(held.out.iterdir()) == []


@pytest.mark.slow
def test_goes_on_from_a_base_there_is(shop: Path, tmp_path: Path) -> None:
    first = base_config(shop, tmp_path / "first")
    pretrain(first)
    second = replace(first, out=tmp_path / "second", start=str(first.out), learning_rate=1e-5)
    pretrain(second)
    before, after = (load_file(one.out / "model.safetensors") for one in (first, second))
    assert before.keys() == after.keys()
    assert all(np.abs(before[name] - after[name]).max() < 1e-3 for name in before), "it began where the first one ended"
    assert any(not np.array_equal(before[name], after[name]) for name in before)
    texts = [(one.out / "tokenizer.json").read_text() for one in (first, second)]
    assert texts[0] == texts[1]
    assert f"Trained from `{first.out}`" in (second.out / "README.md").read_text()
    with pytest.raises(InputError, match=r"start '.*' is not a model folder"):
        pretrain(replace(second, out=tmp_path / "third", start=str(tmp_path)))
    assert not (tmp_path / "third" / "config.json").exists()


@pytest.mark.parametrize("shape", [(8, 8), (4, 12), (12, 4)])
def test_our_muon_is_torchs_in_float32(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    start = torch.randn(shape)
    mine, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    settings = {"lr": 0.1, "weight_decay": 0.05, "adjust_lr_fn": "match_rms_adamw"}
    ours, reference = Muon([mine], **settings), torch.optim.Muon([theirs], **settings)  # type: ignore[arg-type]
    for _ in range(3):
        gradient = torch.randn(shape)
        mine.grad, theirs.grad = gradient.clone(), gradient.clone()
        ours.step()
        reference.step()
    # torch orthogonalises in bfloat16
    assert torch.allclose(mine, theirs, atol=0.02)
    assert not torch.allclose(mine, start, atol=0.1)
