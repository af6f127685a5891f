"""Real vLLM gives the transformers engine's scores, with the adapter merged or by request, and uses its prefix cache.

Each engine takes half a minute or more to start, so there is one per way of serving and every test shares it.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from reshelf.data.schema import Item, RankingList
from reshelf.errors import InputError
from reshelf.inference.engines.engine_process import EngineProcess
from reshelf.inference.engines.start import start_engine
from reshelf.inference.engines.transformers_engine import TransformersEngine
from reshelf.inference.engines.vllm_engine import VllmEngine
from reshelf.inference.engines.vllm_settings import VllmSettings
from reshelf.inference.reranker import Reranker
from reshelf.modeling.checkpoint import TrainedReranker, load_reranker
from reshelf.prompts.list_prompt import ListPrompt


@pytest.fixture(scope="module", params=["merged", "by_request"])
def reranker(request: pytest.FixtureRequest, reranker_folder: Path, catalogue: dict[str, Item]) -> Iterator[Reranker]:
    settings = VllmSettings(lora=request.param)
    with Reranker.from_pretrained(reranker_folder, "vllm", catalogue, vllm=settings) as made:
        files = Path(made.engine._child._files.name)  # type: ignore[attr-defined]
        assert list(files.rglob("weights/model.safetensors"))
        yield made
    assert not files.exists()


@pytest.mark.vllm
@pytest.mark.slow
def test_agrees_with_transformers(
    reranker: Reranker, loaded: TrainedReranker, prompts: list[ListPrompt], lists: list[RankingList]
) -> None:
    expected = TransformersEngine(loaded.model).score(prompts)
    lengths = {len(item) for prompt in prompts for item in prompt.items}
    assert len(lengths) > 10
    assert prompts[1].truncated.events > 0
    for values, other in zip(reranker.score_lists(lists), expected, strict=True):
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, other, atol=1e-3)


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU vLLM's scheduler has a process of its own")
def test_every_core_computes(reranker: Reranker) -> None:
    """A model in a process beside vLLM's scheduler would have one core less."""
    pid = reranker.engine._child.process.pid  # type: ignore[attr-defined]
    children = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    commands = [Path(f"/proc/{child}/cmdline").read_text() for group in children for child in group]
    assert children
    assert not [command for command in commands if "VLLM" in command]


@pytest.mark.vllm
@pytest.mark.slow
def test_reads_a_prefix_once(reranker: Reranker, prompts: list[ListPrompt]) -> None:
    """Every candidate but the first finds all whole blocks of the prefix in the cache."""
    engine = reranker.engine
    assert isinstance(engine, EngineProcess)
    fresh = dataclasses.replace(prompts[1], prefix=prompts[1].prefix[::-1].copy())
    tokens, cached = engine.prompt_tokens, engine.cached_tokens
    engine.score([fresh])
    size = len(fresh.prefix)
    whole_blocks = size // 32 * 32
    assert whole_blocks >= 64
    assert engine.cached_tokens - cached >= whole_blocks * (len(fresh.items) - 1)
    assert engine.prompt_tokens - tokens == sum(size + len(item) for item in fresh.items)


@pytest.mark.vllm
@pytest.mark.slow
def test_joint_lists_are_read_once_and_judged_beside_each_other(
    reranker: Reranker, loaded: TrainedReranker, lists: list[RankingList], catalogue: dict[str, Item]
) -> None:
    prompt = dataclasses.replace(loaded.spec.prompt, list_tokens=100)
    builder = dataclasses.replace(loaded.spec, candidates="joint", prompt=prompt).builder(loaded.tokenizer, catalogue)
    engine = reranker.engine
    assert isinstance(engine, EngineProcess)
    written = [builder.build(one) for one in lists]
    prompts = [p for p in written if len(p.prefix) + max(map(len, p.items)) <= loaded.builder({}).longest]
    assert len(prompts) > 1
    assert all(p.listed for p in prompts)
    for values, other in zip(engine.score(prompts), TransformersEngine(loaded.model).score(prompts), strict=True):
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, other, atol=1e-3)


