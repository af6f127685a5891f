"""Layers that match whatever the words are: sessions in other words, and models that begin with their layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from reshelf.data.marketplace import MarketplaceConfig
from reshelf.errors import InputError
from reshelf.finetune.pretraining.any_words import (
    MATCHING,
    InOtherWords,
    others,
    read_base,
    take_layers,
    written_by_templates,
)
from reshelf.finetune.pretraining.pretrain import PretrainConfig, ShapeConfig, new_model, pretrain
from reshelf.finetune.pretraining.session_text import (
    SessionStream,
    SimulatedSource,
    collate_outcomes,
    vocabulary_text,
)
from reshelf.finetune.pretraining.tokenizer import train_tokenizer
from reshelf.prompts.config import PromptConfig

SHAPE = ShapeConfig(hidden=64, layers=2, heads=2, intermediate=128, vocabulary=700)
PROMPT = PromptConfig(template="plain", fields=["title", "price_level"], event_fields=["title"], event_gaps=False)
SHOP = MarketplaceConfig(items_per_category=10)


@pytest.fixture(scope="module")
def sources() -> list[SimulatedSource]:
    return [SimulatedSource(SHOP, 1), SimulatedSource(replace(SHOP, language="zh"), 2)]


@pytest.fixture(scope="module")
def tokenizer(sources: list[SimulatedSource]) -> PreTrainedTokenizerBase:
    return train_tokenizer(vocabulary_text(sources, PROMPT), SHAPE.vocabulary)


def test_a_session_in_other_words_has_alike_tokens_where_they_were_alike(
    sources: list[SimulatedSource], tokenizer: PreTrainedTokenizerBase
) -> None:
    stream = SessionStream(sources, tokenizer, PROMPT, length=40, max_candidates=6, seed=0)
    tokens = others(tokenizer)
    changed = InOtherWords(stream, tokens, seed=0)
    sessions = [n for n in range(40) if stream[n].outcomes is not None]
    assert len(changed) == len(sessions) == 36
    mappings = []
    for place, n in enumerate(sessions):
        before, after = stream[n], changed[place]
        assert before.outcomes is not None
        assert after.outcomes is not None
        assert after.outcomes.tolist() == before.outcomes.tolist()
        ids = [np.concatenate([text.prompt.prefix, *text.prompt.items]) for text in (before, after)]
        pairs = set(zip(ids[0].tolist(), ids[1].tolist(), strict=True))
        assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs), "one for one"
        assert all((a == b) or (a in tokens and b in tokens) for a, b in pairs)
        assert all(a == b for a, b in pairs if a not in tokens)
        mappings.append(pairs)
    first, second = (dict(pairs) for pairs in mappings[:2])
    both = first.keys() & second.keys() & set(tokens.tolist())
    assert both
    assert sum(first[a] == a for a in both) + sum(first[a] == second[a] for a in both) < len(both) / 4
    batch = collate_outcomes([changed[0], changed[1]])
    assert (batch.words == -100).all()
    assert (batch.outcomes >= 0).any()


def test_a_stream_of_two_languages_writes_each_as_its_shop_does(
    sources: list[SimulatedSource], tokenizer: PreTrainedTokenizerBase
) -> None:
    stream = SessionStream(sources, tokenizer, PROMPT, length=4, max_candidates=6, seed=0)
    english, chinese = (tokenizer.decode(stream[n].prompt.prefix) for n in (0, 1))
    assert "query:" in english
    assert "查询" in chinese
    assert "query:" not in chinese


def test_embeddings_of_other_words_stay_and_those_of_templates_are_trained(tmp_path: Path) -> None:
    config = PretrainConfig(
        out=tmp_path / "base", marketplace=SHOP, shops=2, languages=["en", "zh"], prompt=PROMPT, shape=SHAPE, texts=16,
        texts_per_step=4, other_words=True,
    )  # fmt: skip
    pretrain(config)
    model, tokenizer = read_base(str(tmp_path / "base"), "cpu", "start")
    start = new_model(SHAPE, tokenizer, config.seed, PROMPT.levels).get_input_embeddings().weight
    moved = (model.get_input_embeddings().weight != start).any(1).nonzero()[:, 0].tolist()
    assert moved
    assert not set(moved) & set(others(tokenizer).tolist())
    assert "languages:\n- en\n- zh" in (tmp_path / "base" / "README.md").read_text(encoding="utf-8")


def test_a_model_of_other_words_begins_with_the_layers(
    sources: list[SimulatedSource], tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    base = new_model(SHAPE, tokenizer, seed=3)
    base.config._attn_implementation = "sdpa"
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    other = train_tokenizer(vocabulary_text(sources[1:], PROMPT), 600)
    model = new_model(SHAPE, other, 4, layers=tmp_path / "base")
    for name, weight in model.model.layers.state_dict().items():
        assert torch.equal(weight, base.model.layers.state_dict()[name]), name
    rows, of_base = other.get_vocab(), tokenizer.get_vocab()
    mine, its = model.model.embed_tokens.weight, base.model.embed_tokens.weight
    for word in (" bought", " passed", "查询"):
        ids = [one(word, add_special_tokens=False).input_ids for one in (other, tokenizer)]
        tokens = [one.convert_ids_to_tokens(i) for one, i in zip((other, tokenizer), ids)]
        for token in set(tokens[0]) & set(tokens[1]):
            assert torch.equal(mine[rows[token]], its[of_base[token]]), token
    drawn = mine[torch.from_numpy(others(other))]
    assert len(drawn.unique(dim=0)) == len(drawn)
    for shape in (replace(SHAPE, layers=1, hidden=128), replace(SHAPE, layers=1), replace(SHAPE, layers=3)):
        with pytest.raises(InputError, match=r"layers: .* another shape"):
            new_model(shape, other, 4, layers=tmp_path / "base")
    with pytest.raises(InputError, match="layers"):
        take_layers(model, other, tmp_path / "nowhere", torch.Generator())
    with pytest.raises(InputError, match="leave out layers, or start"):
        PretrainConfig(out=tmp_path / "new", start="one", layers=tmp_path / "base")
    assert written_by_templates(other)


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_layers_that_ship_match_words_that_they_never_read(language: str) -> None:
    from benchmarks.matching import shares

    own, another = shares(language, MATCHING, 0)
    nothing, _ = shares(language, None, 0)
    assert own > 0.65, "0.5 is chance; the standard error is below 0.02"
    assert own > another + 0.1
    assert own > nothing + 0.1
