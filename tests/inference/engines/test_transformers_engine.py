"""The transformers engine equals K separate prompts, however lists are grouped, and leaves 4-bit weights alone."""

from __future__ import annotations

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from reshelf.data.schema import RankingList
from reshelf.errors import InputError
from reshelf.inference.engines.transformers_engine import Budget, TransformersEngine
from reshelf.modeling.checkpoint import TrainedReranker, load_reranker
from reshelf.modeling.prefix_cache import WORTH
from reshelf.prompts.list_prompt import ListPrompt


def separate(loaded: TrainedReranker, prompt: ListPrompt) -> np.ndarray:
    """Every candidate as a prompt of its own, one forward pass each."""
    scores = []
    with torch.inference_mode():
        for item in prompt.items:
            ids = torch.from_numpy(np.concatenate([prompt.prefix, item]).astype(np.int64))[None]
            yes, no = loaded.model(input_ids=ids, use_cache=False).logits[0, -1]
            scores.append(float(yes - no))
    return np.array(scores, dtype=np.float32)


def test_equals_separate_prompts(loaded: TrainedReranker, prompts: list[ListPrompt]) -> None:
    scores = TransformersEngine(loaded.model).score(prompts)
    assert prompts[1].truncated.events > 0
    for prompt, values in zip(prompts, scores, strict=True):
        assert values.dtype == np.float32
        assert values.shape == (len(prompt.items),)
        np.testing.assert_allclose(values, separate(loaded, prompt), atol=1e-5)
    assert np.concatenate(scores).std() > 0.1


@pytest.mark.parametrize("budget", [Budget(tokens=400), Budget(tokens=400, prefix_bytes=0), Budget(tokens=1)])
def test_small_passes_give_the_same_scores(loaded: TrainedReranker, prompts: list[ListPrompt], budget: Budget) -> None:
    expected = TransformersEngine(loaded.model).score(prompts)
    engine = TransformersEngine(loaded.model, budget=budget)
    passes = list(engine._passes(prompts))
    assert sum(map(len, passes)) > len(prompts)
    if budget.tokens == 400:
        assert max(sum(len(p.prefix) + sum(map(len, p.items)) for _, p in group) for group in passes) <= 400
    for values, other in zip(engine.score(prompts), expected, strict=True):
        np.testing.assert_allclose(values, other, atol=1e-5)


def test_nothing_to_score(loaded: TrainedReranker) -> None:
    assert TransformersEngine(loaded.model).score([]) == []


def test_scoring_leaves_the_4_bit_weights_alone(loaded: TrainedReranker, prompts: list[ListPrompt]) -> None:
    """bitsandbytes would repack and round them on CPUs with AVX512-BF16: later passes, training and export break."""
    layers = [m for m in loaded.model.modules() if isinstance(m, bnb.nn.Linear4bit)]
    assert len(layers) == 14
    before = [layer.weight.data.clone() for layer in layers]
    TransformersEngine(loaded.model).score(prompts[:1])
    for layer, weight in zip(layers, before, strict=True):
        assert layer.weight.quant_state.nested
        torch.testing.assert_close(layer.weight.data, weight, rtol=0, atol=0)


def test_candidates_do_not_see_each_other(loaded: TrainedReranker, prompts: list[ListPrompt]) -> None:
    prompt = prompts[0]
    turned = replace(prompt, items=prompt.items[::-1])
    scores = TransformersEngine(loaded.model).score([prompt, turned])
    np.testing.assert_allclose(scores[0], scores[1][::-1], atol=1e-5)


def test_a_returning_shopper_is_not_read_again(loaded: TrainedReranker, prompts: list[ListPrompt]) -> None:
    """Another query, then the same list again: the common beginning is known, and the scores stay those of one read."""
    engine = TransformersEngine(loaded.model)
    first = prompts[1]
    engine.score([first])
    assert engine.cached_tokens == 0
    changed = first.prefix.copy()
    changed[-3:] = first.prefix[-3:] ^ 1
    for prompt, known in ((replace(first, prefix=changed), len(changed) - 3), (first, len(first.prefix))):
        before = engine.cached_tokens
        (found,) = engine.score([prompt])
        assert engine.cached_tokens - before == known
        np.testing.assert_allclose(found, separate(loaded, prompt), atol=1e-5)


def test_a_long_list_reads_its_prefix_once(loaded: TrainedReranker, prompts: list[ListPrompt]) -> None:
    engine = TransformersEngine(loaded.model, budget=Budget(tokens=600))
    prompt = prompts[1]
    (found,) = engine.score([prompt])
    groups = len(list(engine._passes([prompt])))
    assert groups > 2
    assert engine.cached_tokens == (groups - 1) * len(prompt.prefix)
    np.testing.assert_allclose(found, separate(loaded, prompt), atol=1e-5)