@pytest.mark.vllm
@pytest.mark.slow
def test_other_adapters_over_the_same_base(
    reranker: Reranker,
    prompts: list[ListPrompt],
    loaded: TrainedReranker,
    reranker_folder: Path,
    other_folder: Path,
    tmp_path: Path,
) -> None:
    engine = reranker.engine
    if not engine.takes_adapters:
        with pytest.raises(InputError, match="need lora by_request"):
            engine.add_adapter("adapter1", other_folder)
        return
    engine.add_adapter("adapter1", other_folder)
    models = {"": loaded.model, "adapter1": load_reranker(other_folder, "cpu").model}
    for _ in range(2):  # the second time from blocks that are cached
        for name, model in models.items():
            for values, other in zip(
                engine.score(prompts, adapter=name), TransformersEngine(model).score(prompts), strict=True
            ):
                np.testing.assert_allclose(values, other, atol=2e-3)
    with pytest.raises(InputError, match="there is an adapter 'adapter1' in this engine; remove it first"):
        engine.add_adapter("adapter1", other_folder)
    engine.remove_adapter("adapter1")
    with pytest.raises(InputError, match="no adapter 'adapter1'"):
        engine.score(prompts[:1], adapter="adapter1")
    # One whose layers are not all scaled alike, and one with a rank that is too high for some of them.
    scaled = shutil.copytree(other_folder, tmp_path / "scaled")
    config = scaled / "adapter" / "adapter_config.json"
    written = json.loads(config.read_text())
    config.write_text(json.dumps(written | {"alpha_pattern": {"q_proj": 3 * written["lora_alpha"]}}))
    engine.add_adapter("scaled", scaled)
    (values,) = engine.score(prompts[:1], adapter="scaled")
    expected, alike = (TransformersEngine(one).score(prompts[:1])[0] for one in (
        load_reranker(scaled, "cpu").model, models["adapter1"]))  # fmt: skip
    assert np.abs(expected - alike).max() > 2e-2
    np.testing.assert_allclose(values, expected, atol=2e-3)
    engine.remove_adapter("scaled")
    config.write_text(json.dumps(written | {"rank_pattern": {"q_proj": 256}}))
    with pytest.raises(InputError, match="rank 256, and vLLM was started for up to"):
        engine.add_adapter("scaled", scaled)
    # Another one in the place and under the name of the former, whose prefixes vLLM would find by them.
    place = tmp_path / "latest"
    for folder, model in ((other_folder, models["adapter1"]), (reranker_folder, models[""])):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder, place)
        engine.add_adapter("adapter1", place)
        (values,) = engine.score(prompts[:1], adapter="adapter1")
        np.testing.assert_allclose(values, TransformersEngine(model).score(prompts[:1])[0], atol=2e-3)
        engine.remove_adapter("adapter1")


@pytest.mark.vllm
@pytest.mark.slow
def test_what_is_forgotten_is_read_again(reranker: Reranker, prompts: list[ListPrompt]) -> None:
    engine = reranker.engine
    (before,) = engine.score(prompts[:1], "shop")
    engine.score(prompts[:1], "shop")
    cached = engine.cached_tokens
    engine.forget("shop")
    prompt = dataclasses.replace(prompts[0], items=prompts[0].items[:1])
    (again,) = engine.score([prompt], "shop")
    assert engine.cached_tokens == cached
    assert again[0] == pytest.approx(before[0], abs=1e-4)


@pytest.mark.vllm
@pytest.mark.slow
def test_a_prompt_too_long_is_refused_and_the_others_go_on(reranker: Reranker, prompts: list[ListPrompt]) -> None:
    long = dataclasses.replace(prompts[0], prefix=np.tile(prompts[0].prefix, 50))
    with pytest.raises(InputError, match=r"list l0: a prompt of \d+ tokens, and vLLM holds"):
        reranker.engine.score([prompts[1], long])
    assert len(reranker.engine.score(prompts[1:2])[0]) == len(prompts[1].items)


@pytest.mark.vllm
def test_prompts_longer_than_the_model_are_refused(reranker_folder: Path) -> None:
    """Before vLLM is imported, so no process is needed here; a refusal comes out of one in test_engine_process.py."""
    with pytest.raises(InputError, match="5000 tokens long, but the model reads 1024"):
        VllmEngine(load_reranker(reranker_folder, "cpu"), VllmSettings(longest=5000))


@pytest.mark.vllm
@pytest.mark.slow
def test_a_failed_start_says_the_cause(reranker_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """vLLM's own error only says to look above it; the cause is what one of its processes printed."""
    with pytest.raises(RuntimeError) as caught:
        start_engine(reranker_folder, "vllm", "cpu", VllmSettings(cache_gib=1e-9))
    first, *tail = str(caught.value).splitlines()
    assert first.startswith("the engine did not start: ValueError: ")
    assert "cache" in first
    assert len(tail) <= 20
    assert capfd.readouterr() == ("", "")