def test_joint_lists_are_cut_like_any(loaded: TrainedReranker, lists: list[RankingList], catalogue: Any) -> None:
    """Every group of candidates is judged behind the whole list, which is read once."""
    builder = replace(loaded.spec, candidates="joint").builder(loaded.tokenizer, catalogue)
    prompt = builder.build(max(lists, key=lambda one: len(one.candidates)))
    whole = TransformersEngine(loaded.model).score([prompt])[0]
    small = TransformersEngine(loaded.model, Budget(tokens=len(prompt.prefix) + 2 * max(map(len, prompt.items))))
    np.testing.assert_allclose(small.score([prompt])[0], whole, atol=1e-5)
    assert small.cached_tokens > len(prompt.prefix)
    np.testing.assert_allclose(whole, separate(loaded, prompt), atol=1e-5)


def test_other_adapters_over_the_same_base(
    reranker_folder: Path, other_folder: Path, prompts: list[ListPrompt], tmp_path: Path
) -> None:
    """Each list by the adapter it names, whatever was scored before, and as by that reranker alone."""
    alone = [
        TransformersEngine(load_reranker(folder, "cpu").model).score(prompts[:3])
        for folder in (reranker_folder, other_folder)
    ]
    assert not np.allclose(alone[0][0], alone[1][0], atol=0.01)
    engine = TransformersEngine(load_reranker(reranker_folder, "cpu").model)
    engine.add_adapter("adapter1", other_folder)
    for _ in range(2):  # the second time from prefixes that are known
        for number, prompt in enumerate(prompts[:3]):
            for name, expected in zip(("", "adapter1"), alone, strict=True):
                (found,) = engine.score([prompt], adapter=name)
                np.testing.assert_allclose(found, expected[number], atol=1e-5)
    assert engine.cached_tokens > 0

    broken = tmp_path / "broken"
    shutil.copytree(other_folder, broken)
    weights = broken / "adapter" / "adapter_model.safetensors"
    whole = load_file(weights)
    lacking = dict(list(whole.items())[1:])
    other_size = {name: tensor[:, :2].contiguous() for name, tensor in whole.items()}
    for content, problem in ((lacking, "it lacks"), (other_size, "size mismatch")):
        save_file(content, weights, {"format": "pt"})
        with pytest.raises(InputError, match=problem):
            engine.add_adapter("adapter2", broken)
        with pytest.raises(ValueError, match="adapter2"):
            engine.score(prompts[:1], adapter="adapter2")
    np.testing.assert_allclose(engine.score(prompts[:1], adapter="adapter1")[0], alone[1][0], atol=1e-5)
    engine.remove_adapter("adapter1")
    np.testing.assert_allclose(engine.score(prompts[:1])[0], alone[0][0], atol=1e-5)


def test_an_adapter_of_a_name_that_was_there_before(
    reranker_folder: Path, other_folder: Path, prompts: list[ListPrompt], tmp_path: Path
) -> None:
    """By its own scale, and behind no prefix that the one before had read."""
    stronger = tmp_path / "stronger"
    shutil.copytree(other_folder, stronger)
    config = stronger / "adapter" / "adapter_config.json"
    content = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(content | {"lora_alpha": 4 * content["lora_alpha"]}), encoding="utf-8")
    (expected,) = TransformersEngine(load_reranker(other_folder, "cpu").model).score(prompts[:1])
    engine = TransformersEngine(load_reranker(reranker_folder, "cpu").model)
    engine.add_adapter("shop", stronger)
    assert not np.allclose(engine.score(prompts[:1], adapter="shop")[0], expected, atol=0.01)
    with pytest.raises(InputError, match="there is an adapter 'shop' in this engine; remove it first"):
        engine.add_adapter("shop", other_folder)
    engine.remove_adapter("shop")
    engine.add_adapter("shop", other_folder)
    np.testing.assert_allclose(engine.score(prompts[:1], adapter="shop")[0], expected, atol=1e-5)


def test_threads_take_turns_over_adapters_and_kept_prefixes(
    loaded: TrainedReranker, prompts: list[ListPrompt], other_folder: Path
) -> None:
    """More shoppers than fit are kept and dropped all the time, by two adapters in turn."""
    long = [one for one in prompts if len(one.prefix) >= WORTH]
    size = 2 * len(long[0].prefix)  # in tokens, of keys and values
    per_token = 2 * 4 * loaded.model.config.num_hidden_layers * loaded.model.config.hidden_size
    engine = TransformersEngine(loaded.model, budget=Budget(prefix_bytes=size * per_token))
    engine.add_adapter("other", other_folder)
    work = [(one, adapter) for one in long for adapter in ("", "other")] * 8
    expected = [engine.score([one], adapter=adapter)[0] for one, adapter in work]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(lambda one: engine.score([one[0]], adapter=one[1])[0], work))
    finally:
        sys.setswitchinterval(before)
    engine.remove_adapter("other")
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_what_a_caller_tells_torch_changes_no_score(loaded: TrainedReranker, prompts: list[ListPrompt]) -> None:
    engine = TransformersEngine(loaded.model)
    expected = engine.score(prompts)
    for setting in (torch.autocast("cpu", torch.bfloat16), torch.device("meta"), torch.enable_grad()):
        engine.forget()
        with setting:
            found = engine.score(prompts)
        for mine, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_a_closed_engine_says_that_it_is(loaded: TrainedReranker, prompts: list[ListPrompt]) -> None:
    engine = TransformersEngine(loaded.model)
    engine.close()
    with pytest.raises(RuntimeError, match="the engine is closed"):
        engine.score(prompts)
